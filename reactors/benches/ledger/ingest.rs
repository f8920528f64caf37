//! How fast ops enter a node: decoded, hashed, their signatures checked, ordered, folded, and written to the
//! store durably. The reference is the bare check, in batches, of the signatures; measured in turns, by the
//! time that the thread had a core.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use ledger::id::NodeId;
use ledger::io::store::Store;
use ledger::journal::JournalRecord;
use ledger::key::{Check, verify_all};
use ledger::op::Op;
use ledger::replica::{Output, Replica};
use projections::fold::Fold;

use crate::folding::BATCH;
use crate::history::{History, NOW_MS, admitted, genesis, open};
use crate::reports::{Ops, Reports, commands};
use crate::row::{Reach, Row};
use crate::turns::{TURNS, folder, median, timed, timed_on_core};

/// Signatures that the reference checks as one.
const CHECKED: usize = 256;

/// Chains that report.
const CHAINS: usize = 100;

/// Checks signatures, and nothing else.
fn verify(checks: &[Check]) {
    for batch in checks.chunks(CHECKED) {
        assert!(verify_all(batch, [3; 32]).into_iter().all(|holds| holds));
    }
}

/// A node that takes in frames: replica, fold and store.
struct Taker {
    replica: Replica,
    fold: Fold,
    store: Store,
    journal_next: u64,
}

impl Taker {
    /// One that has these ops on its disk.
    fn new(stored: &[Op], folder: &Path, now_ms: u64) -> Self {
        let (replica, first) = open(&genesis(), 2, stored.to_vec(), now_ms);
        let store = Store::open(folder).expect("the store opens");
        let fold = Fold::new(genesis());
        let mut taker = Self {
            replica,
            fold,
            store,
            journal_next: 0,
        };
        for ops in stored.chunks(BATCH) {
            taker.keep(ops.to_vec());
        }
        taker.keep(admitted(first));
        taker
    }

    /// Takes frames that have come together; gives what it answers.
    fn take(&mut self, frames: Vec<Vec<u8>>, from: NodeId, now_ms: u64) -> Vec<Vec<u8>> {
        let frames = frames.into_iter().map(|frame| (from, frame)).collect();
        let outputs = self.replica.receive_all(frames, now_ms);
        let (told, sent) = split(outputs);
        self.keep(told);
        sent
    }

    /// Folds ops, writes them and what became of them, and shows the view.
    fn keep(&mut self, ops: Vec<Op>) {
        let mut journal = Vec::new();
        for change in self.fold.apply(ops.clone()) {
            journal.push(JournalRecord {
                offset: self.journal_next,
                op: change.op,
                entry: change.entry,
                outcome: ledger::codec::encode(&change.outcome),
                turned: change.turned,
            });
            self.journal_next += 1;
        }
        self.store.append(&ops, &journal).expect("the disk takes it");
        std::hint::black_box(self.fold.cloud());
    }
}

/// The ops that entered, and the frames to send.
fn split(outputs: Vec<Output>) -> (Vec<Op>, Vec<Vec<u8>>) {
    let (mut ops, mut frames) = (Vec::new(), Vec::new());
    for output in outputs {
        match output {
            Output::Admitted(more) => ops.extend(more),
            Output::Send { frame, .. } => frames.push(frame),
            other => panic!("between honest nodes: {other:?}"),
        }
    }
    (ops, frames)
}

/// Commands as they come, each in a frame by itself.
pub(crate) fn live(history: &History) -> Row {
    let frames = history.live();
    let checks: Vec<Check> = history.live_checks().concat();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bare.push(timed_on_core(|| verify(&checks)));
        let folder = folder();
        let mut taker = Taker::new(&[], folder.path(), NOW_MS);
        taker.replica.peer_up(history.author, NOW_MS);
        ours.push(timed_on_core(|| {
            for batch in frames.chunks(BATCH) {
                taker.take(batch.to_vec(), history.author, NOW_MS);
            }
        }));
        assert_eq!(
            taker.fold.ops().len(),
            history.ops.len() + 1,
            "all ops entered, and its own"
        );
    }
    let ops = history.ops.len() as f64;
    Row::new(
        "live ingest of account-signed commands",
        "ops/core-s",
        ops / median(ours),
        Reach::Ratio(0.8),
    )
    .against(ops / median(bare))
    .why(format!(
        "{ops} ops, {BATCH} frames at once, to the disk; reference: bare check of their {} signatures, {CHECKED} as one",
        checks.len()
    ))
}

