//! Each rule of admission has the op that breaks it, the counter that counts it, and whether the peer that
//! sent it is dropped.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::admit::Counters;
use ledger::clock::{AHEAD_MS_MAX, Hlc};
use ledger::codec::Writer;
use ledger::entry::{ENTRY_BYTES_MAX, Entry};
use ledger::genesis::Invitation;
use ledger::id::OpId;
use ledger::key::{SIGNATURE_BYTES, Signature};
use ledger::op::{BODY_BYTES_MAX, Dependency, ENTRIES_MAX, Op};
use ledger::replica::{AppendError, OpenError, Output, Replica};
use ledger::report::nodes::OpenChain;
use ledger::report::{Carry, Report};
use ledger::sync::{FRAME_BYTES_MAX, Frame, Run};
use scene::{Author, START_MS, admin, admitted, carry, disconnected, invitation, live, node, report, run};

/// A replica with one connected peer, number 2, that brings all ops.
fn replica() -> Replica {
    let (mut replica, _) = scene::open(1, 1, vec![]);
    replica.peer_up(node(2), START_MS);
    replica
}

/// The op as it comes in a run that another op's signature vouches for.
fn unsigned(op: &Op) -> Op {
    Op::decode(scene::network(), *op.slot(), op.bytes().to_vec(), None).unwrap()
}

fn give(replica: &mut Replica, frame: &[u8]) -> Vec<Output> {
    replica.receive(node(2), frame, START_MS)
}

/// The ops before are admitted, the last frame is refused: what is counted and whether the peer is dropped.
#[track_caller]
fn refused(before: &[&Op], frame: &[u8], count: fn(&Counters) -> u64, words: Option<&str>) {
    let mut replica = replica();
    for op in before {
        assert_eq!(
            admitted(&give(&mut replica, &live(op))).len(),
            1,
            "{:?}",
            replica.counters()
        );
    }
    let held = replica.log().len();
    let outputs = give(&mut replica, frame);
    assert_eq!(replica.log().len(), held, "nothing entered");
    assert_eq!(replica.waiting(), (0, 0), "nothing waits");
    assert_eq!(count(replica.counters()), 1, "{:?}", replica.counters());
    match (words, disconnected(&outputs)) {
        (Some(words), Some(why)) => assert!(why.contains(words), "`{why}` does not say `{words}`"),
        (None, None) => {}
        (_, why) => panic!("the peer was dropped: {why:?}"),
    }
    assert_eq!(replica.peers().count(), usize::from(words.is_none()));
}

#[test]
fn an_op_in_order_is_admitted_and_handed_on() {
    let (mut author, first) = Author::opened(2);
    let second = author.write(vec![], vec![Report::from(carry(1)).to_entry()]);
    let mut replica = replica();
    replica.peer_up(node(3), START_MS);
    for op in [&first, &second] {
        let outputs = give(&mut replica, &live(op));
        assert_eq!(admitted(&outputs), vec![op.clone()]);
        let brings = |frame: &[u8]| match Frame::decode(frame) {
            Ok(Frame::Ops(ops)) => ops.live && ops.stretches[0].bodies[0] == op.bytes(),
            _ => false,
        };
        let sent =
            |output: &Output| matches!(output, Output::Send { to, frame } if *to == node(3) && brings(frame));
        assert_eq!(outputs.iter().filter(|output| sent(output)).count(), 1);
    }
    assert_eq!(replica.counters().admitted, 2);
    assert!(give(&mut replica, &live(&second)).is_empty());
    assert_eq!(replica.counters().duplicate, 1);
}

#[test]
fn bytes_after_an_ops_end_are_refused() {
    let (author, first) = Author::opened(2);
    let mut run = scene::run_of(&[author.draft(vec![], vec![])], true);
    run.bodies[0].push(0);
    refused(
        &[&first],
        &Frame::Run(run).encode(),
        |c| c.malformed,
        Some("1 bytes follow the end"),
    );
}

