//! What the tests play with: a network's beginning, keys by number, an author who writes ops by hand, and a
//! wire between replicas that loses, repeats and reorders frames in virtual time.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses its part of the scene"
)]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod forker;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use ledger::admit::Verify;
use ledger::clock::Hlc;
use ledger::command::accounts::OpenAccount;
use ledger::command::{self, Command};
use ledger::entry::Entry;
use ledger::genesis::{Genesis, Invitation, SignedInvitation};
use ledger::id::{NetworkId, NodeId, OpId};
use ledger::key::SecretKey;
use ledger::op::{Body, Chain, Dependency, Op, Slot};
use ledger::replica::{Output, Replica, Setup, Stored};
use ledger::report::nodes::OpenChain;
use ledger::report::{Carry, Report};
use ledger::sync::{Frame, Run};

/// When the scenes begin, in milliseconds.
pub const START_MS: u64 = 1_800_000_000_000;

pub fn secret(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

pub fn node(number: u8) -> NodeId {
    secret(number).node_id()
}

pub fn admin() -> SecretKey {
    secret(255)
}

pub fn genesis() -> Genesis {
    Genesis {
        name: "scene".into(),
        admins: vec![admin().public()],
        admins_needed: 1,
        witnesses: Default::default(),
        created_ms: START_MS - 1000,
        salt: [9; 16],
    }
}

pub fn network() -> NetworkId {
    genesis().network()
}

pub fn invitation(number: u8) -> SignedInvitation {
    let invitation = Invitation {
        genesis: genesis(),
        node: node(number),
        admin: admin().public(),
        peers: Vec::new(),
    };
    invitation.sign(&admin())
}

pub fn setup(number: u8, incarnation: u64, verify: Verify) -> Setup {
    Setup {
        genesis: genesis(),
        invitation: invitation(number),
        secret: secret(number),
        incarnation,
        seed: [number; 32],
        verify,
    }
}

pub fn open(number: u8, incarnation: u64, stored: Vec<Op>) -> (Replica, Vec<Output>) {
    Replica::open(setup(number, incarnation, Verify::Real), stored, START_MS).unwrap()
}

/// A command that opens an account, told apart by `nonce`.
pub fn carry(nonce: u64) -> Carry {
    let key = secret(200);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    let body = command::Body::from(OpenAccount {
        name: format!("account-{nonce}"),
    });
    let not_after_ms = START_MS + 1000;
    let command = Command {
        key: key.public(),
        nonce: bytes,
        not_after_ms,
        after: Vec::new(),
        body,
    };
    Carry {
        command: command.sign(network(), &key).bytes().to_vec(),
    }
}

/// A small report: its content does not matter to the ledger.
pub fn report(text: &str) -> Report {
    use ledger::id::BuildId;
    use ledger::report::images::ImageFailed;
    ImageFailed {
        build: BuildId([1; 32]),
        reason: text.into(),
    }
    .into()
}

pub fn opening(number: u8) -> Entry {
    let invitation = invitation(number).bytes().to_vec();
    Report::from(OpenChain {
        invitation,
        before: None,
    })
    .to_entry()
}

/// Writes a chain by hand, also a wrong one.
pub struct Author {
    pub secret: SecretKey,
    pub chain: Chain,
    pub seq: u64,
    pub previous: OpId,
    pub hlc: Hlc,
}

impl Author {
    pub fn new(number: u8) -> Self {
        let chain = Chain {
            node: node(number),
            incarnation: 7,
        };
        Self {
            secret: secret(number),
            chain,
            seq: 0,
            previous: OpId([0; 32]),
            hlc: Hlc::at_ms(START_MS),
        }
    }

    /// An author who has written the opening op.
    pub fn opened(number: u8) -> (Self, Op) {
        let mut author = Self::new(number);
        let op = author.write(vec![], vec![opening(number)]);
        (author, op)
    }

    /// The next op, without taking note of it.
    pub fn draft(&self, dependencies: Vec<Dependency>, entries: Vec<Entry>) -> Op {
        let slot = Slot {
            chain: self.chain,
            seq: self.seq,
            previous: self.previous,
        };
        Op::sign(
            network(),
            slot,
            Body {
                hlc: self.hlc,
                dependencies,
                entries,
            },
            &self.secret,
        )
    }

    pub fn write(&mut self, dependencies: Vec<Dependency>, entries: Vec<Entry>) -> Op {
        let op = self.draft(dependencies, entries);
        self.seq += 1;
        self.previous = op.id();
        self.hlc = Hlc(self.hlc.0 + 1);
        op
    }

    pub fn say(&mut self, text: &str) -> Op {
        self.write(vec![], vec![report(text).to_entry()])
    }
}

/// The frame that brings successive ops of a chain, the last of which is signed.
pub fn run_of(ops: &[Op], live: bool) -> Run {
    let first = ops.first().unwrap();
    Run {
        live,
        chain: first.slot().chain,
        first: first.slot().seq,
        previous: first.slot().previous,
        bodies: ops.iter().map(|op| op.bytes().to_vec()).collect(),
        signature: ops.last().unwrap().signature().unwrap(),
    }
}

pub fn run(ops: &[Op]) -> Vec<u8> {
    Frame::Run(run_of(ops, false)).encode()
}

pub fn live(op: &Op) -> Vec<u8> {
    Frame::Run(run_of(std::slice::from_ref(op), true)).encode()
}

pub fn admitted(outputs: &[Output]) -> Vec<Op> {
    let of = |output: &Output| match output {
        Output::Admitted(ops) => ops.clone(),
        _ => Vec::new(),
    };
    outputs.iter().flat_map(of).collect()
}

pub fn disconnected(outputs: &[Output]) -> Option<String> {
    outputs.iter().find_map(|output| match output {
        Output::Disconnect { why, .. } => Some(why.to_string()),
        _ => None,
    })
}

/// A number stream for the wire's mischief.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % sides
    }
}

