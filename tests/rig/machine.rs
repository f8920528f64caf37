//! QEMU's process: how it is started, what flows out of it, how it ends.
//!
//! ```text
//! ttyS0 console  -> its last lines are kept        ttyS1 -> our standard output
//! ttyS3 verdict  -> `exit N` or `failed WHY`       ttyS2 -> our standard error
//! ```
//! QEMU never outlives the rig: a signal to the rig ends it, and if the rig dies without a word the kernel
//! kills it. The latter is asked for by the process that then becomes QEMU, so this program starts itself.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, anyhow};
use rustix::io::FdFlags;
use rustix::process::Signal;

/// The first word of the process that becomes QEMU. The parent's number and QEMU's arguments follow.
pub(crate) const CHILD: &str = "--become-qemu";

const QEMU: &str = "qemu-system-x86_64";

/// `max` is an AMD processor with SVM and nested paging. Five levels of page tables only cost time.
const PROCESSOR: &str = "max,la57=off";

/// A clock tick is two nanoseconds an instruction; while idle it jumps to the next timer.
const COUNTED: &str = "shift=1,sleep=off,align=off";

/// The kernel's own words. Without mitigations and grace periods, translated code runs faster.
const KERNEL_LINE: &str = "console=ttyS0 loglevel=5 panic=-1 reboot=t mitigations=off tsc=reliable no_timer_check \
                           rcupdate.rcu_expedited=1 audit=0";

/// How much is kept of what the console and the verdict's port say.
const KEPT_BYTES_MAX: usize = 4096;

/// How often the process is looked after.
const LOOK: Duration = Duration::from_millis(10);

/// A machine to start.
pub(crate) struct Machine<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) root: &'a File,
    pub(crate) disks: Vec<&'a File>,
    pub(crate) memory_mib: u32,
    pub(crate) processors: u32,
    pub(crate) counts_instructions: bool,
}

/// How a machine ended.
pub(crate) enum Ending {
    /// The command ended with this status.
    Exit(u8),
    TimedOut {
        console: String,
    },
    /// Somebody wants this process to end.
    Interrupted {
        signal: u8,
    },
    /// The command may not even have begun.
    Broken {
        why: String,
        console: String,
    },
}

/// Becomes QEMU: returns only what went wrong.
pub(crate) fn become_child(words: &[String]) -> Error {
    let Some((parent, arguments)) = words.split_first() else { return anyhow!("{CHILD} wants a parent") };
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return Error::new(error).context("asking to end with the rig");
    }
    // The rig may have ended before the kernel was asked.
    if rustix::process::getppid().map(|parent| parent.to_string()).as_ref() != Some(parent) {
        return anyhow!("the rig has ended");
    }
    let error = Command::new(QEMU).args(arguments).exec();
    Error::new(error).context(format!("starting {QEMU}: install Debian's package qemu-system-x86"))
}

/// From now on a signal that would end this process is only noted, by its number.
pub(crate) fn interruption() -> Result<Arc<AtomicUsize>> {
    let noted = Arc::new(AtomicUsize::new(0));
    for signal in [Signal::HUP, Signal::INT, Signal::TERM] {
        let number = signal.as_raw();
        signal_hook::flag::register_usize(number, Arc::clone(&noted), number as usize).context("listening for signals")?;
    }
    Ok(noted)
}

