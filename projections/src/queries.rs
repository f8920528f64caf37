//! Questions that several readers of a `Cloud` ask: the door, the reactors, the simulator's checks.
//!
//! Those that look a thing up take logarithmic time. Those over all instances read every instance: a
//! reader that asks for each of many nodes or agents makes one pass of its own, or takes
//! [`Cloud::used_capacities`].

use std::collections::BTreeMap;

use ledger::command::instances::Shape;
use ledger::id::{AccountId, AgentId, InstanceId, NodeId};
use ledger::key::PublicKey;
use ledger::report::instances::Phase;
use ledger::report::nodes::Capacity;

use crate::accounts::Account;
use crate::agents::Agent;
use crate::cloud::Cloud;
use crate::instances::{Instance, Placement, Wanted};

/// Hexadecimal digits of an id that [`Cloud::find_instance`] asks for, at least.
pub const PREFIX_DIGITS_MIN: usize = 4;

/// Why a text names no one instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FindError {
    /// Neither a name of the account nor the beginning of an id.
    #[error("there is no instance `{0}`: give its name, or the first digits of its id (at least 4)")]
    None(String),
    /// The beginning of more than one id.
    #[error("`{0}` is the beginning of more than one instance's id: give more digits")]
    Many(String),
}

impl Cloud {
    /// The account that a key signs for, or did before it was revoked or expired.
    pub fn account_of(&self, key: &PublicKey) -> Option<&Account> {
        self.accounts.get(&self.keys.get(key)?.account)
    }

    /// The account of this name.
    pub fn account_named(&self, name: &str) -> Option<&Account> {
        self.accounts.get(self.account_names.get(name)?)
    }

    /// The agent of this name.
    pub fn agent_named(&self, name: &str) -> Option<&Agent> {
        self.agents.get(self.agent_names.get(name)?)
    }

    /// The agent whose own vanity name, `<agent-name>.fog`, this is; whether somebody claimed the name for
    /// another is not asked.
    pub fn vanity_agent(&self, domain: &str) -> Option<&Agent> {
        let (name, zone) = domain.split_once('.')?;
        if zone == ledger::command::domains::VANITY_ZONE {
            self.agent_named(name)
        } else {
            None
        }
    }

    /// The agent that a domain name leads to: the one that it was claimed for, else the one whose vanity
    /// name it is.
    pub fn agent_at(&self, domain: &str) -> Option<&Agent> {
        match self.domains.get(domain) {
            Some(claimed) => self.agents.get(&claimed.agent),
            None => self.vanity_agent(domain),
        }
    }

    /// The instance that an account calls by this name now.
    pub fn instance_named(&self, owner: AccountId, name: &str) -> Option<&Instance> {
        self.instances
            .get(self.instance_names.get(&(owner, name.to_owned()))?)
    }

    /// An account's instances that are not deleted, by name.
    pub fn instances_named_by(&self, owner: AccountId) -> impl Iterator<Item = (&str, InstanceId)> {
        self.instance_names
            .range((owner, String::new())..)
            .take_while(move |((account, _), _)| *account == owner)
            .map(|((_, name), id)| (name.as_str(), *id))
    }

    /// Instances, deleted ones that are not gone yet too, whose id begins with these hexadecimal digits.
    /// No instance if it has other characters.
    pub fn instances_with_prefix(&self, prefix: &str) -> impl Iterator<Item = &Instance> {
        let first = first_with_prefix(prefix);
        let prefix = prefix.to_ascii_lowercase();
        first
            .into_iter()
            .flat_map(|first| self.instances.range(first..))
            .take_while(move |(id, _)| id.to_string().starts_with(&prefix))
            .map(|(_, instance)| instance)
    }

    /// The instance that a person means: by its name in the account, if one is given, else by the first
    /// digits of its id, of whichever account.
    pub fn find_instance(&self, owner: Option<AccountId>, text: &str) -> Result<&Instance, FindError> {
        let shown = || text.chars().take(80).collect();
        if let Some(instance) = owner.and_then(|owner| self.instance_named(owner, text)) {
            return Ok(instance);
        }
        if text.len() < PREFIX_DIGITS_MIN {
            return Err(FindError::None(shown()));
        }
        let mut found = self.instances_with_prefix(text);
        let first = found.next().ok_or_else(|| FindError::None(shown()))?;
        match found.next() {
            Some(_) => Err(FindError::Many(shown())),
            None => Ok(first),
        }
    }

    /// The instances that serve an agent and are not deleted. Reads every instance.
    pub fn instances_of(&self, agent: AgentId) -> impl Iterator<Item = &Instance> {
        self.instances.values().filter(move |instance| {
            instance.request.agent == Some(agent) && instance.wanted != Wanted::Deleted
        })
    }

    /// What a node holds: the instances whose placement that counts is there, deleted ones that are not
    /// gone yet too. Reads every instance.
    pub fn held_by(&self, node: NodeId) -> impl Iterator<Item = (&Instance, &Placement)> {
        self.instances
            .values()
            .filter_map(|instance| Some((instance, instance.placement()?)))
            .filter(move |(_, placement)| placement.node == node)
    }

    /// What the machines of a node take, as far as the log tells. Reads every instance.
    pub fn used_by(&self, node: NodeId) -> Capacity {
        let mut used = Capacity::default();
        for (instance, _) in self
            .held_by(node)
            .filter(|(instance, _)| instance.takes_capacity())
        {
            add(&mut used, &instance.request.shape);
        }
        used
    }

    /// [`Self::used_by`] for each node that holds something, in one pass.
    pub fn used_capacities(&self) -> BTreeMap<NodeId, Capacity> {
        let mut used = BTreeMap::new();
        for instance in self
            .instances
            .values()
            .filter(|instance| instance.takes_capacity())
        {
            if let Some(placement) = instance.placement() {
                add(used.entry(placement.node).or_default(), &instance.request.shape);
            }
        }
        used
    }
}

impl Instance {
    /// Whether its machine has ended: it was stopped, failed, or nothing of it is left. False when its owner
    /// asked for a start since, for then it is to run again.
    pub fn has_ended(&self) -> bool {
        let Some(status) = &self.status else {
            return false;
        };
        let ended = matches!(
            status.phase,
            Phase::Stopped | Phase::Failed { .. } | Phase::Deleted
        );
        ended && (self.wanted != Wanted::Running || status.at > self.wanted_at)
    }

    /// Whether its shape counts as taken on the node that holds it: it shall run and has not ended by
    /// itself, or it shall not and still does.
    pub fn takes_capacity(&self) -> bool {
        match self.wanted {
            Wanted::Running => !self.has_ended(),
            Wanted::Stopped | Wanted::Deleted => self.status.is_some() && !self.has_ended(),
        }
    }
}

fn add(used: &mut Capacity, shape: &Shape) {
    used.vcpus = used.vcpus.saturating_add(u32::from(shape.vcpus));
    used.memory_mib = used.memory_mib.saturating_add(u64::from(shape.memory_mib));
    used.disk_gib = used.disk_gib.saturating_add(u64::from(shape.disk_gib));
}

/// The smallest id that begins with these hexadecimal digits.
fn first_with_prefix(prefix: &str) -> Option<InstanceId> {
    let mut id = [0; 32];
    if prefix.len() > 2 * id.len() {
        return None;
    }
    for (index, digit) in prefix.chars().enumerate() {
        let digit = digit.to_digit(16)? as u8;
        id[index / 2] |= if index % 2 == 0 { digit << 4 } else { digit };
    }
    Some(InstanceId(id))
}
