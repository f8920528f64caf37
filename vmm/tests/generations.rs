//! Generations at the door of the machines, without a guest: a machine that had ended is found in its folder.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use vmm::io::machines::{Machines, MachinesConfig, StartError, Stop, StopError};
use vmm::machine::MachineState;
use vmm::order::{MachineRecord, RECORD_FILE, Timeline, VERSION};
use vmm::spec::{Health, MachineId, MachineSpec, Nic, Restart, Workload};

const ID: MachineId = MachineId([7; 32]);

fn folder(dir: &Path) -> std::path::PathBuf {
    dir.join(ID.short(64))
}

/// The machines of a host where one ended in a generation, and a later one was seen.
async fn ended(dir: &Path, generation: u64, seen: u64) -> Machines {
    let record = MachineRecord {
        version: VERSION,
        id: ID,
        generation,
        state: MachineState::Stopped,
        pid: 0,
        pid_started: 0,
        timeline: Timeline::default(),
    };
    fs::create_dir_all(folder(dir)).unwrap();
    let record = serde_json::to_vec(&record).unwrap();
    fs::write(folder(dir).join(RECORD_FILE), record).unwrap();
    fs::create_dir_all(dir.join("seen")).unwrap();
    fs::write(dir.join("seen").join(ID.short(64)), format!("{seen}\n")).unwrap();
    let config = MachinesConfig {
        dir: dir.to_owned(),
        cache_dir: dir.join("cache"),
        form_machine: dir.join("none"),
        form_init: dir.join("none"),
    };
    let (machines, _) = Machines::open(config).await.unwrap();
    assert_eq!(machines.list()[0].generation, generation);
    machines
}

fn spec(generation: u64) -> MachineSpec {
    MachineSpec {
        id: ID,
        generation,
        hostname: "web".into(),
        vcpus: 1,
        memory_mib: 256,
        image: "/nowhere".into(),
        disk_gib: 1,
        nic: Nic {
            tap: "ft0".into(),
            mac: [2, 0, 0, 0, 0, 1],
            ipv6: "fd00::1".parse().unwrap(),
            gateway_v6: "fe80::1".parse().unwrap(),
            ipv4: "100.64.0.1".parse().unwrap(),
            gateway_v4: "169.254.1.1".parse().unwrap(),
            resolvers: Vec::new(),
        },
        workload: Workload {
            entrypoint: vec!["/agent".into()],
            env: Vec::new(),
            workdir: "/".into(),
            restart: Restart {
                attempts: 0,
                backoff_ms: 0,
            },
            health: Health::Process,
        },
    }
}

/// A stop of generation 2 had been passed when the instance went out of the log: what is left to delete it by
/// is the generation of the machine itself.
#[tokio::test]
async fn a_machine_is_deleted_by_its_own_generation_though_a_newer_one_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let machines = ended(dir.path(), 1, 2).await;
    machines.stop(ID, 1, Stop::Kill).await.unwrap();
    machines.delete(ID, 1).await.unwrap();
    assert!(!folder(dir.path()).exists());
    assert!(machines.list().is_empty());
    let late = machines.start(spec(1)).await;
    assert!(
        matches!(late, Err(StartError::Stale { asked: 1, seen: 2 })),
        "what was seen still stands: {late:?}"
    );
}

#[tokio::test]
async fn an_older_order_does_not_touch_a_newer_machine() {
    let dir = tempfile::tempdir().unwrap();
    let machines = ended(dir.path(), 3, 3).await;
    let stop = machines.stop(ID, 2, Stop::Kill).await;
    assert!(
        matches!(stop, Err(StopError::Stale { asked: 2, seen: 3 })),
        "{stop:?}"
    );
    let delete = machines.delete(ID, 2).await;
    assert!(
        matches!(delete, Err(StopError::Stale { asked: 2, seen: 3 })),
        "{delete:?}"
    );
    assert!(folder(dir.path()).exists());
}
