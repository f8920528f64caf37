//! What is void: the ops of forked chains from the fork on, that are in no log.
//!
//! Ops of honest nodes may name them, as they saw them before they knew of the fork. Such a dependency counts
//! as met: the ids stay known. The ops themselves are kept within bounds, so that a peer which never saw them
//! can be shown that what it waits for is void.
//!
//! At a bound an op is forgotten and its id kept. Then only other replicas can show it; where none can, the
//! op that waits for it comes in with a snapshot that covers it.

use std::collections::{BTreeMap, HashMap};

use crate::id::OpId;
use crate::op::{Chain, Dependency, Op};

/// Void ops of one chain that are kept, at most.
pub const CHAIN_OPS_MAX: usize = 16_384;

/// Bytes of bodies of one chain's void ops that are kept, at most.
pub const CHAIN_BYTES_MAX: usize = 4 << 20;

/// Bytes of bodies of all void ops that are kept, at most.
pub const BYTES_MAX: usize = 64 << 20;

#[derive(Clone, Debug, Default)]
struct Kept {
    ops: BTreeMap<(u64, OpId), Op>,
    bytes: usize,
}

/// What of an op is kept where a bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Nothing.
    Bounded,
    /// Its id: ops in the log name it, or may.
    Id,
    /// All: it is part of a proof.
    Always,
}

/// The void ops.
#[derive(Clone, Debug, Default)]
pub(crate) struct Void {
    chains: BTreeMap<Chain, Kept>,
    ids: HashMap<Dependency, (Chain, u64, OpId)>,
    bytes: usize,
}

impl Void {
    /// Whether this names a void op.
    pub(crate) fn contains(&self, name: &Dependency) -> bool {
        self.ids.contains_key(name)
    }

    /// The void op of this name, if it is kept.
    pub(crate) fn named(&self, name: &Dependency) -> Option<&Op> {
        let (chain, seq, id) = self.ids.get(name)?;
        self.chains.get(chain)?.ops.get(&(*seq, *id))
    }

    /// The void op with this id, if it is kept.
    pub(crate) fn get(&self, id: &OpId) -> Option<&Op> {
        self.named(&Dependency::from(*id)).filter(|op| op.id() == *id)
    }

    /// How many ids are known and how many bytes of ops are kept.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.ids.len(), self.bytes)
    }

    /// Remembers an op; whether it is newly kept.
    pub(crate) fn keep(&mut self, op: Op, keep: Keep) -> bool {
        let slot = *op.slot();
        let place = (slot.chain, slot.seq, op.id());
        let kept = self.chains.entry(slot.chain).or_default();
        let size = op.bytes().len();
        let full = kept.ops.len() >= CHAIN_OPS_MAX
            || kept.bytes + size > CHAIN_BYTES_MAX
            || self.bytes + size > BYTES_MAX;
        if full && keep != Keep::Always {
            if keep == Keep::Id {
                self.ids.entry(op.id().into()).or_insert(place);
            }
            return false;
        }
        self.ids.entry(op.id().into()).or_insert(place);
        match kept.ops.get_mut(&(slot.seq, op.id())) {
            // With a signature of its own an op is shown by itself.
            Some(held) if held.signature().is_none() && op.signature().is_some() => {
                *held = op;
                true
            }
            Some(_) => false,
            None => {
                kept.bytes += size;
                self.bytes += size;
                kept.ops.insert((slot.seq, op.id()), op);
                true
            }
        }
    }

    /// Takes an op out again: it is final.
    pub(crate) fn take(&mut self, id: &OpId) -> Option<Op> {
        let (chain, seq, _) = self.ids.remove(&Dependency::from(*id))?;
        let kept = self.chains.get_mut(&chain)?;
        let op = kept.ops.remove(&(seq, *id))?;
        kept.bytes -= op.bytes().len();
        self.bytes -= op.bytes().len();
        Some(op)
    }

    /// The ops of a chain that stand in a place and continue this one.
    fn after(&self, op: &Op) -> impl DoubleEndedIterator<Item = &Op> {
        let (seq, id) = (op.slot().seq + 1, op.id());
        self.chains
            .get(&op.slot().chain)
            .into_iter()
            .flat_map(move |kept| kept.ops.range((seq, OpId([0; 32]))..=(seq, OpId([255; 32]))))
            .map(|(_, op)| op)
            .filter(move |op| op.slot().previous == id)
    }

    /// The ops that follow one up to the next with a signature, in at most so many bytes.
    pub(crate) fn path(&self, from: &Op, bytes_max: usize) -> Option<Vec<Op>> {
        let mut open: Vec<(Op, usize, usize)> = self.after(from).map(|op| (op.clone(), 0, 0)).collect();
        let mut path: Vec<Op> = Vec::new();
        while let Some((op, depth, bytes)) = open.pop() {
            path.truncate(depth);
            let bytes = bytes + op.bytes().len();
            if bytes > bytes_max {
                continue;
            }
            path.push(op.clone());
            if op.signature().is_some() {
                return Some(path);
            }
            open.extend(self.after(&op).map(|next| (next.clone(), depth + 1, bytes)));
        }
        None
    }
}
