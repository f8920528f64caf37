//! Watches the bytes of a connection for requests whose length could be read in two ways. Pure.
//!
//! hyper takes such a request by its Transfer-Encoding and hides the Content-Length from us; we refuse it, for
//! whoever stands before or behind us may read it by the other one (request smuggling). The watcher follows
//! heads and bodies only so far as to know where the next head begins; hyper remains the one that parses. When
//! the two disagree, the watcher sees nonsense and refuses, and never lets anything in that hyper would not.
//!
//! ```text
//! head ─▶ body of a length ─▶ head        head: bounded; lines end with CR LF
//!   │ ╲─▶ chunk size ─▶ chunk ─▶ .. ─▶ trailer ─▶ head
//!   ╰───▶ through: after an upgrade, or when refused
//! ```

/// Longest head that is followed; hyper refuses earlier.
const HEAD_BYTES_MAX: usize = 128 << 10;
/// Longest line of a chunk's size or of a trailer.
const LINE_BYTES_MAX: usize = 16 << 10;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// Both lengths.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    BothLengths,
    /// More than one of them.
    #[error("the request has several Content-Length or Transfer-Encoding headers")]
    SeveralLengths,
    /// A length that is no plain number, or a coding other than chunked.
    #[error("the request's Content-Length or Transfer-Encoding is not understood")]
    UnclearLength,
    /// Bare line feeds, folded lines, control bytes.
    #[error("the head of the request has lines that do not end with CR LF, or folded lines")]
    Lines,
    /// The chunks are not what they say.
    #[error("the chunks of the request's body are malformed")]
    Chunks,
}

#[derive(Debug)]
enum State {
    Head(Vec<u8>),
    Body(u64),
    ChunkSize(Vec<u8>),
    Chunk(u64),
    ChunkEnd(u8),
    Trailer(Vec<u8>),
    Through,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    refused: Option<FramingError>,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            state: State::Head(Vec::new()),
            refused: None,
        }
    }
}

impl Framing {
    /// Why the connection is refused, once it is.
    pub fn refused(&self) -> Option<FramingError> {
        self.refused
    }

    /// What follows is no longer HTTP.
    pub fn pass_through(&mut self) {
        self.state = State::Through;
    }

    /// Follows the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let step = match &mut self.state {
                State::Through => return,
                State::Head(head) => {
                    let (byte, rest) = (bytes[0], &bytes[1..]);
                    bytes = rest;
                    head_byte(head, byte)
                }
                State::Body(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    *left -= taken as u64;
                    Ok((*left == 0).then(|| State::Head(Vec::new())))
                }
                State::ChunkSize(line) => {
                    let (byte, rest) = (bytes[0], &bytes[1..]);
                    bytes = rest;
                    line_byte(line, byte).and_then(|whole| {
                        if !whole {
                            return Ok(None);
                        }
                        match chunk_size(line)? {
                            0 => Ok(Some(State::Trailer(Vec::new()))),
                            size => Ok(Some(State::Chunk(size))),
                        }
                    })
                }
                State::Chunk(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[taken..];
                    *left -= taken as u64;
                    Ok((*left == 0).then_some(State::ChunkEnd(b'\r')))
                }
                State::ChunkEnd(expected) => {
                    let (byte, rest) = (bytes[0], &bytes[1..]);
                    bytes = rest;
                    match (*expected, byte) {
                        (b'\r', b'\r') => Ok(Some(State::ChunkEnd(b'\n'))),
                        (b'\n', b'\n') => Ok(Some(State::ChunkSize(Vec::new()))),
                        _ => Err(FramingError::Chunks),
                    }
                }
                State::Trailer(line) => {
                    let (byte, rest) = (bytes[0], &bytes[1..]);
                    bytes = rest;
                    line_byte(line, byte).map(|whole| {
                        whole.then(|| {
                            let empty = line.is_empty();
                            if empty {
                                State::Head(Vec::new())
                            } else {
                                State::Trailer(Vec::new())
                            }
                        })
                    })
                }
            };
            match step {
                Ok(None) => {}
                Ok(Some(next)) => self.state = next,
                Err(error) => {
                    self.refused = Some(error);
                    self.state = State::Through;
                }
            }
        }
    }
}

/// Adds a byte to a head; at its end, what follows.
fn head_byte(head: &mut Vec<u8>, byte: u8) -> Result<Option<State>, FramingError> {
    if head.is_empty() && matches!(byte, b'\r' | b'\n') {
        // Empty lines before a request are allowed.
        return Ok(None);
    }
    if byte == b'\n' && head.last() != Some(&b'\r') {
        return Err(FramingError::Lines);
    }
    if byte != b'\n' && head.last() == Some(&b'\r') {
        return Err(FramingError::Lines);
    }
    head.push(byte);
    if head.len() > HEAD_BYTES_MAX {
        // Not ours to judge: hyper refuses it for its size.
        return Ok(Some(State::Through));
    }
    if head.ends_with(b"\r\n\r\n") {
        after_head(head).map(Some)
    } else {
        Ok(None)
    }
}