#[test]
fn dependencies_out_of_order_are_refused() {
    let (mut author, first) = Author::opened(2);
    let names = vec![Dependency([2; 16]), Dependency([1; 16])];
    let op = author.write(names, vec![]);
    refused(
        &[&first],
        &live(&op),
        |c| c.malformed,
        Some("not in its canonical form"),
    );
}

#[test]
fn a_dependency_named_twice_is_refused() {
    let (mut author, first) = Author::opened(2);
    let op = author.write(vec![Dependency([1; 16]); 2], vec![]);
    refused(
        &[&first],
        &live(&op),
        |c| c.malformed,
        Some("not in its canonical form"),
    );
}

#[test]
fn a_body_over_the_bound_is_refused() {
    let (author, first) = Author::opened(2);
    let entry = Entry {
        kind: 999,
        version: 1,
        bytes: vec![0; ENTRY_BYTES_MAX],
    };
    let op = author.draft(vec![], vec![entry; 3]);
    assert!(op.bytes().len() > BODY_BYTES_MAX);
    refused(
        &[&first],
        &live(&op),
        |c| c.bad_frame,
        Some("at most 65536 is allowed"),
    );
}

#[test]
fn a_frame_over_the_bound_is_refused() {
    refused(
        &[],
        &vec![2; FRAME_BYTES_MAX + 1],
        |c| c.bad_frame,
        Some("at most 524288 is allowed"),
    );
}

#[test]
fn a_peer_of_another_version_is_told_apart() {
    let mut frame = Writer::new();
    frame.varint(0).varint(7).raw(b"whatever version 7 says");
    refused(&[], &frame.into_bytes(), |c| c.bad_frame, Some("version 7"));
}

#[test]
fn a_peer_of_another_network_is_dropped() {
    let mut other = scene::genesis();
    other.salt = [1; 16];
    let hello = ledger::sync::Hello {
        network: other.network(),
        root: [0; 32],
        talk: 0,
        summary: ledger::sync::Summary::Tags(vec![0]),
    };
    let outputs = give(&mut replica(), &Frame::Hello(hello).encode());
    assert!(disconnected(&outputs).unwrap().contains("network"));
}

#[test]
fn a_first_op_that_names_one_before_is_refused() {
    let mut author = Author::new(2);
    author.previous = OpId([1; 32]);
    let op = author.write(vec![], vec![scene::opening(2)]);
    refused(&[], &live(&op), |c| c.broken_link, Some("disagree"));
}

#[test]
fn a_later_op_that_names_none_before_is_refused() {
    let (mut author, first) = Author::opened(2);
    author.previous = OpId([0; 32]);
    let op = author.say("x");
    refused(&[&first], &live(&op), |c| c.broken_link, Some("disagree"));
}

#[test]
fn an_op_whose_predecessor_stands_elsewhere_is_refused() {
    let (mut author, first) = Author::opened(2);
    author.seq = 5;
    let op = author.say("x");
    refused(&[&first], &live(&op), |c| c.broken_link, Some("disagree"));
}

#[test]
fn another_op_in_a_filled_place_is_not_let_in_and_its_bringer_is_not_blamed() {
    let (mut author, first) = Author::opened(2);
    let other = author.draft(vec![], vec![report("the other side").to_entry()]);
    let second = author.say("x");
    let mut replica = replica();
    give(&mut replica, &run(&[first, second.clone()]));
    let outputs = give(&mut replica, &live(&other));
    assert_eq!(disconnected(&outputs), None);
    assert_eq!((replica.counters().quarantined, replica.counters().void), (1, 1));
    assert!(matches!(&outputs[..], [
        Output::Forked(proof), Output::Void(shown), Output::Quarantined { from_seq: 1, ops, .. }
    ] if proof.seq == 1 && *shown == [other] && *ops == [second]));
}

#[test]
fn an_op_that_follows_another_than_ours_is_refused() {
    let (mut author, first) = Author::opened(2);
    let second = author.say("x");
    author.previous = OpId([5; 32]);
    let op = author.say("after a fork");
    refused(&[&first, &second], &live(&op), |c| c.forked, None);
}

