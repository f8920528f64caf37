//! Agents: named programs that instances serve.

use ledger::clock::Hlc;
use ledger::command::agents::{RegisterAgent, Release, UpdateAgent};
use ledger::command::domains::VANITY_ZONE;
use ledger::id::{AccountId, AgentId};
use serde::{Deserialize, Serialize};

use crate::commands::{Asked, check_own_agent, check_own_build};
use crate::outcome::Void;
use crate::undo::{AgentNames, Agents, Writer};

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

/// The domain name that comes with an agent's name.
pub fn vanity_name(agent_name: &str) -> String {
    format!("{agent_name}.{VANITY_ZONE}")
}

/// Registers an agent. Its name is also its vanity name, so that must not be somebody else's.
pub(crate) fn register(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &RegisterAgent,
) -> Result<(), Void> {
    let claimed_by = writer
        .domains
        .get(&vanity_name(&ask.name))
        .map(|domain| domain.owner);
    if writer.agent_names.contains_key(&ask.name) || claimed_by.is_some_and(|claimer| claimer != owner) {
        return Err(Void::NameTaken(ask.name.clone()));
    }
    check_own_build(writer, owner, ask.release.build)?;
    let id = AgentId::from(asked.command);
    let agent = Agent {
        id,
        name: ask.name.clone(),
        owner,
        release: ask.release.clone(),
        version: 1,
        registered: asked.at,
        updated: asked.at,
    };
    writer.put::<AgentNames>(ask.name.clone(), id);
    writer.put::<Agents>(id, agent);
    Ok(())
}

/// Gives an agent a new release; its instances stay as they are.
pub(crate) fn update(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &UpdateAgent,
) -> Result<(), Void> {
    let mut agent = check_own_agent(writer, owner, ask.agent)?.clone();
    check_own_build(writer, owner, ask.release.build)?;
    agent.release = ask.release.clone();
    agent.version = agent.version.saturating_add(1);
    agent.updated = asked.at;
    writer.put::<Agents>(ask.agent, agent);
    Ok(())
}
