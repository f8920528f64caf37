//! The canonical encoding: one value, one sequence of bytes.
//!
//! Values are encoded by postcard (varints, length-prefixed sequences; <https://postcard.jamesmunns.com>).
//! postcard by itself is not canonical: it accepts trailing bytes and padded varints. [`decode`] therefore
//! accepts only what re-encodes to the same bytes. The framing of an op and a command, which is hashed and
//! kept verbatim, is written and read by [`Writer`] and [`Reader`]; their varint is LEB128 without padding.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes were not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They end too early.
    #[error("the bytes end in the middle of {0}")]
    Truncated(&'static str),
    /// There is more than the value.
    #[error("{0} bytes follow the end of the value")]
    Trailing(usize),
    /// A value has a shorter encoding than this one.
    #[error("{0} is not in its canonical form")]
    NotCanonical(&'static str),
    /// A size is over its bound.
    #[error("{what} has {size}, at most {max} is allowed")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The bound.
        max: u64,
    },
    /// A value has no meaning.
    #[error("{0} has no meaning here")]
    Meaningless(&'static str),
}

/// The canonical bytes of `value`.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("values of the ledger have a known length and encode into memory")
}

/// Reads a value of at most `max` bytes; `what` names it in the error.
pub fn decode<T: Serialize + DeserializeOwned>(
    bytes: &[u8],
    max: usize,
    what: &'static str,
) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLarge {
            what,
            size: bytes.len() as u64,
            max: max as u64,
        });
    }
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).map_err(|error| match error {
        postcard::Error::DeserializeUnexpectedEnd => DecodeError::Truncated(what),
        _ => DecodeError::Meaningless(what),
    })?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing(rest.len()));
    }
    if !encodes_to(&value, bytes) {
        return Err(DecodeError::NotCanonical(what));
    }
    Ok(value)
}

/// Whether `bytes` are the canonical ones of `value`: encodes without writing.
fn encodes_to<T: Serialize>(value: &T, bytes: &[u8]) -> bool {
    postcard::serialize_with_flavor(value, Same { rest: bytes }) == Ok(true)
}

/// Takes encoded bytes and compares them with those that are expected.
struct Same<'a> {
    rest: &'a [u8],
}

impl postcard::ser_flavors::Flavor for Same<'_> {
    type Output = bool;

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let rest = self.rest.strip_prefix(bytes);
        self.rest = rest.ok_or(postcard::Error::SerializeBufferFull)?;
        Ok(())
    }

    fn finalize(self) -> postcard::Result<bool> {
        Ok(self.rest.is_empty())
    }
}

/// Writes framing.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Bytes as they are: the reader knows how many.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// An unsigned number as LEB128.
    pub fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.bytes.push((value as u8 & 0x7f) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
        self
    }

    /// The length as a varint, then the bytes.
    pub fn sized(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64).raw(bytes)
    }
}

/// Reads framing; every read names what it reads.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// `count` bytes as they are.
    pub fn raw(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) = self
            .rest
            .split_at_checked(count)
            .ok_or(DecodeError::Truncated(what))?;
        self.rest = rest;
        Ok(head)
    }

    /// An array of known length.
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let bytes = self.raw(N, what)?;
        Ok(bytes.try_into().expect("raw gave N bytes"))
    }

    /// A number of at most `max`.
    pub fn varint(&mut self, max: u64, what: &'static str) -> Result<u64, DecodeError> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>(what)?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::NotCanonical(what));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                if byte == 0 && shift > 0 {
                    return Err(DecodeError::NotCanonical(what));
                }
                if value > max {
                    return Err(DecodeError::TooLarge {
                        what,
                        size: value,
                        max,
                    });
                }
                return Ok(value);
            }
        }
        Err(DecodeError::NotCanonical(what))
    }

    /// A length of at most `max`, then that many bytes.
    pub fn sized(&mut self, max: usize, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = self.varint(max as u64, what)?;
        self.raw(length as usize, what)
    }

    /// Nothing may follow.
    pub fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing(self.rest.len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_padded_number_is_refused() {
        assert_eq!(
            Reader::new(&[0x80, 0x00]).varint(9, "n"),
            Err(DecodeError::NotCanonical("n"))
        );
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]).varint(u64::MAX, "n"),
            Err(DecodeError::NotCanonical("n"))
        );
    }

    #[test]
    fn postcard_with_a_tail_or_padding_is_refused() {
        assert_eq!(decode::<u32>(&[5, 0], 9, "n"), Err(DecodeError::Trailing(1)));
        assert_eq!(
            decode::<u32>(&[0x85, 0x00], 9, "n"),
            Err(DecodeError::NotCanonical("n"))
        );
        assert!(matches!(
            decode::<u32>(&[5; 10], 9, "n"),
            Err(DecodeError::TooLarge { .. })
        ));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(value: u64, bytes: Vec<u8>) {
            let mut writer = Writer::new();
            writer.varint(value).sized(&bytes);
            let written = writer.into_bytes();
            let mut reader = Reader::new(&written);
            prop_assert_eq!(reader.varint(u64::MAX, "n"), Ok(value));
            prop_assert_eq!(reader.sized(1 << 20, "b"), Ok(&bytes[..]));
            prop_assert_eq!(reader.end(), Ok(()));
        }

        #[test]
        fn a_number_that_reads_has_one_encoding(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint(u64::MAX, "n") {
                let mut writer = Writer::new();
                writer.varint(value);
                let read = bytes.len() - reader.rest().len();
                prop_assert_eq!(writer.into_bytes(), &bytes[..read]);
            }
        }
    }
}
