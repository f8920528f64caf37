//! The keys of accounts: a tree for each account, with the key that opened it at the root.
//!
//! ```text
//!   root ─┬─ laptop (account) ─┬─ ci (deploy, till March)
//!         │                    └─ shop (credits 500)
//!         └─ watcher (read)
//! ```
//! A key adds keys below itself, with what it has or less, for as long as it lasts or less. It revokes keys
//! below itself, directly or through others, and whatever it revokes takes all below with it.
//!
//! **Why no two keys can revoke each other.** A key's parent is set once, when it is added, and at that moment
//! it was in no tree: so "above" is a strict partial order, and of two keys at most one is above the other.
//! Between parent and child only the parent revokes; siblings, and keys of different accounts, never do.
//! Where a child acts while its parent revokes it, nothing of what it did below itself survives, as it fell
//! with the child, and its own commands count only before the revocation in the order: the older authority
//! wins in whichever order they come. Once the revocation is final nothing can come before it any more,
//! whatever clock a node that carries commands of the revoked key claims.

use ledger::clock::Hlc;
use ledger::command::Body;
use ledger::command::keys::{AddKey, Needs, RevokeKey, Scope, Scopes};
use ledger::id::{AccountId, OpId};
use ledger::key::PublicKey;
use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;
use crate::commands::Asked;
use crate::outcome::Void;
use crate::undo::{AccountKeys, Keys, Writer};

/// Keys of an account, at most; those that have ended count till they are forgotten.
pub const KEYS_MAX: usize = 256;

/// Steps from the root to a key, at most.
pub const DEPTH_MAX: u8 = 4;

/// Keys below one that has not the scope `account`, at most: who steals a lesser key cannot use the account's
/// places up.
pub const BELOW_MAX: usize = 16;

/// A key that has ended is remembered at least this long: 30 days. After that it makes room, should the
/// account have [`KEYS_MAX`] of them.
pub const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// A key that signs for an account, or did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The account: one, for ever.
    pub account: AccountId,
    /// What people call it.
    pub label: String,
    /// What it may sign for.
    pub scopes: Scopes,
    /// The key that added it; none: it is the account's root.
    pub added_by: Option<PublicKey>,
    /// Steps from the root, at most [`DEPTH_MAX`].
    pub depth: u8,
    /// When it was added.
    pub added: Hlc,
    /// The last millisecond since 1970, of effective time, at which it signs; none: without end.
    pub expires_ms: Option<u64>,
    /// That and how it was revoked.
    pub revoked: Option<KeyRevocation>,
    /// What it and the keys below it have spent of its allowance of credits; 0 for one without an allowance.
    pub spent: u64,
}

/// The end of a key before its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRevocation {
    /// The key that signed it.
    pub by: PublicKey,
    /// The op that carried it.
    pub op: OpId,
    /// When, in effective milliseconds since 1970.
    pub at_ms: u64,
}

impl Key {
    /// The root of a new account.
    pub(crate) fn root(account: AccountId, at: Hlc) -> Self {
        Self {
            account,
            label: "root".into(),
            scopes: Scopes::ALL,
            added_by: None,
            depth: 0,
            added: at,
            expires_ms: None,
            revoked: None,
            spent: 0,
        }
    }

    /// Whether it signs at a time, in effective milliseconds, and else why not.
    pub fn check(&self, now_ms: u64) -> Result<(), Void> {
        if self.revoked.is_some() {
            return Err(Void::KeyRevoked);
        }
        if self.expires_ms.is_some_and(|last| last < now_ms) {
            return Err(Void::KeyExpired);
        }
        Ok(())
    }

    /// Whether it has ended so long ago that it may be forgotten.
    fn is_past(&self, now_ms: u64) -> bool {
        let revoked_ms = self.revoked.as_ref().map(|it| it.at_ms);
        let ends = revoked_ms.into_iter().chain(self.expires_ms);
        ends.min()
            .is_some_and(|end_ms| end_ms.saturating_add(KEPT_MS) < now_ms)
    }
}

impl Cloud {
    /// An account's keys, those that have ended too, with the root among them.
    pub fn keys_of(&self, account: AccountId) -> impl Iterator<Item = (PublicKey, &Key)> {
        let first = PublicKey::Ed25519([0; 32]);
        self.account_keys
            .range((account, first)..)
            .map(|((owner, key), ())| (*owner, *key))
            .take_while(move |(owner, _)| *owner == account)
            .filter_map(|(_, key)| Some((key, self.keys.get(&key)?)))
    }

    /// Whether `above` added `key`, directly or through others.
    pub fn is_above(&self, above: &PublicKey, key: &PublicKey) -> bool {
        let parent = |key: &PublicKey| self.keys.get(key)?.added_by;
        std::iter::successors(parent(key), parent).any(|it| it == *above)
    }
}

/// The account for which the signer of a command may ask this; none for what needs no account.
pub(crate) fn account_for(
    writer: &Writer<'_>,
    asked: &Asked,
    body: &Body,
) -> Result<Option<AccountId>, Void> {
    match body.needs() {
        Needs::AnyKey => Ok(None),
        Needs::Scope(scope) => signer(writer, asked, scope).map(|key| Some(key.account)),
    }
}

/// The signer's key, which stands and has `scope`.
fn signer<'a>(writer: &'a Writer<'_>, asked: &Asked, scope: Scope) -> Result<&'a Key, Void> {
    let key = writer.keys.get(&asked.key).ok_or(Void::NoAccount)?;
    key.check(asked.effective_ms)?;
    if key.scopes.allow(scope) {
        Ok(key)
    } else {
        Err(Void::NoScope(scope))
    }
}

