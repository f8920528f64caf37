//! The machines of this node: started, stopped and removed as the Cloud wants, and what becomes of them
//! told to the log.
//!
//! ```text
//! placed here   wanted     machine                    what is done
//! ───────────   ────────   ────────────────────────   ──────────────────────────────────────────────
//! yes           Running    none, image held           start, unless there is no room for it here
//! yes           Running    alive                      tell Booted, then Serving
//! yes           Running    ended, asked for since     start again
//! yes           Running    ended by itself            tell Stopped or Failed
//! yes           Running    went with its host         start again
//! yes           Stopped    alive                      stop
//! yes           Stopped    ended or none              tell Stopped or Failed
//! yes           Deleted    any                        delete
//! yes           Deleted    none                       tell Deleted
//! yes           any        of another generation      stop, then delete
//! no            any        any                        stop; delete once the new holder has told something
//! (not in the Cloud)       any                        delete, after a grace
//! ```
//! A machine that failed is not started again by itself: what can be mended by a restart was restarted
//! inside the guest. The number of a start orders what is told; each start has a higher one.

use ledger::id::InstanceId;
use ledger::report::Report;
use ledger::report::images::REASON_MAX;
use ledger::report::instances::{InstanceChanged, Phase};
use projections::images::BuildState;
use projections::instances::{Instance, Placement, Wanted};
use vmm::machine::MachineState;
use vmm::spec::{Health, MachineId, MachineSpec};

use crate::action::{Action, PhaseKind};
use crate::nic;
use crate::observed::{Ending, HeldImage, HeldMachine};
use crate::sight::Sight;

/// How long a machine may take to stop by itself.
pub const STOP_GRACE_MS: u64 = 10_000;

/// A machine that the Cloud does not know is left alone for this long after the start of this process. The
/// log may still be on its way.
pub const UNKNOWN_GRACE_MS: u64 = 30_000;

/// What is to be done about the machines here.
pub fn decide(sight: &Sight<'_>) -> Vec<Action> {
    if !sight.observed.host_known {
        return Vec::new();
    }
    let mut actions = Vec::new();
    for (id, machine) in &sight.observed.machines {
        match sight.cloud.instances.get(id) {
            None => actions.extend(unknown(sight, *id, machine)),
            Some(instance) => {
                let current = sight
                    .placed_here(instance)
                    .filter(|it| it.generation == machine.generation);
                if current.is_none() {
                    actions.extend(superseded(sight, instance, machine));
                }
            }
        }
    }
    let cards = nic::cards(sight);
    for instance in sight.cloud.instances.values() {
        let Some(placed) = sight.placed_here(instance) else {
            continue;
        };
        let machine = sight.observed.machines.get(&instance.id);
        let place = Place {
            instance,
            placed,
            machine,
        };
        match machine {
            Some(machine) if machine.generation != placed.generation => continue,
            _ => {}
        }
        match instance.wanted {
            Wanted::Deleted => actions.push(place.delete()),
            Wanted::Stopped => actions.extend(place.stop()),
            Wanted::Running => match place.next_start() {
                // Another node will have it, or this one once there is room.
                Some(_) if sight.is_crowded_out(instance.id) => {}
                Some(start) => {
                    let spec = cards
                        .get(&instance.id)
                        .and_then(|card| spec(sight, &place, card.clone()));
                    actions.extend(spec.map(|spec| Action::Start {
                        spec: Box::new(spec),
                        start,
                    }));
                }
                None => actions.extend(place.tell()),
            },
        }
    }
    actions
}

/// A machine of no instance: its instance was deleted while this node could not hear it.
fn unknown(sight: &Sight<'_>, instance: InstanceId, machine: &HeldMachine) -> Option<Action> {
    let grace_over = sight.now_ms >= sight.observed.started_ms.saturating_add(UNKNOWN_GRACE_MS);
    let generation = machine.generation;
    (sight.observed.synced && grace_over).then_some(Action::Delete { instance, generation })
}

/// A machine that was started for another placement than the one that counts. Its disk is kept until
/// another machine has taken its place, or is in the way here.
fn superseded(sight: &Sight<'_>, instance: &Instance, machine: &HeldMachine) -> Option<Action> {
    let newest = instance.placement().map_or(0, |placed| placed.generation);
    let generation = machine.generation.max(newest);
    let id = instance.id;
    match machine.state {
        MachineState::Stopping => None,
        MachineState::Starting | MachineState::Running { .. } => Some(Action::Stop {
            instance: id,
            generation,
            grace_ms: STOP_GRACE_MS,
        }),
        MachineState::Stopped | MachineState::Failed { .. } => {
            let replaced = instance.status.is_some() || sight.placed_here(instance).is_some();
            let needless = replaced || instance.wanted == Wanted::Deleted;
            needless.then_some(Action::Delete {
                instance: id,
                generation,
            })
        }
    }
}

/// An instance that is placed here, and the machine of that placement if there is one.
struct Place<'a> {
    instance: &'a Instance,
    placed: &'a Placement,
    machine: Option<&'a HeldMachine>,
}

