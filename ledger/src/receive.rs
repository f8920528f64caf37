//! How frames come in: decoded, their signatures checked, their ops given to the door.
//!
//! ```text
//! frames ─▶ stage: decode, place, hash ─▶ check all signatures in batches ─▶ take each frame in its turn
//! ```
//! Only the check runs ahead: what it says of a signature does not depend on what else came. Everything else
//! happens as if the frames came one by one. A signature that came from several peers in one call is checked
//! once. Where a batch fails, the signatures of each peer in it are checked by themselves: the first, then by
//! halves up to the first that does not hold. That ends the talk with whoever brought it; what it brought after
//! that is looked at only where it is needed for what another peer brought. So a liar costs about two batches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::admit::{self, Refusal, Verify};
use crate::id::{NodeId, OpId};
use crate::key::{self, Check, SIGNATURE_BYTES, Signature, hold_together};
use crate::limbo::Waiting;
use crate::op::{Chain, Dependency, Op, Slot};
use crate::replica::{Misconduct, Output, Replica};
use crate::sync::{Anchor, Frame, Ops, RUN_OPS_MAX, Run, Stretch};

/// Signatures that are checked in one batch, at most. Larger ones are hardly faster.
pub const BATCH_CHECKS_MAX: usize = 1024;

/// A frame, decoded and placed.
enum Staged {
    Talk(Frame),
    Ops {
        live: bool,
        brought: Brought,
        runs: Vec<Placed>,
    },
    Wrong(Misconduct),
}

/// Successive ops of a chain.
enum Placed {
    /// They stand after an op that is not here, or was not yet.
    Nowhere(Dependency, Stretch),
    /// One of them is not an op.
    Refused {
        chain: Chain,
        seq: u64,
        why: Refusal,
    },
    Run(StagedRun),
}

struct StagedRun {
    /// The op that they were placed by, if it was only named.
    after: Option<Dependency>,
    ops: Vec<Op>,
    /// Which checks they need: the first is that of the last op's signature. `None`: nothing of this was needed
    /// when the checks were gathered.
    checks: Option<Vec<usize>>,
}

/// What is gathered from the frames of a call.
#[derive(Default)]
struct Stage {
    checks: Vec<Check>,
    /// Who brought what is checked.
    from: Vec<NodeId>,
    /// The checks of an op's commands, and of a signature over its id.
    of_commands: HashMap<OpId, Vec<usize>>,
    of_signature: HashMap<(OpId, [u8; SIGNATURE_BYTES]), usize>,
    /// The places after the ops that were staged.
    after: HashMap<Dependency, Slot>,
}

impl Stage {
    fn add(&mut self, from: NodeId, check: Check) -> usize {
        self.checks.push(check);
        self.from.push(from);
        self.checks.len() - 1
    }

    fn add_signature(&mut self, from: NodeId, op: &Op) -> Option<usize> {
        let check = op.check()?;
        let name = (op.id(), check.signature.0);
        if let Some(index) = self.of_signature.get(&name) {
            return Some(*index);
        }
        let index = self.add(from, check);
        self.of_signature.insert(name, index);
        Some(index)
    }

    fn add_commands(&mut self, from: NodeId, op: &Op, checks: Vec<Check>, needed: &mut Vec<usize>) {
        if checks.is_empty() {
            return;
        }
        let known = self.of_commands.get(&op.id()).cloned();
        let indices = known.unwrap_or_else(|| {
            let indices: Vec<usize> = checks.into_iter().map(|check| self.add(from, check)).collect();
            self.of_commands.insert(op.id(), indices.clone());
            indices
        });
        needed.extend(indices);
    }

