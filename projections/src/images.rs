//! Builds and the images that came of them.

use ledger::clock::Hlc;
use ledger::command::images::BuildImage;
use ledger::id::{AccountId, BuildId, Digest, NodeId};
use serde::{Deserialize, Serialize};

/// A build of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Its id: the command that asked for it.
    pub id: BuildId,
    /// Who asked.
    pub owner: AccountId,
    /// What was asked.
    pub request: BuildImage,
    /// When.
    pub asked: Hlc,
    /// What became of it. The first report in the order of the log counts.
    pub state: BuildState,
}

/// What became of a build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BuildState {
    /// Nobody has reported yet.
    Asked,
    /// There is an image.
    Built {
        /// Digest of its manifest.
        image: Digest,
        /// Size of the disk image.
        bytes: u64,
        /// How long it took.
        took_ms: u64,
        /// Who built it, and holds it.
        by: NodeId,
        /// When that was said.
        at: Hlc,
    },
    /// There is none, and the same would happen again.
    Failed {
        /// The last lines of the log.
        reason: String,
        /// Who tried.
        by: NodeId,
        /// When that was said.
        at: Hlc,
    },
}
