//! What is final in the log: the certified vector, the cut that a new checkpoint proposes, and how somebody
//! else's is judged.
//!
//! A cut is the ends of chains. It covers what lies between the certified vector and them, and is causally
//! closed: each dependency of a covered op is covered, final, or void.

use std::collections::BTreeMap;

use crate::finality::checkpoint::{self, Checkpoint};
use crate::id::OpId;
use crate::log::Log;
use crate::op::{Chain, Dependency, Op, OrderKey};
use crate::replica::{Output, Replica};
use crate::report::Report;
use crate::vector::Head;

/// A certificate covers what is not held. It is being asked for; certify again once more ops came.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint covers {} ops that are not held", needs.len())]
pub struct NotHeld {
    /// Of each chain that is not held as far as it is covered, the last op that is missing.
    pub needs: Vec<Dependency>,
}

/// Whether a proposed cut can be voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Covers {
    /// All is held, goes further than what is final, and is causally closed.
    Yes,
    /// Some of it is not held, or another branch of it is: it may be later.
    Missing,
    /// It does not go further than what is final or contradicts it, is not closed, or covers void ops.
    Never,
}

/// What puts a chain onto its certified branch.
struct Turn {
    chain: Chain,
    head: Head,
    /// Where the branch leaves what is held.
    seq: u64,
    branch: Vec<Op>,
}

impl Log {
    /// How far each chain is final, in ascending order of chains.
    pub fn certified(&self) -> impl ExactSizeIterator<Item = (&Chain, &Head)> {
        self.certified.iter()
    }

    /// How many ops are not final. Counts the chains.
    pub fn tentative(&self) -> usize {
        let settled: u64 = self.certified.values().map(|head| head.next).sum();
        self.len().saturating_sub(settled as usize)
    }

    /// Whether an op is final.
    pub fn is_final(&self, op: &Op) -> bool {
        let slot = op.slot();
        slot.seq < self.certified_next(&slot.chain) && self.contains(&op.id())
    }

    /// The ops of a cut that are not final yet, in the final order. `None` if one is not held.
    pub fn added_by(&self, heads: &[(Chain, Head)]) -> Option<Vec<&Op>> {
        let mut added: Vec<&Op> = Vec::new();
        for (chain, head) in heads {
            let ops = self.chain(chain).get(..usize::try_from(head.next).ok()?)?;
            if ops.last().is_none_or(|last| last.id() != head.id) {
                return None;
            }
            added.extend(ops.get(self.certified_next(chain) as usize..).unwrap_or(&[]));
        }
        added.sort_by_key(|op| op.order());
        Some(added)
    }

    /// Whether all that an op names lies below these ends, is final, or void.
    fn is_closed_under(&self, op: &Op, cut: impl Fn(&Chain) -> u64) -> bool {
        op.body().dependencies.iter().all(|name| match self.named(name) {
            Some(named) => {
                let slot = named.slot();
                slot.seq < cut(&slot.chain).max(self.certified_next(&slot.chain))
            }
            None => self.is_void(name),
        })
    }

    /// The cut of all that can be proved to others and whose clock shows at most `until_ms`: the chains with
    /// the earliest ops first, [`checkpoint::HEADS_MAX`] at most.
    pub fn proposal(&self, until_ms: u64) -> Vec<(Chain, Head)> {
        let mut first: Vec<(OrderKey, Chain, u64)> = Vec::new();
        for (chain, ops) in self.chains() {
            let certified = self.certified_next(chain);
            let proven = self.proven_next(chain).max(certified);
            let tail = &ops[certified as usize..proven as usize];
            let settled = tail.partition_point(|op| op.body().hlc.ms() <= until_ms);
            if settled > 0 {
                first.push((tail[0].order(), *chain, certified + settled as u64));
            }
        }
        first.sort();
        first.truncate(checkpoint::HEADS_MAX);
        let mut cut: BTreeMap<Chain, u64> = first.iter().map(|(_, chain, next)| (*chain, *next)).collect();
        let mut ops: Vec<&Op> = Vec::new();
        for (chain, next) in &cut {
            let from = self.certified_next(chain) as usize;
            ops.extend(&self.chain(chain)[from..*next as usize]);
        }
        // What an op names comes before it in this order, so one pass is enough.
        ops.sort_by_key(|op| op.order());
        for op in ops {
            let slot = op.slot();
            let of = |chain: &Chain| cut.get(chain).copied().unwrap_or(0);
            if slot.seq < of(&slot.chain) && !self.is_closed_under(op, of) {
                cut.insert(slot.chain, slot.seq);
            }
        }
        let head = |(chain, next): (Chain, u64)| {
            let last = next
                .checked_sub(1)
                .filter(|_| next > self.certified_next(&chain))?;
            let id = self.at(&chain, last)?.id();
            Some((chain, Head { next, id }))
        };
        cut.into_iter().filter_map(head).collect()
    }

    /// Judges a cut that somebody else proposes.
    pub fn covers(&self, heads: &[(Chain, Head)]) -> Covers {
        let mut missing = false;
        for (chain, head) in heads {
            let next = self.certified_next(chain);
            if head.next <= next || self.fork_seq(chain).is_some_and(|seq| head.next > seq) {
                return Covers::Never;
            }
            let held = self.at(chain, head.next - 1);
            missing |= held.is_none_or(|op| op.id() != head.id);
        }
        let Some(added) = self.added_by(heads).filter(|_| !missing) else {
            return Covers::Missing;
        };
        let cut: BTreeMap<Chain, u64> = heads.iter().map(|(chain, head)| (*chain, head.next)).collect();
        let of = |chain: &Chain| cut.get(chain).copied().unwrap_or(0);
        if added.iter().all(|op| self.is_closed_under(op, of)) {
            Covers::Yes
        } else {
            Covers::Never
        }
    }

