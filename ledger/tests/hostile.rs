//! A peer that floods, lies or sends garbage costs no more than the named bounds, and the others go on.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::admit::Verify;
use ledger::clock::{AHEAD_MS_MAX, Hlc};
use ledger::id::OpId;
use ledger::limbo::{BYTES_MAX, OPS_MAX, PEER_BYTES_MAX, PEER_OPS_MAX};
use ledger::op::Op;
use ledger::peers::{SERVED_BYTES_BURST, SERVED_BYTES_PER_S};
use ledger::push::WINDOW_BYTES;
use ledger::replica::{Output, Replica};
use ledger::sync::{
    Frame, HEADS_MAX, HeadMark, Heads, Hello, List, Mark, RUN_BYTES_MAX, RUN_OPS_MAX, Run, Summary,
};
use proptest::collection::vec;
use proptest::prelude::*;
use scene::{Author, START_MS, admitted, disconnected, live, node, report, run};

/// A replica that takes signatures on trust, so that a flood is cheap to make, with connected peers 2 to 9.
fn replica() -> Replica {
    let (mut replica, _) = Replica::open(scene::setup(1, 1, Verify::Trusting), vec![], START_MS).unwrap();
    for number in 2..10 {
        replica.peer_up(node(number), START_MS);
    }
    replica
}

/// A run of `count` ops of `size` bytes of text, in a chain of which the ops before are missing.
fn orphans(number: u8, from: u64, count: usize, size: usize) -> Vec<u8> {
    let mut author = Author::new(number);
    author.seq = from;
    author.previous = OpId([1; 32]);
    author.hlc = Hlc::at_ms(START_MS - 100_000 + from);
    let body = ledger::op::Body {
        hlc: author.hlc,
        dependencies: vec![],
        entries: vec![ledger::entry::Entry {
            kind: 999,
            version: 1,
            bytes: vec![7; size],
        }],
    };
    let bodies = vec![body.encode(); count];
    let signature = ledger::key::Signature([0; 64]);
    let (chain, previous) = (author.chain, author.previous);
    Frame::Run(Run {
        live: false,
        chain,
        first: from,
        previous,
        bodies,
        signature,
    })
    .encode()
}

/// An op that waits for the one before it, and that one.
fn honest(number: u8) -> (Op, Op) {
    let (mut author, first) = Author::opened(number);
    let second = author.say("honest");
    (first, second)
}

#[test]
fn a_flood_of_many_ops_throws_out_its_own() {
    let mut replica = replica();
    let (first, second) = honest(3);
    replica.receive(node(3), &live(&second), START_MS);
    for round in 0..4 {
        let flood = orphans(2, 1 + round * 10_000, RUN_OPS_MAX, 0);
        assert_eq!(disconnected(&replica.receive(node(2), &flood, START_MS)), None);
    }
    assert_eq!(replica.waiting().0, PEER_OPS_MAX + 1);
    assert_eq!(
        replica.counters().evicted,
        (4 * RUN_OPS_MAX - PEER_OPS_MAX) as u64
    );
    assert_eq!(
        admitted(&replica.receive(node(3), &live(&first), START_MS)).len(),
        2
    );
}

#[test]
fn a_flood_of_large_ops_throws_out_its_own() {
    let mut replica = replica();
    let (first, second) = honest(3);
    replica.receive(node(3), &live(&second), START_MS);
    for round in 0..160 {
        replica.receive(
            node(2),
            &orphans(2, 1 + round * 10_000, RUN_BYTES_MAX / 31_000, 30_000),
            START_MS,
        );
        assert!(replica.waiting().1 <= PEER_BYTES_MAX + 3 * second.bytes().len());
    }
    assert!(replica.counters().evicted > 0);
    assert_eq!(
        admitted(&replica.receive(node(3), &live(&first), START_MS)).len(),
        2
    );
}

