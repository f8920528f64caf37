//! Nodes.

use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use ledger::id::NodeId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::App;
use super::ask::{self, Id, Query, limit, one, page, parse};
use crate::path;
use crate::problem::{ErrorCode, Problem};
use crate::views::nodes::NodeView;
use crate::views::{One, Page};

/// Which nodes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NodeParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this key: the `next` of the page before.
    after: Option<String>,
    /// Only those of this name.
    name: Option<String>,
    /// Only those that the answering node has heard of lately, or only the others.
    live: Option<bool>,
}

/// Nodes, in the order of their keys.
#[utoipa::path(
    get, path = path::NODES, tag = "nodes", params(NodeParams),
    responses(
        (status = 200, body = Page<NodeView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn nodes(
    State(app): State<App>,
    Query(params): Query<NodeParams>,
) -> Result<Json<Page<NodeView>>, Problem> {
    let (cloud, live) = (app.door.cloud(), app.door.live());
    let after: Option<NodeId> = params.after.as_deref().map(|id| parse("after", id)).transpose()?;
    let placed = NodeView::placed(&cloud);
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let items = cloud
        .nodes
        .range((from, Bound::Unbounded))
        .map(|(id, node)| NodeView::new(&cloud, &live, node, placed.get(id).copied().unwrap_or_default()))
        .filter(|view| params.name.is_none() || view.name == params.name)
        .filter(|view| params.live.is_none_or(|live| view.live == live));
    Ok(Json(page(items, limit(params.limit)?, cloud.position, |view| {
        view.id.to_string()
    })))
}

/// A node, by its key, the first digits of it, or its name where only one node uses that.
#[utoipa::path(
    get, path = path::NODE, tag = "nodes", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<NodeView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn node(State(app): State<App>, Id(id): Id) -> Result<Json<One<NodeView>>, Problem> {
    let (cloud, live) = (app.door.cloud(), app.door.live());
    let id = ask::node(&cloud, &id)?;
    let node = cloud
        .nodes
        .get(&id)
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, format!("there is no node `{id}`")))?;
    let instances = cloud.held_by(id).count() as u64;
    Ok(one(&cloud, NodeView::new(&cloud, &live, node, instances)))
}
