//! One program, alone: in its own mount, pid, ipc and uts namespaces, inside a tree that is its whole world.
//!
//! ```text
//! builder's thread ─fork─▶ warden: unshares ─fork─▶ pid 1: pivots, drops ─fork─▶ pid 2: execs the program
//!       dies         ════▶  dies             ════▶  dies, and with it all that the program started
//! ```
//! pid 1 stays ours, because the kernel spares a pid 1 the signals that end any other program.
//! What it may: the network (RUN and INSTALL fetch things), its tree, a few capabilities that dpkg needs. What it
//! may not: see a file or process of the host, make device nodes, mount, change kernel settings, run for ever,
//! ask the kernel for what no build needs, or take the host's memory and tasks (`confine`).
//! The mount namespace of the builder's thread is private too (`layers.rs`), so nothing is ever left mounted.

use super::confine::{self, Fence, Taken};
use super::steplog::StepLog;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount, mount_change,
    mount_remount, move_mount, open_tree, unmount,
};
use rustix::process::{Signal, chdir, pivot_root, set_parent_process_death_signal, setsid};
use rustix::thread::{CapabilitySet, CapabilitySets, UnshareFlags, set_capabilities, set_no_new_privs};
use std::ffi::{CStr, CString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Most time for one step.
pub const STEP_MS_MAX: u64 = 30 * 60 * 1000;
/// Most bytes of one file that a step may write.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;
/// What a step leaves free on the builder's disk, or it is killed.
const FREE_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// Most files that one process of a step may have open.
const OPEN_FILES_MAX: u64 = 16_384;

/// Capabilities that stay: what dpkg, adduser and their scripts need, and nothing that reaches a device, a mount,
/// another namespace or a file by its inode number.
const KEPT_CAPABILITIES: [libc::c_ulong; 12] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    18, // SYS_CHROOT
    29, // AUDIT_WRITE
    31, // SETFCAP
];

/// How a program failed.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be started.
    #[error("it could not be started: {0}")]
    Start(#[source] io::Error),
    /// It ended badly.
    #[error("it ended with {0}")]
    Status(String),
    /// It took too long and was killed.
    #[error("it took more than {0} s and was killed")]
    TimedOut(u64),
    /// It filled the disk.
    #[error("it was killed because it left the builder's disk less than {} MiB", FREE_BYTES_MIN >> 20)]
    DiskFull,
    /// It took the host's memory.
    #[error("it was killed because it took more than {} MiB of memory", confine::memory_bytes_max() >> 20)]
    MemoryFull,
    /// It started too much.
    #[error(
        "it was killed because it had more than {} processes and threads at once",
        confine::TASKS_MAX
    )]
    TooManyTasks,
    /// Its output could not be read.
    #[error("its output could not be read: {0}")]
    Output(#[source] io::Error),
}

/// A piece of the host that is visible inside.
pub(super) struct Bind<'a> {
    pub(super) source: &'a Path,
    /// Absolute, in the tree. It must exist there.
    pub(super) target: &'a str,
    pub(super) read_only: bool,
}

/// Where a program runs.
pub(super) enum World<'a> {
    /// In this tree, which is a mount point, confined.
    Tree {
        root: &'a Path,
        workdir: &'a str,
        binds: &'a [Bind<'a>],
    },
    /// On the host: our own tools. Only its processes are kept together.
    Host,
}

/// Runs `command` to its end; what it prints goes to `log`.
pub(super) fn run(
    mut command: Command,
    world: &World<'_>,
    ms_max: u64,
    log: &mut StepLog<'_>,
) -> Result<(), RunError> {
    let (mut reader, writer) = io::pipe().map_err(RunError::Start)?;
    let twin = writer.try_clone().map_err(RunError::Start)?;
    command.stdin(Stdio::null()).stdout(writer).stderr(twin);
    let inside = match world {
        World::Host => None,
        World::Tree { root, workdir, binds } => Some(Inside::prepare(root, workdir, binds)?),
    };
    // SAFETY: between fork and exec only system calls are made, on memory that was prepared before; no lock is
    // taken and nothing is allocated.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(move || enter(inside.as_ref()));
    }
    let child = command.spawn();
    // The command holds the pipe's other end, and the reader waits for all of them to close.
    drop(command);
    let mut child = child.map_err(RunError::Start)?;
    let deadline = Instant::now() + Duration::from_millis(ms_max);
    let grows = match world {
        World::Tree { root, .. } => Some(*root),
        World::Host => None,
    };
    let watched = grows.map(|root| Watched {
        root,
        warden: child.id(),
        memory_bytes_max: confine::memory_bytes_max(),
    });
    let read = pump(&mut reader, deadline, watched, log);
    if !matches!(read, Ok(Pumped::Ended)) {
        // The warden's death takes pid 1 with it, and that the rest.
        let _ = child.kill();
    }
    let status = child.wait().map_err(RunError::Output)?;
    match read {
        Ok(Pumped::Ended) => judge(status),
        Ok(Pumped::TimeUp) => Err(RunError::TimedOut(ms_max / 1000)),
        Ok(Pumped::Over(error)) => Err(error),
        Err(error) => Err(RunError::Output(error)),
    }
}

