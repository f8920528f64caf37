//! What an op carries: `{kind, version, length, bytes}`, so that a node that does not know a kind can
//! still keep and relay it.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, Writer};

/// Bytes of one entry's content, at most.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;

/// A framed entry. What its bytes mean is for [`crate::command`] and [`crate::report`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What the bytes are: below 0x100 a command's body, 0x100 and above a node's report.
    pub kind: u16,
    /// A new field is a new version of its kind.
    pub version: u8,
    /// The canonical content.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// Appends the frame.
    pub fn write(&self, writer: &mut Writer) {
        writer
            .varint(u64::from(self.kind))
            .varint(u64::from(self.version))
            .sized(&self.bytes);
    }

    /// Reads a frame.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kind: reader.varint(u64::from(u16::MAX), "an entry's kind")? as u16,
            version: reader.varint(u64::from(u8::MAX), "an entry's version")? as u8,
            bytes: reader.sized(ENTRY_BYTES_MAX, "an entry's content")?.to_vec(),
        })
    }
}

/// Kind of [`crate::report::Carry`].
pub(crate) const CARRY: u16 = 0x100;

impl Entry {
    /// Whether it carries a signed command.
    pub fn is_carry(&self) -> bool {
        (self.kind, self.version) == (CARRY, 1)
    }

    /// The bytes of the command that it carries.
    pub fn carried(&self) -> Result<Vec<u8>, DecodeError> {
        let carry: crate::report::Carry = crate::codec::decode(&self.bytes, ENTRY_BYTES_MAX, "Carry")?;
        Ok(carry.command)
    }
}

/// The entry is of a kind or version that this build does not know, or its content is not of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// No such kind here.
    #[error("kind {kind} version {version} is not known to this build")]
    Unknown {
        /// The kind.
        kind: u16,
        /// The version.
        version: u8,
    },
    /// The content does not decode, or breaks a bound.
    #[error("the content of kind {kind}: {source}")]
    Content {
        /// The kind.
        kind: u16,
        /// What is wrong.
        source: DecodeError,
    },
}

/// Declares an enum of bodies: a variant, its content type, its kind and newest version. One list makes the
/// encoder, the decoder and the names agree.
///
/// `after { 1: V1 => up }` names older versions: their content type, and the pure function to the newest
/// content. An old entry keeps its bytes and so the op its id; only what reads it sees the newest content.
/// What is written is always the newest version.
macro_rules! bodies {
    ($(#[$doc:meta])* $vis:vis enum $name:ident { $($(#[$vdoc:meta])* $variant:ident($content:ty) = $kind:literal v $version:literal
        $(after { $($old:literal: $former:ty => $up:path),+ })?,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        $vis enum $name { $($(#[$vdoc])* $variant($content),)* }

        impl $name {
            /// All kinds with each version that is read.
            pub const KINDS: &[(u16, u8)] = &[$($($(($kind, $old),)+)? ($kind, $version),)*];

            /// All kinds with the version that is written.
            pub const NEWEST: &[(u16, u8)] = &[$(($kind, $version)),*];

            /// Whether this build knows a version of a kind.
            pub fn knows(kind: u16, version: u8) -> bool {
                Self::KINDS.contains(&(kind, version))
            }

            /// Its kind's name, as people see it in `form ops log`.
            pub fn name(&self) -> &'static str {
                match self { $($name::$variant(_) => stringify!($variant),)* }
            }

            /// Its kind and version.
            pub fn kind(&self) -> (u16, u8) {
                match self { $($name::$variant(_) => ($kind, $version),)* }
            }

            /// The number of its kind.
            pub fn kind_number(&self) -> u16 {
                match self { $($name::$variant(_) => $kind,)* }
            }

            /// The name of the kind of a number, if this build knows it.
            #[allow(unreachable_patterns, reason = "a kind may have several versions")]
            pub fn name_of(kind: u16) -> Option<&'static str> {
                match kind {
                    $($kind => Some(stringify!($variant)),)*
                    _ => None,
                }
            }

            /// Framed for an op.
            pub fn to_entry(&self) -> $crate::entry::Entry {
                match self { $($name::$variant(content) => $crate::entry::Entry {
                    kind: $kind, version: $version, bytes: $crate::codec::encode(content),
                },)* }
            }

            /// The content as JSON-ready values, for people.
            pub fn describe<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $($name::$variant(content) => serde::Serialize::serialize(content, serializer),)* }
            }

            /// Reads an entry, and checks the bounds of its content. An older version is read as the newest.
            pub fn from_entry(entry: &$crate::entry::Entry) -> Result<Self, $crate::entry::EntryError> {
                let content = |source| $crate::entry::EntryError::Content { kind: entry.kind, source };
                match (entry.kind, entry.version) {
                    $(($kind, $version) => {
                        let value: $content = $crate::codec::decode(
                            &entry.bytes, $crate::entry::ENTRY_BYTES_MAX, stringify!($variant),
                        ).map_err(content)?;
                        value.check().map_err(content)?;
                        Ok($name::$variant(value))
                    }
                    $($(($kind, $old) => {
                        let former: $former = $crate::codec::decode(
                            &entry.bytes, $crate::entry::ENTRY_BYTES_MAX, stringify!($variant),
                        ).map_err(content)?;
                        let value: $content = $up(former);
                        value.check().map_err(content)?;
                        Ok($name::$variant(value))
                    })+)?)*
                    (kind, version) => Err($crate::entry::EntryError::Unknown { kind, version }),
                }
            }
        }

        $(impl From<$content> for $name {
            fn from(content: $content) -> Self { $name::$variant(content) }
        })*
    };
}
pub(crate) use bodies;
