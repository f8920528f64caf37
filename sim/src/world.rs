//! The run: one thread, no clock but this one, nothing random but the seed.
//!
//! ```text
//!  busy: people ask, faults happen ─▶ the faults end ─▶ it settles ─▶ calm: it stays so, and becomes quiet
//! ```

mod claims;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use ledger::admit::Verify;
use ledger::codec;
use ledger::command::SignedCommand;
use ledger::finality::witness::WitnessSet;
use ledger::genesis::Genesis;
use ledger::id::{CommandId, InstanceId};
use ledger::key::SecretKey;
use ledger::op::Op;
use ledger::report::Report;
use reactors::action::Action;
use reactors::node::{HostEvent, Input, Node, Output, TICK_MS, Wait, certificate_frame};

use crate::chance::Chance;
use crate::checks::{self, Holds, Place, Violation};
use crate::host::Effect;
use crate::network::Network;
use crate::options::Options;
use crate::queue::{Event, Queue};
use crate::station::{EPOCH_MS, Station};
use crate::summary::Summary;
use crate::trace::Trace;
use crate::workload::Workload;

/// How long a broken or new connection takes to be noticed, at most.
const NOTICE_MS: u64 = 300;

/// How long the hands take to see what a host holds, at most.
const ADOPT_MS: u64 = 2_000;

/// How often the claims that hold at any time are checked.
const CHECK_EVERY_MS: u64 = 5_000;

/// How often a network is looked at that may have settled.
const LOOK_EVERY_MS: u64 = 1_000;

/// How long a person waits for an answer before asking again.
const ASK_AGAIN_MS: u64 = 3_000;

/// Certificates that a peer is sent at once, at most.
const CERTIFICATES_AT_ONCE: usize = 32;

/// How often a person asks again.
const ASK_AGAIN_MAX: u32 = 3;

/// A run.
pub struct World {
    options: Options,
    chance: Chance,
    now_ms: u64,
    queue: Queue,
    stations: Vec<Station>,
    /// Who is connected: the smaller number first.
    linked: BTreeSet<(usize, usize)>,
    /// Which node believes to be connected with which.
    aware: BTreeSet<(usize, usize)>,
    network: Network,
    workload: Workload,
    genesis: Genesis,
    trace: Trace,
    /// By which node.
    acknowledged: BTreeMap<CommandId, usize>,
    asked: u32,
    /// Commands given to a life of a node, and what it answered.
    answers: BTreeMap<u64, Option<Result<(), String>>>,
    tokens: BTreeMap<u64, CommandId>,
    next_token: u64,
    checked: usize,
    twice: u64,
    faults: BTreeMap<&'static str, u64>,
    violation: Option<Violation>,
    healed: bool,
}

impl World {
    /// Makes the network of a run. `keep` keeps the trace's lines.
    pub fn new(options: Options, keep: bool) -> Result<Self> {
        options.check()?;
        let mut chance = Chance::new(options.seed);
        let admin = SecretKey::from_seed(chance.bytes());
        let secrets: Vec<SecretKey> = (0..options.nodes)
            .map(|_| SecretKey::from_seed(chance.bytes()))
            .collect();
        let witnesses = secrets.iter().take(options.witnesses).map(SecretKey::node_id);
        let genesis = Genesis {
            name: "simulated".into(),
            admins: vec![admin.public()],
            admins_needed: 1,
            witnesses: WitnessSet::of_equals(witnesses).context("the witnesses of the run")?,
            created_ms: EPOCH_MS,
            salt: chance.bytes(),
        };
        let stations = secrets
            .into_iter()
            .enumerate()
            .map(|(index, secret)| Station::new(index, secret, &genesis, &admin, &options, &mut chance))
            .collect();
        let network = Network::new(&options, chance.fork());
        let workload = Workload::new(genesis.network(), chance.fork());
        let mut world = Self {
            options,
            chance,
            now_ms: 0,
            queue: Queue::default(),
            stations,
            linked: BTreeSet::new(),
            aware: BTreeSet::new(),
            network,
            workload,
            genesis,
            trace: Trace::new(keep),
            acknowledged: BTreeMap::new(),
            asked: 0,
            answers: BTreeMap::new(),
            tokens: BTreeMap::new(),
            next_token: 0,
            checked: 0,
            twice: 0,
            faults: BTreeMap::new(),
            violation: None,
            healed: false,
        };
        world.plan();
        Ok(world)
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Summary> {
        let settled_ms = self.run_to_the_end()?;
        Ok(self.summary(settled_ms))
    }

    /// As [`Self::run`], but the world stays, to be looked at. How long it took to settle, if it did.
    pub fn run_to_the_end(&mut self) -> Result<Option<u64>> {
        self.run_until(self.options.busy_ms)?;
        if self.violation.is_some() {
            return Ok(None);
        }
        self.heal_all();
        let healed_ms = self.now_ms;
        let deadline_ms = healed_ms + self.options.settle_ms;
        let mut settled = self.settled();
        while settled.is_err() && self.now_ms < deadline_ms && self.violation.is_none() {
            self.run_until(self.now_ms + LOOK_EVERY_MS)?;
            settled = self.settled();
        }
        let settled_ms = self.now_ms - healed_ms;
        if settled.is_ok() {
            self.trace.note(self.now_ms, "the network has settled");
            settled = self.calm()?;
        }
        self.note(settled);
        let last = self.deep(0..self.options.nodes);
        self.note(last);
        Ok(self.violation.is_none().then_some(settled_ms))
    }

    fn run_until(&mut self, until_ms: u64) -> Result<()> {
        while self.now_ms < until_ms && self.violation.is_none() {
            self.step()?;
        }
        Ok(())
    }

    /// The nodes that are up.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> + Clone {
        self.stations
            .iter()
            .enumerate()
            .filter_map(|(index, station)| Some((index, station.node.as_ref()?)))
    }

