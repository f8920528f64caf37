//! Reports about images.

use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::command::accounts::check_length;
use crate::id::{BuildId, Digest};

/// Bytes of a reason, at most.
pub const REASON_MAX: usize = 4096;

/// An image was built and is held by the node that says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageBuilt {
    /// Which build.
    pub build: BuildId,
    /// Digest of the image's manifest.
    pub image: Digest,
    /// Size of the disk image in bytes.
    pub bytes: u64,
    /// How long the build took, in milliseconds.
    pub took_ms: u64,
}

/// An image cannot be built: the same would happen on any node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFailed {
    /// Which build.
    pub build: BuildId,
    /// The last lines of its log, for people.
    pub reason: String,
}

impl ImageBuilt {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl ImageFailed {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_length(&self.reason, REASON_MAX, "a reason")
    }
}
