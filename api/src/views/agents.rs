//! Agents as people see them.

use ledger::id::{AccountId, AgentId, BuildId, Digest};
use projections::agents::Agent;
use projections::cloud::Cloud;
use projections::images::BuildState;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{ShapeView, account_name};

/// An agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AgentId,
    /// Its unique name.
    pub name: String,
    /// Whose it is.
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// The owner's name.
    pub owner_name: Option<String>,
    /// For people.
    pub description: String,
    /// The build of its image.
    #[schema(value_type = String)]
    pub build: BuildId,
    /// Its image, once built.
    #[schema(value_type = Option<String>)]
    pub image: Option<Digest>,
    /// The machine that its instances want.
    pub shape: ShapeView,
    /// The port that its instances serve on.
    pub port: Option<u16>,
    /// How many releases it has had.
    pub version: u64,
    /// When it was registered.
    pub registered_ms: u64,
    /// When its release last changed.
    pub updated_ms: u64,
}

impl AgentView {
    /// The agent as it stands in `cloud`.
    pub fn new(cloud: &Cloud, agent: &Agent) -> Self {
        let image = cloud
            .builds
            .get(&agent.release.build)
            .and_then(|build| match build.state {
                BuildState::Built { image, .. } => Some(image),
                BuildState::Asked | BuildState::Failed { .. } => None,
            });
        Self {
            id: agent.id,
            name: agent.name.clone(),
            owner: agent.owner,
            owner_name: account_name(cloud, agent.owner),
            description: agent.release.description.clone(),
            build: agent.release.build,
            image,
            shape: agent.release.shape.into(),
            port: agent.release.port,
            version: agent.version,
            registered_ms: agent.registered.ms(),
            updated_ms: agent.updated.ms(),
        }
    }
}
