//! Machines follow the log: once the network is healed and has settled, an instance that is wanted and
//! placed runs exactly once, on the node of the placement that counts; nothing else runs, nothing is left of
//! what is gone, and the log tells of each machine what is so.

use ledger::id::NodeId;
use ledger::report::instances::Phase;
use projections::cloud::Cloud;
use projections::images::BuildState;
use projections::instances::{Instance, Placement, Wanted};
use vmm::machine::MachineState;

use super::{Holds, Place, Violation, held_somewhere};
use crate::host::{Host, Machine};

fn violated(seen: String) -> Holds {
    Err(Violation {
        claim: "machines",
        seen,
    })
}

/// At any time: no hand was ever told to go back to an older generation.
pub fn never_backward(index: usize, host: &Host) -> Holds {
    match host.backward() {
        0 => Ok(()),
        times => violated(format!(
            "node {index} was told {times} times to go back to an older generation"
        )),
    }
}

/// At the end: what runs is what should.
pub fn as_wanted(cloud: &Cloud, places: &[Place<'_>]) -> Holds {
    for instance in cloud.instances.values() {
        one(cloud, places, instance)?;
    }
    for place in places {
        if let Some(stray) = place
            .host
            .machines()
            .keys()
            .find(|id| !cloud.instances.contains_key(*id))
        {
            return violated(format!(
                "node {} keeps {}, which no log knows",
                place.index,
                stray.short()
            ));
        }
    }
    Ok(())
}

fn one(cloud: &Cloud, places: &[Place<'_>], instance: &Instance) -> Holds {
    let name = instance.id.short();
    let kept = places
        .iter()
        .filter_map(|place| Some((place, place.host.machines().get(&instance.id)?)));
    let kept: Vec<(&Place<'_>, &Machine)> = kept.collect();
    let alive: Vec<_> = kept
        .iter()
        .filter(|(_, machine)| machine.state.is_alive())
        .collect();
    let wanted = instance.wanted;
    let Some(placed) = instance.placement() else {
        if let Some((place, _)) = kept.first() {
            return violated(format!(
                "instance {name} is placed nowhere, but node {} keeps it",
                place.index
            ));
        }
        return match wanted {
            Wanted::Running if can_be_placed(cloud, instance) && instance.cannot_place.is_none() => {
                violated(format!("instance {name} was neither placed nor refused"))
            }
            Wanted::Deleted => violated(format!(
                "instance {name} is deleted, nothing is left, but it is not gone"
            )),
            _ => Ok(()),
        };
    };
    let holder = places.iter().find(|place| place.id == placed.node);
    // An older machine's disk is kept until another machine has taken its place; a node that has no room
    // after all, or is gone, starts none.
    let replaced = instance.status.is_some() || holder.is_some() && instance.cannot_place.is_none();
    let elsewhere = kept.iter().find(|(place, _)| place.id != placed.node);
    if let Some((place, machine)) = elsewhere
        && (replaced || machine.state.is_alive())
    {
        return violated(format!(
            "instance {name} is placed on {}, but node {} keeps {machine:?}",
            placed.node.short(),
            place.index
        ));
    }
    let Some(holder) = holder else {
        // Its node is gone. What should run goes elsewhere, if there is room.
        return match wanted {
            Wanted::Running if can_be_placed(cloud, instance) && instance.cannot_place.is_none() => {
                violated(format!(
                    "instance {name} is still placed on {}, which is gone",
                    placed.node.short()
                ))
            }
            _ => Ok(()),
        };
    };
    let here = kept.iter().find(|(place, _)| place.id == placed.node);
    let machine = here.map(|(_, machine)| *machine);
    if let Some(machine) = machine.filter(|machine| machine.generation != placed.generation) {
        return violated(format!(
            "instance {name} is placed in generation {}, but node {} keeps {machine:?}",
            placed.generation, holder.index
        ));
    }
    match wanted {
        Wanted::Running if instance.has_ended() => match alive.first() {
            Some((place, _)) => violated(format!(
                "instance {name} has ended, but runs on node {}",
                place.index
            )),
            None => told(instance, placed.node, machine),
        },
        Wanted::Running => runs(cloud, places, instance, placed, machine),
        Wanted::Stopped => match alive.first() {
            Some((place, _)) => violated(format!(
                "instance {name} is stopped, but runs on node {}",
                place.index
            )),
            None if instance.has_ended() => told(instance, placed.node, machine),
            None => violated(format!(
                "instance {name} stands still, but the log says {:?}",
                instance.status
            )),
        },
        Wanted::Deleted => violated(format!(
            "instance {name} is deleted, but it is not gone; its node {} keeps {machine:?}",
            holder.index
        )),
    }
}

/// Whether there is an image to start it from. Why there is none is told with `cannot_place`.
fn can_be_placed(cloud: &Cloud, instance: &Instance) -> bool {
    let build = cloud.builds.get(&instance.request.build);
    build.is_some_and(|build| matches!(build.state, BuildState::Built { .. } | BuildState::Failed { .. }))
}

fn runs(
    cloud: &Cloud,
    places: &[Place<'_>],
    instance: &Instance,
    placed: &Placement,
    machine: Option<&Machine>,
) -> Holds {
    if machine.is_some_and(|machine| machine.state == MachineState::Running { serving: true }) {
        return told(instance, placed.node, machine);
    }
    let image = match cloud
        .builds
        .get(&instance.request.build)
        .map(|build| &build.state)
    {
        Some(BuildState::Built { image, .. }) => *image,
        _ => return Ok(()),
    };
    // An image may have gone with the only node that held it; and a node may have no room for all that was
    // placed on it at once.
    let excused = !held_somewhere(places, image) || instance.cannot_place.is_some();
    if excused && machine.is_none_or(|machine| !machine.state.is_alive()) {
        return Ok(());
    }
    violated(format!(
        "instance {} should run on {} in generation {}, but there is {machine:?}; the log says {:?}",
        instance.id.short(),
        placed.node.short(),
        placed.generation,
        instance.status,
    ))
}

/// The log tells of a machine what is so.
fn told(instance: &Instance, holder: NodeId, machine: Option<&Machine>) -> Holds {
    let phase = instance.status.as_ref().map(|status| &status.phase);
    let agrees = match machine.map(|machine| &machine.state) {
        Some(MachineState::Running { serving: true }) => matches!(phase, Some(Phase::Serving)),
        Some(MachineState::Stopped | MachineState::Failed { .. }) => {
            matches!(phase, Some(Phase::Stopped | Phase::Failed { .. }))
        }
        // Deleted: its deletion was done, and then a late op turned it.
        None => matches!(
            phase,
            Some(Phase::Stopped | Phase::Failed { .. } | Phase::Deleted)
        ),
        Some(_) => false,
    };
    if agrees {
        return Ok(());
    }
    violated(format!(
        "of instance {} the log says {:?}, but {} keeps {machine:?}",
        instance.id.short(),
        instance.status,
        holder.short()
    ))
}
