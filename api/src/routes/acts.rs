//! What the admins do together.

use std::ops::Bound;

use axum::Json;
use axum::extract::State;
use ledger::id::ActId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::{App, now_ms};
use super::ask::{Id, Query, find, limit, one, page, parse};
use crate::path;
use crate::problem::{ErrorCode, Problem};
use crate::views::acts::{ActView, ActWord, CharterView};
use crate::views::{One, Page};

/// Which acts.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ActParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this id: the `next` of the page before.
    after: Option<String>,
    /// Only those that stand so: `waiting`, `done` or `lapsed`.
    state: Option<String>,
}

/// Who the admins are and what they have settled.
#[utoipa::path(
    get, path = path::CHARTER, tag = "network",
    responses(
        (status = 200, body = One<CharterView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn charter(State(app): State<App>) -> Json<One<CharterView>> {
    let cloud = app.door.cloud();
    one(&cloud, CharterView::from(&*cloud))
}

/// Acts that wait for approvals, and those done or lapsed lately, in the order of their ids.
#[utoipa::path(
    get, path = path::ACTS, tag = "network", params(ActParams),
    responses(
        (status = 200, body = Page<ActView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn acts(
    State(app): State<App>,
    Query(params): Query<ActParams>,
) -> Result<Json<Page<ActView>>, Problem> {
    let cloud = app.door.cloud();
    let after: Option<ActId> = params.after.as_deref().map(|id| parse("after", id)).transpose()?;
    let state = params.state.as_deref().map(word).transpose()?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let items = cloud
        .acts
        .range((from, Bound::Unbounded))
        .map(|(id, record)| ActView::new(&cloud, *id, record, now_ms()))
        .filter(|view| state.is_none_or(|state| view.state == state));
    Ok(Json(page(items, limit(params.limit)?, cloud.position, |view| {
        view.id.to_string()
    })))
}

/// An act, by its id or the first digits of it.
#[utoipa::path(
    get, path = path::ACT, tag = "network", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<ActView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn act(State(app): State<App>, Id(id): Id) -> Result<Json<One<ActView>>, Problem> {
    let cloud = app.door.cloud();
    let (id, record) = find("act", &id, None, |first| {
        let acts = cloud.acts.range(ActId(first)..);
        acts.map(|(id, record)| (id, (*id, record)))
    })?;
    Ok(one(&cloud, ActView::new(&cloud, id, record, now_ms())))
}

fn word(text: &str) -> Result<ActWord, Problem> {
    [ActWord::Waiting, ActWord::Done, ActWord::Lapsed]
        .into_iter()
        .find(|word| word.as_str() == text)
        .ok_or_else(|| {
            Problem::new(
                ErrorCode::Malformed,
                "`state` is `waiting`, `done` or `lapsed`".to_owned(),
            )
        })
}
