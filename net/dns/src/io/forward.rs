//! Passing a question on to other servers: one after the other, each with a limit, from a fresh port with a
//! fresh id, so that an answer cannot be forged from afar.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_server::net::xfer::Protocol;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// How long one server may take.
const WAIT: Duration = Duration::from_secs(2);
/// Servers that are tried for one question.
pub(crate) const UPSTREAMS_MAX: usize = 4;
/// Datagrams that are no answer to ours before we give a server up.
const STRAYS_MAX: usize = 16;

/// Asks the servers in order; `None` when none answered. The reply carries the id of the query.
pub(crate) async fn forward(query: &[u8], protocol: Protocol, upstreams: &[SocketAddr]) -> Option<Vec<u8>> {
    let question_end = question_end(query)?;
    for upstream in upstreams.iter().take(UPSTREAMS_MAX) {
        let mut ours = query.to_vec();
        let id: [u8; 2] = rand::random();
        ours[..2].copy_from_slice(&id);
        let asked = async {
            match protocol {
                Protocol::Udp => over_udp(&ours, question_end, *upstream).await,
                _ => over_tcp(&ours, question_end, *upstream).await,
            }
        };
        match tokio::time::timeout(WAIT, asked).await {
            Ok(Ok(mut reply)) => {
                reply[..2].copy_from_slice(&query[..2]);
                return Some(reply);
            }
            Ok(Err(error)) => tracing::debug!(%upstream, %error, "a DNS server could not be asked"),
            Err(_) => tracing::debug!(%upstream, "a DNS server did not answer in time"),
        }
    }
    None
}

async fn over_udp(query: &[u8], question_end: usize, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match upstream {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut reply = vec![0; usize::from(u16::MAX)];
    for _ in 0..STRAYS_MAX {
        let length = socket.recv(&mut reply).await?;
        if is_answer(&reply[..length], query, question_end) {
            reply.truncate(length);
            return Ok(reply);
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "only answers to other questions came",
    ))
}

async fn over_tcp(query: &[u8], question_end: usize, upstream: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(query.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    if is_answer(&reply, query, question_end) {
        Ok(reply)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the answer is to another question",
        ))
    }
}

/// An answer has our id and our question, letter for letter.
fn is_answer(reply: &[u8], query: &[u8], question_end: usize) -> bool {
    reply.len() >= question_end
        && reply[..2] == query[..2]
        && reply[2] & 0x80 != 0
        && reply[4..6] == [0, 1]
        && reply[12..question_end] == query[12..question_end]
}

/// Where the one question of a query ends; `None` if its name is not plain labels.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match usize::from(*query.get(at)?) {
            0 => break,
            length @ 1..=63 => at += 1 + length,
            _ => return None,
        }
    }
    let end = at + 1 + 4;
    (end <= query.len()).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_with_another_id_or_to_another_question_is_none() {
        let query = *b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x03fog\0\0\x01\0\x01";
        let end = question_end(&query).unwrap();
        let mut reply = query;
        reply[2] |= 0x80;
        assert!(is_answer(&reply, &query, end));
        for (at, value) in [
            (0, 0x13),
            (1, 0),
            (2, 0x01),
            (5, 2),
            (13, b'b'),
            (13, b'A'),
            (query.len() - 3, 28),
        ] {
            let mut other = reply;
            other[at] = value;
            assert!(!is_answer(&other, &query, end), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn the_end_of_any_question_is_inside_it(query in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(end) = question_end(&query) {
                prop_assert!(end <= query.len());
                prop_assert!(!is_answer(&query[..end - 1], &query, end));
            }
        }
    }
}
