//! The twin of a host and its hands: actions take their time and fail now and then; what the hands promise
//! about generations, adoption and deletion is kept here as they keep it.
//!
//! ```text
//! ends with           machines                              builds, fetches, deletions     tables of names, fronts
//! the daemon          go on, and are found again            are lost                       are lost
//! the host's power    have failed; their disks stay         are lost                       are lost
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ledger::id::{BuildId, Digest, InstanceId, NodeId, hash};
use net::fronts::FrontTable;
use net::guests::GuestTable;
use net::names::NameTable;
use reactors::action::{Action, ActionKey};
use reactors::node::HostEvent;
use reactors::observed::HeldImage;
use vmm::machine::MachineState;
use vmm::spec::{Health, Restart, Workload};

use crate::chance::Chance;

/// A machine of a host, from its first start until it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// For which placement it was last started.
    pub generation: u64,
    /// Which start in it.
    pub start: u32,
    /// How it is.
    pub state: MachineState,
    /// Which of the host's starts: what was meant for an earlier one does not reach it.
    run: u64,
}

/// The tables that the hands were given last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tables {
    /// What the DNS answers from.
    pub names: NameTable,
    /// Where the front door leads.
    pub fronts: FrontTable,
    /// The links and routes of the kernel.
    pub guests: GuestTable,
    /// Whom the transport stays connected to.
    pub peers: BTreeSet<NodeId>,
}

/// How often what goes wrong does, in a thousand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mishaps {
    /// Actions that fail.
    pub failures_permille: u32,
    /// Starts of machines that end by themselves after a while, or are unwell for a while.
    pub exits_permille: u32,
}

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    chance: Chance,
    mishaps: Mishaps,
    machines: BTreeMap<InstanceId, Machine>,
    /// The highest generation that the hand was told of each machine, also of deleted ones.
    seen: BTreeMap<InstanceId, u64>,
    images: BTreeSet<Digest>,
    contexts: BTreeSet<Digest>,
    tables: Tables,
    runs: u64,
    backward: u64,
}

/// What a blob is; on a real host its manifest says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blob {
    /// An image.
    Image,
    /// The context of a build.
    Context,
}

/// What comes of an action, after how long.
#[derive(Clone, Debug)]
pub struct Effect {
    /// When.
    pub after_ms: u64,
    /// What.
    pub work: Work,
    /// The action that ends with it, and how.
    pub done: Option<(ActionKey, bool)>,
}

/// What changes on the host.
#[derive(Clone, Debug)]
pub enum Work {
    /// Nothing.
    Nothing,
    /// A machine comes to a state by itself, if it is still in that run and alive.
    Machine {
        /// Which.
        instance: InstanceId,
        /// In which run.
        run: u64,
        /// How it is then.
        state: MachineState,
        /// It is a mishap: none comes once the faults have ended.
        mishap: bool,
    },
    /// Nothing is left of a machine.
    Delete(InstanceId),
    /// A blob is complete.
    Fetch(Digest, Blob),
    /// A build ended.
    Build {
        /// Which.
        build: BuildId,
        /// From what.
        context: Digest,
        /// It failed.
        failed: bool,
        /// How long it took.
        took_ms: u64,
    },
    /// A blob is gone.
    Forget(Digest),
    /// A table is applied.
    Table(Box<Action>),
}

impl Effect {
    /// Whether it comes about even if the daemon that asked for it has ended.
    pub fn outlives_the_daemon(&self) -> bool {
        matches!(self.work, Work::Machine { .. })
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
        restart: Restart {
            attempts: 3,
            backoff_ms: 500,
        },
        health: Health::Process,
    };
    HeldImage {
        path: PathBuf::from(format!("/blobs/{digest}")),
        workload,
    }
}

fn failed(reason: &str, exit_code: Option<i32>) -> MachineState {
    MachineState::Failed {
        reason: reason.into(),
        exit_code,
    }
}

impl Host {
    /// A host that holds nothing.
    pub fn new(mishaps: Mishaps, chance: Chance) -> Self {
        Self {
            chance,
            mishaps,
            machines: BTreeMap::new(),
            seen: BTreeMap::new(),
            images: BTreeSet::new(),
            contexts: BTreeSet::new(),
            tables: Tables::default(),
            runs: 0,
            backward: 0,
        }
    }

    /// Its machines, those that ended and were not deleted too.
    pub fn machines(&self) -> &BTreeMap<InstanceId, Machine> {
        &self.machines
    }

    /// The tables that its hands go by.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Starts of machines, ever.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Orders that came too late: starts of a lower generation than one seen before, stops and deletions of a
    /// lower one than the machine's.
    pub fn backward(&self) -> u64 {
        self.backward
    }

    /// What a blob is that this host can give.
    pub fn holds(&self, digest: Digest) -> Option<Blob> {
        let image = self.images.contains(&digest).then_some(Blob::Image);
        image.or_else(|| self.contexts.contains(&digest).then_some(Blob::Context))
    }

    /// A build's context arrives by a person's upload.
    pub fn upload(&mut self, context: Digest) -> HostEvent {
        self.contexts.insert(context);
        HostEvent::Context { digest: context }
    }

