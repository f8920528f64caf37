//! Revoked nodes: from when on, and what of theirs does not count.
//!
//! What a revoked node writes after the revocation's place in the order is void by the rules of membership.
//! Of what stands before that place, and is not final, only this counts:
//!
//! - while the revocation is tentative, what lies in the causal past of its op;
//! - once it is final, what was certified up to its cut-off; without one, again its causal past.
//!
//! The rest is denied, wherever it claims to stand. A denial may take another revocation away, so it is
//! asked again until nothing is added: the revocations are taken in the order of their ops, each once, and a
//! denial stays, also when the revocation that it came from is denied by a later one. So denials only grow
//! for one set of ops, and the end is the same whatever the order of arrival. See `denials`.

use ledger::clock::Hlc;
use ledger::id::OpId;
use serde::{Deserialize, Serialize};

/// The end of a node's membership by the admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The op that did it. It always counts for its own revocation.
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

impl Revocation {
    /// Whether an op of the node with this clock may count again.
    pub(crate) fn is_over_for(&self, clock: Hlc) -> bool {
        self.reinstated.is_some_and(|at| at < clock)
    }

    /// Whether, once this is final, nothing more of the node becomes final after the checkpoint at `height`.
    pub(crate) fn is_past(&self, height: u64) -> bool {
        self.cutoff.is_none_or(|cutoff| cutoff <= height)
    }
}
