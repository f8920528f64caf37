//! Credits, told by scripts of real ops. What mints is not an op here: it happens right after an op.

use std::collections::BTreeMap;

use ledger::codec::encode;
use ledger::command::SignedCommand;
use ledger::command::credits::{
    CREDITS_LIFETIME_MS_MAX, GrantRights, PlaceHold, ReleaseHold, TransferCredits,
};
use ledger::genesis::Genesis;
use ledger::id::{AccountId, HoldId, NodeId, OpId};
use ledger::op::{Op, OrderKey};
use ledger::report::credits::{Charge, EndHold, ReturnRights};
use ledger::report::nodes::{AnnounceNode, Capacity, Roles};
use ledger::report::{Carry, Report};

use self::purses::{Purses, assert_sums};
use self::script::{BEGIN_MS, Dice, World};
use super::*;
use crate::cloud::Position;
use crate::outcome::Outcome;
use crate::undo::UndoLog;

mod history;
#[path = "../../tests/fold/purses.rs"]
mod purses;
mod quarantine;
#[allow(dead_code, reason = "these tests need only a part of the script")]
#[path = "../../tests/fold/script.rs"]
mod script;

/// Credits made right after an op.
type Mints = BTreeMap<OpId, (AccountId, u64)>;

/// An op in its place, with what it takes to step back before it.
struct Step {
    place: (OrderKey, OpId),
    op: Op,
    outcomes: Vec<Outcome>,
}

/// A small fold: steps back to the place of each op and on again; checks the sums after each op.
struct SmallFold {
    cloud: Cloud,
    mints: Mints,
    undo: UndoLog,
    steps: Vec<Step>,
}

impl SmallFold {
    fn new(genesis: &Genesis, mints: &Mints) -> Self {
        Self {
            cloud: Cloud::new(genesis.clone()),
            mints: mints.clone(),
            undo: UndoLog::default(),
            steps: Vec::new(),
        }
    }

    fn of(genesis: &Genesis, mints: &Mints, ops: &[Op]) -> Self {
        let mut fold = Self::new(genesis, mints);
        ops.iter().for_each(|op| fold.insert(op));
        fold
    }

    fn insert(&mut self, op: &Op) {
        let place = (op.order(), op.id());
        let keep = self.steps.partition_point(|step| step.place < place);
        let tail = self.steps.split_off(keep);
        let mut later = Vec::new();
        for step in tail.into_iter().rev() {
            self.undo.undo_step(&mut self.cloud);
            assert_sums(&self.cloud);
            later.push(step.op);
        }
        self.fold(op.clone());
        for op in later.into_iter().rev() {
            self.fold(op);
        }
    }

    fn fold(&mut self, op: Op) {
        let position = self.cloud.position;
        let mut writer = Writer::new(&mut self.cloud, &mut self.undo);
        let entries = 0..op.body().entries.len();
        let outcomes = entries
            .map(|index| crate::entries::apply(&mut writer, &op, index))
            .collect();
        if let Some((account, amount)) = self.mints.get(&op.id()) {
            let _ = mint(&mut writer, *account, *amount);
        }
        writer.end(Position {
            ops: position.ops + 1,
            hlc: position.hlc.max(op.body().hlc),
        });
        assert_sums(&self.cloud);
        self.steps.push(Step {
            place: (op.order(), op.id()),
            op,
            outcomes,
        });
    }

    fn told(&self) -> Vec<String> {
        let outcomes = self.steps.iter().flat_map(|step| &step.outcomes);
        outcomes
            .map(|outcome| match outcome {
                Outcome::Applied => "applied".into(),
                Outcome::Void(void) => void.to_string(),
            })
            .collect()
    }
}

/// Two nodes, of which node 0 pays out to bob; alice has 100 credits.
struct Scene {
    world: World,
    mints: Mints,
    alice: AccountId,
    bob: AccountId,
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn announce(payout: Option<AccountId>) -> AnnounceNode {
    AnnounceNode {
        name: "node".into(),
        roles: Roles {
            gateway: true,
            compute: true,
            builder: false,
            edge: false,
            witness: false,
        },
        addresses: Vec::new(),
        ipv4: Vec::new(),
        capacity: Capacity::default(),
        payout,
    }
}

impl Scene {
    fn new() -> Self {
        let mut world = World::empty();
        for _ in 0..2 {
            world.join();
        }
        let (bob, alice) = (world.open("bob").into(), world.open("alice").into());
        let last = world.ops.last().expect("the world has ops").id();
        world.say(0, announce(Some(bob)));
        Self {
            world,
            mints: BTreeMap::from([(last, (alice, 100))]),
            alice,
            bob,
        }
    }

