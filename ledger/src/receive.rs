//! How frames come in: decoded, their signatures checked, their ops given to the door; and how live ops go
//! on to other peers.

use crate::admit::{self, Refusal, Verify};
use crate::id::NodeId;
use crate::key::{Check, verify_all};
use crate::limbo::Waiting;
use crate::op::{Op, Slot};
use crate::replica::{Misconduct, Output, Replica};
use crate::sync::{FRAME_BYTES_MAX, Frame, Run};

/// Why a run comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    /// It is new, or a comparison brings it.
    Unasked,
    /// It was asked for by name. It may be of any branch, and its end may be no more than what vouches for
    /// its beginning: nobody is blamed for ops that are not let in.
    Wanted,
}

impl Replica {
    /// A connected peer sent a frame.
    pub fn receive(&mut self, from: NodeId, frame: &[u8], now_ms: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        if !self.peers.is_up(&from) {
            self.counters.stranger += 1;
            return outputs;
        }
        let outcome = match Frame::decode(frame) {
            Ok(Frame::Run(run)) => self.receive_run(from, run, Brought::Unasked, now_ms, &mut outputs),
            Ok(Frame::Branch(run)) => self.receive_run(from, run, Brought::Wanted, now_ms, &mut outputs),
            Ok(frame) => self.converse(from, frame, now_ms, &mut outputs),
            Err(error) => {
                self.counters.bad_frame += 1;
                Err(error.into())
            }
        };
        if let Err(why) = outcome {
            self.peers.down(from);
            outputs.push(Output::Disconnect { peer: from, why });
        }
        outputs
    }

    fn receive_run(
        &mut self,
        from: NodeId,
        run: Run,
        brought: Brought,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        if !run.live {
            self.peers.brings(from, now_ms);
        }
        let (chain, live, signature) = (run.chain, run.live, run.signature);
        let mut ops = Vec::with_capacity(run.bodies.len());
        let (mut previous, last) = (run.previous, run.bodies.len() - 1);
        for (index, body) in run.bodies.into_iter().enumerate() {
            let slot = Slot {
                chain,
                seq: run.first + index as u64,
                previous,
            };
            let signature = (index == last).then_some(signature);
            let op = Op::decode(self.network, slot, body, signature)
                .map_err(|why| self.refuse(chain, slot.seq, why.into()))?;
            previous = op.id();
            ops.push(op);
        }
        let known = ops.iter().take_while(|op| self.log.contains(&op.id())).count();
        self.counters.duplicate += known as u64;
        let fresh = &ops[known..];
        let head = &ops[last];
        if fresh.is_empty() && !self.log.wants_signature(head)
            || !fresh.is_empty() && fresh.iter().all(|op| self.limbo.contains(&op.id()))
        {
            return Ok(());
        }
        if self.is_idle(&ops[known..]) {
            return Ok(());
        }
        let (fresh, head) = (&ops[known..], &ops[last]);
        let mut checks: Vec<Check> = head.check().into_iter().collect();
        for op in fresh {
            let of_op = admit::command_checks(self.network, op);
            checks.extend(of_op.map_err(|why| self.refuse(chain, op.slot().seq, why))?);
        }
        self.verify_run(head, &checks)?;
        if fresh.is_empty() {
            self.log.vouch(&head.id(), signature);
            if let Some(end) = self.log.head(&chain).map(Op::id) {
                let released = self.limbo.release(&end);
                return self.admit_all(released, now_ms, outputs);
            }
            return Ok(());
        }
        let waited = self.counters.waited;
        let fresh = self.sift(from, ops.split_off(known), now_ms, outputs);
        let since_ms = now_ms;
        let waiting = fresh.iter().cloned().map(|op| Waiting {
            op,
            from,
            live,
            since_ms,
        });
        let outcome = self.admit_all(waiting.collect(), now_ms, outputs);
        self.log.keep_tail(&fresh);
        if brought == Brought::Wanted {
            return Ok(());
        }
        if live && self.counters.waited > waited {
            self.ask_for_gap(from, chain, now_ms, outputs);
        }
        outcome
    }

    fn verify_run(&mut self, head: &Op, checks: &[Check]) -> Result<(), Misconduct> {
        if self.verify == Verify::Trusting {
            return Ok(());
        }
        let holds = verify_all(checks, self.chance.bytes());
        if holds.iter().all(|holds| *holds) {
            return Ok(());
        }
        let why = if holds.first() == Some(&true) {
            Refusal::ForgedCommand
        } else {
            Refusal::BadSignature
        };
        Err(self.refuse(head.slot().chain, head.slot().seq, why))
    }

    /// Pushes an op with a signature of its own to all peers but one.
    pub(crate) fn push_live(&mut self, op: &Op, except: Option<NodeId>, outputs: &mut Vec<Output>) {
        let Some(signature) = op.signature() else { return };
        let Slot { chain, seq, previous } = *op.slot();
        let bodies = vec![op.bytes().to_vec()];
        let run = Run {
            live: true,
            chain,
            first: seq,
            previous,
            bodies,
            signature,
        };
        let frame = Frame::Run(run).encode();
        debug_assert!(
            frame.len() <= FRAME_BYTES_MAX,
            "a body is much smaller than a frame"
        );
        let others = self
            .peers
            .iter()
            .filter(|peer| Some(*peer) != except && *peer != op.node());
        outputs.extend(others.map(|to| Output::Send {
            to,
            frame: frame.clone(),
        }));
    }
}
