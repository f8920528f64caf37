//! How fast a replica takes live account-signed ops, against the bare check of their signatures in batches of 256:
//! `cargo run --release -p ledger --example receive [OPS]`. Nothing is folded or stored.

use std::time::Instant;

use ledger::admit::{Verify, command_checks};
use ledger::command::accounts::OpenAccount;
use ledger::command::{Body, Command};
use ledger::genesis::{Genesis, Invitation};
use ledger::key::{Check, SecretKey, verify_all};
use ledger::op::Op;
use ledger::replica::{Output, Replica, Setup};
use ledger::report::Carry;

const NOW_MS: u64 = 1_800_000_000_000;

/// Frames given at once.
const FRAMES: usize = 512;

/// Signatures in a batch of the reference.
const BATCH: usize = 256;

const TURNS: usize = 5;

fn secret(number: u64) -> SecretKey {
    let mut seed = [5; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(seed)
}

fn open(number: u64) -> Replica {
    let key = secret(number);
    let genesis = Genesis {
        name: "receive".into(),
        admins: vec![secret(0).public()],
        admins_needed: 1,
        witnesses: Default::default(),
        created_ms: NOW_MS,
        salt: [1; 16],
    };
    let invitation = Invitation {
        genesis: genesis.clone(),
        node: key.node_id(),
        admin: secret(0).public(),
        peers: Vec::new(),
    };
    let setup = Setup {
        genesis,
        invitation: invitation.sign(&secret(0)),
        secret: key,
        incarnation: number,
        seed: [number as u8; 32],
        verify: Verify::Real,
    };
    Replica::open(setup, Vec::new(), NOW_MS)
        .expect("the invitation is good")
        .0
}

/// What an author sends to its only peer, op by op.
fn history(count: usize) -> (Replica, Vec<Vec<u8>>) {
    let mut author = open(1);
    let opening: Vec<Op> = author.log().iter().cloned().collect();
    let run = ledger::sync::Run {
        live: true,
        chain: author.chain(),
        first: 0,
        previous: ledger::id::OpId([0; 32]),
        bodies: vec![opening[0].bytes().to_vec()],
        signature: opening[0].signature().expect("an own op is signed"),
    };
    let mut frames = vec![ledger::sync::Frame::Run(run).encode()];
    author.peer_up(secret(2).node_id(), NOW_MS);
    for index in 0..count as u64 {
        // As in a day's traffic, a person does some things in a row.
        let key = secret(1000 + index / 16);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&index.to_le_bytes());
        let command = Command {
            key: key.public(),
            nonce,
            not_after_ms: NOW_MS + 3_600_000,
            after: Vec::new(),
            body: Body::from(OpenAccount {
                name: format!("person-{index:056}"),
            }),
        };
        let command = command.sign(author.network(), &key).bytes().to_vec();
        let (_, outputs) = author
            .append(vec![Carry { command }.into()], NOW_MS)
            .expect("it is good");
        frames.extend(outputs.into_iter().filter_map(|output| match output {
            Output::Send { frame, .. } => Some(frame),
            _ => None,
        }));
    }
    (author, frames)
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|count| count.parse().ok())
        .unwrap_or(20_000);
    let (author, frames) = history(count);
    let checks: Vec<Check> = author
        .log()
        .iter()
        .flat_map(|op| {
            let commands = command_checks(author.network(), op).expect("they are well formed");
            op.check().into_iter().chain(commands)
        })
        .collect();
    let (mut ours, mut bare, mut one_by_one) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let begin = Instant::now();
        for batch in checks.chunks(BATCH) {
            assert!(verify_all(batch, [3; 32]).iter().all(|holds| *holds));
        }
        bare.push(begin.elapsed());
        for at_once in [FRAMES, 1] {
            if at_once == 1 && turn > 0 {
                continue;
            }
            let mut replica = open(2);
            replica.peer_up(author.node(), NOW_MS);
            let begin = Instant::now();
            for batch in frames.chunks(at_once) {
                let batch = batch.iter().map(|frame| (author.node(), frame.clone())).collect();
                std::hint::black_box(replica.receive_all(batch, NOW_MS));
            }
            let took = begin.elapsed();
            assert_eq!(replica.log().len(), count + 2, "all entered, and its own");
            if at_once == 1 { &mut one_by_one } else { &mut ours }.push(took);
        }
    }
    let rate = |times: &mut Vec<std::time::Duration>| {
        times.sort_unstable();
        count as f64 / times[times.len() / 2].as_secs_f64()
    };
    let (ours, bare, single) = (rate(&mut ours), rate(&mut bare), rate(&mut one_by_one));
    println!(
        "{count} ops, {:.2} signatures each: {FRAMES} frames at once {ours:.0}/s, one by one {single:.0}/s; bare checks in batches of {BATCH} {bare:.0}/s; ratio {:.2}",
        checks.len() as f64 / count as f64,
        ours / bare
    );
}
