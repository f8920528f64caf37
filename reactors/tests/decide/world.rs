//! A world: nodes that share one log, a host for each, a clock. A node's decision is shown as one line of
//! text for each action, in the order of the decision; tables and reports of machines are left out where
//! a test does not ask for them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use ledger::clock::Clock;
use ledger::command::accounts::OpenAccount;
use ledger::command::agents::{RegisterAgent, Release};
use ledger::command::images::BuildImage;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape, StartInstance, StopInstance};
use ledger::command::{self, Command};
use ledger::genesis::Genesis;
use ledger::id::{AgentId, BuildId, CommandId, Digest, InstanceId, NodeId, OpId, hash};
use ledger::key::SecretKey;
use ledger::op::{Body, Chain, Op, Slot};
use ledger::report::images::{ImageBuilt, ImageFailed};
use ledger::report::instances::{Phase, PlaceInstance};
use ledger::report::nodes::{AnnounceNode, Capacity, OpenChain, Roles};
use ledger::report::{Carry, Report};
use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::outcome::Outcome;
use reactors::action::Action;
use reactors::me::Me;
use reactors::observed::{Ending, HeldImage, HeldMachine, Observed, Presence, Seen};
use reactors::presence;
use vmm::machine::MachineState;
use vmm::spec::{Health, Restart, Workload};

/// When a world begins, in milliseconds since 1970.
pub(crate) const BEGIN_MS: u64 = 1_800_000_000_000;

/// The machine that instances want, unless a test says otherwise.
pub(crate) const SHAPE: Shape = Shape {
    vcpus: 1,
    memory_mib: 512,
    disk_gib: 2,
};

/// What a node offers, unless a test says otherwise.
pub(crate) const CAPACITY: Capacity = Capacity {
    vcpus: 4,
    memory_mib: 4096,
    disk_gib: 100,
};

/// All parts.
pub(crate) const ALL: Roles = Roles {
    gateway: true,
    compute: true,
    builder: true,
    edge: true,
    witness: true,
};

const ROUNDS_MAX: usize = 40;

/// A node of a world, with its host.
pub(crate) struct WorldNode {
    pub(crate) secret: SecretKey,
    pub(crate) name: String,
    pub(crate) me: Me,
    pub(crate) observed: Observed,
    /// It runs, and others hear it.
    pub(crate) up: bool,
    chain: Chain,
    seq: u64,
    previous: OpId,
    presence_seq: u64,
}

/// What a machine does once it is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Its workload serves.
    Serves,
    /// Its entrypoint ends with status 0.
    Ends,
    /// Its entrypoint used up its restarts.
    Fails,
}

pub(crate) struct World {
    pub(crate) now_ms: u64,
    pub(crate) nodes: Vec<WorldNode>,
    /// What machines of an instance do; they serve otherwise.
    pub(crate) behaviour: BTreeMap<InstanceId, Behaviour>,
    names: BTreeMap<InstanceId, String>,
    fold: Fold,
    genesis: Genesis,
    clock: Clock,
    owner: SecretKey,
    nonce: u64,
}

fn secret(name: &str) -> SecretKey {
    SecretKey::from_seed(hash("reactors test key", &[name.as_bytes()]))
}

impl World {
    /// Nodes `n0`, `n1`, … with all parts, up for long enough; account `ann`.
    pub(crate) fn new(nodes: usize) -> Self {
        let mut world = Self::empty();
        for _ in 0..nodes {
            world.join(ALL, CAPACITY);
        }
        world.command(OpenAccount { name: "ann".into() }.into());
        world.pass(60_000);
        world
    }

    pub(crate) fn empty() -> Self {
        let genesis = Genesis {
            name: "test".into(),
            admins: vec![secret("admin").public()],
            admins_needed: 1,
            witnesses: Default::default(),
            created_ms: BEGIN_MS,
            salt: [7; 16],
        };
        Self {
            now_ms: BEGIN_MS,
            nodes: Vec::new(),
            behaviour: BTreeMap::new(),
            names: BTreeMap::new(),
            fold: Fold::new(genesis.clone()),
            genesis,
            clock: Clock::default(),
            owner: secret("ann"),
            nonce: 0,
        }
    }

