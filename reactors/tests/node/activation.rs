//! A kind that the network has activated and this build does not know.

use ledger::clock::Hlc;
use ledger::command::admin::{Act, ApproveAct};
use ledger::entry::Entry;
use ledger::finality::witness::WitnessSet;
use ledger::id::OpId;
use ledger::op::{Body, Chain, Op, Slot};
use ledger::report::Report;
use ledger::report::nodes::OpenChain;
use ledger::sync::{Frame, Run};
use projections::outcome::Outcome;
use reactors::node::Input;

use crate::wire::{BEGIN_MS, Net, admin_command, id, invitation, network, secret, witnessed_by};

const UNKNOWN: (u16, u8) = (0x1ff, 1);

/// The first op of node 3, which runs a newer build, as a frame.
fn of_a_newer_build(hlc_ms: u64) -> Vec<u8> {
    let chain = Chain {
        node: id(3),
        incarnation: 1,
    };
    let slot = Slot {
        chain,
        seq: 0,
        previous: OpId([0; 32]),
    };
    let opening = Report::from(OpenChain {
        invitation: invitation("home", 3).bytes().to_vec(),
        before: None,
    });
    let news = Entry {
        kind: UNKNOWN.0,
        version: UNKNOWN.1,
        bytes: vec![1, 2, 3],
    };
    let body = Body {
        hlc: Hlc::at_ms(hlc_ms),
        dependencies: Vec::new(),
        entries: vec![opening.to_entry(), news],
    };
    let op = Op::sign(network("home"), slot, body, &secret(3));
    let run = Run {
        live: true,
        chain,
        first: 0,
        previous: slot.previous,
        bodies: vec![op.bytes().to_vec()],
        signature: op.signature().expect("signed"),
    };
    let mut frame = vec![0];
    frame.extend(Frame::Run(run).encode());
    frame
}

fn bring(net: &mut Net) {
    let now_ms = net.now_ms;
    net.give(1, Input::PeerUp(id(3)));
    let mut shown = vec![2];
    shown.extend(invitation("home", 3).bytes());
    net.give(
        1,
        Input::Frame {
            from: id(3),
            bytes: shown,
        },
    );
    net.give(
        1,
        Input::Frame {
            from: id(3),
            bytes: of_a_newer_build(now_ms),
        },
    );
}

fn net() -> Net {
    witnessed_by(WitnessSet::of_equals([id(1)]).expect("one"));
    let mut net = Net::of(1);
    net.pass(3_000);
    net
}

#[test]
fn a_node_that_lacks_an_activated_kind_stops_before_it_and_says_so() {
    let mut net = net();
    let act = ApproveAct {
        act: Act::Activate {
            kind: UNKNOWN.0,
            version: UNKNOWN.1,
        },
        salt: [1; 16],
        expires_ms: BEGIN_MS + 3_600_000,
    };
    let activate = admin_command(1, act.into());
    let now_ms = net.now_ms;
    assert_eq!(net.at(1).submit(1, &activate, now_ms).outcome, Outcome::Applied);
    net.pass(3_000);
    let before = net.at(1).node.finality();
    bring(&mut net);
    net.pass(3_000);
    let after = net.at(1).node.finality();
    assert_eq!(
        (after.height, after.state),
        (before.height, before.state),
        "nothing after it is final"
    );
    let alarm = net.at(1).node.alarm().expect("it says so");
    assert!(
        alarm.contains("kind 0x1ff version 1") && alarm.contains("newer build"),
        "{alarm}"
    );
}

#[test]
fn a_kind_that_nobody_activated_is_void_and_stops_nobody() {
    let mut net = net();
    let before = net.at(1).node.finality().height;
    bring(&mut net);
    net.pass(3_000);
    assert!(net.at(1).node.finality().height > before);
    assert_eq!(net.at(1).node.alarm(), None);
}
