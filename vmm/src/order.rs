//! The two files through which daemon and `form-machine` know of each other across restarts: the order
//! (written by the daemon, read once by the machine) and the record (written by the machine at each change,
//! read by a daemon that finds it). Pure: types and their text; who writes them does so atomically.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::driver::Accelerator;
use crate::machine::MachineState;
use crate::spec::{MachineId, MachineSpec};

/// Version of both files.
pub const VERSION: u16 = 1;

/// Name of the order in a machine's folder.
pub const ORDER_FILE: &str = "order.json";
/// Name of the record in a machine's folder.
pub const RECORD_FILE: &str = "record.json";
/// Name of the machine's own disk in its folder.
pub const DISK_FILE: &str = "disk.ext4";
/// Name of the folder of the workload's log in a machine's folder.
pub const LOG_FOLDER: &str = "log";
/// Name of the folder of the guest's console in a machine's folder.
pub const CONSOLE_FOLDER: &str = "console";
/// Name of the file with the words of `form-machine` itself.
pub const MACHINE_LOG_FILE: &str = "machine.log";

/// The longest order or record that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// What `form-machine` is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineOrder {
    /// Version of this file.
    pub version: u16,
    /// What to boot.
    pub spec: MachineSpec,
    /// The guest's kernel.
    pub kernel: PathBuf,
    /// The guest's initramfs.
    pub initramfs: PathBuf,
    /// How to execute it.
    pub accelerator: Accelerator,
}

/// What `form-machine` leaves for a later daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Version of this file.
    pub version: u16,
    /// Which machine.
    pub id: MachineId,
    /// Generation that it was started for.
    pub generation: u64,
    /// Where it stands.
    pub state: MachineState,
    /// Process of `form-machine`.
    pub pid: u32,
    /// When that process started, in the kernel's ticks since boot: a number used again is no proof.
    pub pid_started: u64,
    /// How the boot went, as far as it came.
    pub timeline: Timeline,
}

/// When a boot reached what, in milliseconds since `form-machine` started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// The monitor was started.
    pub monitor_ms: Option<u64>,
    /// Init spoke.
    pub init_ms: Option<u64>,
    /// The entrypoint was started.
    pub entrypoint_ms: Option<u64>,
    /// The health check held for the first time.
    pub serving_ms: Option<u64>,
    /// The guest was gone.
    pub ended_ms: Option<u64>,
}