    /// A node joins, starts now, and has caught up.
    pub(crate) fn join(&mut self, roles: Roles, capacity: Capacity) -> usize {
        let index = self.nodes.len();
        let name = format!("n{index}");
        let secret = secret(&name);
        let node = secret.node_id();
        let resolvers = vec!["10.0.0.53".parse().expect("an address")];
        let interface = Some("eth0".to_owned());
        let me = Me {
            node,
            roles,
            interface,
            resolvers,
            capacity,
            builds_max: 1,
        };
        let observed = Observed {
            started_ms: self.now_ms,
            host_known: true,
            synced: true,
            ..Observed::default()
        };
        let (chain, previous) = (Chain { node, incarnation: 1 }, OpId([0; 32]));
        let node = WorldNode {
            secret,
            name,
            me,
            observed,
            up: true,
            chain,
            seq: 0,
            previous,
            presence_seq: 0,
        };
        self.nodes.push(node);
        self.report(
            index,
            OpenChain {
                invitation: Vec::new(),
                before: None,
            },
        );
        self.announce(index);
        index
    }

    /// A node says what it is.
    pub(crate) fn announce(&mut self, index: usize) {
        let node = &self.nodes[index];
        let announce = AnnounceNode {
            name: node.name.clone(),
            roles: node.me.roles,
            addresses: vec![format!("/ip4/10.0.0.{}/tcp/9000", index + 1)],
            ipv4: vec![std::net::Ipv4Addr::new(10, 0, 0, index as u8 + 1)],
            capacity: node.me.capacity,
            payout: None,
        };
        self.report(index, announce);
    }

    /// The process of a node starts again; its host stays as it is, and is found.
    pub(crate) fn restart(&mut self, index: usize) {
        let now_ms = self.now_ms;
        let node = &mut self.nodes[index];
        node.up = true;
        node.chain.incarnation += 1;
        (node.seq, node.previous) = (0, OpId([0; 32]));
        node.observed.started_ms = now_ms;
        node.observed.presences.clear();
        node.observed.building.clear();
        for machine in node.observed.machines.values_mut() {
            machine.start = 0;
            machine.ending = if machine.state.is_alive() {
                Ending::ByItself
            } else {
                Ending::Found
            };
        }
        self.report(
            index,
            OpenChain {
                invitation: Vec::new(),
                before: None,
            },
        );
    }

    pub(crate) fn cloud(&self) -> Arc<Cloud> {
        self.fold.cloud()
    }

    pub(crate) fn id(&self, index: usize) -> NodeId {
        self.nodes[index].me.node
    }

    pub(crate) fn index(&self, node: NodeId) -> usize {
        self.nodes
            .iter()
            .position(|it| it.me.node == node)
            .expect("the node is of this world")
    }

    /// Adds an op with one report.
    pub(crate) fn report(&mut self, index: usize, report: impl Into<Report>) -> OpId {
        let hlc = self.clock.tick(self.now_ms);
        let network = self.genesis.network();
        let node = &mut self.nodes[index];
        let slot = Slot {
            chain: node.chain,
            seq: node.seq,
            previous: node.previous,
        };
        let body = Body {
            hlc,
            dependencies: Vec::new(),
            entries: vec![report.into().to_entry()],
        };
        let op = Op::sign(network, slot, body, &node.secret);
        let id = op.id();
        (node.seq, node.previous) = (node.seq + 1, id);
        self.fold.apply(vec![op]);
        id
    }

    /// What became of the first entry of an op.
    pub(crate) fn outcome(&self, op: OpId) -> Outcome {
        self.fold.outcomes(op).expect("the op was folded")[0].clone()
    }

    /// Ann's command enters at node 0, and must count.
    pub(crate) fn command(&mut self, body: command::Body) -> CommandId {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        let not_after_ms = self.now_ms + 60_000;
        let command = Command {
            key: self.owner.public(),
            nonce,
            not_after_ms,
            after: Vec::new(),
            body,
        };
        let signed = command.sign(self.genesis.network(), &self.owner);
        self.report(
            0,
            Carry {
                command: signed.bytes().to_vec(),
            },
        );
        let outcome = self.cloud().commands[&signed.id()].outcome.clone();
        assert_eq!(outcome, Outcome::Applied);
        signed.id()
    }

