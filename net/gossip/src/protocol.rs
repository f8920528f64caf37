//! Names and bounds of the wire.
//!
//! ```text
//! frames substream, one for each direction:   { length: u32 big-endian, bytes }*
//! request substream, one for each request:    { service length: u8, service, length: u32, bytes }
//!                                   answer:    { status: u8 (0 done, 1 refused), length: u32, bytes }
//! ```
//! The names of both carry the first 16 hexadecimal digits of the network's id, so two networks never
//! understand each other, whatever addresses they share.

use std::time::Duration;

/// Largest frame: four runs of the ledger.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Largest body of a request or an answer.
pub const REQUEST_BYTES_MAX: usize = 2 << 20;
/// Most bytes that wait for one peer.
pub const QUEUE_BYTES_MAX: usize = 16 << 20;
/// Most frames that wait for one peer.
pub const QUEUE_FRAMES_MAX: usize = 1024;
/// Most connections at once.
pub const CONNECTIONS_MAX: u32 = 1024;
/// Most connections with one peer: two of a simultaneous dial, and two while a restarted peer's are stale.
pub const CONNECTIONS_PER_PEER_MAX: u32 = 4;
/// Most connections that are being made, in each direction.
pub const CONNECTIONS_PENDING_MAX: u32 = 128;
/// Most substreams that a peer may open on one connection.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// Events that wait for the caller; past it the readers wait and so do the senders at the other end.
pub const EVENTS_WAITING_MAX: usize = 64;
/// Requests of one peer that are served at once; more are closed at once.
pub const SERVED_PER_PEER_MAX: usize = 16;
/// Requests that are served at once, of all peers together.
pub const SERVED_MAX: usize = 64;
/// Requests that we have under way with one peer; more wait their turn.
pub const ASKED_PER_PEER_MAX: usize = 12;
/// Longest name of a service.
pub const SERVICE_BYTES_MAX: usize = 64;
/// Peers that may be kept.
pub const KEPT_MAX: usize = 1024;
/// Addresses that are tried for one kept peer.
pub const ADDRESSES_PER_PEER_MAX: usize = 16;
/// Dials asked for by the caller that are under way.
pub const DIALS_MAX: usize = 64;
/// Peers that are shut out for a while; past it the oldest is let in again.
pub const PENALTIES_MAX: usize = 4096;

/// How long a dial may take, all addresses together.
pub const DIAL_WAIT: Duration = Duration::from_secs(12);
/// How long a name in a multiaddress may take to resolve.
pub const RESOLVE_WAIT: Duration = Duration::from_secs(5);
/// How long opening a substream may take.
pub const OPEN_WAIT: Duration = Duration::from_secs(10);
/// How long one frame may take to leave: a slower reader is dropped.
pub const WRITE_WAIT: Duration = Duration::from_secs(20);
/// How long a peer that is up may stay without opening its own frames substream.
pub const INBOUND_WAIT: Duration = Duration::from_secs(15);
/// How long the body of a request may take to arrive.
pub const REQUEST_READ_WAIT: Duration = Duration::from_secs(30);
/// How long the caller may take to answer a request.
pub const ANSWER_WAIT: Duration = Duration::from_secs(120);
/// How often a connection is tried, and how long it may be silent.
pub const PING_EVERY: Duration = Duration::from_secs(5);
/// How long an answer to a ping may take before the connection counts as dead.
pub const PING_WAIT: Duration = Duration::from_secs(12);
/// How long a peer that broke the protocol or is of another network is shut out.
pub const PENALTY: Duration = Duration::from_secs(30);
/// How long a clean shutdown waits for the connections to close.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);

/// What a substream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Frames in order, one direction, as long as the peer is up.
    Frames,
    /// One request and its answer.
    Request,
}

/// The names of this network's protocols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Of the frames substream.
    pub frames: String,
    /// Of a request substream.
    pub request: String,
    /// What identify says.
    pub identify: String,
}

impl Names {
    /// The names that a network's nodes speak.
    pub fn of(network: &[u8; 32]) -> Self {
        let tag: String = network[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self {
            frames: format!("/form/{tag}/frames/1"),
            request: format!("/form/{tag}/request/1"),
            identify: format!("/form/{tag}/1"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_two_networks_differ() {
        let ours = Names::of(&[0xab; 32]);
        assert_eq!(ours.frames, "/form/abababababababab/frames/1");
        assert_ne!(ours, Names::of(&[0xac; 32]));
    }
}
