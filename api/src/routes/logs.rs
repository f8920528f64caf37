//! What instances and builds wrote: private, read from wherever it is held.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures::stream;
use ledger::id::{BuildId, InstanceId};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::app::{App, place};
use super::ask::{Id, Query, find};
use super::caller::{Caller, owned_by};
use super::instances::find_instance;
use crate::door::{LogChunk, LogError, LogQuery};
use crate::problem::{ErrorCode, Problem};
use crate::{LOG_FROM, path};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// Bytes of an answer that does not follow, at most. The next request begins behind them.
pub const LOG_ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long the door may wait for something new.
const WAIT_MS: u64 = 5_000;

/// Between two questions that brought nothing.
const PAUSE: Duration = Duration::from_millis(250);

/// Which part of a log.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct LogParams {
    /// From this byte on; without it, the last 64 KiB.
    from: Option<u64>,
    /// Go on as more is written, till it ends for good.
    #[serde(default)]
    follow: bool,
}

/// What an instance wrote.
///
/// Private: signed (RFC 9421) with the owner's key. The header `Form-Log-From` is the offset of the first byte;
/// the next request begins at that plus the bytes that came.
#[utoipa::path(
    get, path = path::INSTANCE_LOGS, tag = "instances",
    params(LogParams, ("id" = String, Path)),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
    security(("http_signature" = []))
)]
pub(crate) async fn instance_logs(
    State(app): State<App>,
    Id(id): Id,
    Query(params): Query<LogParams>,
    caller: Caller,
) -> Result<Response, Problem> {
    let cloud = app.door.cloud();
    let instance = find_instance(&cloud, &id)?;
    owned_by(instance.owner, &caller)?;
    answer(app, Source::Instance(instance.id), params).await
}

/// What a build wrote.
///
/// Private: signed (RFC 9421) with the owner's key.
#[utoipa::path(
    get, path = path::BUILD_LOG, tag = "builds",
    params(LogParams, ("id" = String, Path)),
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
    security(("http_signature" = []))
)]
pub(crate) async fn build_log(
    State(app): State<App>,
    Id(id): Id,
    Query(params): Query<LogParams>,
    caller: Caller,
) -> Result<Response, Problem> {
    let cloud = app.door.cloud();
    let build = find("build", &id, None, |first| cloud.builds.range(BuildId(first)..))?;
    owned_by(build.owner, &caller)?;
    answer(app, Source::Build(build.id), params).await
}

#[derive(Clone, Copy)]
enum Source {
    Instance(InstanceId),
    Build(BuildId),
}

async fn read(app: &App, source: Source, query: LogQuery) -> Result<LogChunk, LogError> {
    match source {
        Source::Instance(id) => app.door.instance_log(id, query).await,
        Source::Build(id) => app.door.build_log(id, query).await,
    }
}

async fn answer(app: App, source: Source, params: LogParams) -> Result<Response, Problem> {
    let place = place(&app.log_streams, "logs")?;
    let query = LogQuery {
        from: params.from,
        max: CHUNK_BYTES,
        wait_ms: 0,
    };
    // The first part is read before the answer begins, so that a failure has a status of its own.
    let first = tokio::time::timeout(app.limits.answer_time, read(&app, source, query))
        .await
        .map_err(|_| Problem::new(ErrorCode::Timeout, "the log's holder did not answer in time"))?;
    let first = match first {
        // Whoever follows waits for a log to begin.
        Err(LogError::None) if params.follow => LogChunk {
            from: params.from.unwrap_or(0),
            bytes: Bytes::new(),
            ended: false,
        },
        other => other.map_err(problem)?,
    };
    let from = first.from;
    let tail = Tail {
        next: first.from + first.bytes.len() as u64,
        end: first.from.saturating_add(LOG_ANSWER_BYTES_MAX),
        ready: Some(first),
        app,
        source,
        follow: params.follow,
        _place: place,
    };
    let mut response = Body::from_stream(stream::unfold(tail, Tail::step)).into_response();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(LOG_FROM, HeaderValue::from(from));
    Ok(response)
}

/// An answer on its way.
struct Tail {
    app: App,
    source: Source,
    follow: bool,
    /// The next byte to ask for.
    next: u64,
    /// Where an answer that does not follow ends.
    end: u64,
    /// What was read and is not given yet.
    ready: Option<LogChunk>,
    _place: OwnedSemaphorePermit,
}

impl Tail {
    async fn step(mut self) -> Option<(Result<Bytes, LogError>, Self)> {
        loop {
            let chunk = match self.ready.take() {
                Some(chunk) => chunk,
                None => match self.read().await? {
                    Ok(chunk) => chunk,
                    // Ends the connection in the middle of the body: the reader sees that it is not whole.
                    Err(error) => return Some((Err(error), self)),
                },
            };
            self.next = chunk.from + chunk.bytes.len() as u64;
            let nothing = chunk.bytes.is_empty();
            if chunk.ended || (!self.follow && self.next >= self.end) {
                self.follow = false;
                self.end = 0;
            }
            if !nothing {
                return Some((Ok(chunk.bytes), self));
            }
            if !self.follow {
                return None;
            }
        }
    }

    /// The next part; none when the answer ends here.
    async fn read(&mut self) -> Option<Result<LogChunk, LogError>> {
        if !self.follow && self.end == 0 {
            return None;
        }
        let wait_ms = if self.follow { WAIT_MS } else { 0 };
        let query = LogQuery {
            from: Some(self.next),
            max: CHUNK_BYTES,
            wait_ms,
        };
        let began = Instant::now();
        let shutdown = self.app.shutdown.clone();
        let limit = self.app.limits.answer_time + Duration::from_millis(wait_ms);
        let answer = tokio::select! {
            answer = tokio::time::timeout(limit, read(&self.app, self.source, query)) => answer,
            () = shutdown.cancelled() => return None,
        };
        let nothing = LogChunk {
            from: self.next,
            bytes: Bytes::new(),
            ended: false,
        };
        let chunk = match answer {
            Ok(Ok(chunk)) => chunk,
            Ok(Err(LogError::None | LogError::Busy)) => nothing,
            // Whoever follows goes on when the instance moves: its log begins anew elsewhere.
            Ok(Err(LogError::Unreachable(_))) if self.follow => nothing,
            Ok(Err(error)) => return Some(Err(error)),
            Err(_) => return Some(Err(LogError::Failed("the holder did not answer in time".into()))),
        };
        if chunk.bytes.is_empty() && !chunk.ended && self.follow {
            tokio::select! {
                () = tokio::time::sleep_until(began + PAUSE) => {}
                () = shutdown.cancelled() => return None,
            }
        }
        Some(Ok(chunk))
    }
}

fn problem(error: LogError) -> Problem {
    let code = match error {
        LogError::None => ErrorCode::NotFound,
        LogError::Unreachable(_) => ErrorCode::Unreachable,
        LogError::Busy => ErrorCode::Busy,
        LogError::Failed(_) => ErrorCode::Internal,
    };
    Problem::new(code, error.to_string())
}
