//! A network of a few nodes. The shell here does what the daemon's does (writes first), keeps what it wrote,
//! and lays what is sent on a heap until the test carries it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ledger::admit::Verify;
use ledger::command::accounts::OpenAccount;
use ledger::command::images::BuildImage;
use ledger::command::instances::{LaunchInstance, Shape};
use ledger::command::{Body, Command, SignedCommand};
use ledger::finality::witness::WitnessSet;
use ledger::genesis::{Genesis, Invitation, SignedInvitation};
use ledger::id::{BuildId, CommandId, Digest, InstanceId, NetworkId, NodeId};
use ledger::journal::JournalRecord;
use ledger::key::SecretKey;
use ledger::op::Op;
use ledger::replica;
use ledger::report::nodes::{AnnounceNode, Capacity, Roles};
use projections::outcome::Outcome;
use reactors::action::Action;
use reactors::me::Me;
use reactors::node::{
    Held, HostEvent, Input, Node, Output, Setup, SubmitError, Submitted, TICK_MS, Wait, certificate_frame,
};
use reactors::observed::HeldImage;
use vmm::spec::{Health, Restart, Workload};

/// When a test begins, in milliseconds since 1970.
pub(crate) const BEGIN_MS: u64 = 1_800_000_000_000;

const CAPACITY: Capacity = Capacity {
    vcpus: 4,
    memory_mib: 4096,
    disk_gib: 100,
};

const ALL: Roles = Roles {
    gateway: true,
    compute: true,
    builder: true,
    edge: true,
    witness: true,
};

/// Frames carried before a test counts as one that never comes to rest.
const FRAMES_MAX: usize = 100_000;

pub(crate) fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

pub(crate) fn id(number: u8) -> NodeId {
    secret(number).node_id()
}

pub(crate) fn admin() -> SecretKey {
    secret(250)
}

thread_local! {
    /// Each test has a thread of its own.
    static WITNESSES: RefCell<WitnessSet> = RefCell::default();
}

/// The networks that this test makes from now on have these witnesses; without, none.
pub(crate) fn witnessed_by(witnesses: WitnessSet) {
    WITNESSES.set(witnesses);
}

pub(crate) fn genesis(name: &str) -> Genesis {
    Genesis {
        name: name.into(),
        admins: vec![admin().public()],
        admins_needed: 1,
        witnesses: WITNESSES.with_borrow(Clone::clone),
        created_ms: BEGIN_MS - 1_000,
        salt: [9; 16],
    }
}

/// What lets a node into the network of a name. Node 1 began its network.
pub(crate) fn invitation(name: &str, number: u8) -> SignedInvitation {
    let peers = match number {
        1 => Vec::new(),
        _ => vec!["/ip4/10.0.0.1/udp/1/quic-v1".into()],
    };
    let invitation = Invitation {
        genesis: genesis(name),
        node: id(number),
        admin: admin().public(),
        peers,
    };
    invitation.sign(&admin())
}

/// A command; `key` and `nonce` tell it apart.
pub(crate) fn command(key: u8, nonce: u8, body: Body) -> SignedCommand {
    let secret = secret(key);
    let command = Command {
        key: secret.public(),
        nonce: [nonce; 16],
        not_after_ms: BEGIN_MS + 3_600_000,
        after: Vec::new(),
        body,
    };
    command.sign(genesis("home").network(), &secret)
}

/// The network of a name.
pub(crate) fn network(name: &str) -> NetworkId {
    genesis(name).network()
}

/// A command of the admin.
pub(crate) fn admin_command(nonce: u8, body: Body) -> SignedCommand {
    let command = Command {
        key: admin().public(),
        nonce: [nonce; 16],
        not_after_ms: BEGIN_MS + 3_600_000,
        after: Vec::new(),
        body,
    };
    command.sign(network("home"), &admin())
}

/// A command that opens an account.
pub(crate) fn open_account(key: u8, nonce: u8, name: &str) -> SignedCommand {
    command(key, nonce, OpenAccount { name: name.into() }.into())
}

/// What every instance of the tests runs.
pub(crate) const IMAGE: Digest = Digest([77; 32]);

const CONTEXT: Digest = Digest([66; 32]);

pub(crate) fn held_image() -> HeldImage {
    HeldImage {
        path: "/images/77".into(),
        workload: Workload {
            entrypoint: vec!["/bin/agent".into()],
            env: Vec::new(),
            workdir: "/".into(),
            restart: Restart {
                attempts: 3,
                backoff_ms: 500,
            },
            health: Health::Process,
        },
    }
}

