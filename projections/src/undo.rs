//! The only way to change a `Cloud`: a `Writer` that notes what was there before, so that the fold can
//! step back. An area's file reads through it and writes through it, and cannot forget the note.
//!
//! ```text
//!   priors  ▢▢▢ ▢ ▢▢▢▢▢ ▢▢ …      one log of all notes, the newest at the back
//!   steps    3  1   5    2 …      how many of them each op made
//! ```

use std::collections::VecDeque;
use std::ops::Deref;

use imbl::OrdMap;
use ledger::id::{AccountId, ActId, AgentId, BuildId, CommandId, HoldId, InstanceId, NetworkId, NodeId};
use ledger::key::PublicKey;
use ledger::op::Chain;
use ledger::vector::Head;

use crate::accounts::Account;
use crate::admin::{ActRecord, Admin, Charter};
use crate::agents::Agent;
use crate::cloud::{Cloud, Position};
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
        /// What stood at a place before it was changed; `None`: nothing did, as most often. What did is in a
        /// box, so that a note is small.
        #[derive(Debug)]
        pub(crate) enum Prior { $($table($key, Option<Box<$value>>),)* }

        /// A place in one of the maps of a `Cloud`.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum TouchedKey {$(
            #[doc = concat!("In `", stringify!($field), "`.")]
            $table($key),
        )*}

        impl Prior {
            fn key(&self) -> TouchedKey {
                match self {$(
                    Prior::$table(key, _) => TouchedKey::$table(key.clone()),
                )*}
            }

            fn restore(self, cloud: &mut Cloud) {
                match self {$(
                    Prior::$table(key, Some(value)) => { cloud.$field.insert(key, *value); }
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
                    Prior::$table(key, value.map(Box::new))
                }
            }
        )*

        /// Does not compile when a new field of `Cloud` is missing in the list below: it could not be
        /// undone.
        #[allow(dead_code)]
        fn every_field_is_a_table(cloud: Cloud) {
            let Cloud { network: _, genesis: _, position: _, finality: _, $($field: _,)* } = cloud;
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
    Certified = certified: Chain => Head;
    Revocations = revocations: NodeId => Revocation;
    NonceEnds = nonce_ends: (u64, PublicKey, [u8; 16]) => ();
    AccountKeys = account_keys: (AccountId, PublicKey) => ();
    Admins = admins: PublicKey => Admin;
    Charters = charters: NetworkId => Charter;
    Acts = acts: ActId => ActRecord;
    Activations = activations: (u16, u8) => Activation;
}

/// What the last ops changed.
#[derive(Debug, Default)]
pub(crate) struct UndoLog {
    priors: VecDeque<Prior>,
    steps: VecDeque<Step>,
}

#[derive(Debug)]
struct Step {
    position: Position,
    priors: usize,
}

impl UndoLog {
    /// Ops that can be undone.
    pub(crate) fn len(&self) -> usize {
        self.steps.len()
    }

    /// Nothing can be undone any more.
    pub(crate) fn clear(&mut self) {
        self.priors.clear();
        self.steps.clear();
    }

    /// Where a `Writer` begins to note an op's changes.
    fn mark(&self) -> usize {
        self.priors.len()
    }

    /// All notes since `mark` belong to one op, which came when the view stood at `position`.
    fn end_step(&mut self, mark: usize, position: Position) {
        let priors = self.priors.len() - mark;
        self.steps.push_back(Step { position, priors });
    }

    /// Forgets how to undo all but the last `window` ops.
    pub(crate) fn keep(&mut self, window: usize) {
        while self.steps.len() > window {
            if let Some(step) = self.steps.pop_front() {
                self.priors.drain(..step.priors);
            }
        }
    }

    /// Undoes the last op.
    pub(crate) fn undo_step(&mut self, cloud: &mut Cloud) {
        let step = self.steps.pop_back().expect("the caller counted the steps");
        self.undo_to(self.priors.len() - step.priors, cloud);
        cloud.position = step.position;
    }

    fn undo_to(&mut self, mark: usize, cloud: &mut Cloud) {
        while self.priors.len() > mark
            && let Some(prior) = self.priors.pop_back()
        {
            prior.restore(cloud);
        }
    }

    /// What was changed by the ops that can be undone, each place once, in ascending order.
    pub(crate) fn touched(&self) -> Vec<TouchedKey> {
        let mut keys: Vec<_> = self.priors.iter().map(Prior::key).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }
}

/// Changes a `Cloud` and notes what it changed. Reads go straight through.
pub(crate) struct Writer<'a> {
    cloud: &'a mut Cloud,
    log: &'a mut UndoLog,
    begin: usize,
}

impl Deref for Writer<'_> {
    type Target = Cloud;

    fn deref(&self) -> &Cloud {
        self.cloud
    }
}

impl<'a> Writer<'a> {
    pub(crate) fn new(cloud: &'a mut Cloud, log: &'a mut UndoLog) -> Self {
        let begin = log.mark();
        Self { cloud, log, begin }
    }

    /// Puts `value` at `key`, in place of what was there.
    pub(crate) fn put<T: Table>(&mut self, key: T::Key, value: T::Value) {
        let prior = T::of(self.cloud).insert(key.clone(), value);
        self.log.priors.push_back(T::prior(key, prior));
    }

    /// Changes what is at `key` where it lies, if something is.
    pub(crate) fn change<T: Table>(&mut self, key: T::Key, change: impl FnOnce(&mut T::Value)) {
        if let Some(value) = T::of(self.cloud).get_mut(&key) {
            let prior = value.clone();
            change(value);
            self.log.priors.push_back(T::prior(key, Some(prior)));
        }
    }

    /// Leaves nothing at `key`.
    pub(crate) fn remove<T: Table>(&mut self, key: T::Key) {
        if let Some(prior) = T::of(self.cloud).remove(&key) {
            self.log.priors.push_back(T::prior(key, Some(prior)));
        }
    }

    /// Does `change`, or nothing: what it wrote before it gave up is taken back.
    pub(crate) fn all_or_nothing<E>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.log.mark();
        let result = change(self);
        if result.is_err() {
            self.log.undo_to(before, self.cloud);
        }
        result
    }

    /// All that was written is one op's, after which the view stands at `position`.
    pub(crate) fn end(self, position: Position) {
        self.log.end_step(self.begin, self.cloud.position);
        self.cloud.position = position;
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
        let mut log = UndoLog::default();
        let mut writer = Writer::new(&mut cloud, &mut log);
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
        writer.end(Position {
            ops: 1,
            ..Position::default()
        });
        assert_eq!(log.touched(), [TouchedKey::AgentNames("kept".into())]);
        log.undo_step(&mut cloud);
        assert_eq!(cloud, before);
    }
}
