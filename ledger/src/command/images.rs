//! Commands about images.

use serde::{Deserialize, Serialize};

use super::accounts::check_label;
use crate::codec::DecodeError;
use crate::id::{Digest, NodeId};

/// Bytes of a build's context, at most.
pub const CONTEXT_BYTES_MAX: u64 = 1 << 30;

/// Asks for an image of an uploaded context. The build's id is the command's.
///
/// The Formfile travels inside the context, not in the log: it may hold what is not for everyone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildImage {
    /// What people call the image.
    pub name: String,
    /// Manifest of the uploaded context: an archive with the Formfile and the files that it copies.
    pub context: Digest,
    /// Size of the context in bytes.
    pub context_bytes: u64,
    /// The node that it was uploaded to.
    pub held_by: NodeId,
}

impl BuildImage {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_label(&self.name)?;
        if self.context_bytes > CONTEXT_BYTES_MAX {
            let (size, max) = (self.context_bytes, CONTEXT_BYTES_MAX);
            return Err(DecodeError::TooLarge {
                what: "a build's context",
                size,
                max,
            });
        }
        Ok(())
    }
}
