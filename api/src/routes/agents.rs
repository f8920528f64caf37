//! Agents.

use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use ledger::id::AgentId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::App;
use super::ask::{self, Id, Query, find, limit, one, page, parse, resolve};
use crate::path;
use crate::problem::Problem;
use crate::views::agents::AgentView;
use crate::views::{One, Page};

/// Which agents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AgentParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this id: the `next` of the page before.
    after: Option<String>,
    /// Only the agent of this name.
    name: Option<String>,
    /// Only this account's: its id, name, or the first digits of its id.
    owner: Option<String>,
}

/// Agents, in the order of their ids.
#[utoipa::path(
    get, path = path::AGENTS, tag = "agents", params(AgentParams),
    responses(
        (status = 200, body = Page<AgentView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn agents(
    State(app): State<App>,
    Query(params): Query<AgentParams>,
) -> Result<Json<Page<AgentView>>, Problem> {
    let cloud = app.door.cloud();
    let after: Option<AgentId> = params.after.as_deref().map(|id| parse("after", id)).transpose()?;
    let owner = resolve(&cloud, params.owner.as_ref(), ask::account)?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let items = cloud
        .agents
        .range((from, Bound::Unbounded))
        .map(|(_, agent)| agent)
        .filter(|agent| params.name.as_ref().is_none_or(|name| agent.name == *name))
        .filter(|agent| owner.is_none_or(|owner| agent.owner == owner))
        .map(|agent| AgentView::new(&cloud, agent));
    Ok(Json(page(items, limit(params.limit)?, cloud.position, |view| {
        view.id.to_string()
    })))
}

/// An agent, by its id, its name, or the first digits of its id.
#[utoipa::path(
    get, path = path::AGENT, tag = "agents", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<AgentView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn agent(State(app): State<App>, Id(id): Id) -> Result<Json<One<AgentView>>, Problem> {
    let cloud = app.door.cloud();
    let agent = find("agent", &id, cloud.agent_named(&id), |first| {
        cloud.agents.range(AgentId(first)..)
    })?;
    Ok(one(&cloud, AgentView::new(&cloud, agent)))
}
