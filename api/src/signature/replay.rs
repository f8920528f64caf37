//! The nonces of signed requests, kept as long as a request could count. Bounded: at the bound the answer is
//! "busy", since forgetting one would let it come again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use ledger::key::PublicKey;

use super::{Signed, WINDOW_S};

/// Nonces kept, at most.
pub const REPLAY_ENTRIES_MAX: usize = 65_536;

/// Nonces kept of one key, at most: nobody fills the cache alone.
pub const REPLAY_PER_KEY_MAX: usize = 1_024;

/// Why a signed request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It came before.
    #[error("the request was made before: each needs a nonce of its own")]
    Replayed,
    /// Too many signed requests within the window.
    #[error("more signed requests came within {WINDOW_S} seconds than are taken")]
    Full,
}

/// The nonces of a window.
#[derive(Debug, Default)]
pub struct ReplayCache {
    nonces: HashMap<PublicKey, BTreeSet<[u8; 16]>>,
    ends: BTreeMap<u64, Vec<(PublicKey, [u8; 16])>>,
    entries: usize,
}

impl ReplayCache {
    /// Takes note of a request, unless it came before. Its signature holds at `now_s`.
    pub fn admit(&mut self, signed: &Signed, now_s: u64) -> Result<(), ReplayError> {
        self.forget(now_s);
        let of_key = self.nonces.get(&signed.key);
        if of_key.is_some_and(|nonces| nonces.contains(&signed.nonce)) {
            return Err(ReplayError::Replayed);
        }
        if self.entries >= REPLAY_ENTRIES_MAX
            || of_key.is_some_and(|nonces| nonces.len() >= REPLAY_PER_KEY_MAX)
        {
            return Err(ReplayError::Full);
        }
        self.nonces.entry(signed.key).or_default().insert(signed.nonce);
        let end = signed.created_s.saturating_add(WINDOW_S);
        self.ends.entry(end).or_default().push((signed.key, signed.nonce));
        self.entries += 1;
        Ok(())
    }

    /// Drops what `verify` would refuse as stale anyhow.
    fn forget(&mut self, now_s: u64) {
        let kept = self.ends.split_off(&now_s);
        for (key, nonce) in std::mem::replace(&mut self.ends, kept).into_values().flatten() {
            self.entries -= 1;
            if let Some(nonces) = self.nonces.get_mut(&key) {
                nonces.remove(&nonce);
                if nonces.is_empty() {
                    self.nonces.remove(&key);
                }
            }
        }
    }
}
