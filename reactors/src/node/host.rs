//! What the hands tell the node, and what the node notes when it asks something of them. What is durable of
//! it the reactors report; here it only becomes what is observed.

use ledger::id::{BuildId, Digest, InstanceId};
use ledger::report::Report;
use ledger::report::images::{ImageBuilt, ImageFailed, REASON_MAX};
use vmm::machine::MachineState;
use vmm::spec::MachineSpec;

use super::{Node, Output};
use crate::action::{Action, ActionKey};
use crate::observed::{Ending, HeldImage, HeldMachine};

/// What a hand tells.
#[derive(Debug)]
pub enum HostEvent {
    /// A machine is in this state.
    Machine {
        /// Which.
        instance: InstanceId,
        /// Generation that it was last started for.
        generation: u64,
        /// What it was started from, as far as the hand knows.
        spec: Option<Box<MachineSpec>>,
        /// How it is.
        state: MachineState,
    },
    /// Nothing is left of a machine.
    MachineGone {
        /// Which.
        instance: InstanceId,
    },
    /// An image is complete here.
    Image {
        /// Digest of its manifest.
        digest: Digest,
        /// Where it is and what runs in it.
        image: HeldImage,
    },
    /// A build's context is complete here.
    Context {
        /// Digest of its manifest.
        digest: Digest,
    },
    /// A blob is no longer here.
    BlobGone {
        /// Digest of its manifest.
        digest: Digest,
    },
    /// A build ended.
    Built {
        /// Which.
        build: BuildId,
        /// The image and its size, or why there is none.
        result: Result<(Digest, u64), String>,
        /// How long it took.
        took_ms: u64,
    },
    /// The hands have told of everything that this host holds.
    Known,
    /// An action ended. What it changed was told by an event before.
    Done {
        /// Which.
        key: ActionKey,
        /// Whether it did what it should.
        ok: bool,
    },
}

impl Node {
    pub(super) fn host(&mut self, event: HostEvent, now_ms: u64, out: &mut Vec<Output>) {
        match event {
            HostEvent::Machine {
                instance,
                generation,
                spec,
                state,
            } => {
                self.machine(instance, generation, spec, state);
                // Others should hear at once that an instance became healthy, or ceased to be.
                self.presence_next_ms = now_ms;
            }
            HostEvent::MachineGone { instance } => {
                self.sees().machines.remove(&instance);
                // A start that fails from now on has nothing to go back to.
                if let Some(before) = self.before_start.get_mut(&instance) {
                    *before = None;
                }
            }
            HostEvent::Image { digest, image } => {
                self.sees().images.insert(digest, image);
            }
            HostEvent::Context { digest } => {
                self.sees().contexts.insert(digest);
            }
            HostEvent::BlobGone { digest } => {
                let observed = self.sees();
                observed.images.remove(&digest);
                observed.contexts.remove(&digest);
            }
            HostEvent::Built {
                build,
                result,
                took_ms,
            } => {
                let report = match result {
                    Ok((image, bytes)) => Report::ImageBuilt(ImageBuilt {
                        build,
                        image,
                        bytes,
                        took_ms,
                    }),
                    Err(reason) => Report::ImageFailed(ImageFailed {
                        build,
                        reason: last_bytes(reason),
                    }),
                };
                // Its hand tells of it once.
                self.say(report, now_ms, out);
            }
            HostEvent::Known => self.sees().host_known = true,
            HostEvent::Done { key, ok } => self.done(key, ok, now_ms),
        }
    }

    fn machine(
        &mut self,
        instance: InstanceId,
        generation: u64,
        spec: Option<Box<MachineSpec>>,
        state: MachineState,
    ) {
        let spec = spec.map(|spec| *spec);
        let held = self
            .observed
            .machines
            .get(&instance)
            .map(|machine| machine.generation);
        if held.is_some_and(|held| generation < held) {
            return;
        }
        let machines = &mut self.sees().machines;
        match machines.get_mut(&instance) {
            Some(machine) if generation == machine.generation => {
                machine.state = state;
                if spec.is_some() {
                    machine.spec = spec;
                }
            }
            _ => {
                let ending = if state.is_alive() {
                    Ending::ByItself
                } else {
                    Ending::Found
                };
                let machine = HeldMachine {
                    spec,
                    generation,
                    start: 0,
                    state,
                    ending,
                };
                machines.insert(instance, machine);
            }
        }
    }

    /// Notes what an action that goes out makes so, before its hand says more.
    pub(super) fn note_begun(&mut self, action: &Action) {
        match action {
            Action::Fetch { digest, .. } => {
                self.sees().fetching.insert(*digest, ());
            }
            Action::Build { build, .. } => {
                self.sees().building.insert(*build, ());
            }
            Action::Start { spec, start } => {
                let instance = InstanceId(spec.id.0);
                let machine = HeldMachine {
                    spec: Some((**spec).clone()),
                    generation: spec.generation,
                    start: *start,
                    state: MachineState::Starting,
                    ending: Ending::ByItself,
                };
                let before = self.sees().machines.insert(instance, machine);
                self.before_start.insert(instance, before);
            }
            Action::Stop { instance, .. } => {
                if let Some(machine) = self.sees().machines.get_mut(instance) {
                    machine.ending = Ending::Asked;
                }
            }
            _ => {}
        }
    }

    fn done(&mut self, key: ActionKey, ok: bool, now_ms: u64) {
        match &key {
            ActionKey::Fetch(digest) => {
                self.sees().fetching.remove(digest);
            }
            ActionKey::Build(build) => {
                self.sees().building.remove(build);
            }
            ActionKey::Start { instance, .. } => {
                let before = self.before_start.remove(instance);
                let starting = self
                    .observed
                    .machines
                    .get(instance)
                    .is_some_and(|machine| machine.state == MachineState::Starting);
                if !ok && starting {
                    match before.flatten() {
                        Some(machine) => self.sees().machines.insert(*instance, machine),
                        None => self.sees().machines.remove(instance),
                    };
                }
            }
            _ => {}
        }
        self.pace.done(&key, ok, now_ms);
    }
}

/// The end of a text, within what a report may hold: of a build's log the end says what went wrong.
fn last_bytes(text: String) -> String {
    let mut start = text.len().saturating_sub(REASON_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}