/// Counts credits against the allowance of the signer's key and of each above it that has one. What moves
/// credits away counts, and so does what lets a node charge: the rights that it charges from may have been
/// granted by another key.
pub(crate) fn spend(writer: &mut Writer<'_>, asked: &Asked, amount: u64) -> Result<(), Void> {
    let mut at = Some(asked.key);
    while let Some(public) = at {
        let key = writer.keys.get(&public).ok_or(Void::NoAccount)?.clone();
        at = key.added_by;
        let Some(allowance) = key.scopes.credits else {
            continue;
        };
        let left = allowance.saturating_sub(key.spent);
        if amount > left {
            return Err(Void::BeyondAllowance { left, asked: amount });
        }
        let spent = key.spent.saturating_add(amount);
        writer.put::<Keys>(public, Key { spent, ..key });
    }
    Ok(())
}

/// Makes a key sign for an account: its root, or one that another adds.
pub(crate) fn put(writer: &mut Writer<'_>, public: PublicKey, key: Key) {
    writer.put::<AccountKeys>((key.account, public), ());
    writer.put::<Keys>(public, key);
}

/// Adds a key below the one that signs.
pub(crate) fn add(writer: &mut Writer<'_>, asked: &Asked, ask: &AddKey) -> Result<(), Void> {
    let above = signer(writer, asked, Scope::Read)?.clone();
    if let Some(known) = writer.keys.get(&ask.key) {
        return Err(match known.revoked {
            Some(_) => Void::Refused("the key was revoked: make a new one".into()),
            None => Void::HasAccount,
        });
    }
    if let Some(scope) = above.scopes.beyond(&ask.scopes) {
        return Err(Void::BeyondOwn(format!("its scope `{scope}`")));
    }
    let too_late = |last| above.expires_ms.is_some_and(|own| last > own);
    if ask.expires_ms.is_some_and(too_late) {
        return Err(Void::BeyondOwn("its end".into()));
    }
    if ask.expires_ms.is_some_and(|last| last < asked.effective_ms) {
        return Err(Void::Refused("the key would have ended already".into()));
    }
    if above.depth >= DEPTH_MAX {
        return Err(too_many(
            "steps from the account's first key",
            usize::from(DEPTH_MAX),
        ));
    }
    check_room(writer, asked, &above)?;
    if !ask.consent.verify(writer.network, above.account, ask.key) {
        return Err(Void::NoConsent);
    }
    let key = Key {
        account: above.account,
        label: ask.label.clone(),
        scopes: ask.scopes,
        added_by: Some(asked.key),
        depth: above.depth + 1,
        added: asked.at,
        expires_ms: ask.expires_ms.or(above.expires_ms),
        revoked: None,
        spent: 0,
    };
    put(writer, ask.key, key);
    Ok(())
}

/// There is a place for one more key below the signer, after those that ended long ago made room.
fn check_room(writer: &mut Writer<'_>, asked: &Asked, above: &Key) -> Result<(), Void> {
    let account = above.account;
    let (past, rest): (Vec<_>, Vec<_>) = writer
        .keys_of(account)
        .map(|(public, key)| (public, key.is_past(asked.effective_ms)))
        .partition(|(_, past)| *past);
    let mut count = rest.len() + past.len();
    if count >= KEYS_MAX {
        count = rest.len();
        // What lies below a key has ended with it or before, so no key loses the one above it alone.
        for (public, _) in past {
            writer.remove::<AccountKeys>((account, public));
            writer.remove::<Keys>(public);
        }
    }
    if count >= KEYS_MAX {
        return Err(too_many("keys of the account", KEYS_MAX));
    }
    let lesser = std::iter::successors(Some(asked.key), |key| writer.keys.get(key)?.added_by)
        .filter(|key| writer.keys.get(key).is_some_and(|key| !key.scopes.account));
    for lesser in lesser {
        let below = rest.iter().filter(|(key, _)| writer.is_above(&lesser, key));
        if below.count() >= BELOW_MAX {
            return Err(too_many("keys below one without the scope `account`", BELOW_MAX));
        }
    }
    Ok(())
}

fn too_many(what: &str, max: usize) -> Void {
    Void::TooMany {
        what: what.into(),
        max: max as u64,
    }
}

/// Ends a key below the one that signs, and all below that.
pub(crate) fn revoke(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &RevokeKey,
) -> Result<(), Void> {
    let found = writer
        .keys
        .get(&ask.key)
        .filter(|key| key.account == owner)
        .ok_or_else(|| Void::NotFound(format!("key of the account: {}", ask.key)))?;
    if !writer.is_above(&asked.key, &ask.key) {
        return Err(Void::NotBelow);
    }
    if found.revoked.is_some() {
        return Err(Void::AlreadySo("the key is revoked".into()));
    }
    let falling: Vec<_> = writer
        .keys_of(owner)
        .filter(|(public, key)| {
            key.revoked.is_none() && (*public == ask.key || writer.is_above(&ask.key, public))
        })
        .map(|(public, key)| (public, key.clone()))
        .collect();
    for (public, key) in falling {
        let revoked = Some(KeyRevocation {
            by: asked.key,
            op: asked.op,
            at_ms: asked.effective_ms,
        });
        writer.put::<Keys>(public, Key { revoked, ..key });
    }
    Ok(())
}