#[test]
fn floods_by_many_peers_stay_under_the_bound_of_all_and_spare_who_takes_little() {
    let mut replica = replica();
    let (first, second) = honest(9);
    replica.receive(node(9), &live(&second), START_MS);
    for number in 2..8 {
        for round in 0..2 {
            replica.receive(
                node(number),
                &orphans(number, 1 + round * 10_000, RUN_OPS_MAX, 0),
                START_MS,
            );
        }
        assert!(replica.waiting().0 <= OPS_MAX && replica.waiting().1 <= BYTES_MAX);
    }
    assert_eq!(replica.waiting().0, OPS_MAX);
    assert_eq!(
        admitted(&replica.receive(node(9), &live(&first), START_MS)).len(),
        2
    );
}

#[test]
fn a_flood_from_the_future_is_bounded_as_well() {
    let (mut author, first) = Author::opened(2);
    let mut replica = replica();
    replica.receive(node(2), &live(&first), START_MS);
    author.hlc = Hlc::at_ms(START_MS + AHEAD_MS_MAX + 1);
    // Each is another op in the same place.
    let ops = (0..PEER_OPS_MAX + 100).map(|index| {
        let body = ledger::op::Body {
            hlc: Hlc(author.hlc.0 + index as u64),
            dependencies: vec![],
            entries: vec![],
        };
        let slot = ledger::op::Slot {
            chain: author.chain,
            seq: 1,
            previous: first.id(),
        };
        let signature = Some(ledger::key::Signature([0; 64]));
        Op::decode(scene::network(), slot, body.encode(), signature).unwrap()
    });
    for op in ops {
        assert!(
            replica.receive(node(2), &live(&op), START_MS).len() <= 2,
            "at most a question"
        );
    }
    assert_eq!(replica.waiting().0, PEER_OPS_MAX);
    assert_eq!(replica.counters().evicted, 100);
    replica.tick(START_MS + 10_000);
    assert_eq!((replica.waiting().0, replica.log().next(&author.chain)), (0, 2));
}

#[test]
fn a_peer_that_asks_and_asks_is_served_at_a_bounded_rate() {
    let mut replica = replica();
    for _ in 0..1000 {
        replica.append(vec![report(&"x".repeat(4000))], START_MS).unwrap();
    }
    let heads = vec![(replica.chain(), HeadMark::NOTHING)];
    let ask = Frame::Heads(Heads { heads }).encode();
    let sent = |outputs: Vec<Output>| -> u64 {
        let size = |output: Output| match output {
            Output::Send { frame, .. } => frame.len() as u64,
            _ => 0,
        };
        outputs.into_iter().map(size).sum()
    };
    let mut served = 0;
    for ms in 0..1000 {
        for _ in 0..10 {
            served += sent(replica.receive(node(2), &ask, START_MS + ms));
            served += sent(replica.receive(node(2), &Frame::Next.encode(), START_MS + ms));
        }
    }
    assert!(
        served <= SERVED_BYTES_BURST + SERVED_BYTES_PER_S + 2 * WINDOW_BYTES as u64,
        "{served}"
    );
    assert!(replica.counters().throttled > 0);
    // And it is not for ever.
    assert!(sent(replica.receive(node(2), &ask, START_MS + 2000)) > WINDOW_BYTES as u64);
}

/// The number of the talk that a greeting of peer 2 began.
fn talk_of(outputs: &[Output]) -> u64 {
    let frames = outputs.iter().filter_map(|output| match output {
        Output::Send { to, frame } if *to == node(2) => Frame::decode(frame).ok(),
        _ => None,
    });
    let talk = |frame| match frame {
        Frame::Hello(hello) => Some(hello.talk),
        _ => None,
    };
    frames.into_iter().find_map(talk).unwrap()
}

#[test]
fn a_lie_about_a_vector_costs_a_question_and_an_honest_peer_goes_on() {
    let mut replica = replica();
    let (first, second) = honest(3);
    // It greets in time, since the peer does not.
    replica.peer_up(node(2), START_MS);
    let talk = talk_of(&replica.tick(START_MS + 200));
    let lie = |short, next| Mark {
        short,
        next,
        mark: [3; 4],
    };
    let list = List {
        talk,
        lacks: vec![u64::MAX; HEADS_MAX],
        sent: 3,
        parts: None,
        until: None,
        marks: vec![
            lie(3, u64::MAX),
            lie(ledger::vector::short(&first.slot().chain), 9),
        ],
    };
    let frame = Frame::List(list).encode();
    let outputs = replica.receive(node(2), &frame, START_MS);
    assert_eq!(outputs.len(), 1, "it asks for what is told: {outputs:?}");
    assert_eq!(
        replica.receive(node(2), &frame, START_MS),
        vec![],
        "one answer to a question"
    );
    assert_eq!(
        admitted(&replica.receive(node(3), &run(&[first, second]), START_MS)).len(),
        2
    );
}

