//! Where instances go. There is no leader: the responsible scheduler of an instance is the first live node
//! in the rendezvous order of its id, and only it acts. When two nodes disagree on who is live, both may
//! place; the fold lets one of the placements count, on every node the same.

use ledger::command::instances::Shape;
use ledger::id::{NodeId, OpId};
use ledger::report::Report;
use ledger::report::instances::{CannotPlace, PlaceInstance};
use ledger::report::nodes::{AnnounceNode, Capacity};
use projections::images::BuildState;
use projections::instances::{Instance, Wanted};
use projections::rendezvous;

use crate::action::Action;
use crate::load::Load;
use crate::sight::Sight;

/// A holder that is silent for longer than this loses its instances to other nodes. It is more than twice
/// [`crate::observed::PRESENCE_TTL_MS`]: names stop leading to a silent node long before its instances move,
/// so a short absence costs no restart.
pub const PLACEMENT_SILENCE_MS: u64 = 15_000;

/// Nodes that a reason names, at most; the others are counted.
pub const REASON_NODES_MAX: usize = 16;

/// Characters of a failed build's log that a reason repeats, at most.
const REASON_LOG_MAX: usize = 200;

/// Places what needs a place, and says what has none.
pub fn decide(sight: &Sight<'_>) -> Vec<Action> {
    if !sight.has_settled() {
        return Vec::new();
    }
    let mut load = Load::of(sight.cloud);
    let mut actions = Vec::new();
    for instance in sight.cloud.instances.values() {
        let Some(next) = next_placement(sight, instance) else {
            continue;
        };
        if !sight.is_responsible(&instance.id.0, |_| true) {
            continue;
        }
        match choose(sight, &load, instance) {
            Choice::Node(node) => {
                load.add(node, instance);
                let (generation, previous) = (next.generation, next.previous);
                let place = PlaceInstance {
                    instance: instance.id,
                    generation,
                    previous,
                    node,
                };
                actions.push(Action::Report(place.into()));
            }
            Choice::None(reason) if instance.cannot_place.as_deref() != Some(&reason) => {
                let generation = next.generation;
                let cannot = CannotPlace {
                    instance: instance.id,
                    generation,
                    reason,
                };
                actions.push(Action::Report(Report::CannotPlace(cannot)));
            }
            Choice::None(_) | Choice::NotYet => {}
        }
    }
    actions
}

/// The placement that an instance needs.
struct Next {
    generation: u64,
    previous: Option<OpId>,
}

fn next_placement(sight: &Sight<'_>, instance: &Instance) -> Option<Next> {
    if instance.wanted != Wanted::Running {
        return None;
    }
    match instance.placement() {
        None => Some(Next {
            generation: 1,
            previous: None,
        }),
        Some(placed) if is_lost(sight, placed.node) || sight.is_crowded_out(instance.id) => Some(Next {
            generation: placed.generation.checked_add(1)?,
            previous: Some(placed.op),
        }),
        Some(_) => None,
    }
}

/// Whether what a node holds must go elsewhere: it is silent for too long, or came back without the role.
fn is_lost(sight: &Sight<'_>, node: NodeId) -> bool {
    let announced = sight
        .cloud
        .nodes
        .get(&node)
        .and_then(|node| node.announced.as_ref());
    sight.silence_ms(node) > PLACEMENT_SILENCE_MS || announced.is_some_and(|it| !it.roles.compute)
}

enum Choice {
    Node(NodeId),
    /// No node fits; why.
    None(String),
    /// Nothing can be said before its image is built.
    NotYet,
}

fn choose(sight: &Sight<'_>, load: &Load, instance: &Instance) -> Choice {
    match sight
        .cloud
        .builds
        .get(&instance.request.build)
        .map(|build| &build.state)
    {
        Some(BuildState::Built { .. }) => {}
        Some(BuildState::Failed { reason, .. }) => {
            let last = reason
                .lines()
                .rfind(|line| !line.trim().is_empty())
                .unwrap_or_default();
            let last: String = last.chars().take(REASON_LOG_MAX).collect();
            return Choice::None(format!("its image could not be built: {last}"));
        }
        Some(BuildState::Asked) | None => return Choice::NotYet,
    }
    let mut best = None;
    let mut misfits = Vec::new();
    for (node, announced) in sight.announced() {
        let free = load.free(node, &announced.capacity);
        if let Some(why) = misfit(sight, node, announced, &free, &instance.request.shape) {
            misfits.push((announced.name.as_str(), node, why));
            continue;
        }
        // The first word has the spread of an agent's instances, then the room that is left, then chance.
        let peers = std::cmp::Reverse(load.peers(node, instance));
        let score = (peers, free.memory_mib, rendezvous::rank(node, &instance.id.0));
        if best.as_ref().is_none_or(|(other, _)| score > *other) {
            best = Some((score, node));
        }
    }
    match best {
        Some((_, node)) => Choice::Node(node),
        None => Choice::None(reason(&instance.request.shape, misfits)),
    }
}

fn misfit(
    sight: &Sight<'_>,
    node: NodeId,
    announced: &AnnounceNode,
    free: &Capacity,
    shape: &Shape,
) -> Option<String> {
    if !announced.roles.compute {
        return Some("runs no machines".to_owned());
    }
    if !sight.is_live(node) {
        return Some("is silent".to_owned());
    }
    let capacity = &announced.capacity;
    if free.vcpus < shape.vcpus.into() {
        return Some(format!("{} of {} vCPUs free", free.vcpus, capacity.vcpus));
    }
    if free.memory_mib < shape.memory_mib.into() {
        return Some(format!(
            "{} of {} MiB of memory free",
            free.memory_mib, capacity.memory_mib
        ));
    }
    if free.disk_gib < shape.disk_gib.into() {
        return Some(format!(
            "{} of {} GiB of disk free",
            free.disk_gib, capacity.disk_gib
        ));
    }
    None
}

fn reason(shape: &Shape, mut misfits: Vec<(&str, NodeId, String)>) -> String {
    let Shape {
        vcpus,
        memory_mib,
        disk_gib,
    } = shape;
    let wanted = format!("{vcpus} vCPUs, {memory_mib} MiB of memory and {disk_gib} GiB of disk");
    if misfits.is_empty() {
        return format!("no node has announced itself; wanted are {wanted}");
    }
    misfits.sort_unstable();
    let more = misfits.len().saturating_sub(REASON_NODES_MAX);
    let named = misfits
        .iter()
        .take(REASON_NODES_MAX)
        .map(|(name, _, why)| format!("{name}: {why}"));
    let mut parts: Vec<String> = named.collect();
    if more > 0 {
        parts.push(format!("and {more} more nodes"));
    }
    format!("no node can hold {wanted}: {}", parts.join("; "))
}
