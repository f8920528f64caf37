//! The ledger's speed and cost against what bounds it: `./dev bench ledger [--json] [--only PART]
//! [--compare OPS] [--add FILE]`.
//!
//! One table: a row for each measure, with the limit or the peer measured in the same run, the ratio, and what
//! is to be reached. `--only` takes the parts with this text in their name. What takes real nodes is not measured
//! here; its rows say so. `--compare` sets the size of the two ledgers that are compared; `--add` takes rows that
//! another program measured of a hostile member, a JSON list of the same shape, in place of the row that says
//! that it was not measured. With `--json`, standard output is one JSON list.

#[path = "../../../ledger/tests/apart/mod.rs"]
mod apart;
mod durable;
#[path = "../../../ledger/tests/finality_net/mod.rs"]
mod finality_net;
mod folding;
mod history;
mod ingest;
mod meeting;
mod reports;
mod row;
#[path = "../../../ledger/tests/scene/mod.rs"]
mod scene;
mod turns;
#[path = "../../../ledger/tests/wire_sizes/mod.rs"]
mod wire_sizes;

use std::path::Path;
use std::time::Instant;

use history::History;
use row::{Reach, Row};
use serde_json::Value;

/// Commands of the live ingest.
const LIVE_OPS: usize = 10_000;

/// Ops of each of the two ledgers that are compared, unless the command line says otherwise.
const COMPARED_OPS: usize = 200_000;

/// The measure that `ledger/examples/hostile.rs` takes.
const HOSTILE: &str = "core that a hostile member costs a node";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)
    };
    if let Some(folder) = after(folding::MEASURED_BY_CHILD) {
        return folding::measure_memory(Path::new(folder));
    }
    let compared = after("--compare").map_or(COMPARED_OPS, |ops| ops.parse().expect("a number of ops"));
    let added: Vec<Value> = after("--add").map_or(Vec::new(), |file| {
        let text = std::fs::read_to_string(file).expect("the file with rows to add");
        serde_json::from_str(&text).expect("a JSON list of rows")
    });
    let only = after("--only").map_or("", String::as_str);
    let mut rows = measure(only, compared, added.is_empty());
    rows.extend(added);
    if arguments.iter().any(|argument| argument == "--json") {
        println!("{}", Value::from(rows));
    } else {
        row::print(&rows);
    }
}

/// Takes one measure after the other, and says so.
fn measure(only: &str, compared: usize, alone: bool) -> Vec<Value> {
    let mut rows: Vec<Row> = Vec::new();
    let mut part = |what: &str, part: &dyn Fn() -> Vec<Row>| {
        if !what.contains(only) {
            return;
        }
        let begin = Instant::now();
        rows.extend(part());
        eprintln!("{what}: {:.1} s", begin.elapsed().as_secs_f64());
    };
    // First, while this process is small.
    part("memory", &|| vec![folding::memory()]);
    part("live ingest", &|| vec![ingest::live(&History::new(LIVE_OPS))]);
    part("bulk ingest and catching up", &ingest::bulk);
    part("bytes of an op", &meeting::op_bytes);
    part("comparison", &|| meeting::comparison(compared));
    part("bytes of catching up", &meeting::catch_up_bytes);
    part("fold, replay and late ops", &folding::rates);
    part("cold start", &|| vec![folding::cold_start()]);
    part("time to final", &meeting::time_to_be_final);
    part("durable appends", &|| vec![durable::append()]);
    if only.is_empty() {
        rows.extend(with_real_nodes());
    }
    if only.is_empty() && alone {
        let why = "./dev bench ledger adds it from ledger/examples/hostile.rs where that is there";
        rows.push(Row::unmeasured(HOSTILE, "% of a core", Reach::Most(5.0), why));
    }
    rows.iter().map(Row::json).collect()
}

/// What this command does not measure.
fn with_real_nodes() -> Vec<Row> {
    let why = "takes three real nodes on loopback";
    [
        (
            "three nodes, commands by HTTP, 1 client",
            "commands/s",
            Reach::Least(3.0 * 824.0),
        ),
        (
            "three nodes, commands by HTTP, 1 client, p99",
            "ms",
            Reach::Most(4.4),
        ),
        (
            "three nodes, commands by HTTP, 16 clients",
            "commands/s",
            Reach::Least(10.0 * 850.0),
        ),
        (
            "three nodes, commands by HTTP, 16 clients, p99",
            "ms",
            Reach::Most(26.0),
        ),
        (
            "answer to visible in another node's Cloud, p50",
            "ms",
            Reach::Most(5.0),
        ),
        (
            "answer to visible in another node's Cloud, p99",
            "ms",
            Reach::Most(14.0),
        ),
        (
            "a node back after 10,000 missed ops, real nodes",
            "s",
            Reach::Most(0.5),
        ),
        (
            "an empty joiner with 100,000 ops, real nodes",
            "s",
            Reach::Most(2.0),
        ),
        (
            "resident memory of a node at 100,000 small ops",
            "MB",
            Reach::Most(60.0),
        ),
        ("disk of a node at 100,000 small ops", "MB", Reach::Most(30.0)),
        (
            "ingest rate at 10 M ops against 100 k ops",
            "ratio",
            Reach::Least(0.8),
        ),
    ]
    .map(|(measure, unit, reach)| {
        let why = if unit == "ratio" {
            "takes 10 M ops on a disk"
        } else {
            why
        };
        Row::unmeasured(measure, unit, reach, why)
    })
    .into()
}
