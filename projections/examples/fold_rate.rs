//! How fast the fold is: `cargo run --release -p projections --example fold_rate [OPS]`.
//!
//! It signs a history of accounts, builds, agents, instances, placements and reports, one entry an op, and
//! folds it as a node that starts does (one call), as one that runs does (small batches, a view published
//! after each), with late ops, and from a checkpoint.

#[path = "../tests/fold/script.rs"]
#[allow(dead_code)]
mod script;

use std::time::Instant;

use ledger::op::Op;
use ledger::report::instances::Phase;
use projections::fold::Fold;
use script::{Dice, World};

const BATCH: usize = 50;

fn history(count: usize) -> World {
    let mut world = World::new();
    let mut people = 0;
    while world.ops.len() < count {
        people += 1;
        let who = format!("person-{people}");
        world.open(&who);
        let build = world.build(&who);
        world.built(1, build);
        world.register(&who, &format!("agent-{people}"), build);
        for n in 0..8 {
            let instance = world.launch(&who, &format!("web-{n}"), build);
            let first = world.place(0, instance, 1, None, 1);
            world.changed(1, instance, 1, 1, Phase::Booted);
            world.changed(1, instance, 1, 1, Phase::Serving);
            world.place(1, instance, 2, Some(first), 2);
            world.changed(2, instance, 2, 1, Phase::Serving);
            if n % 2 == 0 {
                world.delete(&who, instance);
                world.changed(2, instance, 2, 1, Phase::Deleted);
            }
        }
    }
    world.ops.truncate(count);
    world
}

fn measure(what: &str, world: &World, mut batches: impl FnMut(&mut Fold)) -> Fold {
    let mut fold = Fold::new(world.genesis.clone());
    let begin = Instant::now();
    batches(&mut fold);
    let took = begin.elapsed();
    let (counters, ops) = (fold.counters(), fold.ops().len());
    let rate = ops as f64 / took.as_secs_f64();
    println!(
        "{what:<44} {rate:>9.0} ops/s   refolded {:>7} in {} rewinds",
        counters.refolded_ops, counters.rewinds
    );
    fold
}

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(100_000);
    let world = history(count);
    let ops = &world.ops;
    let bytes: usize = ops.iter().map(|op| op.bytes().len()).sum();
    println!("{} ops, {} bytes each", ops.len(), bytes / ops.len().max(1));

    let whole = measure("all in one call", &world, |fold| {
        fold.apply(ops.clone());
    });
    measure("batches of 50, a view after each", &world, |fold| {
        for batch in ops.chunks(BATCH) {
            fold.apply(batch.to_vec());
            std::hint::black_box(fold.cloud());
        }
    });
    measure("one by one, a view held after each", &world, |fold| {
        let mut held = fold.cloud();
        for op in ops {
            fold.apply(vec![op.clone()]);
            std::hint::black_box(&held);
            held = fold.cloud();
        }
    });
    let mut dice = Dice(1);
    let mut late: Vec<(usize, &Op)> = ops
        .iter()
        .enumerate()
        .map(|(index, op)| (index + dice.roll(100), op))
        .collect();
    late.sort_by_key(|(arrival, _)| *arrival);
    measure("batches of 50, ops up to 100 places late", &world, |fold| {
        for batch in late.chunks(BATCH) {
            fold.apply(batch.iter().map(|(_, op)| Op::clone(op)).collect());
            std::hint::black_box(fold.cloud());
        }
    });
    let begin = Instant::now();
    let cloud = whole.cloud();
    let hash = cloud.state_hash();
    println!(
        "state hash {} of {} instances: {:?}",
        ledger::id::OpId(hash).short(),
        cloud.instances.len(),
        begin.elapsed()
    );
    for depth in [1_000, 10_000, 50_000] {
        let Some(index) = ops.len().checked_sub(depth) else {
            continue;
        };
        let mut fold = Fold::new(world.genesis.clone());
        fold.apply([&ops[..index], &ops[index + 1..]].concat());
        let begin = Instant::now();
        fold.apply(vec![ops[index].clone()]);
        println!(
            "one op {depth} places late: {:?}, {} refolded",
            begin.elapsed(),
            fold.counters().refolded_ops
        );
    }
}
