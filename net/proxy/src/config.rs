//! How the front door is set, with the usual bounds.

use std::net::SocketAddr;
use std::time::Duration;

use net::prefix::Prefix;

/// Addresses and bounds. `ProxyConfig::default()` has the usual bounds and listens nowhere.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// Addresses to listen on. `[::]` takes IPv4 as well.
    pub listen: Vec<SocketAddr>,
    /// Proxies in front of us: what they say of a client (`X-Forwarded-*`, `X-Request-Id`) is kept.
    pub trusted_proxies: Vec<Prefix>,
    /// Connections at once; more wait to be accepted. Each may need a second one to an instance.
    pub connections_max: usize,
    /// Connections of one client address at once; more are closed.
    pub connections_per_client_max: usize,
    /// How long a client may take for the head of a request, idle time between requests included.
    pub head_wait: Duration,
    /// How long a body may pause, in either direction.
    pub body_wait: Duration,
    /// How long one instance may take to accept a connection.
    pub connect_wait: Duration,
    /// How long an instance may take to begin its answer, once the request stopped flowing.
    pub answer_wait: Duration,
    /// How long an upgraded connection, such as a WebSocket, may be silent.
    pub tunnel_wait: Duration,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            trusted_proxies: Vec::new(),
            connections_max: 4096,
            connections_per_client_max: 512,
            head_wait: Duration::from_secs(20),
            body_wait: Duration::from_secs(300),
            connect_wait: Duration::from_secs(3),
            answer_wait: Duration::from_secs(60),
            tunnel_wait: Duration::from_secs(3600),
        }
    }
}
