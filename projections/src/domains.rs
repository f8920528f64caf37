//! Domain names that lead to agents.

use ledger::clock::Hlc;
use ledger::id::{AccountId, AgentId};
use serde::{Deserialize, Serialize};

/// A claimed name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The name in lower case, without a trailing dot.
    pub name: String,
    /// Who claimed it.
    pub owner: AccountId,
    /// Where it leads.
    pub agent: AgentId,
    /// When it was claimed.
    pub claimed: Hlc,
}
