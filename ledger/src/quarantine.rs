//! Quarantine: how a replica finds a fork, proves it, hears of one, and what it does then.
//!
//! ```text
//! an op comes that is authentic ─┬─ its place is free ───────────────────────────▶ the door
//!                                ├─ its chain is forked before it ───────────────▶ void
//!                                └─ another op stands there ─┬─ same op before ──▶ proof
//!                                                            └─ another before ──▶ ask for what stands before
//! a proof ─▶ kept, told to the shell and to all peers ─▶ the chain's ops from there on leave log and limbo
//!         ─▶ they are void: what waited for them is let in
//! ```
//! A fork is found where the branches meet. Two replicas with one branch each meet them when a comparison
//! shows another id in one place: each shows its own end of the chain to the other.

use std::collections::BTreeSet;

use crate::admit::Refusal;
use crate::clock::Hlc;
use crate::fork::{Branch, ForkProof};
use crate::id::{NodeId, OpId};
use crate::limbo::Waiting;
use crate::op::{Op, Slot};
use crate::replica::{Misconduct, Output, Replica};
use crate::report::Report;
use crate::sync::Frame;
use crate::void::Keep;

impl Replica {
    /// The proofs of forks.
    pub fn forks(&self) -> &crate::fork::Forks {
        &self.forks
    }

    /// A hash over the forks known, for checkpoints.
    pub fn forks_root(&self) -> [u8; 32] {
        self.forks.root()
    }

    /// Whether of a run that begins with this op nothing can be of use: then its signatures need no look.
    pub(crate) fn is_idle(&self, fresh: &[Op]) -> bool {
        let Some(slot) = fresh.first().map(Op::slot) else {
            return false;
        };
        let forked = self.log.fork_seq(&slot.chain);
        forked.is_some_and(|seq| slot.seq >= seq)
            && !self.awaits_chain(&slot.chain)
            && !fresh.iter().any(|op| self.limbo.is_waited_for(&op.id()))
    }

