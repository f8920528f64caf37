//! Commands of the network's admins: what they do together.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::entry::ENTRY_BYTES_MAX;
use crate::finality::witness::WitnessSet;
use crate::genesis::ADMINS_MAX;
use crate::id::{AccountId, ActId, NetworkId, NodeId, hash};
use crate::key::PublicKey;

/// An act waits for the other admins for at most this long: a week.
pub const ACT_LIFETIME_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// Approves an act. It takes effect, once, when as many admins as are needed have approved the same act
/// with the same salt and the same end. The key that signs needs no account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApproveAct {
    /// What is to be done.
    pub act: Act,
    /// Random, chosen by the admin who begins: the same act may be done again under another.
    pub salt: [u8; 16],
    /// The last millisecond since 1970 at which an approval counts, at most [`ACT_LIFETIME_MS_MAX`] ahead.
    pub expires_ms: u64,
}

/// What admins do together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Makes a key an admin.
    AddAdmin(PublicKey),
    /// Ends an admin. As many as are needed must remain.
    RemoveAdmin(PublicKey),
    /// How many have to approve from then on.
    SetAdminsNeeded(u8),
    /// Ends a node's membership.
    RevokeNode {
        /// The node.
        node: NodeId,
        /// The height of the checkpoint up to which what it wrote counts, if it is final; none: what the
        /// act had in its causal past.
        cutoff: Option<u64>,
    },
    /// Gives a node whose membership was revoked or expired a new one. What was void stays so.
    ReinstateNode(NodeId),
    /// Who certifies from then on.
    SetWitnesses(WitnessSet),
    /// Makes a kind count that came after the network began, or a version of one.
    Activate {
        /// The kind.
        kind: u16,
        /// The version.
        version: u8,
    },
    /// Makes credits and gives them to an account.
    Mint {
        /// The account.
        account: AccountId,
        /// How many.
        amount: u64,
    },
}

impl Act {
    /// Its name, as people see it.
    pub fn name(&self) -> &'static str {
        match self {
            Act::AddAdmin(_) => "AddAdmin",
            Act::RemoveAdmin(_) => "RemoveAdmin",
            Act::SetAdminsNeeded(_) => "SetAdminsNeeded",
            Act::RevokeNode { .. } => "RevokeNode",
            Act::ReinstateNode(_) => "ReinstateNode",
            Act::SetWitnesses(_) => "SetWitnesses",
            Act::Activate { .. } => "Activate",
            Act::Mint { .. } => "Mint",
        }
    }
}

impl ApproveAct {
    /// What all who approve the same act have in common.
    pub fn id(&self, network: NetworkId) -> ActId {
        ActId(hash("formation 2026 act v1", &[&network.0, &codec::encode(self)]))
    }

    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        match &self.act {
            Act::SetAdminsNeeded(needed) if *needed == 0 || usize::from(*needed) > ADMINS_MAX => Err(
                DecodeError::Meaningless("a number of admins needed that is not 1 to 16"),
            ),
            Act::SetWitnesses(set) => set.check(),
            _ => Ok(()),
        }
    }
}

const _: () = assert!(
    ENTRY_BYTES_MAX > crate::finality::witness::WITNESSES_MAX * 40 + 100,
    "the largest act fits into an entry"
);
