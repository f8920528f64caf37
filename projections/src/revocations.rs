//! Revoked nodes: from when on, and what of theirs does not count.

use ledger::clock::Hlc;
use ledger::id::OpId;
use serde::{Deserialize, Serialize};

/// The end of a node's membership by the admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The op that did it.
    pub op: OpId,
    /// When.
    pub at: Hlc,
    /// The height of the checkpoint up to which the node's final ops count; none: what the op had in its
    /// causal past.
    pub cutoff: Option<u64>,
    /// The clock of the op that gave the node a new membership, if one did: what it writes later counts
    /// again, what was void stays so.
    pub reinstated: Option<Hlc>,
}
