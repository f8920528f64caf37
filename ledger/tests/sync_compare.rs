//! Two ledgers that are little apart come together at little cost, whatever differs and whoever lies.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod apart;

use apart::{Authors, Cost, Pair, START_MS, remembering, replica, strangers};
use ledger::op::Op;
use ledger::sync::{Frame, HEADS_MAX};
use proptest::prelude::*;

const CHAINS: usize = 1_000;
const OPS: usize = 20_000;

/// A history, and a hundred ops more in a hundred chains.
fn history() -> (Vec<Op>, Vec<Op>) {
    let mut authors = Authors::new(CHAINS, 64);
    let shared = authors.history(OPS);
    let more = (0..100).map(|index| authors.write(index * 7)).collect();
    (shared, more)
}

fn check(what: &str, cost: Cost, talk_max: usize, trips_max: f64) {
    println!(
        "{what}: {} ops, {} bytes of talk, {} beyond bodies and signatures, first ops after {} round trips, level after {} ms, {} frames",
        cost.ops,
        cost.talk_bytes,
        cost.beyond(),
        cost.trips(),
        cost.level_ms,
        cost.frames
    );
    assert!(cost.talk_bytes <= talk_max, "{what}: {} bytes", cost.talk_bytes);
    assert!(cost.trips() <= trips_max, "{what}: {} round trips", cost.trips());
}

#[test]
fn a_hundred_ops_in_a_thousand_chains_are_found_cheaply() {
    let (shared, more) = history();
    for (what, split) in [
        ("all at the one greeted", 0),
        ("half at each", 50),
        ("all at the greeter", 100),
    ] {
        let (a, b) = more.split_at(split);
        let cost = strangers(&shared, a, b).settle(10_000);
        assert_eq!(cost.ops, 102, "and the two that opened their chains: each once");
        check(&format!("no memory, {what}"), cost, 7_000, 1.0);
        let cost = remembering(&shared, a, b).settle(10_000);
        assert_eq!(cost.ops, 100, "each once");
        check(&format!("memory, {what}"), cost, 1_500, 1.0);
    }
}

#[test]
fn a_vector_of_more_chains_than_a_frame_takes_is_told_in_turns() {
    let mut authors = Authors::new(HEADS_MAX + 2_000, 0);
    let shared = authors.history(HEADS_MAX + 2_000);
    let mut pair = Pair::new(replica(0, vec![]), replica(1, shared));
    pair.link();
    let cost = pair.settle(60_000);
    assert_eq!(cost.ops, HEADS_MAX + 2_002, "each once");
    println!("{cost:?}");
}

#[test]
fn nothing_to_tell_costs_a_greeting_and_its_answer() {
    let (shared, _) = history();
    let mut pair = remembering(&shared, &[], &[]);
    pair.pass(10_000);
    let cost = pair.settle(1_000);
    assert!(cost.talk_bytes < 60 * 120 + 2_500, "{cost:?}");
    assert_eq!(cost.ops, 0);
}

#[test]
fn a_peer_that_forgot_is_told_afresh() {
    let (shared, more) = history();
    let mut pair = remembering(&shared, &[], &[]);
    // The other starts again, with one op more.
    let [a, b] = &mut pair.replicas;
    let now_ms = pair.now_ms;
    let stored: Vec<Op> = b.log().iter().cloned().chain([more[0].clone()]).collect();
    let mut setup = apart::setup(apart::numbers()[1]);
    setup.incarnation = 99;
    *b = ledger::replica::Replica::open(setup, stored, now_ms).unwrap().0;
    let (a_id, b_id) = (a.node(), b.node());
    a.peer_down(b_id, now_ms);
    drop(b.peer_up(a_id, now_ms));
    let outputs = a.peer_up(b_id, now_ms);
    pair.begin();
    pair.take(0, outputs);
    let cost = pair.settle(1_000);
    assert_eq!(cost.ops, 2);
    assert!(cost.level_ms < 100, "{cost:?}");
}

#[test]
fn who_lies_in_its_tags_only_gets_what_it_says_it_lacks() {
    use ledger::sync::{Hello, Summary};
    let (shared, _) = history();
    let (mut one, other) = (replica(0, shared.clone()), replica(1, shared));
    one.peer_up(other.node(), START_MS);
    let hello = Hello {
        network: one.network(),
        root: [1; 32],
        talk: 5,
        summary: Summary::Tags(vec![1; 4096]),
    };
    let outputs = one.receive(other.node(), &Frame::Hello(hello).encode(), START_MS);
    let bytes: usize = outputs
        .iter()
        .map(|output| match output {
            ledger::replica::Output::Send { frame, .. } => frame.len(),
            _ => panic!("{output:?}"),
        })
        .sum();
    assert!(bytes < CHAINS * 14 + 600, "a list of all it holds, {bytes} bytes");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Whatever each holds of each chain: just what is lacking flows, each op once, with memory or without.
    #[test]
    fn just_what_is_lacking_flows(
        chains in 1usize..60,
        extra in proptest::collection::vec((0usize..60, 0usize..6, 0usize..6), 0..40),
        memory: bool,
    ) {
        let mut authors = Authors::new(chains, 8);
        let shared = authors.history(chains * 2);
        let (mut a, mut b) = (Vec::new(), Vec::new());
        let mut seen = std::collections::BTreeSet::new();
        for (chain, of_a, of_b) in extra {
            if !seen.insert(chain % chains) {
                continue;
            }
            for index in 0..of_a.max(of_b) {
                let op = authors.write(chain % chains);
                if index < of_a {
                    a.push(op.clone());
                }
                if index < of_b {
                    b.push(op);
                }
            }
        }
        let lacking = a.iter().filter(|op| !b.contains(op)).count() + b.iter().filter(|op| !a.contains(op)).count();
        let mut pair = if memory { remembering(&shared, &a, &b) } else { strangers(&shared, &a, &b) };
        let cost = pair.settle(20_000);
        prop_assert_eq!(cost.ops, lacking + if memory { 0 } else { 2 });
    }
}
