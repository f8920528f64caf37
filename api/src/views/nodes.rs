//! Nodes as people see them.

use std::net::Ipv4Addr;

use ledger::id::{AccountId, NodeId};
use ledger::report::nodes::{Capacity, Roles};
use projections::cloud::Cloud;
use projections::nodes::{Membership, Node};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::hex64;
use crate::door::Live;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeView {
    /// Its key.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// What it calls itself.
    pub name: Option<String>,
    /// Which parts run there.
    pub roles: Vec<Role>,
    /// Multiaddresses at which other nodes reach it.
    pub addresses: Vec<String>,
    /// IPv4 addresses at which its front door and DNS are reached.
    #[schema(value_type = Vec<String>)]
    pub ipv4: Vec<Ipv4Addr>,
    /// What it offers to machines in all.
    pub capacity: Option<CapacityView>,
    /// What its machines take, as it last said.
    pub used: Option<CapacityView>,
    /// How many instances are placed there.
    pub instances: u64,
    /// How it takes part, by the time of the last certificate.
    pub membership: MembershipWord,
    /// When its membership ends unless it is renewed, which it does by itself; by the time of certificates.
    pub lease_ends_ms: u64,
    /// The height of the checkpoint up to which what a revoked node wrote counts, if one was named.
    pub cutoff: Option<u64>,
    /// The account that gets what it charges.
    #[schema(value_type = Option<String>)]
    pub payout: Option<AccountId>,
    /// The answering node has heard of it lately.
    pub live: bool,
    /// When it last did.
    pub last_seen_ms: Option<u64>,
    /// Its newest start.
    pub incarnation: String,
    /// When its first chain was opened.
    pub joined_ms: u64,
    /// When its newest chain was opened.
    pub started_ms: u64,
}

/// A part of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Serves the API.
    Gateway,
    /// Runs machines.
    Compute,
    /// Builds images.
    Builder,
    /// Answers DNS and proxies.
    Edge,
    /// Is ready to certify, should the admins want it.
    Witness,
}

/// How a node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MembershipWord {
    /// What it says counts.
    Member,
    /// Its lease ended: the admins may reinstate it.
    Expired,
    /// The admins ended it.
    Revoked,
}

impl MembershipWord {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

impl From<Membership> for MembershipWord {
    fn from(membership: Membership) -> Self {
        match membership {
            Membership::Member => Self::Member,
            Membership::Expired => Self::Expired,
            Membership::Revoked => Self::Revoked,
        }
    }
}

impl Role {
    /// Those that are switched on.
    pub fn list(roles: Roles) -> Vec<Self> {
        [
            (roles.gateway, Self::Gateway),
            (roles.compute, Self::Compute),
            (roles.builder, Self::Builder),
            (roles.edge, Self::Edge),
            (roles.witness, Self::Witness),
        ]
        .into_iter()
        .filter_map(|(on, role)| on.then_some(role))
        .collect()
    }
}

/// What a node offers to machines, or what a set of machines takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapacityView {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in GiB.
    pub disk_gib: u64,
}

impl From<Capacity> for CapacityView {
    fn from(capacity: Capacity) -> Self {
        Self {
            vcpus: capacity.vcpus,
            memory_mib: capacity.memory_mib,
            disk_gib: capacity.disk_gib,
        }
    }
}

impl NodeView {
    /// The node as it stands in `cloud` and is seen now. `instances` is how many are placed there.
    pub fn new(cloud: &Cloud, live: &Live, node: &Node, instances: u64) -> Self {
        let announced = node.announced.as_ref();
        let seen = live.nodes.get(&node.id);
        Self {
            id: node.id,
            name: announced.map(|node| node.name.clone()),
            roles: announced.map(|node| Role::list(node.roles)).unwrap_or_default(),
            addresses: announced.map(|node| node.addresses.clone()).unwrap_or_default(),
            ipv4: announced.map(|node| node.ipv4.clone()).unwrap_or_default(),
            capacity: announced.map(|node| node.capacity.into()),
            used: seen.map(|seen| seen.used.into()),
            instances,
            membership: cloud
                .membership(node.id, cloud.finality.certified_ms())
                .map_or(MembershipWord::Member, Into::into),
            lease_ends_ms: node.lease_ends_ms(),
            cutoff: cloud.revocations.get(&node.id).and_then(|it| it.cutoff),
            payout: announced.and_then(|node| node.payout),
            live: seen.is_some_and(|seen| seen.live),
            last_seen_ms: seen.and_then(|seen| seen.last_seen_ms),
            incarnation: hex64(node.incarnation),
            joined_ms: node.joined.ms(),
            started_ms: node.started.ms(),
        }
    }

    /// How many instances are placed on each node.
    pub fn placed(cloud: &Cloud) -> std::collections::BTreeMap<NodeId, u64> {
        let mut placed = std::collections::BTreeMap::new();
        for placement in cloud
            .instances
            .values()
            .filter_map(|instance| instance.placement())
        {
            *placed.entry(placement.node).or_default() += 1;
        }
        placed
    }
}
