//! The keys of an account: what each may sign, hand on, and end.

use ledger::command::accounts::OpenAccount;
use ledger::command::domains::ReleaseDomain;
use ledger::command::images::BuildImage;
use ledger::command::keys::{AddKey, RevokeKey, Scopes};
use ledger::id::{CommandId, Digest};
use projections::fold::Fold;
use projections::keys::{BELOW_MAX, DEPTH_MAX, KEPT_MS, KEYS_MAX};
use projections::outcome::Outcome;

use crate::script::{Dice, World, key};
use crate::{check, check_ops};

const DEPLOY: Scopes = Scopes {
    deploy: true,
    ..Scopes::READ
};

fn build_image(world: &World) -> BuildImage {
    BuildImage {
        name: "i".into(),
        context: Digest([1; 32]),
        context_bytes: 1,
        held_by: world.node(0),
    }
}

/// A world in which ann has an account, and the account.
fn ann() -> (World, CommandId, usize) {
    let mut world = World::new();
    let account = world.open("ann");
    let from = world.ops.len();
    (world, account, from)
}

fn add(world: &mut World, by: &str, who: &str, account: CommandId, scopes: Scopes) -> CommandId {
    let ask = world.key_of(who, account, scopes);
    world.ask(by, ask)
}

fn revoke(world: &mut World, by: &str, who: &str) -> CommandId {
    world.ask(by, RevokeKey { key: key(who) })
}

#[test]
fn a_key_signs_for_its_account_within_its_scopes() {
    let (mut world, account, from) = ann();
    let domains = Scopes {
        domains: true,
        ..Scopes::READ
    };
    add(&mut world, "ann", "ci", account, DEPLOY);
    add(&mut world, "ann", "names", account, domains);
    add(&mut world, "ann", "laptop", account, Scopes::ALL);
    add(&mut world, "ann", "watcher", account, Scopes::READ);
    for who in ["ci", "names", "laptop", "watcher"] {
        let build = build_image(&world);
        world.ask(who, build);
        world.ask(who, ReleaseDomain { name: "x.fog".into() });
    }
    let cloud = check_ops(
        &world,
        from,
        &[
            "AddKey: applied",
            "AddKey: applied",
            "AddKey: applied",
            "AddKey: applied",
            "BuildImage: applied",
            "ReleaseDomain: the key has no scope `domains`: sign with one that has",
            "BuildImage: the key has no scope `deploy`",
            "ReleaseDomain: there is no such",
            "BuildImage: applied",
            "ReleaseDomain: there is no such",
            "BuildImage: the key has no scope `deploy`",
            "ReleaseDomain: the key has no scope `domains`",
        ],
    );
    assert!(cloud.builds.values().all(|build| build.owner == account.into()));
    let keys: Vec<_> = cloud.keys_of(account.into()).collect();
    assert_eq!(keys.len(), 5);
    assert!(keys.iter().all(|(_, key)| key.account == account.into()));
}

#[test]
fn a_key_signs_for_one_account_and_only_if_it_wants() {
    let (mut world, account, from) = ann();
    let bob = world.ask("ci", OpenAccount { name: "ci".into() });
    add(&mut world, "ann", "ci", account, DEPLOY);
    let of_another = AddKey {
        consent: world.key_of("new", bob, DEPLOY).consent,
        ..world.key_of("new", account, DEPLOY)
    };
    world.ask("ann", of_another);
    let signed_by_ann = AddKey {
        consent: world.key_of("ann", account, DEPLOY).consent,
        ..world.key_of("new", account, DEPLOY)
    };
    world.ask("ann", signed_by_ann);
    add(&mut world, "ann", "new", account, DEPLOY);
    add(&mut world, "ci", "new", bob, DEPLOY);
    world.ask("new", OpenAccount { name: "new".into() });
    check_ops(
        &world,
        from,
        &[
            "OpenAccount: applied",
            "AddKey: the key signs for an account already",
            "AddKey: the new key's own signature over the account does not hold",
            "AddKey: the new key's own signature over the account does not hold",
            "AddKey: applied",
            "AddKey: the key signs for an account already",
            "OpenAccount: the key signs for an account already",
        ],
    );
}

