//! The twin of a host and its hands: actions take their time, fail now and then, and what is running
//! survives the daemon's process but not the host's loss.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ledger::id::{BuildId, Digest, InstanceId, hash};
use reactors::action::Action;
use reactors::node::HostEvent;
use reactors::observed::HeldImage;
use vmm::machine::MachineState;
use vmm::spec::{Health, Restart, Workload};

use crate::chance::Chance;

/// A machine that runs here, for the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// For which placement.
    pub generation: u64,
    /// Which start in it.
    pub start: u32,
    /// Its guest booted.
    pub booted: bool,
    /// Counts the starts of this host.
    pub run: u64,
}

/// A host.
#[derive(Debug)]
pub struct Host {
    chance: Chance,
    failures_permille: u32,
    machines: BTreeMap<InstanceId, Running>,
    highest: BTreeMap<InstanceId, u64>,
    images: BTreeSet<Digest>,
    contexts: BTreeSet<Digest>,
    runs: u64,
    /// Starts of a generation below one seen before: must stay 0.
    pub backward_starts: u64,
}

/// What an action leads to, after how long. The events are given to the core in order.
pub struct Effect {
    /// When.
    pub after_ms: u64,
    /// What.
    pub events: Vec<HostEvent>,
    /// The run of a machine that it is about: it comes to nothing once that run has ended.
    pub run: Option<(InstanceId, u64)>,
}

impl Effect {
    fn new(after_ms: u64, events: Vec<HostEvent>) -> Self {
        Self { after_ms, events, run: None }
    }
}

/// The image that a context builds into: the same on every host.
pub fn image_of(context: Digest) -> Digest {
    Digest(hash("formation 2026 simulated image", &[&context.0]))
}

fn held_image(digest: Digest) -> HeldImage {
    let workload = Workload {
        entrypoint: vec!["/agent".into()],
        env: Vec::new(),
        workdir: "/".into(),
        restart: Restart { attempts: 3, backoff_ms: 500 },
        health: Health::Process,
    };
    HeldImage { path: PathBuf::from(format!("/blobs/{digest}")), workload }
}

impl Host {
    /// A host that holds nothing.
    pub fn new(failures_permille: u32, chance: Chance) -> Self {
        Self {
            chance,
            failures_permille,
            machines: BTreeMap::new(),
            highest: BTreeMap::new(),
            images: BTreeSet::new(),
            contexts: BTreeSet::new(),
            runs: 0,
            backward_starts: 0,
        }
    }

    /// Machines that run.
    pub fn machines(&self) -> &BTreeMap<InstanceId, Running> {
        &self.machines
    }

    /// A build's context arrives by a person's upload.
    pub fn upload(&mut self, context: Digest) -> HostEvent {
        self.contexts.insert(context);
        HostEvent::Context { digest: context }
    }

    /// Nothing fails from here on.
    pub fn heal(&mut self) {
        self.failures_permille = 0;
    }

    /// The power fails: machines are gone, disks stay.
    pub fn lose_power(&mut self) {
        self.machines.clear();
    }

    /// What a daemon that starts here finds.
    pub fn adopt(&self) -> Vec<HostEvent> {
        let images = self.images.iter().map(|digest| HostEvent::Image { digest: *digest, image: held_image(*digest) });
        let contexts = self.contexts.iter().map(|digest| HostEvent::Context { digest: *digest });
        let machines = self.machines.iter().map(|(instance, running)| {
            let state =
                if running.booted { MachineState::Running { serving: true } } else { MachineState::Starting };
            machine_event(*instance, running.generation, state)
        });
        images.chain(contexts).chain(machines).collect()
    }

