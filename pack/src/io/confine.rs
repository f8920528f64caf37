//! What a step may ask of the kernel and how much of the host it may take: a filter of system calls, a fence around
//! the host's abstract sockets, bounds on tasks and memory.
//!
//! The step runs as root without most capabilities. A new user namespace would give it all of them back inside, and
//! with them the parts of the kernel that are attacked most: so there is none, nor any call that a build never
//! needs. It shares the host's network, where abstract sockets of the host's services live that trust root.
//! Not here: the tree and the namespaces (`sandbox`).

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Most processes and threads of one step, all together.
pub(super) const TASKS_MAX: u64 = 4096;
/// A step may take this part of the host's memory.
const MEMORY_SHARE: u64 = 2;
/// And this much in any case.
const MEMORY_BYTES_MIN: u64 = 1024 * 1024 * 1024;
/// How much a step stands back behind the machines and the daemon.
pub(super) const NICE: libc::c_int = 10;

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

/// On x86-64, numbers from here on are those of its 32-bit-pointer calls.
#[cfg(target_arch = "x86_64")]
const OTHER_CALLS: u32 = 0x4000_0000;

/// Calls that answer "not permitted".
const REFUSED: [libc::c_long; 35] = [
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_quotactl,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_fanotify_init,
    libc::SYS_vhangup,
];

/// Calls that answer "no such call": programs then do without. What clone3 asks for cannot be seen by a filter.
/// Nor what a file in memory takes that nobody has mapped.
const UNKNOWN: [libc::c_long; 5] = [
    libc::SYS_clone3,
    libc::SYS_memfd_create,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
];

/// Offsets in what a filter sees of a call.
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
/// The low half of the first argument.
const FIRST_AT: u32 = if cfg!(target_endian = "big") { 20 } else { 16 };

/// The fence, made ready before the fork.
pub(super) struct Fence {
    filter: Vec<libc::sock_filter>,
    /// Keeps abstract sockets of the host out of reach; none on a kernel that cannot.
    scope: Option<OwnedFd>,
}

impl Fence {
    pub(super) fn prepare() -> Self {
        let scope = scope();
        // Without the scope there are no local sockets at all; pairs of them remain.
        let filter = filter(scope.is_some());
        Fence { filter, scope }
    }

    /// Shuts the calling thread and all that it will start in. It has `no_new_privs` already.
    pub(super) fn shut(&self) -> io::Result<()> {
        const LANDLOCK_RESTRICT_SELF: libc::c_long = 446;
        let program = libc::sock_fprog {
            len: self.filter.len() as libc::c_ushort,
            filter: self.filter.as_ptr().cast_mut(),
        };
        // SAFETY: the descriptor is open and the program lives longer than the calls, which only read it.
        #[allow(unsafe_code)]
        unsafe {
            if let Some(scope) = &self.scope
                && libc::syscall(LANDLOCK_RESTRICT_SELF, scope.as_raw_fd(), 0) == -1
            {
                return Err(io::Error::last_os_error());
            }
            if libc::prctl(
                libc::PR_SET_SECCOMP,
                libc::SECCOMP_MODE_FILTER,
                &raw const program,
            ) == -1
            {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    }
}

/// Landlock's rule that abstract sockets from outside are not reached (Linux 6.12).
fn scope() -> Option<OwnedFd> {
    const LANDLOCK_CREATE_RULESET: libc::c_long = 444;
    /// Accesses to files, to the network, and what is kept apart: abstract sockets.
    const RULES: [u64; 3] = [0, 0, 1];
    // SAFETY: the call reads the three numbers; what it gives is a descriptor that nobody else has.
    #[allow(unsafe_code)]
    unsafe {
        let made = libc::syscall(LANDLOCK_CREATE_RULESET, RULES.as_ptr(), size_of_val(&RULES), 0);
        (made >= 0).then(|| OwnedFd::from_raw_fd(made as i32))
    }
}

const fn step(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    }
}

fn load(at: u32) -> libc::sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at, 0, 0)
}

/// Goes on with the next step if equal, else passes over `else_over` of them.
fn equal(value: u32, else_over: u8) -> libc::sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, 0, else_over)
}

