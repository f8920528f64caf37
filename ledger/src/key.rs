//! Keys and signatures, each with a tag for its algorithm.
//!
//! Signatures are Ed25519, verified by the rules of ZIP-215 (<https://zips.z.cash/zip-0215>), under which
//! the verification of a batch and of each signature by itself always agree: nodes that disagreed on one
//! signature would diverge.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use ed25519_zebra::{SigningKey, VerificationKey, VerificationKeyBytes, batch};
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};

use crate::id::NodeId;

/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// A public key. Its text is `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PublicKey {
    /// RFC 8032.
    Ed25519([u8; 32]),
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PublicKey::Ed25519(bytes) = self;
        write!(f, "ed25519:{}", HEXLOWER.encode(bytes))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a public key: `ed25519:` and 64 hexadecimal digits are expected")]
pub struct ParseKeyError(String);

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let error = || ParseKeyError(text.chars().take(90).collect());
        let digits = text.strip_prefix("ed25519:").ok_or_else(error)?;
        let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| error())?;
        Ok(PublicKey::Ed25519(bytes.try_into().map_err(|_| error())?))
    }
}

impl From<NodeId> for PublicKey {
    fn from(node: NodeId) -> Self {
        PublicKey::Ed25519(node.0)
    }
}

/// A signature by an Ed25519 key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; SIGNATURE_BYTES]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({}…)", HEXLOWER.encode(&self.0[..4]))
    }
}

/// A secret key, held in memory only. It is read and written in two places: the CLI's key file and the
/// node's own.
#[derive(Clone)]
pub struct SecretKey(SigningKey);

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

impl SecretKey {
    /// The key of 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from(seed))
    }

    /// Its public half.
    pub fn public(&self) -> PublicKey {
        PublicKey::Ed25519(VerificationKeyBytes::from(&self.0).into())
    }

    /// Its public half as a node's id.
    pub fn node_id(&self) -> NodeId {
        NodeId(VerificationKeyBytes::from(&self.0).into())
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature(self.0.sign(message).into())
    }
}

/// One signature to check.
#[derive(Clone, Debug)]
pub struct Check {
    /// Who is said to have signed.
    pub key: PublicKey,
    /// The signed bytes: a hash, in this ledger.
    pub message: [u8; 32],
    /// The signature.
    pub signature: Signature,
}

/// Whether one signature holds.
pub fn verify(check: &Check) -> bool {
    let PublicKey::Ed25519(key) = check.key;
    VerificationKey::try_from(key)
        .and_then(|key| key.verify(&ed25519_zebra::Signature::from(check.signature.0), &check.message))
        .is_ok()
}

/// Whether each signature holds, in the order given. Checked as one batch, and one by one only when the
/// batch fails; both ways give the same answer. `seed` makes the batch's blinding factors: random on a
/// node, so that nobody can aim at them.
pub fn verify_all(checks: &[Check], seed: [u8; 32]) -> Vec<bool> {
    if checks.len() > 1 && hold_together(checks, seed) {
        return vec![true; checks.len()];
    }
    checks.iter().map(verify).collect()
}

/// Whether all signatures hold: one batch, so that where it fails nothing is said of which.
pub(crate) fn hold_together<C: std::borrow::Borrow<Check>>(checks: &[C], seed: [u8; 32]) -> bool {
    let mut batch = batch::Verifier::new();
    for check in checks.iter().map(C::borrow) {
        let PublicKey::Ed25519(key) = check.key;
        let signature = ed25519_zebra::Signature::from(check.signature.0);
        batch.queue((VerificationKeyBytes::from(key), signature, &check.message));
    }
    batch.verify(StdRng::from_seed(seed)).is_ok()
}
