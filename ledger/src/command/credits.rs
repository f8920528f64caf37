//! Commands about credits. docs/credits.md draws how they flow.

use serde::{Deserialize, Serialize};

use super::accounts::check_length;
use crate::codec::DecodeError;
use crate::id::{AccountId, HoldId, NodeId};

/// Bytes of a transfer's memo or a hold's purpose, at most. Both are public and stay in the log.
pub const MEMO_MAX: usize = 256;

/// Rights and holds last at most this long from when they count.
pub const CREDITS_LIFETIME_MS_MAX: u64 = 30 * 24 * 60 * 60 * 1000;

/// Gives credits to another account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferCredits {
    /// Who gets them.
    pub to: AccountId,
    /// How many, in the smallest unit. At least 1.
    pub amount: u64,
    /// For people; everybody can read it.
    pub memo: String,
}

/// Moves credits of the account into the rights of one start of a node, which alone may then spend them.
/// Granted again to the same start, the amounts add up and the later end counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantRights {
    /// Which node.
    pub node: NodeId,
    /// Which start of it.
    pub incarnation: u64,
    /// How many credits, in the smallest unit. At least 1.
    pub amount: u64,
    /// When what is left returns to the account, in milliseconds since 1970; at most
    /// [`CREDITS_LIFETIME_MS_MAX`] ahead.
    pub expires_ms: u64,
}

/// Allows a node to charge the account up to an amount, out of the rights that it has. It moves nothing by
/// itself, and the account cannot take it back before it expires. Its id is the command's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceHold {
    /// Which node.
    pub node: NodeId,
    /// How many credits in all, in the smallest unit. At least 1.
    pub amount: u64,
    /// From when on nothing is charged any more, in milliseconds since 1970; at most
    /// [`CREDITS_LIFETIME_MS_MAX`] ahead.
    pub expires_ms: u64,
    /// What for; everybody can read it.
    pub purpose: String,
}

/// Clears away a hold of the account that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseHold {
    /// Which hold.
    pub hold: HoldId,
}

/// No amount of 0: it would only cost room.
pub(crate) fn check_amount(amount: u64) -> Result<(), DecodeError> {
    if amount == 0 {
        Err(DecodeError::Meaningless("an amount of 0 credits"))
    } else {
        Ok(())
    }
}

impl TransferCredits {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_amount(self.amount)?;
        check_length(&self.memo, MEMO_MAX, "a transfer's memo")
    }
}

impl GrantRights {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_amount(self.amount)
    }
}

impl PlaceHold {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_amount(self.amount)?;
        check_length(&self.purpose, MEMO_MAX, "a hold's purpose")
    }
}

impl ReleaseHold {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}
