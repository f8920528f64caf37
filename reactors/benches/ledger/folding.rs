//! What the fold does by itself: its rate, from the disk, with late ops; and what a node keeps in memory.

use std::path::Path;
use std::time::Duration;

use ledger::io::store::Store;
use ledger::op::Op;
use projections::fold::Fold;

use crate::history::{genesis, network, open};
use crate::reports::{Ops, Reports, commands};
use crate::row::{Reach, Row};
use crate::turns::{TURNS, folder, median, timed_on_core};

/// Ops that share one write to the disk and one view, as in the daemon.
pub(crate) const BATCH: usize = 512;

/// Ops folded.
const OPS: usize = 100_000;

/// Chains that report.
const CHAINS: usize = 1_000;

/// The op as it is read from the wire: nothing of its entries is kept from before.
fn reread(op: &Op) -> Op {
    let bytes = op.bytes().to_vec();
    Op::decode(network(), *op.slot(), bytes, op.signature()).expect("it was read before")
}

fn fold(what: &str, ops: &[Op], begin: impl Fn() -> Fold) -> Row {
    let turn = || {
        let mut fold = begin();
        let fresh: Vec<Op> = ops.iter().map(reread).collect();
        timed_on_core(|| {
            for ops in fresh.chunks(BATCH) {
                fold.apply(ops.to_vec());
                std::hint::black_box(fold.cloud());
            }
        })
    };
    let seconds = median((0..TURNS).map(|_| turn()).collect());
    Row::new(
        format!("fold alone, {what}"),
        "ops/core-s",
        ops.len() as f64 / seconds,
        Reach::Least(2e6),
    )
    .why(format!(
        "{} ops, {BATCH} at once with a view after each, their entries read in it",
        ops.len()
    ))
}

/// From a store on the disk into a fresh view.
fn replay(what: &str, ops: &[Op]) -> Row {
    let folder = folder();
    let store = stored(folder.path(), ops);
    let turn = || {
        timed_on_core(|| {
            let mut fold = Fold::new(genesis());
            let loaded = store.load(network()).expect("the store reads");
            fold.apply(loaded.ops);
            fold
        })
    };
    let seconds = median((0..TURNS).map(|_| turn()).collect());
    Row::new(
        format!("replay from disk, {what}"),
        "ops/core-s",
        ops.len() as f64 / seconds,
        Reach::Least(1e6),
    )
    .why(format!("{} ops, their ids hashed again", ops.len()))
}

fn stored(folder: &Path, ops: &[Op]) -> Store {
    let store = Store::open(folder).expect("the store opens");
    for ops in ops.chunks(BATCH) {
        store.append(ops, &[]).expect("the disk takes it");
    }
    store
}

/// Rates, and one op that comes 3,000 places late.
pub(crate) fn rates() -> Vec<Row> {
    let commands = commands(&genesis(), OPS / 10, Ops::Bare);
    let reports = Reports::new(&genesis(), &commands, CHAINS, OPS, Ops::Bare);
    let mut rows = vec![
        fold("small reports", &reports.ops, || reports.fold(&genesis())),
        fold("account commands", &commands, || Fold::new(genesis())),
        replay("mostly small reports", &reports.all()),
        replay("account commands", &commands),
    ];
    // Other work on the machine is not ours: of the turns of each op, the least counts.
    let mut took = reports.late(&genesis(), 3_000, 200);
    for _ in 1..TURNS {
        let again = reports.late(&genesis(), 3_000, 200);
        took = took
            .iter()
            .zip(again)
            .map(|(one, other)| one.min(other))
            .collect();
    }
    took.sort_by(f64::total_cmp);
    let [p50, p99] = [50, 99].map(|share| took[(took.len() - 1) * share / 100] * 1e3);
    rows.push(
        Row::new("one late op, 3,000 back, p99", "ms", p99, Reach::Most(1.0)).why(format!(
            "small reports, {} such ops, of each the least of {TURNS} turns by the clock; p50 {p50:.3} ms",
            took.len()
        )),
    );
    rows
}

