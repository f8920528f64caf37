//! What a monitor must be able to do for a machine, free of any one monitor's ideas: [`crate::qemu`] does it
//! with a child process, a monitor of our own would do it with threads of this one.
//!
//! A driver boots a kernel with an initramfs, gives it disks that the guest knows by their serial numbers, a
//! network card on a tap, one byte stream to init and a console; it knows nothing of workloads or states.

use std::future::Future;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;

use serde::{Deserialize, Serialize};

/// All that a driver needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Name of the machine, for the monitor's process or threads.
    pub name: String,
    /// The kernel: an ELF file with a PVH entry, or a bzImage.
    pub kernel: PathBuf,
    /// The initramfs, a cpio archive.
    pub initramfs: PathBuf,
    /// Virtual processors.
    pub vcpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The disks.
    pub disks: Vec<Disk>,
    /// Name of a tap device that exists.
    pub tap: String,
    /// Ethernet address of the card.
    pub mac: [u8; 6],
}

/// A raw disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The file.
    pub path: PathBuf,
    /// Serial number by which the guest finds it.
    pub serial: &'static str,
    /// Whether the guest may write, and who else reads it.
    pub access: Access,
}

/// How a disk is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read only, shared with other machines.
    Shared,
    /// Read and written by this machine alone.
    Exclusive,
}

/// A guest that was started.
pub struct Guest {
    /// The byte stream to init.
    pub channel: UnixStream,
    /// What the guest's kernel prints: the reading end of a pipe, to be read until it ends.
    pub console: OwnedFd,
    /// Resolves when the guest runs no more and its resources are free: `Ok` when it ended itself or was cut,
    /// a text when the monitor failed.
    pub ended: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>,
    /// Cuts the guest's power. May be called again, also after the end.
    pub cut: Box<dyn Fn() + Send>,
}

/// Why a guest was not started.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The monitor could not be started.
    #[error("{monitor} could not be started: {source}")]
    Monitor {
        /// Which monitor.
        monitor: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A way to run a guest.
pub trait Driver: Send + Sync {
    /// Its name as `form node status` shows it.
    fn name(&self) -> &'static str;
    /// Starts a guest. Must be called inside a tokio runtime.
    fn boot(&self, boot: &Boot) -> Result<Guest, BootError>;
}

/// How instructions of the guest are executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Accelerator {
    /// By the processor, through `/dev/kvm`.
    Kvm,
    /// By translation in software.
    Tcg {
        /// What the guest's time stamp counter runs at, in kHz: QEMU passes the host's through. Told to the
        /// guest, since calibration fails or hangs on a busy host.
        tsc_khz: u64,
    },
}

impl Accelerator {
    /// Its name as `form node status` shows it.
    pub fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "kvm",
            Accelerator::Tcg { .. } => "tcg",
        }
    }
}

/// Which driver serves on this host, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverReport {
    /// The driver's name.
    pub driver: String,
    /// How it executes the guest's instructions.
    pub accelerator: String,
    /// Why this and nothing better.
    pub why: String,
}
