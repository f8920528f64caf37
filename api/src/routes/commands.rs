//! Commands in, outcomes out.

use std::time::Duration;

use axum::Json;
use axum::body::{self, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use ledger::command::{Body, COMMAND_BYTES_MAX, LIFETIME_MS_MAX, SignedCommand};
use ledger::id::CommandId;
use projections::outcome::{Outcome, Void};
use serde::Deserialize;
use utoipa::IntoParams;

use super::app::{App, now_ms};
use super::ask::{Id, Query, find, one};
use crate::client::WaitFor;
use crate::door::{SubmitError, Submitted, Wait};
use crate::path;
use crate::problem::{ErrorCode, Problem};
use crate::views::One;
use crate::views::commands::{CommandAnswer, CommandView};

const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How a command is submitted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct SubmitParams {
    /// What the answer waits for: `tentative` (durable here and folded: the outcome is known, and may turn),
    /// `replicated:N` (and N other nodes hold it durably, so that it outlives this node), `final` (a certificate
    /// covers it: the outcome stands for ever), or `none` (durable here).
    #[serde(default = "tentative")]
    wait: String,
}

fn tentative() -> String {
    WaitFor::Tentative.to_string()
}

/// Submits a signed command.
///
/// The body is the command's canonical bytes. The same command again brings its first outcome and makes no
/// second op, so a request that broke may be repeated as it is. A command that is void brings the reason as a
/// problem; its `command` and `op` say where it stands in the log, if it came that far.
#[utoipa::path(
    post,
    path = path::COMMANDS,
    tag = "commands",
    params(SubmitParams),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, description = "It counts, and this is its outcome", body = CommandAnswer),
        (status = 202, description = "It is durable; nobody waited for its outcome", body = CommandAnswer),
        (status = 400, description = "Not a command", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Its signature does not hold", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key signs for no account, or the thing belongs to another", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The thing that it is about does not exist", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The name is taken, the nonce was used, the key has an account, or a command that must come first is missing", body = Problem, content_type = "application/problem+json"),
        (status = 410, description = "The thing that it is about was deleted", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than a command can be", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "It has expired, asks to count for too long, is of a kind that is not known, or a rule stands against it", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The node is busy, shuts down, cannot write, or its clock is off", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "It is in the log; what else was waited for did not come in time", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn submit(
    State(app): State<App>,
    Query(params): Query<SubmitParams>,
    headers: HeaderMap,
    body: body::Body,
) -> Result<(StatusCode, Json<CommandAnswer>), Problem> {
    let wait = match params.wait.parse() {
        Ok(WaitFor::Tentative) => Wait::Tentative,
        Ok(WaitFor::Replicated(others)) => Wait::Replicated(others),
        Ok(WaitFor::Final) => Wait::Final,
        Ok(WaitFor::Nothing) => Wait::Durable,
        Err(error) => return Err(Problem::new(ErrorCode::Malformed, format!("`wait`: {error}"))),
    };
    let bytes = read(&app, &headers, body).await?;
    let command = SignedCommand::decode(app.door.cloud().network, &bytes)
        .map_err(|error| Problem::new(ErrorCode::Malformed, error.to_string()))?;
    let id = command.id();
    let problem = |void: &Void| void_problem(id, void);
    if !ledger::key::verify(&command.check()) {
        return Err(problem(&Void::Forged)
            .hint("sign for this network (`GET /v1/network`): the network's id is part of what is signed"));
    }
    // What is in the log is not judged again; only the wait may be another one.
    if let Some(answer) = first_outcome(&app, id) {
        let waits = matches!(wait, Wait::Replicated(_) | Wait::Final);
        // A void outcome may turn as well, and only its certificate ends that.
        if !waits || (answer.is_err() && wait != Wait::Final) {
            return answer;
        }
        let kind = command.command().body.name();
        let (submitted, _) = app
            .submit_once(command, wait)
            .await
            .map_err(|error| submit_problem(id, error))?;
        return as_outcome(kind, &submitted, true, wait);
    }
    let now_ms = now_ms();
    let not_after_ms = command.command().not_after_ms;
    if not_after_ms < now_ms {
        return Err(problem(&Void::Expired).hint(format!(
            "it counted till {not_after_ms}, this node's clock shows {now_ms}: sign it anew"
        )));
    }
    if not_after_ms > now_ms.saturating_add(LIFETIME_MS_MAX) {
        return Err(problem(&Void::TooFarAhead));
    }

    welcome(&app, &command)?;

    let kind = command.command().body.name();
    let (submitted, repeated) = app
        .submit_once(command, wait)
        .await
        .map_err(|error| submit_problem(id, error))?;
    match (&submitted.outcome, wait) {
        // Another node was given the same command, and its op comes first.
        (Some(Outcome::Void(Void::Replayed)), _) => {
            first_outcome(&app, id).unwrap_or_else(|| Err(problem(&Void::Replayed)))
        }
        // Whoever submitted it first did not wait.
        (None, Wait::Tentative) => folded(&app, id).await,
        _ => as_outcome(kind, &submitted, repeated, wait),
    }
}

/// The answer to a command that is in the log: a void one is a problem, where its outcome was waited for.
fn as_outcome(kind: &str, submitted: &Submitted, repeated: bool, wait: Wait) -> Answered {
    match &submitted.outcome {
        Some(Outcome::Void(void)) if wait != Wait::Durable => {
            let mut problem = void_problem(submitted.id, void);
            problem.op = Some(submitted.op);
            Err(problem)
        }
        _ => Ok(answer(kind.to_owned(), submitted, repeated, wait)),
    }
}

/// What became of a command.
#[utoipa::path(
    get,
    path = path::COMMAND,
    tag = "commands",
    params(("id" = String, Path, description = "Its id or the first digits of it")),
    responses(
        (status = 200, body = One<CommandView>),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn command(State(app): State<App>, Id(id): Id) -> Result<Json<One<CommandView>>, Problem> {
    let cloud = app.door.cloud();
    let (id, record) = find("command", &id, None, |first| {
        cloud
            .commands
            .range(CommandId(first)..)
            .map(|(id, record)| (id, (*id, record)))
    })?;
    Ok(one(&cloud, CommandView::new(id, record)))
}

/// Whether a command is worth an op that every node keeps for ever. A key without an account can bring any number
/// of commands for nothing: only those that open an account pass, so many at a time. What the log would call void
/// is refused here without a trace in it, so the same bytes may come again when the account is known.
fn welcome(app: &App, command: &SignedCommand) -> Result<(), Problem> {
    let cloud = app.door.cloud();
    let (id, command) = (command.id(), command.command());
    let key = cloud.keys.get(&command.key);
    if let Some(why) = key.and_then(|key| key.check(now_ms()).err()) {
        return Err(void_problem(id, &why));
    }
    if key.is_some() || cloud.admins.contains_key(&command.key) {
        return Ok(());
    }
    if let Some(first) = command
        .after
        .iter()
        .find(|first| !cloud.commands.contains_key(*first))
    {
        return Err(void_problem(id, &Void::OutOfOrder(*first)));
    }
    if !matches!(command.body, Body::OpenAccount(_)) {
        return Err(void_problem(id, &Void::NoAccount).hint(
            "open an account, or wait till this node has heard of it and submit the same bytes again",
        ));
    }
    if app.admit_newcomer() {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::Busy,
        "more accounts are being opened here than this node takes on",
    )
    .hint("submit the same bytes again in a moment, or at another node"))
}

async fn read(app: &App, headers: &HeaderMap, body: body::Body) -> Result<Vec<u8>, Problem> {
    let media = headers.get(header::CONTENT_TYPE).map(|media| media.as_bytes());
    if media.is_some_and(|media| media != b"application/octet-stream") {
        return Err(Problem::new(
            ErrorCode::MediaType,
            "a command is `application/octet-stream`",
        ));
    }
    let too_large = || {
        Problem::new(
            ErrorCode::TooLarge,
            format!("a command has at most {COMMAND_BYTES_MAX} bytes"),
        )
    };
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > COMMAND_BYTES_MAX as u64) {
        return Err(too_large());
    }
    let whole = to_bytes(body, COMMAND_BYTES_MAX);
    match tokio::time::timeout(app.limits.stall_time, whole).await {
        Ok(Ok(bytes)) => Ok(bytes.into()),
        Ok(Err(error)) if is_limit(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Problem::new(
            ErrorCode::BodyMismatch,
            "the connection broke in the middle of the body",
        )),
        Err(_) => Err(Problem::new(ErrorCode::Stalled, "the command stopped coming")),
    }
}