/// A node and what its shell did for it.
pub(crate) struct Station {
    pub(crate) number: u8,
    pub(crate) node: Node,
    /// What its store holds, but for the ops.
    pub(crate) held: Held,
    /// The ops that its store holds.
    pub(crate) ops: Vec<Op>,
    pub(crate) journal: Vec<JournalRecord>,
    pub(crate) replies: BTreeMap<u64, Result<Submitted, SubmitError>>,
    pub(crate) actions: Vec<Action>,
    pub(crate) disconnected: Vec<(NodeId, String)>,
    /// What waits to be carried.
    pub(crate) sent: Vec<(NodeId, Vec<u8>)>,
}

impl Station {
    /// Does what a call gave: writes, then the rest.
    fn perform(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Persist(durable) => {
                    if !durable.certificates.is_empty() {
                        self.held.votes.clear();
                    }
                    self.held.certificates.extend(durable.certificates);
                    self.held.votes.extend(durable.votes);
                    self.held.forks.extend(durable.forks);
                    self.ops.extend(durable.ops);
                    self.journal.extend(durable.journal);
                }
                Output::Send { to, bytes } => self.sent.push((to, bytes)),
                Output::TellCertificates { to, from_height } => {
                    let stored = self.held.certificates.iter();
                    let from = stored.filter(|it| it.checkpoint.height >= from_height).take(8);
                    self.sent.extend(from.map(|it| (to, certificate_frame(it))));
                }
                Output::Disconnect { peer, why } => self.disconnected.push((peer, why)),
                Output::Reply { token, reply } => {
                    assert!(
                        self.replies.insert(token, reply).is_none(),
                        "token {token} was answered twice"
                    );
                }
                Output::Act(action) => self.actions.push(action),
            }
        }
    }

    pub(crate) fn give(&mut self, input: Input, now_ms: u64) {
        let outputs = self.node.handle(input, now_ms);
        self.perform(outputs);
    }

    pub(crate) fn submit(&mut self, token: u64, command: &SignedCommand, now_ms: u64) -> Submitted {
        self.give(submit(token, command), now_ms);
        self.replies
            .remove(&token)
            .expect("answered at once")
            .expect("taken")
    }

    /// Who is live as this node sees it, by number.
    pub(crate) fn sees_live(&self, now_ms: u64) -> Vec<u8> {
        (1..10)
            .filter(|number| self.node.observed().is_live(id(*number), now_ms))
            .collect()
    }

    pub(crate) fn knows(&self, command: CommandId) -> bool {
        self.node.cloud().commands.contains_key(&command)
    }

    /// How many ops of reports about the host stand in its log.
    pub(crate) fn appended(&self) -> u64 {
        self.node.replica().counters().appended
    }
}

pub(crate) fn submit(token: u64, command: &SignedCommand) -> Input {
    Input::Submit {
        token,
        command: command.bytes().to_vec(),
        id: command.id(),
        wait: Wait::Tentative,
    }
}

pub(crate) fn setup(number: u8, incarnation: u64, stored: impl Into<Held>, journal_next: u64) -> Setup {
    Setup {
        replica: replica::Setup {
            genesis: genesis("home"),
            invitation: invitation("home", number),
            secret: secret(number),
            incarnation,
            seed: [number; 32],
            verify: Verify::Real,
        },
        stored: stored.into(),
        journal_next,
        me: Me {
            node: id(number),
            roles: ALL,
            interface: Some("eth0".into()),
            resolvers: Vec::new(),
            capacity: CAPACITY,
            builds_max: 1,
        },
        announce: AnnounceNode {
            name: format!("node-{number}"),
            roles: ALL,
            addresses: vec![format!("/ip4/10.0.0.{number}/udp/1/quic-v1")],
            ipv4: vec![Ipv4Addr::new(10, 0, 0, number)],
            capacity: CAPACITY,
            payout: None,
        },
    }
}

/// Some nodes, a clock, and who is connected.
pub(crate) struct Net {
    pub(crate) now_ms: u64,
    pub(crate) stations: Vec<Station>,
    links: Vec<(u8, u8)>,
}

impl Net {
    /// Opens nodes 1 to `count`, by themselves.
    pub(crate) fn of(count: u8) -> Self {
        let stations = (1..=count).map(|number| open(number, 1, Held::default(), Vec::new(), BEGIN_MS));
        Self {
            now_ms: BEGIN_MS,
            stations: stations.collect(),
            links: Vec::new(),
        }
    }

    pub(crate) fn at(&mut self, number: u8) -> &mut Station {
        self.stations
            .iter_mut()
            .find(|station| station.number == number)
            .expect("it is in the test")
    }

    pub(crate) fn give(&mut self, number: u8, input: Input) {
        let now_ms = self.now_ms;
        self.at(number).give(input, now_ms);
    }

    /// Connects two nodes; nothing is carried yet.
    pub(crate) fn connect(&mut self, a: u8, b: u8) {
        self.links.push((a, b));
        self.give(a, Input::PeerUp(id(b)));
        self.give(b, Input::PeerUp(id(a)));
    }

