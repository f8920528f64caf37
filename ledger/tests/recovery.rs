//! What the store acknowledged is there again, whole and in order; what is damaged is named.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fjall::{Database, KeyspaceCreateOptions};
use ledger::admit::Verify;
use ledger::codec::DecodeError;
use ledger::id::OpId;
use ledger::io::store::{Damage, Damaged, Store, StoreError};
use ledger::journal::JournalRecord;
use ledger::op::Op;
use ledger::replica::Replica;
use scene::{Dice, START_MS, admitted, network, report};

fn record(offset: u64, op: OpId) -> JournalRecord {
    JournalRecord {
        offset,
        op,
        entry: 0,
        outcome: offset.to_le_bytes().to_vec(),
        turned: offset % 2 == 1,
    }
}

fn some_ops(count: usize) -> Vec<Op> {
    let (mut replica, outputs) = scene::open(1, 1, vec![]);
    let mut ops = admitted(&outputs);
    for index in 0..count {
        ops.extend(admitted(
            &replica
                .append(vec![report(&index.to_string())], START_MS)
                .unwrap()
                .1,
        ));
    }
    ops
}

#[test]
fn ops_journal_and_settings_are_there_after_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let ops = some_ops(10);
    {
        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.load(network()).unwrap().ops, vec![]);
        store
            .append(&ops[..4], &[record(0, ops[0].id()), record(1, ops[1].id())])
            .unwrap();
        store.append(&ops[4..], &[record(2, ops[4].id())]).unwrap();
        store.append(&[], &[]).unwrap();
        store.set_meta("genesis", b"bytes").unwrap();
        store.set_meta("genesis", b"other bytes").unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let loaded = store.load(network()).unwrap();
    let ids = |ops: &[Op]| ops.iter().map(Op::id).collect::<Vec<_>>();
    assert_eq!(ids(&loaded.ops), ids(&ops));
    assert_eq!(loaded.next_offset, 3);
    assert_eq!(
        store.journal(1, 10).unwrap(),
        vec![record(1, ops[1].id()), record(2, ops[4].id())]
    );
    assert_eq!(store.journal(0, 1).unwrap(), vec![record(0, ops[0].id())]);
    assert_eq!(store.journal(3, 10).unwrap(), vec![]);
    assert_eq!(store.meta("genesis").unwrap(), Some(b"other bytes".to_vec()));
    assert_eq!(store.meta("nothing").unwrap(), None);
    assert_eq!(
        store.meta("format").unwrap(),
        None,
        "the format's own value is out of reach"
    );
}

#[test]
fn ops_that_came_in_a_run_are_loaded_with_the_signature_that_vouches_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let (mut author, first) = scene::Author::opened(2);
    let (_, theirs) = scene::Author::opened(3);
    author.hlc = ledger::clock::Hlc(author.hlc.0 + 10);
    let ops = [
        first,
        author.say("a"),
        author.write(vec![theirs.id().into()], vec![]),
        author.say("c"),
    ];
    let (mut replica, _) = scene::open(1, 1, vec![]);
    replica.peer_up(scene::node(3), START_MS);
    let mut all = admitted(&replica.receive(scene::node(3), &scene::run(&[theirs]), START_MS));
    all.extend(admitted(&replica.receive(
        scene::node(3),
        &scene::run(&ops),
        START_MS,
    )));
    let store = Store::open(dir.path()).unwrap();
    store.append(&all, &[]).unwrap();
    let (replica, _) = scene::open(1, 2, store.load(network()).unwrap().ops);
    let signed = |op: &Op| op.signature().is_some();
    let chain = replica.log().chain(&author.chain);
    assert_eq!(
        chain.iter().map(signed).collect::<Vec<_>>(),
        vec![false, false, false, true]
    );
    assert_eq!(replica.log().vector().next(&author.chain), 4);
}

#[test]
fn a_journal_record_out_of_turn_is_refused_and_nothing_of_its_batch_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let ops = some_ops(1);
    let store = Store::open(dir.path()).unwrap();
    for offset in [1, 7] {
        let error = store.append(&ops, &[record(offset, ops[0].id())]).unwrap_err();
        assert!(
            matches!(error, StoreError::OutOfTurn { expected: 0, .. }),
            "{error}"
        );
    }
    let mut large = record(0, ops[0].id());
    large.outcome = vec![0; ledger::journal::OUTCOME_BYTES_MAX + 1];
    assert!(store.append(&ops, &[large]).is_err());
    assert!(store.set_meta("large", &vec![0; 70_000]).is_err());
    assert_eq!(store.load(network()).unwrap().ops, vec![]);
    store.append(&ops, &[record(0, ops[0].id())]).unwrap();
}

#[test]
fn a_second_process_is_told_that_the_directory_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = start("holds_the_store", dir.path());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("ready")));
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(&error, StoreError::InUse(_)), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    child.kill().unwrap();
    child.wait().unwrap();
    Store::open(dir.path()).unwrap();
}

