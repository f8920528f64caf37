//! What the network's admins do together.

use ledger::command::admin::{ACT_LIFETIME_MS_MAX, Act, ApproveAct};
use ledger::finality::witness::WitnessSet;
use ledger::genesis::ADMINS_MAX;
use ledger::id::{AccountId, NodeId};
use projections::admin::{REMEMBERED_MS, WAITING_MAX};
use projections::fold::Fold;
use projections::outcome::Outcome;

use crate::check_ops;
use crate::script::{BEGIN_MS, World, key};

/// Three nodes, and three admins of whom two have to agree.
fn two_of_three() -> World {
    let mut world = World::with_admins(&["ada", "ben", "cem"], 2);
    for _ in 0..3 {
        world.join();
    }
    world
}

#[test]
fn an_act_takes_effect_with_the_approval_that_makes_enough_and_once() {
    let mut world = two_of_three();
    let from = world.ops.len();
    let add = || Act::AddAdmin(key("dee"));
    world.approve("ada", add());
    world.approve("ada", add());
    let before = check_ops(
        &world,
        from,
        &["ApproveAct: applied", "ApproveAct: it is so already: this admin"],
    );
    assert!(!before.admins.contains_key(&key("dee")));
    let waiting: Vec<_> = before.acts_waiting(world.now_ms).collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].1.approvals, [key("ada")]);
    world.approve("ben", add());
    world.approve("cem", add());
    world.approve("ada", add());
    let cloud = check_ops(
        &world,
        from,
        &[
            "ApproveAct: applied",
            "ApproveAct: it is so already: this admin has approved the act",
            "ApproveAct: applied",
            "ApproveAct: it is so already: the act took effect",
            "ApproveAct: it is so already: the act took effect",
        ],
    );
    assert!(cloud.admins.contains_key(&key("dee")));
    assert_eq!(cloud.acts_waiting(world.now_ms).count(), 0);
}

#[test]
fn only_what_is_the_same_in_act_salt_and_end_is_approved_together() {
    let mut world = two_of_three();
    let from = world.ops.len();
    let ask = |act, salt, expires_ms| ApproveAct {
        act,
        salt,
        expires_ms,
    };
    let (add, end_ms) = (|who| Act::AddAdmin(key(who)), BEGIN_MS + 1_000_000);
    world.ask("ada", ask(add("dee"), [0; 16], end_ms));
    world.ask("ben", ask(add("eve"), [0; 16], end_ms));
    world.ask("ben", ask(add("dee"), [1; 16], end_ms));
    world.ask("ben", ask(add("dee"), [0; 16], end_ms + 1));
    let cloud = check_ops(&world, from, &["ApproveAct: applied"; 4]);
    assert_eq!(cloud.admins.len(), 3);
    assert_eq!(cloud.acts_waiting(world.now_ms).count(), 4);
}

#[test]
fn one_admin_of_one_acts_at_once_and_nobody_else_does() {
    let mut world = World::new();
    let from = world.ops.len();
    world.approve("alice", Act::AddAdmin(key("alice")));
    world.approve("admin", Act::AddAdmin(key("alice")));
    world.approve("admin", Act::AddAdmin(key("admin")));
    world.approve("alice", Act::RemoveAdmin(key("admin")));
    world.approve("admin", Act::AddAdmin(key("dee")));
    world.approve("alice", Act::RemoveAdmin(key("alice")));
    world.approve("alice", Act::RemoveAdmin(key("nobody")));
    let cloud = check_ops(
        &world,
        from,
        &[
            "ApproveAct: ed25519:",
            "ApproveAct: applied",
            "ApproveAct: it is so already: the key is an admin's",
            "ApproveAct: applied",
            "ApproveAct: ed25519:",
            "ApproveAct: 1 admins are needed and there are no more",
            "ApproveAct: there is no such admin",
        ],
    );
    assert_eq!(cloud.admins.keys().copied().collect::<Vec<_>>(), [key("alice")]);
}

/// Equals at odds: the act that is complete first counts.
#[test]
fn of_two_admins_who_end_each_other_one_remains() {
    for order in [["ada", "ben"], ["ben", "ada"]] {
        let mut world = World::with_admins(&["ada", "ben"], 1);
        world.join();
        let from = world.ops.len();
        world.approve(order[0], Act::RemoveAdmin(key(order[1])));
        world.approve(order[1], Act::RemoveAdmin(key(order[0])));
        let cloud = check_ops(&world, from, &["ApproveAct: applied", "ApproveAct: ed25519:"]);
        assert_eq!(cloud.admins.keys().copied().collect::<Vec<_>>(), [key(order[0])]);
    }
}