/// Resident memory of a process that opens these ops as a node does: a tenth of what is asked for.
pub(crate) fn memory() -> Row {
    let commands = commands(&genesis(), 16_000, Ops::Bare);
    let entities = commands.len() * 10 / 16;
    let placed = entities * 7 / 10;
    let reports = Reports::new(
        &genesis(),
        &commands,
        CHAINS,
        OPS - commands.len() - placed,
        Ops::Bare,
    );
    let folder = folder();
    drop(stored(folder.path(), &reports.all()));
    let child = std::process::Command::new(std::env::current_exe().expect("this program"))
        .arg(MEASURED_BY_CHILD)
        .arg(folder.path())
        .output()
        .expect("this program runs");
    let text = String::from_utf8_lossy(&child.stdout).into_owned();
    let told: Vec<f64> = text.split_whitespace().filter_map(|it| it.parse().ok()).collect();
    let [before, loaded, logged, after] = told[..] else {
        panic!(
            "the child said {text:?}: {}",
            String::from_utf8_lossy(&child.stderr)
        );
    };
    let mb = |from: f64, to: f64| (to - from).max(0.0) / 1e6;
    Row::new(
        "memory for 1 M ops, 100 k entities, 1,000 chains",
        "MB",
        10.0 * mb(before, after),
        Reach::Most(100.0),
    )
    .why(format!(
        "ten times what a process grew by that opened {} ops of {CHAINS} chains, {entities} entities, none final: {:.1} MB to read the ops, {:.1} the log, {:.1} the fold",
        reports.all().len(),
        mb(before, loaded),
        mb(loaded, logged),
        mb(logged, after),
    ))
}

/// The argument by which this program measures its own memory; a folder follows.
pub(crate) const MEASURED_BY_CHILD: &str = "--memory-of";

/// Opens a store as a node does, and says how many bytes are resident: before, with the ops read, with them in
/// the log, and with them folded.
pub(crate) fn measure_memory(folder: &Path) {
    let store = Store::open(folder).expect("the store opens");
    let before = resident_bytes();
    let ops = store.load(network()).expect("the store reads").ops;
    let now_ms = ops.iter().map(|op| op.body().hlc.ms()).max().unwrap_or(0);
    let loaded = resident_bytes();
    let (replica, _) = open(&genesis(), 2, ops.clone(), now_ms);
    let logged = resident_bytes();
    let mut fold = Fold::new(genesis());
    fold.apply(ops);
    let after = resident_bytes();
    std::hint::black_box((replica, fold));
    println!("{before} {loaded} {logged} {after}");
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the kernel tells");
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("a number of pages") * 4096
}

/// From the chunks of a certified state and some ops to a view.
pub(crate) fn cold_start() -> Row {
    const COMMANDS: usize = 160_000;
    const SUFFIX: usize = 10_000;
    let launched = commands(&genesis(), COMMANDS, Ops::Bare);
    let reports = Reports::new(&genesis(), &launched, CHAINS, SUFFIX, Ops::Bare);
    drop(launched);
    let cloud = reports.fold(&genesis()).cloud();
    let entities = cloud.accounts.len() + cloud.builds.len() + cloud.agents.len() + cloud.instances.len();
    let tree = projections::state::tree(&cloud);
    drop(cloud);
    let (root, entries) = (tree.root(), tree.len());
    let chunks: Vec<Vec<u8>> = tree.chunks().map(|(_, bytes)| bytes.into_owned()).collect();
    drop(tree);
    let suffix: Vec<Op> = reports.ops.iter().map(reread).collect();
    let (mut whole, mut parts) = (Vec::new(), [Duration::ZERO; 3]);
    for _ in 0..TURNS {
        let (mut tree, mut loaded) = (None, None);
        let assembling = timed_on_core(|| {
            let mut assembly = projections::tree::assembly::Assembly::new(root);
            for bytes in &chunks {
                assembly.offer(bytes).expect("an honest chunk");
            }
            tree = assembly.tree();
        });
        let tree = tree.expect("all chunks are there");
        let loading = timed_on_core(|| loaded = projections::state::load(&tree, network()).ok());
        let loaded = loaded.expect("an honest state");
        let folding = timed_on_core(|| {
            let mut fold = Fold::from_final(loaded);
            for ops in suffix.chunks(BATCH) {
                fold.apply(ops.iter().map(reread).collect());
            }
            fold
        });
        parts = [assembling, loading, folding];
        whole.push(parts.iter().sum());
    }
    let [assembling, loading, folding] = parts.map(|part| part.as_secs_f64());
    Row::new(
        "cold start from a certified snapshot of 100 k entities + 10 k ops",
        "core-s",
        median(whole),
        Reach::Most(1.0),
    )
    .why(format!(
        "{entities} entities made by {COMMANDS} commands: {entries} entries, every chunk hashed; the last turn: tree {assembling:.2}, view {loading:.2}, ops {folding:.2}, their ids hashed; no signature of an op checked"
    ))
}