/// Changes the stored record of an op, or removes it, behind the store's back.
fn tamper(dir: &Path, place: usize, change: impl Fn(&mut Vec<u8>) -> bool) {
    let database = Database::builder(dir.join("log")).open().unwrap();
    let ops = database.keyspace("ops", KeyspaceCreateOptions::default).unwrap();
    let (key, value) = ops.iter().nth(place).unwrap().into_inner().unwrap();
    let mut value = value.to_vec();
    if change(&mut value) {
        ops.insert(key, value).unwrap()
    } else {
        ops.remove(key).unwrap()
    }
}

#[track_caller]
fn damaged(change: impl Fn(&mut Vec<u8>) -> bool, expected: Damage) {
    let dir = tempfile::tempdir().unwrap();
    let ops = some_ops(5);
    let store = Store::open(dir.path()).unwrap();
    for op in &ops {
        store.append(std::slice::from_ref(op), &[]).unwrap();
    }
    drop(store);
    tamper(dir.path(), 3, change);
    let loaded = Store::open(dir.path()).unwrap().load(network()).unwrap();
    let (chain, seq, why) = (ops[0].slot().chain, 3, expected);
    assert_eq!(loaded.damaged, [Damaged { chain, seq, why }]);
    assert_eq!(loaded.ops, ops[..3], "what comes before is there");
    let said = loaded.damaged[0].to_string();
    assert!(said.contains("op 3 of chain 1 of node"), "{said}");
    // It comes again from a peer, grouped otherwise than before, and covers what was damaged.
    let store = Store::open(dir.path()).unwrap();
    store.append(&ops[3..5], &[]).unwrap();
    let loaded = store.load(network()).unwrap();
    assert_eq!((loaded.ops, loaded.damaged), (ops, vec![]));
}

#[test]
fn a_damaged_op_is_named_and_can_come_again() {
    let flip = |at: usize| {
        move |value: &mut Vec<u8>| {
            value[at] ^= 1;
            true
        }
    };
    damaged(flip(5), Damage::OtherSum);
    damaged(flip(30), Damage::OtherSum); // in the signature
    damaged(flip(100), Damage::OtherSum); // in the body
    let cut = |value: &mut Vec<u8>| {
        value.truncate(40);
        true
    };
    damaged(cut, DecodeError::Truncated("a stored op's signature").into());
    let other_version = |value: &mut Vec<u8>| {
        value[0] = 0;
        true
    };
    damaged(
        other_version,
        DecodeError::Meaningless("the version of a stored run").into(),
    );
    damaged(|_| false, Damage::Missing);
}

#[test]
fn a_lost_end_of_the_write_ahead_log_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let ops = some_ops(3);
    let copy = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.append(&ops[..2], &[record(0, ops[0].id())]).unwrap();
    let files = |from: &Path, to: &Path| {
        let status = Command::new("cp")
            .arg("-a")
            .arg(from.join("log"))
            .arg(to)
            .status();
        assert!(status.unwrap().success());
    };
    files(dir.path(), copy.path());
    store
        .append(&ops[2..], &[record(1, ops[2].id()), record(2, ops[3].id())])
        .unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.path().join("log")).unwrap();
    files(copy.path(), dir.path());
    let store = Store::open(dir.path()).unwrap();
    let loaded = store.load(network()).unwrap();
    assert_eq!((loaded.lost_records, loaded.next_offset), (2, 3));
    assert_eq!(loaded.ops, ops[..2]);
    store.append(&ops[2..], &[record(3, ops[2].id())]).unwrap();
    drop(store);
    assert_eq!(
        Store::open(dir.path())
            .unwrap()
            .load(network())
            .unwrap()
            .lost_records,
        0
    );
}

#[test]
fn ops_written_together_are_one_record_with_the_signature_of_the_last() {
    let dir = tempfile::tempdir().unwrap();
    let ops = some_ops(9);
    let store = Store::open(dir.path()).unwrap();
    store.append(&ops, &[]).unwrap();
    let loaded = store.load(network()).unwrap();
    let ids = |ops: &[Op]| ops.iter().map(Op::id).collect::<Vec<_>>();
    assert_eq!(ids(&loaded.ops), ids(&ops));
    let signed: Vec<bool> = loaded.ops.iter().map(|op| op.signature().is_some()).collect();
    assert_eq!(signed.iter().filter(|signed| **signed).count(), 2);
    assert!(signed[0] && signed[9]);
    drop(store);
    let database = Database::builder(dir.path().join("log")).open().unwrap();
    let keyspace = database.keyspace("ops", KeyspaceCreateOptions::default).unwrap();
    assert_eq!(keyspace.iter().count(), 1);
}

#[test]
fn a_store_of_another_network_gives_no_op() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.append(&some_ops(1), &[]).unwrap();
    let mut other = scene::genesis();
    other.salt = [1; 16];
    let loaded = store.load(other.network()).unwrap();
    assert!(loaded.ops.is_empty());
    assert_eq!(loaded.damaged[0].seq, 0);
}

