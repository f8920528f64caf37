//! Replicas that talk over a bad wire end with the same ops in the same order. Virtual time: nothing sleeps.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::admit::Verify;
use ledger::id::NodeId;
use ledger::op::Op;
use proptest::prelude::*;
use scene::{Weather, Wire, carry, report};

fn network_of(count: u8, seed: u64, verify: Verify) -> (Wire, Vec<NodeId>) {
    let mut wire = Wire::new(seed);
    let nodes: Vec<NodeId> = (1..=count).map(|number| wire.join(number, verify)).collect();
    (wire, nodes)
}

fn link_all(wire: &mut Wire, nodes: &[NodeId]) {
    for (index, a) in nodes.iter().enumerate() {
        for b in &nodes[index + 1..] {
            wire.link(*a, *b);
        }
    }
}

fn assert_same(wire: &Wire, nodes: &[NodeId]) {
    let first = wire.ids(nodes[0]);
    for node in nodes {
        assert_eq!(wire.ids(*node), first, "the order is the same everywhere");
    }
    assert_eq!(wire.disconnects, Vec::<String>::new());
}

#[test]
fn a_new_op_reaches_all_at_once() {
    let (mut wire, nodes) = network_of(3, 1, Verify::Real);
    link_all(&mut wire, &nodes);
    wire.settle(5_000);
    let op = wire.append(nodes[0], vec![carry(1).into()]);
    wire.pass(scene::DELAY_MS);
    for node in &nodes {
        assert!(wire.replicas[node].log().contains(&op));
    }
    assert_same(&wire, &nodes);
}

#[test]
fn an_op_depends_on_what_its_node_had_seen_and_on_no_more_than_needed() {
    let (mut wire, nodes) = network_of(3, 1, Verify::Real);
    link_all(&mut wire, &nodes);
    wire.settle(5_000);
    let one = wire.append(nodes[0], vec![report("one")]);
    wire.pass(50);
    let two = wire.append(nodes[1], vec![report("two")]);
    wire.pass(50);
    let three = wire.append(nodes[2], vec![report("three")]);
    let log = wire.replicas[&nodes[2]].log();
    let dependencies = |id| log.get(&id).unwrap().body().dependencies.clone();
    assert!(dependencies(two).contains(&one.into()));
    assert_eq!(dependencies(three), vec![two.into()], "two has one in its past");
}

#[test]
fn data_flows_after_one_round_trip() {
    let (mut wire, nodes) = network_of(2, 1, Verify::Real);
    for index in 0..10 {
        wire.append(nodes[0], vec![report(&format!("{index}"))]);
    }
    wire.link(nodes[0], nodes[1]);
    // Greeting, heads, runs: each takes one way; the other direction one way more.
    let took = wire.settle(1_000);
    assert!(took <= 4 * scene::DELAY_MS, "{took} ms");
    assert_same(&wire, &nodes);
}

#[test]
fn a_long_absence_is_made_up_by_runs_in_windows() {
    let (mut wire, nodes) = network_of(3, 1, Verify::Real);
    let [a, b, c] = nodes[..] else { unreachable!() };
    wire.link(a, b);
    wire.settle_among(&[a, b], 1_000);
    let text = "x".repeat(500);
    for index in 0..4000 {
        wire.append(if index % 3 == 0 { b } else { a }, vec![report(&text)]);
        if index % 50 == 0 {
            wire.pass(20);
        }
    }
    wire.settle_among(&[a, b], 5_000);
    let (bytes, frames) = (wire.bytes, wire.frames);
    wire.link(b, c);
    let took = wire.settle(10_000);
    let bodies: usize = wire.replicas[&a].log().iter().map(|op| op.bytes().len()).sum();
    let (bytes, frames) = (wire.bytes - bytes, wire.frames - frames);
    assert!(
        (bytes as usize) < bodies + bodies / 50,
        "{bytes} bytes for {bodies}"
    );
    assert!(frames < 80, "{frames} frames");
    assert!(took < 1_000, "{took} ms");
    assert_same(&wire, &nodes);

    // What came in runs can be handed on, though most of its ops have no signature of their own.
    let unsigned = wire.replicas[&c]
        .log()
        .iter()
        .filter(|op| op.signature().is_none())
        .count();
    assert!(unsigned > 3000, "{unsigned}");
    wire.cut(b, c);
    wire.cut(a, b);
    let d = wire.join(4, Verify::Real);
    wire.link(c, d);
    wire.settle_among(&[c, d], 10_000);
    assert_same(&wire, &[c, d]);
}

#[test]
fn a_joiner_with_many_peers_gets_each_op_about_once() {
    let (mut wire, nodes) = network_of(5, 1, Verify::Trusting);
    link_all(&mut wire, &nodes);
    for index in 0..3000 {
        wire.append(nodes[index % 5], vec![report(&"x".repeat(300))]);
    }
    wire.settle(10_000);
    let joiner = wire.join(6, Verify::Trusting);
    let bytes = wire.bytes;
    for node in &nodes {
        wire.link(*node, joiner);
    }
    // And the others go on while it catches up.
    for index in 0..20 {
        wire.append(nodes[index % 5], vec![report("meanwhile")]);
        wire.pass(5);
    }
    wire.settle(10_000);
    let bodies: usize = wire.replicas[&joiner]
        .log()
        .iter()
        .map(|op| op.bytes().len())
        .sum();
    let bytes = wire.bytes - bytes;
    assert!(
        bytes < bodies as u64 * 5 / 4 + 100_000,
        "{bytes} bytes for {bodies}"
    );
    let nodes = [nodes, vec![joiner]].concat();
    assert_same(&wire, &nodes);
}