    /// Takes from authentic ops that follow each other what is void, and finds forks; the rest is for the
    /// door. The last one is signed.
    pub(crate) fn sift(
        &mut self,
        from: NodeId,
        mut fresh: Vec<Op>,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Option<Vec<Op>> {
        let slot = *fresh.first()?.slot();
        let begins = slot.previous == OpId([0; 32]);
        if (slot.seq == 0) != begins {
            return Some(fresh);
        }
        let chain = slot.chain;
        if self.log.fork_seq(&chain).is_none_or(|seq| seq > slot.seq) {
            let before = slot.seq.checked_sub(1).and_then(|seq| self.log.at(&chain, seq));
            if before.is_some_and(|op| op.id() != slot.previous) {
                // The branches part before this run begins.
                self.counters.count(&Refusal::Forked);
                self.want(from, true, vec![slot.previous.into()], outputs);
                return None;
            }
            if slot.seq < self.log.next(&chain) && !self.prove(from, &fresh, now_ms, outputs) {
                self.counters.count(&Refusal::Forked);
                return None;
            }
        }
        if let Some(seq) = self.log.fork_seq(&chain) {
            let at = usize::try_from(seq.saturating_sub(slot.seq)).unwrap_or(usize::MAX);
            if at < fresh.len() {
                let void = fresh.split_off(at);
                self.hear_void(&void, now_ms, outputs);
            }
        }
        Some(fresh).filter(|fresh| !fresh.is_empty())
    }

    /// The first of these ops in whose place another one stands, in a chain that is not known to be forked
    /// there. None where the first one links to nothing: the door refuses that, whatever stands there, and so
    /// it settles no place.
    pub(crate) fn parting(&self, ops: &[Op]) -> Option<usize> {
        let first = ops.first()?.slot();
        if (first.seq == 0) != (first.previous == OpId([0; 32])) {
            return None;
        }
        ops.iter().position(|op| {
            let slot = op.slot();
            let other = self.log.at(&slot.chain, slot.seq);
            let forked = self.log.fork_seq(&slot.chain);
            other.is_some_and(|other| other.id() != op.id()) && forked.is_none_or(|seq| slot.seq < seq)
        })
    }

    /// Proves that the first of these ops and the one that stands in its place fork the chain. Where nothing
    /// shows the one that stands there any more, it leaves. Whether the place is settled.
    fn prove(&mut self, from: NodeId, fresh: &[Op], now_ms: u64, outputs: &mut Vec<Output>) -> bool {
        let slot = *fresh[0].slot();
        let Some(ours) = self.log.branch_at(&slot.chain, slot.seq) else {
            if slot.seq < self.log.certified_next(&slot.chain) {
                return false;
            }
            let left = self.log.displace(slot.chain, slot.seq);
            self.limbo.take_chain(&slot.chain, slot.seq);
            self.leave(left, outputs);
            return true;
        };
        let theirs = Branch {
            bodies: fresh.iter().map(|op| op.bytes().to_vec()).collect(),
            signature: match fresh.last().and_then(Op::signature) {
                Some(signature) => signature,
                None => return false,
            },
        };
        let invitation = self.log.at(&slot.chain, 0).and_then(invitation_in);
        let proof = invitation.and_then(|it| ForkProof::new(slot, it, ours, theirs));
        let Some(proof) = proof.filter(|it| self.forks.wants(&it.chain, it.seq)) else {
            return false;
        };
        self.accept(proof, Some(from), now_ms, outputs);
        true
    }

    /// A peer brought a proof.
    pub(crate) fn hear_fork(
        &mut self,
        from: NodeId,
        proof: ForkProof,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        if !self.forks.wants(&proof.chain, proof.seq) {
            self.counters.stale_proof += 1;
            return Ok(());
        }
        let seed = self.chance.bytes();
        if let Err(why) = proof.verify(self.network, self.verify, seed) {
            self.counters.bad_proof += 1;
            return Err(Misconduct::Proof(why));
        }
        self.accept(proof, Some(from), now_ms, outputs);
        Ok(())
    }

    /// Keeps a proof, tells it on, and puts the chain into quarantine.
    fn accept(&mut self, proof: ForkProof, from: Option<NodeId>, now_ms: u64, outputs: &mut Vec<Output>) {
        let (chain, seq, previous) = (proof.chain, proof.seq, proof.previous);
        let shown = proof
            .ops(self.network)
            .expect("who made or verified it read its ops");
        self.counters.quarantined += 1;
        self.forks.keep(proof.clone());
        outputs.push(Output::Forked(proof.clone()));
        let frame = Frame::Fork(proof).encode();
        let others = self.peers.iter().filter(|peer| Some(*peer) != from);
        outputs.extend(others.map(|to| Output::Send {
            to,
            frame: frame.clone(),
        }));
        let mut kept = shown.clone();
        let (left, beside) = self.log.quarantine(chain, seq, shown);
        let mut void: BTreeSet<OpId> = left.iter().map(Op::id).collect();
        kept.retain(|op| !void.contains(&op.id()));
        kept.extend(beside);
        void.extend(kept.iter().map(Op::id));
        for waiting in self.limbo.take_chain(&chain, seq) {
            void.insert(waiting.op.id());
            self.log.void.keep(waiting.op.clone(), Keep::Id);
            // Together with what vouches for it, which may not wait any more.
            let after = waiting.run.iter().skip_while(|op| op.id() != waiting.op.id());
            for op in after.skip(1) {
                if !self.log.contains(&op.id()) && self.log.void.keep(op.clone(), Keep::Bounded) {
                    void.insert(op.id());
                    kept.push(op.clone());
                } else {
                    // That it is kept means that what follows it is.
                    break;
                }
            }
            kept.push(waiting.op);
        }
        kept.retain(|op| self.log.is_void(&op.id().into()));
        if !kept.is_empty() {
            outputs.push(Output::Void(kept));
        }
        self.leave(left, outputs);
        self.let_in(void, now_ms, outputs);
        let before = seq.checked_sub(1).and_then(|before| self.log.at(&chain, before));
        if let Some(from) = from
            && before.is_some_and(|op| op.id() != previous)
        {
            // There is an earlier fork.
            self.want(from, true, vec![previous.into()], outputs);
        }
    }

    /// Tells that ops left the log, and no longer depends on them.
    pub(crate) fn leave(&mut self, left: Vec<Op>, outputs: &mut Vec<Output>) {
        let Some(Slot { chain, seq, .. }) = left.first().map(|op| *op.slot()) else {
            return;
        };
        self.counters.left += left.len() as u64;
        let name = |op: &Op| (op.body().hlc, op.id());
        for op in &left {
            self.frontier.remove(&name(op));
        }
        // What only they named is to be named again. That others may name it as well does no harm.
        for op in &left {
            let before = self.log.get(&op.slot().previous).into_iter();
            let named = op.body().dependencies.iter().filter_map(|it| self.log.named(it));
            let again: Vec<(Hlc, OpId)> = before
                .chain(named)
                .filter(|op| op.slot().chain != self.chain && self.log.is_proven(op))
                .map(name)
                .collect();
            self.frontier.extend(again);
        }
        outputs.push(Output::Quarantined {
            chain,
            from_seq: seq,
            ops: left,
        });
    }

    /// Void ops came: what is waited for, and what shows it, is kept.
    fn hear_void(&mut self, ops: &[Op], now_ms: u64, outputs: &mut Vec<Output>) {
        self.counters.void += ops.len() as u64;
        let Some(chain) = ops.first().map(|op| op.slot().chain) else {
            return;
        };
        let needed = self.awaits_chain(&chain);
        let waited = |op: &Op| self.limbo.is_waited_for(&op.id());
        let Some(from) = ops.iter().position(|op| needed || waited(op)) else {
            return;
        };
        let named: BTreeSet<OpId> = ops.iter().filter(|op| waited(op)).map(Op::id).collect();
        let mut kept = Vec::new();
        for op in &ops[from..] {
            let keep = if named.contains(&op.id()) || needed {
                Keep::Id
            } else {
                Keep::Bounded
            };
            if !self.log.contains(&op.id()) && self.log.void.keep(op.clone(), keep) {
                kept.push(op.clone());
            }
        }
        if !kept.is_empty() {
            outputs.push(Output::Void(kept));
        }
        self.let_in(named, now_ms, outputs);
    }

    /// Lets in what waited for ops that are void now.
    pub(crate) fn let_in(
        &mut self,
        void: impl IntoIterator<Item = OpId>,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        let released: Vec<Waiting> = void.into_iter().flat_map(|id| self.limbo.release(&id)).collect();
        if !released.is_empty() {
            // Nobody is blamed: who brought an op that turns out wrong only now may be gone.
            let _ = self.admit_all(released, now_ms, outputs);
        }
    }
}

/// The invitation in a chain's first op.
fn invitation_in(op: &Op) -> Option<Vec<u8>> {
    let entry = op.body().entries.first()?;
    match Report::from_entry(entry) {
        Ok(Report::OpenChain(opening)) => Some(opening.invitation),
        _ => None,
    }
}