#[test]
fn a_store_of_another_format_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    {
        let database = Database::builder(dir.path().join("log")).open().unwrap();
        let meta = database.keyspace("meta", KeyspaceCreateOptions::default).unwrap();
        meta.insert("format", "3").unwrap();
    }
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("holds format 3, this build reads format 2"),
        "{error}"
    );
}

/// Runs one of the ignored tests of this file as a process of its own.
fn start(test: &str, dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("FORMATION_TEST_STORE", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn given_dir() -> Option<std::path::PathBuf> {
    let dir = std::env::var_os("FORMATION_TEST_STORE");
    if dir.is_none() {
        eprintln!("skipped: this is the child process of another test");
    }
    dir.map(Into::into)
}

fn say(words: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(words.as_bytes()).unwrap();
    out.flush().unwrap();
}

#[test]
#[ignore = "the child process of a_second_process_is_told_that_the_directory_is_in_use"]
fn holds_the_store() {
    let Some(dir) = given_dir() else { return };
    let _store = Store::open(&dir).unwrap();
    say("\nready\n");
    // Till it is killed.
    loop {
        std::thread::park();
    }
}

#[test]
#[ignore = "the child process of what_was_acknowledged_survives_kill_9"]
fn appends_until_it_is_killed() {
    let Some(dir) = given_dir() else { return };
    let store = Store::open(&dir).unwrap();
    let loaded = store.load(network()).unwrap();
    let incarnation = loaded.ops.len() as u64 + 1;
    let setup = scene::setup(1, incarnation, Verify::Trusting);
    let (mut replica, outputs) = Replica::open(setup, loaded.ops, START_MS).unwrap();
    let mut dice = Dice(incarnation);
    let mut batch = admitted(&outputs);
    loop {
        let ids: Vec<String> = batch.iter().map(|op| op.id().to_string()).collect();
        say(&format!("\ntry {}\n", ids.join(" ")));
        let first = store.next_offset();
        let journal: Vec<_> = batch
            .iter()
            .enumerate()
            .map(|(index, op)| record(first + index as u64, op.id()))
            .collect();
        store.append(&batch, &journal).unwrap();
        say("\nack\n");
        batch.clear();
        for _ in 0..=dice.roll(20) {
            let text = "x".repeat(dice.roll(3000) as usize);
            batch.extend(admitted(
                &replica.append(vec![report(&text)], START_MS).unwrap().1,
            ));
        }
    }
}

/// Each round starts a process that appends, kills it at a random moment, and checks that all it
/// acknowledged is there, that of the batch under way all or nothing is there, and that ops and journal
/// agree. The next round goes on in the same directory.
#[test]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut dice = Dice(std::process::id().into());
    let mut acknowledged: Vec<OpId> = Vec::new();
    let mut cut_short = 0;
    for round in 0..12 {
        let mut child = start("appends_until_it_is_killed", dir.path());
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut trying: Vec<OpId> = Vec::new();
        // Some rounds end before anything was acknowledged.
        let mut left = dice.roll(40);
        let mut lines = out.lines();
        let mut note = |line: String, trying: &mut Vec<OpId>, acknowledged: &mut Vec<OpId>| {
            if let Some(ids) = line.strip_prefix("try ") {
                *trying = ids.split(' ').map(|id| id.parse().unwrap()).collect();
            } else if line == "ack" {
                acknowledged.append(trying);
                left = left.saturating_sub(1);
            }
            left > 0
        };
        while lines
            .next()
            .is_some_and(|line| note(line.unwrap(), &mut trying, &mut acknowledged))
        {}
        // The moment of the kill is what is random here; nothing waits for this.
        std::thread::sleep(Duration::from_micros(dice.roll(3000)));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            // The last line may be cut off.
            if line == "ack" || line.len() % 65 == 68 % 65 {
                note(line, &mut trying, &mut acknowledged);
            }
        }

        let store = Store::open(dir.path()).unwrap();
        let loaded = store.load(network()).unwrap();
        let ids: std::collections::HashSet<OpId> = loaded.ops.iter().map(Op::id).collect();
        for id in &acknowledged {
            assert!(ids.contains(id), "round {round}: acknowledged op {id} is lost");
        }
        let there = trying.iter().filter(|id| ids.contains(id)).count();
        assert!(there == 0 || there == trying.len(), "round {round}: half a batch");
        if there > 0 {
            acknowledged.append(&mut trying);
        } else if !trying.is_empty() {
            cut_short += 1;
        }
        assert_eq!(
            ids.len(),
            acknowledged.len(),
            "round {round}: nothing else is there"
        );
        assert_eq!(
            loaded.next_offset,
            ids.len() as u64,
            "round {round}: ops and journal agree"
        );
        let mut offset = 0;
        while offset < loaded.next_offset {
            let records = store.journal(offset, 1000).unwrap();
            assert!(records.iter().all(|record| ids.contains(&record.op)));
            offset += records.len() as u64;
        }
    }
    eprintln!(
        "{} ops acknowledged, {cut_short} batches cut short",
        acknowledged.len()
    );
    assert!(acknowledged.len() > 100);
}
