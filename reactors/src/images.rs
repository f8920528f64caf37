//! Builds and blobs: who builds, who fetches what from whom, and what may go.
//!
//! The responsible builder of a build is the first live node with the role in the rendezvous order of its
//! id. When two disagree on who is live, both build; the first report counts and the other was in vain.

use std::collections::{BTreeMap, BTreeSet};

use ledger::id::{Digest, NodeId, hash};
use ledger::report::nodes::Roles;
use projections::images::{Build, BuildState};
use projections::instances::Wanted;
use projections::rendezvous;

use crate::action::Action;
use crate::sight::Sight;

/// Live nodes that shall hold the image of a running instance, so that it can start elsewhere when its
/// builder and its holder are one node and that node is lost.
pub const IMAGE_COPIES: usize = 2;

/// A context is kept for this long after its build has ended: the same one is often built again.
pub const CONTEXT_KEPT_MS: u64 = 600_000;

/// Nodes that a fetch tries, at most.
pub const SOURCES_MAX: usize = 8;

const BUILDER: fn(&Roles) -> bool = |roles| roles.builder;
const COMPUTE: fn(&Roles) -> bool = |roles| roles.compute;

/// What is to be built, fetched and forgotten here.
pub fn decide(sight: &Sight<'_>) -> Vec<Action> {
    if !sight.observed.host_known {
        return Vec::new();
    }
    let mut actions = images(sight);
    if sight.has_settled() {
        actions.extend(builds(sight));
        actions.extend(forget(sight));
    }
    actions
}

fn builds(sight: &Sight<'_>) -> Vec<Action> {
    let building = &sight.observed.building;
    let mut mine: Vec<&Build> = sight
        .cloud
        .builds
        .values()
        .filter(|build| matches!(build.state, BuildState::Asked) && !building.contains_key(&build.id))
        .filter(|build| sight.me.roles.builder && sight.is_responsible(&build.id.0, BUILDER))
        .collect();
    mine.sort_unstable_by_key(|build| (build.asked, build.id));
    let free = sight.me.builds_max.saturating_sub(building.len());
    let held = |build: &&Build| sight.observed.contexts.contains(&build.request.context);
    let (ready, lacking): (Vec<&Build>, Vec<&Build>) = mine.into_iter().partition(held);
    // A context may be gone for good: a build that waits for one keeps no other waiting. Contexts are not
    // piled up either.
    let ahead = if ready.len() <= free { lacking } else { Vec::new() };
    let mut actions: Vec<Action> = ready
        .into_iter()
        .take(free)
        .map(|build| Action::Build {
            build: build.id,
            context: build.request.context,
        })
        .collect();
    let fetches = ahead
        .into_iter()
        .filter_map(|build| fetch(sight, build.request.context, context_sources(sight, build)));
    actions.extend(fetches);
    actions
}

/// Who may have a build's context: the node that it was uploaded to, and builders that were responsible
/// before. Presences do not tell.
fn context_sources(sight: &Sight<'_>, build: &Build) -> Vec<NodeId> {
    let builders = sight.live_with(BUILDER).map(|(node, _)| node);
    let others = rendezvous::order(builders, &build.id.0);
    let first = build.request.held_by;
    std::iter::once(first)
        .chain(others.into_iter().filter(|node| *node != first))
        .collect()
}

/// Fetches the images of instances placed here, and copies for the case that others are lost.
fn images(sight: &Sight<'_>) -> Vec<Action> {
    let mut own = BTreeMap::new();
    let mut copies = BTreeMap::new();
    for (image, needed) in needed_images(sight) {
        if sight.observed.images.contains_key(&image) {
            continue;
        }
        if needed.by.contains(&sight.me.node) {
            own.insert(image, needed.builder);
        } else if sight.has_settled() && is_copied_here(sight, image, &needed) {
            copies.insert(image, needed.builder);
        }
    }
    let wanted = own.into_iter().chain(copies);
    wanted
        .filter_map(|(image, builder)| fetch(sight, image, image_sources(sight, image, builder)))
        .collect()
}

