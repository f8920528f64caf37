//! What a peer can make a replica do in vain is bounded, and no honest chain stalls for it.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::admit::Verify;
use ledger::clock::Hlc;
use ledger::entry::Entry;
use ledger::genesis::SignedInvitation;
use ledger::id::OpId;
use ledger::key::Signature;
use ledger::limbo::{BYTES_MAX, PEER_BYTES_MAX};
use ledger::op::{Body, Op, Slot};
use ledger::replica::{Output, Replica};
use ledger::report::Report;
use ledger::sync::{Frame, Run};
use scene::{Author, START_MS, admitted, carry, disconnected, live, network, node, open, run, secret, setup};

fn entry(size: usize) -> Entry {
    Entry {
        kind: 999,
        version: 1,
        bytes: vec![7; size],
    }
}

#[test]
fn a_chain_that_was_cut_anew_goes_on_with_a_signature_for_what_waits() {
    let (mut author, first) = Author::opened(2);
    let mut ops = vec![first];
    ops.extend((0..2).map(|_| author.write(vec![], vec![entry(30_000)])));
    ops.push(author.say("small"));
    ops.push(author.say("rest"));
    let (mut replica, _) = open(1, 1, vec![]);
    replica.peer_up(node(3), START_MS);
    replica.peer_up(node(4), START_MS);
    // Only the last one's signature comes, and so much without one does not enter.
    replica.receive(node(3), &run(&ops[..4]), START_MS);
    let stopped = replica.log().next(&author.chain) as usize;
    assert!(stopped < 4, "the bound holds");
    let outputs = replica.receive(node(4), &run(&ops[..=stopped]), START_MS);
    assert_eq!(
        admitted(&outputs).len(),
        4 - stopped,
        "its own signature was wanted"
    );
    replica.receive(node(4), &run(&ops[4..]), START_MS);
    assert_eq!(replica.log().vector().next(&author.chain), 5);
    assert_eq!(replica.waiting(), (0, 0), "nothing stays behind");
}

#[test]
fn what_waits_is_counted_as_it_lies_in_memory() {
    let (mut replica, _) = Replica::open(setup(1, 1, Verify::Trusting), vec![], START_MS).unwrap();
    let empty = Entry {
        kind: 9,
        version: 1,
        bytes: vec![],
    };
    let body = Body {
        hlc: Hlc::at_ms(START_MS),
        dependencies: vec![],
        entries: vec![empty; 64],
    };
    for number in 2..10u8 {
        replica.peer_up(node(number), START_MS);
        for round in 0..30u64 {
            let run = Run {
                live: false,
                chain: Author::new(number).chain,
                first: 1 + round * 10_000,
                previous: OpId([1; 32]),
                bodies: vec![body.encode(); 240],
                signature: Signature([0; 64]),
            };
            replica.receive(node(number), &Frame::Run(run).encode(), START_MS);
        }
    }
    let (ops, bytes) = replica.waiting();
    let held = ops * (body.encode().len() + 64 * size_of::<Entry>());
    assert!(held <= BYTES_MAX, "{ops} ops hold {held} bytes");
    assert!(bytes >= held, "{bytes} counted of {held}");
}

#[test]
fn what_came_beside_ops_that_wait_already_is_counted() {
    let (mut replica, _) = Replica::open(setup(1, 1, Verify::Trusting), vec![], START_MS).unwrap();
    replica.peer_up(node(2), START_MS);
    let body = |index: u64| {
        let hlc = Hlc::at_ms(START_MS - 10_000 + index);
        let (dependencies, entries) = (vec![], vec![entry(150)]);
        Body {
            hlc,
            dependencies,
            entries,
        }
        .encode()
    };
    // Each run repeats all of the one before and brings one op more.
    for round in 0..30u64 {
        let run = Run {
            live: false,
            chain: Author::new(2).chain,
            first: 1,
            previous: OpId([1; 32]),
            bodies: (0..200 + round).map(body).collect(),
            signature: Signature([0; 64]),
        };
        replica.receive(node(2), &Frame::Run(run).encode(), START_MS);
    }
    let (ops, bytes) = replica.waiting();
    assert_eq!(ops, 229);
    let pointers: usize = (1..30).map(|round| (200 + round) * size_of::<Op>()).sum();
    assert!(
        bytes >= pointers && bytes <= PEER_BYTES_MAX,
        "{bytes} of {pointers}"
    );
}

