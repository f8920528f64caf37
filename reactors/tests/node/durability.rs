//! What is answered, in what order, and what is numbered how.

use std::collections::BTreeSet;

use ledger::codec;
use ledger::id::OpId;
use ledger::journal::OUTCOME_BYTES_MAX;
use projections::outcome::{Outcome, Void};
use reactors::node::{Durable, Input, Node, Output, Wait};

use crate::wire::{BEGIN_MS, Net, id, open_account, setup, submit};

fn outcome(bytes: &[u8]) -> Outcome {
    codec::decode(bytes, OUTCOME_BYTES_MAX, "an outcome").expect("it is one")
}

#[test]
fn a_command_submitted_twice_is_answered_with_the_same_op() {
    let mut net = Net::of(1);
    let command = open_account(100, 1, "ann");
    let first = net.at(1).submit(1, &command, BEGIN_MS);
    let ops = net.at(1).ops.len();
    let second = net.at(1).submit(2, &command, BEGIN_MS + 5_000);
    assert_eq!(first, second);
    assert_eq!(first.outcome, Outcome::Applied);
    assert_eq!(net.at(1).ops.len(), ops, "nothing was appended for it");
    net.restart(1, 2);
    let third = net.at(1).submit(3, &command, BEGIN_MS + 6_000);
    assert_eq!(first, third, "nor after a restart");
}

#[test]
fn a_command_submitted_twice_at_once_is_one_op() {
    let mut net = Net::of(1);
    let command = open_account(100, 1, "ann");
    let before = net.at(1).appended();
    let outputs = net
        .at(1)
        .node
        .handle_all([submit(1, &command), submit(2, &command)], BEGIN_MS);
    let replies: Vec<_> = outputs
        .into_iter()
        .filter_map(|output| match output {
            Output::Reply { reply, .. } => Some(reply.expect("taken").op),
            _ => None,
        })
        .collect();
    assert!(
        matches!(&replies[..], [first, second] if first == second),
        "{replies:?}"
    );
    assert_eq!(net.at(1).appended(), before + 1);
}

#[test]
fn a_void_command_is_answered_with_why() {
    let mut net = Net::of(1);
    net.at(1).submit(1, &open_account(100, 1, "ann"), BEGIN_MS);
    let taken = net.at(1).submit(2, &open_account(101, 1, "ann"), BEGIN_MS);
    assert_eq!(taken.outcome, Outcome::Void(Void::NameTaken("ann".into())));
    let entry = net.at(1).node.outcomes(taken.op).map(<[Outcome]>::to_vec);
    assert_eq!(entry, Some(vec![taken.outcome]), "an op in the log for all that");
}

#[test]
fn a_command_that_is_none_is_refused_and_leaves_no_op() {
    let mut net = Net::of(1);
    let command = open_account(100, 1, "ann");
    let mut bytes = command.bytes().to_vec();
    *bytes.last_mut().expect("it has bytes") ^= 1;
    let before = net.at(1).ops.len();
    net.give(
        1,
        Input::Submit {
            token: 1,
            command: bytes,
            id: command.id(),
            wait: Wait::Tentative,
        },
    );
    net.give(
        1,
        Input::Submit {
            token: 2,
            command: vec![1, 2, 3],
            id: command.id(),
            wait: Wait::Tentative,
        },
    );
    assert!(net.at(1).replies[&1].is_err() && net.at(1).replies[&2].is_err());
    assert_eq!(net.at(1).ops.len(), before);
}

/// Gives inputs and checks that no answer and no frame comes before the write of the ops that it rests on.
fn check_order(node: &mut Node, inputs: Vec<Input>, now_ms: u64, durable: &mut BTreeSet<OpId>) -> usize {
    let outputs = node.handle_all(inputs, now_ms);
    let mut rested = 0;
    for output in &outputs {
        match output {
            Output::Persist(Durable { ops, .. }) => {
                durable.extend(ops.iter().map(ledger::op::Op::id));
            }
            Output::Reply {
                reply: Ok(submitted), ..
            } => {
                assert!(
                    durable.contains(&submitted.op),
                    "answered before its op was written"
                );
                rested += 1;
            }
            // A frame of sync whose op is not written yet would carry its body.
            Output::Send { bytes, .. } if bytes.first() == Some(&0) => {
                let mut unwritten = node
                    .replica()
                    .log()
                    .iter()
                    .filter(|op| !durable.contains(&op.id()));
                let carries =
                    unwritten.any(|op| bytes.windows(op.bytes().len()).any(|part| part == op.bytes()));
                assert!(!carries, "sent before it was written");
                rested += 1;
            }
            _ => {}
        }
    }
    rested
}