impl Place<'_> {
    fn delete(&self) -> Action {
        let (instance, generation) = (self.instance.id, self.placed.generation);
        match self.machine {
            Some(_) => Action::Delete { instance, generation },
            None => self.changed(Phase::Deleted),
        }
    }

    fn stop(&self) -> Option<Action> {
        match self.machine.map(|machine| &machine.state) {
            Some(MachineState::Starting | MachineState::Running { .. }) => Some(Action::Stop {
                instance: self.instance.id,
                generation: self.placed.generation,
                grace_ms: STOP_GRACE_MS,
            }),
            Some(_) => self.tell(),
            None => self.told_end().is_none().then(|| self.changed(Phase::Stopped)),
        }
    }

    /// Reports the machine's phase, unless the Cloud has it.
    fn tell(&self) -> Option<Action> {
        let phase = match &self.machine?.state {
            MachineState::Starting | MachineState::Stopping => return None,
            MachineState::Running { serving: false } => Phase::Booted,
            MachineState::Running { serving: true } => Phase::Serving,
            MachineState::Stopped => Phase::Stopped,
            MachineState::Failed { reason, exit_code } => Phase::Failed {
                reason: bounded(reason),
                exit_code: *exit_code,
            },
        };
        let known = self
            .instance
            .status
            .as_ref()
            .map(|status| (status.start, rung(&status.phase)));
        (known < Some((self.start(), rung(&phase)))).then(|| self.changed(phase))
    }

    fn changed(&self, phase: Phase) -> Action {
        Action::Report(Report::InstanceChanged(InstanceChanged {
            instance: self.instance.id,
            generation: self.placed.generation,
            start: self.start(),
            phase,
        }))
    }

    /// The number of the last start. A machine that was found does not know it; the log may.
    fn start(&self) -> u32 {
        let status = self.instance.status.as_ref();
        let told = status.map_or(0, |status| status.start);
        let ended = status.is_some_and(|status| is_end(&status.phase));
        match self.machine {
            Some(machine) if machine.start > 0 => machine.start,
            // What lives after the end of a start is of a later one, of which nothing could be told.
            Some(machine) if machine.state.is_alive() && ended => told.saturating_add(1),
            Some(_) => told.max(1),
            None => told,
        }
    }

    /// What was told of the end of the last start, if it was.
    fn told_end(&self) -> Option<&Phase> {
        let status = self.instance.status.as_ref()?;
        (is_end(&status.phase) && status.start >= self.start()).then_some(&status.phase)
    }

    /// The number of the start that this machine, wanted to run, needs now.
    fn next_start(&self) -> Option<u32> {
        let told = self.instance.status.as_ref().map(|status| &status.phase);
        let needed = match self.machine {
            Some(machine) if machine.state.is_alive() => false,
            // The Cloud has this end. Unless its owner asked again since, it was the last.
            _ if self.told_end().is_some() => !self.instance.has_ended(),
            None => true,
            Some(machine) => match (machine.ending, &machine.state) {
                (Ending::Asked, _) | (Ending::Found, MachineState::Stopped) => true,
                (Ending::Found, MachineState::Failed { exit_code: None, .. }) => {
                    matches!(told, Some(Phase::Booted | Phase::Serving))
                }
                _ => false,
            },
        };
        let last = self
            .start()
            .max(self.instance.status.as_ref().map_or(0, |status| status.start));
        needed.then(|| last.saturating_add(1))
    }
}

/// Whether a start is over with this phase.
fn is_end(phase: &Phase) -> bool {
    matches!(phase, Phase::Stopped | Phase::Failed { .. } | Phase::Deleted)
}

/// How far a phase is in a start's life.
fn rung(phase: &Phase) -> u8 {
    match PhaseKind::of(phase) {
        PhaseKind::Booted => 0,
        PhaseKind::Serving => 1,
        PhaseKind::Stopped | PhaseKind::Failed => 2,
        PhaseKind::Deleted => 3,
    }
}

/// All that the boot needs; none before the image is here.
fn spec(sight: &Sight<'_>, place: &Place<'_>, nic: vmm::spec::Nic) -> Option<MachineSpec> {
    let request = &place.instance.request;
    let HeldImage { path, workload } = image(sight, place.instance)?;
    let mut workload = workload.clone();
    if let (Health::Process, Some(port)) = (&workload.health, request.port) {
        workload.health = Health::Tcp { port };
    }
    Some(MachineSpec {
        id: MachineId(place.instance.id.0),
        generation: place.placed.generation,
        hostname: request.name.clone(),
        vcpus: request.shape.vcpus,
        memory_mib: request.shape.memory_mib,
        image: path.clone(),
        disk_gib: request.shape.disk_gib,
        nic,
        workload,
    })
}

fn image<'a>(sight: &Sight<'a>, instance: &Instance) -> Option<&'a HeldImage> {
    match sight.cloud.builds.get(&instance.request.build)?.state {
        BuildState::Built { image, .. } => sight.observed.images.get(&image),
        BuildState::Asked | BuildState::Failed { .. } => None,
    }
}

/// The end of a reason, within what a report may hold.
fn bounded(reason: &str) -> String {
    let mut start = reason.len().saturating_sub(REASON_MAX);
    while !reason.is_char_boundary(start) {
        start += 1;
    }
    reason[start..].to_owned()
}
