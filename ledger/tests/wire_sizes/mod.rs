//! What an op of 64 bytes costs on the wire, in each form: for the test and for the bench.
#![allow(clippy::unwrap_used, reason = "what fails here should say where")]

use crate::scene::{self, Author, START_MS, admitted, node, run};
use ledger::admit::Verify;
use ledger::command::{Body, Command};
use ledger::entry::Entry;
use ledger::op::Op;
use ledger::replica::{Output, Replica};
use ledger::report::{Carry, Report};

const PAYLOAD_BYTES: usize = 64;

/// A report of 64 bytes.
pub(crate) fn report(_nonce: u64) -> Entry {
    Entry {
        kind: 0x7ff,
        version: 1,
        bytes: vec![7; PAYLOAD_BYTES],
    }
}

/// A command of 64 bytes, signed by an account.
pub(crate) fn command(nonce: u64) -> Entry {
    let key = scene::secret(200);
    let mut bytes = [0xff; 16];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    let body = ledger::command::accounts::OpenAccount {
        name: "a".repeat(PAYLOAD_BYTES - 1),
    };
    let body = Body::from(body);
    assert_eq!(body.to_entry().bytes.len(), PAYLOAD_BYTES);
    let command = Command {
        key: key.public(),
        nonce: bytes,
        not_after_ms: START_MS + 3_600_000,
        after: Vec::new(),
        body,
    };
    let command = command.sign(scene::network(), &key).bytes().to_vec();
    Report::from(Carry { command }).to_entry()
}

/// Bytes for an op.
#[derive(Debug)]
#[allow(dead_code, reason = "each user has its part of it")]
pub(crate) struct Sizes {
    /// Its body alone.
    pub(crate) body: usize,
    /// Live, and as it would be without what the peer is known to hold.
    pub(crate) live: usize,
    pub(crate) live_in_full: usize,
    /// Live, ten that come together.
    pub(crate) together: usize,
    /// In a long run.
    pub(crate) in_run: usize,
}

/// Ops of one dependency each, far along in a chain, and the replica that hands them on.
pub(crate) fn sizes(entry: impl Fn(u64) -> Entry) -> Sizes {
    let (mut replica, _) = Replica::open(scene::setup(1, 1, Verify::Real), vec![], START_MS).unwrap();
    replica.peer_up(node(2), START_MS);
    replica.peer_up(node(3), START_MS);
    let (mut author, first) = Author::opened(2);
    let (mut other, other_first) = Author::opened(3);
    let mut named = other_first.id();
    let mut ops = vec![first];
    for index in 0..300 {
        ops.push(author.write(vec![named.into()], vec![entry(index)]));
        named = ops.last().unwrap().id();
    }
    other.hlc = author.hlc;
    replica.receive(node(3), &run(&[other_first]), START_MS);
    for part in ops.chunks(100) {
        replica.receive(node(2), &run(part), START_MS);
    }
    assert_eq!(replica.log().next(&author.chain), 301);

    // Live: what goes to the third peer.
    let op = author.write(vec![other.previous.into()], vec![entry(1000)]);
    let outputs = replica.receive(node(2), &scene::live(&op), START_MS);
    assert_eq!(admitted(&outputs).len(), 1);
    let sent: Vec<usize> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Send { to, frame } if *to == node(3) => Some(frame.len()),
            _ => None,
        })
        .collect();
    let [live] = sent[..] else { panic!("{sent:?}") };

    // Live, ten that come together.
    let more: Vec<Op> = (0..10)
        .map(|index| author.write(vec![author.previous.into()], vec![entry(2000 + index)]))
        .collect();
    let frames = more.iter().map(|op| (node(2), scene::live(op))).collect();
    let outputs = replica.receive_all(frames, START_MS);
    assert_eq!(admitted(&outputs).len(), 10);
    let together = outputs.iter().find_map(|output| match output {
        Output::Send { to, frame } if *to == node(3) => Some(frame.len() / 10),
        _ => None,
    });

    Sizes {
        body: op.bytes().len(),
        live,
        live_in_full: scene::live(&op).len(),
        together: together.unwrap(),
        in_run: run(&ops[1..]).len() / (ops.len() - 1),
    }
}
