//! Builds of images as people see them.

use ledger::id::{AccountId, BuildId, Digest, NodeId};
use projections::cloud::Cloud;
use projections::images::{Build, BuildState};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::account_name;

/// A build.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BuildView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: BuildId,
    /// What people call the image.
    pub name: String,
    /// Who asked for it.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// The owner's name.
    pub owner_name: Option<String>,
    /// Manifest of the uploaded context.
    #[schema(value_type = String)]
    pub context: Digest,
    /// Size of the context.
    pub context_bytes: u64,
    /// The node that it was uploaded to.
    #[schema(value_type = String)]
    pub held_by: NodeId,
    /// When it was asked for.
    pub asked_ms: u64,
    /// Where it stands.
    pub state: BuildWord,
    /// Why it failed.
    pub why: Option<String>,
    /// Its image, once built.
    #[schema(value_type = Option<String>)]
    pub image: Option<Digest>,
    /// Size of the disk image.
    pub image_bytes: Option<u64>,
    /// How long the build took.
    pub took_ms: Option<u64>,
    /// Who built it or tried to.
    #[schema(value_type = Option<String>)]
    pub by: Option<NodeId>,
    /// When that was said.
    pub reported_ms: Option<u64>,
}

/// Where a build stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildWord {
    /// Asked for; nobody has reported yet.
    Building,
    /// There is an image.
    Built,
    /// There is none, and the same would happen again.
    Failed,
}

impl BuildView {
    /// The build as it stands in `cloud`.
    pub fn new(cloud: &Cloud, build: &Build) -> Self {
        let mut view = Self {
            id: build.id,
            name: build.request.name.clone(),
            owner: build.owner,
            owner_name: account_name(cloud, build.owner),
            context: build.request.context,
            context_bytes: build.request.context_bytes,
            held_by: build.request.held_by,
            asked_ms: build.asked.ms(),
            state: BuildWord::Building,
            why: None,
            image: None,
            image_bytes: None,
            took_ms: None,
            by: None,
            reported_ms: None,
        };
        match &build.state {
            BuildState::Asked => {}
            BuildState::Built {
                image,
                bytes,
                took_ms,
                by,
                at,
            } => {
                view.state = BuildWord::Built;
                view.image = Some(*image);
                view.image_bytes = Some(*bytes);
                view.took_ms = Some(*took_ms);
                view.by = Some(*by);
                view.reported_ms = Some(at.ms());
            }
            BuildState::Failed { reason, by, at } => {
                view.state = BuildWord::Failed;
                view.why = Some(reason.clone());
                view.by = Some(*by);
                view.reported_ms = Some(at.ms());
            }
        }
        view
    }
}
