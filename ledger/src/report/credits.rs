//! Reports about credits. docs/credits.md draws how they flow.

use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::command::credits::check_amount;
use crate::id::{AccountId, HoldId};

/// Charges the account that signed a hold: out of the rights of the start that says so, to the payout
/// account that the node has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Which hold.
    pub hold: HoldId,
    /// How many credits, in the smallest unit. At least 1.
    pub amount: u64,
    /// Which charge of the hold, each greater than all before it. A node that does not know whether an
    /// earlier charge of its own stands says it again under the same number: one of them counts.
    pub number: u64,
}

/// The node charges nothing more against a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndHold {
    /// Which hold.
    pub hold: HoldId,
}

/// The node gives rights back to the account that granted them: its own, or those of an earlier start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReturnRights {
    /// Whose credits they are.
    pub account: AccountId,
    /// The start that they were granted to.
    pub incarnation: u64,
    /// How many credits, in the smallest unit. At least 1.
    pub amount: u64,
}

impl Charge {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_amount(self.amount)
    }
}

impl EndHold {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

impl ReturnRights {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_amount(self.amount)
    }
}