fn allow() -> libc::sock_filter {
    step(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW, 0, 0)
}

fn refuse(errno: libc::c_int) -> libc::sock_filter {
    step(
        libc::BPF_RET | libc::BPF_K,
        libc::SECCOMP_RET_ERRNO | errno as u32,
        0,
        0,
    )
}

fn filter(local_sockets: bool) -> Vec<libc::sock_filter> {
    let mut filter = vec![
        load(ARCHITECTURE_AT),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, ARCHITECTURE, 1, 0),
        refuse(libc::ENOSYS),
        load(NUMBER_AT),
    ];
    #[cfg(target_arch = "x86_64")]
    filter.extend([
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, OTHER_CALLS, 0, 1),
        refuse(libc::ENOSYS),
    ]);
    for (calls, errno) in [(&REFUSED[..], libc::EPERM), (&UNKNOWN[..], libc::ENOSYS)] {
        for call in calls {
            filter.extend([equal(*call as u32, 1), refuse(errno)]);
        }
    }
    for call in [libc::SYS_clone, libc::SYS_unshare] {
        filter.extend([
            equal(call as u32, 4),
            load(FIRST_AT),
            step(
                libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K,
                libc::CLONE_NEWUSER as u32,
                0,
                1,
            ),
            refuse(libc::EPERM),
            allow(),
        ]);
    }
    // Sockets to the world, and for questions about the network; none to a hypervisor or into the kernel.
    let mut families = vec![libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
    families.extend(local_sockets.then_some(libc::AF_UNIX));
    filter.extend([
        equal(libc::SYS_socket as u32, families.len() as u8 * 2 + 2),
        load(FIRST_AT),
    ]);
    for family in families {
        filter.extend([equal(family as u32, 1), allow()]);
    }
    filter.extend([refuse(libc::EAFNOSUPPORT), allow()]);
    filter
}

/// Pages of System V shared memory for one step, in its own ipc namespace: 256 MiB where a page is 4 KiB.
pub(super) const SHARED_PAGES_MAX: &std::ffi::CStr = c"65536";

/// The bound on tasks as a namespace's kernel takes it; none before Linux 6.14, where it was the whole host's.
pub(super) fn tasks_setting() -> Option<CString> {
    let release = rustix::system::uname();
    let release = release.release().to_str().ok()?;
    let mut numbers = release.split(|symbol: char| !symbol.is_ascii_digit());
    let version: (u32, u32) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    (version >= (6, 14)).then(|| CString::new(TASKS_MAX.to_string()).expect("digits"))
}

/// What a step takes of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) tasks: u64,
    pub(super) memory_bytes: u64,
}

impl Taken {
    /// By all that runs under `warden`, as the step's own /proc shows it; none before there is one.
    pub(super) fn under(warden: u32) -> Option<Self> {
        let children = fs::read_to_string(format!("/proc/{warden}/task/{warden}/children")).ok()?;
        let first = children.split_whitespace().next()?;
        let inside = format!("/proc/{first}/root/proc");
        // Before it has its own root, this is the host's.
        if fs::metadata(&inside).ok()?.dev() == fs::metadata("/proc").ok()?.dev() {
            return None;
        }
        let mut taken = Self::default();
        for process in fs::read_dir(&inside).ok()?.flatten() {
            if !process
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
            {
                continue;
            }
            // It may have ended meanwhile.
            let status = fs::read_to_string(process.path().join("status")).unwrap_or_default();
            let number = |name: &str| -> Option<u64> {
                let line = status.lines().find_map(|line| line.strip_prefix(name))?;
                line.split_whitespace().next()?.parse().ok()
            };
            taken.tasks += number("Threads:").unwrap_or(1);
            let kib = number("RssAnon:").unwrap_or(0) + number("RssShmem:").unwrap_or(0);
            taken.memory_bytes += kib * 1024;
        }
        Some(taken)
    }
}

/// Most bytes of memory for one step on this host.
pub(super) fn memory_bytes_max() -> u64 {
    let info = rustix::system::sysinfo();
    let total = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    (total / MEMORY_SHARE).max(MEMORY_BYTES_MIN)
}
