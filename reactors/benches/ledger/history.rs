//! A history of people's commands, each signed by its account, carried by one node that signs its ops; and the
//! frames by which a node hears of it.

use std::sync::OnceLock;

use ledger::admit::{Verify, command_checks};
use ledger::command::accounts::OpenAccount;
use ledger::command::agents::{RegisterAgent, Release};
use ledger::command::images::BuildImage;
use ledger::command::instances::{LaunchInstance, Shape, StopInstance};
use ledger::command::{Body, Command, SignedCommand};
use ledger::genesis::{Genesis, Invitation, SignedInvitation};
use ledger::id::{AgentId, BuildId, Digest, InstanceId, NetworkId, NodeId};
use ledger::key::{Check, SecretKey};
use ledger::op::Op;
use ledger::replica::{Output, Replica, Setup};
use ledger::report::Carry;
use ledger::sync::{Frame, Run};

/// When the history happens.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// Ops whose signatures the reference checks as one: two each, so 256.
const CHECKED_OPS: usize = 128;

pub(crate) fn secret(number: u64) -> SecretKey {
    SecretKey::from_seed(ledger::id::hash("ledger bench key", &[&number.to_le_bytes()]))
}

pub(crate) fn genesis() -> Genesis {
    Genesis {
        name: "bench".into(),
        admins: vec![secret(0).public()],
        admins_needed: 1,
        witnesses: Default::default(),
        created_ms: NOW_MS,
        salt: [1; 16],
    }
}

/// The network's id, made once: it is asked for in what is measured.
pub(crate) fn network() -> NetworkId {
    static NETWORK: OnceLock<NetworkId> = OnceLock::new();
    *NETWORK.get_or_init(|| genesis().network())
}

/// What one node wrote, with all that others need to take it in.
pub(crate) struct History {
    pub(crate) genesis: Genesis,
    pub(crate) author: NodeId,
    pub(crate) ops: Vec<Op>,
}

impl History {
    pub(crate) fn new(count: usize) -> Self {
        let genesis = genesis();
        let (mut author, first) = open(&genesis, 1, Vec::new(), NOW_MS);
        let mut ops = admitted(first);
        let mut people = People::new(genesis.clone(), author.node());
        while ops.len() < count {
            let command = people.next().bytes().to_vec();
            let carry = Carry { command };
            let (_, outputs) = author
                .append(vec![carry.into()], NOW_MS)
                .expect("the author's command is good");
            ops.extend(admitted(outputs));
        }
        ops.truncate(count);
        Self {
            genesis,
            author: author.node(),
            ops,
        }
    }

    /// The frames by which the author tells of its ops as they come: a run of one each.
    pub(crate) fn live(&self) -> Vec<Vec<u8>> {
        self.ops.iter().map(live).collect()
    }

    /// The signatures of the commands in some ops.
    pub(crate) fn of_commands(&self, ops: &[Op]) -> Vec<Check> {
        let network = self.genesis.network();
        ops.iter()
            .flat_map(|op| command_checks(network, op).expect("the commands are well formed"))
            .collect()
    }

    /// What a node that hears live ops has to check, in batches of the reference.
    pub(crate) fn live_checks(&self) -> Vec<Vec<Check>> {
        let batches = self.ops.chunks(CHECKED_OPS);
        batches
            .map(|ops| [ops.iter().filter_map(Op::check).collect(), self.of_commands(ops)].concat())
            .collect()
    }
}

fn live(op: &Op) -> Vec<u8> {
    let slot = op.slot();
    let run = Run {
        live: true,
        chain: slot.chain,
        first: slot.seq,
        previous: slot.previous,
        bodies: vec![op.bytes().to_vec()],
        signature: op.signature().expect("an own op is signed"),
    };
    Frame::Run(run).encode()
}

pub(crate) fn invitation(genesis: &Genesis, number: u64) -> SignedInvitation {
    let invitation = Invitation {
        genesis: genesis.clone(),
        node: secret(number).node_id(),
        admin: secret(0).public(),
        peers: Vec::new(),
    };
    invitation.sign(&secret(0))
}

pub(crate) fn setup(genesis: &Genesis, number: u64) -> Setup {
    Setup {
        genesis: genesis.clone(),
        invitation: invitation(genesis, number),
        secret: secret(number),
        incarnation: number,
        seed: [number as u8; 32],
        verify: Verify::Real,
    }
}

/// A node that begins with these ops, and what it says at once.
pub(crate) fn open(genesis: &Genesis, number: u64, stored: Vec<Op>, now_ms: u64) -> (Replica, Vec<Output>) {
    Replica::open(setup(genesis, number), stored, now_ms).expect("the invitation is good")
}

pub(crate) fn admitted(outputs: Vec<Output>) -> Vec<Op> {
    let ops = outputs.into_iter().filter_map(|output| match output {
        Output::Admitted(ops) => Some(ops),
        _ => None,
    });
    ops.flatten().collect()
}

/// People who come one after the other: each opens an account, builds, registers, launches and stops.
pub(crate) struct People {
    genesis: Genesis,
    node: NodeId,
    made: u64,
    build: BuildId,
    agent: AgentId,
    last: InstanceId,
    key: SecretKey,
}

impl People {
    /// Commands of one person.
    const EACH: u64 = 16;

    pub(crate) fn new(genesis: Genesis, node: NodeId) -> Self {
        let (build, agent, last) = (BuildId([0; 32]), AgentId([0; 32]), InstanceId([0; 32]));
        Self {
            genesis,
            node,
            made: 0,
            build,
            agent,
            last,
            key: secret(1_000),
        }
    }

    pub(crate) fn next(&mut self) -> SignedCommand {
        let (person, step) = (self.made / Self::EACH, self.made % Self::EACH);
        self.made += 1;
        if step == 0 {
            self.key = secret(1_000 + person);
        }
        let key = self.key.clone();
        let body = self.body(person, step);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.made.to_le_bytes());
        let not_after_ms = NOW_MS + 3_600_000;
        let command = Command {
            key: key.public(),
            nonce,
            not_after_ms,
            after: Vec::new(),
            body,
        };
        let command = command.sign(self.genesis.network(), &key);
        match step {
            1 => self.build = command.id().into(),
            2 => self.agent = command.id().into(),
            _ => self.last = command.id().into(),
        }
        command
    }

    pub(crate) fn body(&self, person: u64, step: u64) -> Body {
        let shape = Shape {
            vcpus: 1,
            memory_mib: 512,
            disk_gib: 4,
        };
        match step {
            0 => OpenAccount {
                name: format!("person-{person}"),
            }
            .into(),
            1 => BuildImage {
                name: "image".into(),
                context: Digest(ledger::id::hash("ledger bench context", &[&person.to_le_bytes()])),
                context_bytes: 4096,
                held_by: self.node,
            }
            .into(),
            2 => {
                let release = Release {
                    description: "an agent".into(),
                    build: self.build,
                    shape,
                    port: Some(8000),
                };
                RegisterAgent {
                    name: format!("agent-{person}"),
                    release,
                }
                .into()
            }
            step if step % 2 == 1 => LaunchInstance {
                name: format!("web-{step}"),
                agent: Some(self.agent),
                build: self.build,
                shape,
                port: Some(8000),
            }
            .into(),
            _ => StopInstance { instance: self.last }.into(),
        }
    }
}