    /// Checks the signatures.
    fn verify(self, mut seed: impl FnMut() -> [u8; 32]) -> Verified {
        let mut known: Vec<Option<bool>> = vec![None; self.checks.len()];
        let mut together = |indices: &[usize]| {
            let checks: Vec<&Check> = indices.iter().map(|index| &self.checks[*index]).collect();
            hold_together(&checks, seed())
        };
        let mut liars: BTreeSet<NodeId> = BTreeSet::new();
        for begin in (0..self.checks.len()).step_by(BATCH_CHECKS_MAX) {
            let end = self.checks.len().min(begin + BATCH_CHECKS_MAX);
            let mut of_peer: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
            for (index, from) in (begin..end).zip(&self.from[begin..end]) {
                if !liars.contains(from) {
                    of_peer.entry(*from).or_default().push(index);
                }
            }
            let all: Vec<usize> = of_peer.values().flatten().copied().collect();
            if together(&all) {
                all.into_iter().for_each(|index| known[index] = Some(true));
                continue;
            }
            let is_alone = of_peer.len() == 1;
            for (from, indices) in of_peer {
                let good = if !is_alone && together(&indices) {
                    indices.len()
                } else {
                    self.first_wrong(&indices, &mut together)
                };
                indices[..good]
                    .iter()
                    .for_each(|index| known[*index] = Some(true));
                if let Some(wrong) = indices.get(good) {
                    known[*wrong] = Some(false);
                    liars.insert(from);
                }
            }
        }
        Verified {
            checks: self.checks,
            known,
        }
    }

    /// The first of these signatures that does not hold, if they do not all hold.
    fn first_wrong(&self, indices: &[usize], mut together: impl FnMut(&[usize]) -> bool) -> usize {
        // Most often it is the one over the last op: all that comes from an honest peer is in it.
        if indices
            .first()
            .is_some_and(|head| !key::verify(&self.checks[*head]))
        {
            return 0;
        }
        let (mut from, mut to) = (1, indices.len());
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            if together(&indices[from..middle]) {
                from = middle;
            } else {
                to = middle;
            }
        }
        from
    }
}

/// Signatures, and what is known of them.
struct Verified {
    checks: Vec<Check>,
    /// `None`: not looked at, since its peer had brought a wrong one before.
    known: Vec<Option<bool>>,
}

impl Verified {
    fn holds(&self, index: usize) -> bool {
        self.known[index].unwrap_or_else(|| key::verify(&self.checks[index]))
    }
}

/// Why ops come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Brought {
    /// They are new, or a comparison brings them.
    Unasked,
    /// They were asked for by name. They may be of any branch, and the last ones may be no more than what
    /// vouches for the first: nobody is blamed for those that are not let in.
    Wanted,
}

impl Replica {
    /// A connected peer sent a frame.
    pub fn receive(&mut self, from: NodeId, frame: &[u8], now_ms: u64) -> Vec<Output> {
        self.receive_frames(&[(from, frame)], now_ms)
    }

    /// Connected peers sent frames, in this order: as [`Self::receive`] for each, but all their signatures are
    /// checked together. The caller bounds how many it gives at once; some hundreds are as fast as it gets.
    pub fn receive_all(&mut self, frames: Vec<(NodeId, Vec<u8>)>, now_ms: u64) -> Vec<Output> {
        let frames: Vec<(NodeId, &[u8])> = frames.iter().map(|(from, frame)| (*from, &frame[..])).collect();
        self.receive_frames(&frames, now_ms)
    }

