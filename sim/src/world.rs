//! The event queue and the nodes. One thread, no clock but this one, nothing random but the seed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ledger::genesis::{Genesis, Invitation, SignedInvitation};
use ledger::id::{CommandId, NodeId};
use ledger::key::SecretKey;
use ledger::report::nodes::{AnnounceNode, Capacity, Roles};
use reactors::me::Me;
use reactors::node::{HostEvent, Input, Node, Output, Setup, TICK_MS};

use crate::chance::Chance;
use crate::checks::{self, Violation};
use crate::disk::Disk;
use crate::host::{Effect, Host};
use crate::network::Network;
use crate::options::Options;
use crate::trace::Trace;
use crate::workload::Workload;

/// Simulated time begins here, in milliseconds since 1970: any fixed moment will do.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// How long a broken or new connection takes to be noticed.
const NOTICE_MS: u64 = 300;

/// How often the claims that hold at any time are checked.
const CHECK_EVERY_MS: u64 = 5_000;

enum Event {
    Tick { node: usize, life: u64 },
    Frame { from: usize, to: usize, life: u64, bytes: Vec<u8> },
    Connected { a: usize, b: usize, lives: (u64, u64) },
    Cut { at: usize, peer: usize, life: u64 },
    Host { node: usize, life: u64, power: u64, effect: Effect },
    Ask,
    AskAgain { command: ledger::command::SignedCommand, left: u32 },
    Partition,
    Heal,
    Crash { at_write: bool },
    LoseHost,
    Start { node: usize },
    Check,
}

struct Station {
    id: NodeId,
    secret: SecretKey,
    invitation: SignedInvitation,
    node: Option<Node>,
    /// Counts starts of the process: what was meant for an earlier one does not reach it.
    life: u64,
    /// Counts losses of the host's power.
    power: u64,
    skew_ms: i64,
    disk: Disk,
    host: Host,
    /// Crash at the next write.
    doomed: bool,
}

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The first violated claim, if any.
    pub violation: Option<Violation>,
    /// Hash of the whole trace.
    pub trace: String,
    /// Events in it.
    pub events: u64,
    /// Ops in the log.
    pub ops: usize,
    /// Commands asked for, and those that a node acknowledged.
    pub asked: u32,
    /// Acknowledged commands.
    pub acknowledged: usize,
    /// Instances in the last view.
    pub instances: usize,
    /// Machines that run at the end.
    pub machines: usize,
    /// Frames sent and lost.
    pub frames: (u64, u64),
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Hash of the last view.
    pub state: String,
    /// Simulated milliseconds until the network had settled after the faults.
    pub settled_ms: u64,
    /// The lines of the trace, if they were kept.
    pub lines: Vec<String>,
}

/// A run.
pub struct World {
    options: Options,
    chance: Chance,
    now_ms: u64,
    next_event: u64,
    queue: BTreeMap<(u64, u64), Event>,
    stations: Vec<Station>,
    linked: BTreeSet<(usize, usize)>,
    network: Network,
    workload: Workload,
    genesis: Genesis,
    trace: Trace,
    acknowledged: BTreeMap<CommandId, usize>,
    asked: u32,
    tokens: BTreeMap<(usize, u64, u64), CommandId>,
    next_token: u64,
    faults: BTreeMap<&'static str, u64>,
    violation: Option<Violation>,
    healed: bool,
}

