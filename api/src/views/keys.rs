//! Keys of accounts as people see them.

use ledger::command::keys::Scope;
use ledger::id::AccountId;
use ledger::key::PublicKey;
use projections::keys::Key;
use projections::outcome::Void;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Credits;

/// A key that signs for an account, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// The key: `ed25519:` and 64 hexadecimal digits.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// The account.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// What people call it; `root` is the key that opened the account.
    pub label: String,
    /// What it may sign for. `account` is everything.
    pub scopes: Vec<ScopeWord>,
    /// How many credits it may spend in its life, with the keys below it; none: without such a bound.
    #[schema(value_type = Option<String>)]
    pub allowance: Option<Credits>,
    /// How many of these are spent.
    #[schema(value_type = String)]
    pub spent: Credits,
    /// The key that added it; none: it is the account's root.
    pub added_by: Option<String>,
    /// Steps from the root.
    pub depth: u8,
    /// When it was added.
    pub added_ms: u64,
    /// The last millisecond at which it signs; none: without end.
    pub expires_ms: Option<u64>,
    /// Whether it signs.
    pub state: KeyWord,
    /// When it was revoked.
    pub revoked_ms: Option<u64>,
    /// The key that revoked it.
    pub revoked_by: Option<String>,
}

/// Whether a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyWord {
    /// It does.
    Active,
    /// Its time is over.
    Expired,
    /// A key above it ended it.
    Revoked,
}

impl KeyWord {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }
}

/// What a key may sign for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeWord {
    /// Everything that the account may do.
    Account,
    /// Builds, agents and instances.
    Deploy,
    /// Domain names.
    Domains,
    /// The account's credits, up to the allowance.
    Credits,
    /// What only the account may read.
    Read,
}

impl ScopeWord {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        Scope::from(self).name()
    }
}

impl From<ScopeWord> for Scope {
    fn from(word: ScopeWord) -> Self {
        match word {
            ScopeWord::Account => Self::Account,
            ScopeWord::Deploy => Self::Deploy,
            ScopeWord::Domains => Self::Domains,
            ScopeWord::Credits => Self::Credits,
            ScopeWord::Read => Self::Read,
        }
    }
}

impl KeyView {
    /// The key as it stands at a time, in milliseconds since 1970.
    pub fn new(public: PublicKey, key: &Key, now_ms: u64) -> Self {
        let words = [
            ScopeWord::Deploy,
            ScopeWord::Domains,
            ScopeWord::Credits,
            ScopeWord::Read,
        ];
        let scopes = if key.scopes.account {
            vec![ScopeWord::Account]
        } else {
            let has = |word: &ScopeWord| key.scopes.allow((*word).into());
            words.into_iter().filter(has).collect()
        };
        Self {
            key: public,
            account: key.account,
            label: key.label.clone(),
            scopes,
            allowance: key.scopes.credits.map(Credits),
            spent: Credits(key.spent),
            added_by: key.added_by.map(|by| by.to_string()),
            depth: key.depth,
            added_ms: key.added.ms(),
            expires_ms: key.expires_ms,
            state: match key.check(now_ms) {
                Ok(()) => KeyWord::Active,
                Err(Void::KeyRevoked) => KeyWord::Revoked,
                Err(_) => KeyWord::Expired,
            },
            revoked_ms: key.revoked.as_ref().map(|it| it.at_ms),
            revoked_by: key.revoked.as_ref().map(|it| it.by.to_string()),
        }
    }
}