impl Machine<'_> {
    /// Starts it and waits for its end, however that comes. Call it from the first thread: the kernel takes
    /// the end of the calling thread for the end of the rig.
    pub(crate) fn run(&self, limit: Duration, interrupted: &AtomicUsize) -> Result<Ending> {
        let ports = [port()?, port()?, port()?, port()?];
        let mut child = self.command(&ports)?.spawn().context("starting QEMU")?;
        // Only QEMU holds the other ends now, so that its end is the end of what is read.
        let [console, out, err, verdict] = ports.map(|(reader, _)| reader);
        let (console, verdict) = (keep_last(console), keep_last(verdict));
        let (out, err) = (pass_on(out, std::io::stdout()), pass_on(err, std::io::stderr()));
        let end = Instant::now() + limit;
        let (mut timed_out, mut signal) = (false, 0);
        while child.try_wait().context("looking after QEMU")?.is_none() {
            signal = interrupted.load(Ordering::Relaxed);
            timed_out = Instant::now() > end;
            if timed_out || signal != 0 {
                child.kill().context("ending QEMU")?;
                child.wait().context("ending QEMU")?;
                break;
            }
            std::thread::sleep(LOOK);
        }
        let (console, verdict) = (text(console), text(verdict));
        for stream in [out, err] {
            stream.join().expect("passing on does not panic");
        }
        if let Some(signal) = u8::try_from(signal).ok().filter(|signal| *signal != 0) {
            return Ok(Ending::Interrupted { signal });
        }
        if timed_out {
            return Ok(Ending::TimedOut { console });
        }
        let why = match verdict.trim_end().split_once(' ') {
            Some(("exit", status)) => match status.parse() {
                Ok(status) => return Ok(Ending::Exit(status)),
                Err(_) => format!("the command ended with `{status}`, which is no status"),
            },
            Some(("failed", why)) => why.to_owned(),
            _ => "QEMU ended before the command did".to_owned(),
        };
        Ok(Ending::Broken { why, console })
    }

    fn command(&self, ports: &[(PipeReader, PipeWriter); 4]) -> Result<Command> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(CHILD).arg(rustix::process::getpid().to_string());
        let translator = if self.counts_instructions { "tcg,thread=single" } else { "tcg,thread=multi" };
        command.args(["-name", "form-rig", "-machine", "q35,hpet=off", "-accel", translator, "-cpu", PROCESSOR]);
        command.args(["-smp", &self.processors.to_string(), "-m", &self.memory_mib.to_string()]);
        command.args(["-no-user-config", "-nodefaults", "-no-reboot", "-display", "none"]);
        if self.counts_instructions {
            command.args(["-icount", COUNTED, "-rtc", "clock=vm"]);
        }
        command.arg("-kernel").arg(self.kernel);
        command.args(["-initrd", &inherited(self.root)?, "-append", KERNEL_LINE]);
        for (number, (_, writer)) in ports.iter().enumerate() {
            let path = inherited(writer)?;
            command.args(["-chardev", &format!("file,id=port{number},path={path}")]);
            command.args(["-serial", &format!("chardev:port{number}")]);
        }
        for (number, disk) in self.disks.iter().enumerate() {
            let path = inherited(disk)?;
            command.args(["-drive", &format!("file={path},format=raw,if=none,id=disk{number},cache=unsafe")]);
            command.args(["-device", &format!("virtio-blk-pci,drive=disk{number}")]);
        }
        // What QEMU complains about stands on the console, too.
        let complaints = ports[0].1.try_clone().context("sharing the console")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints);
        Ok(command)
    }
}

fn port() -> Result<(PipeReader, PipeWriter)> {
    std::io::pipe().context("making a pipe")
}

/// Lets the next process have this file, and says under which path it opens it.
fn inherited(file: impl AsFd) -> Result<String> {
    rustix::io::fcntl_setfd(&file, FdFlags::empty()).context("sharing a file with QEMU")?;
    Ok(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// Copies what comes until its end. Goes on reading when nobody listens: the command shall not wait for that.
fn pass_on(mut from: PipeReader, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut block = vec![0; 1 << 16];
        while let Ok(length @ 1..) = from.read(&mut block) {
            let _ = to.write_all(&block[..length]).and_then(|()| to.flush());
        }
    })
}

/// Keeps the last [`KEPT_BYTES_MAX`] of what comes.
fn keep_last(mut from: PipeReader) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let (mut kept, mut block) = (Vec::new(), [0; 1024]);
        while let Ok(length @ 1..) = from.read(&mut block) {
            kept.extend_from_slice(&block[..length]);
            kept.drain(..kept.len().saturating_sub(KEPT_BYTES_MAX));
        }
        kept
    })
}

/// What was kept, without what a terminal would obey.
fn text(kept: JoinHandle<Vec<u8>>) -> String {
    let kept = kept.join().expect("keeping does not panic");
    String::from_utf8_lossy(&kept).chars().filter(|sign| *sign == '\n' || !sign.is_control()).collect()
}