#[test]
fn a_fork_at_the_first_place_is_proved_by_who_holds_it_and_told_to_who_refused_a_branch() {
    let (_, real) = Author::opened(2);
    let wrong = Author::new(2).draft(vec![], vec![scene::opening(3)]);
    let (mut holds, _) = open(1, 1, vec![]);
    let (mut refused, _) = open(5, 1, vec![]);
    for replica in [&mut holds, &mut refused] {
        for number in [3, 4] {
            replica.peer_up(node(number), START_MS);
        }
    }
    // An opening with another node's invitation is refused, is not kept, and so proves nothing.
    assert!(disconnected(&refused.receive(node(3), &live(&wrong), START_MS)).is_some());
    assert_eq!(
        admitted(&refused.receive(node(4), &live(&real), START_MS)).len(),
        1
    );
    // Where the real one stands it proves the fork: the node signed both.
    holds.receive(node(4), &live(&real), START_MS);
    let outputs = holds.receive(node(3), &live(&wrong), START_MS);
    let proof = outputs.iter().find_map(|output| match output {
        Output::Forked(proof) => Some(proof.clone()),
        _ => None,
    });
    let outputs = refused.receive(node(4), &Frame::Fork(proof.unwrap()).encode(), START_MS);
    assert_eq!(disconnected(&outputs), None);
    for replica in [&holds, &refused] {
        assert_eq!(replica.log().fork_seq(&real.slot().chain), Some(0));
        assert_eq!(replica.log().next(&real.slot().chain), 0);
    }
}

#[test]
fn an_admin_is_named_once() {
    let mut genesis = scene::genesis();
    genesis.admins.push(genesis.admins[0]);
    let invitation = ledger::genesis::Invitation {
        genesis,
        node: node(2),
        admin: scene::admin().public(),
        peers: vec![],
    };
    let bytes = invitation.sign(&scene::admin()).bytes().to_vec();
    assert!(SignedInvitation::decode(&bytes).is_err());
}

#[test]
fn a_forged_command_costs_hardly_more_than_a_good_one() {
    let forged = |frames: &[Run]| {
        let mut frames = frames.to_vec();
        let mut slot = Slot {
            chain: frames[0].chain,
            seq: 1,
            previous: frames[0].previous,
        };
        // In the middle of the first frame, and signed for by the node.
        let half = frames[0].bodies.len() / 2;
        let mut body = Body::decode(&frames[0].bodies[half]).unwrap();
        *body.entries[20].bytes.last_mut().unwrap() ^= 1;
        frames[0].bodies[half] = body.encode();
        for body in &frames[0].bodies {
            slot.previous = slot.id(network(), body);
            slot.seq += 1;
        }
        frames[0].signature = secret(2).sign(&slot.previous.0);
        frames
    };
    let (mut author, first) = Author::opened(2);
    let entries = |nonce| {
        (nonce..nonce + 40)
            .map(|nonce| Report::from(carry(nonce)).to_entry())
            .collect()
    };
    let frames = (0..4).map(|frame| {
        let ops: Vec<Op> = (0..5)
            .map(|op| author.write(vec![], entries(frame * 200 + op * 40)))
            .collect();
        scene::run_of(&ops, false)
    });
    let good: Vec<Run> = frames.collect();
    let bad = forged(&good);
    let took = |frames: &[Run], dropped: bool| {
        let once = || {
            let (mut replica, _) = open(1, 1, vec![]);
            replica.peer_up(node(2), START_MS);
            replica.receive(node(2), &live(&first), START_MS);
            let frames = frames
                .iter()
                .map(|run| (node(2), Frame::Run(run.clone()).encode()))
                .collect();
            let begin = std::time::Instant::now();
            let outputs = replica.receive_all(frames, START_MS);
            let took = begin.elapsed();
            assert_eq!(
                disconnected(&outputs).is_some(),
                dropped,
                "{:?}",
                replica.counters()
            );
            took
        };
        (0..3).map(|_| once()).min().unwrap()
    };
    let (good, bad) = (took(&good, false), took(&bad, true));
    assert!(bad < 3 * good, "{bad:?}, where good ones take {good:?}");
}
