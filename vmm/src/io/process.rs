//! Processes that are not our children: who they are, and when they end.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// When the process `pid` started, in the kernel's ticks since boot; `None` when there is no such process.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything; what follows the last bracket are fields 3 and on.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// A process held by a file descriptor: its number cannot be mistaken for a later process of the same number.
#[derive(Debug)]
pub struct Process {
    pidfd: AsyncFd<OwnedFd>,
}

impl Process {
    /// Takes hold of process `pid` if it started at `started` (see [`started`]). Must be called inside a
    /// tokio runtime.
    pub fn hold(pid: u32, started_at: u64) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let pid_number = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(gone)?;
        let pidfd = pidfd_open(pid_number, PidfdFlags::empty())?;
        // Only now is the number certain to stay that of this process.
        if started(pid) != Some(started_at) {
            return Err(gone());
        }
        // SAFETY: the descriptor is owned by the value that watches it, nobody else closes it.
        #[allow(unsafe_code)]
        let pidfd = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE)? };
        Ok(Process { pidfd })
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(|_| ())
    }

    /// Ends the process at once; that it has ended already is as good.
    pub fn kill(&self) {
        let _ = pidfd_send_signal(self.pidfd.get_ref(), Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_of_another_start_time_is_not_taken_for_it() {
        let me = std::process::id();
        let at = started(me).expect("this process runs");
        assert!(Process::hold(me, at).is_ok());
        assert_eq!(
            Process::hold(me, at + 1).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let held = Process::hold(child.id(), started(child.id()).unwrap()).unwrap();
        held.kill();
        tokio::time::timeout(std::time::Duration::from_secs(10), held.ended())
            .await
            .unwrap()
            .unwrap();
        child.wait().unwrap();
        held.kill();
    }
}
