//! How fast ops enter a node, against what bounds it: `./dev bench ledger [--json] [--fold] [OPS]`.
//!
//! A history of people's commands is signed, each command by its account and each op by its node. Then it is
//! taken in as a node does: decoded, hashed, both signatures checked, ordered, folded, and written to the
//! store durably. The reference of an ingest is the bare check, in batches, of the very signatures that it
//! has to check; that of the store is fjall's own commit of the same bytes. Both are measured in the same
//! run, in turns, and the median of the turns counts. No reach is set yet.

#[path = "ledger/reports.rs"]
mod reports;

use std::path::Path;
use std::time::{Duration, Instant};

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use ledger::admit::{Verify, command_checks};
use ledger::command::accounts::OpenAccount;
use ledger::command::agents::{RegisterAgent, Release};
use ledger::command::images::BuildImage;
use ledger::command::instances::{LaunchInstance, Shape, StopInstance};
use ledger::command::{Body, Command};
use ledger::genesis::{Genesis, Invitation};
use ledger::id::{AgentId, BuildId, Digest, InstanceId, NodeId};
use ledger::io::store::Store;
use ledger::journal::JournalRecord;
use ledger::key::{Check, SecretKey, verify_all};
use ledger::op::Op;
use ledger::replica::{Output, Replica, Setup};
use ledger::report::Carry;
use ledger::sync::{Frame, RUN_BYTES_MAX, Run};
use projections::fold::Fold;
use serde_json::json;

/// Ops of the history, unless the command line says otherwise.
const OPS: usize = 10_000;

/// Ops that share one write to the disk, as in the daemon.
const BATCH: usize = 512;

/// Ops written one by one: each waits for the disk.
const SINGLES: usize = 200;

/// Turns; the median counts.
const TURNS: usize = 3;

/// When the history happens.
const NOW_MS: u64 = 1_800_000_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let ops = arguments
        .iter()
        .find_map(|argument| argument.parse().ok())
        .unwrap_or(OPS);
    let history = History::new(ops.max(1));
    let mut rows = of_fold(&history);
    if !arguments.iter().any(|argument| argument == "--fold") {
        rows.extend(of_node(&history));
    }
    if json {
        let rows: Vec<_> = rows.iter().map(Row::json).collect();
        println!("{}", serde_json::Value::from(rows));
    } else {
        println!(
            "{:<62} {:>10} {:>10} {:>6}",
            "measure", "ours", "reference", "ratio"
        );
        rows.iter().for_each(Row::print);
    }
}

/// A rate, and what it is held against.
struct Row {
    measure: String,
    ours: f64,
    reference: Option<f64>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.reference.map(|reference| self.ours / reference)
    }

    fn json(&self) -> serde_json::Value {
        let Self {
            measure,
            ours,
            reference,
        } = self;
        let (reach, met) = (None::<f64>, None::<bool>);
        json!({
            "measure": measure, "ours": ours.round(), "reference": reference.map(f64::round),
            "ratio": self.ratio().map(|ratio| (ratio * 1000.0).round() / 1000.0),
            "reach": reach, "met": met,
        })
    }

    fn print(&self) {
        let shown =
            |number: Option<f64>, digits| number.map_or("-".to_owned(), |it| format!("{it:.digits$}"));
        let (reference, ratio) = (shown(self.reference, 0), shown(self.ratio(), 2));
        println!(
            "{:<62} {:>10.0} {reference:>10} {ratio:>6}",
            self.measure, self.ours
        );
    }
}

fn secret(number: u64) -> SecretKey {
    SecretKey::from_seed(ledger::id::hash("ledger bench key", &[&number.to_le_bytes()]))
}

/// What one node wrote, with all that others need to take it in.
struct History {
    genesis: Genesis,
    author: NodeId,
    ops: Vec<Op>,
}

