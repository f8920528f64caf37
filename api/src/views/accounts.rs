//! Accounts as people see them.

use ledger::id::AccountId;
use ledger::key::PublicKey;
use projections::accounts::Account;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AccountId,
    /// Its unique name.
    pub name: String,
    /// The key that opened it: `ed25519:` and 64 hexadecimal digits. `/v1/accounts/{id}/keys` has them all.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// When it was opened.
    pub opened_ms: u64,
}

impl From<&Account> for AccountView {
    fn from(account: &Account) -> Self {
        Self {
            id: account.id,
            name: account.name.clone(),
            key: account.key,
            opened_ms: account.opened.ms(),
        }
    }
}