    fn receive_frames(&mut self, frames: &[(NodeId, &[u8])], now_ms: u64) -> Vec<Output> {
        let mut stage = Stage::default();
        let staged: Vec<(NodeId, Option<Staged>)> = frames
            .iter()
            .map(|(from, frame)| {
                let is_up = self.peers.is_up(from);
                (*from, is_up.then(|| self.stage(*from, frame, &mut stage)))
            })
            .collect();
        let holds = stage.verify(|| self.chance.bytes());
        let mut outputs = Vec::new();
        for (from, staged) in staged {
            // A frame before may have been this peer's last.
            let Some(staged) = staged.filter(|_| self.peers.is_up(&from)) else {
                self.counters.stranger += 1;
                continue;
            };
            let outcome = match staged {
                Staged::Talk(frame) => self.converse(from, frame, now_ms, &mut outputs),
                Staged::Ops { live, brought, runs } => {
                    let taken = self.take(from, live, runs, &holds, now_ms, &mut outputs);
                    taken.or_else(|why| match (brought, &why) {
                        (Brought::Wanted, Misconduct::Op { why: refusal, .. })
                            if *refusal != Refusal::BadSignature =>
                        {
                            Ok(())
                        }
                        _ => Err(why),
                    })
                }
                Staged::Wrong(why) => {
                    self.counters.bad_frame += 1;
                    Err(why)
                }
            };
            if let Err(why) = outcome {
                self.peers.down(from);
                outputs.push(Output::Disconnect { peer: from, why });
            }
        }
        self.spread(&mut outputs);
        outputs
    }

    fn stage(&self, from: NodeId, frame: &[u8], stage: &mut Stage) -> Staged {
        let frame = match Frame::decode(frame) {
            Ok(frame) => frame,
            Err(error) => return Staged::Wrong(error.into()),
        };
        let brought = match frame {
            Frame::Branch(_) => Brought::Wanted,
            _ => Brought::Unasked,
        };
        let (live, stretches) = match frame {
            Frame::Run(run) | Frame::Branch(run) => {
                let Run {
                    live,
                    chain,
                    first,
                    previous,
                    bodies,
                    signature,
                } = run;
                let anchor = Anchor::At {
                    chain,
                    first,
                    previous,
                };
                let stretch = Stretch {
                    anchor,
                    bodies,
                    signature,
                };
                (live, vec![stretch])
            }
            Frame::Ops(Ops { live, stretches }) => (live, stretches),
            frame => return Staged::Talk(frame),
        };
        let runs = stretches
            .into_iter()
            .map(|stretch| self.place(from, stretch, stage))
            .collect();
        Staged::Ops { live, brought, runs }
    }

    /// Decodes and hashes the ops of a stretch and notes what has to be checked.
    fn place(&self, from: NodeId, stretch: Stretch, stage: &mut Stage) -> Placed {
        let (mut slot, after) = match stretch.anchor {
            Anchor::At {
                chain,
                first,
                previous,
            } => {
                let slot = Slot {
                    chain,
                    seq: first,
                    previous,
                };
                (slot, None)
            }
            Anchor::After(before) => {
                let known = self.log.named(&before).or_else(|| self.limbo.named(&before));
                let slot = known
                    .map(slot_after)
                    .or_else(|| stage.after.get(&before).copied());
                let Some(slot) = slot.filter(|slot| slot.seq < u64::MAX - RUN_OPS_MAX as u64) else {
                    return Placed::Nowhere(before, stretch);
                };
                (slot, Some(before))
            }
        };
        let last = stretch.bodies.len() - 1;
        let mut ops = Vec::with_capacity(stretch.bodies.len());
        for (index, body) in stretch.bodies.into_iter().enumerate() {
            let signature = (index == last).then_some(stretch.signature);
            let op = match Op::decode(self.network, slot, body, signature) {
                Ok(op) => op,
                Err(why) => {
                    return Placed::Refused {
                        chain: slot.chain,
                        seq: slot.seq,
                        why: why.into(),
                    };
                }
            };
            slot = slot_after(&op);
            ops.push(op);
        }
        stage.after.insert(ops[last].id().into(), slot);
        let known = self.known(&ops);
        if !self.is_needed(&ops, known) {
            return Placed::Run(StagedRun {
                after,
                ops,
                checks: None,
            });
        }
        match self.gather(from, &ops, known, stage) {
            Ok(needed) => Placed::Run(StagedRun {
                after,
                ops,
                checks: Some(needed),
            }),
            Err((seq, why)) => {
                let chain = slot.chain;
                Placed::Refused { chain, seq, why }
            }
        }
    }