/// What the wire does to frames, in percent.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    pub lose: u64,
    pub repeat: u64,
    pub late: u64,
}

pub const CALM: Weather = Weather {
    lose: 0,
    repeat: 0,
    late: 0,
};

/// Replicas and the frames between them, in virtual time.
pub struct Wire {
    pub now_ms: u64,
    pub dice: Dice,
    pub weather: Weather,
    pub replicas: BTreeMap<NodeId, Replica>,
    /// (when it arrives, number, from, to, frame)
    flying: BTreeSet<(u64, u64, NodeId, NodeId, Vec<u8>)>,
    sent: u64,
    pub bytes: u64,
    pub frames: u64,
    links: BTreeSet<(NodeId, NodeId)>,
    /// What each admitted so far: to check that every op comes once and after what it depends on.
    seen: BTreeMap<NodeId, HashSet<Dependency>>,
    pub disconnects: Vec<String>,
    /// What a shell would have stored of each.
    pub disks: BTreeMap<NodeId, Stored>,
    /// Who was found alive twice, and where.
    pub twins: Vec<(NodeId, Chain)>,
    /// How often ops left the log of each.
    pub quarantines: BTreeMap<NodeId, usize>,
}

pub const DELAY_MS: u64 = 10;

impl Wire {
    pub fn new(seed: u64) -> Self {
        Self {
            now_ms: START_MS,
            dice: Dice(seed),
            weather: CALM,
            replicas: BTreeMap::new(),
            flying: BTreeSet::new(),
            sent: 0,
            bytes: 0,
            frames: 0,
            links: BTreeSet::new(),
            seen: BTreeMap::new(),
            disconnects: Vec::new(),
            disks: BTreeMap::new(),
            twins: Vec::new(),
            quarantines: BTreeMap::new(),
        }
    }

    pub fn join(&mut self, number: u8, verify: Verify) -> NodeId {
        self.open(setup(number, 1, verify), Vec::new())
    }

    pub fn open(&mut self, setup: Setup, stored: impl Into<Stored>) -> NodeId {
        let stored: Stored = stored.into();
        let seen = stored.ops.iter().map(|op| op.id().into()).collect();
        self.disks.insert(setup.secret.node_id(), stored.clone());
        let (replica, outputs) = Replica::open(setup, stored, self.now_ms).unwrap();
        let id = replica.node();
        self.seen.insert(id, seen);
        self.replicas.insert(id, replica);
        self.take(id, outputs);
        id
    }

    pub fn link(&mut self, a: NodeId, b: NodeId) {
        self.links.insert((a, b));
        self.links.insert((b, a));
        for (one, other) in [(a, b), (b, a)] {
            let outputs = self.replicas.get_mut(&one).unwrap().peer_up(other, self.now_ms);
            self.take(one, outputs);
        }
    }

    /// Connects a peer that is no replica: it hears nothing and says what it is told to.
    pub fn link_ghost(&mut self, ghost: NodeId, at: NodeId) {
        self.links.insert((ghost, at));
        let outputs = self.replicas.get_mut(&at).unwrap().peer_up(ghost, self.now_ms);
        self.take(at, outputs);
    }

