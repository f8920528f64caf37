//! What is final stands: its order, the time that it gives to what comes after, and what leaves memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ledger::codec::encode;
use ledger::command::accounts::OpenAccount;
use ledger::finality::checkpoint::{Checkpoint, FOLD_VERSION, order_root};
use ledger::id::{CheckpointId, OpId};
use ledger::op::{Chain, Op};
use ledger::vector::Head;
use projections::cloud::Cloud;
use projections::fold::{FINAL_WINDOW_OPS, Fold};
use projections::outcome::{Outcome, Void};
use projections::undo::TouchedKey;

use crate::script::World;

/// A checkpoint and what it adds.
#[derive(Clone, Debug)]
pub(crate) struct Certified {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) covered: Vec<Op>,
}

/// The checkpoint after `before`, whose time it moves on.
pub(crate) fn checkpoint(
    world: &World,
    before: Option<&Certified>,
    time_ms: u64,
    mut covered: Vec<Op>,
) -> Certified {
    covered.sort_by_key(|op| (op.order(), op.id()));
    let mut heads: BTreeMap<Chain, Head> = BTreeMap::new();
    for op in &covered {
        let (slot, id) = (op.slot(), op.id());
        let head = heads.entry(slot.chain).or_insert(Head { next: 0, id });
        if head.next <= slot.seq {
            *head = Head {
                next: slot.seq + 1,
                id,
            };
        }
    }
    let before = before.map(|it| &it.checkpoint);
    let order = before.map_or([0; 32], |it| it.order);
    let checkpoint = Checkpoint {
        height: before.map_or(1, |it| it.height + 1),
        previous: before.map_or(CheckpointId([0; 32]), |it| it.id(world.genesis.network())),
        time_ms: before.map_or(time_ms, |it| time_ms.max(it.time_ms + 1)),
        order: order_root(order, covered.iter().map(Op::id)),
        state: [0; 32],
        forks: [0; 32],
        fold_version: FOLD_VERSION,
        heads: heads.into_iter().collect(),
        next_witnesses: None,
    };
    Certified { checkpoint, covered }
}

/// The certificates as the plain rules read them.
pub(crate) fn covered_ids(certified: &[Certified]) -> Vec<(u64, BTreeSet<OpId>)> {
    let ids = |it: &Certified| it.covered.iter().map(Op::id).collect();
    certified
        .iter()
        .map(|it| (it.checkpoint.time_ms, ids(it)))
        .collect()
}

/// Fails where two final views differ in a place that is not among those touched.
pub(crate) fn check_touched(before: &Cloud, after: &Cloud, touched: &[TouchedKey]) {
    assert!(touched.is_sorted_by(|a, b| a < b));
    let differs = |key: &TouchedKey| match key {
        TouchedKey::Accounts(key) => before.accounts.get(key) != after.accounts.get(key),
        TouchedKey::Commands(key) => before.commands.get(key) != after.commands.get(key),
        TouchedKey::Instances(key) => before.instances.get(key) != after.instances.get(key),
        TouchedKey::Certified(key) => before.certified.get(key) != after.certified.get(key),
        _ => false,
    };
    let told: BTreeSet<_> = touched.iter().filter(|key| differs(key)).cloned().collect();
    let mut all = BTreeSet::new();
    let keys = |one: &Cloud| {
        let accounts = one.accounts.keys().map(|key| TouchedKey::Accounts(*key));
        let commands = one.commands.keys().map(|key| TouchedKey::Commands(*key));
        let instances = one.instances.keys().map(|key| TouchedKey::Instances(*key));
        let certified = one.certified.keys().map(|key| TouchedKey::Certified(*key));
        let keys = accounts.chain(commands).chain(instances).chain(certified);
        keys.filter(differs).collect::<Vec<_>>()
    };
    all.extend(keys(before));
    all.extend(keys(after));
    assert_eq!(all, told);
}

fn shops(world: &mut World) -> (Op, Op) {
    let shop = || OpenAccount { name: "shop".into() };
    world.ask("carol", shop());
    let carol = world.ops.last().expect("asked").clone();
    let command = world.sign("dave", shop());
    let carry = ledger::report::Carry {
        command: command.bytes().to_vec(),
    };
    world.say(1, carry);
    (carol, world.ops.last().expect("asked").clone())
}

