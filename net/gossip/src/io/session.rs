//! One life of a peer: from its `PeerUp` to its `PeerDown`, in one task, so that its events stay in order.
//!
//! ```text
//! outbound substream ready ─▶ PeerUp ─▶ writing queue ∥ reading inbound ─▶ first end of either ─▶ PeerDown
//! ```
//! It never mends a broken stream: frames may be lost then, so both ends must learn it. It closes no
//! connection; the exchange does when the session has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::AsyncWriteExt;
use futures::io::{BufReader, BufWriter};
use libp2p::Stream;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::counters::{add, count};
use crate::event::Event;
use crate::io::shared::Shared;
use crate::io::wire::{self, ReadError};
use crate::protocol;

/// Frames shorter than this leave together.
const BUFFER_BYTES: usize = 32 << 10;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The exchange stopped it.
    Stopped,
    /// A stream broke or the peer closed it.
    Broken,
    /// The peer sent an oversize frame.
    Oversize,
    /// The peer did not read in time.
    Slow,
    /// The caller is gone.
    CallerGone,
}

pub(crate) struct Session {
    pub(crate) node: [u8; 32],
    pub(crate) address: String,
    pub(crate) outbound: Stream,
    pub(crate) inbound: oneshot::Receiver<Stream>,
    pub(crate) queue: mpsc::Receiver<Vec<u8>>,
    pub(crate) queued_bytes: Arc<AtomicUsize>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) stop: CancellationToken,
    pub(crate) shared: Arc<Shared>,
}

impl Session {
    pub(crate) async fn run(self) -> End {
        let Self {
            node,
            address,
            outbound,
            inbound,
            queue,
            queued_bytes,
            events,
            stop,
            shared,
        } = self;
        let told = tokio::select! {
            biased;
            () = stop.cancelled() => return End::Stopped,
            told = events.send(Event::PeerUp { node, address }) => told,
        };
        if told.is_err() {
            return End::CallerGone;
        }
        let end = tokio::select! {
            biased;
            () = stop.cancelled() => End::Stopped,
            end = write_frames(outbound, queue, &queued_bytes) => end,
            end = read_frames(node, inbound, &events, &shared) => end,
        };
        if events.send(Event::PeerDown { node }).await.is_err() {
            return End::CallerGone;
        }
        end
    }
}

async fn write_frames(outbound: Stream, mut queue: mpsc::Receiver<Vec<u8>>, queued: &AtomicUsize) -> End {
    let mut outbound = BufWriter::with_capacity(BUFFER_BYTES, outbound);
    while let Some(frame) = queue.recv().await {
        let last_for_now = queue.is_empty();
        let write = async {
            wire::write_bytes(&mut outbound, &frame).await?;
            if last_for_now {
                outbound.flush().await?;
            }
            std::io::Result::Ok(())
        };
        let written = tokio::time::timeout(protocol::WRITE_WAIT, write).await;
        queued.fetch_sub(frame.len(), Ordering::Relaxed);
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Broken,
            Err(_) => return End::Slow,
        }
    }
    End::Stopped
}

async fn read_frames(
    node: [u8; 32],
    inbound: oneshot::Receiver<Stream>,
    events: &mpsc::Sender<Event>,
    shared: &Shared,
) -> End {
    let Ok(Ok(inbound)) = tokio::time::timeout(protocol::INBOUND_WAIT, inbound).await else {
        return End::Broken;
    };
    let mut inbound = BufReader::with_capacity(BUFFER_BYTES, inbound);
    loop {
        match wire::read_bytes(&mut inbound, shared.bounds.frame_bytes_max).await {
            Ok(Some(bytes)) => {
                count(&shared.counts.frames_received);
                add(&shared.counts.frame_bytes_received, bytes.len());
                if events.send(Event::Frame { node, bytes }).await.is_err() {
                    return End::CallerGone;
                }
            }
            Ok(None) | Err(ReadError::Io(_)) => return End::Broken,
            Err(ReadError::Oversize { claimed, max }) => {
                tracing::warn!(claimed, max, "a peer sent an oversize frame and is dropped");
                return End::Oversize;
            }
        }
    }
}