    /// Asks for an image of a context that was uploaded to node 0.
    pub(crate) fn ask_build(&mut self, name: &str) -> BuildId {
        let context = Digest(hash("reactors test context", &[name.as_bytes()]));
        let held_by = self.id(0);
        self.nodes[0].observed.contexts.insert(context);
        self.command(
            BuildImage {
                name: name.into(),
                context,
                context_bytes: 9,
                held_by,
            }
            .into(),
        )
        .into()
    }

    /// An image that a node has built and holds.
    pub(crate) fn built(&mut self, name: &str, by: usize) -> BuildId {
        let build = self.ask_build(name);
        self.finish(build, by);
        build
    }

    pub(crate) fn finish(&mut self, build: BuildId, by: usize) {
        let image = image_of(build);
        self.report(
            by,
            ImageBuilt {
                build,
                image,
                bytes: 1 << 20,
                took_ms: 5,
            },
        );
        self.hold(by, image);
    }

    pub(crate) fn fail(&mut self, build: BuildId, by: usize, reason: &str) {
        self.report(
            by,
            ImageFailed {
                build,
                reason: reason.into(),
            },
        );
    }

    /// A node's host gets an image.
    pub(crate) fn hold(&mut self, index: usize, image: Digest) {
        let restart = Restart {
            attempts: 3,
            backoff_ms: 100,
        };
        let workload = Workload {
            entrypoint: vec!["/agent".into()],
            env: Vec::new(),
            workdir: "/".into(),
            restart,
            health: Health::Process,
        };
        let path = PathBuf::from(format!("/images/{image}"));
        self.nodes[index]
            .observed
            .images
            .insert(image, HeldImage { path, workload });
    }

    pub(crate) fn agent(&mut self, name: &str, build: BuildId) -> AgentId {
        let release = Release {
            description: String::new(),
            build,
            shape: SHAPE,
            port: Some(8080),
        };
        self.command(
            RegisterAgent {
                name: name.into(),
                release,
            }
            .into(),
        )
        .into()
    }

    pub(crate) fn launch(&mut self, name: &str, agent: Option<AgentId>, build: BuildId) -> InstanceId {
        self.launch_shaped(name, agent, build, SHAPE)
    }

    pub(crate) fn launch_shaped(
        &mut self,
        name: &str,
        agent: Option<AgentId>,
        build: BuildId,
        shape: Shape,
    ) -> InstanceId {
        let launch = LaunchInstance {
            name: name.into(),
            agent,
            build,
            shape,
            port: Some(8080),
        };
        let id = InstanceId::from(self.command(launch.into()));
        self.names.insert(id, name.to_owned());
        id
    }

    pub(crate) fn stop(&mut self, instance: InstanceId) {
        self.command(StopInstance { instance }.into());
    }

    pub(crate) fn start(&mut self, instance: InstanceId) {
        self.command(StartInstance { instance }.into());
    }

    pub(crate) fn delete(&mut self, instance: InstanceId) {
        self.command(DeleteInstance { instance }.into());
    }

    /// A scheduler, whoever it may be, places an instance.
    pub(crate) fn place(&mut self, instance: InstanceId, generation: u64, on: usize) -> OpId {
        let previous = self.cloud().instances[&instance].placed;
        let node = self.id(on);
        self.report(
            0,
            PlaceInstance {
                instance,
                generation,
                previous,
                node,
            },
        )
    }

    /// An instance `name` of image `img` is placed on a node that holds the image.
    pub(crate) fn placed(&mut self, name: &str, on: usize) -> InstanceId {
        let build = self.built(name, on);
        let instance = self.launch(name, None, build);
        self.place(instance, 1, on);
        instance
    }

    /// The phase that the Cloud has of an instance, and of which start.
    pub(crate) fn phase(&self, instance: InstanceId) -> Option<(u32, Phase)> {
        let status = self.cloud().instances.get(&instance)?.status.clone()?;
        Some((status.start, status.phase))
    }

