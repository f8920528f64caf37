//! A `Cloud` as the entries of a state [`Tree`], and back: each map is a table, each field beside them an
//! entry of table 0. Keys and values are in the ledger's canonical encoding, so equal views have equal roots.
//!
//! ```text
//! table 0       key: number of the field (1)     value: the field
//! table 1 …     key: key of the map              value: its value
//! ```
//! Which is all that `Cloud` has but the network's id, which follows from genesis. A new map is **one line in
//! the list below**, with the next free number, and without it this file does not compile. A number is never
//! used for anything else again: a root that was certified has to mean the same for ever.

use ledger::codec::{self, DecodeError};
use ledger::genesis::Genesis;
use ledger::id::{AccountId, ActId, AgentId, BuildId, CommandId, HoldId, InstanceId, NetworkId, NodeId};
use ledger::key::PublicKey;
use ledger::op::Chain;
use ledger::vector::Head;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::accounts::Account;
use crate::admin::{ActRecord, Admin, Charter};
use crate::agents::Agent;
use crate::cloud::{Cloud, Position};
use crate::credits::{Hold, Right};
use crate::domains::Domain;
use crate::finality::Finality;
use crate::images::Build;
use crate::instances::Instance;
use crate::keys::Key as SigningKey;
use crate::kinds::Activation;
use crate::nodes::Node;
use crate::outcome::CommandRecord;
use crate::revocations::Revocation;
use crate::tree::{Entry, KEY_BYTES_MAX, Key, Tree, VALUE_BYTES_MAX};
use crate::undo::TouchedKey;

/// The table of what is no map.
const FIELDS: u8 = 0;

/// Why a tree is not a `Cloud` of this network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// It has a table or a field that this build does not know: the state is of a newer version.
    #[error("the state has table {table} with a key that this build does not know; a newer one may")]
    Unknown {
        /// The table.
        table: u8,
    },
    /// An entry does not read.
    #[error("an entry of table {table} of the state does not read: {source}")]
    Entry {
        /// The table.
        table: u8,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// A field is missing.
    #[error("the state lacks its {0}")]
    Missing(&'static str),
    /// It is the state of another network.
    #[error("the state is that of network {0}, not of this one")]
    OtherNetwork(NetworkId),
}

macro_rules! state {
    (
        fields { $($field_number:literal = $field:ident: $field_type:ty;)* }
        tables { $($number:literal = $table:ident $map:ident: $key:ty => $value:ty;)* }
    ) => {
        /// The number of each table: part of every root, never to change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Table {$(
            #[doc = concat!("The map `", stringify!($map), "`.")]
            $table = $number,
        )*}

        impl From<&TouchedKey> for Key {
            fn from(touched: &TouchedKey) -> Self {
                match touched {
                    $(TouchedKey::$table(key) => Table::$table.key(key),)*
                }
            }
        }

        /// The key of each field that is no map.
        fn field_keys() -> Vec<Key> {
            vec![$(Key { table: FIELDS, key: vec![$field_number] },)*]
        }

        /// What stands at a key in a view; none also where the key is of nothing that a view has.
        fn value(cloud: &Cloud, at: &Key) -> Option<Vec<u8>> {
            match (at.table, at.key.as_slice()) {
                $((FIELDS, [$field_number]) => Some(codec::encode(&cloud.$field)),)*
                $(($number, key) => {
                    let key = decode_key::<$key>(key).ok()?;
                    cloud.$map.get(&key).map(codec::encode)
                })*
                _ => None,
            }
        }

        /// Every entry of a view.
        fn entries(cloud: &Cloud) -> Vec<(Key, Option<Vec<u8>>)> {
            // Does not compile when a field of `Cloud` is missing in the list.
            let Cloud { network: _, $($field,)* $($map,)* } = cloud;
            let mut entries = Vec::with_capacity(0 $(+ $map.len())*);
            $(entries.push((
                Key { table: FIELDS, key: vec![$field_number] },
                Some(codec::encode($field)),
            ));)*
            $(entries.extend($map.iter().map(|(key, value)| {
                (Table::$table.key(key), Some(codec::encode(value)))
            }));)*
            entries
        }

        /// What was read so far.
        #[derive(Default)]
        struct Loading {
            $($field: Option<$field_type>,)*
            $($map: Vec<($key, $value)>,)*
        }

        impl Loading {
            fn take(&mut self, entry: Entry<'_>) -> Result<(), LoadError> {
                let table = entry.table;
                let wrong = |source| LoadError::Entry { table, source };
                match (table, entry.key) {
                    $((FIELDS, [$field_number]) => {
                        self.$field = Some(decode_value(entry.value).map_err(wrong)?);
                    })*
                    $(($number, key) => {
                        let key = decode_key::<$key>(key).map_err(wrong)?;
                        self.$map.push((key, decode_value(entry.value).map_err(wrong)?));
                    })*
                    _ => return Err(LoadError::Unknown { table }),
                }
                Ok(())
            }

            fn into_cloud(self) -> Result<Cloud, LoadError> {
                $(let $field = self.$field.ok_or(LoadError::Missing(stringify!($field)))?;)*
                $(let $map = {
                    // In order, the maps are made faster.
                    let mut entries = self.$map;
                    entries.sort_unstable_by(|one, two| one.0.cmp(&two.0));
                    entries.into_iter().collect()
                };)*
                let unnamed = NetworkId([0; 32]);
                let mut cloud = Cloud { network: unnamed, $($field,)* $($map,)* };
                cloud.network = cloud.genesis.network();
                Ok(cloud)
            }
        }
    };
}