fn is_limit(error: &axum::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        source = error.source();
    }
    false
}

type Answered = Result<(StatusCode, Json<CommandAnswer>), Problem>;

/// The outcome of a command that is in the log already.
fn first_outcome(app: &App, id: CommandId) -> Option<Answered> {
    let cloud = app.door.cloud();
    let record = cloud.commands.get(&id)?;
    if let Outcome::Void(void) = &record.outcome {
        let mut problem = void_problem(id, void);
        problem.op = Some(record.op);
        return Some(Err(problem));
    }
    let submitted = Submitted {
        id,
        op: record.op,
        position: cloud.position,
        outcome: Some(record.outcome.clone()),
    };
    Some(Ok(answer(
        record.kind_name().to_owned(),
        &submitted,
        true,
        Wait::Tentative,
    )))
}

/// The outcome of a command that is in the log and not folded yet. The layer around bounds the time.
async fn folded(app: &App, id: CommandId) -> Answered {
    let mut end = app.door.journal_end();
    loop {
        end.mark_unchanged();
        if let Some(answer) = first_outcome(app, id) {
            return answer;
        }
        // The view may be published a little after the journal grew: look again soon in any case.
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_AGAIN, end.changed()).await {
            return Err(submit_problem(id, SubmitError::ShuttingDown));
        }
    }
}

