//! Rendezvous hashing: every node ranks the nodes for a thing alike, without anyone deciding.
//!
//! Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998): the node with
//! the highest hash of (node, thing) comes first. When a node leaves, only what it was first for moves.
//! It is here because the fold needs it to choose between rival placements; the reactors use it as well.

use ledger::id::{NodeId, hash};

/// How high a node stands for a thing; the highest is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank([u8; 32]);

/// The rank of `node` for the thing with this id.
pub fn rank(node: NodeId, thing: &[u8; 32]) -> Rank {
    Rank(hash("formation 2026 rendezvous v1", &[&node.0, thing]))
}

/// The nodes in the order in which they are responsible for the thing with this id.
pub fn order(nodes: impl IntoIterator<Item = NodeId>, thing: &[u8; 32]) -> Vec<NodeId> {
    let mut ranked: Vec<(Rank, NodeId)> = nodes.into_iter().map(|node| (rank(node, thing), node)).collect();
    ranked.sort_unstable_by(|left, right| right.cmp(left));
    ranked.into_iter().map(|(_, node)| node).collect()
}

/// The node that is responsible for the thing with this id.
pub fn first(nodes: impl IntoIterator<Item = NodeId>, thing: &[u8; 32]) -> Option<NodeId> {
    nodes.into_iter().max_by_key(|node| (rank(*node, thing), *node))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: u8) -> Vec<NodeId> {
        (0..count).map(|n| NodeId([n; 32])).collect()
    }

    #[test]
    fn the_order_does_not_depend_on_how_the_nodes_are_listed() {
        let thing = [7; 32];
        let mut backwards = nodes(9);
        backwards.reverse();
        assert_eq!(order(nodes(9), &thing), order(backwards, &thing));
        assert_eq!(first(nodes(9), &thing), order(nodes(9), &thing).first().copied());
    }

    #[test]
    fn a_node_that_leaves_moves_only_what_it_was_first_for() {
        let all = nodes(9);
        for thing in (0..200u8).map(|n| [n; 32]) {
            let before = order(all.clone(), &thing);
            let gone = all[3];
            let after = order(all.iter().copied().filter(|node| *node != gone), &thing);
            let expected: Vec<_> = before.into_iter().filter(|node| *node != gone).collect();
            assert_eq!(after, expected);
        }
    }

    #[test]
    fn things_spread_over_the_nodes() {
        let mut counts = [0u32; 8];
        for thing in 0..2000u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&thing.to_le_bytes());
            let node = first(nodes(8), &id).expect("there are nodes");
            counts[usize::from(node.0[0])] += 1;
        }
        assert!(
            counts.iter().all(|count| (150..400).contains(count)),
            "{counts:?}"
        );
    }
}