impl History {
    fn new(count: usize) -> Self {
        let genesis = Genesis {
            name: "bench".into(),
            admins: vec![secret(0).public()],
            admins_needed: 1,
            witnesses: Default::default(),
            created_ms: NOW_MS,
            salt: [1; 16],
        };
        let (mut author, first) = open(&genesis, 1);
        let mut ops = admitted(first);
        let mut people = People::new(genesis.clone(), author.node());
        while ops.len() < count {
            let carry = people.next();
            let (_, outputs) = author
                .append(vec![carry.into()], NOW_MS)
                .expect("the author's command is good");
            ops.extend(admitted(outputs));
        }
        ops.truncate(count);
        Self {
            genesis,
            author: author.node(),
            ops,
        }
    }

    fn commands(&self) -> usize {
        self.ops.len() - 1
    }

    /// The frames by which the author tells of its ops as they come: a run of one each.
    fn live(&self) -> Vec<Vec<u8>> {
        self.ops
            .iter()
            .map(|op| run(true, std::slice::from_ref(op)))
            .collect()
    }

    /// The frames by which a node catches up: long runs, with the last signature only.
    fn bulk(&self) -> Vec<Vec<u8>> {
        self.runs().into_iter().map(|ops| run(false, ops)).collect()
    }

    fn runs(&self) -> Vec<&[Op]> {
        let mut runs = Vec::new();
        let (mut from, mut bytes) = (0, 0);
        for (index, op) in self.ops.iter().enumerate() {
            bytes += op.bytes().len();
            if bytes > RUN_BYTES_MAX {
                runs.push(&self.ops[from..index]);
                (from, bytes) = (index, op.bytes().len());
            }
        }
        runs.push(&self.ops[from..]);
        runs
    }

    /// The signatures of the commands in some ops.
    fn of_commands(&self, ops: &[Op]) -> Vec<Check> {
        let network = self.genesis.network();
        ops.iter()
            .flat_map(|op| command_checks(network, op).expect("the commands are well formed"))
            .collect()
    }

    /// What a node that hears live ops has to check, by batches of the daemon's size.
    fn live_checks(&self) -> Vec<Vec<Check>> {
        let batches = self.ops.chunks(BATCH);
        batches
            .map(|ops| [ops.iter().filter_map(Op::check).collect(), self.of_commands(ops)].concat())
            .collect()
    }

    /// What a node that catches up has to check, by runs.
    fn bulk_checks(&self) -> Vec<Vec<Check>> {
        let runs = self.runs().into_iter();
        runs.map(|ops| {
            [
                ops.last().and_then(Op::check).into_iter().collect(),
                self.of_commands(ops),
            ]
            .concat()
        })
        .collect()
    }
}

fn run(live: bool, ops: &[Op]) -> Vec<u8> {
    let (first, last) = (ops[0].slot(), &ops[ops.len() - 1]);
    let run = Run {
        live,
        chain: first.chain,
        first: first.seq,
        previous: first.previous,
        bodies: ops.iter().map(|op| op.bytes().to_vec()).collect(),
        signature: last.signature().expect("an own op is signed"),
    };
    Frame::Run(run).encode()
}

fn open(genesis: &Genesis, number: u64) -> (Replica, Vec<Output>) {
    let key = secret(number);
    let invitation = Invitation {
        genesis: genesis.clone(),
        node: key.node_id(),
        admin: secret(0).public(),
        peers: Vec::new(),
    };
    let setup = Setup {
        genesis: genesis.clone(),
        invitation: invitation.sign(&secret(0)),
        secret: key,
        incarnation: number,
        seed: [number as u8; 32],
        verify: Verify::Real,
    };
    Replica::open(setup, Vec::new(), NOW_MS).expect("the invitation is good")
}

fn admitted(outputs: Vec<Output>) -> Vec<Op> {
    let ops = outputs.into_iter().filter_map(|output| match output {
        Output::Admitted(ops) => Some(ops),
        _ => None,
    });
    ops.flatten().collect()
}

