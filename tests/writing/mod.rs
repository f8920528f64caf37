//! Who writes to a node till it dies, and remembers what was acknowledged.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use ledger::command::accounts::OpenAccount;
use ledger::command::{Body, Command};
use ledger::id::NetworkId;
use ledger::key::SecretKey;

/// Opens one account after the other, each with `wait`, until the node is gone: the names that were acknowledged,
/// and whether one was under way at the end.
pub(crate) fn write(
    address: SocketAddr,
    network: NetworkId,
    round: usize,
    writer: usize,
    wait: &str,
) -> Result<(Vec<String>, bool)> {
    let mut answered = Vec::new();
    for number in 0.. {
        let name = format!("r{round}-w{writer}-{number}");
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("{error}"))?;
        let secret = SecretKey::from_seed(seed);
        let not_after_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64 + 60_000;
        let body = Body::OpenAccount(OpenAccount { name: name.clone() });
        let command = Command {
            key: secret.public(),
            nonce: [0; 16],
            not_after_ms,
            after: Vec::new(),
            body,
        };
        let bytes = command.sign(network, &secret).bytes().to_vec();
        let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2)) else {
            return Ok((answered, false));
        };
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let head = format!(
            "POST /v1/commands?wait={wait} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\
             content-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        let mut answer = String::new();
        let sent = stream
            .write_all(head.as_bytes())
            .and_then(|()| stream.write_all(&bytes));
        let read = sent.and_then(|()| stream.read_to_string(&mut answer));
        if read.is_err() || !answer.starts_with("HTTP/1.1 2") {
            return Ok((answered, true));
        }
        answered.push(name);
    }
    Ok((answered, false))
}
