//! An answer that waits for copies.

use ledger::command::SignedCommand;
use reactors::node::{Input, SubmitError, WAIT_MS_MAX, Wait};

use crate::wire::{Net, open_account};

fn replicated(token: u64, command: &SignedCommand, others: u8) -> Input {
    Input::Submit {
        token,
        command: command.bytes().to_vec(),
        id: command.id(),
        wait: Wait::Replicated(others),
    }
}

fn three() -> Net {
    let mut net = Net::of(3);
    net.connect(1, 2);
    net.connect(1, 3);
    net.pass(2_000);
    net
}

#[test]
fn an_answer_waits_till_enough_others_hold_the_op() {
    let mut net = three();
    let command = open_account(100, 1, "ann");
    net.give(1, replicated(1, &command, 2));
    assert!(net.at(1).replies.is_empty(), "nobody has said anything yet");
    net.carry();
    assert!(net.at(1).replies.remove(&1).is_some_and(|reply| reply.is_ok()));
    for other in [2, 3] {
        assert!(net.at(other).knows(command.id()));
    }
    // Asked again elsewhere, where it is an op of another node's.
    net.give(2, replicated(2, &command, 1));
    net.carry();
    assert!(net.at(2).replies.remove(&2).is_some_and(|reply| reply.is_ok()));
}

#[test]
fn an_answer_without_enough_copies_says_so_in_time_and_the_command_stays() {
    let mut net = three();
    net.cut(1, 3);
    let command = open_account(100, 1, "ann");
    net.give(1, replicated(1, &command, 2));
    net.carry();
    assert!(net.at(1).replies.is_empty());
    net.pass(WAIT_MS_MAX + 2_000);
    let reply = net.at(1).replies.remove(&1).expect("the wait is bounded");
    assert_eq!(reply, Err(SubmitError::NotReplicated { needed: 2, held: 1 }));
    assert!(net.at(1).knows(command.id()));
    // It is asked again every second, so a peer that comes late counts.
    net.give(1, replicated(2, &command, 2));
    net.connect(1, 3);
    net.pass(3_000);
    assert!(net.at(1).replies.remove(&2).is_some_and(|reply| reply.is_ok()));
}
