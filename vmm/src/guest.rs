//! The protocol between a machine's process on the host and init in the guest. Pure: types and their
//! bounds; the bytes travel as frames of [`crate::frame`] over one byte stream (virtio-serial or vsock).
//!
//! ```text
//! guest                                  host
//!   │ Hello{version} ─────────────────────▶ │
//!   │ ◀──────────────────────── Configure{} │   clock, host name, addresses, workload
//!   │ Started ────────────────────────────▶ │   the entrypoint runs
//!   │ Log, Serving, Exited ───────────────▶ │   as they happen
//!   │ ◀──────────── Clock{} now and then    │
//!   │ ◀──────────────────── Stop{grace_ms}  │   at most once
//!   │ Ended{how} ─────────────────────────▶ │   disks are clean
//!   │ ◀─────────────────────────── PowerOff │
//! ```
//! Neither side trusts the other: a host must bear any frame of a guest that was broken into, and init must
//! not fall over an odd frame, since a kernel without PID 1 panics.

use serde::{Deserialize, Serialize};

use crate::spec::{Nic, Workload};

/// Version of this protocol. Init and host come from one build as a rule; a machine that outlived an
/// upgrade of the daemon keeps its own process, so both ends of this channel always start together.
pub const PROTOCOL: u16 = 1;

/// Name of the guest's end of the channel (a virtio-serial port).
pub const PORT_NAME: &str = "form.init";

/// Serial number of the disk that holds the read-only image.
pub const IMAGE_SERIAL: &str = "form-image";

/// Serial number of the disk that holds the machine's own, writable part.
pub const DISK_SERIAL: &str = "form-disk";

/// The most bytes of output that one `Log` carries.
pub const LOG_BYTES_MAX: usize = 16 * 1024;

/// The longest text (reason of a failure) that is kept of a guest's words, in bytes.
pub const REASON_BYTES_MAX: usize = 1024;

/// What the host tells init.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToGuest {
    /// The answer to `Hello`.
    Configure(Box<GuestConfig>),
    /// What time it is, so that a guest whose timer drifts is set right.
    Clock {
        /// Microseconds since 1970 in UTC.
        unix_us: u64,
    },
    /// End the workload (SIGTERM, then SIGKILL after the grace), then the guest.
    Stop {
        /// How long the workload may take.
        grace_ms: u64,
    },
    /// The answer to `Ended`: nothing more is awaited, cut the power.
    PowerOff,
}

/// All that init needs to bring a guest up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestConfig {
    /// Version that the host speaks.
    pub protocol: u16,
    /// Microseconds since 1970 in UTC.
    pub unix_us: u64,
    /// Host name of the guest.
    pub hostname: String,
    /// Addresses and routes of its network card.
    pub nic: Nic,
    /// What to run.
    pub workload: Workload,
}

/// What init tells the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToHost {
    /// The first frame: init is up and asks for its configuration.
    Hello {
        /// Version that init speaks.
        protocol: u16,
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// The entrypoint was started (again).
    Started {
        /// How often it was started, from 1.
        attempt: u32,
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// Output of the workload, or a line of init about it.
    Log {
        /// Where it comes from.
        source: LogSource,
        /// Bytes of this source that were lost before these, because the host did not read fast enough.
        lost: u64,
        /// The bytes, at most [`LOG_BYTES_MAX`].
        bytes: Vec<u8>,
    },
    /// The health check's verdict changed.
    Serving {
        /// The new verdict.
        serving: bool,
        /// Milliseconds since the guest's kernel started.
        uptime_ms: u64,
    },
    /// The entrypoint ended and will be started again.
    Restarting {
        /// How it ended.
        exit: Exit,
        /// Pause until it is started again.
        pause_ms: u64,
    },
    /// The last frame: all processes are gone and the disks are clean.
    Ended(Ending),
}

/// Where bytes of a log come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSource {
    /// Standard output of the workload.
    Stdout,
    /// Standard error of the workload.
    Stderr,
    /// Init itself.
    Init,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It returned this status.
    Status(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// The status as a shell gives it: a signal counts as 128 and its number.
    pub fn code(self) -> i32 {
        match self {
            Exit::Status(status) => status,
            Exit::Signal(signal) => signal.saturating_add(128),
        }
    }

    /// Whether it ended as it should.
    pub fn is_success(self) -> bool {
        self == Exit::Status(0)
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "status {status}"),
            Exit::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// How a guest came to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// The host asked for it.
    Asked,
    /// The entrypoint ended with status 0.
    Finished,
    /// The entrypoint failed and no restart was left.
    Failed {
        /// How it ended the last time.
        exit: Exit,
        /// How often it was started in a row.
        attempts: u32,
    },
    /// The entrypoint could not be started at all.
    CannotStart {
        /// What went wrong.
        reason: String,
    },
    /// The guest could not be brought up.
    Broken {
        /// What went wrong.
        reason: String,
    },
}

/// A text from the other side, cut to [`REASON_BYTES_MAX`] and freed of control characters: for a person.
pub fn readable(text: &str) -> String {
    let mut out = String::new();
    for character in text.chars() {
        if out.len() + character.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        out.push(if character.is_control() { ' ' } else { character });
    }
    out
}
