//! Accounts: who may ask for things.

use ledger::clock::Hlc;
use ledger::id::AccountId;
use ledger::key::PublicKey;
use serde::{Deserialize, Serialize};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id: the command that opened it.
    pub id: AccountId,
    /// Its unique name.
    pub name: String,
    /// The key that signs for it.
    pub key: PublicKey,
    /// When it was opened.
    pub opened: Hlc,
}