#[test]
fn who_is_no_admin_any_more_has_approved_nothing() {
    let mut world = two_of_three();
    let from = world.ops.len();
    world.approve("cem", Act::AddAdmin(key("dee")));
    world.approve("ada", Act::RemoveAdmin(key("cem")));
    world.approve("ben", Act::RemoveAdmin(key("cem")));
    world.approve("ada", Act::AddAdmin(key("dee")));
    let cloud = check_ops(&world, from, &["ApproveAct: applied"; 4]);
    assert!(!cloud.admins.contains_key(&key("dee")));
    world.approve("ben", Act::AddAdmin(key("dee")));
    let cloud = check_ops(&world, from, &["ApproveAct: applied"; 5]);
    assert!(cloud.admins.contains_key(&key("dee")));
}

#[test]
fn the_number_needed_is_one_that_there_are() {
    let mut world = two_of_three();
    let from = world.ops.len();
    let both = |world: &mut World, act: Act| {
        world.approve("ada", act.clone());
        world.approve("ben", act);
    };
    both(&mut world, Act::SetAdminsNeeded(4));
    both(&mut world, Act::SetAdminsNeeded(2));
    both(&mut world, Act::SetAdminsNeeded(3));
    both(&mut world, Act::AddAdmin(key("dee")));
    let cloud = check_ops(
        &world,
        from,
        &[
            "ApproveAct: applied",
            "ApproveAct: there are 3 admins, fewer than 4",
            "ApproveAct: applied",
            "ApproveAct: it is so already: 2 admins are needed",
            "ApproveAct: applied",
            "ApproveAct: applied",
            "ApproveAct: applied",
            "ApproveAct: applied",
        ],
    );
    assert_eq!(cloud.admins_needed(), 3);
    assert!(
        !cloud.admins.contains_key(&key("dee")),
        "a third has to agree now"
    );
}

#[test]
fn what_was_approved_enough_takes_effect_once_fewer_are_needed() {
    let mut world = World::with_admins(&["ada", "ben", "cem"], 3);
    world.join();
    let from = world.ops.len();
    world.approve("ada", Act::AddAdmin(key("dee")));
    world.approve("ben", Act::AddAdmin(key("dee")));
    for who in ["ada", "ben", "cem"] {
        world.approve(who, Act::SetAdminsNeeded(2));
    }
    world.approve("ada", Act::AddAdmin(key("dee")));
    let cloud = check_ops(&world, from, &["ApproveAct: applied"; 6]);
    assert!(cloud.admins.contains_key(&key("dee")));
}

#[test]
fn an_act_waits_till_its_end_and_no_approval_revives_it() {
    let mut world = World::with_admins(&["ada", "ben", "cem"], 2);
    world.join();
    let from = world.ops.len();
    let end_ms = world.now_ms + 1000;
    let ask = ApproveAct {
        act: Act::AddAdmin(key("dee")),
        salt: [0; 16],
        expires_ms: end_ms,
    };
    let far = ApproveAct {
        expires_ms: world.now_ms + 20 + ACT_LIFETIME_MS_MAX,
        ..ask.clone()
    };
    world.ask("ada", ask.clone());
    world.ask("ada", far);
    world.now_ms = end_ms + 1;
    world.ask("ben", ask.clone());
    let cloud = check_ops(
        &world,
        from,
        &[
            "ApproveAct: applied",
            "ApproveAct: the act's end is more than a week ahead",
            "ApproveAct: the time for approving the act is over",
        ],
    );
    assert_eq!(cloud.acts.len(), 1, "remembered for a while");
    world.now_ms = end_ms + REMEMBERED_MS + 100;
    let later = ApproveAct {
        expires_ms: world.now_ms + 1000,
        ..ask
    };
    world.ask("ada", later);
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops);
    assert_eq!(fold.cloud().acts.len(), 1, "the first is forgotten");
}