/// People who come one after the other: each opens an account, builds, registers, launches and stops.
struct People {
    genesis: Genesis,
    node: NodeId,
    made: u64,
    build: BuildId,
    agent: AgentId,
    last: InstanceId,
}

impl People {
    /// Commands of one person.
    const EACH: u64 = 16;

    fn new(genesis: Genesis, node: NodeId) -> Self {
        let (build, agent, last) = (BuildId([0; 32]), AgentId([0; 32]), InstanceId([0; 32]));
        Self {
            genesis,
            node,
            made: 0,
            build,
            agent,
            last,
        }
    }

    fn next(&mut self) -> Carry {
        let (person, step) = (self.made / Self::EACH, self.made % Self::EACH);
        self.made += 1;
        let key = secret(1_000 + person);
        let body = self.body(person, step);
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.made.to_le_bytes());
        let not_after_ms = NOW_MS + 3_600_000;
        let command = Command {
            key: key.public(),
            nonce,
            not_after_ms,
            after: Vec::new(),
            body,
        };
        let command = command.sign(self.genesis.network(), &key);
        match step {
            1 => self.build = command.id().into(),
            2 => self.agent = command.id().into(),
            _ => self.last = command.id().into(),
        }
        Carry {
            command: command.bytes().to_vec(),
        }
    }

    fn body(&self, person: u64, step: u64) -> Body {
        let shape = Shape {
            vcpus: 1,
            memory_mib: 512,
            disk_gib: 4,
        };
        match step {
            0 => OpenAccount {
                name: format!("person-{person}"),
            }
            .into(),
            1 => BuildImage {
                name: "image".into(),
                context: Digest(ledger::id::hash("ledger bench context", &[&person.to_le_bytes()])),
                context_bytes: 4096,
                held_by: self.node,
            }
            .into(),
            2 => {
                let release = Release {
                    description: "an agent".into(),
                    build: self.build,
                    shape,
                    port: Some(8000),
                };
                RegisterAgent {
                    name: format!("agent-{person}"),
                    release,
                }
                .into()
            }
            step if step % 2 == 1 => LaunchInstance {
                name: format!("web-{step}"),
                agent: Some(self.agent),
                build: self.build,
                shape,
                port: Some(8000),
            }
            .into(),
            _ => StopInstance { instance: self.last }.into(),
        }
    }
}

/// The median of several turns.
fn median(mut turns: Vec<Duration>) -> f64 {
    turns.sort_unstable();
    turns[turns.len() / 2].as_secs_f64()
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    std::hint::black_box(work());
    begin.elapsed()
}

/// Time that this thread had a core, where the kernel tells; other work on the machine does not count.
fn timed_on_core<T>(work: impl FnOnce() -> T) -> Duration {
    let on_core = || {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(told.split(' ').next()?.parse().ok()?))
    };
    let (begin, took) = (on_core(), timed(work));
    match (begin, on_core()) {
        (Some(begin), Some(end)) => end.saturating_sub(begin),
        _ => took,
    }
}