#[test]
fn an_op_that_is_left_out_comes_after_what_is_final_and_is_told_again() {
    let mut world = World::new();
    let (carol, dave) = shops(&mut world);
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops.clone());
    assert_eq!(fold.outcomes(carol.id()), Some(&[Outcome::Applied][..]));
    let without = world.ops.iter().filter(|op| op.id() != carol.id()).cloned();
    let certified = checkpoint(&world, None, world.now_ms, without.collect());
    let finalized = fold.finalize(&certified.checkpoint, certified.covered);
    let told: Vec<_> = finalized
        .changes
        .iter()
        .map(|it| (it.op, it.turned, it.outcome.clone()))
        .collect();
    let taken = Outcome::Void(Void::NameTaken("shop".into()));
    assert_eq!(
        told,
        [(dave.id(), true, Outcome::Applied), (carol.id(), true, taken)]
    );
    assert_eq!(
        (fold.ops().len(), fold.final_ops().len()),
        (1, world.ops.len() - 1)
    );
    assert_eq!(fold.final_cloud().finality.height, 1);
    assert_eq!(fold.final_cloud().position.ops, world.ops.len() as u64 - 1);
}

#[test]
fn what_comes_after_a_certificate_is_judged_by_its_time() {
    let mut world = World::new();
    let (first, at_ms) = (world.ops.clone(), world.now_ms);
    world.open("carol");
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops.clone());
    // Carol's command counts for a minute.
    for (time_ms, outcome) in [
        (at_ms + 60_000, Outcome::Applied),
        (at_ms + 60_001, Outcome::Void(Void::Expired)),
    ] {
        let mut fold = Fold::new(world.genesis.clone());
        fold.apply(world.ops.clone());
        let certified = checkpoint(&world, None, time_ms, first.clone());
        fold.finalize(&certified.checkpoint, certified.covered);
        let carol = world.ops.last().expect("asked").id();
        assert_eq!(fold.outcomes(carol), Some(&[outcome][..]));
    }
}

#[test]
fn an_op_never_goes_before_what_is_final_and_no_fork_of_that_comes_in() {
    let (mut world, mut other) = (World::new(), World::new());
    let (carol, _) = shops(&mut world);
    other.open("erin");
    let fork = other.ops.last().expect("asked").clone();
    assert_eq!(carol.slot(), fork.slot());
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(other.ops.clone());
    let certified = checkpoint(&world, None, world.now_ms, world.ops.clone());
    let finalized = fold.finalize(&certified.checkpoint, certified.covered);
    let left = finalized.changes.iter().find(|it| it.op == fork.id());
    let left = left.map(|it| (it.turned, it.outcome.clone()));
    assert_eq!(left, Some((true, Outcome::Void(Void::Quarantined))));
    assert_eq!(fold.apply(vec![fork.clone()]), []);
    assert_eq!(fold.outcomes(fork.id()), None);
    assert_eq!(fold.outcomes(carol.id()), Some(&[Outcome::Applied][..]));
    assert!(Arc::ptr_eq(&fold.final_cloud(), &fold.final_cloud()));
    assert_eq!(encode(&*fold.cloud()), encode(&*fold.final_cloud()));
}

#[test]
fn final_ops_leave_memory_but_for_the_last() {
    let mut world = World::new();
    for n in 0..FINAL_WINDOW_OPS + 20 {
        world.open(&format!("person-{n}"));
    }
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops.clone());
    let certified = checkpoint(&world, None, world.now_ms, world.ops.clone());
    assert_eq!(
        fold.finalize(&certified.checkpoint, certified.covered).changes,
        []
    );
    assert_eq!((fold.ops().len(), fold.final_ops().len()), (0, FINAL_WINDOW_OPS));
    let (first, last) = (&world.ops[0], &world.ops[world.ops.len() - 1]);
    assert_eq!((fold.op(first.id()), fold.op(last.id())), (None, Some(last)));
    assert_eq!(fold.apply(vec![first.clone()]), [], "it is known to be final");
}