#[test]
fn one_admin_alone_cannot_fill_the_places() {
    let mut world = two_of_three();
    let from = world.ops.len();
    for index in 0..=WAITING_MAX {
        world.approve("ada", Act::AddAdmin(key(&format!("k{index}"))));
    }
    world.approve("ben", Act::AddAdmin(key("more")));
    let mut expect = vec!["ApproveAct: applied"; WAITING_MAX];
    expect.push("ApproveAct: there are 8 acts that this admin began");
    expect.push("ApproveAct: applied");
    check_ops(&world, from, &expect);
}

#[test]
fn there_are_so_many_admins() {
    let mut world = World::new();
    let from = world.ops.len();
    for index in 1..=ADMINS_MAX {
        world.approve("admin", Act::AddAdmin(key(&format!("k{index}"))));
    }
    let mut expect = vec!["ApproveAct: applied"; ADMINS_MAX - 1];
    expect.push("ApproveAct: there are 16 admins");
    check_ops(&world, from, &expect);
}

#[test]
fn only_members_are_named_as_witnesses() {
    let mut world = World::new();
    let stranger = world.add_node();
    let from = world.ops.len();
    let set = |nodes: &[NodeId]| Act::SetWitnesses(WitnessSet::of_equals(nodes.iter().copied()).unwrap());
    let (zero, one) = (world.node(0), world.node(1));
    world.approve("admin", set(&[]));
    world.approve("admin", set(&[zero, world.node(stranger)]));
    world.approve("admin", set(&[zero, one]));
    let revoke = Act::RevokeNode {
        node: one,
        cutoff: None,
    };
    world.sees_all = true;
    world.approve("admin", revoke);
    world.approve("admin", set(&[one]));
    let cloud = check_ops(
        &world,
        from,
        &[
            "ApproveAct: a set of nobody would end all finality",
            "ApproveAct: there is no such member",
            "ApproveAct: applied",
            "ApproveAct: applied",
            "ApproveAct: there is no such member",
        ],
    );
    assert_eq!(
        *cloud.witnesses_wanted(),
        WitnessSet::of_equals([zero, one]).unwrap()
    );
}

#[test]
fn only_the_admins_together_mint() {
    let mut world = two_of_three();
    world.open("alice");
    let alice = check_ops(&world, 0, &["OpenChain", "OpenChain", "OpenChain", "OpenAccount"]);
    let account = alice.account_named("alice").expect("is open").id;
    let from = world.ops.len();
    let mint = |account, amount| Act::Mint { account, amount };
    world.approve("ada", mint(account, 5));
    world.approve("alice", mint(account, 5));
    world.approve("ben", mint(account, 5));
    world.approve("cem", mint(account, 5));
    world.approve("ada", mint(AccountId([1; 32]), 5));
    world.approve("ben", mint(AccountId([1; 32]), 5));
    world.approve("ada", mint(account, u64::MAX));
    world.approve("ben", mint(account, u64::MAX));
    let cloud = check_ops(
        &world,
        from,
        &[
            "ApproveAct: applied",
            "ApproveAct: ed25519:",
            "ApproveAct: applied",
            "ApproveAct: it is so already: the act took effect",
            "ApproveAct: applied",
            "ApproveAct: there is no such account: 0101",
            "ApproveAct: applied",
            "ApproveAct: no more than",
        ],
    );
    assert_eq!((cloud.balance(account), cloud.minted()), (5, 5));
}

/// An approval that came late, and was folded without, makes the act take effect where it belongs.
#[test]
fn a_late_approval_turns_what_came_after() {
    let mut world = two_of_three();
    world.approve("ada", Act::SetAdminsNeeded(1));
    world.approve("ben", Act::SetAdminsNeeded(1));
    let late = world.ops.len() - 1;
    let alone = world.approve("cem", Act::AddAdmin(key("dee")));
    let dee = world.approve("dee", Act::AddAdmin(key("eve")));
    let mut fold = Fold::new(world.genesis.clone());
    let mut ops = world.ops.clone();
    let op = ops.remove(late);
    fold.apply(ops);
    let outcome = |fold: &Fold, id| fold.cloud().commands[&id].outcome.clone();
    assert_eq!(fold.cloud().acts.len(), 2, "both wait");
    assert!(matches!(outcome(&fold, dee), Outcome::Void(_)));
    fold.apply(vec![op]);
    assert_eq!(outcome(&fold, alone), Outcome::Applied);
    assert_eq!(outcome(&fold, dee), Outcome::Applied);
    assert!(fold.cloud().admins.contains_key(&key("eve")));
}
