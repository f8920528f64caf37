//! The ledger of one node, for its operator.

use std::collections::BTreeMap;

use ledger::id::{CheckpointId, NodeId, OpId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Chains that a view lists, at most: those with the newest ends.
pub const CHAINS_LISTED_MAX: usize = 100;

/// The ledger of the answering node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    /// Ops in its log.
    pub ops: u64,
    /// Ops that no certificate covers.
    pub tentative: u64,
    /// Chains that they are in.
    pub chains: u64,
    /// The chains with the newest ends, at most 100.
    pub heads: Vec<HeadView>,
    /// How far the network is final, as this node sees it.
    pub finality: FinalityView,
    /// Chains that were proved to be forked, with the place.
    pub forks: Vec<ForkView>,
    /// Ops that wait for others or for their time, and their bytes.
    pub waiting_ops: u64,
    /// See `waiting_ops`.
    pub waiting_bytes: u64,
    /// Of each peer, how many certificates it is behind this node; nothing of those that have not said.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub lag: BTreeMap<NodeId, u64>,
    /// What the door of the ledger counted since the node started: what it took in, and what it refused or held
    /// back, by reason.
    pub counters: BTreeMap<String, u64>,
    /// What only an operator can mend.
    pub alarm: Option<String>,
}

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HeadView {
    /// Whose chain it is.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Which start of the node: sixteen hexadecimal digits.
    pub incarnation: String,
    /// Ops held of it.
    pub ops: u64,
    /// Ops of it that are final.
    pub final_ops: u64,
    /// Its last op.
    #[schema(value_type = String)]
    pub head: OpId,
    /// The last op's clock, in milliseconds since 1970.
    pub at_ms: u64,
}

/// A fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ForkView {
    /// Who wrote two ops for one place.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// In which of its starts: sixteen hexadecimal digits.
    pub incarnation: String,
    /// The place. Nothing of the chain counts from there on, but for what was final before.
    pub seq: u64,
}

/// How far the network is final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FinalityView {
    /// Height of the last certificate; 0 before the first.
    pub height: u64,
    /// Its checkpoint.
    #[schema(value_type = String)]
    pub checkpoint: CheckpointId,
    /// Its time, in milliseconds since 1970; 0 before the first.
    pub time_ms: u64,
    /// Root of the state at its end: equal on all nodes at this height.
    pub state_root: String,
    /// Who votes at the next height, with the weight of each; nobody where all stays tentative.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub witnesses: BTreeMap<NodeId, u32>,
    /// Whether this node votes.
    pub votes: bool,
    /// The round of the height that is being agreed on, if one is.
    pub round: Option<u32>,
    /// Certificates that wait for ops.
    pub waiting: u64,
    /// Lies of witnesses that were proved, certificates that contradict those applied, and what else was
    /// refused.
    pub counters: BTreeMap<String, u64>,
}
