//! When a quorum of witnesses is lost for good, the admins name another set.
//!
//! ```text
//! recovery := the last certified checkpoint (32, zeros for none) ‖ height after it (varint)
//!             ‖ attempt (varint) ‖ witnesses
//! id       := BLAKE3-derive-key("formation 2026 recovery v1", network id ‖ recovery)
//! signed   := length (varint) ‖ recovery ‖ count (varint)
//!             ‖ that many signatures over the id: place among the admins (varint, ascending) ‖ signature (64)
//! ```
//! The set votes at that height in place of the one that stood, and goes on from there. A second recovery of
//! the same height has a greater attempt and takes the place of the first. The id is part of every vote of
//! the recovered set, so that no vote of the lost set counts in it.
//!
//! It is the one step that agreement does not rest on witnesses but on people: admins who recover a height
//! that the lost set has certified unseen make two certificates for one height. Admins name as `after` the
//! highest certificate that anybody holds, and witnesses propose again what they were locked on.

use super::witness::{WITNESSES_MAX, WitnessSet};
use crate::codec::{DecodeError, Reader, Writer};
use crate::genesis::{ADMINS_MAX, Genesis};
use crate::id::{CheckpointId, NetworkId, RecoveryId, hash};
use crate::key::{Check, PublicKey, SIGNATURE_BYTES, SecretKey, Signature};

/// Bytes of a signed recovery, at most.
pub const RECOVERY_BYTES_MAX: usize = 128 + WITNESSES_MAX * (32 + 4) + ADMINS_MAX * (SIGNATURE_BYTES + 1);

/// Those who may recover a network together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admins {
    keys: Vec<PublicKey>,
    needed: usize,
}

impl From<&Genesis> for Admins {
    fn from(genesis: &Genesis) -> Self {
        Self {
            keys: genesis.admins.clone(),
            needed: usize::from(genesis.admins_needed),
        }
    }
}

/// Another set of witnesses for one height.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The checkpoint of the last certificate; zeros when there is none.
    pub after: CheckpointId,
    /// The height after it, whose witnesses are replaced.
    pub height: u64,
    /// Greater than that of every earlier recovery of this height; 1 for the first.
    pub attempt: u32,
    /// Who votes from this height on.
    pub witnesses: WitnessSet,
}

/// A recovery and the admins' signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecovery {
    /// What was signed.
    pub recovery: Recovery,
    /// By place among the admins of the genesis, ascending.
    pub signatures: Vec<(u8, Signature)>,
}

/// Why a recovery counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// It is for another height, or follows another checkpoint.
    #[error("the recovery is for height {height} after {after}")]
    Elsewhere {
        /// Its height.
        height: u64,
        /// The checkpoint that it follows.
        after: CheckpointId,
    },
    /// Too few admins signed.
    #[error("the recovery is signed by {signed} admins: {needed} are needed")]
    TooFew {
        /// How many signed.
        signed: usize,
        /// How many have to.
        needed: usize,
    },
    /// A signature names a place that the admins do not have.
    #[error("the recovery is signed by admin {0}, whom the genesis does not have")]
    NoSuchAdmin(u8),
    /// A signature does not hold.
    #[error("a signature of the recovery does not hold")]
    Forged,
}

impl Recovery {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .raw(&self.after.0)
            .varint(self.height)
            .varint(u64::from(self.attempt));
        self.witnesses.write(&mut writer);
        writer.into_bytes()
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let after = CheckpointId(reader.array("the checkpoint before a recovery")?);
        let height = reader.varint(u64::MAX, "a recovery's height")?;
        let attempt = reader.varint(u64::from(u32::MAX), "a recovery's attempt")? as u32;
        let witnesses = WitnessSet::read(&mut reader)?;
        reader.end()?;
        if height == 0 || (height == 1) != (after.0 == [0; 32]) || attempt == 0 || witnesses.is_empty() {
            return Err(DecodeError::Meaningless("a recovery"));
        }
        Ok(Self {
            after,
            height,
            attempt,
            witnesses,
        })
    }

    /// Its id, which admins sign.
    pub fn id(&self, network: NetworkId) -> RecoveryId {
        RecoveryId(hash("formation 2026 recovery v1", &[&network.0, &self.encode()]))
    }

    /// One admin's signature.
    pub fn sign(&self, network: NetworkId, secret: &SecretKey) -> Signature {
        secret.sign(&self.id(network).0)
    }
}

impl SignedRecovery {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .sized(&self.recovery.encode())
            .varint(self.signatures.len() as u64);
        for (place, signature) in &self.signatures {
            writer.varint(u64::from(*place)).raw(&signature.0);
        }
        writer.into_bytes()
    }

    /// Reads canonical bytes; [`Self::verify`] tells whether it holds.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let recovery = Recovery::decode(reader.sized(RECOVERY_BYTES_MAX, "a recovery")?)?;
        let count = reader.varint(ADMINS_MAX as u64, "a recovery's signatures")?;
        let signatures = (0..count)
            .map(|_| {
                let place = reader.varint(ADMINS_MAX as u64 - 1, "an admin's place")? as u8;
                Ok((place, Signature(reader.array("an admin's signature")?)))
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        if !signatures.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(DecodeError::NotCanonical("a recovery's signatures"));
        }
        reader.end()?;
        Ok(Self { recovery, signatures })
    }

    /// Whether it is for this height after this checkpoint.
    pub fn fits(&self, height: u64, after: CheckpointId) -> Result<(), RecoveryError> {
        let it = &self.recovery;
        if it.height == height && it.after == after {
            return Ok(());
        }
        let (height, after) = (it.height, it.after);
        Err(RecoveryError::Elsewhere { height, after })
    }

    /// The signatures to check, once it is sure that they are enough. A key that the genesis names twice
    /// counts once.
    pub fn checks(&self, network: NetworkId, admins: &Admins) -> Result<Vec<Check>, RecoveryError> {
        let message = self.recovery.id(network).0;
        let mut checks: Vec<Check> = Vec::with_capacity(self.signatures.len());
        for (place, signature) in &self.signatures {
            let key = *admins
                .keys
                .get(usize::from(*place))
                .ok_or(RecoveryError::NoSuchAdmin(*place))?;
            if checks.iter().all(|check| check.key != key) {
                checks.push(Check {
                    key,
                    message,
                    signature: *signature,
                });
            }
        }
        let (signed, needed) = (checks.len(), admins.needed.max(1));
        if signed < needed {
            return Err(RecoveryError::TooFew { signed, needed });
        }
        Ok(checks)
    }

    /// Whether enough admins signed it.
    pub fn verify(&self, network: NetworkId, admins: &Admins) -> Result<(), RecoveryError> {
        if self.checks(network, admins)?.iter().all(crate::key::verify) {
            Ok(())
        } else {
            Err(RecoveryError::Forged)
        }
    }
}