    /// Does an action. `holds` tells whether a peer has a blob.
    pub fn act(&mut self, action: Action, holds: impl Fn(Digest) -> bool) -> Vec<Effect> {
        let key = action.key();
        let failed = self.chance.permille(self.failures_permille);
        let done = |ok| HostEvent::Done { key, ok };
        let mut effects = Vec::new();
        match action {
            Action::Fetch { digest, .. } => {
                let ok = !failed && holds(digest);
                let after_ms = self.chance.between(20, 2_000);
                let mut events = Vec::new();
                if ok {
                    self.images.insert(digest);
                    self.contexts.insert(digest);
                    events.push(HostEvent::Context { digest });
                    events.push(HostEvent::Image { digest, image: held_image(digest) });
                }
                events.push(done(ok));
                effects.push(Effect::new(after_ms, events));
            }
            Action::Build { build, context } => effects.push(self.build(build, context, failed, done(true))),
            Action::Start { spec, start } => {
                let instance = InstanceId(spec.id.0);
                let highest = self.highest.entry(instance).or_default();
                if spec.generation < *highest {
                    self.backward_starts += 1;
                    return vec![Effect::new(1, vec![done(false)])];
                }
                *highest = spec.generation;
                self.runs += 1;
                let (generation, run) = (spec.generation, self.runs);
                self.machines.insert(instance, Running { generation, start, booted: false, run });
                let starting = machine_event(instance, generation, MachineState::Starting);
                effects.push(Effect::new(5, vec![starting, done(true)]));
                let state = if failed {
                    MachineState::Failed { reason: "it did not boot".into(), exit_code: None }
                } else {
                    MachineState::Running { serving: true }
                };
                let mut booted = Effect::new(
                    self.chance.between(200, 6_000),
                    vec![machine_event(instance, generation, state)],
                );
                booted.run = Some((instance, run));
                effects.push(booted);
            }
            Action::Stop { instance, .. } => {
                let after_ms = self.chance.between(5, 1_000);
                let mut events = Vec::new();
                if let Some(running) = self.machines.remove(&instance) {
                    events.push(machine_event(instance, running.generation, MachineState::Stopped));
                }
                events.push(done(true));
                effects.push(Effect::new(after_ms, events));
            }
            Action::Delete { instance, .. } => {
                self.machines.remove(&instance);
                let after_ms = self.chance.between(5, 500);
                effects.push(Effect::new(after_ms, vec![HostEvent::MachineGone { instance }, done(true)]));
            }
            Action::Forget { digest } => {
                self.images.remove(&digest);
                self.contexts.remove(&digest);
                effects.push(Effect::new(1, vec![HostEvent::BlobGone { digest }, done(true)]));
            }
            Action::Names(_) | Action::Fronts(_) | Action::Guests(_) | Action::Peers(_) => {
                effects.push(Effect::new(1, vec![done(true)]));
            }
            Action::Report(_) => {}
        }
        effects
    }

    /// Whether this host can give a blob.
    pub fn holds(&self, digest: Digest) -> bool {
        self.images.contains(&digest) || self.contexts.contains(&digest)
    }

    fn build(&mut self, build: BuildId, context: Digest, failed: bool, done: HostEvent) -> Effect {
        let took_ms = self.chance.between(500, 8_000);
        let mut events = Vec::new();
        let result = if failed {
            Err("the RUN step failed".to_owned())
        } else {
            let image = image_of(context);
            self.images.insert(image);
            events.push(HostEvent::Image { digest: image, image: held_image(image) });
            Ok((image, 64 << 20))
        };
        events.push(HostEvent::Built { build, result, took_ms });
        events.push(done);
        Effect::new(took_ms, events)
    }

    /// Whether an effect still comes to something; notes what it changes.
    pub fn settle(&mut self, effect: &Effect) -> bool {
        let Some((instance, run)) = effect.run else { return true };
        let Some(running) = self.machines.get_mut(&instance).filter(|running| running.run == run) else {
            return false;
        };
        for event in &effect.events {
            match event {
                HostEvent::Machine { state: MachineState::Running { .. }, .. } => running.booted = true,
                HostEvent::Machine { state: MachineState::Failed { .. }, .. } => {
                    self.machines.remove(&instance);
                    return true;
                }
                _ => {}
            }
        }
        true
    }
}

fn machine_event(instance: InstanceId, generation: u64, state: MachineState) -> HostEvent {
    HostEvent::Machine { instance, generation, spec: None, state }
}
