//! A node's view, which it came to step by step, with late ops, rewinds and restarts, is the one that all its
//! ops give when they are folded once, in order, from the beginning.

use ledger::genesis::Genesis;
use ledger::id::OpId;
use ledger::op::Op;
use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::outcome::Outcome;

use super::{Holds, Violation};

/// At any time. `ops` are the node's in the total order; `told` is what it says became of one.
pub fn is_the_fold_of_its_ops<'a>(
    node: usize,
    genesis: &Genesis,
    ops: impl Iterator<Item = &'a Op>,
    cloud: &Cloud,
    told: impl Fn(OpId) -> Option<&'a [Outcome]>,
) -> Holds {
    let violated = |seen| Err(Violation { claim: "fold", seen });
    let mut fresh = Fold::new(genesis.clone());
    fresh.apply(ops.cloned().collect());
    if *fresh.cloud() != *cloud {
        return violated(format!(
            "the view of node {node} is not what its ops give from the beginning"
        ));
    }
    for folded in fresh.ops() {
        let id = folded.op.id();
        if told(id) != Some(&*folded.outcomes) {
            return violated(format!(
                "node {node} says that op {} came to {:?}; from the beginning it is {:?}",
                id.short(),
                told(id),
                folded.outcomes
            ));
        }
    }
    Ok(())
}