#[test]
fn a_clock_that_stands_still_in_a_chain_is_refused() {
    let (mut author, first) = Author::opened(2);
    author.hlc = first.body().hlc;
    let op = author.say("x");
    refused(&[&first], &live(&op), |c| c.clock_backwards, Some("clock"));
}

#[test]
fn a_clock_not_after_a_dependency_is_refused() {
    let (mut author, first) = Author::opened(2);
    let mut other = Author::new(3);
    other.hlc = Hlc::at_ms(START_MS + 500);
    let theirs = other.write(vec![], vec![scene::opening(3)]);
    let op = author.write(vec![theirs.id().into()], vec![]);
    refused(
        &[&first, &theirs],
        &live(&op),
        |c| c.clock_backwards,
        Some("clock"),
    );
}

#[test]
fn a_signature_by_another_key_is_refused() {
    let (mut author, first) = Author::opened(2);
    author.secret = scene::secret(3);
    let op = author.say("x");
    refused(&[&first], &live(&op), |c| c.bad_signature, Some("signature"));
}

#[test]
fn a_run_whose_head_has_a_bad_signature_is_refused_whole() {
    let (mut author, first) = Author::opened(2);
    let ops = [author.say("a"), author.say("b"), author.say("c")];
    let run = Run {
        signature: Signature([1; SIGNATURE_BYTES]),
        ..scene::run_of(&ops, false)
    };
    refused(
        &[&first],
        &Frame::Run(run).encode(),
        |c| c.bad_signature,
        Some("signature"),
    );
}

#[test]
fn a_changed_op_in_the_middle_of_a_run_breaks_its_signature() {
    let (mut author, first) = Author::opened(2);
    let ops = [author.say("a"), author.say("b"), author.say("c")];
    let mut run = scene::run_of(&ops, false);
    let middle = run.bodies[1].len() - 1;
    run.bodies[1][middle] ^= 1;
    refused(
        &[&first],
        &Frame::Run(run).encode(),
        |c| c.bad_signature,
        Some("signature"),
    );
}

#[test]
fn a_carried_thing_that_is_no_command_is_refused() {
    let (mut author, first) = Author::opened(2);
    let carry = Carry {
        command: vec![1, 2, 3],
    };
    let op = author.write(vec![], vec![Report::from(carry).to_entry()]);
    refused(
        &[&first],
        &live(&op),
        |c| c.malformed_command,
        Some("malformed command"),
    );
}

#[test]
fn an_entry_that_only_looks_like_a_carriage_is_refused() {
    let (mut author, first) = Author::opened(2);
    let entry = Entry {
        kind: 0x100,
        version: 1,
        bytes: vec![9, 9],
    };
    let op = author.write(vec![], vec![entry]);
    refused(
        &[&first],
        &live(&op),
        |c| c.malformed_command,
        Some("malformed command"),
    );
}

#[test]
fn an_op_with_a_forged_command_is_refused_whole() {
    let (mut author, first) = Author::opened(2);
    let mut forged = carry(1);
    let last = forged.command.len() - 1;
    forged.command[last] ^= 1;
    let entries = vec![Report::from(carry(2)).to_entry(), Report::from(forged).to_entry()];
    let op = author.write(vec![], entries);
    refused(
        &[&first],
        &live(&op),
        |c| c.forged_command,
        Some("command whose signature"),
    );
}

#[test]
fn a_command_of_an_unknown_kind_is_checked_and_passes() {
    let mut replica = replica();
    let (mut author, first) = Author::opened(2);
    give(&mut replica, &live(&first));
    // Built by hand as `command/mod.rs` draws it, with an entry of kind 0xff version 9.
    let key = scene::secret(200);
    let ledger::key::PublicKey::Ed25519(public) = key.public();
    let mut writer = Writer::new();
    writer
        .varint(0)
        .raw(&public)
        .raw(&[4; 16])
        .varint(START_MS)
        .varint(0);
    Entry {
        kind: 0xff,
        version: 9,
        bytes: vec![1],
    }
    .write(&mut writer);
    let unsigned = writer.into_bytes();
    let id = ledger::id::hash("formation 2026 command v1", &[&scene::network().0, &unsigned]);
    let command = [unsigned, key.sign(&id).0.to_vec()].concat();
    let op = author.write(vec![], vec![Report::from(Carry { command }).to_entry()]);
    assert_eq!(admitted(&give(&mut replica, &live(&op))).len(), 1);
}

