//! A network in which nobody asks for anything becomes quiet: what is level-triggered comes to rest. Nothing
//! is told again and again, and no machine is started over and over.

use super::{Holds, Violation};

/// What has happened so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Ops in the log.
    pub ops: usize,
    /// Starts of machines on all hosts.
    pub starts: u64,
}

/// Between two moments of a settled network, nothing happened.
pub fn nothing_new(before: Activity, after: Activity, during_ms: u64) -> Holds {
    if before == after {
        return Ok(());
    }
    let (ops, starts) = (after.ops - before.ops, after.starts - before.starts);
    Err(Violation {
        claim: "quiet",
        seen: format!("in {during_ms} ms of a settled network there were {ops} new ops and {starts} starts"),
    })
}
