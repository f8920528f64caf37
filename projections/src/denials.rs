//! Which tentative ops a revocation denies, though they stand before it in the order. The rule is told in
//! [`crate::revocations`].

use std::collections::{BTreeMap, BTreeSet};

use ledger::id::{NodeId, OpId};
use ledger::op::{Chain, Dependency, Op};

use crate::revocations::Revocation;

/// Whether the ops that are folded become final now, and with them the revocations among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They stay tentative.
    Tentative,
    /// They are what a checkpoint adds.
    Final,
}

/// Revocations that were asked already, in this round of questions.
pub(crate) type Asked = BTreeSet<(NodeId, OpId)>;

/// Whether a revocation that is final denies an op that is not, and that no checkpoint up to `height` holds.
pub(crate) fn denied_by_final(revocation: &Revocation, height: u64, op: &Op) -> bool {
    revocation.is_past(height) && !revocation.is_over_for(op.body().hlc)
}

/// What the first revocation in the order that was not asked yet, and denies something, denies of `ops`.
/// `revocations` are those that are not final; `ops` are in their order, causally closed above the final
/// ones, of which the last checkpoint is at `height`. `denied` are denied before.
pub(crate) fn next<'a>(
    ops: &[&'a Op],
    revocations: &[(NodeId, &Revocation)],
    standing: Standing,
    height: u64,
    denied: &BTreeSet<OpId>,
    asked: &mut Asked,
) -> Vec<&'a Op> {
    let places: BTreeMap<OpId, usize> = ops.iter().enumerate().map(|(at, op)| (op.id(), at)).collect();
    let mut in_order: Vec<_> = revocations
        .iter()
        .filter_map(|(node, revocation)| Some((*places.get(&revocation.op)?, *node, *revocation)))
        .collect();
    in_order.sort_by_key(|(place, node, _)| (*place, *node));
    for (place, node, revocation) in in_order {
        if !asked.insert((node, revocation.op)) {
            continue;
        }
        let past = match (standing, revocation.cutoff) {
            (Standing::Final, Some(cutoff)) if cutoff > height => continue,
            (Standing::Final, Some(_)) => BTreeSet::from([place]),
            _ => causal_past(ops, place),
        };
        let counts = |at: usize, op: &Op| {
            op.node() != node
                || past.contains(&at)
                || revocation.is_over_for(op.body().hlc)
                || denied.contains(&op.id())
        };
        let found: Vec<_> = (0..).zip(ops).filter(|(at, op)| !counts(*at, op)).collect();
        if !found.is_empty() {
            return found.into_iter().map(|(_, op)| *op).collect();
        }
    }
    Vec::new()
}

/// The places of the op at `from` and of all that it depends on, as far as they are among `ops`.
fn causal_past(ops: &[&Op], from: usize) -> BTreeSet<usize> {
    let mut by_name: BTreeMap<Dependency, usize> = BTreeMap::new();
    let mut by_slot: BTreeMap<(Chain, u64, OpId), usize> = BTreeMap::new();
    for (at, op) in ops.iter().enumerate() {
        by_name.insert(op.id().into(), at);
        by_slot.insert((op.slot().chain, op.slot().seq, op.id()), at);
    }
    let (mut past, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(at) = open.pop() {
        let (slot, body) = (ops[at].slot(), ops[at].body());
        let before = slot
            .seq
            .checked_sub(1)
            .map(|seq| (slot.chain, seq, slot.previous));
        let before = before.and_then(|before| by_slot.get(&before));
        let named = body.dependencies.iter().filter_map(|name| by_name.get(name));
        for earlier in before.into_iter().chain(named) {
            if past.insert(*earlier) {
                open.push(*earlier);
            }
        }
    }
    past
}

#[cfg(test)]
mod tests;
