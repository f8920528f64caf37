//! How a network begins, and how a node gets in.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::command::accounts::check_label;
use crate::finality::witness::WitnessSet;
use crate::id::{NetworkId, NodeId, hash};
use crate::key::{Check, PublicKey, SIGNATURE_BYTES, SecretKey, Signature};

/// Bytes of an invitation, at most.
pub const INVITATION_BYTES_MAX: usize = 8192;

/// Admins of a network, at most.
pub const ADMINS_MAX: usize = 16;

/// Peers that an invitation names, at most.
pub const PEERS_MAX: usize = 16;

/// What every node of a network agrees on before the first op. Its hash is the network's id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// A DNS label for people.
    pub name: String,
    /// Who may invite nodes, and together change what concerns all.
    pub admins: Vec<PublicKey>,
    /// How many admins have to agree to change what concerns all.
    pub admins_needed: u8,
    /// Who certifies checkpoints to begin with; with nobody all stays tentative.
    pub witnesses: WitnessSet,
    /// When it began, in milliseconds since 1970.
    pub created_ms: u64,
    /// Random, so that two networks of one name differ.
    pub salt: [u8; 16],
}

impl Genesis {
    /// The network's id.
    pub fn network(&self) -> NetworkId {
        NetworkId(hash("formation 2026 genesis v1", &[&codec::encode(self)]))
    }

    /// Whether it keeps the bounds: who reads an invitation asks, and who begins a network.
    pub fn check(&self) -> Result<(), DecodeError> {
        check_label(&self.name)?;
        if self.admins.is_empty() || self.admins.len() > ADMINS_MAX {
            return Err(DecodeError::Meaningless("a genesis without 1 to 16 admins"));
        }
        let repeats = |(index, admin): (usize, &PublicKey)| self.admins[..index].contains(admin);
        if self.admins.iter().enumerate().any(repeats) {
            return Err(DecodeError::Meaningless("a genesis that names an admin twice"));
        }
        if self.admins_needed == 0 || usize::from(self.admins_needed) > self.admins.len() {
            return Err(DecodeError::Meaningless(
                "a genesis that needs nobody or more admins than there are",
            ));
        }
        self.witnesses.check()?;
        Ok(())
    }
}

/// Lets one node into a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// The network's beginning.
    pub genesis: Genesis,
    /// The node's key: nobody else can use it.
    pub node: NodeId,
    /// The admin who signs.
    pub admin: PublicKey,
    /// Multiaddresses of members to begin with.
    pub peers: Vec<String>,
}

/// An invitation as it travels: its canonical bytes and the admin's signature over their hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedInvitation {
    /// What was signed.
    pub invitation: Invitation,
    bytes: Vec<u8>,
    signature: Signature,
}

/// Why an invitation does not let a node in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvitationError {
    /// It does not decode.
    #[error("not an invitation: {0}")]
    Framing(#[from] DecodeError),
    /// It is for another network.
    #[error("the invitation is for network {0}, not for this one")]
    OtherNetwork(NetworkId),
    /// It is bound to another node's key.
    #[error("the invitation is for node {0}, not for this one")]
    OtherNode(NodeId),
    /// Its signer is not an admin.
    #[error("the invitation is signed by {0}, who is no admin of the network")]
    NotAnAdmin(PublicKey),
    /// The signature does not hold.
    #[error("the invitation's signature does not hold")]
    Forged,
}

impl Invitation {
    fn digest(bytes: &[u8]) -> [u8; 32] {
        hash("formation 2026 invitation v1", &[bytes])
    }

    /// Signs it. `secret` must be the secret half of `self.admin`.
    pub fn sign(self, secret: &SecretKey) -> SignedInvitation {
        let mut bytes = codec::encode(&self);
        let signature = secret.sign(&Self::digest(&bytes));
        bytes.extend_from_slice(&signature.0);
        SignedInvitation {
            invitation: self,
            bytes,
            signature,
        }
    }
}

impl SignedInvitation {
    /// Reads an invitation; [`Self::verify`] tells whether it holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "an invitation";
        if bytes.len() > INVITATION_BYTES_MAX {
            let (size, max) = (bytes.len() as u64, INVITATION_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what, size, max });
        }
        let split = bytes
            .len()
            .checked_sub(SIGNATURE_BYTES)
            .ok_or(DecodeError::Truncated(what))?;
        let (unsigned, signature) = bytes.split_at(split);
        let invitation: Invitation = codec::decode(unsigned, INVITATION_BYTES_MAX, what)?;
        invitation.genesis.check()?;
        if invitation.peers.len() > PEERS_MAX {
            let (size, max) = (invitation.peers.len() as u64, PEERS_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "an invitation's peers",
                size,
                max,
            });
        }
        let signature = Signature(signature.try_into().expect("split off at this length"));
        Ok(Self {
            invitation,
            bytes: bytes.to_vec(),
            signature,
        })
    }

    /// The bytes as they travel.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether it lets `node` into `network`.
    pub fn verify(&self, network: NetworkId, node: NodeId) -> Result<(), InvitationError> {
        let invitation = &self.invitation;
        if invitation.genesis.network() != network {
            return Err(InvitationError::OtherNetwork(invitation.genesis.network()));
        }
        if invitation.node != node {
            return Err(InvitationError::OtherNode(invitation.node));
        }
        if !invitation.genesis.admins.contains(&invitation.admin) {
            return Err(InvitationError::NotAnAdmin(invitation.admin));
        }
        let unsigned = &self.bytes[..self.bytes.len() - SIGNATURE_BYTES];
        let message = Invitation::digest(unsigned);
        let check = Check {
            key: invitation.admin,
            message,
            signature: self.signature,
        };
        if crate::key::verify(&check) {
            Ok(())
        } else {
            Err(InvitationError::Forged)
        }
    }
}
