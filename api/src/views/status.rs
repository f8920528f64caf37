//! How a node is, which network it is in, and what a check of its log found.

use std::collections::BTreeMap;

use ledger::genesis::Genesis;
use ledger::id::{NetworkId, NodeId, OpId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PositionView;
use super::nodes::Role;

/// How the answering node is: what it says of itself, and its view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// What it says of itself.
    pub node: NodeStatus,
    /// The network that it is in.
    #[schema(value_type = String)]
    pub network: NetworkId,
    /// The network's name.
    pub network_name: String,
    /// How much of the log is folded.
    pub position: PositionView,
    /// Hash of the whole view at that position: equal on all nodes that folded the same ops.
    pub state_hash: String,
    /// How many of each thing there are.
    pub counts: Counts,
}

/// How many of each thing there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counts {
    /// Accounts.
    pub accounts: u64,
    /// Nodes.
    pub nodes: u64,
    /// Agents.
    pub agents: u64,
    /// Builds.
    pub builds: u64,
    /// Instances, those on their way out included.
    pub instances: u64,
    /// Claimed names.
    pub domains: u64,
    /// Commands seen.
    pub commands: u64,
}

/// What a node says of itself. The composition root fills it in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeStatus {
    /// Its key.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// What it calls itself.
    pub name: String,
    /// Version of its program.
    pub version: String,
    /// Its present start: sixteen hexadecimal digits.
    pub incarnation: String,
    /// Which parts are switched on.
    pub roles: Vec<Role>,
    /// Since it started.
    pub uptime_ms: u64,
    /// Why it cannot serve yet or any more, one line each; empty when it can.
    pub not_ready: Vec<String>,
    /// Addresses that it listens at, by what listens (`api`, `gossip`, `dns`, `proxy`).
    pub listens: BTreeMap<String, Vec<String>>,
    /// The other nodes that it knows of.
    pub peers: Vec<PeerView>,
    /// How it runs machines; none where it runs none.
    pub driver: Option<DriverReport>,
    /// What it counted since it started: by part, then by what.
    pub counters: BTreeMap<String, BTreeMap<String, u64>>,
}

/// Another node, as the answering one sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Its key.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// What it calls itself.
    pub name: Option<String>,
    /// The address that is in use or was last tried.
    pub address: Option<String>,
    /// There is a connection.
    pub connected: bool,
    /// When something last came from it.
    pub last_seen_ms: Option<u64>,
}

/// How a node runs machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DriverReport {
    /// The driver that serves.
    pub driver: String,
    /// What carries out the guest's instructions: `kvm` or `tcg`.
    pub accelerator: String,
    /// Why these.
    pub why: String,
}

/// What every node of a network agrees on before the first op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkView {
    /// Hash of what follows.
    #[schema(value_type = String)]
    pub id: NetworkId,
    /// For people.
    pub name: String,
    /// Keys that may invite nodes.
    pub admins: Vec<String>,
    /// How many of them have to agree to change what concerns all.
    pub admins_needed: u8,
    /// Nodes that certify checkpoints to begin with, each with the weight of its vote.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub witnesses: BTreeMap<NodeId, u32>,
    /// When it began.
    pub created_ms: u64,
    /// Random: 32 hexadecimal digits.
    pub salt: String,
}

impl From<&Genesis> for NetworkView {
    fn from(genesis: &Genesis) -> Self {
        Self {
            id: genesis.network(),
            name: genesis.name.clone(),
            admins: genesis.admins.iter().map(ToString::to_string).collect(),
            admins_needed: genesis.admins_needed,
            witnesses: genesis.witnesses.iter().map(|it| (it.node, it.weight)).collect(),
            created_ms: genesis.created_ms,
            salt: data_encoding::HEXLOWER.encode(&genesis.salt),
        }
    }
}

/// What a check of the whole log found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyReport {
    /// Ops read.
    pub ops: u64,
    /// Chains that they are in.
    pub chains: u64,
    /// Commands that they carry.
    pub commands: u64,
    /// Signatures checked, of ops and of commands.
    pub signatures: u64,
    /// How long it took.
    pub took_ms: u64,
    /// How many faults there are in all.
    pub faults: u64,
    /// The first of them.
    pub first_faults: Vec<VerifyFault>,
}

/// Faults that a report names.
pub const VERIFY_FAULTS_MAX: usize = 100;

/// Something in the log that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyFault {
    /// The op.
    #[schema(value_type = Option<String>)]
    pub op: Option<OpId>,
    /// What does not hold.
    pub what: String,
}

/// Whether a node can serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReadyView {
    /// It can.
    pub ready: bool,
    /// Why not, one line each.
    pub why: Vec<String>,
}
