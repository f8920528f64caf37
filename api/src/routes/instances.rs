//! Instances.

use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use ledger::id::InstanceId;
use projections::cloud::Cloud;
use projections::instances::{Instance, Wanted};
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::App;
use super::ask::{self, Id, Query, find, limit, one, page, parse, resolve};
use crate::path;
use crate::problem::{ErrorCode, Problem};
use crate::views::instances::{InstanceView, InstanceWord};
use crate::views::{One, Page};

/// Which instances.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct InstanceParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this id: the `next` of the page before.
    after: Option<String>,
    /// Only those of this name.
    name: Option<String>,
    /// Only this account's: its id, name, or the first digits of its id.
    owner: Option<String>,
    /// Only those that serve this agent: its id, name, or the first digits of its id.
    agent: Option<String>,
    /// Only those that are placed on this node: its key, name, or the first digits of its key.
    node: Option<String>,
    /// Only those that stand so.
    state: Option<InstanceWord>,
}

/// Instances, in the order of their ids.
#[utoipa::path(
    get, path = path::INSTANCES, tag = "instances", params(InstanceParams),
    responses(
        (status = 200, body = Page<InstanceView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn instances(
    State(app): State<App>,
    Query(params): Query<InstanceParams>,
) -> Result<Json<Page<InstanceView>>, Problem> {
    let (cloud, live) = (app.door.cloud(), app.door.live());
    let after: Option<InstanceId> = params.after.as_deref().map(|id| parse("after", id)).transpose()?;
    let owner = resolve(&cloud, params.owner.as_ref(), ask::account)?;
    let agent = resolve(&cloud, params.agent.as_ref(), ask::agent)?;
    let node = resolve(&cloud, params.node.as_ref(), ask::node)?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let items = cloud
        .instances
        .range((from, Bound::Unbounded))
        .map(|(_, instance)| instance)
        .filter(|instance| {
            params
                .name
                .as_ref()
                .is_none_or(|name| instance.request.name == *name)
        })
        .filter(|instance| owner.is_none_or(|owner| instance.owner == owner))
        .filter(|instance| agent.is_none_or(|agent| instance.request.agent == Some(agent)))
        .filter(|instance| node.is_none_or(|node| instance.placement().is_some_and(|at| at.node == node)))
        .map(|instance| InstanceView::new(&cloud, &live, instance))
        .filter(|view| params.state.is_none_or(|state| view.state == state));
    Ok(Json(page(items, limit(params.limit)?, cloud.position, |view| {
        view.id.to_string()
    })))
}

/// An instance, by its id, the first digits of it, or its name where only one account uses that.
#[utoipa::path(
    get, path = path::INSTANCE, tag = "instances", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<InstanceView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn instance(State(app): State<App>, Id(id): Id) -> Result<Json<One<InstanceView>>, Problem> {
    let (cloud, live) = (app.door.cloud(), app.door.live());
    let instance = find_instance(&cloud, &id)?;
    Ok(one(&cloud, InstanceView::new(&cloud, &live, instance)))
}

/// The instance that a text means.
pub(crate) fn find_instance<'a>(cloud: &'a Cloud, text: &str) -> Result<&'a Instance, Problem> {
    let mut named = cloud
        .instances
        .values()
        .filter(|instance| instance.request.name == text && instance.wanted != Wanted::Deleted);
    let first = named.next();
    if first.is_some() && named.next().is_some() {
        return Err(Problem::new(
            ErrorCode::Ambiguous,
            format!("more than one account calls an instance `{text}`"),
        )
        .hint("give the first digits of its id, or list with `?name=` and `?owner=`"));
    }
    find("instance", text, first, |first| {
        cloud.instances.range(InstanceId(first)..)
    })
}