    fn end_ms(&self) -> u64 {
        self.world.now_ms + DAY_MS
    }

    fn transfer(&mut self, who: &str, to: AccountId, amount: u64) {
        let memo = "thanks".into();
        self.world.ask(who, TransferCredits { to, amount, memo });
    }

    fn grant(&mut self, who: &str, node: usize, incarnation: u64, amount: u64, expires_ms: u64) {
        let node = self.world.node(node);
        let ask = GrantRights {
            node,
            incarnation,
            amount,
            expires_ms,
        };
        self.world.ask(who, ask);
    }

    fn hold(&mut self, who: &str, node: usize, amount: u64, expires_ms: u64) -> HoldId {
        let ask = PlaceHold {
            node: self.world.node(node),
            amount,
            expires_ms,
            purpose: "a task".into(),
        };
        self.world.ask(who, ask).into()
    }

    fn charge(&mut self, node: usize, hold: HoldId, amount: u64, number: u64) -> OpId {
        let report = Charge { hold, amount, number };
        self.world.say(node, report)
    }

    fn fold(&self) -> SmallFold {
        SmallFold::of(&self.world.genesis, &self.mints, &self.world.ops)
    }
}

/// Writes a script and compares what became of its entries with the beginnings in `expect`.
#[track_caller]
fn check<T>(write: impl FnOnce(&mut Scene) -> T, expect: &[&str]) -> (T, Scene, Cloud) {
    let mut scene = Scene::new();
    let before = scene.world.ops.len();
    let given = write(&mut scene);
    let fold = scene.fold();
    let told = fold.told().split_off(before);
    let agree = told.len() == expect.len()
        && told
            .iter()
            .zip(expect)
            .all(|(told, expect)| told.starts_with(expect));
    assert!(
        agree,
        "told:\n{}\n\nexpected:\n{}\n",
        told.join("\n"),
        expect.join("\n")
    );
    (given, scene, fold.cloud)
}

#[test]
fn an_account_gives_what_it_has_and_no_more() {
    let (_, scene, cloud) = check(
        |scene| {
            let (alice, bob) = (scene.alice, scene.bob);
            scene.transfer("alice", bob, 60);
            scene.transfer("alice", bob, 41);
            scene.transfer("alice", bob, 40);
            scene.transfer("alice", bob, 1);
            scene.transfer("bob", alice, u64::MAX);
            scene.transfer("bob", AccountId([1; 32]), 5);
            scene.transfer("bob", bob, 100);
            scene.transfer("carol", bob, 1);
        },
        &[
            "applied",
            "the account has 40 credits, 41 were asked",
            "applied",
            "the account has 0 credits, 1 were asked",
            "the account has 100 credits, 18446744073709551615 were asked",
            "there is no such account: 0101",
            "applied",
            "the key signs for no account",
        ],
    );
    assert_eq!((cloud.balance(scene.alice), cloud.balance(scene.bob)), (0, 100));
}

#[test]
fn no_more_is_minted_than_can_be_summed() {
    let scene = Scene::new();
    let mut cloud = scene.fold().cloud;
    let before = cloud.clone();
    let mut undo = UndoLog::default();
    let mut writer = Writer::new(&mut cloud, &mut undo);
    let refused = mint(&mut writer, scene.bob, u64::MAX - 99);
    assert!(matches!(refused, Err(Void::Refused(_))), "{refused:?}");
    let nobody = mint(&mut writer, AccountId([1; 32]), 1);
    assert!(matches!(nobody, Err(Void::NotFound(_))), "{nobody:?}");
    let nothing = mint(&mut writer, scene.bob, 0);
    assert!(matches!(nothing, Err(Void::Refused(_))), "{nothing:?}");
    assert_eq!(*writer, before);
    assert_eq!(mint(&mut writer, scene.bob, u64::MAX - 100), Ok(()));
    assert_eq!(cloud.minted(), u64::MAX);
    assert_sums(&cloud);
}

#[test]
fn a_node_charges_within_the_hold_and_its_rights_and_its_payout_account_gets_it() {
    let (hold, scene, cloud) = check(
        |scene| {
            let end_ms = scene.end_ms();
            scene.grant("alice", 0, 1, 50, end_ms);
            let hold = scene.hold("alice", 0, 45, end_ms);
            scene.charge(0, hold, 20, 1);
            scene.charge(0, hold, 26, 2);
            scene.charge(0, hold, 25, 3);
            let more = scene.hold("alice", 0, 45, end_ms);
            scene.charge(0, more, 6, 1);
            scene.charge(0, more, 5, 1);
            hold
        },
        &[
            "applied",
            "applied",
            "applied",
            "the hold has 25 credits left, 26 were asked",
            "applied",
            "applied",
            "the node has rights to 5 credits of the account, 6 were asked",
            "applied",
        ],
    );
    assert_eq!((cloud.balance(scene.alice), cloud.balance(scene.bob)), (50, 50));
    assert_eq!(cloud.rights_left(scene.alice, scene.world.node(0), 1), 0);
    let hold = &cloud.holds[&hold];
    assert_eq!((hold.left, hold.charged), (0, Some(3)));
}

#[test]
fn only_the_node_of_the_hold_charges_and_only_the_start_that_has_rights() {
    check(
        |scene| {
            let end_ms = scene.end_ms();
            let bob = scene.bob;
            scene.world.say(1, announce(Some(bob)));
            scene.grant("alice", 0, 1, 50, end_ms);
            scene.grant("alice", 1, 1, 50, end_ms);
            let hold = scene.hold("alice", 0, 45, end_ms);
            scene.charge(1, hold, 1, 1);
            scene.charge(0, HoldId([1; 32]), 1, 1);
            scene.world.restart(0);
            scene.charge(0, hold, 1, 1);
            scene.grant("bob", 0, 2, 1, end_ms);
        },
        &[
            "applied",
            "applied",
            "applied",
            "applied",
            "the node that says so has no right to",
            "there is no such hold: 0101",
            "applied",
            "the node has rights to 0 credits of the account, 1 were asked",
            "the account has 0 credits, 1 were asked",
        ],
    );
}

#[test]
fn a_node_without_an_open_payout_account_charges_nothing() {
    check(
        |scene| {
            let end_ms = scene.end_ms();
            scene.grant("alice", 0, 1, 50, end_ms);
            let hold = scene.hold("alice", 0, 45, end_ms);
            scene.world.say(0, announce(None));
            scene.charge(0, hold, 1, 1);
            scene.world.say(0, announce(Some(AccountId([1; 32]))));
            scene.charge(0, hold, 1, 2);
        },
        &[
            "applied",
            "applied",
            "applied",
            "the node has announced no payout account that is open",
            "applied",
            "the node has announced no payout account that is open",
        ],
    );
}

#[test]
fn a_charge_that_is_said_twice_counts_once() {
    let (_, scene, cloud) = check(
        |scene| {
            let end_ms = scene.end_ms();
            scene.grant("alice", 0, 1, 50, end_ms);
            scene.grant("alice", 0, 2, 50, end_ms);
            let hold = scene.hold("alice", 0, 100, end_ms);
            scene.charge(0, hold, 10, 7);
            scene.charge(0, hold, 10, 7);
            scene.world.restart(0);
            scene.charge(0, hold, 10, 7);
            scene.charge(0, hold, 10, 6);
            scene.charge(0, hold, 10, 9);
        },
        &[
            "applied",
            "applied",
            "applied",
            "applied",
            "it was reported before",
            "applied",
            "it was reported before",
            "it was reported before",
            "applied",
        ],
    );
    assert_eq!(cloud.balance(scene.bob), 20);
}

#[test]
fn rights_expire_and_what_is_left_returns_without_anybody_asking() {
    let (_, scene, cloud) = check(
        |scene| {
            let end_ms = scene.end_ms();
            scene.grant("alice", 0, 1, 50, end_ms);
            let hold = scene.hold("alice", 0, 45, end_ms + DAY_MS);
            scene.charge(0, hold, 5, 1);
            scene.world.now_ms = end_ms - 1;
            scene.charge(0, hold, 5, 2);
            scene.world.now_ms = end_ms;
            scene.charge(0, hold, 5, 3);
            let (account, incarnation, amount) = (scene.alice, 1, 1);
            scene.world.say(
                0,
                ReturnRights {
                    account,
                    incarnation,
                    amount,
                },
            );
        },
        &[
            "applied",
            "applied",
            "applied",
            "applied",
            "the node has rights to 0 credits of the account, 5 were asked",
            "the node has rights to 0 credits of the account, 1 were asked",
        ],
    );
    assert_eq!(cloud.balance(scene.alice), 90, "the view counts what has expired");
    assert_eq!(cloud.balances[&scene.alice], 50, "nobody has touched it yet");
    let mut scene = scene;
    let bob = scene.bob;
    scene.transfer("alice", bob, 90);
    let cloud = scene.fold().cloud;
    assert_eq!((cloud.balance(scene.alice), cloud.balance(scene.bob)), (0, 100));
    assert_eq!(cloud.rights_of(scene.alice).count(), 0);
}

/// In the late lane an op stands behind others whose clocks show more.
#[test]
fn what_has_expired_once_stays_so_for_a_clock_that_is_behind() {
    let mut scene = Scene::new();
    let (bob, end_ms) = (scene.bob, scene.world.now_ms + 1_000);
    scene.grant("alice", 0, 1, 50, end_ms);
    let hold = scene.hold("alice", 0, 45, end_ms + DAY_MS);
    let short = scene.hold("alice", 0, 45, end_ms);
    let late_ms = scene.world.now_ms;
    scene.world.now_ms = end_ms;
    scene.world.say(1, announce(None));
    let mut fold = scene.fold();
    scene.world.now_ms = late_ms;
    let in_time = scene.world.ops.len();
    scene.charge(0, hold, 1, 1);
    scene.charge(0, short, 1, 1);
    scene.transfer("alice", bob, 100);
    scene.world.ask("alice", ReleaseHold { hold: short });
    scene.grant("bob", 0, 1, 1, end_ms);
    for late in &scene.world.ops[in_time..] {
        fold.fold(late.clone());
    }
    let told = fold.told().split_off(in_time);
    assert_eq!(
        told,
        [
            "the node has rights to 0 credits of the account, 1 were asked",
            "the hold has expired",
            "applied",
            "applied",
            "what is asked for has expired",
        ]
    );
}

#[test]
fn rights_granted_again_add_up_and_their_end_never_moves_nearer() {
    let (_, scene, cloud) = check(
        |scene| {
            let end_ms = scene.end_ms();
            scene.grant("alice", 0, 1, 10, end_ms);
            scene.grant("alice", 0, 1, 10, end_ms - 5_000);
            scene.grant("alice", 0, 1, 10, end_ms + 5_000);
            scene.grant("alice", 0, 1, 71, end_ms + 5_000);
            scene.grant("alice", 0, 1, 10, BEGIN_MS);
            scene.grant("alice", 0, 1, 10, end_ms + CREDITS_LIFETIME_MS_MAX);
        },
        &[
            "applied",
            "applied",
            "applied",
            "the account has 70 credits, 71 were asked",
            "what is asked for has expired",
            "rights and holds last at most 30 days",
        ],
    );
    let (_, _, right) = cloud.rights_of(scene.alice).next().expect("rights were granted");
    assert_eq!(right.amount, 30);
    assert!(right.expires_ms > BEGIN_MS + DAY_MS + 5_000);
}

#[test]
fn a_node_gives_rights_back_also_those_of_an_earlier_start() {
    let (_, scene, cloud) = check(
        |scene| {
            let (end_ms, account) = (scene.end_ms(), scene.alice);
            let give_back = |incarnation, amount| ReturnRights {
                account,
                incarnation,
                amount,
            };
            scene.grant("alice", 0, 1, 50, end_ms);
            scene.world.say(0, give_back(1, 20));
            scene.world.say(1, give_back(1, 20));
            scene.world.restart(0);
            scene.world.say(0, give_back(1, 31));
            scene.world.say(0, give_back(1, 30));
        },
        &[
            "applied",
            "applied",
            "the node has rights to 0 credits of the account, 20 were asked",
            "applied",
            "the node has rights to 30 credits of the account, 31 were asked",
            "applied",
        ],
    );
    assert_eq!(cloud.balances[&scene.alice], 100);
}

#[test]
fn a_hold_is_ended_by_its_node_or_by_the_account_once_it_has_expired() {
    let (_, _, cloud) = check(
        |scene| {
            let end_ms = scene.end_ms();
            scene.grant("alice", 0, 1, 50, end_ms + DAY_MS);
            let one = scene.hold("alice", 0, 45, end_ms);
            let two = scene.hold("alice", 0, 45, end_ms);
            scene.world.ask("alice", ReleaseHold { hold: one });
            scene.world.say(1, EndHold { hold: one });
            scene.world.say(0, EndHold { hold: one });
            scene.charge(0, one, 1, 1);
            scene.world.now_ms = end_ms;
            scene.charge(0, two, 1, 1);
            scene.world.ask("bob", ReleaseHold { hold: two });
            scene.world.ask("alice", ReleaseHold { hold: two });
            scene.world.ask("alice", ReleaseHold { hold: two });
        },
        &[
            "applied",
            "applied",
            "applied",
            "the hold has not expired",
            "the node that says so has no right to",
            "applied",
            "there is no such hold",
            "the hold has expired",
            "it belongs to another account",
            "applied",
            "there is no such hold",
        ],
    );
    assert!(cloud.holds.is_empty() && cloud.holds_by_expiry.is_empty());
}

#[test]
fn rights_and_holds_of_an_account_are_bounded_and_expired_ones_make_room() {
    let mut scene = Scene::new();
    let end_ms = scene.end_ms();
    for incarnation in 1..=RIGHTS_MAX as u64 + 1 {
        scene.grant("alice", 0, incarnation, 1, end_ms);
    }
    scene.grant("alice", 0, 1, 1, end_ms);
    for _ in 0..=HOLDS_MAX {
        scene.hold("bob", 0, 1, end_ms);
    }
    scene.world.now_ms = end_ms;
    scene.grant("alice", 0, 1, 100, end_ms + DAY_MS);
    scene.hold("bob", 0, 1, end_ms + DAY_MS);
    let fold = scene.fold();
    let void: Vec<String> = fold.told().into_iter().filter(|told| told != "applied").collect();
    assert_eq!(void.len(), 2, "{void:?}");
    assert!(void[0].starts_with("64 starts of nodes have rights"), "{void:?}");
    assert!(void[1].starts_with("the account has 256 holds"), "{void:?}");
    assert_eq!(fold.cloud.rights_of(scene.alice).count(), 1);
    assert_eq!(fold.cloud.holds_of(scene.bob).count(), 1);
}

/// A forker says one thing to some and another to others, each within its rights: what it takes in all is at
/// most its rights, and when its fork is quarantined all returns.
#[test]
fn a_forker_takes_at_most_its_rights() {
    let mut scene = Scene::new();
    let end_ms = scene.end_ms();
    scene.grant("alice", 0, 1, 60, end_ms);
    let (one, two) = (
        scene.hold("alice", 0, 100, end_ms),
        scene.hold("alice", 0, 100, end_ms),
    );
    let fork_after = scene.world.ops.last().expect("a hold was carried").id();
    let common = scene.world.ops.len();
    scene.charge(0, one, 60, 1);
    let left_end = scene.world.ops.len();
    scene.world.fork(0, fork_after);
    scene.charge(0, two, 25, 1);
    scene.charge(0, two, 35, 2);
    let (honest, ops) = (&scene.world.ops[..common], &scene.world.ops);
    let (left, right) = (&ops[common..left_end], &ops[left_end..]);
    assert_eq!(left[0].slot(), right[0].slot(), "two ops in one slot");

    let balances = |branches: &[&[Op]]| {
        let mut fold = SmallFold::of(&scene.world.genesis, &scene.mints, honest);
        branches.concat().iter().for_each(|op| fold.insert(op));
        let cloud = fold.cloud;
        let rights = cloud.rights_left(scene.alice, scene.world.node(0), 1);
        (cloud.balance(scene.alice), rights, cloud.balance(scene.bob))
    };
    assert_eq!(balances(&[left]), (40, 0, 60), "those who see one branch");
    assert_eq!(balances(&[right]), (40, 0, 60), "those who see the other");
    assert_eq!(balances(&[left, right]), (40, 0, 60), "both, before the proof");
    assert_eq!(balances(&[right, left]), (40, 0, 60));
    assert_eq!(balances(&[]), (40, 60, 0), "quarantined from the fork on");
    assert_eq!(
        balances(&[&right[..1]]),
        (40, 35, 25),
        "but what was final stands"
    );

    let mut fold = SmallFold::of(&scene.world.genesis, &scene.mints, honest);
    scene.world.now_ms = end_ms;
    scene.world.say(1, announce(None));
    fold.insert(scene.world.ops.last().expect("was just said"));
    assert_eq!(
        fold.cloud.balance(scene.alice),
        100,
        "its rights expire as others do"
    );
}