#[test]
fn a_key_hands_on_no_more_than_it_has() {
    let (mut world, account, from) = ann();
    let ends = world.now_ms + 60_000;
    let ci = AddKey {
        expires_ms: Some(ends),
        ..world.key_of(
            "ci",
            account,
            Scopes {
                credits: Some(5),
                ..DEPLOY
            },
        )
    };
    world.ask("ann", ci);
    for scopes in [
        Scopes::ALL,
        Scopes {
            domains: true,
            ..DEPLOY
        },
        Scopes {
            credits: Some(6),
            ..DEPLOY
        },
    ] {
        add(&mut world, "ci", "below", account, scopes);
    }
    for expires_ms in [Some(ends + 1), Some(world.now_ms - 1)] {
        let ask = AddKey {
            expires_ms,
            ..world.key_of("below", account, DEPLOY)
        };
        world.ask("ci", ask);
    }
    add(&mut world, "ci", "below", account, DEPLOY);
    add(&mut world, "stranger", "other", account, DEPLOY);
    let cloud = check_ops(
        &world,
        from,
        &[
            "AddKey: applied",
            "AddKey: a key hands on no more than it has: this goes beyond its scope `account`",
            "AddKey: a key hands on no more than it has: this goes beyond its scope `domains`",
            "AddKey: a key hands on no more than it has: this goes beyond its scope `credits`",
            "AddKey: a key hands on no more than it has: this goes beyond its end",
            "AddKey: the key would have ended already",
            "AddKey: applied",
            "AddKey: the key signs for no account",
        ],
    );
    assert_eq!(
        cloud.keys[&key("below")].expires_ms,
        Some(ends),
        "it ends with the key that added it"
    );
}

#[test]
fn a_key_signs_till_its_end_and_not_after() {
    let (mut world, account, from) = ann();
    let ends = world.now_ms + 1000;
    let ci = AddKey {
        expires_ms: Some(ends),
        ..world.key_of("ci", account, DEPLOY)
    };
    world.ask("ann", ci);
    for now_ms in [ends, ends + 1] {
        world.now_ms = now_ms;
        let build = build_image(&world);
        world.ask("ci", build);
    }
    add(&mut world, "ci", "below", account, DEPLOY);
    check_ops(
        &world,
        from,
        &[
            "AddKey: applied",
            "BuildImage: applied",
            "BuildImage: the key has expired",
            "AddKey: the key has expired",
        ],
    );
}

#[test]
fn a_revoked_key_signs_nothing_and_all_below_falls_with_it() {
    let (mut world, account, from) = ann();
    add(&mut world, "ann", "laptop", account, Scopes::ALL);
    add(&mut world, "laptop", "ci", account, DEPLOY);
    add(&mut world, "ci", "job", account, DEPLOY);
    add(&mut world, "ann", "phone", account, DEPLOY);
    revoke(&mut world, "ann", "laptop");
    for who in ["laptop", "ci", "job", "phone"] {
        let build = build_image(&world);
        world.ask(who, build);
    }
    revoke(&mut world, "laptop", "ci");
    add(&mut world, "ci", "more", account, DEPLOY);
    revoke(&mut world, "ann", "laptop");
    revoke(&mut world, "ann", "job");
    add(&mut world, "ann", "ci", account, DEPLOY);
    world.ask("ci", OpenAccount { name: "mine".into() });
    let cloud = check_ops(
        &world,
        from,
        &[
            "AddKey: applied",
            "AddKey: applied",
            "AddKey: applied",
            "AddKey: applied",
            "RevokeKey: applied",
            "BuildImage: the key was revoked: sign with another key",
            "BuildImage: the key was revoked",
            "BuildImage: the key was revoked",
            "BuildImage: applied",
            "RevokeKey: the key was revoked",
            "AddKey: the key was revoked",
            "RevokeKey: it is so already: the key is revoked",
            "RevokeKey: it is so already: the key is revoked",
            "AddKey: the key was revoked: make a new one",
            "OpenAccount: the key signs for an account already",
        ],
    );
    let revoked = |who| cloud.keys[&key(who)].revoked.is_some();
    assert!(revoked("laptop") && revoked("ci") && revoked("job") && !revoked("phone"));
}

