//! Instances as people see them: one word for where each stands, and why.
//!
//! ```text
//! building ─▶ placing ─▶ fetching ─▶ starting ─▶ running ◀─▶ unhealthy
//!     │          │           │           │          │
//!     └──────────┴───────────┴───────────┴──▶ stopping ─▶ stopped, failed, deleting
//! ```
//! The word is made of the log (what was asked, placed and reported) and of what is seen now (whether the
//! holder is there, and how it finds the instance); so two nodes may say different words for a while.

use std::net::Ipv6Addr;

use ledger::id::{AccountId, AgentId, BuildId, Digest, InstanceId, NodeId};
use ledger::report::instances::Phase;
use projections::cloud::Cloud;
use projections::images::BuildState;
use projections::instances::{Instance, InstanceStatus, Placement, Wanted};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ShapeView, account_name};
use crate::door::{InstanceLive, Live};

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// Its name, unique in its account.
    pub name: String,
    /// Whose it is.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// The owner's name.
    pub owner_name: Option<String>,
    /// The agent that it serves.
    #[schema(value_type = Option<String>)]
    pub agent: Option<AgentId>,
    /// The agent's name.
    pub agent_name: Option<String>,
    /// The build of its image.
    #[schema(value_type = String)]
    pub build: BuildId,
    /// Its image, once built.
    #[schema(value_type = Option<String>)]
    pub image: Option<Digest>,
    /// The machine that it wants.
    pub shape: ShapeView,
    /// The port that it serves on.
    pub port: Option<u16>,
    /// Where it stands.
    pub state: InstanceWord,
    /// Why, where there is more to say.
    pub why: Option<String>,
    /// Exit status of its entrypoint, where that is what failed.
    pub exit_code: Option<i32>,
    /// What its owner wants of it.
    pub wanted: WantedWord,
    /// The node that it is placed on.
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// The node's name.
    pub node_name: Option<String>,
    /// How many times it was placed.
    pub generation: u64,
    /// How many times the node has started it there.
    pub starts: u32,
    /// Its address in the mesh; it keeps it when it moves.
    #[schema(value_type = Option<String>)]
    pub address: Option<Ipv6Addr>,
    /// Names that lead to it.
    pub names: Vec<String>,
    /// When it was asked for.
    pub launched_ms: u64,
    /// When it was placed where it is.
    pub placed_ms: Option<u64>,
    /// When its node last reported on it.
    pub reported_ms: Option<u64>,
}

/// Where an instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceWord {
    /// Its image is being built.
    Building,
    /// No node has been chosen yet.
    Placing,
    /// Its node fetches the image.
    Fetching,
    /// Its machine boots, or its entrypoint does not serve yet.
    Starting,
    /// It runs and is healthy.
    Running,
    /// Its health check does not hold, or its node is silent.
    Unhealthy,
    /// It was told to stop.
    Stopping,
    /// It stands still, its disk kept.
    Stopped,
    /// It failed and will not start again by itself.
    Failed,
    /// It is on its way out.
    Deleting,
}

impl InstanceWord {
    /// The word itself.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Placing => "placing",
            Self::Fetching => "fetching",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Unhealthy => "unhealthy",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Deleting => "deleting",
        }
    }
}

impl std::fmt::Display for InstanceWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an owner wants of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WantedWord {
    /// It shall run.
    Running,
    /// It shall stand still.
    Stopped,
    /// It shall be gone.
    Deleted,
}

impl InstanceView {
    /// The instance as it stands in `cloud` and is seen now.
    pub fn new(cloud: &Cloud, live: &Live, instance: &Instance) -> Self {
        let request = &instance.request;
        let placement = instance.placement();
        let status = current_status(instance);
        let seen = live.instances.get(&instance.id);
        let (state, why) = word(cloud, live, instance);
        let exit_code = match status.map(|status| &status.phase) {
            Some(Phase::Failed { exit_code, .. }) => *exit_code,
            _ => None,
        };
        let node = placement.map(|placement| placement.node);
        Self {
            id: instance.id,
            name: request.name.clone(),
            owner: instance.owner,
            owner_name: account_name(cloud, instance.owner),
            agent: request.agent,
            agent_name: request
                .agent
                .and_then(|id| Some(cloud.agents.get(&id)?.name.clone())),
            build: request.build,
            image: image(cloud, request.build).ok().flatten(),
            shape: request.shape.into(),
            port: request.port,
            state,
            why,
            exit_code,
            wanted: match instance.wanted {
                Wanted::Running => WantedWord::Running,
                Wanted::Stopped => WantedWord::Stopped,
                Wanted::Deleted => WantedWord::Deleted,
            },
            node,
            node_name: node.map(|node| node_name(cloud, node)),
            generation: placement.map_or(0, |placement| placement.generation),
            starts: status.map_or(0, |status| status.start),
            address: seen.and_then(|seen| seen.address),
            names: seen.map(|seen| seen.names.clone()).unwrap_or_default(),
            launched_ms: instance.launched.ms(),
            placed_ms: placement.map(|placement| placement.at.ms()),
            reported_ms: status.map(|status| status.at.ms()),
        }
    }
}

