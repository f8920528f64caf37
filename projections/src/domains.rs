//! Domain names that lead to agents.

use ledger::clock::Hlc;
use ledger::command::domains::{ClaimDomain, ReleaseDomain};
use ledger::id::{AccountId, AgentId};
use serde::{Deserialize, Serialize};

use crate::commands::{Asked, check_own_agent};
use crate::outcome::Void;
use crate::undo::{Domains, Writer};

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

/// Claims a name that is free. The name that comes with somebody else's agent is not.
pub(crate) fn claim(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &ClaimDomain,
) -> Result<(), Void> {
    check_own_agent(writer, owner, ask.agent)?;
    let of_agent = writer.vanity_agent(&ask.name).map(|agent| agent.owner);
    if writer.domains.contains_key(&ask.name) || of_agent.is_some_and(|other| other != owner) {
        return Err(Void::NameTaken(ask.name.clone()));
    }
    let domain = Domain {
        name: ask.name.clone(),
        owner,
        agent: ask.agent,
        claimed: asked.at,
    };
    writer.put::<Domains>(ask.name.clone(), domain);
    Ok(())
}

/// Gives a name back.
pub(crate) fn release(writer: &mut Writer<'_>, owner: AccountId, ask: &ReleaseDomain) -> Result<(), Void> {
    let domain = writer
        .domains
        .get(&ask.name)
        .ok_or_else(|| Void::NotFound(format!("domain: {}", ask.name)))?;
    if domain.owner != owner {
        return Err(Void::NotOwner);
    }
    writer.remove::<Domains>(ask.name.clone());
    Ok(())
}
