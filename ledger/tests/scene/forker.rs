//! A member that forks: it is a peer of all, but no replica.

use super::{Author, Wire, node};
use ledger::admit::Verify;
use ledger::clock::Hlc;
use ledger::id::NodeId;
use ledger::op::Op;

/// The number of the member that forks; it is no replica.
pub const FORKER: u8 = 9;

pub fn author() -> (Author, Op) {
    Author::opened(FORKER)
}

/// The same author, to write another branch.
pub fn twin(author: &Author) -> Author {
    Author {
        secret: author.secret.clone(),
        chain: author.chain,
        seq: author.seq,
        previous: author.previous,
        hlc: Hlc(author.hlc.0 + 1),
    }
}

/// Honest replicas, all linked; the forker is a peer of each.
pub fn honest(count: u8, seed: u64, verify: Verify) -> (Wire, Vec<NodeId>) {
    let mut wire = Wire::new(seed);
    let nodes: Vec<NodeId> = (1..=count).map(|number| wire.join(number, verify)).collect();
    for (index, a) in nodes.iter().enumerate() {
        wire.link_ghost(node(FORKER), *a);
        for b in &nodes[index + 1..] {
            wire.link(*a, *b);
        }
    }
    wire.settle(20_000);
    (wire, nodes)
}

pub fn apart(wire: &mut Wire, a: &[NodeId], b: &[NodeId]) {
    for one in a {
        for other in b {
            wire.cut(*one, *other);
        }
    }
}

pub fn together(wire: &mut Wire, a: &[NodeId], b: &[NodeId]) {
    for one in a {
        for other in b {
            wire.link(*one, *other);
        }
    }
}