    /// Gives a frame to a replica at once.
    pub fn give(&mut self, from: NodeId, at: NodeId, frame: &[u8]) {
        let outputs = self
            .replicas
            .get_mut(&at)
            .unwrap()
            .receive(from, frame, self.now_ms);
        self.take(at, outputs);
    }

    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        for (one, other) in [(a, b), (b, a)] {
            self.links.remove(&(one, other));
            let outputs = self.replicas.get_mut(&one).unwrap().peer_down(other, self.now_ms);
            self.take(one, outputs);
        }
        self.flying
            .retain(|(_, _, from, to, _)| (*from, *to) != (a, b) && (*from, *to) != (b, a));
    }

    pub fn append(&mut self, at: NodeId, reports: Vec<Report>) -> OpId {
        let (id, outputs) = self
            .replicas
            .get_mut(&at)
            .unwrap()
            .append(reports, self.now_ms)
            .unwrap();
        self.take(at, outputs);
        id
    }

    pub fn take(&mut self, at: NodeId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, frame } => self.send(at, to, frame),
                Output::Admitted(ops) => {
                    let seen = self.seen.get_mut(&at).unwrap();
                    for op in ops {
                        let before = (op.slot().seq > 0).then(|| op.slot().previous.into());
                        let log = self.replicas.get(&at).map(Replica::log);
                        for named in before.iter().chain(&op.body().dependencies) {
                            let void = log.is_some_and(|log| log.is_void(named));
                            assert!(
                                void || seen.contains(named),
                                "{:?} came before {named:?}",
                                op.id()
                            );
                        }
                        assert!(seen.insert(op.id().into()), "{:?} came twice", op.id());
                        self.disks.get_mut(&at).unwrap().ops.push(op);
                    }
                }
                Output::Forked(proof) => {
                    let forks = &mut self.disks.get_mut(&at).unwrap().forks;
                    forks.retain(|known| known.chain != proof.chain);
                    forks.push(proof);
                }
                Output::Quarantined { chain, from_seq, ops } => {
                    *self.quarantines.entry(at).or_default() += 1;
                    let seen = self.seen.get_mut(&at).unwrap();
                    for op in &ops {
                        assert!(op.slot().chain == chain && op.slot().seq >= from_seq);
                        assert!(seen.remove(&op.id().into()), "{:?} was not there", op.id());
                    }
                    let disk = self.disks.get_mut(&at).unwrap();
                    let gone = |op: &Op| op.slot().chain == chain && op.slot().seq >= from_seq;
                    assert_eq!(disk.ops.iter().filter(|op| gone(op)).count(), ops.len());
                    disk.ops.retain(|op| !gone(op));
                    disk.void.extend(ops);
                }
                Output::Void(ops) => self.disks.get_mut(&at).unwrap().void.extend(ops),
                Output::AliveTwice { other } => self.twins.push((at, other)),
                Output::Disconnect { peer, why } => {
                    self.links.remove(&(at, peer));
                    self.disconnects.push(format!("{at:?} drops {peer:?}: {why}"));
                }
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, frame: Vec<u8>) {
        if !self.links.contains(&(from, to)) {
            return;
        }
        self.frames += 1;
        self.bytes += frame.len() as u64;
        if self.dice.roll(100) < self.weather.lose {
            return;
        }
        let copies = if self.dice.roll(100) < self.weather.repeat {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let late = if self.dice.roll(100) < self.weather.late {
                self.dice.roll(1000)
            } else {
                0
            };
            self.sent += 1;
            self.flying
                .insert((self.now_ms + DELAY_MS + late, self.sent, from, to, frame.clone()));
        }
    }

    /// Lets time pass.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 1;
            while self.flying.first().is_some_and(|frame| frame.0 <= self.now_ms) {
                let (_, _, from, to, frame) = self.flying.pop_first().unwrap();
                if self.links.contains(&(from, to)) {
                    let Some(replica) = self.replicas.get_mut(&to) else {
                        continue;
                    };
                    let outputs = replica.receive(from, &frame, self.now_ms);
                    self.take(to, outputs);
                }
            }
            if self.now_ms.is_multiple_of(200) {
                for id in self.replicas.keys().copied().collect::<Vec<_>>() {
                    let outputs = self.replicas.get_mut(&id).unwrap().tick(self.now_ms);
                    self.take(id, outputs);
                }
            }
        }
    }

    fn is_level(&self, nodes: &[NodeId]) -> bool {
        let root = |node| {
            let replica: &Replica = &self.replicas[node];
            (replica.log().vector().root(), replica.forks_root())
        };
        let mut roots = nodes.iter().map(root);
        let first = roots.next();
        roots.all(|root| Some(root) == first)
    }

    /// Lets time pass until all hold the same; gives how long it took.
    pub fn settle(&mut self, limit_ms: u64) -> u64 {
        let nodes: Vec<NodeId> = self.replicas.keys().copied().collect();
        self.settle_among(&nodes, limit_ms)
    }

    /// Lets time pass until these hold the same; gives how long it took.
    pub fn settle_among(&mut self, nodes: &[NodeId], limit_ms: u64) -> u64 {
        let start = self.now_ms;
        while !self.is_level(nodes) {
            assert!(
                self.now_ms < start + limit_ms,
                "not level after {limit_ms} ms: {}",
                self.describe()
            );
            self.pass(DELAY_MS);
        }
        self.now_ms - start
    }

    pub fn describe(&self) -> String {
        let of = |replica: &Replica| {
            format!(
                "{:?}: {} ops, {:?} waiting, {:?}",
                replica.node(),
                replica.log().len(),
                replica.waiting(),
                replica.counters()
            )
        };
        let replicas = self.replicas.values().map(of);
        let all: Vec<String> = replicas.chain(self.disconnects.iter().cloned()).collect();
        all.join("\n")
    }

    pub fn ids(&self, at: NodeId) -> Vec<OpId> {
        self.replicas[&at].log().iter().map(Op::id).collect()
    }
}