/// Checks batches of signatures, and nothing else.
fn verify(batches: &[Vec<Check>]) {
    for batch in batches {
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
    fn new(history: &History, folder: &Path) -> Self {
        let (mut replica, first) = open(&history.genesis, 2);
        replica.peer_up(history.author, NOW_MS);
        let store = Store::open(folder).expect("the store opens");
        let fold = Fold::new(history.genesis.clone());
        let mut taker = Self {
            replica,
            fold,
            store,
            journal_next: 0,
        };
        taker.keep(admitted(first));
        taker
    }

    /// Takes frames, as many at once as the daemon does.
    fn take(&mut self, frames: &[Vec<u8>], author: NodeId) {
        for batch in frames.chunks(BATCH) {
            let frames = batch.iter().map(|frame| (author, frame.clone())).collect();
            let ops = admitted(self.replica.receive_all(frames, NOW_MS));
            self.keep(ops);
        }
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

fn folder() -> tempfile::TempDir {
    // Beside the build, so on a real disk: a temporary folder may be in memory.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the store")
}

/// An ingest in turns with the bare check of its signatures; the two rates, in ops a second.
fn ingest(history: &History, what: &str, frames: &[Vec<u8>], checks: &[Vec<Check>]) -> Row {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..TURNS {
        bare.push(timed(|| verify(checks)));
        let folder = folder();
        let mut taker = Taker::new(history, folder.path());
        ours.push(timed(|| taker.take(frames, history.author)));
        assert_eq!(
            taker.fold.ops().len(),
            history.ops.len() + 1,
            "all ops entered, and its own"
        );
    }
    let ops = history.ops.len() as f64;
    let signatures = checks.iter().map(Vec::len).sum::<usize>() as f64 / ops;
    Row {
        measure: format!("{what}; bare checks of its {signatures:.2} signatures an op, ops/s"),
        ours: ops / median(ours),
        reference: Some(ops / median(bare)),
    }
}

/// The store in turns with fjall's own commit of the same bytes, so many at once.
fn store(history: &History, ops: &[Op], batch: usize) -> Row {
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let changes = Fold::new(history.genesis.clone()).apply(ops.to_vec());
    let journal: Vec<JournalRecord> = (0..)
        .zip(changes)
        .map(|(offset, change)| JournalRecord {
            offset,
            op: change.op,
            entry: change.entry,
            outcome: ledger::codec::encode(&change.outcome),
            turned: false,
        })
        .collect();
    assert_eq!(journal.len(), ops.len(), "one entry an op");
    for _ in 0..TURNS {
        let folder = folder();
        let database = Database::builder(folder.path().join("bare"))
            .open()
            .expect("fjall opens");
        let keyspace = |name| {
            database
                .keyspace(name, KeyspaceCreateOptions::default)
                .expect("a keyspace")
        };
        let (bodies, records) = (keyspace("ops"), keyspace("journal"));
        bare.push(timed(|| {
            for (ops, told) in ops.chunks(batch).zip(journal.chunks(batch)) {
                let mut write = database.batch().durability(Some(PersistMode::SyncData));
                for (op, record) in ops.iter().zip(told) {
                    write.insert(&bodies, key(op), value(op));
                    write.insert(&records, record.offset.to_be_bytes(), record.encode());
                }
                write.commit().expect("the disk takes it");
            }
        }));
        let store = Store::open(&folder.path().join("ours")).expect("the store opens");
        ours.push(timed(|| {
            for (ops, told) in ops.chunks(batch).zip(journal.chunks(batch)) {
                store.append(ops, told).expect("the disk takes it");
            }
        }));
    }
    let count = ops.len() as f64;
    Row {
        measure: format!("store, durable, {batch} ops a write; fjall's own commit, ops/s"),
        ours: count / median(ours),
        reference: Some(count / median(bare)),
    }
}

fn key(op: &Op) -> Vec<u8> {
    let slot = op.slot();
    [
        &slot.chain.node.0[..],
        &slot.chain.incarnation.to_be_bytes(),
        &slot.seq.to_be_bytes(),
    ]
    .concat()
}

/// As many bytes as the store writes of an op: version, sum, flag, signature, body.
fn value(op: &Op) -> Vec<u8> {
    let signature = op.signature().map_or([0; 64], |signature| signature.0);
    [&[1][..], &[0; 16], &[1], &signature, op.bytes()].concat()
}

fn fold(history: &History, what: &str, batch: usize) -> Row {
    let turn = || {
        let mut fold = Fold::new(history.genesis.clone());
        timed_on_core(|| {
            for ops in history.ops.chunks(batch) {
                fold.apply(ops.to_vec());
                std::hint::black_box(fold.cloud());
            }
        })
    };
    let seconds = median((0..TURNS).map(|_| turn()).collect());
    Row {
        measure: format!("fold alone, {what}, ops/core-s"),
        ours: history.ops.len() as f64 / seconds,
        reference: None,
    }
}

/// The fold of small reports; each time freshly read ops, so that the reading of their entries is in it, or
/// ops whose entries were read before, as when others come late.
fn fold_reports(history: &History, reports: &reports::Reports) -> Vec<Row> {
    let mut turns = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        let fresh: Vec<Op> = reports.ops.iter().map(|op| reread(history, op)).collect();
        for turn in &mut turns {
            let mut fold = reports.fold(history);
            turn.push(timed_on_core(|| {
                for ops in fresh.chunks(BATCH) {
                    fold.apply(ops.to_vec());
                    std::hint::black_box(fold.cloud());
                }
            }));
        }
    }
    let whats = ["entries read in it", "entries read before"];
    let row = |(what, turns): (&str, Vec<Duration>)| Row {
        measure: format!("fold alone, small reports, {BATCH} at once, {what}, ops/core-s"),
        ours: reports.ops.len() as f64 / median(turns),
        reference: None,
    };
    whats.into_iter().zip(turns).map(row).collect()
}

fn reread(history: &History, op: &Op) -> Op {
    let bytes = op.bytes().to_vec();
    Op::decode(history.genesis.network(), *op.slot(), bytes, None).expect("it was read before")
}

/// From a store on the disk into a fresh view.
fn replay(history: &History, what: &str, ops: &[Op]) -> Row {
    let folder = folder();
    let store = Store::open(folder.path()).expect("the store opens");
    for ops in ops.chunks(BATCH) {
        store.append(ops, &[]).expect("the disk takes it");
    }
    let turn = || {
        let mut fold = Fold::new(history.genesis.clone());
        timed_on_core(|| {
            let loaded = store.load(history.genesis.network()).expect("the store reads");
            fold.apply(loaded.ops);
            fold
        })
    };
    let seconds = median((0..TURNS).map(|_| turn()).collect());
    Row {
        measure: format!("replay from disk, {what}, ops/core-s"),
        ours: ops.len() as f64 / seconds,
        reference: None,
    }
}

/// One op that comes 3,000 places late; of a hundred the slowest but one.
fn late(history: &History, reports: &reports::Reports) -> Row {
    let mut took = reports.late(history, 3_000, 200);
    took.sort_by(f64::total_cmp);
    Row {
        measure: "one late op, 3,000 back, small reports, p99, microseconds".into(),
        ours: took[(took.len() - 1) * 99 / 100] * 1e6,
        reference: None,
    }
}

/// What the fold does by itself.
fn of_fold(history: &History) -> Vec<Row> {
    let bytes: usize = history.ops.iter().map(|op| op.bytes().len()).sum();
    let (ops, commands) = (history.ops.len(), history.commands());
    eprintln!(
        "{ops} ops of {} bytes, {commands} commands; median of {TURNS} turns",
        bytes / ops
    );
    let reports = reports::Reports::new(history, 10 * ops);
    let mut rows = fold_reports(history, &reports);
    rows.extend([
        late(history, &reports),
        fold(history, "account commands, all in one call", ops),
        fold(history, &format!("account commands, {BATCH} at once"), BATCH),
        replay(history, "account commands", &history.ops),
        replay(history, "mostly small reports", &reports.all()),
    ]);
    rows
}

/// What a node does with an op.
fn of_node(history: &History) -> Vec<Row> {
    let ops = history.ops.len();
    vec![
        ingest(history, "live ingest", &history.live(), &history.live_checks()),
        ingest(history, "bulk ingest", &history.bulk(), &history.bulk_checks()),
        store(history, &history.ops, BATCH),
        store(history, &history.ops[..ops.min(SINGLES)], 1),
    ]
}