    /// How a chain comes onto its certified branch; else the last op of it that is not held.
    fn turn(&self, chain: Chain, head: Head) -> Result<Turn, Dependency> {
        let (mut seq, mut id) = (head.next, head.id);
        let mut branch = Vec::new();
        while seq > 0 && self.at(&chain, seq - 1).is_none_or(|op| op.id() != id) {
            let op = self.void.get(&id).ok_or(Dependency::from(id))?;
            seq -= 1;
            id = op.slot().previous;
            branch.push(op.clone());
        }
        branch.reverse();
        Ok(Turn {
            chain,
            head,
            seq,
            branch,
        })
    }

    /// Chains that need not be compared any more: all that is held of them is final, and a later chain of
    /// their node, whose opening is final, names their end.
    pub fn closed(&self) -> Vec<Chain> {
        let mut closed = Vec::new();
        for (chain, ops) in self.chains() {
            let Some(opening) = ops.first().filter(|op| self.is_final(op)) else {
                continue;
            };
            let Some(Ok(Report::OpenChain(opening))) = opening.body().entries.first().map(Report::from_entry)
            else {
                continue;
            };
            let Some(before) = opening.before else { continue };
            let ended = Chain {
                node: chain.node,
                incarnation: before.incarnation,
            };
            let all = self.certified_next(&ended) == before.seq + 1 && self.next(&ended) == before.seq + 1;
            if all && self.head(&ended).is_some_and(|op| op.id() == before.id) {
                closed.push(ended);
            }
        }
        closed.sort();
        closed.dedup();
        closed
    }
}

impl Replica {
    /// Marks final what a proven checkpoint covers, and puts chains onto their certified branches: gives the
    /// ids of the covered ops in the final order, and what is to be done. The caller has checked the
    /// certificate and that it follows the one before.
    ///
    /// Where something is not held, nothing changes. What is missing is asked of the peers from then on;
    /// the caller tries again after [`Output::Admitted`] or [`Output::Void`].
    pub fn certify(
        &mut self,
        checkpoint: &Checkpoint,
        now_ms: u64,
    ) -> Result<(Vec<OpId>, Vec<Output>), NotHeld> {
        let heads = checkpoint.heads.clone();
        self.pending = heads.clone();
        let mut turns = Vec::new();
        let mut needs = Vec::new();
        for (chain, head) in heads.iter().copied() {
            match self.log.turn(chain, head) {
                Ok(turn) => turns.push(turn),
                Err(name) => needs.push(name),
            }
        }
        if !needs.is_empty() {
            return Err(NotHeld { needs });
        }
        let mut outputs = Vec::new();
        let mut entered = Vec::new();
        for turn in turns.iter().filter(|turn| !turn.branch.is_empty()) {
            let left = self.log.swap(turn.chain, turn.seq, &turn.branch);
            self.leave(left, &mut outputs);
            entered.extend(turn.branch.iter().cloned());
        }
        let added = self.log.added_by(&heads).expect("every head was found or put in");
        let added: Vec<OpId> = added.into_iter().map(Op::id).collect();
        for turn in &turns {
            self.log.set_certified(turn.chain, turn.head);
        }
        self.pending.clear();
        if !entered.is_empty() {
            entered.sort_by_key(Op::order);
            let ids: Vec<OpId> = entered.iter().map(Op::id).collect();
            for op in &entered {
                self.clock.observe(op.body().hlc);
                self.note(op);
            }
            outputs.push(Output::Admitted(entered));
            self.let_in(ids, now_ms, &mut outputs);
        }
        Ok((added, outputs))
    }

    /// 32 bytes by chance, such as the blinding of a batch of signatures.
    pub fn draw(&mut self) -> [u8; 32] {
        self.chance.bytes()
    }

    /// Of each chain that a certificate covers further than it is held, the last op that is missing: what is
    /// being asked of the peers.
    pub fn needs(&self) -> Vec<Dependency> {
        let turn = |(chain, head): &(Chain, Head)| self.log.turn(*chain, *head).err();
        self.pending.iter().filter_map(turn).collect()
    }

    /// Whether a certificate waits for ops of this chain.
    pub(crate) fn awaits_chain(&self, chain: &Chain) -> bool {
        self.pending
            .binary_search_by_key(chain, |(chain, _)| *chain)
            .is_ok()
    }

    /// The cut for a new checkpoint: see [`Log::proposal`]. Ops younger than `settle_ms` may still be on their
    /// way to others.
    pub fn proposal(&self, now_ms: u64, settle_ms: u64) -> Vec<(Chain, Head)> {
        self.log.proposal(now_ms.saturating_sub(settle_ms))
    }

    /// Judges a cut that somebody else proposes.
    pub fn covers(&self, heads: &[(Chain, Head)]) -> Covers {
        self.log.covers(heads)
    }

    /// The order root after a cut, over that of the checkpoint before; `None` if some of it is not held.
    pub fn order_root(&self, before: [u8; 32], heads: &[(Chain, Head)]) -> Option<[u8; 32]> {
        let added = self.log.added_by(heads)?;
        Some(checkpoint::order_root(before, added.into_iter().map(Op::id)))
    }

    /// Takes closed chains out of the compared vector: see [`Log::closed`]. To be called at the same height
    /// by all, and where joiners get what is final by a snapshot: a chain that is not compared is not sent.
    pub fn retire(&mut self) -> Vec<Chain> {
        let closed = self.log.closed();
        for chain in &closed {
            self.log.retire(chain);
        }
        closed
    }
}
