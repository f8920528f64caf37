//! Reports about the node itself.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::command::accounts::{check_label, check_length};
use crate::genesis::INVITATION_BYTES_MAX;
use crate::id::{AccountId, OpId};

/// Addresses that a node announces, at most.
pub const ADDRESSES_MAX: usize = 16;

/// The first entry of a chain. Each start of a node's process opens a new incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenChain {
    /// The node's invitation, verbatim: it makes the chain admissible anywhere.
    pub invitation: Vec<u8>,
    /// The last op that the node holds of its incarnation before this one.
    pub before: Option<ChainEnd>,
}

/// Where an earlier incarnation stood when its successor opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// The earlier incarnation.
    pub incarnation: u64,
    /// Its last op's place.
    pub seq: u64,
    /// Its last op.
    pub id: OpId,
}

/// What a node is, where it is reached, and what it offers. The newest one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnounceNode {
    /// A DNS label for people; the node's key is what counts.
    pub name: String,
    /// Which parts run there.
    pub roles: Roles,
    /// Multiaddresses at which other nodes reach it.
    pub addresses: Vec<String>,
    /// IPv4 addresses at which its front door and DNS are reached.
    pub ipv4: Vec<Ipv4Addr>,
    /// What it offers to machines in all.
    pub capacity: Capacity,
    /// The account that gets what the node charges. Since version 2.
    pub payout: Option<AccountId>,
}

/// The parts of a node that may be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// Serves the API.
    pub gateway: bool,
    /// Runs machines.
    pub compute: bool,
    /// Builds images.
    pub builder: bool,
    /// Answers DNS and proxies.
    pub edge: bool,
    /// Is ready to certify, should the admins want it.
    pub witness: bool,
}

/// What a node offers to machines, or what a set of machines takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Disk in GiB.
    pub disk_gib: u64,
}

/// Stays a member: the lease of its membership begins anew. Once a day is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenewMembership {}

impl RenewMembership {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl OpenChain {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        let (size, max) = (self.invitation.len() as u64, INVITATION_BYTES_MAX as u64);
        if size > max {
            return Err(DecodeError::TooLarge {
                what: "a chain's invitation",
                size,
                max,
            });
        }
        Ok(())
    }
}

impl AnnounceNode {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_label(&self.name)?;
        let count = self.addresses.len().max(self.ipv4.len());
        if count > ADDRESSES_MAX {
            let (size, max) = (count as u64, ADDRESSES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "a node's addresses",
                size,
                max,
            });
        }
        self.addresses
            .iter()
            .try_for_each(|address| check_length(address, 256, "a node's address"))
    }
}
