//! A disk that is full, or that turned read-only: the store says so, loses nothing, and goes on when it can.
//!
//! The test runs itself again in a mount namespace of its own, on a small disk in memory; without the right to
//! make one it is skipped, and says so.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use std::path::Path;
use std::process::Command;

use ledger::io::store::{Store, StoreError};
use ledger::op::Op;
use scene::{START_MS, admitted, network, report};

fn in_a_namespace(test: &str) {
    let dir = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let may = Command::new("unshare").args(["-m", "true"]).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {test} needs the right to make a mount namespace (root)");
        return;
    }
    let output = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "mount -t tmpfs -o size=96m tmpfs \"$0\" && exec \"$@\"",
        ])
        .arg(dir.path())
        .arg(exe)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("FORMATION_TEST_DISK", dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

struct Writer {
    replica: ledger::replica::Replica,
    ops: Vec<Op>,
}

impl Writer {
    fn new() -> Self {
        let (replica, outputs) = scene::open(1, 1, vec![]);
        let ops = admitted(&outputs);
        Self { replica, ops }
    }

    fn batch(&mut self) -> Vec<Op> {
        let text = "x".repeat(4000);
        let each = |_| admitted(&self.replica.append(vec![report(&text)], START_MS).unwrap().1);
        let batch: Vec<Op> = (0..64).flat_map(each).collect();
        self.ops.extend(batch.clone());
        batch
    }

    fn check(&self, dir: &Path) {
        let loaded = Store::open(dir).unwrap().load(network()).unwrap();
        assert_eq!((loaded.damaged, loaded.lost_records), (vec![], 0));
        let ids = |ops: &[Op]| ops.iter().map(Op::id).collect::<Vec<_>>();
        assert!(
            ids(&loaded.ops) == ids(&self.ops),
            "all that was acknowledged, and no more"
        );
    }
}

#[test]
fn a_full_disk_is_told_and_nothing_acknowledged_is_lost() {
    in_a_namespace("fills_the_disk");
}

#[test]
#[ignore = "the child process of a_full_disk_is_told_and_nothing_acknowledged_is_lost"]
fn fills_the_disk() {
    let Some(disk) = std::env::var_os("FORMATION_TEST_DISK") else {
        return;
    };
    let dir = Path::new(&disk).join("ledger");
    let ballast = Path::new(&disk).join("ballast");
    let store = Store::open(&dir).unwrap();
    let mut writer = Writer::new();
    store.append(&writer.ops, &[]).unwrap();
    store.append(&writer.batch(), &[]).unwrap();
    let mut full = std::fs::File::create(&ballast).unwrap();
    // Till the disk takes no more.
    let _ = std::io::copy(&mut std::io::repeat(1), &mut full);
    drop(full);
    let mut refused = None;
    for _ in 0..400 {
        let batch = writer.batch();
        match store.append(&batch, &[]) {
            Ok(()) => {}
            Err(error) => {
                assert!(matches!(error, StoreError::Fault { .. }), "{error}");
                refused = Some(batch);
                break;
            }
        }
    }
    let refused = refused.expect("the disk is full");
    let closed = store.append(&refused, &[]).unwrap_err();
    assert!(matches!(closed, StoreError::Closed), "{closed}");
    // The torn batch is dropped, which may or may not make the room for it; to try again harms nothing.
    if store.reopen().is_ok() {
        let _ = store.append(&refused, &[]);
    }
    std::fs::remove_file(&ballast).unwrap();
    store.reopen().unwrap();
    store.append(&refused, &[]).unwrap();
    store.append(&writer.batch(), &[]).unwrap();
    drop(store);
    writer.check(&dir);
}

#[test]
fn a_disk_that_turned_read_only_is_told_and_nothing_acknowledged_is_lost() {
    in_a_namespace("writes_to_a_read_only_disk");
}

#[test]
#[ignore = "the child process of a_disk_that_turned_read_only_is_told_and_nothing_acknowledged_is_lost"]
fn writes_to_a_read_only_disk() {
    let Some(disk) = std::env::var_os("FORMATION_TEST_DISK") else {
        return;
    };
    let dir = Path::new(&disk).join("ledger");
    let mut writer = Writer::new();
    {
        let store = Store::open(&dir).unwrap();
        store.append(&writer.ops, &[]).unwrap();
        store.append(&writer.batch(), &[]).unwrap();
    }
    let remount = |how: &str| {
        let status = Command::new("mount")
            .args(["-o", how])
            .arg(&disk)
            .status()
            .unwrap();
        assert!(status.success());
    };
    remount("remount,ro");
    let error = Store::open(&dir).unwrap_err();
    let said = format!("{error}: {}", std::error::Error::source(&error).unwrap());
    assert!(said.contains("Read-only"), "{said}");
    remount("remount,rw");
    let store = Store::open(&dir).unwrap();
    store.append(&writer.batch(), &[]).unwrap();
    drop(store);
    writer.check(&dir);
}