    /// The places of the nodes.
    pub fn stations(&self) -> &[Station] {
        &self.stations
    }

    /// The beginning of its network.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The first claim that did not hold.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Which node acknowledged which command.
    pub fn acknowledged(&self) -> &BTreeMap<CommandId, usize> {
        &self.acknowledged
    }

    /// The nodes that are up, as the claims look at them.
    pub fn places(&self) -> Vec<Place<'_>> {
        let up = self
            .stations
            .iter()
            .enumerate()
            .filter(|(_, station)| station.is_up());
        up.map(|(index, station)| Place {
            index,
            id: station.id,
            roles: station.roles(),
            host: &station.host,
        })
        .collect()
    }

    /// Ends the run.
    pub fn summary(mut self, settled_ms: Option<u64>) -> Summary {
        let cloud = self.nodes().next().map(|(_, node)| node.cloud());
        let state = cloud.as_ref().map(|cloud| cloud.state_hash()).unwrap_or_default();
        // What is drawn next tells whether all draws before were the same.
        let drawn = self.chance.draw().to_le_bytes();
        self.trace.fact(self.now_ms, &state);
        self.trace.fact(self.now_ms, &drawn);
        let hosts = self.stations.iter().map(|station| &station.host);
        let machines = hosts.clone().flat_map(|host| host.machines().values());
        let journals = self.stations.iter().flat_map(|station| station.disk.journal());
        Summary {
            trace: self.trace.hash(),
            events: self.trace.events(),
            simulated_ms: self.now_ms,
            settled_ms,
            asked: self.asked,
            acknowledged: self.acknowledged.len(),
            ops: cloud.as_ref().map_or(0, |cloud| cloud.position.ops as usize),
            turned: journals.filter(|record| record.turned).count(),
            instances: cloud.as_ref().map_or(0, |cloud| cloud.instances.len()),
            machines: machines.filter(|machine| machine.state.is_alive()).count(),
            starts: hosts.map(|host| host.runs()).sum(),
            twice: self.twice,
            sent: self.network.sent,
            lost: self.network.lost,
            state: state.iter().map(|byte| format!("{byte:02x}")).collect(),
            lines: self.trace.lines().to_vec(),
            violation: self.violation,
            faults: self.faults,
        }
    }

    /// Lays out the starts, the requests and the faults.
    fn plan(&mut self) {
        for node in 0..self.options.nodes {
            let at = self.chance.between(0, 3_000);
            self.queue.at(at, Event::Start { node });
        }
        let busy = self.options.busy_ms;
        let times = |chance: &mut Chance, count: u32| -> Vec<u64> {
            (0..count).map(|_| chance.between(4_000, busy)).collect()
        };
        for at in times(&mut self.chance, self.options.commands) {
            self.queue.at(at, Event::Ask);
        }
        for at in times(&mut self.chance, self.options.partitions) {
            self.queue.at(at, Event::Partition);
            let joined = at + self.chance.between(1_000, 40_000);
            self.queue.at(joined, Event::Join);
        }
        for at in times(&mut self.chance, self.options.crashes) {
            let at_write = self.chance.permille(self.options.crash_at_write_permille);
            self.queue.at(at, Event::Crash { at_write });
        }
        for at in times(&mut self.chance, self.options.host_losses) {
            self.queue.at(at, Event::LoseHost);
        }
        self.queue.at(CHECK_EVERY_MS, Event::Check);
    }

    fn after(&mut self, ms: u64, event: Event) {
        self.queue.at(self.now_ms + ms, event);
    }

    fn fault(&mut self, kind: &'static str, text: String) {
        *self.faults.entry(kind).or_default() += 1;
        self.trace.note(self.now_ms, &text);
    }

    fn note(&mut self, holds: Holds) {
        if let Err(violation) = holds {
            self.trace.note(
                self.now_ms,
                &format!("VIOLATED {}: {}", violation.claim, violation.seen),
            );
            self.violation.get_or_insert(violation);
        }
    }

    fn is_up(&self, node: usize) -> bool {
        self.stations[node].is_up()
    }

    fn lives(&self, node: usize, life: u64) -> bool {
        self.is_up(node) && self.stations[node].life == life
    }

    fn any_node(&mut self) -> usize {
        self.chance.between(0, self.options.nodes as u64 - 1) as usize
    }

    /// Takes the next event.
    fn step(&mut self) -> Result<()> {
        let (at_ms, event) = self.queue.pop().context("the event queue ran dry")?;
        self.now_ms = at_ms;
        match event {
            Event::Tick { node, life } if self.lives(node, life) => {
                self.after(TICK_MS, Event::Tick { node, life });
                self.give(node, Input::Tick);
            }
            Event::Wake { node, life } if self.lives(node, life) => self.give(node, Input::Tick),
            Event::Frame {
                from,
                to,
                life,
                bytes,
            } if self.lives(to, life) => {
                if self.linked.contains(&pair(from, to)) {
                    self.trace.frame(self.now_ms, from, to, &bytes);
                    let from = self.stations[from].id;
                    self.give(to, Input::Frame { from, bytes });
                }
            }
            Event::Adopt { node, life } if self.lives(node, life) => {
                let found = self.stations[node].host.adopt();
                self.give_all(node, found.into_iter().map(Input::Host).collect());
            }
            Event::Tell { node, life, events } if self.lives(node, life) => {
                self.give_all(node, events.into_iter().map(Input::Host).collect());
            }
            Event::Tick { .. }
            | Event::Wake { .. }
            | Event::Frame { .. }
            | Event::Adopt { .. }
            | Event::Tell { .. } => {}
            Event::Connected { a, b, lives } => self.connect(a, b, lives),
            Event::Cut { at, peer, life } => {
                let apart = !self.linked.contains(&pair(at, peer));
                if apart && self.lives(at, life) && self.aware.remove(&(at, peer)) {
                    let peer = self.stations[peer].id;
                    self.give(at, Input::PeerDown(peer));
                }
            }
            Event::Host {
                node,
                life,
                power,
                effect,
            } => self.host_effect(node, life, power, effect),
            Event::Ask => self.ask(),
            Event::AskAgain { command, left } => self.submit(command, None, left),
            Event::Join => {
                self.network.partition(BTreeSet::new());
                self.trace.note(self.now_ms, "the partition ends");
                self.relink();
            }
            Event::Start { node } => self.start(node)?,
            Event::Check => {
                self.after(CHECK_EVERY_MS, Event::Check);
                self.check();
            }
            Event::Partition | Event::Crash { .. } | Event::LoseHost if self.healed => {}
            Event::Partition => {
                let nodes = 0..self.options.nodes;
                let side: BTreeSet<usize> = nodes.filter(|_| self.chance.permille(500)).collect();
                self.fault(
                    "partition",
                    format!("partition: {side:?} cut off from the others"),
                );
                self.network.partition(side);
                self.relink();
            }
            Event::Crash { at_write } => {
                let node = self.any_node();
                if at_write {
                    self.stations[node].doomed = true;
                } else if self.is_up(node) {
                    self.crash(node, "crash");
                }
            }
            Event::LoseHost => {
                let node = self.any_node();
                if self.is_up(node) {
                    self.lose_power(node);
                    self.crash(node, "host loss");
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, node: usize) -> Result<()> {
        if self.is_up(node) || self.stations[node].lost {
            return Ok(());
        }
        self.trace.note(self.now_ms, &format!("node {node} starts"));
        let verify = if self.options.real_signatures {
            Verify::Real
        } else {
            Verify::Trusting
        };
        let outputs = self.stations[node].open(&self.genesis, verify, self.now_ms, &mut self.chance)?;
        let life = self.stations[node].life;
        self.perform(node, outputs);
        let adopted = self.chance.between(1, ADOPT_MS);
        self.after(adopted, Event::Adopt { node, life });
        self.after(TICK_MS, Event::Tick { node, life });
        self.relink();
        Ok(())
    }

    fn lose_power(&mut self, node: usize) {
        self.stations[node].host.lose_power();
        self.stations[node].power += 1;
    }

    fn crash(&mut self, node: usize, kind: &'static str) {
        self.fault(kind, format!("node {node}: {kind}"));
        let station = &mut self.stations[node];
        station.node = None;
        station.doomed = false;
        station.host.lose_daemon();
        self.aware.retain(|(at, _)| *at != node);
        let back = self.chance.between(500, 30_000);
        self.after(back, Event::Start { node });
        self.relink();
    }

    /// Brings the connections in line with who is up, who knows whom and what is cut, after a while.
    fn relink(&mut self) {
        for a in 0..self.options.nodes {
            for b in a + 1..self.options.nodes {
                let possible = self.can_link(a, b);
                let linked = self.linked.contains(&(a, b));
                if possible && !linked && (self.knows(a, b) || self.knows(b, a)) {
                    let lives = (self.stations[a].life, self.stations[b].life);
                    let notice = self.chance.between(10, NOTICE_MS);
                    self.after(notice, Event::Connected { a, b, lives });
                } else if !possible && linked {
                    self.linked.remove(&(a, b));
                    for (at, peer) in [(a, b), (b, a)] {
                        let life = self.stations[at].life;
                        let notice = self.chance.between(1, NOTICE_MS);
                        self.after(notice, Event::Cut { at, peer, life });
                    }
                }
            }
        }
    }

    fn can_link(&self, a: usize, b: usize) -> bool {
        self.is_up(a) && self.is_up(b) && self.network.joins(a, b)
    }

    /// Whether a node has an address of another: the first one's stands in each invitation.
    fn knows(&self, node: usize, other: usize) -> bool {
        other == 0
            || self.stations[node]
                .host
                .tables()
                .peers
                .contains(&self.stations[other].id)
    }

    fn connect(&mut self, a: usize, b: usize, lives: (u64, u64)) {
        let same = (self.stations[a].life, self.stations[b].life) == lives;
        if !same || !self.can_link(a, b) || !self.linked.insert((a, b)) {
            return;
        }
        for (at, peer) in [(a, b), (b, a)] {
            let id = self.stations[peer].id;
            // It had not noticed yet that the connection before broke.
            if !self.aware.insert((at, peer)) {
                self.give(at, Input::PeerDown(id));
            }
            self.give(at, Input::PeerUp(id));
        }
    }

    fn ask(&mut self) {
        if self.healed {
            return;
        }
        let up: Vec<usize> = self.nodes().map(|(node, _)| node).collect();
        let Some(&node) = self.chance.pick(&up) else {
            return;
        };
        let request = self.workload.next(EPOCH_MS + self.now_ms, self.stations[node].id);
        self.asked += 1;
        if let Some(context) = request.upload {
            let event = self.stations[node].host.upload(context);
            self.give(node, Input::Host(event));
        }
        self.submit(request.command, Some(node), ASK_AGAIN_MAX);
    }

    /// Asks a node; a person who hears nothing asks again, perhaps elsewhere.
    fn submit(&mut self, command: SignedCommand, node: Option<usize>, left: u32) {
        let up: Vec<usize> = self.nodes().map(|(node, _)| node).collect();
        let node = node
            .filter(|node| self.is_up(*node))
            .or_else(|| self.chance.pick(&up).copied());
        let id = command.id();
        if self.acknowledged.contains_key(&id) {
            return;
        }
        if left > 0 {
            self.after(
                ASK_AGAIN_MS,
                Event::AskAgain {
                    command: command.clone(),
                    left: left - 1,
                },
            );
        }
        let Some(node) = node else { return };
        let what = command.command().body.name();
        self.trace.note(
            self.now_ms,
            &format!("node {node} is asked: {what} {}", id.short()),
        );
        self.next_token += 1;
        let (token, life) = (self.next_token, self.stations[node].life);
        self.tokens.insert(token, id);
        self.give(
            node,
            Input::Submit {
                token,
                id,
                command: command.bytes().to_vec(),
                wait: Wait::Tentative,
            },
        );
        let answer = self.answers.remove(&token).flatten();
        if self.lives(node, life) {
            self.note(checks::acknowledged::answered(node, id, answer.as_ref()));
        }
    }

    fn host_effect(&mut self, node: usize, life: u64, power: u64, effect: Effect) {
        let same_life = self.lives(node, life);
        if self.stations[node].power != power || !same_life && !effect.outlives_the_daemon() {
            return;
        }
        let mut events = self.stations[node].host.settle(effect.work, self.healed);
        if let Some((key, ok)) = effect.done.filter(|_| same_life) {
            events.push(HostEvent::Done { key, ok });
        }
        self.give_all(node, events.into_iter().map(Input::Host).collect());
        self.relink();
    }

    fn give(&mut self, node: usize, input: Input) {
        self.give_all(node, vec![input]);
    }

    /// Gives a node inputs that have come together.
    fn give_all(&mut self, node: usize, inputs: Vec<Input>) {
        let now_ms = self.stations[node].clock(self.now_ms);
        if let Some(core) = self.stations[node].node.as_mut().filter(|_| !inputs.is_empty()) {
            let outputs = core.handle_all(inputs, now_ms);
            self.perform(node, outputs);
            self.wake(node, now_ms);
        }
    }

    /// Lets a tick come when the node waits for a time.
    fn wake(&mut self, node: usize, clock_ms: u64) {
        let deadline = self.stations[node].node.as_ref().and_then(Node::deadline);
        let Some(deadline) = deadline else { return };
        let life = self.stations[node].life;
        let at_ms = self.now_ms + deadline.saturating_sub(clock_ms).clamp(1, TICK_MS);
        let wakes = &mut self.stations[node].wakes_ms;
        if *wakes <= self.now_ms || *wakes > at_ms {
            *wakes = at_ms;
            self.queue.at(at_ms, Event::Wake { node, life });
        }
    }

    /// Does what the daemon's shell does: writes first, then the rest. A doomed node crashes before the
    /// write, after it, or with a part of the rest done.
    fn perform(&mut self, node: usize, outputs: Vec<Output>) {
        let writes = outputs.iter().any(|output| matches!(output, Output::Persist(_)));
        let doomed = self.stations[node].doomed && writes;
        if doomed && self.chance.permille(400) {
            self.crash(node, "crash before a write");
            return;
        }
        let mut rest = Vec::new();
        for output in outputs {
            match output {
                Output::Persist(durable) => {
                    self.note_own(node, &durable.ops);
                    for certificate in &durable.certificates {
                        let (height, heads) =
                            (certificate.checkpoint.height, certificate.checkpoint.heads.len());
                        let text = format!("node {node}: height {height} is final, {heads} chains go on");
                        self.trace.note(self.now_ms, &text);
                    }
                    self.stations[node].disk.write(durable);
                }
                other => rest.push(other),
            }
        }
        if doomed {
            let done = if self.chance.permille(500) {
                0
            } else {
                self.chance.between(0, rest.len() as u64)
            };
            rest.truncate(done as usize);
        }
        for output in rest {
            self.perform_one(node, output);
        }
        if doomed {
            self.crash(node, "crash after a write");
        }
    }

    fn perform_one(&mut self, node: usize, output: Output) {
        match output {
            Output::Send { to, bytes } => {
                let Some(to) = self.stations.iter().position(|station| station.id == to) else {
                    return;
                };
                let life = self.stations[to].life;
                for delay in self.network.send() {
                    self.after(
                        delay,
                        Event::Frame {
                            from: node,
                            to,
                            life,
                            bytes: bytes.clone(),
                        },
                    );
                }
            }
            Output::TellCertificates { to, from_height } => {
                let stored = self.stations[node].disk.certificates(from_height);
                let frames: Vec<_> = stored
                    .iter()
                    .take(CERTIFICATES_AT_ONCE)
                    .map(certificate_frame)
                    .collect();
                for bytes in frames {
                    self.perform_one(node, Output::Send { to, bytes });
                }
            }
            Output::Disconnect { peer, why } => {
                let seen = format!("node {node} broke with an honest peer, {}: {why}", peer.short());
                self.note(Err(Violation {
                    claim: "honest",
                    seen,
                }));
            }
            Output::Persist(_) => {}
            Output::Reply { token, reply } => {
                let Some(command) = self.tokens.remove(&token) else {
                    return;
                };
                let answer = reply
                    .map_err(|error| error.to_string())
                    .map(|submitted| submitted.outcome);
                self.trace.note(
                    self.now_ms,
                    &format!("node {node} answers {}: {answer:?}", command.short()),
                );
                if let Ok(outcome) = &answer {
                    self.acknowledged.insert(command, node);
                    self.workload.hear(command, outcome);
                }
                self.answers.insert(token, Some(answer.map(|_| ())));
            }
            Output::Act(action) => self.act(node, action),
        }
    }

    fn act(&mut self, node: usize, action: Action) {
        self.note_action(node, &action);
        let near: BTreeSet<usize> = (0..self.options.nodes)
            .filter(|other| self.linked.contains(&pair(node, *other)))
            .collect();
        // Taken out, so that it can ask the others.
        let mut host = self.stations[node].host.clone();
        let (events, effects) = host.begin(action, |from, digest| {
            let others = near.iter().map(|other| &self.stations[*other]);
            others
                .filter(|other| from.contains(&other.id))
                .find_map(|other| other.host.holds(digest))
        });
        self.stations[node].host = host;
        let (life, power) = (self.stations[node].life, self.stations[node].power);
        for effect in effects {
            self.after(
                effect.after_ms,
                Event::Host {
                    node,
                    life,
                    power,
                    effect,
                },
            );
        }
        if !events.is_empty() {
            self.after(1, Event::Tell { node, life, events });
        }
    }

    fn note_action(&mut self, node: usize, action: &Action) {
        let text = match action {
            Action::Start { spec, start } => {
                let instance = InstanceId(spec.id.0);
                format!(
                    "start {} generation {} start {start}",
                    instance.short(),
                    spec.generation
                )
            }
            Action::Names(table) => return self.trace.fact(self.now_ms, &codec::encode(table)),
            Action::Fronts(table) => return self.trace.fact(self.now_ms, &codec::encode(table)),
            Action::Guests(table) => return self.trace.fact(self.now_ms, &codec::encode(table)),
            Action::Peers(table) => return self.trace.fact(self.now_ms, &codec::encode(table)),
            other => format!("{other:?}"),
        };
        self.trace.note(self.now_ms, &format!("node {node} does: {text}"));
    }

    /// What a node itself says, but for the commands that it carries: those are noted when they are asked.
    fn note_own(&mut self, node: usize, ops: &[Op]) {
        let own = ops.iter().filter(|op| op.node() == self.stations[node].id);
        for entry in own
            .flat_map(|op| &op.body().entries)
            .filter(|entry| !entry.is_carry())
        {
            let text = match Report::from_entry(entry) {
                Ok(Report::OpenChain(_)) => "it opens a chain".to_owned(),
                Ok(report) => format!("{report:?}"),
                Err(error) => error.to_string(),
            };
            self.trace.note(self.now_ms, &format!("node {node} says: {text}"));
        }
    }

    /// The faults end: everybody but who is lost for good comes up, everything is joined, nothing is lost any
    /// more.
    fn heal_all(&mut self) {
        self.healed = true;
        self.trace.note(self.now_ms, "the faults end");
        self.network.heal();
        if self.options.lost_for_good {
            let last = self.options.nodes - 1;
            self.stations[last].lost = true;
            self.lose_power(last);
            self.crash(last, "loss for good");
        }
        for node in 0..self.options.nodes {
            self.stations[node].doomed = false;
            self.stations[node].host.heal();
            if !self.is_up(node) {
                self.after(100, Event::Start { node });
            }
        }
        self.relink();
    }
}

/// A connection, named alike from both ends.
fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}
