//! Nodes that hold the same ops have byte-equal views; and once the network is healed, all hold the same.

use std::collections::BTreeMap;

use ledger::codec;
use reactors::node::Node;

use super::Violation;

/// A hash of the ids of all ops in order: two replicas with one vector root may still differ in ops that
/// they hold but cannot prove to others yet.
fn ops_of(node: &Node) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    for op in node.replica().log().iter() {
        hasher.update(&op.id().0);
    }
    *hasher.finalize().as_bytes()
}

/// At any time: equal logs, equal bytes.
pub fn same_ops_same_view<'a>(nodes: impl Iterator<Item = (usize, &'a Node)>) -> Result<(), Violation> {
    let mut first: BTreeMap<[u8; 32], (usize, Vec<u8>)> = BTreeMap::new();
    for (index, node) in nodes {
        let root = ops_of(node);
        let bytes = codec::encode(&*node.cloud());
        match first.get(&root) {
            Some((other, theirs)) if *theirs != bytes => {
                return Err(Violation {
                    claim: "convergence",
                    seen: format!("nodes {other} and {index} hold the same ops, but their views differ"),
                });
            }
            Some(_) => {}
            None => {
                first.insert(root, (index, bytes));
            }
        }
    }
    Ok(())
}

/// At the end: everybody holds everything.
pub fn all_hold_the_same<'a>(nodes: impl Iterator<Item = (usize, &'a Node)>) -> Result<(), Violation> {
    let lengths: Vec<(usize, usize, [u8; 32])> = nodes
        .map(|(index, node)| (index, node.replica().log().len(), ops_of(node)))
        .collect();
    if lengths.windows(2).any(|pair| pair[0].2 != pair[1].2) {
        let counts: Vec<String> =
            lengths.iter().map(|(index, count, _)| format!("node {index}: {count} ops")).collect();
        return Err(Violation {
            claim: "convergence",
            seen: format!("the healed network did not come to one log: {}", counts.join(", ")),
        });
    }
    Ok(())
}