    /// Notes the signatures that have to be checked of a run of which so many ops are here. The error has the
    /// place of the op that carries what is not a command.
    fn gather(
        &self,
        from: NodeId,
        ops: &[Op],
        known: usize,
        stage: &mut Stage,
    ) -> Result<Vec<usize>, (u64, Refusal)> {
        let mut needed = Vec::new();
        if self.verify == Verify::Real {
            needed.extend(ops.last().and_then(|last| stage.add_signature(from, last)));
        }
        for op in &ops[known..] {
            let checks = admit::command_checks(self.network, op).map_err(|why| (op.slot().seq, why))?;
            if self.verify == Verify::Real {
                stage.add_commands(from, op, checks, &mut needed);
            }
        }
        Ok(needed)
    }

    /// How many of the first ops of a run are here.
    fn known(&self, ops: &[Op]) -> usize {
        ops.iter().take_while(|op| self.log.contains(&op.id())).count()
    }

    /// Whether a run of which so many ops are here brings anything.
    fn is_needed(&self, ops: &[Op], known: usize) -> bool {
        match &ops[known..] {
            [] => ops.last().is_some_and(|head| self.log.wants_signature(head)),
            fresh => {
                let waits = |op: &Op| self.limbo.contains(&op.id());
                let signs = fresh
                    .last()
                    .is_some_and(|head| self.limbo.lacks_signature(&head.id()));
                (signs || !fresh.iter().all(waits)) && !self.is_idle(fresh)
            }
        }
    }

    /// Takes the runs of a frame.
    fn take(
        &mut self,
        from: NodeId,
        live: bool,
        runs: Vec<Placed>,
        holds: &Verified,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        if !live {
            self.peers.brings(from, now_ms);
        }
        let mut is_new = false;
        for placed in runs {
            match placed {
                Placed::Nowhere(before, stretch) if self.holds(&before) => {
                    // It came in this call.
                    let mut stage = Stage::default();
                    let placed = self.place(from, stretch, &mut stage);
                    let holds = stage.verify(|| self.chance.bytes());
                    let Placed::Run(run) = placed else {
                        let Placed::Refused { chain, seq, why } = placed else {
                            continue;
                        };
                        return Err(self.refuse(chain, seq, why));
                    };
                    is_new |= self.take_run(from, live, run, &holds, now_ms, outputs)?;
                }
                Placed::Nowhere(before, _) => {
                    is_new = true;
                    self.counters.waited += 1;
                    self.ask_for_place(from, before, now_ms, outputs);
                }
                Placed::Refused { chain, seq, why } => return Err(self.refuse(chain, seq, why)),
                Placed::Run(run) => {
                    is_new |= self.take_run(from, live, run, holds, now_ms, outputs)?;
                }
            }
        }
        if live && is_new {
            self.peers.tree.keep(&from);
        } else if live && self.peers.tree.repeats(&from) {
            crate::peers::send(from, Frame::Prune, outputs);
        }
        Ok(())
    }

