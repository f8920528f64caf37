//! Late ops: what is turned, and what a rewind costs.

use ledger::clock::Hlc;
use ledger::codec::encode;
use ledger::command::accounts::OpenAccount;
use ledger::op::Op;
use ledger::report::Carry;
use projections::fold::{CHECKPOINTS_MAX, Change, Fold};
use projections::outcome::{Outcome, Void};

use crate::script::World;

/// A world in which `count` people open an account after the setup, one op each.
fn crowd(count: usize) -> World {
    let mut world = World::new();
    for n in 0..count {
        world.open(&format!("person-{n}"));
    }
    world
}

fn state(world: &World, ops: Vec<Op>) -> Vec<u8> {
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(ops);
    encode(&*fold.cloud())
}

/// Folds all ops but the one at `late`, one a call, and then that one.
fn fold_late(world: &World, window: usize, late: usize) -> (Fold, Vec<Change>) {
    let mut fold = Fold::with_window(world.genesis.clone(), window);
    for (index, op) in world.ops.iter().enumerate() {
        if index != late {
            fold.apply(vec![op.clone()]);
        }
    }
    let changes = fold.apply(vec![world.ops[late].clone()]);
    (fold, changes)
}

#[test]
fn a_late_op_takes_its_place_and_only_what_it_turns_is_told_again() {
    let mut world = World::new();
    let early = world.now_ms;
    for who in ["carol", "dave"] {
        world.now_ms += 100;
        world.ask(who, OpenAccount { name: "shop".into() });
    }
    world.open("erin");
    let command = world.sign("frank", OpenAccount { name: "shop".into() });
    let carry = Carry {
        command: command.bytes().to_vec(),
    };
    world.op_at(
        1,
        Hlc::at_ms(early),
        vec![ledger::report::Report::from(carry).to_entry()],
    );
    let late = world.ops.len() - 1;
    let (fold, changes) = fold_late(&world, 16, late);
    let carol = world.ops[late - 3].id();
    let kind = "OpenAccount";
    let taken = Outcome::Void(Void::NameTaken("shop".into()));
    assert_eq!(
        changes,
        [
            Change {
                op: world.ops[late].id(),
                entry: 0,
                kind,
                outcome: Outcome::Applied,
                turned: false
            },
            Change {
                op: carol,
                entry: 0,
                kind,
                outcome: taken.clone(),
                turned: true
            },
        ]
    );
    assert_eq!(fold.outcomes(carol), Some(&[taken][..]));
    let counters = fold.counters();
    assert_eq!(
        (
            counters.rewinds,
            counters.deep_rewinds,
            counters.refolded_ops,
            counters.turned
        ),
        (1, 0, 3, 1)
    );
    assert_eq!(encode(&*fold.cloud()), state(&world, world.ops.clone()));
}

#[test]
fn steps_back_can_be_taken_again_and_again() {
    let world = crowd(40);
    let (even, odd): (Vec<_>, Vec<_>) = world
        .ops
        .iter()
        .enumerate()
        .partition(|(index, _)| index % 2 == 0);
    let mut fold = Fold::with_window(world.genesis.clone(), 64);
    fold.apply(even.into_iter().map(|(_, op)| op.clone()).collect());
    for (_, op) in odd.into_iter().rev() {
        fold.apply(vec![op.clone()]);
    }
    assert_eq!(fold.counters().deep_rewinds, 0);
    assert!(fold.counters().rewinds > 15);
    assert_eq!(encode(&*fold.cloud()), state(&world, world.ops.clone()));
}

#[test]
fn a_rewind_beyond_the_window_starts_from_the_checkpoint_before_it() {
    let world = crowd(95);
    assert_eq!(world.ops.len(), 100);
    for (late, refolded) in [
        (0, 99),
        (9, 99),
        (10, 89),
        (55, 49),
        (88, 19),
        (89, 10),
        (95, 4),
        (99, 0),
    ] {
        let (fold, _) = fold_late(&world, 10, late);
        assert_eq!(fold.counters().refolded_ops, refolded, "late op {late}");
        assert_eq!(
            fold.counters().deep_rewinds,
            u64::from(late < 89),
            "late op {late}"
        );
        assert_eq!(
            encode(&*fold.cloud()),
            state(&world, world.ops.clone()),
            "late op {late}"
        );
    }
}

