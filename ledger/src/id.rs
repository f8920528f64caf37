//! Identifiers: 32 bytes each, a type of its own for each kind of thing, parsed once at the door.
//!
//! An id made by [`hash`] is BLAKE3 in its key-derivation mode: a context string for each kind of thing,
//! so that bytes of one kind never stand for another. People see ids in lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: 64 hexadecimal digits are expected")]
pub struct ParseIdError {
    text: String,
}

/// BLAKE3 of `parts`, one after the other, in key-derivation mode under `context`.
pub fn hash(context: &str, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(context);
    for part in parts {
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

fn first_eight(bytes: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *bytes;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash)]
        pub struct $name(pub [u8; 32]);

        /// By the bytes. Ids differ early, and maps compare them often: the first eight are tried as one
        /// number.
        impl Ord for $name {
            fn cmp(&self, other: &Self) -> std::cmp::Ordering {
                first_eight(&self.0)
                    .cmp(&first_eight(&other.0))
                    .then_with(|| self.0.cmp(&other.0))
            }
        }

        impl PartialOrd for $name {
            fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }

        impl $name {
            /// The first twelve hexadecimal digits: enough for a person's eye, not for a key.
            pub fn short(&self) -> String {
                HEXLOWER.encode(&self.0[..6])
            }

            /// The bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let error = || ParseIdError { text: text.chars().take(80).collect() };
                let bytes = HEXLOWER.decode(text.as_bytes()).map_err(|_| error())?;
                Ok(Self(bytes.try_into().map_err(|_| error())?))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    Ok(Self(<[u8; 32]>::deserialize(deserializer)?))
                }
            }
        }
    )*};
}

ids! {
    /// A network: the hash of its genesis.
    NetworkId;
    /// An op: the hash of its bytes, without the signature.
    OpId;
    /// A checkpoint: the hash of its bytes under the network's id.
    CheckpointId;
    /// A command: the hash of its bytes under the network's id, without the signature.
    CommandId;
    /// A node: its Ed25519 public key, which is also its libp2p identity.
    NodeId;
    /// An account: the command that opened it.
    AccountId;
    /// An agent: the command that registered it.
    AgentId;
    /// The build of an image: the command that asked for it.
    BuildId;
    /// An instance: the command that launched it.
    InstanceId;
    /// An act of the network's admins: the hash of what all who approve it sign.
    ActId;
    /// Content outside the log: an image's manifest, a build's context.
    Digest;
    /// A recovery of the witnesses: the hash of its bytes under the network's id.
    RecoveryId;
    /// A hold on credits: the command that signed it.
    HoldId;
}

macro_rules! made_by_command {
    ($($name:ident),*) => {$(
        impl From<CommandId> for $name {
            fn from(command: CommandId) -> Self {
                Self(command.0)
            }
        }
    )*};
}

made_by_command!(AccountId, AgentId, BuildId, InstanceId, HoldId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = OpId([7; 32]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("07".parse::<OpId>().is_err());
        assert!("zz".repeat(32).parse::<OpId>().is_err());
    }

    #[test]
    fn ids_are_ordered_by_their_bytes() {
        let id = |place: usize, byte| {
            let mut bytes = [7; 32];
            bytes[place] = byte;
            bytes
        };
        for (one, other) in [(0, 7), (7, 7), (8, 9), (31, 0)].map(|(a, b)| (id(a, 200), id(b, 8))) {
            assert_eq!(OpId(one).cmp(&OpId(other)), one.cmp(&other));
            assert_eq!(OpId(other).cmp(&OpId(one)), other.cmp(&one));
        }
        assert_eq!(OpId(id(3, 9)).cmp(&OpId(id(3, 9))), std::cmp::Ordering::Equal);
    }

    #[test]
    fn contexts_keep_hashes_apart() {
        assert_ne!(hash("one", &[b"x"]), hash("two", &[b"x"]));
    }
}