state! {
    fields {
        0 = genesis: Genesis;
        1 = position: Position;
        2 = finality: Finality;
    }
    tables {
        1 = Accounts accounts: AccountId => Account;
        2 = AccountNames account_names: String => AccountId;
        3 = Keys keys: PublicKey => SigningKey;
        4 = Nodes nodes: NodeId => Node;
        5 = Agents agents: AgentId => Agent;
        6 = AgentNames agent_names: String => AgentId;
        7 = Builds builds: BuildId => Build;
        8 = Instances instances: InstanceId => Instance;
        9 = InstanceNames instance_names: (AccountId, String) => InstanceId;
        10 = Domains domains: String => Domain;
        11 = Commands commands: CommandId => CommandRecord;
        12 = Nonces nonces: (PublicKey, [u8; 16]) => CommandId;
        13 = Certified certified: Chain => Head;
        14 = Revocations revocations: NodeId => Revocation;
        15 = NonceEnds nonce_ends: (u64, PublicKey, [u8; 16]) => ();
        16 = AccountKeys account_keys: (AccountId, PublicKey) => ();
        17 = Admins admins: PublicKey => Admin;
        18 = Charters charters: NetworkId => Charter;
        19 = Acts acts: ActId => ActRecord;
        20 = Activations activations: (u16, u8) => Activation;
        21 = Supply supply: () => u64;
        22 = Balances balances: AccountId => u64;
        23 = Rights rights: (AccountId, NodeId, u64) => Right;
        24 = Holds holds: HoldId => Hold;
        25 = HoldsByExpiry holds_by_expiry: (AccountId, u64, HoldId) => ();
    }
}

impl Table {
    /// The key in the tree of what this table has at `key`, which must be of the table's own type.
    pub fn key<K: Serialize>(self, key: &K) -> Key {
        Key {
            table: self as u8,
            key: codec::encode(key),
        }
    }
}

fn decode_key<K: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<K, DecodeError> {
    codec::decode(bytes, KEY_BYTES_MAX, "a key")
}

fn decode_value<V: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<V, DecodeError> {
    codec::decode(bytes, VALUE_BYTES_MAX, "a value")
}

/// The tree of a view. Reads and encodes all of it; [`update`] keeps one up to date for less.
pub fn tree(cloud: &Cloud) -> Tree {
    let mut tree = Tree::default();
    tree.apply(entries(cloud));
    tree
}

/// Makes the tree of an earlier view that of `cloud`. `changed` are the keys of what may have changed in
/// between ([`Table::key`]); more do no harm, and the fields that are no maps need not be named.
pub fn update(tree: &mut Tree, cloud: &Cloud, changed: impl IntoIterator<Item = Key>) {
    let keys = changed.into_iter().chain(field_keys());
    tree.apply(keys.map(|key| {
        let value = value(cloud, &key);
        (key, value)
    }));
}

/// The view that a tree is of, if it is one of `network`. Only what this build would have written itself is
/// taken: the tree of the view is the tree that was given.
pub fn load(tree: &Tree, network: NetworkId) -> Result<Cloud, LoadError> {
    let mut loading = Loading::default();
    for entry in tree.iter() {
        loading.take(entry)?;
    }
    let cloud = loading.into_cloud()?;
    if cloud.network == network {
        Ok(cloud)
    } else {
        Err(LoadError::OtherNetwork(cloud.network))
    }
}