#[test]
fn a_wall_clock_set_back_does_not_stop_the_talk() {
    let (mut wire, nodes) = network_of(2, 1, Verify::Real);
    wire.link(nodes[0], nodes[1]);
    wire.settle(1_000);
    wire.weather = Weather {
        lose: 100,
        ..scene::CALM
    };
    wire.append(nodes[0], vec![report("lost on the way")]);
    wire.pass(100_000);
    wire.weather = scene::CALM;
    wire.now_ms -= 90_000;
    let took = wire.settle(10_000);
    assert!(took < 3_000, "{took} ms");
}

#[test]
fn a_replica_knows_when_it_holds_all_that_a_peer_held() {
    let (mut wire, nodes) = network_of(2, 1, Verify::Trusting);
    let [a, b] = nodes[..] else { unreachable!() };
    for _ in 0..50 {
        wire.append(a, vec![report(&"x".repeat(3000))]);
    }
    wire.pass(5_000);
    assert!(!wire.replicas[&b].has_agreed(), "it has met nobody");
    wire.link(a, b);
    // One way is too short for the ops to have come.
    wire.pass(scene::DELAY_MS);
    assert!(!wire.replicas[&b].has_agreed());
    // Also while new ops come all the time.
    for _ in 0..300 {
        wire.append(a, vec![report("more")]);
        wire.pass(scene::DELAY_MS);
    }
    assert!(wire.replicas.values().all(|replica| replica.has_agreed()));
}

#[test]
fn two_halves_that_were_apart_become_one() {
    let (mut wire, nodes) = network_of(4, 3, Verify::Real);
    let [a, b, c, d] = nodes[..] else { unreachable!() };
    wire.link(a, b);
    wire.link(c, d);
    for index in 0..200 {
        wire.append(nodes[index % 4], vec![report(&format!("{index}"))]);
        wire.pass(5);
    }
    wire.link(b, c);
    wire.settle(10_000);
    assert_same(&wire, &nodes);
}

#[test]
fn a_node_that_starts_again_goes_on_in_a_new_chain_that_names_the_old_ones_end() {
    let (mut wire, nodes) = network_of(2, 1, Verify::Real);
    wire.link(nodes[0], nodes[1]);
    wire.append(nodes[0], vec![report("before")]);
    wire.settle(1_000);
    let stored: Vec<Op> = wire.replicas[&nodes[0]].log().iter().cloned().collect();
    let end = wire.replicas[&nodes[0]]
        .log()
        .head(&wire.replicas[&nodes[0]].chain())
        .unwrap()
        .clone();
    wire.cut(nodes[0], nodes[1]);
    wire.open(scene::setup(1, 2, Verify::Real), stored);
    let replica = &wire.replicas[&nodes[0]];
    let first = &replica.log().chain(&replica.chain())[0];
    let opened = ledger::report::Report::from_entry(&first.body().entries[0]).unwrap();
    let ledger::report::Report::OpenChain(opened) = opened else {
        panic!("{opened:?}")
    };
    let before = opened.before.unwrap();
    assert_eq!(
        (before.incarnation, before.seq, before.id),
        (1, end.slot().seq, end.id())
    );
    wire.link(nodes[0], nodes[1]);
    wire.settle(1_000);
    wire.append(nodes[0], vec![report("after")]);
    wire.settle(1_000);
    assert_same(&wire, &nodes);
}

#[test]
fn the_same_inputs_give_the_same_outputs() {
    let play = || {
        let (mut wire, nodes) = network_of(4, 11, Verify::Trusting);
        wire.weather = Weather {
            lose: 20,
            repeat: 10,
            late: 30,
        };
        link_all(&mut wire, &nodes);
        for index in 0..100 {
            wire.append(nodes[index % 4], vec![report("x")]);
            wire.pass(7);
        }
        wire.pass(3000);
        (wire.bytes, wire.frames, wire.describe())
    };
    assert_eq!(play(), play());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever the wire loses, repeats and delays, and whoever is cut off for a time: when it is calm again
    /// all replicas hold the same ops, and each op was admitted once and after all that it depends on (the
    /// wire checks that).
    #[test]
    fn replicas_converge(
        seed: u64,
        count in 2u8..5,
        weather in (0u64..50, 0u64..30, 0u64..60),
        steps in proptest::collection::vec((0usize..8, 0u64..200, 0u8..10), 1..60),
    ) {
        let (mut wire, nodes) = network_of(count, seed, Verify::Trusting);
        link_all(&mut wire, &nodes);
        let (lose, repeat, late) = weather;
        wire.weather = Weather { lose, repeat, late };
        for (who, wait_ms, what) in steps {
            let (a, b) = (nodes[who % nodes.len()], nodes[(who + 1) % nodes.len()]);
            match what {
                0 => wire.cut(a, b),
                1 => wire.link(a, b),
                _ => {
                    for index in 0..u64::from(what) {
                        wire.append(a, vec![report(&index.to_string())]);
                    }
                }
            }
            wire.pass(wait_ms);
        }
        wire.weather = scene::CALM;
        link_all(&mut wire, &nodes);
        wire.settle(30_000);
        assert_same(&wire, &nodes);
        for replica in wire.replicas.values() {
            let refused = ledger::admit::Counters {
                appended: 0, admitted: 0, duplicate: 0, waited: 0, held: 0, wanted: 0, stranger: 0, throttled: 0,
                ..*replica.counters()
            };
            prop_assert_eq!(refused, ledger::admit::Counters::default());
            prop_assert_eq!(replica.waiting(), (0, 0));
        }
    }
}
