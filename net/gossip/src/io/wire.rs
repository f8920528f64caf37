//! Reading and writing length-prefixed bytes with a bound. Memory grows with what arrives, never with what a
//! length claims.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How much is set aside before any byte of a body came.
const FIRST_ALLOCATION: usize = 16 << 10;

/// Why bytes could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the length says {claimed} bytes, at most {max} are taken")]
    Oversize { claimed: usize, max: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads `{ length: u32, bytes }`; `None` when the stream ends cleanly before the length.
pub(crate) async fn read_bytes<R: AsyncRead + Unpin>(
    stream: &mut R,
    max: usize,
) -> Result<Option<Vec<u8>>, ReadError> {
    let mut length = [0u8; 4];
    let mut have = 0;
    while have < length.len() {
        match stream.read(&mut length[have..]).await? {
            0 if have == 0 => return Ok(None),
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            n => have += n,
        }
    }
    let claimed = u32::from_be_bytes(length) as usize;
    if claimed > max {
        return Err(ReadError::Oversize { claimed, max });
    }
    let mut bytes = Vec::with_capacity(claimed.min(FIRST_ALLOCATION));
    stream.take(claimed as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < claimed {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(Some(bytes))
}

/// Writes `{ length: u32, bytes }` without flushing.
pub(crate) async fn write_bytes<W: AsyncWrite + Unpin>(stream: &mut W, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len())
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "over 4 GiB in one piece"))?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;
    use proptest::prelude::*;

    fn now<T>(future: impl Future<Output = T>) -> T {
        futures::executor::block_on(future)
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            let mut wire = Vec::new();
            now(write_bytes(&mut wire, &bytes)).unwrap();
            let mut cursor = Cursor::new(wire);
            prop_assert_eq!(now(read_bytes(&mut cursor, 70_000)).unwrap(), Some(bytes));
            prop_assert_eq!(now(read_bytes(&mut cursor, 70_000)).unwrap(), None);
        }

        #[test]
        fn any_bytes_at_all_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut cursor = Cursor::new(bytes);
            while let Ok(Some(body)) = now(read_bytes(&mut cursor, 128)) {
                prop_assert!(body.len() <= 128);
            }
        }
    }

    #[test]
    fn a_length_over_the_bound_is_refused_before_its_body() {
        let mut cursor = Cursor::new(u32::MAX.to_be_bytes().to_vec());
        assert!(matches!(
            now(read_bytes(&mut cursor, 10)),
            Err(ReadError::Oversize {
                claimed: 0xffff_ffff,
                max: 10
            })
        ));
    }

    #[test]
    fn a_body_cut_short_is_an_error_not_a_shorter_body() {
        let mut cursor = Cursor::new(vec![0, 0, 0, 9, 1, 2]);
        assert!(matches!(now(read_bytes(&mut cursor, 10)), Err(ReadError::Io(_))));
    }
}