#[test]
fn a_write_comes_before_every_answer_and_every_frame_that_rests_on_it() {
    let mut net = Net::of(2);
    net.connect(1, 2);
    net.pass(2_000);
    let now_ms = net.now_ms;
    let mut durable: BTreeSet<OpId> = net.at(1).ops.iter().map(ledger::op::Op::id).collect();
    let inputs = (0..20)
        .map(|n| submit(n, &open_account(100 + n as u8, 1, &format!("name-{}", n / 2))))
        .collect();
    let rested = check_order(&mut net.at(1).node, inputs, now_ms, &mut durable);
    assert!(rested >= 40, "20 answers and 20 frames: {rested}");
}

#[test]
fn journal_offsets_have_no_gap_and_go_on_after_a_restart() {
    let mut net = Net::of(2);
    for nonce in 1..4 {
        net.at(1).submit(
            nonce.into(),
            &open_account(100 + nonce, 1, &format!("name-{nonce}")),
            BEGIN_MS,
        );
    }
    net.connect(1, 2);
    net.pass(2_000);
    net.restart(2, 7);
    let at_restart = net.at(2).journal.len() as u64;
    net.connect(1, 2);
    let now_ms = net.now_ms;
    net.at(1).submit(9, &open_account(110, 1, "late"), now_ms);
    net.pass(2_000);
    for number in [1, 2] {
        let station = net.at(number);
        let offsets: Vec<u64> = station.journal.iter().map(|record| record.offset).collect();
        assert_eq!(
            offsets,
            (0..station.journal.len() as u64).collect::<Vec<_>>(),
            "node {number}"
        );
        assert_eq!(station.node.journal_next(), station.journal.len() as u64);
    }
    assert!(net.at(2).journal.len() as u64 > at_restart);
    // Each entry of each op is told once: nothing is told again because of the restart.
    let mut told = BTreeSet::new();
    for record in net.at(2).journal.iter().filter(|record| !record.turned) {
        assert!(told.insert((record.op, record.entry)), "told twice: {record:?}");
    }
    let ops: BTreeSet<OpId> = net.at(2).ops.iter().map(ledger::op::Op::id).collect();
    assert_eq!(told.iter().map(|(op, _)| *op).collect::<BTreeSet<_>>(), ops);
}

#[test]
fn a_late_op_that_turns_an_outcome_is_told_in_the_journal() {
    let mut net = Net::of(2);
    net.connect(1, 2);
    net.pass(1_000);
    net.cut(1, 2);
    // Both take the name while they cannot hear each other; node 2 was first.
    let now_ms = net.now_ms;
    let first = net.at(2).submit(1, &open_account(101, 1, "ann"), now_ms);
    let second = net.at(1).submit(1, &open_account(100, 1, "ann"), now_ms + 500);
    assert_eq!(
        (&first.outcome, &second.outcome),
        (&Outcome::Applied, &Outcome::Applied)
    );
    net.now_ms += 500;
    let next = net.at(1).node.journal_next();
    net.connect(1, 2);
    net.pass(2_000);
    let turned: Vec<_> = net
        .at(1)
        .journal
        .iter()
        .filter(|record| record.turned)
        .cloned()
        .collect();
    assert!(
        matches!(&turned[..], [record] if record.op == second.op && record.offset >= next),
        "{turned:?}"
    );
    assert_eq!(
        outcome(&turned[0].outcome),
        Outcome::Void(Void::NameTaken("ann".into()))
    );
    assert!(
        net.at(2).journal.iter().all(|record| !record.turned),
        "node 2 saw them in order"
    );
    let answer = net.at(1).submit(5, &open_account(100, 1, "ann"), now_ms + 3_000);
    assert_eq!(
        answer.outcome,
        Outcome::Void(Void::NameTaken("ann".into())),
        "asked again, the newest is told"
    );
}

#[test]
fn a_node_that_reopens_stands_where_it_stood() {
    let mut net = Net::of(2);
    net.connect(1, 2);
    net.at(1).submit(1, &open_account(100, 1, "ann"), BEGIN_MS);
    net.pass(2_000);
    let stored = net.at(1).ops.clone();
    let now_ms = net.now_ms;
    let (node, _) = Node::open(setup(1, 5, stored.clone(), 0), now_ms).expect("it opens");
    assert!(
        node.cloud()
            .accounts
            .values()
            .any(|account| account.name == "ann")
    );
    assert!(node.cloud().nodes.contains_key(&id(2)));
    let again = Node::open(setup(1, 1, stored, 0), now_ms)
        .map(|_| ())
        .map_err(|error| error.to_string());
    assert!(
        again.is_err_and(|why| why.contains("exists already")),
        "an incarnation is used once"
    );
}