/// An image of instances that shall run.
struct Needed {
    builder: NodeId,
    /// The nodes where they are placed.
    by: BTreeSet<NodeId>,
}

fn needed_images(sight: &Sight<'_>) -> BTreeMap<Digest, Needed> {
    let mut needed = BTreeMap::new();
    for instance in sight
        .cloud
        .instances
        .values()
        .filter(|it| it.wanted == Wanted::Running)
    {
        let Some(build) = sight.cloud.builds.get(&instance.request.build) else {
            continue;
        };
        if let BuildState::Built { image, by, .. } = build.state {
            let entry = needed.entry(image).or_insert_with(|| Needed {
                builder: by,
                by: BTreeSet::new(),
            });
            entry.by.extend(instance.placement().map(|placed| placed.node));
        }
    }
    needed
}

/// Whether this node is one of those that keep a copy: while too few live nodes hold the image or are about
/// to, the next in its rendezvous order do.
fn is_copied_here(sight: &Sight<'_>, image: Digest, needed: &Needed) -> bool {
    let mut holders: BTreeSet<NodeId> = told_by(sight, image).collect();
    holders.extend(needed.by.iter().filter(|node| sight.is_live(**node)));
    let missing = IMAGE_COPIES.saturating_sub(holders.len());
    let others = sight
        .live_with(COMPUTE)
        .map(|(node, _)| node)
        .filter(|node| !holders.contains(node));
    missing > 0
        && rendezvous::order(others, &image.0)
            .into_iter()
            .take(missing)
            .any(|node| node == sight.me.node)
}

/// Live nodes whose presence lists an image.
fn told_by<'a>(sight: &'a Sight<'_>, image: Digest) -> impl Iterator<Item = NodeId> + 'a {
    let presences = sight.observed.presences.iter();
    presences
        .filter(move |(node, seen)| sight.is_live(**node) && seen.presence.images.contains(&image))
        .map(|(node, _)| *node)
}

/// Those who say that they have the image, shuffled by this node's key so that not all ask the same one;
/// the builder last, unless it says so too.
fn image_sources(sight: &Sight<'_>, image: Digest, builder: NodeId) -> Vec<NodeId> {
    let shuffle = hash("formation 2026 image sources v1", &[&sight.me.node.0, &image.0]);
    let mut sources = rendezvous::order(told_by(sight, image), &shuffle);
    if !sources.contains(&builder) {
        sources.truncate(SOURCES_MAX - 1);
        sources.push(builder);
    }
    sources
}

fn fetch(sight: &Sight<'_>, digest: Digest, mut from: Vec<NodeId>) -> Option<Action> {
    from.retain(|node| *node != sight.me.node);
    from.truncate(SOURCES_MAX);
    let under_way = sight.observed.fetching.contains_key(&digest);
    (!under_way && !from.is_empty()).then_some(Action::Fetch { digest, from })
}

/// Contexts whose builds have all ended, a while ago. One that no build names stays: it may have been
/// uploaded just now. Images stay: their instances' disks stand on them.
fn forget(sight: &Sight<'_>) -> Vec<Action> {
    let mut ended_ms: BTreeMap<Digest, Option<u64>> = BTreeMap::new();
    for build in sight.cloud.builds.values() {
        let ended = match &build.state {
            BuildState::Asked => None,
            BuildState::Built { at, .. } | BuildState::Failed { at, .. } => Some(at.ms()),
        };
        let ended = ended.filter(|_| !sight.observed.building.contains_key(&build.id));
        let entry = ended_ms.entry(build.request.context).or_insert(ended);
        *entry = entry.zip(ended).map(|(left, right)| left.max(right));
    }
    let over = |context: &&Digest| {
        let ended_ms = ended_ms.get(context).copied().flatten();
        ended_ms.is_some_and(|ended_ms| sight.now_ms > ended_ms.saturating_add(CONTEXT_KEPT_MS))
    };
    let contexts = sight.observed.contexts.iter();
    contexts
        .filter(over)
        .map(|digest| Action::Forget { digest: *digest })
        .collect()
}
