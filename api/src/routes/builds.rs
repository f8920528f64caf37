//! Builds of images.

use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use ledger::id::BuildId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::App;
use super::ask::{self, Id, Query, find, limit, one, page, parse, resolve};
use crate::path;
use crate::problem::Problem;
use crate::views::builds::{BuildView, BuildWord};
use crate::views::{One, Page};

/// Which builds.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BuildParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this id: the `next` of the page before.
    after: Option<String>,
    /// Only images of this name.
    name: Option<String>,
    /// Only this account's: its id, name, or the first digits of its id.
    owner: Option<String>,
    /// Only those that stand so.
    state: Option<BuildWord>,
}

/// Builds, in the order of their ids.
#[utoipa::path(
    get, path = path::BUILDS, tag = "builds", params(BuildParams),
    responses(
        (status = 200, body = Page<BuildView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn builds(
    State(app): State<App>,
    Query(params): Query<BuildParams>,
) -> Result<Json<Page<BuildView>>, Problem> {
    let cloud = app.door.cloud();
    let after: Option<BuildId> = params.after.as_deref().map(|id| parse("after", id)).transpose()?;
    let owner = resolve(&cloud, params.owner.as_ref(), ask::account)?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let items = cloud
        .builds
        .range((from, Bound::Unbounded))
        .map(|(_, build)| build)
        .filter(|build| {
            params
                .name
                .as_ref()
                .is_none_or(|name| build.request.name == *name)
        })
        .filter(|build| owner.is_none_or(|owner| build.owner == owner))
        .map(|build| BuildView::new(&cloud, build))
        .filter(|view| params.state.is_none_or(|state| view.state == state));
    Ok(Json(page(items, limit(params.limit)?, cloud.position, |view| {
        view.id.to_string()
    })))
}

/// A build, by its id or the first digits of it.
#[utoipa::path(
    get, path = path::BUILD, tag = "builds", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<BuildView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn build(State(app): State<App>, Id(id): Id) -> Result<Json<One<BuildView>>, Problem> {
    let cloud = app.door.cloud();
    let build = find("build", &id, None, |first| cloud.builds.range(BuildId(first)..))?;
    Ok(one(&cloud, BuildView::new(&cloud, build)))
}