#[test]
fn a_key_revokes_only_what_lies_below_it() {
    let (mut world, account, from) = ann();
    add(&mut world, "ann", "laptop", account, Scopes::ALL);
    add(&mut world, "ann", "phone", account, Scopes::ALL);
    add(&mut world, "laptop", "ci", account, DEPLOY);
    add(&mut world, "ci", "job", account, DEPLOY);
    for (by, who) in [
        ("laptop", "ann"),
        ("laptop", "phone"),
        ("phone", "ci"),
        ("job", "ci"),
        ("laptop", "laptop"),
        ("laptop", "bob"),
        ("bob", "ci"),
        ("laptop", "nobody"),
    ] {
        revoke(&mut world, by, who);
    }
    revoke(&mut world, "laptop", "job");
    check_ops(
        &world,
        from,
        &[
            "AddKey: applied",
            "AddKey: applied",
            "AddKey: applied",
            "AddKey: applied",
            "RevokeKey: a key revokes only keys that it added",
            "RevokeKey: a key revokes only keys that it added",
            "RevokeKey: a key revokes only keys that it added",
            "RevokeKey: a key revokes only keys that it added",
            "RevokeKey: a key revokes only keys that it added",
            "RevokeKey: there is no such key of the account",
            "RevokeKey: there is no such key of the account",
            "RevokeKey: there is no such key of the account",
            "RevokeKey: applied",
        ],
    );
}

/// Whatever tree a history made, and whatever two keys try: never can each revoke the other.
#[test]
fn no_two_keys_can_revoke_each_other() {
    let names: Vec<String> = (0..9).map(|index| format!("k{index}")).collect();
    let mut revocable = 0;
    for seed in 0..12 {
        let mut dice = Dice(seed);
        let mut world = World::new();
        let account = world.open(&names[0]);
        let stranger = world.open("stranger");
        for who in 1..names.len() {
            add(
                &mut world,
                &names[dice.roll(who)],
                &names[who],
                account,
                Scopes::ALL,
            );
            let again = &names[1 + dice.roll(names.len() - 1)];
            let account = if dice.roll(3) == 0 { stranger } else { account };
            add(
                &mut world,
                &names[dice.roll(names.len())],
                again,
                account,
                Scopes::ALL,
            );
        }
        let written = world.ops.len();
        let mut applied = |by: &str, who: &str| {
            let tried = revoke(&mut world, by, who);
            let mut fold = Fold::new(world.genesis.clone());
            fold.apply(world.ops.clone());
            world.take_back(0, written);
            fold.cloud().commands[&tried].outcome == Outcome::Applied
        };
        for left in &names {
            assert!(!applied(left, left), "seed {seed}: {left}");
            for right in names.iter().filter(|right| *right > left) {
                let both = (applied(left, right), applied(right, left));
                assert_ne!(both, (true, true), "seed {seed}: {left} and {right}");
                revocable += usize::from(both.0 || both.1);
            }
        }
    }
    assert!(revocable > 100, "{revocable}: the trees have branches");
}

/// A child takes keys in and ends keys while its parent ends it: what remains is the same whichever comes
/// first.
#[test]
fn the_older_authority_wins_in_either_order() {
    for parent_first in [true, false] {
        let (mut world, account, _) = ann();
        add(&mut world, "ann", "laptop", account, Scopes::ALL);
        add(&mut world, "laptop", "ci", account, DEPLOY);
        let end = world.sign("ann", RevokeKey { key: key("laptop") });
        let ask = world.key_of("thief", account, DEPLOY);
        let thief = [
            world.sign("laptop", ask),
            world.sign("laptop", RevokeKey { key: key("ann") }),
            world.sign("laptop", RevokeKey { key: key("ci") }),
        ];
        if parent_first {
            world.carry(&end);
        }
        for command in &thief {
            world.carry(command);
        }
        if !parent_first {
            world.carry(&end);
        }
        let build = build_image(&world);
        world.ask("thief", build);
        let mut fold = Fold::new(world.genesis.clone());
        fold.apply(world.ops);
        let cloud = fold.cloud();
        let standing = cloud
            .keys_of(account.into())
            .filter(|(_, key)| key.revoked.is_none())
            .map(|(key, _)| key);
        assert_eq!(standing.collect::<Vec<_>>(), [key("ann")]);
        assert!(cloud.builds.is_empty());
    }
}