    /// Takes a run; whether it brought anything.
    fn take_run(
        &mut self,
        from: NodeId,
        live: bool,
        run: StagedRun,
        holds: &Verified,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<bool, Misconduct> {
        let StagedRun {
            after,
            mut ops,
            checks,
        } = run;
        // The op that it was placed by came in this call and was not let in.
        if let Some(before) = after.filter(|before| !self.holds(before)) {
            self.counters.waited += 1;
            self.ask_for_place(from, before, now_ms, outputs);
            return Ok(true);
        }
        let known = self.known(&ops);
        self.counters.duplicate += known as u64;
        if !self.is_needed(&ops, known) {
            if self.is_idle(&ops[known..]) {
                self.counters.void += (ops.len() - known) as u64;
            }
            return Ok(false);
        }
        let head = &ops[ops.len() - 1];
        let (head_id, head_slot, signature) = (head.id(), *head.slot(), head.signature());
        let wrong = match checks {
            Some(checks) => checks.iter().position(|check| !holds.holds(*check)),
            None => {
                // What waited then was thrown out since.
                let mut stage = Stage::default();
                let needed = match self.gather(from, &ops, known, &mut stage) {
                    Ok(needed) => needed,
                    Err((seq, why)) => return Err(self.refuse(head_slot.chain, seq, why)),
                };
                let holds = stage.verify(|| self.chance.bytes());
                needed.iter().position(|check| !holds.holds(*check))
            }
        };
        if let Some(wrong) = wrong {
            let why = if wrong > 0 {
                Refusal::ForgedCommand
            } else {
                Refusal::BadSignature
            };
            return Err(self.refuse(head_slot.chain, head_slot.seq, why));
        }
        if known == ops.len() {
            self.vouch(&head_id, signature, now_ms, outputs)?;
            return Ok(true);
        }
        let waited = self.counters.waited;
        let outcome = self.let_through(from, ops.split_off(known), live, now_ms, outputs);
        if live && self.counters.waited > waited {
            self.ask_for_gap(from, head_slot.chain, now_ms, outputs);
        }
        outcome.map(|()| true)
    }

    /// Gives authentic ops that follow each other to the door, without what is void of them.
    fn let_through(
        &mut self,
        from: NodeId,
        mut fresh: Vec<Op>,
        live: bool,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        let mut outcome = Ok(());
        loop {
            let run: Arc<[Op]> = fresh.as_slice().into();
            let Some(sifted) = self.sift(from, fresh, now_ms, outputs) else {
                return outcome;
            };
            let beside = self.beside(&run, &sifted);
            let waiting = sifted.into_iter().map(|op| Waiting {
                op,
                from,
                live,
                since_ms: now_ms,
                run: Arc::clone(&run),
                beside,
            });
            let admitted = self.admit_all(waiting.collect(), now_ms, outputs);
            outcome = outcome.and(admitted);
            // What was let in may have let in from limbo another branch, which now stands in the way.
            let Some(parts) = self.parting(&run) else {
                return outcome;
            };
            fresh = run[parts..].to_vec();
        }
    }

    /// The bytes that each op of a run keeps beside itself while it waits: that of the run which is not new here.
    fn beside(&self, run: &[Op], sifted: &[Op]) -> usize {
        let held = |op: &Op| op.held_bytes() + size_of::<Op>();
        let new = || sifted.iter().filter(|op| !self.limbo.contains(&op.id()));
        let all: usize = run.iter().map(held).sum();
        let counted: usize = new().map(Op::held_bytes).sum();
        (all - counted).div_ceil(new().count().max(1))
    }

    fn holds(&self, name: &Dependency) -> bool {
        self.log.named(name).is_some() || self.limbo.named(name).is_some()
    }

    /// A signature came that vouches for ops that are here.
    fn vouch(
        &mut self,
        id: &OpId,
        signature: Option<Signature>,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        let Some(signature) = signature else { return Ok(()) };
        let Some(chain) = self.log.get(id).map(|op| op.slot().chain) else {
            return Ok(());
        };
        let proven = self.log.proven_next(&chain);
        self.log.vouch(id, signature);
        self.note_proven(chain, proven);
        let end = self
            .log
            .get(id)
            .and_then(|op| self.log.head(&op.slot().chain))
            .map(Op::id);
        let released = end.map(|end| self.limbo.release(&end)).unwrap_or_default();
        self.admit_all(released, now_ms, outputs)
    }
}

/// The place after an op.
fn slot_after(op: &Op) -> Slot {
    let slot = op.slot();
    Slot {
        chain: slot.chain,
        seq: slot.seq + 1,
        previous: op.id(),
    }
}