impl World {
    /// Makes the network of a run. `keep` keeps the trace's lines.
    pub fn new(options: Options, keep: bool) -> Self {
        let mut chance = Chance::new(options.seed);
        let admin = SecretKey::from_seed(chance.bytes());
        let genesis = Genesis {
            name: "simulated".into(),
            admins: vec![admin.public()],
            created_ms: EPOCH_MS,
            salt: chance.bytes(),
        };
        let skew = options.skew_max_ms;
        let stations = (0..options.nodes)
            .map(|index| {
                let secret = SecretKey::from_seed(chance.bytes());
                let id = secret.node_id();
                let invitation = Invitation {
                    genesis: genesis.clone(),
                    node: id,
                    admin: admin.public(),
                    // The first begins the network; the others are let in by it.
                    peers: if index == 0 { Vec::new() } else { vec!["/ip4/10.0.0.1/udp/1/quic-v1".into()] },
                };
                Station {
                    id,
                    secret,
                    invitation: invitation.sign(&admin),
                    node: None,
                    life: 0,
                    power: 0,
                    skew_ms: chance.between(0, 2 * skew) as i64 - skew as i64,
                    disk: Disk::default(),
                    host: Host::new(options.failures_permille, chance.fork()),
                    doomed: false,
                }
            })
            .collect();
        let network = Network::new(&options, chance.fork());
        let workload = Workload::new(genesis.network(), chance.fork());
        let mut world = Self {
            options,
            chance,
            now_ms: 0,
            next_event: 0,
            queue: BTreeMap::new(),
            stations,
            linked: BTreeSet::new(),
            network,
            workload,
            genesis,
            trace: Trace::new(keep),
            acknowledged: BTreeMap::new(),
            asked: 0,
            tokens: BTreeMap::new(),
            next_token: 0,
            faults: BTreeMap::new(),
            violation: None,
            healed: false,
        };
        world.plan();
        world
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Summary> {
        while self.now_ms < self.options.busy_ms && self.violation.is_none() {
            self.step()?;
        }
        self.heal_all();
        let healed_at = self.now_ms;
        let deadline = healed_at + self.options.settle_ms;
        let mut settled_ms = self.options.settle_ms;
        let mut last = Ok(());
        while self.now_ms < deadline && self.violation.is_none() {
            let next_look = self.now_ms + 1_000;
            while self.now_ms < next_look && self.violation.is_none() {
                self.step()?;
            }
            last = self.settled();
            if last.is_ok() {
                settled_ms = self.now_ms - healed_at;
                break;
            }
        }
        if let Err(violation) = last {
            self.violation.get_or_insert(violation);
        }
        Ok(self.summary(settled_ms))
    }

    fn summary(self, settled_ms: u64) -> Summary {
        let cloud = self.stations.iter().find_map(|station| station.node.as_ref()).map(Node::cloud);
        Summary {
            violation: self.violation,
            trace: self.trace.hash(),
            events: self.trace.events(),
            ops: cloud.as_ref().map_or(0, |cloud| cloud.position.ops as usize),
            asked: self.asked,
            acknowledged: self.acknowledged.len(),
            instances: cloud.as_ref().map_or(0, |cloud| cloud.instances.len()),
            machines: self.stations.iter().map(|station| station.host.machines().len()).sum(),
            frames: (self.network.sent, self.network.lost),
            faults: self.faults,
            state: cloud.map_or_else(String::new, |cloud| {
                cloud.state_hash().iter().map(|byte| format!("{byte:02x}")).collect()
            }),
            settled_ms,
            lines: self.trace.lines().to_vec(),
        }
    }

    /// Lays out the starts, the requests and the faults.
    fn plan(&mut self) {
        for node in 0..self.options.nodes {
            let at = self.chance.between(0, 3_000);
            self.at(at, Event::Start { node });
        }
        let busy = self.options.busy_ms;
        let times = |chance: &mut Chance, count: u32| -> Vec<u64> {
            (0..count).map(|_| chance.between(4_000, busy)).collect()
        };
        for at in times(&mut self.chance, self.options.commands) {
            self.at(at, Event::Ask);
        }
        for at in times(&mut self.chance, self.options.partitions) {
            self.at(at, Event::Partition);
            let healed = at + self.chance.between(1_000, 40_000);
            self.at(healed, Event::Heal);
        }
        for at in times(&mut self.chance, self.options.crashes) {
            let at_write = self.chance.permille(self.options.crash_at_write_permille);
            self.at(at, Event::Crash { at_write });
        }
        for at in times(&mut self.chance, self.options.host_losses) {
            self.at(at, Event::LoseHost);
        }
        self.at(CHECK_EVERY_MS, Event::Check);
    }

    fn at(&mut self, at_ms: u64, event: Event) {
        self.next_event += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.next_event), event);
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.at(self.now_ms + ms, event);
    }

    fn fault(&mut self, kind: &'static str, text: String) {
        *self.faults.entry(kind).or_default() += 1;
        self.trace.note(self.now_ms, &text);
    }

    fn clock(&self, node: usize) -> u64 {
        (EPOCH_MS + self.now_ms).saturating_add_signed(self.stations[node].skew_ms)
    }

    fn is_up(&self, node: usize) -> bool {
        self.stations[node].node.is_some()
    }

    /// Takes the next event.
    fn step(&mut self) -> Result<()> {
        let ((at_ms, _), event) = self.queue.pop_first().context("the event queue ran dry")?;
        self.now_ms = at_ms;
        match event {
            Event::Tick { node, life } => {
                if self.stations[node].life == life && self.is_up(node) {
                    self.after(TICK_MS, Event::Tick { node, life });
                    self.give(node, Input::Tick);
                }
            }
            Event::Frame { from, to, life, bytes } => {
                let linked = self.linked.contains(&(from.min(to), from.max(to)));
                if linked && self.stations[to].life == life && self.is_up(to) {
                    self.trace.frame(self.now_ms, from, to, &bytes);
                    let from = self.stations[from].id;
                    self.give(to, Input::Frame { from, bytes });
                }
            }
            Event::Connected { a, b, lives } => self.connect(a, b, lives),
            Event::Cut { at, peer, life } => {
                if self.stations[at].life == life && self.is_up(at) {
                    let peer = self.stations[peer].id;
                    self.give(at, Input::PeerDown(peer));
                }
            }
            Event::Host { node, life, power, effect } => self.host_effect(node, life, power, effect),
            Event::Ask => self.ask(),
            Event::AskAgain { command, left } => self.submit(command, None, left),
            Event::Partition if !self.healed => {
                let side: BTreeSet<usize> =
                    (0..self.options.nodes).filter(|_| self.chance.permille(500)).collect();
                self.fault("partition", format!("partition: {side:?} cut off from the others"));
                self.network.partition(side);
                self.relink();
            }
            Event::Heal => {
                self.network.partition(BTreeSet::new());
                self.trace.note(self.now_ms, "the partition ends");
                self.relink();
            }
            Event::Crash { at_write } if !self.healed => {
                let node = self.chance.between(0, self.options.nodes as u64 - 1) as usize;
                if at_write {
                    self.stations[node].doomed = true;
                } else if self.is_up(node) {
                    self.crash(node, "crash");
                }
            }
            Event::LoseHost if !self.healed => {
                let node = self.chance.between(0, self.options.nodes as u64 - 1) as usize;
                if self.is_up(node) {
                    self.stations[node].host.lose_power();
                    self.stations[node].power += 1;
                    self.crash(node, "host loss");
                }
            }
            Event::Partition | Event::Crash { .. } | Event::LoseHost => {}
            Event::Start { node } => self.start(node)?,
            Event::Check => {
                self.after(CHECK_EVERY_MS, Event::Check);
                if let Err(violation) = self.always() {
                    self.trace.note(self.now_ms, &format!("VIOLATED {}: {}", violation.claim, violation.seen));
                    self.violation.get_or_insert(violation);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<()> {
        if self.is_up(node) {
            return Ok(());
        }
        self.trace.note(self.now_ms, &format!("node {node} starts"));
        let now_ms = self.clock(node);
        let (incarnation, seed) = (self.chance.next(), self.chance.bytes());
        let station = &mut self.stations[node];
        station.life += 1;
        let life = station.life;
        let capacity = Capacity { vcpus: 8, memory_mib: 8 * 1024, disk_gib: 200 };
        let roles = Roles { gateway: true, compute: true, builder: true, edge: true };
        let setup = Setup {
            replica: ledger::replica::Setup {
                genesis: self.genesis.clone(),
                invitation: station.invitation.clone(),
                secret: station.secret.clone(),
                incarnation,
                seed,
                verify: if self.options.real_signatures {
                    ledger::admit::Verify::Real
                } else {
                    ledger::admit::Verify::Trusting
                },
            },
            stored: station.disk.ops().to_vec(),
            journal_next: station.disk.journal().last().map_or(0, |record| record.offset + 1),
            me: Me {
                node: station.id,
                roles,
                interface: Some("eth0".into()),
                resolvers: Vec::new(),
                capacity,
                builds_max: 1,
            },
            announce: AnnounceNode {
                name: format!("node-{node}"),
                roles,
                addresses: vec![format!("/ip4/10.0.0.{}/udp/1/quic-v1", node + 1)],
                ipv4: vec![Ipv4Addr::new(10, 0, 0, node as u8 + 1)],
                capacity,
            },
        };
        let (opened, outputs) = Node::open(setup, now_ms)?;
        let mut found = station.host.adopt();
        found.push(HostEvent::Known);
        station.node = Some(opened);
        self.perform(node, outputs);
        for event in found {
            self.give(node, Input::Host(event));
        }
        self.after(TICK_MS, Event::Tick { node, life });
        self.relink();
        Ok(())
    }

    fn crash(&mut self, node: usize, kind: &'static str) {
        self.fault(kind, format!("node {node}: {kind}"));
        self.stations[node].node = None;
        self.stations[node].doomed = false;
        let back = self.chance.between(500, 30_000);
        self.after(back, Event::Start { node });
        self.relink();
    }

    /// Brings the connections in line with who is up and what is cut, after a while.
    fn relink(&mut self) {
        for a in 0..self.options.nodes {
            for b in a + 1..self.options.nodes {
                let possible = self.is_up(a) && self.is_up(b) && self.network.joins(a, b);
                if possible && !self.linked.contains(&(a, b)) {
                    let lives = (self.stations[a].life, self.stations[b].life);
                    let notice = self.chance.between(10, NOTICE_MS);
                    self.after(notice, Event::Connected { a, b, lives });
                } else if !possible && self.linked.remove(&(a, b)) {
                    for (at, peer) in [(a, b), (b, a)] {
                        let life = self.stations[at].life;
                        let notice = self.chance.between(1, NOTICE_MS);
                        self.after(notice, Event::Cut { at, peer, life });
                    }
                }
            }
        }
    }

    fn connect(&mut self, a: usize, b: usize, lives: (u64, u64)) {
        let same = (self.stations[a].life, self.stations[b].life) == lives;
        let possible = self.is_up(a) && self.is_up(b) && self.network.joins(a, b);
        if same && possible && self.linked.insert((a, b)) {
            let (id_a, id_b) = (self.stations[a].id, self.stations[b].id);
            self.give(a, Input::PeerUp(id_b));
            if self.is_up(b) {
                self.give(b, Input::PeerUp(id_a));
            }
        }
    }

    fn ask(&mut self) {
        if self.healed {
            return;
        }
        let up: Vec<usize> = (0..self.options.nodes).filter(|node| self.is_up(*node)).collect();
        let Some(&node) = self.chance.pick(&up) else { return };
        let request = self.workload.next(EPOCH_MS + self.now_ms, self.stations[node].id);
        self.asked += 1;
        if let Some(context) = request.upload {
            let event = self.stations[node].host.upload(context);
            self.give(node, Input::Host(event));
        }
        self.submit(request.command, Some(node), 3);
    }

    /// Asks a node; a person who hears nothing asks again, perhaps elsewhere.
    fn submit(&mut self, command: ledger::command::SignedCommand, node: Option<usize>, left: u32) {
        let up: Vec<usize> = (0..self.options.nodes).filter(|node| self.is_up(*node)).collect();
        let Some(node) = node.filter(|node| self.is_up(*node)).or_else(|| self.chance.pick(&up).copied()) else {
            return;
        };
        if self.acknowledged.contains_key(&command.id()) {
            return;
        }
        self.trace.note(
            self.now_ms,
            &format!("node {node} is asked: {} {}", command.command().body.name(), command.id().short()),
        );
        self.next_token += 1;
        let token = self.next_token;
        self.tokens.insert((node, self.stations[node].life, token), command.id());
        if left > 0 {
            self.after(3_000, Event::AskAgain { command: command.clone(), left: left - 1 });
        }
        let input = Input::Submit { token, id: command.id(), command: command.bytes().to_vec() };
        self.give(node, input);
    }

    fn host_effect(&mut self, node: usize, life: u64, power: u64, effect: Effect) {
        if self.stations[node].power != power || !self.stations[node].host.settle(&effect) {
            return;
        }
        for event in effect.events {
            if self.stations[node].life == life && self.is_up(node) {
                self.give(node, Input::Host(event));
            }
        }
    }

    fn give(&mut self, node: usize, input: Input) {
        let now_ms = self.clock(node);
        if let Some(core) = &mut self.stations[node].node {
            let outputs = core.handle(input, now_ms);
            self.perform(node, outputs);
        }
    }

    /// Does what the daemon's shell does: writes first, then the rest.
    fn perform(&mut self, node: usize, outputs: Vec<Output>) {
        let writes = outputs.iter().any(|output| matches!(output, Output::Persist { .. }));
        let doomed = self.stations[node].doomed && writes;
        if doomed && self.chance.permille(500) {
            self.crash(node, "crash before a write");
            return;
        }
        let mut rest = Vec::new();
        for output in outputs {
            match output {
                Output::Persist { ops, journal } => self.stations[node].disk.append(ops, journal),
                other => rest.push(other),
            }
        }
        if doomed {
            self.crash(node, "crash after a write");
            return;
        }
        for output in rest {
            self.perform_one(node, output);
        }
    }

    fn perform_one(&mut self, node: usize, output: Output) {
        let life = self.stations[node].life;
        match output {
            Output::Send { to, bytes } => {
                let Some(to) = self.stations.iter().position(|station| station.id == to) else { return };
                let receiver = self.stations[to].life;
                if let Some(delay) = self.network.send() {
                    self.after(delay, Event::Frame { from: node, to, life: receiver, bytes });
                }
            }
            Output::Disconnect { peer, why } => {
                self.trace.note(self.now_ms, &format!("node {node} breaks with {}: {why}", peer.short()));
                self.violation.get_or_insert(Violation {
                    claim: "honest",
                    seen: format!("node {node} broke with an honest peer: {why}"),
                });
            }
            Output::Publish(_) | Output::Persist { .. } => {}
            Output::Reply { token, reply } => {
                let Some(command) = self.tokens.remove(&(node, life, token)) else { return };
                match reply {
                    Ok(submitted) => {
                        self.trace.note(
                            self.now_ms,
                            &format!("node {node} answers {}: {:?}", command.short(), submitted.outcome),
                        );
                        self.acknowledged.insert(command, node);
                    }
                    Err(error) => {
                        self.trace.note(self.now_ms, &format!("node {node} refuses {}: {error}", command.short()));
                    }
                }
            }
            Output::Act(action) => {
                let near: BTreeSet<usize> = (0..self.options.nodes)
                    .filter(|other| self.linked.contains(&(node.min(*other), node.max(*other))))
                    .collect();
                self.note_action(node, &action);
                let mut acting = std::mem::replace(&mut self.stations[node].host, Host::new(0, Chance::new(0)));
                let effects =
                    acting.act(action, |digest| near.iter().any(|other| self.stations[*other].host.holds(digest)));
                self.stations[node].host = acting;
                let power = self.stations[node].power;
                for effect in effects {
                    let after_ms = effect.after_ms;
                    self.after(after_ms, Event::Host { node, life, power, effect });
                }
            }
        }
    }

    fn note_action(&mut self, node: usize, action: &reactors::action::Action) {
        use reactors::action::Action;
        let text = match action {
            Action::Start { spec, start } => {
                format!("start {:?} generation {} start {start}", spec.id, spec.generation)
            }
            Action::Names(_) | Action::Fronts(_) | Action::Guests(_) | Action::Peers(_) => return,
            other => format!("{other:?}"),
        };
        self.trace.note(self.now_ms, &format!("node {node} does: {text}"));
    }

    /// The faults end: everybody comes up, everything is joined, nothing is lost any more.
    fn heal_all(&mut self) {
        self.healed = true;
        self.trace.note(self.now_ms, "the faults end");
        self.network.heal();
        for node in 0..self.options.nodes {
            self.stations[node].doomed = false;
            self.stations[node].host.heal();
            if !self.is_up(node) {
                self.after(100, Event::Start { node });
            }
        }
        self.relink();
    }

    fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> + Clone {
        self.stations.iter().enumerate().filter_map(|(index, station)| Some((index, station.node.as_ref()?)))
    }

    /// Claims that hold at any time.
    fn always(&self) -> Result<(), Violation> {
        checks::convergence::same_ops_same_view(self.nodes())?;
        for (index, station) in self.stations.iter().enumerate() {
            checks::machines::never_backward(index, &station.host)?;
        }
        // A node that acknowledged holds the command for good.
        for (index, node) in self.nodes() {
            let own = self.acknowledged.iter().filter(|(_, by)| **by == index);
            let own = own.map(|(command, by)| (*command, *by)).collect();
            checks::acknowledged::nothing_is_lost(index, &node.cloud(), &own)?;
        }
        Ok(())
    }

    /// Claims that hold once the healed network has settled.
    fn settled(&self) -> Result<(), Violation> {
        if self.nodes().count() < self.options.nodes {
            return Err(Violation { claim: "liveness", seen: "not every node is up".into() });
        }
        self.always()?;
        checks::convergence::all_hold_the_same(self.nodes())?;
        let hosts = self.stations.iter().map(|station| (station.id, &station.host));
        for (index, node) in self.nodes() {
            let cloud = node.cloud();
            checks::acknowledged::nothing_is_lost(index, &cloud, &self.acknowledged)?;
            checks::machines::as_wanted(&cloud, hosts.clone())?;
        }
        Ok(())
    }
}
