//! Domain names that lead to agents, as people see them.

use ledger::id::{AccountId, AgentId};
use projections::agents::{Agent, vanity_name};
use projections::cloud::Cloud;
use projections::domains::Domain;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account_name;

/// A name that leads to an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DomainView {
    /// The name in lower case, without a trailing dot.
    pub name: String,
    /// Where it comes from.
    pub origin: DomainOrigin,
    /// Whose it is.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// The owner's name.
    pub owner_name: Option<String>,
    /// The agent that it leads to.
    #[schema(value_type = String)]
    pub agent: AgentId,
    /// The agent's name.
    pub agent_name: Option<String>,
    /// When it was claimed, or, of one that comes with an agent, when the agent was registered.
    pub claimed_ms: u64,
}

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DomainOrigin {
    /// It was claimed for the agent.
    Claimed,
    /// It comes with the agent's name.
    Vanity,
}

impl DomainView {
    /// A claimed name as it stands in `cloud`.
    pub fn new(cloud: &Cloud, domain: &Domain) -> Self {
        Self {
            name: domain.name.clone(),
            origin: DomainOrigin::Claimed,
            owner: domain.owner,
            owner_name: account_name(cloud, domain.owner),
            agent: domain.agent,
            agent_name: cloud.agents.get(&domain.agent).map(|agent| agent.name.clone()),
            claimed_ms: domain.claimed.ms(),
        }
    }

    /// The name that comes with an agent's.
    pub fn vanity(cloud: &Cloud, agent: &Agent) -> Self {
        Self {
            name: vanity_name(&agent.name),
            origin: DomainOrigin::Vanity,
            owner: agent.owner,
            owner_name: account_name(cloud, agent.owner),
            agent: agent.id,
            agent_name: Some(agent.name.clone()),
            claimed_ms: agent.registered.ms(),
        }
    }
}
