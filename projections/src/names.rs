//! Whose a name is, and whether that can still turn.
//!
//! A name is the first one's who asks for it, by the order of the log. Until the op is final, one that comes
//! before it in the final order may take the name: it is held *provisionally*. So there are two views to ask:
//! the tentative one, of all ops, and the final one, of those that a certificate covers.
//!
//! ```text
//!                     tentative view
//!                     nobody        A              B
//!   final   nobody    Free          Provisional    Provisional
//!   view    A         GivenBack     Final          Passing
//! ```

use ledger::command::domains::VANITY_ZONE;
use ledger::id::{AccountId, AgentId, InstanceId};

use crate::agents::vanity_name;
use crate::cloud::Cloud;

/// What a name is for. Each kind has names of its own, but a domain `<name>.fog` and an agent's name go
/// together: one is not free for others while the other is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An account.
    Account,
    /// An agent.
    Agent,
    /// A domain.
    Domain,
    /// An instance of this account, which has no deleted one of that name.
    Instance(AccountId),
}

/// Who holds a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Whose it is.
    pub owner: AccountId,
    /// Where it leads.
    pub target: Target,
}

/// Where a name leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The account itself.
    Account,
    /// An agent.
    Agent(AgentId),
    /// An instance.
    Instance(InstanceId),
}

/// How a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody's.
    Free,
    /// Somebody's, as far as it looks: another one's claim may still come before it.
    Provisional(Holder),
    /// Somebody's for good, till they give it back.
    Final(Holder),
    /// Its holder has given it back, but that is not final.
    GivenBack(Holder),
    /// It passes from one holder to another, and that is not final. With one owner: it leads elsewhere.
    Passing {
        /// Who holds it by what is final.
        from: Holder,
        /// Who holds it as far as it looks.
        to: Holder,
    },
}

impl Standing {
    /// Who holds it as far as it looks; what the network acts by.
    pub fn holder(&self) -> Option<Holder> {
        match *self {
            Standing::Free | Standing::GivenBack(_) => None,
            Standing::Provisional(holder) | Standing::Final(holder) => Some(holder),
            Standing::Passing { to, .. } => Some(to),
        }
    }
}

/// How a name stands, by the view of all ops and that of the final ones.
pub fn standing(tentative: &Cloud, final_: &Cloud, kind: Kind, name: &str) -> Standing {
    match (holder(final_, kind, name), holder(tentative, kind, name)) {
        (None, None) => Standing::Free,
        (None, Some(to)) => Standing::Provisional(to),
        (Some(from), None) => Standing::GivenBack(from),
        (Some(from), Some(to)) if from == to => Standing::Final(to),
        (Some(from), Some(to)) => Standing::Passing { from, to },
    }
}

/// Who holds a name by one view. A claim of a domain goes before the agent that it is the vanity name of.
pub fn holder(cloud: &Cloud, kind: Kind, name: &str) -> Option<Holder> {
    match kind {
        Kind::Account => {
            let owner = *cloud.account_names.get(name)?;
            let target = Target::Account;
            Some(Holder { owner, target })
        }
        Kind::Agent => of_agent(cloud, name).or_else(|| of_claim(cloud, &vanity_name(name))),
        Kind::Domain => of_claim(cloud, name).or_else(|| {
            let (label, zone) = name.split_once('.')?;
            if zone == VANITY_ZONE {
                of_agent(cloud, label)
            } else {
                None
            }
        }),
        Kind::Instance(owner) => {
            let instance = *cloud.instance_names.get(&(owner, name.to_owned()))?;
            let target = Target::Instance(instance);
            Some(Holder { owner, target })
        }
    }
}

fn of_agent(cloud: &Cloud, name: &str) -> Option<Holder> {
    let agent = cloud.agent_named(name)?;
    Some(Holder {
        owner: agent.owner,
        target: Target::Agent(agent.id),
    })
}

fn of_claim(cloud: &Cloud, domain: &str) -> Option<Holder> {
    let domain = cloud.domains.get(domain)?;
    Some(Holder {
        owner: domain.owner,
        target: Target::Agent(domain.agent),
    })
}
