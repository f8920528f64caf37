//! All views at one position of the log: immutable, cheap to clone, safe to share.

use imbl::OrdMap;
use ledger::clock::Hlc;
use ledger::genesis::Genesis;
use ledger::id::{AccountId, ActId, AgentId, BuildId, CommandId, HoldId, InstanceId, NetworkId, NodeId};
use ledger::key::PublicKey;
use ledger::op::Chain;
use ledger::vector::Head;
use serde::{Deserialize, Serialize};

use crate::accounts::Account;
use crate::admin::{self, ActRecord, Admin, Charter};
use crate::agents::Agent;
use crate::credits::{Hold, Right};
use crate::domains::Domain;
use crate::finality::Finality;
use crate::images::Build;
use crate::instances::Instance;
use crate::keys::Key;
use crate::kinds::Activation;
use crate::nodes::Node;
use crate::outcome::CommandRecord;
use crate::revocations::Revocation;

/// How much of the log a view has folded. Ops that are denied (a fork's, a revoked node's) are not in it, so
/// it is the same on every node that folded the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Ops folded.
    pub ops: u64,
    /// The greatest clock among them.
    pub hlc: Hlc,
}

/// Everything that is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloud {
    /// The network.
    pub network: NetworkId,
    /// Its beginning.
    pub genesis: Genesis,
    /// How much of the log this view has folded.
    pub position: Position,
    /// How far it is final.
    pub finality: Finality,
    /// Accounts by id.
    pub accounts: OrdMap<AccountId, Account>,
    /// Which account a name belongs to.
    pub account_names: OrdMap<String, AccountId>,
    /// Keys that sign for an account, or did.
    pub keys: OrdMap<PublicKey, Key>,
    /// Nodes by key.
    pub nodes: OrdMap<NodeId, Node>,
    /// Agents by id.
    pub agents: OrdMap<AgentId, Agent>,
    /// Which agent a name belongs to.
    pub agent_names: OrdMap<String, AgentId>,
    /// Builds by id.
    pub builds: OrdMap<BuildId, Build>,
    /// Instances by id. A deleted one stays, marked so, until the node that held it says that nothing is
    /// left; then it goes.
    pub instances: OrdMap<InstanceId, Instance>,
    /// Which live instance an account calls by a name.
    pub instance_names: OrdMap<(AccountId, String), InstanceId>,
    /// Claimed domain names.
    pub domains: OrdMap<String, Domain>,
    /// Every command seen, with what became of it.
    pub commands: OrdMap<CommandId, CommandRecord>,
    /// Which command used a key's nonce.
    pub nonces: OrdMap<(PublicKey, [u8; 16]), CommandId>,
    /// All credits ever minted; one number.
    pub supply: OrdMap<(), u64>,
    /// What accounts have, in the smallest unit; none that has nothing. [`Cloud::balance`] also counts what
    /// has expired.
    pub balances: OrdMap<AccountId, u64>,
    /// What an account has granted to one start of a node.
    pub rights: OrdMap<(AccountId, NodeId, u64), Right>,
    /// Holds by id.
    pub holds: OrdMap<HoldId, Hold>,
    /// Holds of an account by when they expire.
    pub holds_by_expiry: OrdMap<(AccountId, u64, HoldId), ()>,
    /// How far each chain is final.
    pub certified: OrdMap<Chain, Head>,
    /// Nodes whose membership the admins ended.
    pub revocations: OrdMap<NodeId, Revocation>,
    /// Used nonces by the time after which their commands could not count again, in milliseconds since 1970.
    pub nonce_ends: OrdMap<(u64, PublicKey, [u8; 16]), ()>,
    /// The keys of each account.
    pub account_keys: OrdMap<(AccountId, PublicKey), ()>,
    /// The network's admins.
    pub admins: OrdMap<PublicKey, Admin>,
    /// What the admins have settled: one row, under the network's id.
    pub charters: OrdMap<NetworkId, Charter>,
    /// Acts of the admins that wait, and those done whose approvals could still come.
    pub acts: OrdMap<ActId, ActRecord>,
    /// Kinds and versions that the admins made count.
    pub activations: OrdMap<(u16, u8), Activation>,
}

impl Cloud {
    /// The view before the first op.
    pub fn new(genesis: Genesis) -> Self {
        Self {
            network: genesis.network(),
            finality: Finality::before_all(&genesis),
            position: Position::default(),
            accounts: OrdMap::new(),
            account_names: OrdMap::new(),
            keys: OrdMap::new(),
            nodes: OrdMap::new(),
            agents: OrdMap::new(),
            agent_names: OrdMap::new(),
            builds: OrdMap::new(),
            instances: OrdMap::new(),
            instance_names: OrdMap::new(),
            domains: OrdMap::new(),
            commands: OrdMap::new(),
            nonces: OrdMap::new(),
            supply: OrdMap::new(),
            balances: OrdMap::new(),
            rights: OrdMap::new(),
            holds: OrdMap::new(),
            holds_by_expiry: OrdMap::new(),
            certified: OrdMap::new(),
            revocations: OrdMap::new(),
            nonce_ends: OrdMap::new(),
            account_keys: OrdMap::new(),
            admins: admin::admins_of(&genesis),
            charters: OrdMap::unit(genesis.network(), admin::charter_of(&genesis)),
            acts: OrdMap::new(),
            activations: OrdMap::new(),
            genesis,
        }
    }

    /// BLAKE3 of the canonical bytes of the whole view: equal on every node that folded the same ops. It
    /// reads everything; meant for `form status` and for tests.
    pub fn state_hash(&self) -> [u8; 32] {
        ledger::id::hash("formation 2026 state v1", &[&ledger::codec::encode(self)])
    }
}
