//! Nodes: who takes part, and what each says of itself.

use ledger::clock::Hlc;
use ledger::id::NodeId;
use ledger::report::nodes::AnnounceNode;
use serde::{Deserialize, Serialize};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its key.
    pub id: NodeId,
    /// When its first chain was opened.
    pub joined: Hlc,
    /// Its newest incarnation.
    pub incarnation: u64,
    /// When that opened.
    pub started: Hlc,
    /// What it last said of itself; none until it has.
    pub announced: Option<AnnounceNode>,
}
