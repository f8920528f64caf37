//! Claimed domain names as people see them.

use ledger::id::{AccountId, AgentId};
use projections::cloud::Cloud;
use projections::domains::Domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account_name;

/// A claimed name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    /// The name in lower case, without a trailing dot.
    pub name: String,
    /// Who claimed it.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// The owner's name.
    pub owner_name: Option<String>,
    /// The agent that it leads to.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// The agent's name.
    pub agent_name: Option<String>,
    /// When it was claimed.
    pub claimed_ms: u64,
}

impl DomainView {
    /// The domain as it stands in `cloud`.
    pub fn new(cloud: &Cloud, domain: &Domain) -> Self {
        Self {
            name: domain.name.clone(),
            owner: domain.owner,
            owner_name: account_name(cloud, domain.owner),
            agent: domain.agent,
            agent_name: cloud.agents.get(&domain.agent).map(|agent| agent.name.clone()),
            claimed_ms: domain.claimed.ms(),
        }
    }
}