    pub(crate) fn holder(&self, instance: InstanceId) -> Option<usize> {
        let cloud = self.cloud();
        Some(self.index(cloud.instances.get(&instance)?.placement()?.node))
    }

    /// The machine of an instance on a node changes by itself.
    pub(crate) fn machine(&mut self, index: usize, instance: InstanceId, state: MachineState) {
        let machine = self.nodes[index]
            .observed
            .machines
            .get_mut(&instance)
            .expect("the machine is there");
        machine.state = state;
    }

    /// A machine is on a host.
    pub(crate) fn held(&mut self, index: usize, instance: InstanceId, generation: u64, state: MachineState) {
        let machine = HeldMachine {
            spec: None,
            generation,
            start: 1,
            state,
            ending: Ending::ByItself,
        };
        self.nodes[index].observed.machines.insert(instance, machine);
    }

    /// Time passes; every node that is up tells its presence each second, and all that are up hear it.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        loop {
            self.hear();
            if self.now_ms >= end_ms {
                return;
            }
            self.now_ms = end_ms.min(self.now_ms + 1_000);
        }
    }

    /// Every node that is up tells its presence, and all that are up hear it.
    pub(crate) fn hear(&mut self) {
        let (cloud, now_ms) = (self.cloud(), self.now_ms);
        let mut told: Vec<Presence> = Vec::new();
        for node in self.nodes.iter_mut().filter(|node| node.up) {
            node.presence_seq += 1;
            told.push(presence::own(
                &cloud,
                &node.me,
                &node.observed,
                &node.chain,
                node.presence_seq,
                now_ms,
            ));
        }
        for node in self.nodes.iter_mut().filter(|node| node.up) {
            for presence in &told {
                let seen = Seen {
                    presence: presence.clone(),
                    arrived_ms: now_ms,
                };
                node.observed.presences.insert(presence.node, seen);
            }
        }
    }

    pub(crate) fn decide(&self, index: usize) -> Vec<Action> {
        let node = &self.nodes[index];
        reactors::decide::decide(&self.cloud(), &node.observed, &node.me, self.now_ms)
    }

    /// What a node would do now, tables apart.
    pub(crate) fn shown(&self, index: usize) -> Vec<String> {
        self.decide(index)
            .iter()
            .filter_map(|action| self.show(action))
            .collect()
    }

    /// What all nodes that are up would do now, tables apart, with the node before each.
    pub(crate) fn all_shown(&self) -> Vec<String> {
        let up = (0..self.nodes.len()).filter(|index| self.nodes[*index].up);
        up.flat_map(|index| {
            let name = self.nodes[index].name.clone();
            self.shown(index)
                .into_iter()
                .map(move |line| format!("{name}: {line}"))
        })
        .collect()
    }

    fn show(&self, action: &Action) -> Option<String> {
        let name = |id: &InstanceId| self.names.get(id).cloned().unwrap_or_else(|| id.short());
        Some(match action {
            Action::Report(Report::PlaceInstance(it)) => {
                let on = &self.nodes[self.index(it.node)].name;
                format!("place {} g{} on {on}", name(&it.instance), it.generation)
            }
            Action::Report(Report::CannotPlace(it)) => {
                format!(
                    "cannot place {} g{}: {}",
                    name(&it.instance),
                    it.generation,
                    it.reason
                )
            }
            Action::Report(Report::InstanceChanged(it)) => {
                let phase = match &it.phase {
                    Phase::Failed { reason, .. } => format!("failed, {reason}"),
                    phase => format!("{phase:?}").to_lowercase(),
                };
                format!(
                    "tell {} g{} s{} {phase}",
                    name(&it.instance),
                    it.generation,
                    it.start
                )
            }
            Action::Report(report) => format!("report {}", report.name()),
            Action::Fetch { digest, from } => {
                let from: Vec<&str> = from
                    .iter()
                    .map(|node| self.nodes[self.index(*node)].name.as_str())
                    .collect();
                format!("fetch {} from {}", self.blob(digest), from.join(" "))
            }
            Action::Build { build, .. } => format!("build {}", self.cloud().builds[build].request.name),
            Action::Start { spec, start } => {
                format!(
                    "start {} g{} s{start}",
                    name(&InstanceId(spec.id.0)),
                    spec.generation
                )
            }
            Action::Stop {
                instance, generation, ..
            } => format!("stop {} g{generation}", name(instance)),
            Action::Delete { instance, generation } => format!("delete {} g{generation}", name(instance)),
            Action::Forget { digest } => format!("forget {}", self.blob(digest)),
            Action::Names(_) | Action::Fronts(_) | Action::Guests(_) | Action::Peers(_) => return None,
        })
    }

    fn blob(&self, digest: &Digest) -> String {
        for build in self.cloud().builds.values() {
            if build.request.context == *digest {
                return format!("context {}", build.request.name);
            }
            if image_of(build.id) == *digest {
                return format!("image {}", build.request.name);
            }
        }
        digest.short()
    }

    /// A node does what it decided; the host is well unless the instance's behaviour says otherwise.
    pub(crate) fn perform(&mut self, index: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Report(report) => {
                    self.report(index, report);
                }
                Action::Fetch { digest, from } => {
                    let image = self
                        .cloud()
                        .builds
                        .values()
                        .any(|build| image_of(build.id) == digest);
                    let held = from
                        .iter()
                        .map(|node| &self.nodes[self.index(*node)])
                        .any(|node| {
                            let observed = &node.observed;
                            let has =
                                observed.images.contains_key(&digest) || observed.contexts.contains(&digest);
                            node.up && has
                        });
                    match (held, image) {
                        (false, _) => {}
                        (true, true) => self.hold(index, digest),
                        (true, false) => {
                            self.nodes[index].observed.contexts.insert(digest);
                        }
                    }
                }
                Action::Build { build, .. } => self.finish(build, index),
                Action::Start { spec, start } => {
                    let id = InstanceId(spec.id.0);
                    let state = match self.behaviour.get(&id) {
                        None | Some(Behaviour::Serves) => MachineState::Running { serving: true },
                        Some(Behaviour::Ends) => MachineState::Stopped,
                        Some(Behaviour::Fails) => MachineState::Failed {
                            reason: "exit status 1".into(),
                            exit_code: Some(1),
                        },
                    };
                    let (generation, ending) = (spec.generation, Ending::ByItself);
                    let machine = HeldMachine {
                        spec: Some(*spec),
                        generation,
                        start,
                        state,
                        ending,
                    };
                    self.nodes[index].observed.machines.insert(id, machine);
                }
                Action::Stop { instance, .. } => {
                    if let Some(machine) = self.nodes[index].observed.machines.get_mut(&instance) {
                        (machine.state, machine.ending) = (MachineState::Stopped, Ending::Asked);
                    }
                }
                Action::Delete { instance, .. } => {
                    self.nodes[index].observed.machines.remove(&instance);
                }
                Action::Forget { digest } => {
                    self.nodes[index].observed.images.remove(&digest);
                    self.nodes[index].observed.contexts.remove(&digest);
                }
                Action::Names(_) | Action::Fronts(_) | Action::Guests(_) | Action::Peers(_) => {}
            }
        }
    }

    /// Nodes decide and do in turns, hearing each other in between, until nothing new is decided. Gives the
    /// lines of all that was done.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        let mut done = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.hear();
            let before = self.all_shown();
            let news: BTreeSet<&String> = before.iter().collect();
            if news
                .iter()
                .all(|line| line.contains(": fetch ") && done.contains(*line))
            {
                return done;
            }
            for index in 0..self.nodes.len() {
                if self.nodes[index].up {
                    let actions = self.decide(index);
                    self.perform(index, actions);
                }
            }
            done.extend(before);
        }
        panic!("the nodes do not come to rest: {:#?}", self.all_shown());
    }
}

/// The image that every builder of these worlds makes of a build.
pub(crate) fn image_of(build: BuildId) -> Digest {
    Digest(hash("reactors test image", &[&build.0]))
}
