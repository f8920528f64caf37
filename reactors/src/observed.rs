//! What is: what this node sees of itself and of the others. Not in the log; gone when the process ends.

use std::collections::{BTreeMap, BTreeSet};

use ledger::id::{BuildId, Digest, InstanceId, NodeId};
use ledger::report::nodes::Capacity;
use serde::{Deserialize, Serialize};

/// A presence older than this is no sign of life any more.
pub const PRESENCE_TTL_MS: u64 = 6_000;

/// Instances that a presence may list.
pub const PRESENCE_INSTANCES_MAX: usize = 4096;

/// Images that a presence may list: the newest first.
pub const PRESENCE_IMAGES_MAX: usize = 256;

/// What a node says of itself every second or two. Signed by it and passed on by others; the latest
/// (time, seq) counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Who.
    pub node: NodeId,
    /// Which start of its process.
    pub incarnation: u64,
    /// When it was said, by the node's own clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// Grows with each presence of an incarnation.
    pub seq: u64,
    /// What its machines take now.
    pub used: Capacity,
    /// The instances that it holds, and how they are.
    pub instances: Vec<HeldInstance>,
    /// Images that it can give.
    pub images: Vec<Digest>,
}

/// An instance as its holder sees it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldInstance {
    /// Which.
    pub instance: InstanceId,
    /// The generation that runs.
    pub generation: u64,
    /// Its health check holds.
    pub healthy: bool,
}

/// What this node sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// The newest presence of each node, this one included, with the time of its arrival by this node's
    /// clock.
    pub presences: BTreeMap<NodeId, Seen>,
    /// Machines on this host.
    pub machines: BTreeMap<InstanceId, HeldMachine>,
    /// Images complete on this host.
    pub images: BTreeMap<Digest, HeldImage>,
    /// Builds that run here now.
    pub building: BTreeMap<BuildId, ()>,
    /// Images and contexts that are being fetched to here now.
    pub fetching: BTreeMap<Digest, ()>,
    /// Since when this node listens, by its own clock: since its start, or since it woke after a pause. One that
    /// has just begun has heard nobody yet, and must not take that for silence.
    pub started_ms: u64,
    /// Contexts of builds complete on this host.
    pub contexts: BTreeSet<Digest>,
    /// The hands have said what machines, images and contexts this host holds. Until then nothing is decided
    /// about them: an absent answer is not an empty one.
    pub host_known: bool,
    /// Since its start this node has taken in all that some other member held, or it has no other to ask.
    /// Until then what the log says may be long over.
    pub synced: bool,
    /// Presences that were not taken, counted by why.
    pub refused_presences: BTreeMap<&'static str, u64>,
    /// Frames of a kind that this build does not know.
    pub unknown_frames: u64,
}

/// A presence and when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it says.
    pub presence: Presence,
    /// When it arrived here, by this node's clock.
    pub arrived_ms: u64,
}

/// A machine on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldMachine {
    /// What it was last started from; none when the hand only knows that it is there.
    pub spec: Option<vmm::spec::MachineSpec>,
    /// Generation that it was last started for.
    pub generation: u64,
    /// Which start in that generation, from 1; 0 when this process found the machine and cannot tell.
    pub start: u32,
    /// How it is.
    pub state: vmm::machine::MachineState,
    /// Once it has ended: what this process knows of how it came to that. Of no meaning while it is alive.
    pub ending: Ending,
}

/// What this process knows of how a machine came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// It ended under the eyes of this process, which had not asked it to. Set at each start.
    #[default]
    ByItself,
    /// It ended after this process had asked it to. Set with each [`crate::action::Action::Stop`].
    Asked,
    /// This process never saw it alive: it ended with its host, or while nobody watched. Set when a hand
    /// first tells of a machine and it is not alive.
    Found,
}

/// An image on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldImage {
    /// The disk.
    pub path: std::path::PathBuf,
    /// What runs in it.
    pub workload: vmm::spec::Workload,
}

impl Presence {
    /// Whether it says the same of the node as `other`, said at another time.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let said = |it: &Self| (it.node, it.incarnation, it.used);
        said(self) == said(other) && self.instances == other.instances && self.images == other.images
    }
}

impl Observed {
    /// Counts a presence that was not taken.
    pub fn refused_presence(&mut self, refusal: &crate::presence::PresenceRefusal) {
        *self.refused_presences.entry(refusal.name()).or_default() += 1;
    }

    /// Whether a node has shown itself within [`PRESENCE_TTL_MS`].
    pub fn is_live(&self, node: NodeId, now_ms: u64) -> bool {
        self.presences
            .get(&node)
            .is_some_and(|seen| now_ms.saturating_sub(seen.arrived_ms) <= PRESENCE_TTL_MS)
    }
}
