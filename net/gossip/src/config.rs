//! What a node's transport is started with, and the bounds that an operator may move.

use crate::protocol;

/// How this node takes part. [`Config::new`] gives the bounds their usual values.
#[derive(Clone)]
pub struct Config {
    /// Secret Ed25519 seed of the node; its public key is the node's id everywhere.
    pub seed: [u8; 32],
    /// Id of the network; nodes of other networks are turned away.
    pub network: [u8; 32],
    /// Multiaddresses to listen on, such as `/ip4/0.0.0.0/udp/4100/quic-v1` and `/ip4/0.0.0.0/tcp/4100`.
    pub listen: Vec<String>,
    /// Largest frame that is sent or taken. A peer that sends a larger one is dropped.
    pub frame_bytes_max: usize,
    /// Largest body of a request or of an answer.
    pub request_bytes_max: usize,
    /// Most bytes that wait to be sent to one peer; above it `Handle::send` answers false.
    pub queue_bytes_max: usize,
    /// Most connections at once, of all peers together.
    pub connections_max: u32,
}

impl Config {
    /// A configuration with the usual bounds.
    pub fn new(seed: [u8; 32], network: [u8; 32], listen: Vec<String>) -> Self {
        Self {
            seed,
            network,
            listen,
            frame_bytes_max: protocol::FRAME_BYTES_MAX,
            request_bytes_max: protocol::REQUEST_BYTES_MAX,
            queue_bytes_max: protocol::QUEUE_BYTES_MAX,
            connections_max: protocol::CONNECTIONS_MAX,
        }
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The seed is a secret: it never reaches a log.
        f.debug_struct("Config")
            .field("listen", &self.listen)
            .finish_non_exhaustive()
    }
}
