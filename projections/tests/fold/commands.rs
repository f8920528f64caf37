//! Whether a carried command counts at all.

use ledger::command::LIFETIME_MS_MAX;
use ledger::command::accounts::OpenAccount;
use ledger::command::images::BuildImage;
use ledger::entry::Entry;
use ledger::id::{CommandId, Digest};
use ledger::report::Carry;

use crate::script::World;
use crate::{check, check_ops};

fn build_image(world: &World) -> BuildImage {
    BuildImage {
        name: "i".into(),
        context: Digest([1; 32]),
        context_bytes: 1,
        held_by: world.node(0),
    }
}

#[test]
fn a_command_counts_once() {
    check(
        |world| {
            let body = build_image(world);
            let command = world.sign("alice", body);
            world.carry(&command);
            world.carry(&command);
        },
        &[
            "BuildImage: applied",
            "BuildImage: this command is in the log already",
        ],
    );
}

#[test]
fn a_key_uses_a_nonce_once() {
    let (second, cloud) = check(
        |world| {
            let body = build_image(world);
            let first = world.sign("alice", body.clone());
            let other = BuildImage {
                name: "other".into(),
                ..body.clone()
            };
            let second = world.sign_with("alice", other, |command| command.nonce = first.command().nonce);
            let of_bob = world.sign_with("bob", body, |command| command.nonce = first.command().nonce);
            world.carry(&first);
            world.carry(&second);
            world.carry(&of_bob);
            second
        },
        &[
            "BuildImage: applied",
            "BuildImage: the nonce was used for another command",
            "BuildImage: applied",
        ],
    );
    assert!(
        cloud.commands.contains_key(&second.id()),
        "its record tells what became of it"
    );
}

#[test]
fn a_command_counts_until_its_time_and_not_after() {
    check(
        |world| {
            let body = build_image(world);
            let in_time = world.sign("alice", body.clone());
            world.now_ms = in_time.command().not_after_ms;
            world.carry(&in_time);
            let late = world.sign("alice", body);
            world.now_ms = late.command().not_after_ms + 1;
            world.carry(&late);
        },
        &["BuildImage: applied", "BuildImage: the command expired"],
    );
}

#[test]
fn a_command_cannot_ask_to_count_for_more_than_a_day() {
    check(
        |world| {
            let body = build_image(world);
            let latest = world.now_ms + LIFETIME_MS_MAX;
            let for_a_day = world.sign_with("alice", body.clone(), |command| command.not_after_ms = latest);
            world.carry(&for_a_day);
            let beyond = world.now_ms + LIFETIME_MS_MAX + 1;
            let longer = world.sign_with("alice", body, |command| command.not_after_ms = beyond);
            world.carry(&longer);
        },
        &[
            "BuildImage: applied",
            "BuildImage: the command's `not_after` is more than 24 hours ahead",
        ],
    );
}

#[test]
fn a_void_command_is_used_up_and_cannot_wait_for_a_better_moment() {
    check(
        |world| {
            let body = build_image(world);
            let (early, first) = (
                world.now_ms + LIFETIME_MS_MAX + 5_000,
                world.sign("alice", body.clone()),
            );
            let too_far = world.sign_with("alice", body.clone(), |command| command.not_after_ms = early);
            let second = world.sign_with("alice", body.clone(), |command| command.after = vec![first.id()]);
            let no_account = world.sign("carol", body);
            world.carry(&too_far);
            world.carry(&second);
            world.carry(&no_account);
            world.open("carol");
            world.carry(&first);
            world.now_ms += 10_000;
            world.carry(&too_far);
            world.carry(&second);
            world.carry(&no_account);
        },
        &[
            "BuildImage: the command's `not_after` is more than 24 hours ahead",
            "BuildImage: the command ",
            "BuildImage: the key signs for no account",
            "OpenAccount: applied",
            "BuildImage: applied",
            "BuildImage: this command is in the log already",
            "BuildImage: this command is in the log already",
            "BuildImage: this command is in the log already",
        ],
    );
}

#[test]
fn a_command_counts_only_after_those_that_it_names() {
    check(
        |world| {
            let body = build_image(world);
            let of_bob = world.ask("bob", body.clone());
            let first = world.ask("alice", body.clone());
            for after in [vec![first], vec![first, CommandId([9; 32])], vec![of_bob]] {
                let command = world.sign_with("alice", body.clone(), |command| command.after = after);
                world.carry(&command);
            }
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "BuildImage: applied",
            "BuildImage: the command 0909090909",
            "BuildImage: the command ",
        ],
    );
}

#[test]
fn who_has_no_account_can_only_open_one() {
    check(
        |world| {
            let body = build_image(world);
            world.ask("carol", body);
            world.open("carol");
        },
        &["BuildImage: the key signs for no account", "OpenAccount: applied"],
    );
}

#[test]
fn an_account_has_one_key_and_a_name_of_its_own() {
    let ((), cloud) = check(
        |world| {
            world.ask(
                "alice",
                OpenAccount {
                    name: "alice-two".into(),
                },
            );
            world.ask("carol", OpenAccount { name: "bob".into() });
            world.ask("carol", OpenAccount { name: "carol".into() });
        },
        &[
            "OpenAccount: the key signs for an account already",
            "OpenAccount: the name `bob` is taken",
            "OpenAccount: applied",
        ],
    );
    let carol = cloud.account_named("carol").expect("opened");
    assert_eq!(cloud.account_of(&carol.key), Some(carol));
    assert_eq!(cloud.accounts.len(), 3);
}

#[test]
fn what_nobody_understands_is_void_and_harms_nothing() {
    check(
        |world| {
            let known = world
                .sign("alice", OpenAccount { name: "x".into() })
                .command()
                .body
                .to_entry();
            let mut tail = ledger::report::Report::from(Carry { command: vec![1] }).to_entry();
            tail.bytes.push(0);
            let body = build_image(world);
            let next = world.sign("alice", body);
            let entries = vec![
                Entry {
                    kind: 0x1ff,
                    version: 1,
                    bytes: vec![1, 2, 3],
                },
                Entry {
                    kind: 0x100,
                    version: 2,
                    bytes: vec![],
                },
                Entry {
                    kind: 0x105,
                    version: 1,
                    bytes: vec![0xff; 40],
                },
                known,
                tail,
                ledger::report::Report::from(Carry {
                    command: vec![0xff; 90],
                })
                .to_entry(),
                ledger::report::Report::from(Carry {
                    command: next.bytes().to_vec(),
                })
                .to_entry(),
            ];
            world.op(0, entries);
            world.op(0, Vec::new());
        },
        &[
            "Unknown: kind 511 version 1 does not count in this network until its admins activate it",
            "Unknown: kind 256 version 2 does not count",
            "Unknown: the entry is not understood: ",
            "Unknown: the entry is not understood: kind 1 version 1 is not known",
            "Unknown: the entry is not understood: ",
            "Carry: the entry is not understood: ",
            "BuildImage: applied",
        ],
    );
}

#[test]
fn a_stranger_carries_nothing_and_uses_nothing_up() {
    let mut world = World::new();
    let stranger = world.add_node();
    let body = build_image(&world);
    let command = world.sign("alice", body);
    let from = world.ops.len();
    world.say(
        stranger,
        Carry {
            command: command.bytes().to_vec(),
        },
    );
    world.carry(&command);
    check_ops(
        &world,
        from,
        &[
            "BuildImage: the node that says so has no right to",
            "BuildImage: applied",
        ],
    );
}