#[test]
fn greetings_and_announcements_at_will_are_answered_at_a_bounded_rate() {
    let mut replica = replica();
    for _ in 0..100 {
        replica.append(vec![report("x")], START_MS).unwrap();
    }
    let marks: Vec<Mark> = (0..HEADS_MAX as u64)
        .map(|short| Mark {
            short,
            next: u64::MAX,
            mark: [1; 4],
        })
        .collect();
    let since = Summary::Since {
        talk: 5,
        marks: marks.clone(),
    };
    let mut sent = 0;
    for talk in 0..30 {
        for summary in [Summary::Tags(vec![7; 4096]), since.clone()] {
            let hello = Hello {
                network: scene::network(),
                root: [talk as u8; 32],
                talk,
                summary,
            };
            for frame in [
                Frame::Hello(hello),
                Frame::Announce(marks.clone()),
                Frame::Graft(marks.clone()),
            ] {
                for output in replica.receive(node(2), &frame.encode(), START_MS) {
                    match output {
                        Output::Send { frame, .. } => sent += frame.len(),
                        other => panic!("{other:?}"),
                    }
                }
            }
        }
    }
    // Each question is answered by at most a list of one chain, a greeting and the ops of the chain.
    assert!(sent < 300_000, "{sent}");
    let (first, _) = honest(3);
    assert_eq!(
        admitted(&replica.receive(node(3), &live(&first), START_MS)).len(),
        1
    );
}

#[test]
fn a_run_at_the_end_of_the_numbers_is_refused() {
    let (author, _) = Author::opened(2);
    let op = author.draft(vec![], vec![]);
    let run = Run {
        first: u64::MAX,
        ..scene::run_of(&[op], false)
    };
    let outputs = replica().receive(node(2), &Frame::Run(run).encode(), START_MS);
    assert!(disconnected(&outputs).unwrap().contains("not a frame"));
}

#[test]
fn after_it_was_dropped_a_peer_is_heard_no_more_until_it_is_up_again() {
    let mut replica = replica();
    let (first, _) = honest(3);
    assert!(disconnected(&replica.receive(node(3), &[99], START_MS)).is_some());
    assert_eq!(replica.receive(node(3), &live(&first), START_MS), vec![]);
    replica.peer_up(node(3), START_MS);
    assert_eq!(
        admitted(&replica.receive(node(3), &live(&first), START_MS)).len(),
        1
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn garbage_harms_nothing(
        frames in vec((2u8..5, vec(any::<u8>(), 0..200)), 1..20),
        spots in vec((any::<usize>(), any::<u8>()), 1..20),
    ) {
        let (mut replica, _) = scene::open(1, 1, vec![]);
        let (first, second) = honest(9);
        let good = [live(&first), run(&[first.clone(), second.clone()]), Frame::Next.encode()];
        for number in 2..10 {
            replica.peer_up(node(number), START_MS);
        }
        for (number, frame) in &frames {
            replica.receive(node(*number), frame, START_MS);
        }
        for (index, (at, with)) in spots.iter().enumerate() {
            let mut frame = good[index % good.len()].clone();
            let at = at % frame.len();
            frame[at] = *with;
            replica.receive(node(5 + index as u8 % 4), &frame, START_MS);
        }
        replica.tick(START_MS + 1000);
        replica.receive(node(9), &run(&[first, second.clone()]), START_MS);
        prop_assert!(replica.log().contains(&second.id()));
        prop_assert_eq!(replica.log().len(), 3, "nothing but what was signed entered");
    }
}