/// Why the reading of output stopped.
enum Pumped {
    /// The last writer is gone.
    Ended,
    TimeUp,
    /// More than its share of the host.
    Over(RunError),
}

/// What is looked at while a step runs.
struct Watched<'a> {
    /// On the file system that must not fill up.
    root: &'a Path,
    warden: u32,
    memory_bytes_max: u64,
}

impl Watched<'_> {
    fn look(&self) -> io::Result<Option<RunError>> {
        let disk = rustix::fs::statvfs(self.root)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < FREE_BYTES_MIN {
            return Ok(Some(RunError::DiskFull));
        }
        let taken = Taken::under(self.warden).unwrap_or_default();
        if taken.tasks > confine::TASKS_MAX {
            return Ok(Some(RunError::TooManyTasks));
        }
        Ok((taken.memory_bytes > self.memory_bytes_max).then_some(RunError::MemoryFull))
    }
}

fn judge(status: ExitStatus) -> Result<(), RunError> {
    match (status.code(), status.signal()) {
        (Some(0), _) => Ok(()),
        (Some(code), _) if code > 128 => Err(RunError::Status(format!("signal {}", code - 128))),
        (Some(code), _) => Err(RunError::Status(format!("exit code {code}"))),
        (None, signal) => Err(RunError::Status(format!("signal {}", signal.unwrap_or(0)))),
    }
}

/// Reads until the last writer is gone, the time is up, or what is watched takes too much.
fn pump(
    reader: &mut io::PipeReader,
    deadline: Instant,
    watched: Option<Watched<'_>>,
    log: &mut StepLog<'_>,
) -> io::Result<Pumped> {
    const TICK: Duration = Duration::from_millis(500);
    let mut buffer = [0; 8192];
    let mut looked = Instant::now();
    loop {
        if looked.elapsed() > TICK {
            looked = Instant::now();
            if let Some(error) = watched.as_ref().map_or(Ok(None), Watched::look)? {
                return Ok(Pumped::Over(error));
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(Pumped::TimeUp);
        }
        let wait = left.min(TICK);
        let timeout = rustix::event::Timespec {
            tv_sec: 0,
            tv_nsec: wait.as_nanos().min(999_999_999) as i64,
        };
        let mut fds = [PollFd::new(&*reader, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match reader.read(&mut buffer)? {
            0 => return Ok(Pumped::Ended),
            read => log.output(&buffer[..read]),
        }
    }
}

/// All that the child needs, prepared while memory may still be allocated.
struct Inside {
    root: CString,
    workdir: CString,
    binds: Vec<(OwnedFd, CString, bool)>,
    fence: Fence,
    tasks: Option<CString>,
}

impl Inside {
    fn prepare(root: &Path, workdir: &str, binds: &[Bind<'_>]) -> Result<Self, RunError> {
        let text = |bytes: &[u8]| {
            CString::new(bytes).map_err(|_| RunError::Start(io::Error::other("a path holds a NUL")))
        };
        let mut prepared = Vec::new();
        for bind in binds {
            // Opened here, where the host's files are; placed inside, where symlinks lead nowhere else.
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let tree = open_tree(rustix::fs::CWD, bind.source, flags)
                .map_err(|error| RunError::Start(error.into()))?;
            prepared.push((tree, text(bind.target.as_bytes())?, bind.read_only));
        }
        Ok(Inside {
            root: text(root.as_os_str().as_bytes())?,
            workdir: text(workdir.as_bytes())?,
            binds: prepared,
            fence: Fence::prepare(),
            tasks: confine::tasks_setting(),
        })
    }
}

/// In the child: becomes the warden, and goes on only in pid 1 of the new namespace.
fn enter(inside: Option<&Inside>) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    if inside.is_some() {
        flags |= UnshareFlags::NEWIPC | UnshareFlags::NEWUTS;
    }
    said(c"namespaces", unshare(flags))?;
    fork_under_warden()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    setsid()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    said(c"private mounts", mount_change(c"/", private))?;
    let Some(inside) = inside else {
        return said(c"/proc", mount_proc());
    };
    // When memory runs out, the step is the first to go.
    said(
        c"its rank when memory runs out",
        write_to(c"/proc/thread-self/oom_score_adj", c"1000"),
    )?;
    inside.become_root()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    rustix::system::sethostname(b"build")?;
    limit()?;
    said(c"the working directory", chdir(inside.workdir.as_c_str()))?;
    said(c"capabilities", drop_privileges())?;
    fork_under_warden()?;
    said(c"the filter of system calls", inside.fence.shut())
}

fn write_to(path: &CStr, text: &CStr) -> rustix::io::Result<()> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.to_bytes()).map(|_| ())
}

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: FILES is not among the flags, so no descriptor changes its meaning for anyone.
    #[allow(unsafe_code)]
    unsafe {
        rustix::thread::unshare_unsafe(flags)
    }
}

