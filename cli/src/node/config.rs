//! What a node is told at its start: `node.json` in its folder, written by `form node init`, read by
//! `form node run`, whose flags go before it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use ledger::id::AccountId;
use serde::{Deserialize, Serialize};

/// Settings of a node. Every field has a default, so that a file names only what differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NodeConfig {
    /// A DNS label for people.
    pub name: String,
    /// Multiaddresses to listen on for other nodes.
    pub listen: Vec<String>,
    /// Multiaddresses to announce to other nodes. Empty: what it listens on, without wildcards.
    pub announce: Vec<String>,
    /// Where the HTTP API listens.
    pub api: SocketAddr,
    /// Where DNS is answered; empty: nowhere.
    pub dns: Vec<SocketAddr>,
    /// Where the front door listens; empty: nowhere.
    pub proxy: Vec<SocketAddr>,
    /// IPv4 addresses at which clients reach this node's DNS and front door.
    pub public_ipv4: Vec<Ipv4Addr>,
    /// The interface towards the other nodes, which carries the guests' traffic. None: guests of this node
    /// are reached from this host only.
    pub interface: Option<String>,
    /// Name servers for guests and for what is not ours; empty: the host's own.
    pub resolvers: Vec<IpAddr>,
    /// The parts that run here: any of `gateway`, `compute`, `builder`, `edge`, `witness`.
    pub roles: Vec<String>,
    /// The account that gets what this node charges. None: it charges nothing.
    pub payout: Option<AccountId>,
    /// Virtual processors offered to machines. None: the host's.
    pub vcpus: Option<u32>,
    /// Memory offered to machines, in MiB. None: three quarters of the host's.
    pub memory_mib: Option<u64>,
    /// Disk offered to machines, in GiB. None: half of what is free.
    pub disk_gib: Option<u64>,
    /// Kernels, base images and packages that nodes of one host may share.
    pub cache: PathBuf,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "node".into(),
            listen: vec![
                "/ip4/0.0.0.0/udp/53333/quic-v1".into(),
                "/ip4/0.0.0.0/tcp/53333".into(),
            ],
            announce: Vec::new(),
            api: SocketAddr::from(([127, 0, 0, 1], 3004)),
            dns: Vec::new(),
            proxy: Vec::new(),
            public_ipv4: Vec::new(),
            interface: None,
            resolvers: Vec::new(),
            roles: ["gateway", "compute", "builder", "edge", "witness"]
                .map(String::from)
                .to_vec(),
            payout: None,
            vcpus: None,
            memory_mib: None,
            disk_gib: None,
            cache: PathBuf::from("/var/cache/formation"),
        }
    }
}
