//! What a reactor asks the hands to do: every choice is made, so a hand can only do it or say why not.
//!
//! Every action is safe twice. Those that change a machine carry the placement's generation; a hand refuses
//! a lower one than it last saw.

use std::collections::BTreeMap;

use ledger::id::{BuildId, Digest, InstanceId, NodeId, hash};
use ledger::report::Report;
use ledger::report::instances::Phase;
use net::fronts::FrontTable;
use net::guests::GuestTable;
use net::names::NameTable;
use serde::Serialize;
use vmm::spec::MachineSpec;

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Append this report to the log.
    Report(Report),
    /// Fetch a blob (an image, a build's context), piece by piece, from whoever of these has it.
    Fetch {
        /// Digest of its manifest.
        digest: Digest,
        /// Who should have it, the nearest guess first.
        from: Vec<NodeId>,
    },
    /// Build an image from a context that this node holds. What came of it is reported by the hand.
    Build {
        /// Which build.
        build: BuildId,
        /// The context's manifest.
        context: Digest,
    },
    /// Start a machine, or start it again.
    Start {
        /// All that the boot needs.
        spec: Box<MachineSpec>,
        /// Which start in this generation.
        start: u32,
    },
    /// Ask a machine to stop, and make it after a while; its disk stays.
    Stop {
        /// Which.
        instance: InstanceId,
        /// The newest generation known.
        generation: u64,
        /// How long it may take by itself, in milliseconds.
        grace_ms: u64,
    },
    /// Stop a machine and remove all that is left of it. Cannot be taken back.
    Delete {
        /// Which.
        instance: InstanceId,
        /// The newest generation known.
        generation: u64,
    },
    /// Remove a blob that nothing needs.
    Forget {
        /// Digest of its manifest.
        digest: Digest,
    },
    /// Answer DNS from this table.
    Names(NameTable),
    /// Route requests by this table.
    Fronts(FrontTable),
    /// Make the host's links, routes and filters so.
    Guests(GuestTable),
    /// Stay connected to these nodes, at these multiaddresses.
    Peers(BTreeMap<NodeId, Vec<String>>),
}

/// Whether what an action does can be made undone by a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reversal {
    /// A later action can set it right.
    Possible,
    /// It destroys something for good.
    Impossible,
}

impl Action {
    /// Whether a later action can undo this one.
    pub fn reversal(&self) -> Reversal {
        match self {
            Action::Delete { .. } | Action::Forget { .. } => Reversal::Impossible,
            _ => Reversal::Possible,
        }
    }

    /// What makes it one and the same action when it is decided again.
    pub fn key(&self) -> ActionKey {
        match self {
            Action::Report(report) => ActionKey::Report(ReportKey::of(report)),
            Action::Fetch { digest, .. } => ActionKey::Fetch(*digest),
            Action::Build { build, .. } => ActionKey::Build(*build),
            Action::Start { spec, start } => ActionKey::Start {
                instance: InstanceId(spec.id.0),
                generation: spec.generation,
                start: *start,
            },
            Action::Stop {
                instance, generation, ..
            } => ActionKey::Stop {
                instance: *instance,
                generation: *generation,
            },
            Action::Delete { instance, generation } => ActionKey::Delete {
                instance: *instance,
                generation: *generation,
            },
            Action::Forget { digest } => ActionKey::Forget(*digest),
            Action::Names(_) => ActionKey::Names,
            Action::Fronts(_) => ActionKey::Fronts,
            Action::Guests(_) => ActionKey::Guests,
            Action::Peers(_) => ActionKey::Peers,
        }
    }
}

/// Names an action: two with one key are the same work, however often it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ActionKey {
    /// A report, by what it is about.
    Report(ReportKey),
    /// The fetch of a blob.
    Fetch(Digest),
    /// A build.
    Build(BuildId),
    /// A start of a machine.
    Start {
        /// Which.
        instance: InstanceId,
        /// For which generation.
        generation: u64,
        /// Which start in it.
        start: u32,
    },
    /// The stop of a machine.
    Stop {
        /// Which.
        instance: InstanceId,
        /// The newest generation known.
        generation: u64,
    },
    /// The removal of a machine.
    Delete {
        /// Which.
        instance: InstanceId,
        /// The newest generation known.
        generation: u64,
    },
    /// The removal of a blob.
    Forget(Digest),
    /// The names table.
    Names,
    /// The front-door table.
    Fronts,
    /// The table of links, routes and filters.
    Guests,
    /// The table of peers.
    Peers,
}

/// Names a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum ReportKey {
    /// The placement of an instance in a generation, wherever it goes.
    Place {
        /// Which instance.
        instance: InstanceId,
        /// Which generation.
        generation: u64,
    },
    /// That there is no place for an instance, for whatever reason: reasons may change quickly.
    CannotPlace {
        /// Which instance.
        instance: InstanceId,
        /// Which generation.
        generation: u64,
    },
    /// That an instance reached a phase.
    Changed {
        /// Which instance.
        instance: InstanceId,
        /// Which generation.
        generation: u64,
        /// Which start.
        start: u32,
        /// Which phase.
        phase: PhaseKind,
    },
    /// Any other, by the hash of its entry.
    Other([u8; 32]),
}

/// A [`Phase`] without what a person reads in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PhaseKind {
    /// [`Phase::Booted`].
    Booted,
    /// [`Phase::Serving`].
    Serving,
    /// [`Phase::Stopped`].
    Stopped,
    /// [`Phase::Failed`].
    Failed,
    /// [`Phase::Deleted`].
    Deleted,
}

impl PhaseKind {
    /// The kind of a phase.
    pub fn of(phase: &Phase) -> Self {
        match phase {
            Phase::Booted => PhaseKind::Booted,
            Phase::Serving => PhaseKind::Serving,
            Phase::Stopped => PhaseKind::Stopped,
            Phase::Failed { .. } => PhaseKind::Failed,
            Phase::Deleted => PhaseKind::Deleted,
        }
    }
}

impl ReportKey {
    /// The name of a report.
    pub fn of(report: &Report) -> Self {
        match report {
            Report::PlaceInstance(place) => ReportKey::Place {
                instance: place.instance,
                generation: place.generation,
            },
            Report::CannotPlace(cannot) => ReportKey::CannotPlace {
                instance: cannot.instance,
                generation: cannot.generation,
            },
            Report::InstanceChanged(changed) => ReportKey::Changed {
                instance: changed.instance,
                generation: changed.generation,
                start: changed.start,
                phase: PhaseKind::of(&changed.phase),
            },
            other => {
                let entry = other.to_entry();
                let head = [entry.kind.to_le_bytes().as_slice(), &[entry.version]].concat();
                ReportKey::Other(hash("formation 2026 report key v1", &[&head, &entry.bytes]))
            }
        }
    }
}