/// What it took a node to catch up.
struct CaughtUp {
    /// The time that the node itself had a core.
    core: Duration,
    /// By the clock, with the work of the one that serves it and the waits for the disk.
    clock: Duration,
    /// What it was sent, and what it sent.
    bytes: usize,
}

/// A node that has some of the ops on its disk meets one that has all.
fn catch_up(held: &[Op], all: &[Op], now_ms: u64) -> CaughtUp {
    let (mut source, _) = open(&genesis(), 3, all.to_vec(), now_ms);
    let folder = folder();
    let mut taker = Taker::new(held, folder.path(), now_ms);
    let (mut core, mut bytes, mut now_ms) = (Duration::ZERO, 0, now_ms);
    let clock = timed(|| {
        let mut to_taker = VecDeque::from(split(source.peer_up(taker.replica.node(), now_ms)).1);
        let mut to_source = VecDeque::from(split(taker.replica.peer_up(source.node(), now_ms)).1);
        while taker.replica.log().vector().root() != source.log().vector().root() {
            if to_taker.is_empty() && to_source.is_empty() {
                now_ms += 100;
                to_taker.extend(split(source.tick(now_ms)).1);
                to_source.extend(split(taker.replica.tick(now_ms)).1);
            }
            let frames: Vec<Vec<u8>> = to_source.drain(..).collect();
            bytes += frames.iter().map(Vec::len).sum::<usize>();
            let frames = frames.into_iter().map(|frame| (taker.replica.node(), frame));
            to_taker.extend(split(source.receive_all(frames.collect(), now_ms)).1);
            let frames: Vec<Vec<u8>> = to_taker.drain(..).collect();
            bytes += frames.iter().map(Vec::len).sum::<usize>();
            core += timed_on_core(|| to_source.extend(taker.take(frames, source.node(), now_ms)));
        }
    });
    assert_eq!(
        taker.fold.ops().len(),
        taker.replica.log().len(),
        "all that entered is folded"
    );
    CaughtUp { core, clock, bytes }
}

/// Reports in runs, as one that serves a newcomer sends them; and how soon a node that was away is back.
pub(crate) fn bulk() -> Vec<Row> {
    let launched = commands(&genesis(), 2_000, Ops::Signed);
    let reports = Reports::new(&genesis(), &launched, CHAINS, 110_000, Ops::Signed);
    let now_ms = reports.now_ms();
    let checks: Vec<Check> = reports.ops.iter().filter_map(Op::check).collect();
    let (before, all) = (&reports.before, reports.all());
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bare.push(timed_on_core(|| verify(&checks)));
        ours.push(catch_up(before, &all, now_ms).core);
    }
    let ops = reports.ops.len() as f64;
    let mut rows = vec![
        Row::new(
            "bulk ingest of node reports in runs",
            "ops/core-s",
            ops / median(ours),
            Reach::Ratio(8.0),
        )
        .against(ops / median(bare))
        .why(format!(
            "{ops} ops of {CHAINS} chains, asked for and served by another replica, to the disk; reference: bare check of one signature an op, {CHECKED} as one"
        )),
    ];
    let away = catch_up(&all[..all.len() - 10_000], &all, now_ms);
    let joiner = catch_up(&[], &all[..100_000], now_ms);
    for (what, it, most) in [
        (
            "a node back after 10,000 missed ops, without the network",
            away,
            0.5,
        ),
        (
            "an empty joiner with 100,000 ops, without the network",
            joiner,
            2.0,
        ),
    ] {
        rows.push(
            Row::new(what, "s", it.clock.as_secs_f64(), Reach::Most(most)).why(format!(
                "both replicas in turn by the clock, fold, and disk; {:.2} s of it on the core of the one that catches up; small reports, {:.2} MB",
                it.core.as_secs_f64(),
                it.bytes as f64 / 1e6
            )),
        );
    }
    rows
}
