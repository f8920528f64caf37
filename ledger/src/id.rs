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

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

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
    /// Content outside the log: an image's manifest, a build's context.
    Digest;
    /// A recovery of the witnesses: the hash of its bytes under the network's id.
    RecoveryId;
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

made_by_command!(AccountId, AgentId, BuildId, InstanceId);

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
    fn contexts_keep_hashes_apart() {
        assert_ne!(hash("one", &[b"x"]), hash("two", &[b"x"]));
    }
}