    fn keep_image(&mut self, digest: Digest) -> HostEvent {
        self.images.insert(digest);
        HostEvent::Image {
            digest,
            image: held_image(digest),
        }
    }

    /// Nothing goes wrong from here on.
    pub fn heal(&mut self) {
        self.mishaps = Mishaps::default();
    }

    /// The daemon ends: what lived in its process is gone.
    pub fn lose_daemon(&mut self) {
        self.tables = Tables {
            guests: std::mem::take(&mut self.tables.guests),
            ..Tables::default()
        };
    }

    /// The power fails: what ran has failed, disks stay.
    pub fn lose_power(&mut self) {
        self.lose_daemon();
        self.tables = Tables::default();
        for machine in self
            .machines
            .values_mut()
            .filter(|machine| machine.state.is_alive())
        {
            machine.state = failed("the machine's process was killed, or the host restarted", None);
        }
    }

    /// What a daemon that starts here finds.
    pub fn adopt(&self) -> Vec<HostEvent> {
        let images = self.images.iter().map(|digest| HostEvent::Image {
            digest: *digest,
            image: held_image(*digest),
        });
        let contexts = self
            .contexts
            .iter()
            .map(|digest| HostEvent::Context { digest: *digest });
        let machines = self.machines.keys().filter_map(|instance| self.tell(*instance));
        images
            .chain(contexts)
            .chain(machines)
            .chain([HostEvent::Known])
            .collect()
    }

    fn tell(&self, instance: InstanceId) -> Option<HostEvent> {
        let machine = self.machines.get(&instance)?;
        let (generation, state) = (machine.generation, machine.state.clone());
        Some(HostEvent::Machine {
            instance,
            generation,
            spec: None,
            state,
        })
    }

    /// Begins an action: what the hand tells at once, and what comes of it later. `near` tells what a blob is
    /// that one of these nodes has and that can be reached.
    pub fn begin(
        &mut self,
        action: Action,
        near: impl Fn(&[NodeId], Digest) -> Option<Blob>,
    ) -> (Vec<HostEvent>, Vec<Effect>) {
        let key = action.key();
        let fails = self.chance.permille(self.mishaps.failures_permille);
        match action {
            Action::Report(_) => (Vec::new(), Vec::new()),
            Action::Fetch { digest, from } => {
                let found = near(&from, digest).filter(|_| !fails);
                let work = found.map_or(Work::Nothing, |blob| Work::Fetch(digest, blob));
                (Vec::new(), vec![self.ends(key, 20, 2_000, work, found.is_some())])
            }
            Action::Build { build, context } => {
                let mut effect = self.ends(key, 500, 8_000, Work::Nothing, true);
                effect.work = Work::Build {
                    build,
                    context,
                    failed: fails,
                    took_ms: effect.after_ms,
                };
                (Vec::new(), vec![effect])
            }
            Action::Forget { digest } => (
                Vec::new(),
                vec![self.ends(key, 1, 50, Work::Forget(digest), true)],
            ),
            table @ (Action::Names(_) | Action::Fronts(_) | Action::Guests(_) | Action::Peers(_)) => {
                let work = if fails {
                    Work::Nothing
                } else {
                    Work::Table(Box::new(table))
                };
                (Vec::new(), vec![self.ends(key, 1, 20, work, !fails)])
            }
            Action::Start { spec, start } => {
                self.start(key, InstanceId(spec.id.0), spec.generation, start, fails)
            }
            Action::Stop {
                instance,
                generation,
                grace_ms,
            } => {
                let known = self.machines.contains_key(&instance);
                if !known || !self.see_no_newer(instance, generation) {
                    return (Vec::new(), vec![self.ends(key, 1, 50, Work::Nothing, false)]);
                }
                let mut effects = vec![self.ends(key, 1, 50, Work::Nothing, true)];
                effects.extend(self.end(instance, grace_ms.min(1_000)));
                (self.tell(instance).into_iter().collect(), effects)
            }
            Action::Delete { instance, generation } => {
                if !self.see_no_newer(instance, generation) {
                    return (Vec::new(), vec![self.ends(key, 1, 50, Work::Nothing, false)]);
                }
                if fails {
                    return (Vec::new(), vec![self.ends(key, 1, 500, Work::Nothing, false)]);
                }
                let mut effects = vec![self.ends(key, 501, 1_000, Work::Delete(instance), true)];
                effects.extend(self.end(instance, 500));
                (self.tell(instance).into_iter().collect(), effects)
            }
        }
    }

    fn ends(&mut self, key: ActionKey, low_ms: u64, high_ms: u64, work: Work, ok: bool) -> Effect {
        Effect {
            after_ms: self.chance.between(low_ms, high_ms),
            work,
            done: Some((key, ok)),
        }
    }

    /// Notes the generation of a start; false if it is a step back.
    fn see(&mut self, instance: InstanceId, generation: u64) -> bool {
        let seen = self.seen.entry(instance).or_default();
        if generation < *seen {
            self.backward += 1;
            return false;
        }
        *seen = generation;
        true
    }