fn answer(
    kind: String,
    submitted: &Submitted,
    repeated: bool,
    wait: Wait,
) -> (StatusCode, Json<CommandAnswer>) {
    let status = match (wait, &submitted.outcome) {
        (Wait::Durable, None) => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    };
    let answer = CommandAnswer {
        id: submitted.id,
        kind,
        op: submitted.op,
        outcome: submitted.outcome.as_ref().map(Into::into),
        repeated,
        position: submitted.position.into(),
    };
    (status, Json(answer))
}

fn void_problem(id: CommandId, void: &Void) -> Problem {
    let problem = Problem {
        command: Some(id),
        ..Problem::new(ErrorCode::of_void(void), void.to_string())
    };
    match void {
        Void::NameTaken(_) => problem.hint("choose another name"),
        Void::NonceUsed => problem.hint("sign with a new random nonce"),
        Void::TooFarAhead => problem.hint("sign with a `not_after` within 24 hours"),
        Void::OutOfOrder(_) => problem.hint("submit that one first, or wait till this node has it"),
        Void::NotUnderstood(_) => problem.hint("this node may be older than the one that signs"),
        Void::NotOwner => problem.hint("sign with the owner's key"),
        _ => problem,
    }
}

fn submit_problem(id: CommandId, error: SubmitError) -> Problem {
    let code = match error {
        SubmitError::Busy => ErrorCode::Busy,
        SubmitError::ShuttingDown => ErrorCode::ShuttingDown,
        SubmitError::ClockOff(_) => ErrorCode::ClockOff,
        SubmitError::NotWritten(_) => ErrorCode::NotWritten,
        SubmitError::NotYet(_) => ErrorCode::NotYet,
        SubmitError::Failed(_) => ErrorCode::Internal,
    };
    let mut problem = Problem::new(code, error.to_string());
    match code {
        ErrorCode::ClockOff => problem.hint("submit to another node, or set this host's clock right"),
        ErrorCode::Internal => problem,
        ErrorCode::NotYet => {
            problem.command = Some(id);
            problem.hint("the command stands: submit the same bytes again to wait on")
        }
        ErrorCode::NotWritten => {
            problem.hint("submit the same bytes to another node, or make room on this node's disk")
        }
        _ => problem.hint("submit the same bytes again in a moment, here or at another node"),
    }
}
