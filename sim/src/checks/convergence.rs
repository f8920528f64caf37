//! Nodes that hold the same ops have byte-equal views; and once the network is healed, all hold the same.

use std::collections::BTreeMap;

use ledger::codec;
use reactors::node::Node;

use super::{Holds, Violation};

/// What a node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Which node.
    pub node: usize,
    /// How many ops.
    pub ops: usize,
    /// A hash of the ids of all of them in order: two replicas with one vector may still differ in ops that
    /// they hold but cannot prove to others yet.
    pub log: [u8; 32],
    /// Height of the last certificate: what it covers is in another order than what nothing covers.
    pub height: u64,
    /// The root of what it can prove to others.
    pub vector: [u8; 32],
    /// Ops that wait for something.
    pub waiting: usize,
    /// The bytes of its view.
    pub cloud: Vec<u8>,
}

impl View {
    /// Of a node.
    pub fn of(index: usize, node: &Node) -> Self {
        let log = node.replica().log();
        let mut hasher = blake3::Hasher::new();
        for op in log.iter() {
            hasher.update(&op.id().0);
        }
        Self {
            node: index,
            ops: log.len(),
            log: *hasher.finalize().as_bytes(),
            height: node.finality().height,
            vector: log.vector().root(),
            waiting: node.replica().waiting().0,
            cloud: codec::encode(&*node.cloud()),
        }
    }
}

fn violated(seen: String) -> Holds {
    Err(Violation {
        claim: "convergence",
        seen,
    })
}

/// At any time: equal logs and certificates, equal bytes.
pub fn same_ops_same_view(views: &[View]) -> Holds {
    let mut first: BTreeMap<([u8; 32], u64), &View> = BTreeMap::new();
    for view in views {
        let other = first.entry((view.log, view.height)).or_insert(view);
        if other.cloud != view.cloud {
            let (left, right) = (other.node, view.node);
            return violated(format!(
                "nodes {left} and {right} hold the same ops, but their views differ"
            ));
        }
    }
    Ok(())
}

/// At the end: everybody holds everything and can prove it.
pub fn all_hold_the_same(views: &[View]) -> Holds {
    if views.windows(2).any(|pair| pair[0].log != pair[1].log) {
        let counts: Vec<String> = views
            .iter()
            .map(|view| format!("node {}: {} ops", view.node, view.ops))
            .collect();
        return violated(format!(
            "the healed network did not come to one log: {}",
            counts.join(", ")
        ));
    }
    if views.windows(2).any(|pair| pair[0].vector != pair[1].vector) {
        return violated("all nodes hold the same ops, but not all can prove them".into());
    }
    Ok(())
}

/// At the end, if no node is gone: nothing waits for an op any more. What waits for one that went with its
/// node waits for good, within the bounds of limbo.
pub fn nothing_waits(views: &[View]) -> Holds {
    match views.iter().find(|view| view.waiting > 0) {
        Some(view) => violated(format!(
            "{} ops wait for others at node {}, and nobody is gone",
            view.waiting, view.node
        )),
        None => Ok(()),
    }
}
