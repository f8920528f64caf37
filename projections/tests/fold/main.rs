//! What the fold promises, told by scripts of real, signed ops: what each entry does and what voids it, and
//! that the order of arrival does not matter.

mod admin;
mod agree;
mod authority;
mod commands;
mod credits;
mod finality;
mod images;
mod instances;
mod keys;
mod kinds;
mod names;
mod nodes;
mod oracle;
mod orders;
mod purses;
mod queries;
mod rewinds;
mod script;
mod snapshots;
mod standing;

use std::sync::Arc;

use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::outcome::Outcome;
use script::World;

/// Writes a script for a network of three nodes and two accounts, folds it, and compares what became of
/// each entry of the script with `expect`: `Kind: applied`, or `Kind: ` and the beginning of the reason.
#[track_caller]
fn check<T>(write: impl FnOnce(&mut World) -> T, expect: &[&str]) -> (T, Arc<Cloud>) {
    let mut world = World::new();
    let before = world.ops.len();
    let given = write(&mut world);
    let cloud = check_ops(&world, before, expect);
    (given, cloud)
}

/// As [`check`], for a world at hand, from op `from` on.
#[track_caller]
fn check_ops(world: &World, from: usize, expect: &[&str]) -> Arc<Cloud> {
    let mut fold = Fold::new(world.genesis.clone());
    let changes = fold.apply(world.ops.clone());
    let mut told = Vec::new();
    for op in &world.ops[from..] {
        told.extend(changes.iter().filter(|change| change.op == op.id()).map(
            |change| match &change.outcome {
                Outcome::Applied => format!("{}: applied", change.kind),
                Outcome::Void(void) => format!("{}: {void}", change.kind),
            },
        ));
    }
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
    fold.cloud()
}