    pub(crate) fn cut(&mut self, a: u8, b: u8) {
        self.links.retain(|link| *link != (a, b) && *link != (b, a));
        self.give(a, Input::PeerDown(id(b)));
        self.give(b, Input::PeerDown(id(a)));
    }

    fn joined(&self, a: u8, b: u8) -> bool {
        self.links.contains(&(a, b)) || self.links.contains(&(b, a))
    }

    /// Carries frames between connected nodes until none is left.
    pub(crate) fn carry(&mut self) {
        for _ in 0..FRAMES_MAX {
            let mut moved = Vec::new();
            for station in &mut self.stations {
                let from = station.number;
                moved.extend(station.sent.drain(..).map(|(to, bytes)| (from, to, bytes)));
            }
            if moved.is_empty() {
                return;
            }
            for (from, to, bytes) in moved {
                let receiver = self
                    .stations
                    .iter()
                    .map(|station| station.number)
                    .find(|number| id(*number) == to);
                if let Some(receiver) = receiver.filter(|receiver| self.joined(from, *receiver)) {
                    self.give(
                        receiver,
                        Input::Frame {
                            from: id(from),
                            bytes,
                        },
                    );
                }
            }
        }
        panic!("the nodes do not come to rest");
    }

    /// An instance of an image that all nodes hold, launched at node 1.
    pub(crate) fn launch(&mut self) -> InstanceId {
        self.launch_as(3)
    }

    /// As [`Self::launch`]; the nonce gives the instance another id, and so another place.
    pub(crate) fn launch_as(&mut self, nonce: u8) -> InstanceId {
        let numbers: Vec<u8> = self.stations.iter().map(|station| station.number).collect();
        for number in numbers {
            self.give(number, Input::Host(HostEvent::Known));
            self.give(
                number,
                Input::Host(HostEvent::Image {
                    digest: IMAGE,
                    image: held_image(),
                }),
            );
        }
        let build = BuildImage {
            name: "agent".into(),
            context: CONTEXT,
            context_bytes: 9,
            held_by: id(1),
        };
        let now_ms = self.now_ms;
        self.at(1).submit(1, &open_account(100, 1, "ann"), now_ms);
        let build = command(100, 2, build.into());
        assert_eq!(self.at(1).submit(2, &build, now_ms).outcome, Outcome::Applied);
        let build = BuildId::from(build.id());
        self.give(
            1,
            Input::Host(HostEvent::Built {
                build,
                result: Ok((IMAGE, 9)),
                took_ms: 1,
            }),
        );
        let launch = LaunchInstance {
            name: "agent".into(),
            agent: None,
            build,
            shape: Shape {
                vcpus: 1,
                memory_mib: 512,
                disk_gib: 2,
            },
            port: Some(8080),
        };
        let launch = command(100, nonce, launch.into());
        assert_eq!(self.at(1).submit(3, &launch, now_ms).outcome, Outcome::Applied);
        self.carry();
        InstanceId::from(launch.id())
    }

    /// Lets time pass with ticks, and carries what is sent.
    pub(crate) fn pass(&mut self, span_ms: u64) {
        let end_ms = self.now_ms + span_ms;
        while self.now_ms < end_ms {
            self.now_ms += TICK_MS;
            for number in self
                .stations
                .iter()
                .map(|station| station.number)
                .collect::<Vec<_>>()
            {
                self.give(number, Input::Tick);
            }
            self.carry();
        }
    }

    /// Ends a node as `kill -9` does, and opens it on what was durable.
    pub(crate) fn restart(&mut self, number: u8, incarnation: u64) {
        let others: Vec<u8> = self
            .stations
            .iter()
            .map(|station| station.number)
            .filter(|at| *at != number)
            .collect();
        for other in others {
            if self.joined(number, other) {
                self.links
                    .retain(|link| *link != (number, other) && *link != (other, number));
                self.give(other, Input::PeerDown(id(number)));
            }
        }
        let now_ms = self.now_ms;
        let station = self.at(number);
        let held = Held {
            ops: std::mem::take(&mut station.ops),
            ..std::mem::take(&mut station.held)
        };
        let journal = std::mem::take(&mut station.journal);
        *station = open(number, incarnation, held, journal, now_ms);
    }
}

fn open(number: u8, incarnation: u64, held: Held, journal: Vec<JournalRecord>, now_ms: u64) -> Station {
    let next = journal.last().map_or(0, |record| record.offset + 1);
    let (node, outputs) =
        Node::open(setup(number, incarnation, held.clone(), next), now_ms).expect("it opens");
    let mut station = Station {
        number,
        node,
        ops: held.ops.clone(),
        held: Held {
            ops: Vec::new(),
            ..held
        },
        journal,
        replies: BTreeMap::new(),
        actions: Vec::new(),
        disconnected: Vec::new(),
        sent: Vec::new(),
    };
    station.perform(outputs);
    station
}