#[test]
fn an_entry_of_an_unknown_kind_passes() {
    let mut replica = replica();
    let (mut author, first) = Author::opened(2);
    give(&mut replica, &live(&first));
    let op = author.write(
        vec![],
        vec![Entry {
            kind: 0x7777,
            version: 3,
            bytes: vec![1, 2, 3],
        }],
    );
    assert_eq!(admitted(&give(&mut replica, &live(&op))), vec![op]);
}

#[test]
fn a_chain_that_is_not_opened_is_refused() {
    let op = Author::new(2).say("no opening");
    refused(&[], &live(&op), |c| c.not_opened, Some("OpenChain"));
}

#[test]
fn an_opening_that_is_not_the_first_entry_is_refused() {
    let op = Author::new(2).write(vec![], vec![report("x").to_entry(), scene::opening(2)]);
    refused(&[], &live(&op), |c| c.not_opened, Some("OpenChain"));
}

#[test]
fn a_chain_opened_with_anothers_invitation_is_refused() {
    let op = Author::new(2).write(vec![], vec![scene::opening(3)]);
    refused(&[], &live(&op), |c| c.not_invited, Some("not for this one"));
}

#[test]
fn a_chain_opened_by_no_admins_invitation_is_refused() {
    let stranger = scene::secret(77);
    let invitation = Invitation {
        genesis: scene::genesis(),
        node: node(2),
        admin: stranger.public(),
        peers: Vec::new(),
    };
    let invitation = invitation.sign(&stranger).bytes().to_vec();
    let entry = Report::from(OpenChain {
        invitation,
        before: None,
    })
    .to_entry();
    let op = Author::new(2).write(vec![], vec![entry]);
    refused(&[], &live(&op), |c| c.not_invited, Some("no admin"));
}

#[test]
fn a_chain_opened_by_a_forged_invitation_is_refused() {
    let mut bytes = invitation(2).bytes().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let entry = Report::from(OpenChain {
        invitation: bytes,
        before: None,
    })
    .to_entry();
    let op = Author::new(2).write(vec![], vec![entry]);
    refused(
        &[],
        &live(&op),
        |c| c.not_invited,
        Some("signature does not hold"),
    );
}

#[test]
fn a_chain_opened_with_an_invitation_to_another_network_is_refused() {
    let mut other = scene::genesis();
    other.salt = [1; 16];
    let invitation = Invitation {
        genesis: other,
        node: node(2),
        admin: admin().public(),
        peers: Vec::new(),
    };
    let invitation = invitation.sign(&admin()).bytes().to_vec();
    let entry = Report::from(OpenChain {
        invitation,
        before: None,
    })
    .to_entry();
    let op = Author::new(2).write(vec![], vec![entry]);
    refused(&[], &live(&op), |c| c.not_invited, Some("is for network"));
}

#[test]
fn an_op_before_its_predecessor_waits_and_the_gap_is_asked_for() {
    let (mut author, first) = Author::opened(2);
    let ops = [author.say("a"), author.say("b")];
    let mut replica = replica();
    let outputs = give(&mut replica, &live(&ops[1]));
    assert!(
        outputs
            .iter()
            .any(|output| matches!(output, Output::Send { to, .. } if *to == node(2)))
    );
    assert_eq!((replica.counters().waited, replica.waiting().0), (1, 1));
    give(&mut replica, &live(&first));
    let outputs = give(&mut replica, &live(&ops[0]));
    assert_eq!(admitted(&outputs), ops.to_vec());
    assert_eq!(replica.waiting(), (0, 0));
}