/// Forks. The parent waits for the child, buries any orphan, and ends with the child's status; only the child
/// returns.
fn fork_under_warden() -> io::Result<()> {
    // SAFETY: the process has one thread, being itself fresh from a fork; the parent's branch makes system calls
    // only and never returns.
    #[allow(unsafe_code)]
    unsafe {
        match libc::fork() {
            -1 => Err(io::Error::last_os_error()),
            0 => Ok(()),
            child => {
                // The builder waits for the end of a pipe that this process inherited: let go of all but stdio.
                libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
                // Nor may the program look into this process, which has not gone through an exec.
                libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0);
                let mut status = 0;
                loop {
                    let ended = libc::waitpid(-1, &raw mut status, 0);
                    if ended == child {
                        break;
                    }
                    if ended == -1 && *libc::__errno_location() != libc::EINTR {
                        libc::_exit(125);
                    }
                }
                let code = if libc::WIFEXITED(status) {
                    libc::WEXITSTATUS(status)
                } else {
                    128 + libc::WTERMSIG(status)
                };
                libc::_exit(code)
            }
        }
    }
}

/// Says on the step's own output what could not be set up; an error number alone would not tell.
fn said<T, E: Into<io::Error>>(what: &CStr, result: Result<T, E>) -> io::Result<T> {
    result.map_err(|error| {
        for part in [b"sandbox: cannot set up ".as_slice(), what.to_bytes(), b"\n"] {
            // SAFETY: the bytes live longer than the call; Rust's own stderr has a lock that a fork may leave shut.
            #[allow(unsafe_code)]
            unsafe {
                libc::write(libc::STDERR_FILENO, part.as_ptr().cast(), part.len());
            }
        }
        error.into()
    })
}

fn mount_proc() -> rustix::io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(c"proc", c"/proc", c"proc", flags, None)
}

impl Inside {
    fn become_root(&self) -> io::Result<()> {
        said(c"the root", chdir(self.root.as_c_str()))?;
        said(c"the root", pivot_root(c".", c"."))?;
        said(c"the root", unmount(c".", UnmountFlags::DETACH))?;
        said(c"the root", chdir(c"/"))?;
        said(c"/proc", mount_proc())?;
        // Both are of the new namespaces; the bound on tasks only from Linux 6.14 on.
        if let Some(tasks) = &self.tasks {
            said(
                c"the bound on tasks",
                write_to(c"/proc/sys/kernel/pid_max", tasks),
            )?;
        }
        said(
            c"the bound on memory",
            write_to(c"/proc/sys/kernel/shmall", confine::SHARED_PAGES_MAX),
        )?;
        said(c"/dev", devices())?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        said(
            c"/run",
            mount(c"tmpfs", c"/run", c"tmpfs", flags, Some(c"mode=0755,size=256m")),
        )?;
        for (tree, target, read_only) in &self.binds {
            let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            said(
                target,
                move_mount(tree.as_fd(), c"", rustix::fs::CWD, target.as_c_str(), flags),
            )?;
            if *read_only {
                let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
                said(target, mount_remount(target.as_c_str(), flags, c""))?;
            }
        }
        guard_proc()
    }
}

/// A /dev with the few devices that programs expect, made before the right to make any is dropped.
fn devices() -> rustix::io::Result<()> {
    use rustix::fs::{CWD, FileType, Mode, makedev, mkdirat, mknodat, symlinkat};
    mount(
        c"tmpfs",
        c"/dev",
        c"tmpfs",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        Some(c"mode=0755,size=64k"),
    )?;
    let nodes = [
        (c"/dev/null", 3),
        (c"/dev/zero", 5),
        (c"/dev/full", 7),
        (c"/dev/random", 8),
        (c"/dev/urandom", 9),
    ];
    rustix::process::umask(Mode::empty());
    for (path, minor) in nodes {
        mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(1, minor),
        )?;
    }
    mknodat(
        CWD,
        c"/dev/tty",
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(5, 0),
    )?;
    for (target, path) in [
        (c"/proc/self/fd", c"/dev/fd"),
        (c"/proc/self/fd/0", c"/dev/stdin"),
        (c"/proc/self/fd/1", c"/dev/stdout"),
        (c"/proc/self/fd/2", c"/dev/stderr"),
        (c"pts/ptmx", c"/dev/ptmx"),
    ] {
        symlinkat(target, CWD, path)?;
    }
    for path in [c"/dev/pts", c"/dev/shm"] {
        mkdirat(CWD, path, Mode::from_raw_mode(0o755))?;
    }
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    let pts = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount(c"devpts", c"/dev/pts", c"devpts", flags, Some(pts))?;
    mount(
        c"tmpfs",
        c"/dev/shm",
        c"tmpfs",
        flags | MountFlags::NODEV,
        Some(c"mode=1777,size=256m"),
    )
}