#[test]
fn after_a_deep_rewind_the_undo_log_and_the_checkpoints_serve_again() {
    let world = crowd(95);
    let late = [3, 97, 60, 2, 90, 31, 30, 29, 1];
    let mut fold = Fold::with_window(world.genesis.clone(), 7);
    let on_time = world
        .ops
        .iter()
        .enumerate()
        .filter(|(index, _)| !late.contains(index));
    fold.apply(on_time.map(|(_, op)| op.clone()).collect());
    for index in late {
        fold.apply(vec![world.ops[index].clone()]);
        let so_far = fold.ops().iter().map(|folded| folded.op.clone()).collect();
        assert_eq!(encode(&*fold.cloud()), state(&world, so_far));
    }
    assert_eq!(fold.cloud().position.ops, 100);
}

#[test]
fn checkpoints_are_bounded_and_a_rewind_costs_in_proportion_to_its_depth() {
    let world = crowd(995);
    for depth in [3, 10, 40, 150, 600] {
        let (fold, _) = fold_late(&world, 1, world.ops.len() - depth);
        let counters = fold.counters();
        assert!(counters.checkpoints <= CHECKPOINTS_MAX as u64);
        assert!(
            counters.refolded_ops <= 2 * depth as u64,
            "depth {depth}: {counters:?}"
        );
    }
}

#[test]
fn ops_of_one_call_are_folded_in_one_go() {
    let world = crowd(50);
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops[50..].to_vec());
    let mut early = world.ops[..50].to_vec();
    early.reverse();
    fold.apply(early);
    assert_eq!((fold.counters().rewinds, fold.counters().refolded_ops), (1, 5));
    assert_eq!(encode(&*fold.cloud()), state(&world, world.ops.clone()));
}

#[test]
fn an_op_that_comes_twice_is_folded_once() {
    let world = crowd(3);
    let mut fold = Fold::new(world.genesis.clone());
    let twice = world.ops.iter().chain(&world.ops).cloned().collect();
    assert_eq!(fold.apply(twice).len(), world.ops.len());
    let before = fold.cloud();
    assert_eq!(fold.apply(world.ops.clone()), []);
    assert_eq!(fold.apply(Vec::new()), []);
    assert!(
        std::sync::Arc::ptr_eq(&before, &fold.cloud()),
        "nothing changed, nothing is copied"
    );
    assert_eq!(fold.counters().rewinds, 0);
}

#[test]
fn a_view_that_was_handed_out_never_changes() {
    let world = crowd(30);
    let mut fold = Fold::with_window(world.genesis.clone(), 4);
    let mut views = Vec::new();
    for op in world.ops.iter().rev() {
        fold.apply(vec![op.clone()]);
        let view = fold.cloud();
        views.push((encode(&*view), view));
    }
    assert!(views.iter().all(|(bytes, view)| encode(&**view) == *bytes));
}

#[test]
fn two_ops_in_one_slot_are_ordered_alike_everywhere() {
    let (mut world, mut other) = (World::new(), World::new());
    world.ask("carol", OpenAccount { name: "shop".into() });
    other.ask("dave", OpenAccount { name: "shop".into() });
    let (left, right) = (world.ops.pop().expect("asked"), other.ops.pop().expect("asked"));
    assert_eq!(left.order(), right.order());
    let states = [[left.clone(), right.clone()], [right, left]].map(|twins| {
        let mut fold = Fold::new(world.genesis.clone());
        fold.apply(world.ops.clone());
        for op in twins {
            fold.apply(vec![op]);
        }
        encode(&*fold.cloud())
    });
    assert_eq!(states[0], states[1]);
}

#[test]
fn an_op_that_is_not_in_the_fold_has_no_outcome() {
    let world = crowd(3);
    let (last, ops) = world.ops.split_last().expect("there are some");
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(ops.to_vec());
    assert_eq!(fold.outcomes(last.id()), None);
    assert_eq!(fold.op(ops[2].id()), Some(&ops[2]));
    assert_eq!(fold.op(last.id()), None);
}
