//! Frames on a byte stream: a length and as many bytes of postcard. Pure: bytes in, messages out.
//!
//! ```text
//! ┌───────────────┬──────────────────────────┐
//! │ length u32 LE │ postcard of one message  │   1 <= length <= FRAME_BYTES_MAX
//! └───────────────┴──────────────────────────┘
//! ```
//! Both the channel to the guest ([`crate::guest`]) and the control socket of a machine
//! ([`crate::control`]) speak in these frames. The other side is taken for hostile: a length over the bound
//! or bytes that are no message end the stream with an error, nothing is allocated on its word alone.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest payload of a frame in bytes.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;

/// Bytes of the length that opens a frame.
const PREFIX_BYTES: usize = 4;

/// Why a stream of frames cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced length is zero or over the bound.
    #[error("a frame of {announced} bytes was announced, the bound is {FRAME_BYTES_MAX}")]
    Length {
        /// What the other side announced (or what a message of ours would have needed).
        announced: usize,
    },
    /// The payload is not a message of this protocol.
    #[error("a frame of {length} bytes holds no known message: {detail}")]
    Payload {
        /// Length of the payload.
        length: usize,
        /// What the decoder said.
        detail: String,
    },
}

/// One message as a frame.
pub fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; PREFIX_BYTES];
    frame = postcard::to_extend(message, frame).map_err(|error| FrameError::Payload {
        length: 0,
        detail: error.to_string(),
    })?;
    let length = frame.len() - PREFIX_BYTES;
    if length == 0 || length > FRAME_BYTES_MAX {
        return Err(FrameError::Length { announced: length });
    }
    frame[..PREFIX_BYTES].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(frame)
}

/// Puts the pieces of a stream together and takes messages off its front.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    taken: usize,
}

impl Decoder {
    /// Adds bytes as they were read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.taken > 0 {
            self.buffer.drain(..self.taken);
            self.taken = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; `None` when more bytes are needed. After an error the stream is of no use.
    pub fn take<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let rest = &self.buffer[self.taken..];
        let Some((prefix, body)) = rest.split_first_chunk::<PREFIX_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*prefix) as usize;
        if length == 0 || length > FRAME_BYTES_MAX {
            return Err(FrameError::Length { announced: length });
        }
        let Some(payload) = body.get(..length) else {
            return Ok(None);
        };
        let (message, left) = postcard::take_from_bytes(payload).map_err(|error| FrameError::Payload {
            length,
            detail: error.to_string(),
        })?;
        if !left.is_empty() {
            return Err(FrameError::Payload {
                length,
                detail: format!("{} bytes too many", left.len()),
            });
        }
        self.taken += PREFIX_BYTES + length;
        Ok(Some(message))
    }

    /// Bytes that wait for the rest of their frame. It never exceeds a frame and what one `push` added.
    pub fn waiting(&self) -> usize {
        self.buffer.len() - self.taken
    }
}
