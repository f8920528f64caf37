//! Revoked nodes: from when on, and what of theirs does not count.

use ledger::clock::Hlc;
use ledger::id::{ActId, OpId};
use serde::{Deserialize, Serialize};

/// The end of a node's membership by the admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The op that carried the last approval needed.
    pub op: OpId,
    /// The admins' act.
    pub by: ActId,
    /// When.
    pub at: Hlc,
    /// The height of the checkpoint up to which the node's final ops count; none: what the op had in its
    /// causal past.
    pub cutoff: Option<u64>,
    /// The op by which the admins gave the node a new membership, if they have. What was void stays so.
    pub reinstated: Option<OpId>,
}
