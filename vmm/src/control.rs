//! The protocol between the daemon and `form-machine`, over the control socket in the machine's folder.
//! Pure: types only; the bytes are frames of [`crate::frame`].
//!
//! ```text
//! daemon                            form-machine
//!   │ Open{version} ──────────────────▶ │
//!   │ ◀── Opened{version, id, generation, pid}
//!   │ ◀────────────────── State{..}     │   at once, then on each change (the latest, not every one)
//!   │ Stop{grace_ms} or Kill ─────────▶ │
//! ```
//! A daemon newer than the machine must be able to speak with it: a version is only ever added to.

use serde::{Deserialize, Serialize};

use crate::machine::MachineState;
use crate::spec::MachineId;

/// Version of this protocol.
pub const PROTOCOL: u16 = 1;

/// Name of the control socket in a machine's folder.
pub const SOCKET: &str = "control";

/// What the daemon asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// The first frame.
    Open {
        /// Version that the daemon speaks.
        protocol: u16,
    },
    /// End the workload and the guest in good order.
    Stop {
        /// How long the workload may take.
        grace_ms: u64,
    },
    /// Cut the power.
    Kill,
}

/// What `form-machine` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The answer to `Open`.
    Opened {
        /// Version that the machine speaks.
        protocol: u16,
        /// Which machine this is.
        id: MachineId,
        /// Generation that it was started for.
        generation: u64,
        /// Its process.
        pid: u32,
    },
    /// Where the machine stands now.
    State(MachineState),
}
