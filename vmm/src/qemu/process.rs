//! QEMU as a child process. It dies with the process that started it (`form-machine`), never with the daemon.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};

use super::arguments::arguments;
use crate::driver::{Accelerator, Boot, BootError, Driver, Guest};

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// What is kept of QEMU's complaints, in bytes.
const COMPLAINT_BYTES_MAX: usize = 2048;

/// The driver.
#[derive(Clone, Copy, Debug)]
pub struct Qemu {
    accelerator: Accelerator,
}

impl Qemu {
    /// A driver that executes guests by `accelerator`.
    pub fn new(accelerator: Accelerator) -> Self {
        Qemu { accelerator }
    }
}

impl Driver for Qemu {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn boot(&self, boot: &Boot) -> Result<Guest, BootError> {
        let fault = |source| BootError::Monitor {
            monitor: PROGRAM,
            source,
        };
        let (ours, theirs) = UnixStream::pair().map_err(fault)?;
        let (console, console_end) = std::io::pipe().map_err(fault)?;
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments(boot, self.accelerator))
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(OwnedFd::from(console_end)))
            .stderr(Stdio::piped());
        die_with_parent(&mut command);
        let mut child = command.spawn().map_err(fault)?;
        // `command` holds our copies of the child's ends; once it is gone, the end of the child is seen.
        drop(command);
        let stderr = child
            .stderr
            .take()
            .expect("standard error was asked for as a pipe");
        let pid = child.id().expect("a child that was not waited for has an id");
        let pidfd = rustix::process::pidfd_open(
            rustix::process::Pid::from_raw(pid.cast_signed()).expect("a process id is positive"),
            rustix::process::PidfdFlags::empty(),
        )
        .map_err(|error| fault(error.into()))?;
        Ok(Guest {
            channel: ours,
            console: OwnedFd::from(console),
            ended: Box::pin(ended(child, stderr)),
            cut: Box::new(move || {
                // It may be gone already: that is as good.
                let _ = rustix::process::pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
            }),
        })
    }
}

/// Waits for the end of QEMU; its complaints become the text of a failure.
async fn ended(mut child: Child, mut stderr: ChildStderr) -> Result<(), String> {
    let mut complaint = Vec::new();
    let mut piece = [0; 512];
    while let Ok(length) = stderr.read(&mut piece).await {
        if length == 0 {
            break;
        }
        let room = COMPLAINT_BYTES_MAX.saturating_sub(complaint.len()).min(length);
        complaint.extend_from_slice(&piece[..room]);
    }
    let status = child
        .wait()
        .await
        .map_err(|error| format!("{PROGRAM} cannot be waited for: {error}"))?;
    // A cut is a signal; the guest's own end is status 0.
    if status.success() || std::os::unix::process::ExitStatusExt::signal(&status) == Some(libc::SIGKILL) {
        return Ok(());
    }
    let complaint = String::from_utf8_lossy(&complaint);
    Err(format!(
        "{PROGRAM} ended with {status}: {}",
        crate::guest::readable(complaint.trim())
    ))
}

#[allow(unsafe_code)]
fn die_with_parent(command: &mut Command) {
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
                .map_err(std::io::Error::from)
        });
    }
}
