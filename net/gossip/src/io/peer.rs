//! What the exchange remembers of a peer with at least one connection.
//!
//! ```text
//!                 connection            substream open             session task ended
//!  (unknown) ────────────▶ opening ───────────────▶ up ─▶ ending ─────────────────▶ opening or forgotten
//! ```
//! Both ends open one outbound frames substream each, maybe on different connections. When either of a
//! session's two connections goes, the session ends and the other one is closed as well: a life of a peer is
//! whole or over.

use std::sync::Arc;
use std::time::Instant;

use libp2p::Stream;
use libp2p::swarm::ConnectionId;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::protocol;

pub(crate) struct Peer {
    pub(crate) node: [u8; 32],
    /// Open connections and their remote addresses, oldest first.
    pub(crate) connections: Vec<(ConnectionId, String)>,
    /// The connection on which our frames substream is being opened, with the token of the attempt.
    pub(crate) opening: Option<(ConnectionId, u64)>,
    /// Our frames substream, while it waits for an earlier session to end.
    pub(crate) outbound: Option<(ConnectionId, Stream)>,
    /// The peer's frames substream, while it waits for our session to start.
    pub(crate) inbound: Option<(ConnectionId, Stream)>,
    pub(crate) session: Option<SessionHandle>,
    /// Places for requests of this peer that are served at once.
    pub(crate) serving: Arc<Semaphore>,
    /// Sessions in a row that ended at once.
    pub(crate) flaps: u32,
}

pub(crate) struct SessionHandle {
    pub(crate) id: u64,
    pub(crate) started: Instant,
    pub(crate) outbound_on: ConnectionId,
    pub(crate) inbound_on: Option<ConnectionId>,
    /// Where the peer's frames substream goes when it comes; taken once.
    pub(crate) inbound: Option<oneshot::Sender<Stream>>,
    pub(crate) stop: CancellationToken,
    pub(crate) ending: bool,
}

impl Peer {
    pub(crate) fn new(node: [u8; 32]) -> Self {
        Self {
            node,
            connections: Vec::new(),
            opening: None,
            outbound: None,
            inbound: None,
            session: None,
            serving: Arc::new(Semaphore::new(protocol::SERVED_PER_PEER_MAX)),
            flaps: 0,
        }
    }

    /// Nothing of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        self.connections.is_empty() && self.session.is_none()
    }

    /// Forgets a connection and what hung on it.
    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.connections.retain(|(id, _)| *id != connection);
        self.opening = self.opening.filter(|(on, _)| *on != connection);
        self.outbound = self.outbound.take().filter(|(on, _)| *on != connection);
        self.inbound = self.inbound.take().filter(|(on, _)| *on != connection);
    }

    /// The connection to open our frames substream on: the one that the peer uses, else the newest.
    pub(crate) fn best_connection(&self) -> Option<ConnectionId> {
        let used = self.inbound.as_ref().map(|(on, _)| *on);
        used.or_else(|| self.connections.last().map(|(id, _)| *id))
    }

    pub(crate) fn address(&self, connection: ConnectionId) -> String {
        let found = self.connections.iter().find(|(id, _)| *id == connection);
        found.map(|(_, address)| address.clone()).unwrap_or_default()
    }
}
