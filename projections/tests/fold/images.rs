//! Builds and their reports.

use ledger::command::images::BuildImage;
use ledger::id::{BuildId, Digest, NodeId};
use projections::images::BuildState;

use crate::check;

#[test]
fn the_first_report_of_a_build_counts_success() {
    let (build, cloud) = check(
        |world| {
            let build = world.build("alice");
            world.built(1, build);
            world.failed(2, build);
            world.built(2, build);
            build
        },
        &[
            "BuildImage: applied",
            "ImageBuilt: applied",
            "ImageFailed: it was reported before",
            "ImageBuilt: it was reported before",
        ],
    );
    assert!(matches!(cloud.builds[&build].state, BuildState::Built { .. }));
}

#[test]
fn the_first_report_of_a_build_counts_failure() {
    let (build, cloud) = check(
        |world| {
            let build = world.build("alice");
            world.failed(1, build);
            world.built(2, build);
            build
        },
        &[
            "BuildImage: applied",
            "ImageFailed: applied",
            "ImageBuilt: it was reported before",
        ],
    );
    assert!(matches!(cloud.builds[&build].state, BuildState::Failed { .. }));
}

#[test]
fn a_report_of_no_build_is_void() {
    check(
        |world| {
            world.built(0, BuildId([3; 32]));
            world.failed(0, BuildId([3; 32]));
        },
        &[
            "ImageBuilt: there is no such build: 0303",
            "ImageFailed: there is no such build: 0303",
        ],
    );
}

#[test]
fn a_context_is_held_by_a_member() {
    check(
        |world| {
            let (context, held_by) = (Digest([1; 32]), NodeId([1; 32]));
            world.ask(
                "alice",
                BuildImage {
                    name: "i".into(),
                    context,
                    context_bytes: 1,
                    held_by,
                },
            );
        },
        &["BuildImage: there is no such node: 0101"],
    );
}
