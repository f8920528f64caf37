//! Agents: named programs that instances serve.

use ledger::clock::Hlc;
use ledger::command::agents::Release;
use ledger::id::{AccountId, AgentId};
use serde::{Deserialize, Serialize};

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its id: the command that registered it.
    pub id: AgentId,
    /// Its unique name.
    pub name: String,
    /// Whose it is.
    pub owner: AccountId,
    /// What it is now.
    pub release: Release,
    /// How many releases it has had.
    pub version: u64,
    /// When it was registered.
    pub registered: Hlc,
    /// When its release last changed.
    pub updated: Hlc,
}