    /// Notes the generation of a stop or deletion; false if the machine here is newer.
    fn see_no_newer(&mut self, instance: InstanceId, generation: u64) -> bool {
        let here = self
            .machines
            .get(&instance)
            .map_or(0, |machine| machine.generation);
        if generation < here {
            self.backward += 1;
            return false;
        }
        let seen = self.seen.entry(instance).or_default();
        *seen = generation.max(*seen);
        true
    }

    /// A machine that lives is asked to end.
    fn end(&mut self, instance: InstanceId, within_ms: u64) -> Option<Effect> {
        let machine = self
            .machines
            .get_mut(&instance)
            .filter(|machine| machine.state.is_alive())?;
        machine.state = MachineState::Stopping;
        let work = Work::Machine {
            instance,
            run: machine.run,
            state: MachineState::Stopped,
            mishap: false,
        };
        Some(Effect {
            after_ms: self.chance.between(5, within_ms.max(5)),
            work,
            done: None,
        })
    }

    fn start(
        &mut self,
        key: ActionKey,
        instance: InstanceId,
        generation: u64,
        start: u32,
        fails: bool,
    ) -> (Vec<HostEvent>, Vec<Effect>) {
        let done = |ok| Effect {
            after_ms: 5,
            work: Work::Nothing,
            done: Some((key, ok)),
        };
        // Of the failures, some come before anything has begun.
        if !self.see(instance, generation) || fails && self.chance.permille(500) {
            return (Vec::new(), vec![done(false)]);
        }
        let alive = |machine: &&Machine| machine.generation == generation && machine.state.is_alive();
        if self.machines.get(&instance).filter(alive).is_some() {
            return (Vec::new(), vec![done(true)]);
        }
        self.runs += 1;
        let run = self.runs;
        self.machines.insert(
            instance,
            Machine {
                generation,
                start,
                state: MachineState::Starting,
                run,
            },
        );
        let mut effects = vec![done(true)];
        let mut at_ms = self.chance.between(200, 4_000);
        let mut then = |after_ms, state, mishap| {
            effects.push(Effect {
                after_ms,
                work: Work::Machine {
                    instance,
                    run,
                    state,
                    mishap,
                },
                done: None,
            });
        };
        if fails {
            then(at_ms, failed("it did not boot", None), false);
        } else {
            then(at_ms, MachineState::Running { serving: false }, false);
            at_ms += self.chance.between(10, 2_000);
            then(at_ms, MachineState::Running { serving: true }, false);
            if self.chance.permille(self.mishaps.exits_permille) {
                at_ms += self.chance.between(1_000, 60_000);
                match self.chance.between(0, 2) {
                    0 => then(at_ms, MachineState::Stopped, true),
                    1 => then(at_ms, failed("the entrypoint ended", Some(1)), true),
                    _ => {
                        then(at_ms, MachineState::Running { serving: false }, true);
                        then(at_ms + 3_000, MachineState::Running { serving: true }, false);
                    }
                }
            }
        }
        (self.tell(instance).into_iter().collect(), effects)
    }

    /// An effect comes about: what the hand tells of it. `healed`: no mishaps any more.
    pub fn settle(&mut self, work: Work, healed: bool) -> Vec<HostEvent> {
        match work {
            Work::Nothing => Vec::new(),
            Work::Machine { mishap: true, .. } if healed => Vec::new(),
            Work::Machine {
                instance, run, state, ..
            } => {
                let machine = self.machines.get_mut(&instance);
                let Some(machine) = machine.filter(|machine| machine.run == run && machine.state.is_alive())
                else {
                    return Vec::new();
                };
                // What is being stopped comes to no other end.
                if machine.state == MachineState::Stopping && state != MachineState::Stopped {
                    return Vec::new();
                }
                machine.state = state;
                self.tell(instance).into_iter().collect()
            }
            Work::Delete(instance) => {
                self.machines.remove(&instance);
                vec![HostEvent::MachineGone { instance }]
            }
            Work::Fetch(digest, Blob::Context) => vec![self.upload(digest)],
            Work::Fetch(digest, Blob::Image) => vec![self.keep_image(digest)],
            Work::Build {
                build,
                failed: true,
                took_ms,
                ..
            } => {
                vec![HostEvent::Built {
                    build,
                    result: Err("the RUN step failed".into()),
                    took_ms,
                }]
            }
            Work::Build {
                build,
                context,
                took_ms,
                ..
            } => {
                let image = image_of(context);
                vec![
                    self.keep_image(image),
                    HostEvent::Built {
                        build,
                        result: Ok((image, 64 << 20)),
                        took_ms,
                    },
                ]
            }
            Work::Forget(digest) => {
                self.images.remove(&digest);
                self.contexts.remove(&digest);
                vec![HostEvent::BlobGone { digest }]
            }
            Work::Table(table) => {
                match *table {
                    Action::Names(names) => self.tables.names = names,
                    Action::Fronts(fronts) => self.tables.fronts = fronts,
                    Action::Guests(guests) => self.tables.guests = guests,
                    Action::Peers(peers) => self.tables.peers = peers.into_keys().collect(),
                    _ => {}
                }
                Vec::new()
            }
        }
    }
}
