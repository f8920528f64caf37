//! The only way to change a `Cloud`: a [`Writer`] that notes what was there before, so that the fold can
//! step back. An area's file reads through it and writes through it, and cannot forget the note.

use std::ops::Deref;

use imbl::OrdMap;
use ledger::id::{AccountId, ActId, AgentId, BuildId, CommandId, HoldId, InstanceId, NetworkId, NodeId};
use ledger::key::PublicKey;

use crate::accounts::Account;
use crate::admin::{ActRecord, Admin, Charter};
use crate::agents::Agent;
use crate::cloud::Cloud;
use crate::credits::{Hold, Right};
use crate::domains::Domain;
use crate::images::Build;
use crate::instances::Instance;
use crate::keys::Key;
use crate::kinds::Activation;
use crate::nodes::Node;
use crate::outcome::CommandRecord;
use crate::revocations::Revocation;

/// One of the maps of a `Cloud`.
pub(crate) trait Table {
    /// What it is looked up by.
    type Key: Ord + Clone;
    /// What it holds.
    type Value: Clone;

    /// The map itself.
    fn of(cloud: &mut Cloud) -> &mut OrdMap<Self::Key, Self::Value>;

    /// The note that `value` stood at `key`.
    fn prior(key: Self::Key, value: Option<Self::Value>) -> Prior;
}

macro_rules! tables {
    ($($table:ident = $field:ident: $key:ty => $value:ty;)*) => {
        /// What stood at a place before it was changed; `None`: nothing did.
        #[derive(Debug)]
        pub(crate) enum Prior { $($table($key, Option<$value>),)* }

        impl Prior {
            fn restore(self, cloud: &mut Cloud) {
                match self {$(
                    Prior::$table(key, Some(value)) => { cloud.$field.insert(key, value); }
                    Prior::$table(key, None) => { cloud.$field.remove(&key); }
                )*}
            }
        }

        $(
            /// The table of this name.
            pub(crate) struct $table;

            impl Table for $table {
                type Key = $key;
                type Value = $value;

                fn of(cloud: &mut Cloud) -> &mut OrdMap<$key, $value> {
                    &mut cloud.$field
                }

                fn prior(key: $key, value: Option<$value>) -> Prior {
                    Prior::$table(key, value)
                }
            }
        )*

        /// Does not compile when a new field of `Cloud` is missing in the list below: it could not be
        /// undone.
        #[allow(dead_code)]
        fn every_field_is_a_table(cloud: Cloud) {
            let Cloud { network: _, genesis: _, position: _, $($field: _,)* } = cloud;
        }
    };
}

tables! {
    Accounts = accounts: AccountId => Account;
    AccountNames = account_names: String => AccountId;
    Keys = keys: PublicKey => Key;
    Nodes = nodes: NodeId => Node;
    Agents = agents: AgentId => Agent;
    AgentNames = agent_names: String => AgentId;
    Builds = builds: BuildId => Build;
    Instances = instances: InstanceId => Instance;
    InstanceNames = instance_names: (AccountId, String) => InstanceId;
    Domains = domains: String => Domain;
    Commands = commands: CommandId => CommandRecord;
    Nonces = nonces: (PublicKey, [u8; 16]) => CommandId;
    Supply = supply: () => u64;
    Balances = balances: AccountId => u64;
    Rights = rights: (AccountId, NodeId, u64) => Right;
    Holds = holds: HoldId => Hold;
    HoldsByExpiry = holds_by_expiry: (AccountId, u64, HoldId) => ();
    NonceEnds = nonce_ends: (u64, PublicKey, [u8; 16]) => ();
    AccountKeys = account_keys: (AccountId, PublicKey) => ();
    Admins = admins: PublicKey => Admin;
    Charters = charters: NetworkId => Charter;
    Acts = acts: ActId => ActRecord;
    Revocations = revocations: NodeId => Revocation;
    Activations = activations: (u16, u8) => Activation;
}

/// Changes a `Cloud` and notes what it changed. Reads go straight through.
pub(crate) struct Writer<'a> {
    cloud: &'a mut Cloud,
    priors: Vec<Prior>,
}

impl Deref for Writer<'_> {
    type Target = Cloud;

    fn deref(&self) -> &Cloud {
        self.cloud
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn new(cloud: &'a mut Cloud) -> Self {
        Self {
            cloud,
            priors: Vec::new(),
        }
    }

    /// Puts `value` at `key`, in place of what was there.
    pub(crate) fn put<T: Table>(&mut self, key: T::Key, value: T::Value) {
        let prior = T::of(self.cloud).insert(key.clone(), value);
        self.priors.push(T::prior(key, prior));
    }

    /// Leaves nothing at `key`.
    pub(crate) fn remove<T: Table>(&mut self, key: T::Key) {
        if let Some(prior) = T::of(self.cloud).remove(&key) {
            self.priors.push(T::prior(key, Some(prior)));
        }
    }

    /// Does `change`, or nothing: what it wrote before it gave up is taken back.
    pub(crate) fn all_or_nothing<E>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.priors.len();
        let result = change(self);
        if result.is_err() {
            undo(self.cloud, self.priors.drain(before..));
        }
        result
    }

    /// What was changed, for [`undo`].
    pub(crate) fn into_priors(self) -> Vec<Prior> {
        self.priors
    }
}

/// Takes changes back, the last one first.
pub(crate) fn undo(cloud: &mut Cloud, priors: impl DoubleEndedIterator<Item = Prior>) {
    for prior in priors.rev() {
        prior.restore(cloud);
    }
}

#[cfg(test)]
mod tests {
    use ledger::genesis::Genesis;

    use super::*;
    use crate::outcome::Void;

    #[test]
    fn a_change_that_gives_up_leaves_nothing_and_what_came_before_stays() {
        let genesis = Genesis {
            name: "test".into(),
            admins: Vec::new(),
            admins_needed: 1,
            witnesses: Default::default(),
            created_ms: 0,
            salt: [0; 16],
        };
        let mut cloud = Cloud::new(genesis);
        let before = cloud.clone();
        let mut writer = Writer::new(&mut cloud);
        let (kept, tried) = (AgentId([1; 32]), AgentId([2; 32]));
        writer.put::<AgentNames>("kept".into(), kept);
        let gave_up = writer.all_or_nothing(|writer| {
            writer.put::<AgentNames>("new".into(), tried);
            writer.put::<AgentNames>("kept".into(), tried);
            writer.remove::<AgentNames>("kept".into());
            Err(Void::NotOwner)
        });
        assert_eq!(gave_up, Err(Void::NotOwner));
        assert_eq!(
            writer.agent_names.iter().collect::<Vec<_>>(),
            [(&"kept".to_owned(), &kept)]
        );
        let priors = writer.into_priors();
        undo(&mut cloud, priors.into_iter());
        assert_eq!(cloud, before);
    }
}
