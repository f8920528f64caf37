//! The caller's end: queue a frame, ask a peer, say whom to keep. Cheap to clone.

use std::sync::Arc;
use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::{Multiaddr, PeerId, Stream};
use tokio::sync::{mpsc, oneshot, watch};

use crate::counters::{Counters, count};
use crate::event::PeerInfo;
use crate::io::shared::Shared;
use crate::io::streams::{self, OpenError};
use crate::io::{resolve, wire};
use crate::protocol;

/// Longest multiaddress that is read.
const ADDRESS_CHARS_MAX: usize = 512;

/// What a handle asks of the exchange.
#[derive(Debug)]
pub(crate) enum Command {
    Dial {
        address: Multiaddr,
        reply: oneshot::Sender<Result<[u8; 32], String>>,
    },
    OpenRequest {
        peer: PeerId,
        reply: oneshot::Sender<Result<Stream, OpenError>>,
    },
}

/// Peers to stay connected to, with where they may be found.
pub(crate) type Kept = Vec<(PeerId, Vec<Multiaddr>)>;

/// The caller's end of the transport. The transport stops when `shutdown` is called, or when the last handle
/// is gone.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) kept: watch::Sender<Kept>,
    pub(crate) stop: tokio_util::sync::CancellationToken,
    pub(crate) stopped: watch::Receiver<bool>,
}

/// Why an address could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address is no multiaddress.
    #[error("{address} is no multiaddress such as /ip4/192.0.2.1/udp/4100/quic-v1: {reason}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody of our network answered there.
    #[error("no node answered at {address}: {reason}")]
    Failed {
        /// As given.
        address: String,
        /// What each attempt said.
        reason: String,
    },
    /// The transport has stopped.
    #[error("the transport between nodes has stopped")]
    Stopped,
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The peer is not up.
    #[error("the node is not connected")]
    NotConnected,
    /// The request or its answer is over the bound.
    #[error("{bytes} bytes are too many for one request, {max} are the most")]
    TooLarge {
        /// How many there are.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// The name of the service is empty or too long.
    #[error("the name of a service has 1 to {} bytes", protocol::SERVICE_BYTES_MAX)]
    Service,
    /// No answer in time.
    #[error("the node did not answer within {after_ms} ms")]
    Timeout {
        /// How long we waited.
        after_ms: u128,
    },
    /// The peer answered with a refusal.
    #[error("the node refused: {0}")]
    Refused(String),
    /// The connection or the substream broke, or the peer closed it because it is busy.
    #[error("the request broke off: {0}")]
    Broken(String),
}

impl Handle {
    /// This node's id: its public key.
    pub fn node(&self) -> [u8; 32] {
        self.shared.node
    }

    /// Queues a frame for a peer. False: not sent (peer not up, its queue full, frame too large), and counted.
    pub fn send(&self, node: [u8; 32], bytes: Vec<u8>) -> bool {
        self.shared.queue(&node, bytes)
    }

