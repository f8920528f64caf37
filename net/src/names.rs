//! The names table: what the DNS of a node answers from.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// Every name that this network serves, in lower case without a trailing dot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameTable {
    /// The zones that this table is the authority of, such as `form.internal` and `fog`.
    pub zones: Vec<String>,
    /// The records of each name. A name that stands here without an address exists but has no healthy
    /// target now: it is answered with no data, not with NXDOMAIN.
    pub names: BTreeMap<String, NameRecords>,
    /// Grows with each change: the serial of the zones.
    pub serial: u32,
}

/// What a name resolves to. Only healthy targets stand here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameRecords {
    /// A records.
    pub ipv4: Vec<Ipv4Addr>,
    /// AAAA records.
    pub ipv6: Vec<Ipv6Addr>,
    /// TXT records.
    pub txt: Vec<String>,
    /// How long an answer may be kept, in seconds.
    pub ttl_s: u32,
}