#[test]
fn keys_go_down_a_few_steps_only() {
    let (mut world, account, from) = ann();
    let mut by = "ann".to_owned();
    for depth in 0..=DEPTH_MAX {
        let who = format!("d{depth}");
        add(&mut world, &by, &who, account, Scopes::ALL);
        by = who;
    }
    let mut expect = vec!["AddKey: applied"; usize::from(DEPTH_MAX)];
    expect.push("AddKey: there are 4 steps from the account's first key");
    check_ops(&world, from, &expect);
}

#[test]
fn an_account_has_so_many_keys_and_those_long_ended_make_room() {
    let (mut world, account, from) = ann();
    for index in 1..=KEYS_MAX {
        add(&mut world, "ann", &format!("k{index}"), account, DEPLOY);
    }
    revoke(&mut world, "ann", "k1");
    let ended = world.now_ms;
    world.now_ms = ended + KEPT_MS - 1000;
    add(&mut world, "ann", "more", account, DEPLOY);
    world.now_ms = ended + KEPT_MS + 1000;
    add(&mut world, "ann", "more", account, DEPLOY);
    let mut expect = vec!["AddKey: applied"; KEYS_MAX - 1];
    expect.push("AddKey: there are 256 keys of the account");
    expect.push("RevokeKey: applied");
    expect.push("AddKey: there are 256 keys of the account");
    expect.push("AddKey: applied");
    let cloud = check_ops(&world, from, &expect);
    assert!(!cloud.keys.contains_key(&key("k1")));
    assert_eq!(cloud.keys_of(account.into()).count(), KEYS_MAX);
}

#[test]
fn a_lesser_key_cannot_use_the_places_of_an_account_up() {
    let (mut world, account, from) = ann();
    add(&mut world, "ann", "ci", account, DEPLOY);
    add(&mut world, "ci", "job", account, DEPLOY);
    for index in 1..BELOW_MAX {
        add(&mut world, "job", &format!("k{index}"), account, DEPLOY);
    }
    add(&mut world, "job", "more", account, DEPLOY);
    add(&mut world, "ci", "more", account, DEPLOY);
    add(&mut world, "ann", "more", account, DEPLOY);
    let mut expect = vec!["AddKey: applied"; 1 + BELOW_MAX];
    expect.push("AddKey: there are 16 keys below one without the scope `account`");
    expect.push("AddKey: there are 16 keys below one without the scope `account`");
    expect.push("AddKey: applied");
    check_ops(&world, from, &expect);
}

#[test]
fn a_new_key_says_after_which_command_of_the_account_it_comes() {
    check(
        |world| {
            let account = world.open("ann");
            let ask = world.key_of("ci", account, DEPLOY);
            let added = world.sign("ann", ask);
            let build = build_image(world);
            let of_bob = world.ask("bob", build);
            for after in [vec![added.id()], vec![of_bob]] {
                let build = build_image(world);
                let early = world.sign_with("ci", build.clone(), |command| command.after = after.clone());
                world.carry(&early);
                world.carry(&added);
                let late = world.sign_with("ci", build, |command| command.after = after);
                world.carry(&late);
            }
        },
        &[
            "OpenAccount: applied",
            "BuildImage: applied",
            "BuildImage: the command ",
            "AddKey: applied",
            "BuildImage: applied",
            "BuildImage: the command ",
            "AddKey: this command is in the log already",
            "BuildImage: the command ",
        ],
    );
}
