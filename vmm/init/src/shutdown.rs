//! Ends the guest in good order: no process left, no write left, disks clean.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount_remount};
use rustix::process::{Pid, Signal, kill_process};

/// How long the processes that remain may take after SIGTERM, and again after SIGKILL.
const REMAINING_WAIT: Duration = Duration::from_millis(1500);

/// The root of the initramfs, which lies hidden below the guest's root and holds the mount of its disk.
static FIRST_ROOT: OnceLock<OwnedFd> = OnceLock::new();

/// Keeps the root of the initramfs, before it is covered.
pub(crate) fn hold_first_root() {
    if let Ok(root) = File::open("/") {
        let _ = FIRST_ROOT.set(root.into());
    }
}

/// Sends a signal to all processes but init. No other process may be left for it to fail.
pub(crate) fn signal_all(signal: Signal) {
    #[allow(unsafe_code)]
    // SAFETY: a system call without pointers; as PID 1, "-1" means all other processes of the guest.
    unsafe {
        libc::kill(-1, signal.as_raw());
    }
}

/// Ends what still runs, writes all to the disks and makes them read-only.
pub(crate) fn clean_up() {
    for signal in [Signal::TERM, Signal::KILL] {
        signal_all(signal);
        let begin = Instant::now();
        while others_live() && begin.elapsed() < REMAINING_WAIT {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    rustix::fs::sync();
    if let Err(error) = release_disk() {
        // Everything is written; the journal is replayed at the next boot.
        eprintln!("form-init: the disk stays mounted: {error}");
    }
}

/// Whether a process lives that is neither init nor a thread of the kernel (those have no command line).
fn others_live() -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return false;
    };
    entries.flatten().any(|entry| {
        let pid = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok());
        pid.is_some_and(|pid| {
            pid != 1
                && std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| !line.is_empty())
                && Pid::from_raw(pid).is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
        })
    })
}

fn release_disk() -> rustix::io::Result<()> {
    let Some(first_root) = FIRST_ROOT.get() else {
        return Ok(());
    };
    mount_remount("/", MountFlags::RDONLY, "")?;
    rustix::process::fchdir(first_root.as_fd())?;
    // Relative to the hidden root: "/disk" of the guest's root is something else.
    mount_remount("disk", MountFlags::RDONLY, "")
}

/// Asks the processes of a group to end.
pub(crate) fn terminate_group(leader: i32) {
    let Some(leader) = Pid::from_raw(leader) else {
        return;
    };
    if rustix::process::kill_process_group(leader, Signal::TERM).is_err() {
        let _ = kill_process(leader, Signal::TERM);
    }
}
