//! A forker in the fold itself: both branches arrive, the fork is proved, a part is final.

use ledger::finality::checkpoint::{Checkpoint, FOLD_VERSION};
use ledger::id::CheckpointId;
use ledger::vector::Head;

use super::*;
use crate::fold::Fold;

/// The rules, and who opens an account gets 100 credits. The sums hold after each entry.
fn rules(writer: &mut Writer<'_>, op: &Op, index: usize) -> Outcome {
    let known: Vec<AccountId> = writer.accounts.keys().copied().collect();
    let outcome = crate::entries::apply(writer, op, index);
    let opened = writer.accounts.keys().find(|account| !known.contains(account));
    if let Some(account) = opened.copied() {
        mint(writer, account, 100).expect("there is room for it");
    }
    assert_sums(writer);
    outcome
}

/// The first certificate covers the first ops.
fn certify(fold: &mut Fold, covered: &[Op], time_ms: u64) {
    let heads: BTreeMap<_, _> = covered
        .iter()
        .map(|op| {
            let (slot, id) = (op.slot(), op.id());
            let next = slot.seq + 1;
            (slot.chain, Head { next, id })
        })
        .collect();
    let checkpoint = Checkpoint {
        height: 1,
        previous: CheckpointId([0; 32]),
        time_ms,
        order: [0; 32],
        state: [0; 32],
        forks: [0; 32],
        fold_version: FOLD_VERSION,
        heads: heads.into_iter().collect(),
        next_witnesses: None,
    };
    fold.finalize(&checkpoint, covered.to_vec());
}

#[test]
fn what_a_forker_charged_returns_with_the_quarantine_but_for_what_is_final() {
    let mut scene = Scene::new();
    let end_ms = scene.end_ms();
    scene.grant("alice", 1, 1, 60, end_ms);
    let hold = scene.hold("alice", 1, 100, end_ms);
    let bob = scene.bob;
    let fork_after = scene.world.say(1, announce(Some(bob)));
    let common = scene.world.ops.len();
    scene.charge(1, hold, 20, 1);
    scene.charge(1, hold, 40, 2);
    let left_end = scene.world.ops.len();
    scene.world.fork(1, fork_after);
    scene.charge(1, hold, 60, 3);
    let ops = scene.world.ops.clone();
    let slot = *ops[common].slot();

    let balances = |fold: &Fold| {
        let cloud = fold.cloud();
        assert_sums(&cloud);
        let rights = cloud.rights_left(scene.alice, scene.world.node(1), 1);
        (cloud.balance(scene.alice), rights, cloud.balance(bob))
    };
    let start = || Fold::new(scene.world.genesis.clone()).with_rules(rules);

    let mut fold = start();
    fold.apply(ops[left_end..].to_vec());
    fold.apply(ops[..left_end].to_vec());
    assert_eq!(
        balances(&fold),
        (40, 0, 160),
        "both branches, one within the rights"
    );
    fold.exclude(slot.chain, slot.seq);
    assert_eq!(balances(&fold), (40, 60, 100), "neither counts");

    let mut fold = start();
    fold.apply(ops.clone());
    certify(&mut fold, &ops[..=common], scene.world.now_ms);
    fold.exclude(slot.chain, slot.seq);
    assert_eq!(balances(&fold), (40, 40, 120), "the charge that is final stands");
}

#[test]
fn a_charge_behind_a_certificate_later_than_its_end_is_void() {
    let mut scene = Scene::new();
    let end_ms = scene.end_ms();
    scene.grant("alice", 0, 1, 60, end_ms);
    let hold = scene.hold("alice", 0, 60, end_ms + DAY_MS);
    let before = scene.world.ops.len();
    let in_time = scene.charge(0, hold, 20, 1);
    let ops = scene.world.ops.clone();

    let mut fold = Fold::new(scene.world.genesis.clone()).with_rules(rules);
    fold.apply(ops.clone());
    assert_eq!(fold.outcomes(in_time), Some(&[Outcome::Applied][..]));
    certify(&mut fold, &ops[..before], end_ms);
    let void = Outcome::Void(Void::NotEnoughRights { has: 0, asked: 20 });
    assert_eq!(fold.outcomes(in_time), Some(&[void][..]), "it turned");
    let cloud = fold.cloud();
    assert_eq!((cloud.balance(scene.alice), cloud.balance(scene.bob)), (100, 100));
    assert_eq!(
        fold.final_cloud().balance(scene.alice),
        100,
        "the final view counts by the certificate's time as well"
    );
}
