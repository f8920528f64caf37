//! The two bodies of an exchange, streamed with a limit on how long they may pause.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::io::pool::Lease;

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    #[error("the body stopped coming")]
    Slow,
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

/// How far the client's body has come.
#[derive(Debug)]
pub(super) struct Progress {
    started: Instant,
    last_ms: AtomicU64,
    waiting: AtomicBool,
    slow: AtomicBool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            last_ms: AtomicU64::new(0),
            waiting: AtomicBool::new(false),
            slow: AtomicBool::new(false),
        }
    }

    /// When it last moved.
    pub(super) fn last(&self) -> Instant {
        self.started + Duration::from_millis(self.last_ms.load(Ordering::Relaxed))
    }

    /// The next piece is asked for and is not there yet: whatever takes time now is the client.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// It stopped coming.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }

    fn moved(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }
}

/// A limit that begins anew with each frame.
struct Pause {
    wait: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Pause {
    fn new(wait: Duration) -> Self {
        Self {
            wait,
            sleep: Box::pin(tokio::time::sleep(wait)),
        }
    }

    /// The next frame, or an error when it did not come in time.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        body: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let until = Instant::now() + self.wait;
                self.sleep.as_mut().reset(until);
                Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Http)))
            }
            Poll::Pending => match self.sleep.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::Slow))),
                Poll::Pending => Poll::Pending,
            },
        }
    }
}

/// The client's body on its way to the instance.
pub(super) struct Upload(Option<(Incoming, Pause, Arc<Progress>)>);

impl Upload {
    pub(super) fn new(body: Incoming, wait: Duration, progress: Arc<Progress>) -> Self {
        Self((!body.is_end_stream()).then(|| (body, Pause::new(wait), progress)))
    }

    pub(super) fn empty() -> Self {
        Self(None)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Some((body, pause, progress)) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let polled = pause.poll(cx, body);
        match &polled {
            Poll::Ready(Some(Err(BodyError::Slow))) => progress.slow.store(true, Ordering::Relaxed),
            Poll::Ready(_) => progress.moved(),
            Poll::Pending => {}
        }
        progress.waiting.store(polled.is_pending(), Ordering::Relaxed);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(body, ..)| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |(body, ..)| body.size_hint())
    }
}

/// The instance's body on its way to the client. Holds the connection, which is free again at its end.
pub(super) struct Download {
    body: Incoming,
    pause: Pause,
    ended: bool,
    lease: Option<Lease>,
}

impl Download {
    pub(super) fn new(body: Incoming, wait: Duration, lease: Lease) -> Self {
        Self {
            body,
            pause: Pause::new(wait),
            ended: false,
            lease: Some(lease),
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = this.pause.poll(cx, &mut this.body);
        if let Poll::Ready(None) = polled {
            this.ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if let Some(lease) = self.lease.take()
            && (self.ended || self.body.is_end_stream())
        {
            lease.give_back();
        }
    }
}
