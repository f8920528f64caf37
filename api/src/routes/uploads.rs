//! Contexts of builds on their way in: streamed, bounded, checked against what the sender signed for.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Json;
use axum::body::{Body, BodyDataStream};
use axum::extract::State;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use ledger::command::images::CONTEXT_BYTES_MAX;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, Sleep};

use super::app::{App, place};
use super::caller::Sender;
use crate::door::{BodyError, Upload, UploadError};
use crate::path;
use crate::problem::{ErrorCode, Problem};
use crate::signature::Content;
use crate::views::uploads::UploadView;

/// A sender may be as slow as this, in bytes a second: one that trickles would hold its place for ever.
const RATE_MIN: u64 = 64 * 1024;

/// Stores the context of a build, and says what to call it in `BuildImage`.
///
/// The request is signed with an account's key (RFC 9421): `"@method" "@path" "@query" "content-digest"
/// "content-length"`. The body's SHA-256 and length are announced up front and checked as it streams.
#[utoipa::path(
    post, path = path::UPLOADS, tag = "builds",
    params(
        ("Content-Digest" = String, Header, description = "`sha-256=:<base64>:` of the body (RFC 9530)"),
        ("Signature-Input" = String, Header, description = "RFC 9421, label `form`"),
        ("Signature" = String, Header, description = "RFC 9421, label `form`"),
    ),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 200, body = UploadView),
        (status = 401, description = "Not signed, forged, stale or replayed", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Over 1 GiB", body = Problem, content_type = "application/problem+json"),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    ),
    security(("http_signature" = []))
)]
pub(crate) async fn upload(
    State(app): State<App>,
    sender: Sender,
    body: Body,
) -> Result<Json<UploadView>, Problem> {
    let content = sender.content;
    if content.bytes > CONTEXT_BYTES_MAX {
        return Err(Problem::new(
            ErrorCode::TooLarge,
            format!(
                "a build's context has at most {CONTEXT_BYTES_MAX} bytes, this one has {}",
                content.bytes
            ),
        )
        .hint("leave out of the context what the Formfile does not copy"));
    }
    let _place = place(&app.uploads, "uploads")?;
    let checked = Checked::new(body.into_data_stream(), content, app.limits.stall_time);
    let upload = Upload {
        account: sender.account,
        bytes: content.bytes,
        body: checked.boxed(),
    };
    let uploaded = tokio::select! {
        uploaded = app.door.upload(upload) => uploaded.map_err(problem)?,
        () = app.shutdown.cancelled() => {
            return Err(Problem::new(ErrorCode::ShuttingDown, "the node is shutting down")
                .hint("upload to another node, or here in a moment"));
        }
    };
    Ok(Json(uploaded.into()))
}

fn problem(error: UploadError) -> Problem {
    let code = match error {
        UploadError::Body(BodyError::Stalled(_)) => ErrorCode::Stalled,
        UploadError::Body(_) => ErrorCode::BodyMismatch,
        UploadError::Full(_) => ErrorCode::NoRoom,
        UploadError::Busy => ErrorCode::Busy,
        UploadError::Failed(_) => ErrorCode::Internal,
    };
    Problem::new(code, error.to_string())
}

/// A body that ends in an error unless it is the one that was signed for. It ends at once when there is more
/// than was announced; the digest is known with the last byte, which is held back till it is checked.
struct Checked {
    body: BodyDataStream,
    content: Content,
    hash: Sha256,
    got: u64,
    stall_time: Duration,
    stall: Pin<Box<Sleep>>,
    deadline: Instant,
    held: Option<Bytes>,
    ended: bool,
}

impl Checked {
    fn new(body: BodyDataStream, content: Content, stall_time: Duration) -> Self {
        Self {
            body,
            content,
            hash: Sha256::new(),
            got: 0,
            stall_time,
            stall: Box::pin(tokio::time::sleep(stall_time)),
            deadline: Instant::now() + stall_time + Duration::from_secs(content.bytes / RATE_MIN),
            held: None,
            ended: false,
        }
    }

    fn end(&mut self, error: BodyError) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.ended = true;
        self.held = None;
        Poll::Ready(Some(Err(error)))
    }
}

impl Stream for Checked {
    type Item = Result<Bytes, BodyError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        loop {
            match this.body.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(bytes))) if bytes.is_empty() => {}
                Poll::Ready(Some(Ok(bytes))) => {
                    this.got += bytes.len() as u64;
                    if this.got > this.content.bytes {
                        let (announced, got) = (this.content.bytes, this.got);
                        return this.end(BodyError::Length { announced, got });
                    }
                    this.hash.update(&bytes);
                    let until = this.deadline.min(Instant::now() + this.stall_time);
                    this.stall.as_mut().reset(until);
                    if let Some(before) = this.held.replace(bytes) {
                        return Poll::Ready(Some(Ok(before)));
                    }
                }
                Poll::Ready(Some(Err(_))) => return this.end(BodyError::Cut),
                Poll::Ready(None) if this.got < this.content.bytes => {
                    let (announced, got) = (this.content.bytes, this.got);
                    return this.end(BodyError::Length { announced, got });
                }
                Poll::Ready(None) if this.hash.clone().finalize()[..] != this.content.sha256 => {
                    return this.end(BodyError::Digest);
                }
                Poll::Ready(None) => {
                    this.ended = true;
                    return Poll::Ready(this.held.take().map(Ok));
                }
                Poll::Pending => {
                    std::task::ready!(this.stall.as_mut().poll(context));
                    let seconds = this.stall_time.as_secs();
                    return this.end(BodyError::Stalled(seconds));
                }
            }
        }
    }
}
