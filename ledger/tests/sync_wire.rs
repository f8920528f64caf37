//! What an op costs on the wire, in each form.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::admit::Verify;
use ledger::command::{Body, Command};
use ledger::entry::Entry;
use ledger::op::Op;
use ledger::replica::{Output, Replica};
use ledger::report::{Carry, Report};
use scene::{Author, START_MS, admitted, node, run};

const PAYLOAD_BYTES: usize = 64;

/// A report of 64 bytes.
fn report() -> Entry {
    Entry {
        kind: 0x7ff,
        version: 1,
        bytes: vec![7; PAYLOAD_BYTES],
    }
}

/// A command of 64 bytes, signed by an account.
fn command(nonce: u64) -> Entry {
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

/// Ops of one dependency each, far along in a chain, and the replica that hands them on.
fn check(what: &str, entry: impl Fn(u64) -> Entry, live_max: usize, in_run_max: usize) {
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
    let together = together.unwrap();

    let whole = scene::live(&op).len();
    let in_run = run(&ops[1..]).len() / (ops.len() - 1);
    let body = op.bytes().len();
    println!(
        "{what}: body {body}, live {live}, live and in full {whole}, live ten at once {together} each, in a run {in_run}"
    );
    assert!(live <= live_max, "{what}: live {live}");
    assert!(together <= in_run_max, "{what}: live at once {together}");
    assert!(in_run <= in_run_max, "{what}: in a run {in_run}");
}

#[test]
fn a_node_report_of_64_bytes_is_small_on_the_wire() {
    check("node report", |_| report(), 180, 110);
}

#[test]
fn an_account_signed_command_of_64_bytes_is_small_on_the_wire() {
    check("account-signed command", command, 320, 240);
}
