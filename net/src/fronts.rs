//! The front-door table: which host name goes to which healthy instances.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Host names in lower case without a trailing dot or port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontTable {
    /// Where each host name goes. A name without a target exists but has no healthy instance now (503),
    /// a name that is not here is unknown (404).
    pub hosts: BTreeMap<String, Vec<Target>>,
}

/// One healthy instance behind a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The instance's own address and port, which every node can route.
    pub address: SocketAddr,
    /// The instance's id in hexadecimal, for logs and for the `x-formation-instance` header.
    pub instance: String,
}