    /// Asks a peer that is up and waits for its answer.
    pub async fn request(
        &self,
        node: [u8; 32],
        service: &str,
        bytes: Vec<u8>,
        timeout: Duration,
    ) -> Result<Vec<u8>, RequestError> {
        count(&self.shared.counts.requests_asked);
        let answer = match tokio::time::timeout(timeout, self.ask(node, service, bytes)).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError::Timeout {
                after_ms: timeout.as_millis(),
            }),
        };
        if answer.is_err() {
            count(&self.shared.counts.requests_failed);
        }
        answer
    }

    async fn ask(&self, node: [u8; 32], service: &str, bytes: Vec<u8>) -> Result<Vec<u8>, RequestError> {
        let max = self.shared.bounds.request_bytes_max;
        if bytes.len() > max {
            return Err(RequestError::TooLarge {
                bytes: bytes.len(),
                max,
            });
        }
        let length = u8::try_from(service.len())
            .ok()
            .filter(|length| *length > 0 && usize::from(*length) <= protocol::SERVICE_BYTES_MAX)
            .ok_or(RequestError::Service)?;
        let up = self.shared.up(&node).ok_or(RequestError::NotConnected)?;
        let peer = streams::peer_of(&node).ok_or(RequestError::NotConnected)?;
        let _turn = up
            .asking
            .acquire()
            .await
            .map_err(|_| RequestError::NotConnected)?;
        let (reply, opened) = oneshot::channel();
        self.commands
            .send(Command::OpenRequest { peer, reply })
            .await
            .map_err(|_| RequestError::Broken("the transport has stopped".to_owned()))?;
        let mut stream = opened
            .await
            .map_err(|_| RequestError::NotConnected)?
            .map_err(|error| RequestError::Broken(error.to_string()))?;
        let broken = |error: std::io::Error| RequestError::Broken(error.to_string());
        stream.write_all(&[length]).await.map_err(broken)?;
        stream.write_all(service.as_bytes()).await.map_err(broken)?;
        wire::write_bytes(&mut stream, &bytes).await.map_err(broken)?;
        stream.close().await.map_err(broken)?;
        let mut status = [0u8; 1];
        stream.read_exact(&mut status).await.map_err(broken)?;
        let body = match wire::read_bytes(&mut stream, max).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err(RequestError::Broken("the answer has no body".to_owned())),
            Err(wire::ReadError::Oversize { claimed, max }) => {
                return Err(RequestError::TooLarge { bytes: claimed, max });
            }
            Err(wire::ReadError::Io(error)) => return Err(broken(error)),
        };
        match status[0] {
            0 => Ok(body),
            1 => Err(RequestError::Refused(String::from_utf8_lossy(&body).into_owned())),
            other => Err(RequestError::Broken(format!(
                "the answer has the unknown status {other}"
            ))),
        }
    }

    /// Dials an address once and answers with the node that is there. It stays connected only while it is of
    /// our network; to come back to it after a loss, keep it.
    pub async fn dial(&self, address: &str) -> Result<[u8; 32], DialError> {
        let failed = |reason: String| DialError::Failed {
            address: address.to_owned(),
            reason,
        };
        let parsed = parse(address).map_err(|reason| DialError::Address {
            address: address.to_owned(),
            reason,
        })?;
        let resolved = resolve::resolve(vec![parsed]).await;
        let mut last = failed("the name does not resolve".to_owned());
        for at in resolved {
            let (reply, done) = oneshot::channel();
            self.commands
                .send(Command::Dial { address: at, reply })
                .await
                .map_err(|_| DialError::Stopped)?;
            match tokio::time::timeout(protocol::DIAL_WAIT, done).await {
                Ok(Ok(Ok(node))) => return Ok(node),
                Ok(Ok(Err(reason))) => last = failed(reason),
                Ok(Err(_)) => return Err(DialError::Stopped),
                Err(_) => last = failed(format!("no answer within {} s", protocol::DIAL_WAIT.as_secs())),
            }
        }
        Err(last)
    }

    /// Sets the peers to stay connected to: dialled now and again after a loss, with backoff. Replaces the set
    /// of before; who is no longer in it stays connected but is not dialled again. This node itself, keys that
    /// are no keys and addresses that are no multiaddresses are passed over; their number is returned.
    pub fn keep(&self, peers: Vec<([u8; 32], Vec<String>)>) -> usize {
        let mut passed_over = peers.len().saturating_sub(protocol::KEPT_MAX);
        let mut kept = Kept::new();
        for (node, addresses) in peers.into_iter().take(protocol::KEPT_MAX) {
            if node == self.shared.node {
                continue;
            }
            let Some(peer) = streams::peer_of(&node) else {
                passed_over += 1;
                continue;
            };
            let all = addresses.len();
            let addresses: Vec<_> = addresses
                .iter()
                .filter_map(|address| parse(address).ok())
                .take(protocol::ADDRESSES_PER_PEER_MAX)
                .collect();
            passed_over += all - addresses.len();
            kept.push((peer, addresses));
        }
        self.kept.send_replace(kept);
        passed_over
    }

    /// The peers that are up, by key.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.peers()
    }

    /// The multiaddresses that we listen on, with real ports.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.shared.listen_addresses()
    }

    /// A reading of all counts.
    pub fn counters(&self) -> Counters {
        self.shared.counts.read()
    }

    /// Says goodbye to all peers and stops; answers when it is done (bounded).
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let mut stopped = self.stopped.clone();
        // An error means that the exchange is gone, which is what is waited for.
        let _ = tokio::time::timeout(protocol::SHUTDOWN_WAIT * 2, stopped.wait_for(|stopped| *stopped)).await;
    }
}

/// A multiaddress that may be dialled; the length is bounded before it is read.
fn parse(address: &str) -> Result<Multiaddr, String> {
    if address.len() > ADDRESS_CHARS_MAX {
        return Err(format!("longer than {ADDRESS_CHARS_MAX} characters"));
    }
    address
        .parse()
        .map_err(|error: libp2p::multiaddr::Error| error.to_string())
}
