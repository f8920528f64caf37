//! The log, op by op.

use std::time::Instant;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::{App, PAUSES};
use super::ask::{self, Id, Query, limit, one, page, parse, resolve};
use crate::door::{Answer, OpsQuery, ReadError};
use crate::path;
use crate::problem::{ErrorCode, Problem};
use crate::views::ledger::LedgerView;
use crate::views::ops::OpView;
use crate::views::status::VerifyReport;
use crate::views::{One, Page};

/// Which ops.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OpParams {
    /// At most so many: 1 to 1000, 100 without it.
    limit: Option<usize>,
    /// Begin behind this op: the `next` of the page before.
    after: Option<String>,
    /// From the newest back.
    #[serde(default)]
    newest_first: bool,
    /// Only this node's: its key, name, or the first digits of its key.
    node: Option<String>,
    /// Only of this start of a node: sixteen hexadecimal digits.
    incarnation: Option<String>,
}

/// Ops, in their total order.
#[utoipa::path(
    get, path = path::OPS, tag = "ops", params(OpParams),
    responses(
        (status = 200, body = Page<OpView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ops(
    State(app): State<App>,
    Query(params): Query<OpParams>,
) -> Result<Json<Page<OpView>>, Problem> {
    let cloud = app.door.cloud();
    let limit = limit(params.limit)?;
    let incarnation = params.incarnation.as_deref().map(incarnation).transpose()?;
    let query = OpsQuery {
        after: params.after.as_deref().map(|id| parse("after", id)).transpose()?,
        // One more than the page holds tells whether there is a next one.
        limit: limit + 1,
        newest_first: params.newest_first,
        node: resolve(&cloud, params.node.as_ref(), ask::node)?,
        incarnation,
    };
    let records = app.door.ops(query).await.map_err(read_problem)?;
    let views = records.iter().map(|record| OpView::new(&cloud, record));
    Ok(Json(page(views, limit, cloud.position, |view| {
        view.id.to_string()
    })))
}

fn incarnation(text: &str) -> Result<u64, Problem> {
    u64::from_str_radix(text, 16).map_err(|_| {
        Problem::new(
            ErrorCode::Malformed,
            "`incarnation` is sixteen hexadecimal digits",
        )
    })
}

/// An op, by its whole id.
#[utoipa::path(
    get, path = path::OP, tag = "ops", params(("id" = String, Path)),
    responses(
        (status = 200, body = One<OpView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn op(State(app): State<App>, Id(id): Id) -> Result<Json<One<OpView>>, Problem> {
    let id = parse("id", &id)?;
    let record = app
        .door
        .op(id)
        .await
        .map_err(read_problem)?
        .ok_or_else(|| Problem::new(ErrorCode::NotFound, format!("this node has no op {id}")))?;
    let cloud = app.door.cloud();
    Ok(one(&cloud, OpView::new(&cloud, &record)))
}

/// Reads the whole log of the node from its disk and checks it again.
#[utoipa::path(
    get, path = path::OPS_VERIFY, tag = "ops",
    responses(
        (status = 200, body = VerifyReport),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn verify(State(app): State<App>) -> Result<Json<VerifyReport>, Problem> {
    one_at_a_time(&app, app.door.verify()).await.map(Json)
}

/// The whole log of the node as one file.
///
/// It holds what the members of the network share: ops, certificates and proofs of forks, no key. Its format is
/// drawn in `ledger/src/export.rs`; `form restore` reads it.
#[utoipa::path(
    get, path = path::OPS_EXPORT, tag = "ops",
    responses(
        (status = 200, body = Vec<u8>, content_type = "application/octet-stream"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn export(State(app): State<App>) -> Result<Response, Problem> {
    let bytes: Bytes = one_at_a_time(&app, app.door.export()).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], bytes).into_response())
}

/// What reads the whole log is done for one at a time, with a pause after it.
async fn one_at_a_time<T>(app: &App, work: Answer<'_, Result<T, ReadError>>) -> Result<T, Problem> {
    let busy = |what: &str| Problem::new(ErrorCode::Busy, what).hint("try again in a moment");
    let mut last = app
        .verified
        .try_lock()
        .map_err(|_| busy("this node is reading its whole log for somebody already"))?;
    if last.is_some_and(|(ended, took)| ended.elapsed() < took * PAUSES) {
        return Err(busy("this node has read its whole log just now"));
    }
    let began = Instant::now();
    let done = work.await;
    *last = Some((Instant::now(), began.elapsed()));
    done.map_err(read_problem)
}

/// The ledger of the answering node, for its operator.
#[utoipa::path(
    get, path = path::LEDGER, tag = "ops",
    responses(
        (status = 200, body = LedgerView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ledger(State(app): State<App>) -> Result<Json<LedgerView>, Problem> {
    app.door.ledger().await.map(Json).map_err(read_problem)
}

/// What the door could not read, as a problem.
pub(crate) fn read_problem(error: ReadError) -> Problem {
    let problem = |code| Problem::new(code, error.to_string());
    match error {
        ReadError::UnknownCursor => problem(ErrorCode::NotFound).hint("begin again without `after`"),
        ReadError::Pruned(from) => {
            problem(ErrorCode::Pruned).hint(format!("begin with `from={from}`, after reading the views anew"))
        }
        ReadError::Busy => problem(ErrorCode::Busy),
        ReadError::Failed(_) => problem(ErrorCode::Internal),
    }
}
