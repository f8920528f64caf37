//! Many frames at once are taken as if they came one by one, and a bad signature blames whoever sent it.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::id::NodeId;
use ledger::key::Signature;
use ledger::op::Op;
use ledger::replica::{Output, Replica};
use ledger::report::Report;
use ledger::sync::{Anchor, Frame, Ops, Stretch};
use proptest::prelude::*;
use scene::{Author, START_MS, admitted, carry, disconnected, live, node, run};

fn replica() -> Replica {
    let (mut replica, _) = scene::open(1, 1, vec![]);
    for number in 2..8 {
        replica.peer_up(node(number), START_MS);
    }
    replica
}

/// A chain of commands.
fn chain(number: u8, length: u64) -> Vec<Op> {
    let (mut author, first) = Author::opened(number);
    let mut ops = vec![first];
    for index in 0..length {
        let carry = Report::from(carry(u64::from(number) * 1000 + index)).to_entry();
        ops.push(author.write(vec![], vec![carry]));
    }
    ops
}

/// The frame that brings an op after one that the receiver is taken to hold.
fn after(op: &Op) -> Vec<u8> {
    let stretch = Stretch {
        anchor: Anchor::After(op.slot().previous.into()),
        bodies: vec![op.bytes().to_vec()],
        signature: op.signature().unwrap(),
    };
    let stretches = vec![stretch];
    Frame::Ops(Ops {
        live: true,
        stretches,
    })
    .encode()
}

fn forged(op: &Op) -> Vec<u8> {
    let mut signature = op.signature().unwrap().0;
    signature[7] ^= 1;
    let stretch = Stretch {
        anchor: Anchor::After(op.slot().previous.into()),
        bodies: vec![op.bytes().to_vec()],
        signature: Signature(signature),
    };
    let stretches = vec![stretch];
    Frame::Ops(Ops {
        live: true,
        stretches,
    })
    .encode()
}

#[test]
fn a_bad_signature_among_many_blames_its_sender_only() {
    let (good, bad, last) = (chain(2, 50), chain(3, 5), chain(4, 5));
    let mut frames: Vec<(NodeId, Vec<u8>)> = Vec::new();
    frames.push((node(2), live(&good[0])));
    frames.push((node(3), live(&bad[0])));
    for (index, op) in good[1..].iter().enumerate() {
        frames.push((node(2), after(op)));
        if index == 20 {
            frames.push((node(3), after(&bad[1])));
            frames.push((node(3), forged(&bad[2])));
            frames.push((node(3), after(&bad[3])));
        }
    }
    frames.push((node(4), run(&last)));
    let mut replica = replica();
    let outputs = replica.receive_all(frames, START_MS);
    assert_eq!(admitted(&outputs).len(), 51 + 2 + 6);
    let dropped: Vec<&NodeId> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Disconnect { peer, .. } => Some(peer),
            _ => None,
        })
        .collect();
    assert_eq!(dropped, vec![&node(3)]);
    assert!(disconnected(&outputs).unwrap().contains("signature"));
    assert_eq!(replica.counters().bad_signature, 1);
    assert_eq!(
        replica.counters().stranger,
        1,
        "what it sent after that is not heard"
    );
}

#[test]
fn one_op_from_many_peers_is_admitted_once_whoever_forges_it() {
    let ops = chain(2, 1);
    let mut replica = replica();
    replica.receive(node(2), &live(&ops[0]), START_MS);
    let frames = vec![
        (node(3), forged(&ops[1])),
        (node(4), after(&ops[1])),
        (node(5), after(&ops[1])),
        (node(6), forged(&ops[1])),
    ];
    let outputs = replica.receive_all(frames, START_MS);
    assert_eq!(admitted(&outputs), vec![ops[1].clone()]);
    let peers: Vec<NodeId> = replica.peers().collect();
    assert!(!peers.contains(&node(3)), "it forged what was not here yet");
    assert!(peers.contains(&node(4)) && peers.contains(&node(5)));
    assert_eq!(replica.counters().duplicate, 2);
}

#[test]
fn ops_after_one_that_is_not_here_are_asked_for_by_their_place() {
    let ops = chain(2, 3);
    let mut replica = replica();
    replica.receive(node(2), &live(&ops[0]), START_MS);
    let outputs = replica.receive(node(2), &after(&ops[2]), START_MS);
    let unplaced = Frame::Unplaced(ops[1].id().into()).encode();
    let asks = |output: &Output| matches!(output, Output::Send { frame, .. } if *frame == unplaced);
    assert_eq!(outputs.iter().filter(|output| asks(output)).count(), 1);
    // With its name it waits, and the gap is asked for.
    let outputs = replica.receive(node(2), &live(&ops[2]), START_MS + 200);
    assert_eq!(replica.waiting().0, 1);
    let heads = |output: &Output| matches!(output, Output::Send { frame, .. } if matches!(Frame::decode(frame), Ok(Frame::Heads(_))));
    assert_eq!(outputs.iter().filter(|output| heads(output)).count(), 1);
    // What waits is a place to stand on as well.
    replica.receive(node(2), &after(&ops[3]), START_MS + 200);
    assert_eq!(replica.waiting().0, 2);
    let outputs = replica.receive(node(2), &after(&ops[1]), START_MS + 200);
    assert_eq!(admitted(&outputs), ops[1..].to_vec());
}

/// What a replica did, but for the seeds of its batches and the frames that it joined.
fn story(replica: &Replica, outputs: &[Output]) -> impl PartialEq + std::fmt::Debug {
    let drops = outputs.iter().filter_map(|output| match output {
        Output::Disconnect { peer, why } => Some((*peer, why.to_string())),
        _ => None,
    });
    let ops: Vec<_> = admitted(outputs).iter().map(Op::id).collect();
    (
        ops,
        drops.collect::<Vec<_>>(),
        *replica.counters(),
        replica.waiting(),
        replica.peers().collect::<Vec<_>>(),
        replica.log().vector().root(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn all_at_once_is_as_one_by_one(
        steps in proptest::collection::vec((2u8..8, 0usize..3, 0usize..8, 0u8..12), 1..40),
    ) {
        let chains = [chain(2, 7), chain(3, 7), chain(4, 7)];
        let frames: Vec<(NodeId, Vec<u8>)> = steps
            .iter()
            .map(|(from, which, place, how)| {
                let ops = &chains[*which];
                let frame = match how {
                    0 if *place > 0 => forged(&ops[*place]),
                    1 => vec![99],
                    2 => run(&ops[..=*place]),
                    3 | 4 => live(&ops[*place]),
                    _ if *place > 0 => after(&ops[*place]),
                    _ => run(&ops[..1]),
                };
                (node(*from), frame)
            })
            .collect();
        let (mut one, mut other) = (replica(), replica());
        let mut outputs = Vec::new();
        for (from, frame) in &frames {
            outputs.extend(one.receive(*from, frame, START_MS));
        }
        let together = other.receive_all(frames, START_MS);
        prop_assert_eq!(story(&one, &outputs), story(&other, &together));
    }
}
