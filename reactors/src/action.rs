//! What a reactor asks the hands to do: every choice is made, so a hand can only do it or say why not.
//!
//! Every action is safe twice. Those that change a machine carry the placement's generation; a hand refuses
//! a lower one than it last saw.

use std::collections::BTreeMap;

use ledger::id::{BuildId, Digest, InstanceId, NodeId};
use ledger::report::Report;
use net::fronts::FrontTable;
use net::guests::GuestTable;
use net::names::NameTable;
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
}
