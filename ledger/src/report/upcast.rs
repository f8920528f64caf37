//! Older versions of reports, and how each is read as the newest. The log is never rewritten: an old entry
//! keeps its bytes, its op keeps its id, and only who reads it gets the newest content.
//!
//! ```text
//! 0x102 AnnounceNode   1: name, roles, addresses, ipv4, capacity
//!                      2: the same, then payout          1 → 2: without a payout account
//! ```

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::nodes::{AnnounceNode, Capacity, Roles};
use crate::entry::Entry;

/// Version 1 of [`AnnounceNode`]: before nodes were paid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceNodeV1 {
    /// A DNS label for people.
    pub name: String,
    /// Which parts run there.
    pub roles: Roles,
    /// Multiaddresses at which other nodes reach it.
    pub addresses: Vec<String>,
    /// IPv4 addresses at which its front door and DNS are reached.
    pub ipv4: Vec<Ipv4Addr>,
    /// What it offers to machines in all.
    pub capacity: Capacity,
}

/// Version 1 read as the newest: nobody is paid.
pub fn announce_node_v1(old: AnnounceNodeV1) -> AnnounceNode {
    let AnnounceNodeV1 {
        name,
        roles,
        addresses,
        ipv4,
        capacity,
    } = old;
    AnnounceNode {
        name,
        roles,
        addresses,
        ipv4,
        capacity,
        payout: None,
    }
}

impl AnnounceNodeV1 {
    /// What version 1 can say of an announcement: all but the payout account. This is what a node says
    /// where version 2 does not count yet.
    pub fn of(newest: &AnnounceNode) -> Self {
        Self {
            name: newest.name.clone(),
            roles: newest.roles,
            addresses: newest.addresses.clone(),
            ipv4: newest.ipv4.clone(),
            capacity: newest.capacity,
        }
    }

    /// Framed for an op.
    pub fn to_entry(&self) -> Entry {
        Entry {
            kind: 0x102,
            version: 1,
            bytes: crate::codec::encode(self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::AccountId;
    use crate::report::Report;

    #[test]
    fn an_old_announcement_reads_as_the_newest_and_keeps_its_bytes() {
        let newest = AnnounceNode {
            name: "a".into(),
            roles: Roles {
                gateway: true,
                compute: true,
                builder: false,
                edge: false,
                witness: false,
            },
            addresses: vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()],
            ipv4: vec![Ipv4Addr::new(10, 0, 0, 1)],
            capacity: Capacity::default(),
            payout: Some(AccountId([4; 32])),
        };
        let old = AnnounceNodeV1::of(&newest).to_entry();
        let before = old.clone();
        let read = Report::from_entry(&old);
        let unpaid = AnnounceNode {
            payout: None,
            ..newest.clone()
        };
        assert_eq!(read, Ok(Report::AnnounceNode(unpaid)));
        assert_eq!(old, before);
        let new = Report::from(newest.clone()).to_entry();
        assert_eq!((new.kind, new.version), (old.kind, 2));
        assert_eq!(Report::from_entry(&new), Ok(Report::AnnounceNode(newest)));
    }

    #[test]
    fn the_bytes_of_one_version_are_not_those_of_another() {
        let old = AnnounceNodeV1 {
            name: "a".into(),
            roles: Roles {
                gateway: true,
                compute: true,
                builder: false,
                edge: false,
                witness: false,
            },
            addresses: Vec::new(),
            ipv4: Vec::new(),
            capacity: Capacity::default(),
        };
        for (from, to) in [
            (old.to_entry(), 2),
            (Report::from(announce_node_v1(old)).to_entry(), 1),
        ] {
            let passed_off = Entry { version: to, ..from };
            assert!(Report::from_entry(&passed_off).is_err());
        }
    }

    #[test]
    fn an_old_version_keeps_the_bounds_of_the_newest() {
        let old = AnnounceNodeV1 {
            name: "Not a label".into(),
            roles: Roles {
                gateway: true,
                compute: true,
                builder: false,
                edge: false,
                witness: false,
            },
            addresses: Vec::new(),
            ipv4: Vec::new(),
            capacity: Capacity::default(),
        };
        assert!(Report::from_entry(&old.to_entry()).is_err());
    }
}