fn node_name(cloud: &Cloud, id: NodeId) -> String {
    let node = cloud.nodes.get(&id).and_then(|node| node.announced.as_ref());
    node.map_or_else(|| id.short(), |node| node.name.clone())
}

/// The newest report, if it is about the placement that counts.
fn current_status(instance: &Instance) -> Option<&InstanceStatus> {
    let generation = instance.placement()?.generation;
    instance
        .status
        .as_ref()
        .filter(|status| status.generation == generation)
}

/// The image of a build: none till it is built, an error when it never will be.
fn image(cloud: &Cloud, build: BuildId) -> Result<Option<Digest>, &str> {
    match cloud.builds.get(&build).map(|build| &build.state) {
        Some(BuildState::Built { image, .. }) => Ok(Some(*image)),
        Some(BuildState::Failed { reason, .. }) => Err(reason),
        Some(BuildState::Asked) | None => Ok(None),
    }
}

/// Where the instance stands, and why.
pub fn word(cloud: &Cloud, live: &Live, instance: &Instance) -> (InstanceWord, Option<String>) {
    let placement = instance.placement();
    // An end that its owner has overruled by a start since is past.
    let phase = current_status(instance).map(|status| &status.phase);
    let overruled = instance.wanted == Wanted::Running && !instance.has_ended();
    let ended = |phase: &&Phase| matches!(phase, Phase::Stopped | Phase::Failed { .. });
    let phase = phase.filter(|phase| !(overruled && ended(phase)));
    if instance.wanted == Wanted::Deleted || phase == Some(&Phase::Deleted) {
        return (InstanceWord::Deleting, None);
    }
    if let Some(Phase::Failed { reason, .. }) = phase {
        return (InstanceWord::Failed, Some(reason.clone()));
    }
    if instance.wanted == Wanted::Stopped {
        return match (placement, phase) {
            (None, _) | (_, Some(Phase::Stopped)) => (InstanceWord::Stopped, None),
            _ => (InstanceWord::Stopping, None),
        };
    }
    let image = match image(cloud, instance.request.build) {
        Err(reason) => {
            return (
                InstanceWord::Failed,
                Some(format!("its image could not be built: {reason}")),
            );
        }
        Ok(None) => return (InstanceWord::Building, None),
        Ok(Some(image)) => image,
    };
    let Some(placement) = placement else {
        return (InstanceWord::Placing, instance.cannot_place.clone());
    };
    let holder = live.nodes.get(&placement.node).filter(|node| node.live);
    let Some(holder) = holder else {
        let name = node_name(cloud, placement.node);
        let more = instance
            .cannot_place
            .as_deref()
            .unwrap_or("it will be placed anew if that lasts");
        return (
            InstanceWord::Unhealthy,
            Some(format!("node {name}, which holds it, is silent; {more}")),
        );
    };
    let seen = live.instances.get(&instance.id);
    running_word(placement, phase, seen, holder.images.contains(&image))
}

/// The word for an instance that shall run on a node that is there.
fn running_word(
    placement: &Placement,
    phase: Option<&Phase>,
    seen: Option<&InstanceLive>,
    image_there: bool,
) -> (InstanceWord, Option<String>) {
    let seen = seen.filter(|seen| seen.generation == Some(placement.generation));
    match (phase, seen) {
        (Some(Phase::Booted | Phase::Serving), Some(seen)) if seen.healthy => (InstanceWord::Running, None),
        (Some(Phase::Serving), Some(_)) => (
            InstanceWord::Unhealthy,
            Some("its health check does not hold".into()),
        ),
        (Some(Phase::Serving), None) => (
            InstanceWord::Unhealthy,
            Some("its node does not list it as running".into()),
        ),
        (Some(Phase::Booted), _) => (InstanceWord::Starting, Some("it does not serve yet".into())),
        (Some(Phase::Stopped), None) => (
            InstanceWord::Stopped,
            Some("its entrypoint ended with status 0".into()),
        ),
        (_, Some(_)) => (InstanceWord::Starting, None),
        (_, None) if image_there => (InstanceWord::Starting, None),
        (_, None) => (InstanceWord::Fetching, None),
    }
}
