//! What the witnesses certify is final on every node, also after a restart, also for who came late.

use ledger::command::SignedCommand;
use ledger::finality::witness::WitnessSet;
use reactors::node::{Input, SubmitError, WAIT_MS_MAX, Wait};

use crate::wire::{Net, id, open_account, witnessed_by};

fn finally(token: u64, command: &SignedCommand) -> Input {
    Input::Submit {
        token,
        command: command.bytes().to_vec(),
        id: command.id(),
        wait: Wait::Final,
    }
}

/// Nodes of a network whose witnesses are those of these numbers, all connected.
fn net(count: u8, witnesses: &[u8]) -> Net {
    let set = WitnessSet::of_equals(witnesses.iter().map(|number| id(*number))).expect("a small set");
    witnessed_by(set);
    let mut net = Net::of(count);
    for a in 1..=count {
        for b in a + 1..=count {
            net.connect(a, b);
        }
    }
    net.pass(6_000);
    net
}

fn heights(net: &Net) -> Vec<u64> {
    net.stations
        .iter()
        .map(|station| station.node.finality().height)
        .collect()
}

/// All are at one height, with one state, and it is the whole of what they hold.
#[track_caller]
fn check_all_final(net: &Net) {
    let first = net.stations[0].node.finality();
    for station in &net.stations {
        let here = station.node.finality();
        assert_eq!((here.height, here.state), (first.height, first.state));
        assert_eq!(station.node.alarm(), None);
        assert_eq!(
            station.node.replica().log().tentative(),
            0,
            "node {}",
            station.number
        );
        assert_eq!(station.node.cloud(), net.stations[0].node.cloud());
    }
}

#[test]
fn one_witness_makes_final_what_it_and_others_say() {
    let mut net = net(3, &[1]);
    let command = open_account(100, 1, "ann");
    net.give(2, finally(1, &command));
    assert!(net.at(2).replies.is_empty());
    net.pass(2_000);
    assert!(net.at(2).replies.remove(&1).is_some_and(|reply| reply.is_ok()));
    check_all_final(&net);
    let journal = net.at(2).journal.iter().rev();
    let told = journal.filter_map(|record| record.checkpoint()).next();
    let height = net.at(2).node.finality().height;
    assert_eq!(told.map(|(_, told)| told.height), Some(height));
}

#[test]
fn four_witnesses_do_without_one_and_not_without_two() {
    let mut net = net(5, &[1, 2, 3, 4]);
    check_all_final(&net);
    net.cut(4, 1);
    net.cut(4, 2);
    net.cut(4, 3);
    net.cut(4, 5);
    let command = open_account(100, 1, "ann");
    net.give(5, finally(1, &command));
    net.pass(3_000);
    assert!(net.at(5).replies.remove(&1).is_some_and(|reply| reply.is_ok()));
    // Without a quorum everything goes on, tentative.
    for other in [1, 2, 5] {
        net.cut(3, other);
    }
    let command = open_account(101, 1, "bob");
    net.give(1, finally(2, &command));
    net.pass(WAIT_MS_MAX + 2_000);
    assert_eq!(net.at(1).replies.remove(&2), Some(Err(SubmitError::NotFinal)));
    assert!(net.at(1).knows(command.id()));
    // And is final once there is one again.
    for (a, b) in [(3, 1), (3, 2), (4, 1), (4, 2), (4, 5)] {
        net.connect(a, b);
    }
    net.pass(6_000);
    check_all_final(&net);
}

#[test]
fn a_node_that_restarts_stands_where_it_stood_and_votes_on() {
    let mut net = net(4, &[1, 2, 3, 4]);
    net.give(1, finally(1, &open_account(100, 1, "ann")));
    net.pass(2_000);
    let before = heights(&net);
    let state = net.at(2).node.finality().state;
    net.restart(2, 2);
    assert_eq!(net.at(2).node.finality().height, before[1]);
    assert_eq!(net.at(2).node.finality().state, state);
    for other in [1, 3, 4] {
        net.connect(2, other);
    }
    // The others are one witness short of a quorum without it.
    net.cut(3, 1);
    net.cut(3, 2);
    net.cut(3, 4);
    net.give(4, finally(2, &open_account(101, 1, "bob")));
    net.pass(5_000);
    assert!(net.at(4).replies.remove(&2).is_some_and(|reply| reply.is_ok()));
    assert!(heights(&net)[3] > before[3]);
}

#[test]
fn a_node_that_was_away_follows_the_certificates() {
    let mut net = net(3, &[1]);
    net.cut(3, 1);
    net.cut(3, 2);
    for number in 0..30 {
        net.give(
            1,
            finally(
                number,
                &open_account(100 + number as u8, 1, &format!("a-{number}")),
            ),
        );
        net.pass(400);
    }
    assert!(heights(&net)[0] > heights(&net)[2] + 10);
    net.connect(3, 2);
    net.pass(8_000);
    check_all_final(&net);
}

#[test]
fn an_idle_network_is_silent_but_for_a_heartbeat() {
    let mut net = net(4, &[1, 2, 3, 4]);
    let before = heights(&net)[0];
    net.pass(50_000);
    assert_eq!(
        heights(&net)[0],
        before,
        "nothing was said, so nothing is certified"
    );
    net.pass(20_000);
    assert_eq!(heights(&net)[0], before + 1, "certified time goes on");
    check_all_final(&net);
}

#[test]
fn a_member_says_once_a_day_that_it_is_still_there() {
    let mut net = net(1, &[1]);
    let renewed = |net: &mut Net| net.at(1).node.cloud().nodes[&id(1)].renewed_ms;
    let first = renewed(&mut net);
    let said = net.at(1).appended();
    net.now_ms += 23 * 60 * 60 * 1000;
    net.pass(5_000);
    assert_eq!(
        (renewed(&mut net), net.at(1).appended()),
        (first, said),
        "not before a day is over"
    );
    net.now_ms += 60 * 60 * 1000;
    net.pass(5_000);
    assert!(renewed(&mut net) >= first + 24 * 60 * 60 * 1000);
    let said = net.at(1).appended();
    net.pass(10_000);
    assert_eq!(net.at(1).appended(), said, "and once is enough");
}
