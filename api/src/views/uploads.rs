//! A stored context of a build.

use ledger::id::{Digest, NodeId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::door::Uploaded;

/// What `BuildImage` needs to name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadView {
    /// Its manifest.
    #[schema(value_type = String)]
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// The node that holds it.
    #[schema(value_type = String)]
    pub held_by: NodeId,
}

impl From<Uploaded> for UploadView {
    fn from(uploaded: Uploaded) -> Self {
        Self {
            digest: uploaded.digest,
            bytes: uploaded.bytes,
            held_by: uploaded.held_by,
        }
    }
}