#[test]
fn an_op_before_its_dependency_waits() {
    let (mut author, first) = Author::opened(2);
    let (_, theirs) = Author::opened(3);
    author.hlc = Hlc(author.hlc.0 + 10);
    let op = author.write(vec![theirs.id().into()], vec![]);
    let mut replica = replica();
    give(&mut replica, &live(&first));
    assert_eq!(admitted(&give(&mut replica, &live(&op))), vec![]);
    assert_eq!(admitted(&give(&mut replica, &live(&theirs))), vec![theirs, op]);
}

#[test]
fn an_op_from_the_future_is_held_and_does_not_move_the_clock() {
    let (mut author, first) = Author::opened(2);
    author.hlc = Hlc::at_ms(START_MS + AHEAD_MS_MAX + 500);
    let op = author.say("too early");
    let mut replica = replica();
    give(&mut replica, &live(&first));
    let clock = replica.clock();
    assert_eq!(admitted(&give(&mut replica, &live(&op))), vec![]);
    assert_eq!((replica.counters().held, replica.clock()), (1, clock));
    assert_eq!(admitted(&replica.tick(START_MS + 499)), vec![]);
    assert_eq!(admitted(&replica.tick(START_MS + 500)), vec![op.clone()]);
    assert_eq!(replica.clock(), op.body().hlc);
}

#[test]
fn what_is_only_a_little_ahead_is_admitted_and_own_ops_come_after_it() {
    let (mut author, first) = Author::opened(2);
    author.hlc = Hlc::at_ms(START_MS + AHEAD_MS_MAX);
    let op = author.say("ahead");
    let mut replica = replica();
    assert_eq!(admitted(&give(&mut replica, &run(&[first, op.clone()]))).len(), 2);
    let (id, _) = replica.append(vec![report("mine")], START_MS).unwrap();
    let own = replica.log().get(&id).unwrap();
    assert!(own.order() > op.order());
    assert!(own.body().dependencies.contains(&op.id().into()));
}

#[test]
fn a_wrong_clock_set_right_is_cured_by_a_new_start() {
    let later = START_MS + 3_600_000;
    let (mut ahead, outputs) =
        Replica::open(scene::setup(1, 1, ledger::admit::Verify::Real), vec![], later).unwrap();
    let mut stored = admitted(&outputs);
    stored.extend(admitted(
        &ahead.append(vec![report("an hour ahead")], later).unwrap().1,
    ));
    let (replica, outputs) = scene::open(1, 2, stored);
    let [opened] = &admitted(&outputs)[..] else {
        panic!("one op opens a chain")
    };
    assert_eq!(opened.body().hlc, Hlc::at_ms(START_MS));
    assert!(
        opened.body().dependencies.is_empty(),
        "it does not depend on the ops that are ahead"
    );
    assert_eq!(replica.log().len(), 3);
}

#[test]
fn a_part_of_a_run_is_admitted_while_the_rest_waits_and_is_told_to_nobody_before_it_is_proved() {
    let (mut author, first) = Author::opened(2);
    let (_, theirs) = Author::opened(3);
    author.hlc = Hlc(author.hlc.0 + 10);
    let early = author.say("early");
    let late = author.write(vec![theirs.id().into()], vec![]);
    let mut replica = replica();
    let outputs = give(&mut replica, &run(&[first, early.clone(), late.clone()]));
    assert_eq!(admitted(&outputs).len(), 2);
    assert_eq!(
        (
            replica.log().next(&author.chain),
            replica.log().vector().next(&author.chain)
        ),
        (2, 0)
    );
    // The signature of the op itself, come by another way, proves it.
    assert_eq!(admitted(&give(&mut replica, &live(&early))), vec![]);
    assert_eq!(replica.log().vector().next(&author.chain), 2);
    give(&mut replica, &live(&theirs));
    assert_eq!(replica.log().vector().next(&author.chain), 3);
    assert_eq!(replica.log().head(&author.chain), Some(&late));
}

