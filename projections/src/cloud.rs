//! All views at one position of the log: immutable, cheap to clone, safe to share.

use imbl::OrdMap;
use ledger::clock::Hlc;
use ledger::genesis::Genesis;
use ledger::id::{AccountId, AgentId, BuildId, CommandId, InstanceId, NetworkId, NodeId};
use ledger::key::PublicKey;
use ledger::op::Chain;
use ledger::vector::Head;
use serde::{Deserialize, Serialize};

use crate::accounts::Account;
use crate::agents::Agent;
use crate::domains::Domain;
use crate::finality::Finality;
use crate::images::Build;
use crate::instances::Instance;
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
    /// Which account a key signs for.
    pub keys: OrdMap<PublicKey, AccountId>,
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
    /// How far each chain is final.
    pub certified: OrdMap<Chain, Head>,
    /// Nodes whose membership the admins ended.
    pub revocations: OrdMap<NodeId, Revocation>,
}

impl Cloud {
    /// The view before the first op.
    pub fn new(genesis: Genesis) -> Self {
        Self {
            network: genesis.network(),
            finality: Finality::before_all(&genesis),
            genesis,
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
            certified: OrdMap::new(),
            revocations: OrdMap::new(),
        }
    }

    /// BLAKE3 of the canonical bytes of the whole view: equal on every node that folded the same ops. It
    /// reads everything; meant for `form status` and for tests.
    pub fn state_hash(&self) -> [u8; 32] {
        ledger::id::hash("formation 2026 state v1", &[&ledger::codec::encode(self)])
    }
}
