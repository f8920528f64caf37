//! What the transport tells its caller.

use tokio::sync::oneshot;

/// Something happened. All events of one peer but requests come in order: up, frames, down.
#[derive(Debug)]
pub enum Event {
    /// A node of our network is up: once, however many connections there are with it. What was queued for it
    /// in an earlier life is gone; both sides start anew.
    PeerUp {
        /// The node's public key.
        node: [u8; 32],
        /// Multiaddress that it is connected by.
        address: String,
    },
    /// The node is gone. Frames under way to or from it may be lost.
    PeerDown {
        /// The node's public key.
        node: [u8; 32],
    },
    /// A frame arrived, in the order in which the node sent it.
    Frame {
        /// Who sent it.
        node: [u8; 32],
        /// Verbatim bytes, at most `frame_bytes_max`.
        bytes: Vec<u8>,
    },
    /// The node asks for an answer. It may come just before the node's `PeerUp`.
    Request {
        /// Who asks.
        node: [u8; 32],
        /// What for: a name that the caller knows, or refuses.
        service: String,
        /// Verbatim bytes, at most `request_bytes_max`.
        bytes: Vec<u8>,
        /// Where the answer goes; dropped, the asker sees a broken request.
        reply: oneshot::Sender<Result<Vec<u8>, String>>,
    },
}

/// A peer that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerInfo {
    /// The node's public key.
    pub node: [u8; 32],
    /// Multiaddress that it is connected by.
    pub address: String,
    /// Latest round-trip time, once measured, in microseconds.
    pub rtt_us: Option<u64>,
    /// Bytes that wait to be sent to it.
    pub queued_bytes: usize,
}
