//! What a node knows of itself, besides what it sees.

use std::net::IpAddr;

use ledger::id::NodeId;
use ledger::report::nodes::{Capacity, Roles};

/// This node. It changes only when its operator changes its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its key.
    pub node: NodeId,
    /// Which parts run here.
    pub roles: Roles,
    /// The interface towards the other nodes; none when this node is by itself.
    pub interface: Option<String>,
    /// Name servers for the guests of this node.
    pub resolvers: Vec<IpAddr>,
    /// What it offers to machines in all.
    pub capacity: Capacity,
    /// Builds that may run here at once.
    pub builds_max: usize,
}
