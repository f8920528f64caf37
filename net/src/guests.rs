//! What the host's links, routes and filters are set from.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// All that this node's kernel should hold for the guests; the hand applies differences only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestTable {
    /// This node's own address in the network's /48, set on the underlay interface.
    pub node: Option<NodeLink>,
    /// Machines of this node: a tap each.
    pub taps: Vec<GuestTap>,
    /// Instances on other nodes: a route each.
    pub remote: Vec<RemoteGuest>,
}

/// How this node stands in the underlay that joins the nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLink {
    /// The interface towards the other nodes.
    pub interface: String,
    /// This node's address, made from its key.
    pub address: Ipv6Addr,
    /// Length of the prefix of the nodes' addresses, on-link at the interface.
    pub prefix: u8,
}

/// A tap of this host and the guest behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestTap {
    /// Name of the tap, at most 15 characters.
    pub tap: String,
    /// Ethernet address of the guest: nothing else may speak on this tap.
    pub mac: [u8; 6],
    /// The guest's own address, routed to the tap as a /128; nothing else may be its source there.
    pub ipv6: Ipv6Addr,
    /// Link-local address of the host's end.
    pub gateway_v6: Ipv6Addr,
    /// The guest's node-local IPv4 address, routed to the tap as a /32.
    pub ipv4: Ipv4Addr,
    /// The host's IPv4 address on the tap.
    pub gateway_v4: Ipv4Addr,
}

/// An instance on another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoteGuest {
    /// The instance's address.
    pub ipv6: Ipv6Addr,
    /// The address of the node that holds it.
    pub via: Ipv6Addr,
}