#[test]
fn what_nothing_vouches_for_stays_short_enough_to_be_proved_later() {
    let (mut author, first) = Author::opened(2);
    let (_, theirs) = Author::opened(3);
    author.hlc = Hlc(author.hlc.0 + 10);
    let entry = Entry {
        kind: 999,
        version: 1,
        bytes: vec![0; 5_000],
    };
    let mut ops: Vec<Op> = (0..5)
        .map(|_| author.write(vec![], vec![entry.clone(); 2]))
        .collect();
    ops.push(author.write(vec![theirs.id().into()], vec![]));
    let mut replica = replica();
    give(&mut replica, &live(&first));
    // The head waits for its dependency, and of the 50 KB before it only 40 fit into a run.
    assert_eq!(admitted(&give(&mut replica, &run(&ops))).len(), 4);
    assert_eq!(replica.waiting().0, 2);
    assert_eq!(
        admitted(&give(&mut replica, &live(&ops[3]))),
        vec![unsigned(&ops[4])]
    );
    assert_eq!(
        admitted(&give(&mut replica, &live(&theirs))),
        vec![theirs, ops[5].clone()]
    );
    assert_eq!(replica.log().vector().next(&author.chain), 7);
}

#[test]
fn frames_of_a_peer_that_is_not_connected_are_ignored() {
    let (_, first) = Author::opened(2);
    let (mut replica, _) = scene::open(1, 1, vec![]);
    assert!(replica.receive(node(2), &live(&first), START_MS).is_empty());
    assert_eq!((replica.log().len(), replica.counters().stranger), (1, 1));
}

#[test]
fn what_does_not_fit_is_not_appended_and_says_why() {
    let mut replica = replica();
    let mut append = |reports: Vec<Report>| replica.append(reports, START_MS).map(|_| ()).unwrap_err();
    assert_eq!(append(vec![]), AppendError::Count(0));
    assert_eq!(
        append(vec![report("x"); ENTRIES_MAX + 1]),
        AppendError::Count(ENTRIES_MAX + 1)
    );
    assert!(matches!(
        append(vec![report(&"x".repeat(40_000))]),
        AppendError::EntryTooLarge { .. }
    ));
    assert!(matches!(
        append(vec![report(&"x".repeat(5_000))]),
        AppendError::Meaningless { .. }
    ));
    assert!(matches!(
        append(vec![report(&"x".repeat(4_000)); 20]),
        AppendError::TooLarge(_)
    ));
    assert!(matches!(
        append(vec![Carry { command: vec![] }.into()]),
        AppendError::MalformedCommand(_)
    ));
    let mut forged = carry(1);
    forged.command[40] ^= 1;
    assert_eq!(append(vec![forged.into()]), AppendError::ForgedCommand);
    assert_eq!(replica.log().len(), 1, "only the opening is there");
}

#[test]
fn nothing_is_appended_while_the_wall_clock_is_far_behind_the_chain() {
    let mut replica = replica();
    assert!(replica.append(vec![report("x")], START_MS - AHEAD_MS_MAX).is_ok());
    let error = replica
        .append(vec![report("x")], START_MS - AHEAD_MS_MAX - 1)
        .unwrap_err();
    assert_eq!(error, AppendError::ClockAhead(AHEAD_MS_MAX + 1));
    assert!(error.to_string().contains("start the node again"));
}

#[test]
fn a_replica_does_not_open_without_its_invitation_or_on_a_broken_chain_or_twice() {
    let mut setup = scene::setup(1, 1, ledger::admit::Verify::Real);
    setup.invitation = invitation(2);
    assert!(matches!(
        Replica::open(setup, vec![], START_MS),
        Err(OpenError::Invitation(_))
    ));

    let (mut author, _) = Author::opened(2);
    let setup = scene::setup(1, 1, ledger::admit::Verify::Real);
    let opened = Replica::open(setup.clone(), vec![author.say("gap")], START_MS);
    assert!(matches!(opened, Err(OpenError::Stored { seq: 1, .. })));

    let (_, outputs) = Replica::open(setup.clone(), vec![], START_MS).unwrap();
    let again = Replica::open(setup, admitted(&outputs), START_MS);
    assert!(matches!(again, Err(OpenError::IncarnationUsed(1))));
}
