//! The states of a machine.
//!
//! ```text
//!            start                booted            entrypoint serves
//!  (nothing) ─────▶ Starting ───────────▶ Running{serving:false} ◀──▶ Running{serving:true}
//!                      │                      │  │
//!                      │ cannot boot     stop │  │ guest died, entrypoint used up its restarts
//!                      ▼                      ▼  ▼
//!                   Failed ◀──────────── Stopping ─▶ Stopped
//! ```

use serde::{Deserialize, Serialize};

use crate::spec::MachineId;

/// Where a machine stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineState {
    /// Its process is being made, or its guest boots.
    Starting,
    /// The guest is up and its entrypoint was started.
    Running {
        /// The health check holds.
        serving: bool,
    },
    /// It was asked to stop and has not ended yet.
    Stopping,
    /// It ended because it was asked to, or its entrypoint ended with status 0.
    Stopped,
    /// It could not be started, or ended by itself in failure.
    Failed {
        /// What went wrong, for a person.
        reason: String,
        /// Exit status of the entrypoint, where that is what failed.
        exit_code: Option<i32>,
    },
}

impl MachineState {
    /// Whether a process of this machine may still be alive.
    pub fn is_alive(&self) -> bool {
        matches!(
            self,
            MachineState::Starting | MachineState::Running { .. } | MachineState::Stopping
        )
    }
}

/// A machine as its host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineStatus {
    /// Which machine.
    pub id: MachineId,
    /// Generation that it was last started for.
    pub generation: u64,
    /// Where it stands.
    pub state: MachineState,
}