/// What follows a whole head.
fn after_head(head: &[u8]) -> Result<State, FramingError> {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let (mut length, mut chunked) = (None, false);
    // The first line is the request's own.
    for line in lines.by_ref().skip(1).take_while(|line| !line.is_empty()) {
        if matches!(line[0], b' ' | b'\t') || line.contains(&0) {
            return Err(FramingError::Lines);
        }
        let colon = line
            .iter()
            .position(|byte| *byte == b':')
            .ok_or(FramingError::Lines)?;
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(plain_number(value)?).is_some() {
                return Err(FramingError::SeveralLengths);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(FramingError::UnclearLength);
            }
            if std::mem::replace(&mut chunked, true) {
                return Err(FramingError::SeveralLengths);
            }
        }
    }
    match (length, chunked) {
        (Some(_), true) => Err(FramingError::BothLengths),
        (None, true) => Ok(State::ChunkSize(Vec::new())),
        (Some(0) | None, false) => Ok(State::Head(Vec::new())),
        (Some(length), false) => Ok(State::Body(length)),
    }
}

fn plain_number(value: &[u8]) -> Result<u64, FramingError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok())
        .ok_or(FramingError::UnclearLength)
}

/// Adds a byte to a line; true at its end, the line then without CR LF.
fn line_byte(line: &mut Vec<u8>, byte: u8) -> Result<bool, FramingError> {
    match (byte, line.last()) {
        (b'\n', Some(b'\r')) => {
            line.pop();
            Ok(true)
        }
        (b'\n', _) | (_, Some(b'\r')) => Err(FramingError::Chunks),
        _ if line.len() >= LINE_BYTES_MAX => Err(FramingError::Chunks),
        _ => {
            line.push(byte);
            Ok(false)
        }
    }
}

fn chunk_size(line: &[u8]) -> Result<u64, FramingError> {
    let size = line
        .split(|byte| *byte == b';')
        .next()
        .unwrap_or_default()
        .trim_ascii();
    let plain = !size.is_empty() && size.len() <= 15 && size.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(size).ok().filter(|_| plain);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(FramingError::Chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(text: &str) -> Option<FramingError> {
        let mut whole = Framing::default();
        whole.feed(text.as_bytes());
        let mut bytewise = Framing::default();
        text.as_bytes().iter().for_each(|byte| bytewise.feed(&[*byte]));
        assert_eq!(whole.refused(), bytewise.refused(), "pieces must not matter");
        whole.refused()
    }

    #[test]
    fn a_request_that_can_be_read_in_two_ways_is_refused() {
        use FramingError as E;
        let post = |lines: &str| verdict(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        for (lines, expect) in [
            ("", None),
            ("Content-Length: 0\r\n", None),
            ("Transfer-Encoding: chunked\r\n", None),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Some(E::BothLengths),
            ),
            (
                "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
                Some(E::BothLengths),
            ),
            (
                "Transfer-Encoding : chunked\r\nContent-Length: 5\r\n",
                Some(E::BothLengths),
            ),
            (
                "Content-Length: 5\r\nContent-Length: 5\r\n",
                Some(E::SeveralLengths),
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
                Some(E::SeveralLengths),
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", Some(E::UnclearLength)),
            ("Transfer-Encoding: xchunked\r\n", Some(E::UnclearLength)),
            ("Content-Length: +5\r\n", Some(E::UnclearLength)),
            ("Content-Length: 5, 5\r\n", Some(E::UnclearLength)),
            ("Content-Length: 0x5\r\n", Some(E::UnclearLength)),
            ("Content-Length:\r\n", Some(E::UnclearLength)),
            ("X: a\n Content-Length: 5\r\n", Some(E::Lines)),
            ("X: a\r\n Transfer-Encoding: chunked\r\n", Some(E::Lines)),
            ("X: a\rContent-Length: 5\r\n", Some(E::Lines)),
            ("X: a\nContent-Length: 5\r\n", Some(E::Lines)),
            ("no colon\r\n", Some(E::Lines)),
        ] {
            assert_eq!(post(lines), expect, "{lines:?}");
        }
    }

    #[test]
    fn the_next_head_is_found_behind_any_body() {
        let bad = "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
        for before in [
            "GET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA;x=y\r\n0123456789\r\n00\r\nT: 1\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            assert_eq!(verdict(before), None);
            assert_eq!(
                verdict(&format!("{before}{bad}")),
                Some(FramingError::BothLengths),
                "{before:?}"
            );
        }
        // Inside a body it is only a body.
        let inside = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{bad}", bad.len());
        assert_eq!(verdict(&inside), None);
    }

    #[test]
    fn chunks_that_lie_are_refused() {
        let chunks = |text: &str| {
            verdict(&format!(
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{text}"
            ))
        };
        assert_eq!(chunks("5\r\nhello\r\n0\r\n\r\n"), None);
        for bad in [
            "5\r\nhelloX\r\n",
            "5\nhello\r\n",
            "-5\r\n",
            "\r\n",
            "fffffffffffffffff\r\n",
            "5 5\r\n",
            "0x5\r\n",
        ] {
            assert_eq!(chunks(bad), Some(FramingError::Chunks), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_followed(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            Framing::default().feed(&bytes);
        }

        #[test]
        fn pieces_do_not_matter(
            body in proptest::collection::vec(any::<u8>(), 0..200),
            cut in 0usize..400,
        ) {
            let mut text = format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
            text.extend(&body);
            text.extend(b"GET / HTTP/1.1\r\nX: a\nb\r\n\r\n");
            let (first, second) = text.split_at(cut.min(text.len()));
            let mut framing = Framing::default();
            framing.feed(first);
            framing.feed(second);
            prop_assert_eq!(framing.refused(), Some(FramingError::Lines));
        }
    }
}
