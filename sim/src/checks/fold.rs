//! A node's view, which it came to step by step, with late ops, rewinds and restarts, is the one that all its
//! ops give when they are folded once, in order, from the beginning.

use std::collections::BTreeMap;

use ledger::finality::checkpoint::Certificate;
use ledger::genesis::Genesis;
use ledger::id::OpId;
use ledger::op::{Chain, Op};
use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::outcome::Outcome;

use super::{Holds, Violation};

/// At any time. `ops` are the node's in the total order, `certificates` what it applied; `told` is what it says
/// became of an op, as long as it keeps that.
pub fn is_the_fold_of_its_ops<'a>(
    node: usize,
    genesis: &Genesis,
    ops: impl Iterator<Item = &'a Op>,
    certificates: &[Certificate],
    cloud: &Cloud,
    told: impl Fn(OpId) -> Option<&'a [Outcome]>,
) -> Holds {
    let violated = |seen| Err(Violation { claim: "fold", seen });
    let mut fresh = Fold::new(genesis.clone());
    let mut left: BTreeMap<(Chain, u64), Op> = ops
        .map(|op| ((op.slot().chain, op.slot().seq), op.clone()))
        .collect();
    for certificate in certificates {
        let checkpoint = &certificate.checkpoint;
        let mut covered = Vec::new();
        for (chain, head) in &checkpoint.heads {
            let places: Vec<_> = left
                .range((*chain, 0)..(*chain, head.next))
                .map(|(place, _)| *place)
                .collect();
            covered.extend(places.iter().filter_map(|place| left.remove(place)));
        }
        fresh.finalize(checkpoint, covered);
    }
    fresh.apply(left.into_values().collect());
    if *fresh.cloud() != *cloud {
        return violated(format!(
            "the view of node {node} is not what its ops give from the beginning"
        ));
    }
    for folded in fresh.ops() {
        let id = folded.op.id();
        if told(id).is_some_and(|told| *told != *folded.outcomes) {
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
