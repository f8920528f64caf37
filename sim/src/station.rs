//! A node's place in a run: what is there while the node is down too.

use std::net::Ipv4Addr;

use anyhow::Result;
use ledger::admit::Verify;
use ledger::genesis::{Genesis, Invitation, SignedInvitation};
use ledger::id::NodeId;
use ledger::key::SecretKey;
use ledger::report::nodes::{AnnounceNode, Capacity, Roles};
use reactors::me::Me;
use reactors::node::{Node, Output, Setup};

use crate::chance::Chance;
use crate::disk::Disk;
use crate::host::{Host, Mishaps};
use crate::options::Options;

/// Simulated time begins here, in milliseconds since 1970: any fixed moment will do.
pub const EPOCH_MS: u64 = 1_800_000_000_000;

/// A node's place.
pub struct Station {
    /// Its key's public half.
    pub id: NodeId,
    secret: SecretKey,
    invitation: SignedInvitation,
    index: usize,
    roles: Roles,
    vcpus: u32,
    skew_ms: i64,
    /// The node, while its process runs.
    pub node: Option<Node>,
    /// Counts starts of the process: what was meant for an earlier one does not reach it.
    pub life: u64,
    /// When the node is to be woken next, in simulated time.
    pub wakes_ms: u64,
    /// Counts losses of the host's power.
    pub power: u64,
    /// Its disk.
    pub disk: Disk,
    /// Its host.
    pub host: Host,
    /// It crashes at its next write.
    pub doomed: bool,
    /// It is down for good.
    pub lost: bool,
}

impl Station {
    /// The place of a node of a run.
    pub fn new(
        index: usize,
        secret: SecretKey,
        genesis: &Genesis,
        admin: &SecretKey,
        options: &Options,
        chance: &mut Chance,
    ) -> Self {
        let id = secret.node_id();
        let invitation = Invitation {
            genesis: genesis.clone(),
            node: id,
            admin: admin.public(),
            // The first begins the network; the others are let in by it.
            peers: if index == 0 { Vec::new() } else { vec![address(0)] },
        };
        let mut has = || index == 0 || !options.mixed_roles || chance.permille(600);
        let roles = Roles {
            gateway: has(),
            compute: has(),
            builder: has(),
            edge: has(),
            witness: true,
        };
        let skew = options.skew_max_ms;
        let mishaps = Mishaps {
            failures_permille: options.failures_permille,
            exits_permille: options.exits_permille,
        };
        Self {
            id,
            secret,
            invitation: invitation.sign(admin),
            index,
            roles,
            vcpus: options.vcpus,
            skew_ms: chance.between(0, 2 * skew) as i64 - skew as i64,
            node: None,
            life: 0,
            wakes_ms: 0,
            power: 0,
            disk: Disk::default(),
            host: Host::new(mishaps, chance.fork()),
            doomed: false,
            lost: false,
        }
    }

    /// Whether its process runs.
    pub fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// Which parts run here.
    pub fn roles(&self) -> Roles {
        self.roles
    }

    /// What its clock shows.
    pub fn clock(&self, now_ms: u64) -> u64 {
        (EPOCH_MS + now_ms).saturating_add_signed(self.skew_ms)
    }

    /// Starts the process on what the disk holds; gives what it has to do first.
    pub fn open(
        &mut self,
        genesis: &Genesis,
        verify: Verify,
        now_ms: u64,
        chance: &mut Chance,
    ) -> Result<Vec<Output>> {
        self.life += 1;
        let capacity = Capacity {
            vcpus: self.vcpus,
            memory_mib: 8 * 1024,
            disk_gib: 200,
        };
        let setup = Setup {
            replica: ledger::replica::Setup {
                genesis: genesis.clone(),
                invitation: self.invitation.clone(),
                secret: self.secret.clone(),
                incarnation: chance.draw(),
                seed: chance.bytes(),
                verify,
            },
            stored: self.disk.held(),
            journal_next: self.disk.journal_next(),
            me: Me {
                node: self.id,
                roles: self.roles,
                interface: Some("eth0".into()),
                resolvers: Vec::new(),
                capacity,
                builds_max: 1,
            },
            announce: AnnounceNode {
                name: format!("node-{}", self.index),
                roles: self.roles,
                addresses: vec![address(self.index)],
                ipv4: vec![Ipv4Addr::new(10, 0, 0, self.index as u8 + 1)],
                capacity,
                payout: None,
            },
        };
        let (node, outputs) = Node::open(setup, self.clock(now_ms))?;
        self.node = Some(node);
        Ok(outputs)
    }
}

fn address(index: usize) -> String {
    format!("/ip4/10.0.0.{}/udp/1/quic-v1", index + 1)
}
