//! Who makes a signed request.

use std::sync::PoisonError;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use ledger::id::AccountId;

use super::app::{App, now_ms};
use crate::problem::{ErrorCode, Problem};
use crate::signature::{self, Content, ReplayError, SignatureError, Target};

/// The account whose key signed the request. The signature holds, is of now, and came for the first time.
pub(crate) struct Caller {
    pub(crate) account: AccountId,
}

/// The same for a request with a body that is not read yet.
pub(crate) struct Sender {
    pub(crate) account: AccountId,
    /// What the signature says of the body.
    pub(crate) content: Content,
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        check(parts, app, false).map(|(account, _)| Self { account })
    }
}

impl FromRequestParts<App> for Sender {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let (account, content) = check(parts, app, true)?;
        let content = content.expect("a signature that was checked with its body names the body");
        Ok(Self { account, content })
    }
}

fn check(parts: &Parts, app: &App, with_body: bool) -> Result<(AccountId, Option<Content>), Problem> {
    let target = Target {
        method: &parts.method,
        path: parts.uri.path(),
        query: parts.uri.query(),
    };
    let now_s = now_ms() / 1000;
    let signed = signature::verify(target, &parts.headers, with_body, now_s).map_err(|error| {
        let code = match error {
            SignatureError::Absent => ErrorCode::Unsigned,
            SignatureError::Malformed(_) => ErrorCode::Malformed,
            SignatureError::NotCovered(_) => ErrorCode::Unsigned,
            SignatureError::Stale { .. } => ErrorCode::Stale,
            SignatureError::Forged => ErrorCode::Forged,
        };
        let problem = Problem::new(code, error.to_string());
        match code {
            ErrorCode::Unsigned => problem.hint(
                "sign the request with the account's key (RFC 9421); the parts to cover are \"@method\" \
                 \"@path\" \"@query\" and, with a body, \"content-digest\" \"content-length\"",
            ),
            ErrorCode::Stale => problem.hint("set the clock of this or of that host right"),
            _ => problem,
        }
    })?;
    let cloud = app.door.cloud();
    let key = cloud.keys.get(&signed.key).ok_or_else(|| {
        Problem::new(
            ErrorCode::NoAccount,
            "the key that signed the request signs for no account",
        )
        .hint("open one with `form account open NAME`")
    })?;
    key.check(now_ms())
        .map_err(|why| Problem::new(ErrorCode::of_void(&why), why.to_string()))?;
    let mut replays = app.replays.lock().unwrap_or_else(PoisonError::into_inner);
    replays.admit(&signed, now_s).map_err(|error| match error {
        ReplayError::Replayed => Problem::new(ErrorCode::ReplayedRequest, error.to_string()),
        ReplayError::Full => Problem::new(ErrorCode::Busy, error.to_string()),
    })?;
    Ok((key.account, signed.content))
}

/// What is private is for its owner.
pub(crate) fn owned_by(owner: AccountId, caller: &Caller) -> Result<(), Problem> {
    if owner == caller.account {
        return Ok(());
    }
    Err(Problem::new(ErrorCode::NotOwner, "it belongs to another account")
        .hint("sign the request with the owner's key"))
}
