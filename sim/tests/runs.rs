//! Whole runs: the same seed is the same run, faults harm no claim, and what once went wrong does so no more.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use sim::options::Options;
use sim::summary::Summary;
use sim::world::World;

fn run(options: Options) -> Summary {
    World::new(options, false).unwrap().run().unwrap()
}

fn holds(options: Options) -> Summary {
    let text = serde_json::to_string(&options).unwrap();
    let summary = run(options);
    assert_eq!(
        summary.violation, None,
        "repeat with `./dev sim replay FILE` of {text}"
    );
    summary
}

/// A short one, for tests that run several.
fn short(seed: u64, nodes: usize) -> Options {
    Options {
        busy_ms: 30_000,
        calm_ms: 20_000,
        ..Options::draw(seed, nodes)
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same_run() {
    for seed in [2, 3] {
        let (one, two) = (run(short(seed, 4)), run(short(seed, 4)));
        assert_eq!(one.trace, two.trace);
        assert_eq!(one.state, two.state);
        assert!(
            one.events > 1_000,
            "there was something to compare: {} events",
            one.events
        );
    }
}

#[test]
fn two_runs_of_a_seed_are_the_same_run_with_real_signatures_too() {
    let options = || Options {
        real_signatures: true,
        ..short(5, 3)
    };
    let (one, two) = (holds(options()), holds(options()));
    assert_eq!(one.trace, two.trace);
    assert!(one.acknowledged > 0);
}

#[test]
fn different_seeds_are_different_runs() {
    let traces: std::collections::BTreeSet<String> = (0..4).map(|seed| run(short(seed, 3)).trace).collect();
    assert_eq!(traces.len(), 4);
}

#[test]
fn every_claim_holds_on_bad_days() {
    let mut faults = std::collections::BTreeSet::new();
    let (mut starts, mut turned) = (0, 0);
    for seed in 0..12 {
        let summary = holds(Options::draw(seed, 3 + seed as usize % 3));
        faults.extend(summary.faults.into_keys());
        starts += summary.starts;
        turned += summary.turned;
    }
    // They were bad days indeed.
    for kind in [
        "partition",
        "crash",
        "crash before a write",
        "crash after a write",
        "host loss",
        "loss for good",
    ] {
        assert!(faults.contains(kind), "no {kind} among {faults:?}");
    }
    assert!(
        starts > 10 && turned > 10,
        "{starts} starts, {turned} outcomes turned"
    );
}

#[test]
fn a_network_without_faults_answers_everything_and_settles_at_once() {
    for seed in 0..3 {
        let summary = holds(
            Options {
                commands: 30,
                ..short(seed, 5)
            }
            .without_faults(),
        );
        assert_eq!(summary.acknowledged, summary.asked as usize);
        assert_eq!(summary.lost, 0);
        assert!(summary.faults.is_empty(), "{:?}", summary.faults);
        // The last builds and boots are what takes its time.
        let settled_ms = summary.settled_ms.unwrap();
        assert!(settled_ms <= 30_000, "seed {seed}: {settled_ms} ms");
    }
}

#[test]
fn a_network_of_one_node_is_one_too() {
    holds(short(1, 1).without_faults());
}

#[test]
fn a_network_that_has_no_time_to_settle_is_reported() {
    let options = (0..20).map(|seed| Options {
        settle_ms: 1,
        ..short(seed, 3)
    });
    let reported = options.map(run).find_map(|summary| summary.violation);
    assert!(
        reported.is_some(),
        "of 20 networks some must still have been busy"
    );
}

#[test]
fn options_are_read_as_they_are_printed() {
    let options = Options::draw(7, 5);
    let text = serde_json::to_string_pretty(&options).unwrap();
    assert_eq!(serde_json::from_str::<Options>(&text).unwrap(), options);
    let unknown = text.replacen("\"seed\"", "\"sead\"", 1);
    assert!(serde_json::from_str::<Options>(&unknown).is_err());
}

#[test]
fn options_of_which_no_run_can_be_made_are_refused() {
    let good = || Options::draw(7, 5);
    let wrong = [
        Options { nodes: 0, ..good() },
        Options { nodes: 65, ..good() },
        Options {
            loss_permille: 1_001,
            ..good()
        },
        Options {
            delay_min_ms: 30,
            delay_max_ms: 20,
            ..good()
        },
        Options {
            busy_ms: u64::MAX,
            ..good()
        },
        Options {
            skew_max_ms: u64::MAX,
            ..good()
        },
        Options {
            nodes: 1,
            lost_for_good: true,
            ..good()
        },
    ];
    for options in wrong {
        assert!(World::new(options.clone(), false).is_err(), "{options:?}");
    }
}

/// Seeds that showed a fault once, as their options were then.
#[test]
fn what_went_wrong_once_does_not_again() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut count = 0;
    for file in fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let options: Options =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let summary = run(options);
        assert_eq!(summary.violation, None, "{}", path.display());
        count += 1;
    }
    assert!(count > 0);
}