/// What of /proc belongs to the whole host: read-only, or hidden under /dev/null.
fn guard_proc() -> io::Result<()> {
    for path in [
        c"/proc/sys",
        c"/proc/sysrq-trigger",
        c"/proc/irq",
        c"/proc/bus",
        c"/proc/fs",
        c"/proc/acpi",
        c"/proc/asound",
        c"/proc/scsi",
        c"/proc/driver",
        c"/proc/dynamic_debug",
    ] {
        if optional(path, rustix::mount::mount_bind_recursive(path, path))? {
            let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
            said(path, mount_remount(path, flags | MountFlags::NOEXEC, c""))?;
        }
    }
    for path in [
        c"/proc/kcore",
        c"/proc/keys",
        c"/proc/timer_list",
        c"/proc/kmsg",
        c"/proc/latency_stats",
        c"/proc/sched_debug",
        c"/proc/kallsyms",
        c"/proc/kpagecgroup",
        c"/proc/kpagecount",
        c"/proc/kpageflags",
        c"/proc/vmallocinfo",
        c"/proc/slabinfo",
        c"/proc/vmcore",
        c"/proc/mtrr",
        c"/proc/config.gz",
    ] {
        optional(path, rustix::mount::mount_bind(c"/dev/null", path))?;
    }
    Ok(())
}

/// Kernels differ in what they show; what is not there needs no guard.
fn optional(path: &CStr, result: rustix::io::Result<()>) -> io::Result<bool> {
    match result {
        Err(rustix::io::Errno::NOENT) => Ok(false),
        result => said(path, result).map(|()| true),
    }
}

fn limit() -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let both = |n| Rlimit {
        current: Some(n),
        maximum: Some(n),
    };
    setrlimit(Resource::Core, both(0))?;
    setrlimit(Resource::Fsize, both(FILE_BYTES_MAX))?;
    setrlimit(Resource::Nofile, both(OPEN_FILES_MAX))?;
    rustix::process::setpriority_process(None, confine::NICE)?;
    Ok(())
}

fn drop_privileges() -> io::Result<()> {
    const CAPABILITIES_MAX: libc::c_ulong = 63;
    // SAFETY: both calls pass numbers and an empty list, and touch no memory.
    #[allow(unsafe_code)]
    unsafe {
        if libc::setgroups(0, std::ptr::null()) == -1 {
            return Err(io::Error::last_os_error());
        }
        // What is not in the bounding set is gone at the exec that follows.
        for capability in (0..=CAPABILITIES_MAX).filter(|number| !KEPT_CAPABILITIES.contains(number)) {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == -1
                && *libc::__errno_location() != libc::EINVAL
            {
                return Err(io::Error::last_os_error());
            }
        }
    }
    // And pid 1, which execs nothing, lets go of them now.
    let kept = KEPT_CAPABILITIES.iter().fold(0, |all, number| all | 1 << number);
    let kept = CapabilitySet::from_bits_retain(kept);
    let inheritable = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable,
        },
    )?;
    set_no_new_privs(true)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_host(script: &str, ms_max: u64) -> (Result<(), RunError>, Vec<String>) {
        let mut watch = |_| {};
        let mut log = StepLog::new(tempfile::tempfile().expect("a file"), &mut watch);
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        let result = run(command, &World::Host, ms_max, &mut log);
        (result, log.tail())
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT RUN: a_program_that_takes_too_long_is_killed_with_its_children: it needs root");
            return;
        }
        let started = Instant::now();
        // The child holds the output open: only its death ends the reading.
        let (result, tail) = on_host("sleep 1000 & echo begun; sleep 1000", 1000);
        assert!(matches!(result, Err(RunError::TimedOut(1))), "{result:?}");
        assert_eq!(tail, ["begun"]);
        assert!(started.elapsed() < Duration::from_secs(20));
        let (result, tail) = on_host("sleep 1000 & echo $$; exit 3", 60_000);
        assert!(
            matches!(&result, Err(RunError::Status(status)) if status == "exit code 3"),
            "{result:?}"
        );
        assert_eq!(tail, ["1"], "it cannot see the host's processes");
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "what it left behind is dead"
        );
        let (result, _) = on_host("exec /no/such/program", 1000);
        assert!(result.is_err());
    }
}
