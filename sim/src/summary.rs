//! What a run came to, for people.

use std::collections::BTreeMap;
use std::fmt;

use crate::checks::Violation;

/// What a run came to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The first violated claim, if any.
    pub violation: Option<Violation>,
    /// Hash of the whole trace.
    pub trace: String,
    /// Events in it.
    pub events: u64,
    /// Simulated milliseconds in all.
    pub simulated_ms: u64,
    /// Simulated milliseconds until the network had settled after the faults; none if it did not.
    pub settled_ms: Option<u64>,
    /// Commands asked for.
    pub asked: u32,
    /// Those that a node acknowledged.
    pub acknowledged: usize,
    /// Ops in the log.
    pub ops: usize,
    /// Outcomes that a late op turned, on all nodes.
    pub turned: usize,
    /// Instances in the last view.
    pub instances: usize,
    /// Machines that run at the end.
    pub machines: usize,
    /// Starts of machines.
    pub starts: u64,
    /// Looks at which some instance ran on two hosts at once: what a network that is cut in two may do.
    pub twice: u64,
    /// Frames sent.
    pub sent: u64,
    /// Those lost by chance.
    pub lost: u64,
    /// Faults that happened, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Hash of the last view.
    pub state: String,
    /// The lines of the trace, if they were kept.
    pub lines: Vec<String>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let faults: Vec<String> = self
            .faults
            .iter()
            .map(|(kind, count)| format!("{count} {kind}"))
            .collect();
        let faults = if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(", ")
        };
        let settled = self.settled_ms.map_or_else(
            || "not within its time".to_owned(),
            |ms| format!("{:.1} s after the faults ended", seconds(ms)),
        );
        let twice = if self.twice > 0 {
            format!("; at {} looks one ran twice", self.twice)
        } else {
            String::new()
        };
        writeln!(
            f,
            "simulated   {:.1} s, {} events",
            seconds(self.simulated_ms),
            self.events
        )?;
        writeln!(
            f,
            "commands    {} asked, {} acknowledged",
            self.asked, self.acknowledged
        )?;
        writeln!(f, "log         {} ops, {} outcomes turned", self.ops, self.turned)?;
        writeln!(
            f,
            "machines    {} run of {} instances, {} starts{twice}",
            self.machines, self.instances, self.starts
        )?;
        writeln!(f, "frames      {} sent, {} lost", self.sent, self.lost)?;
        writeln!(f, "faults      {faults}")?;
        writeln!(f, "settled     {settled}")?;
        writeln!(f, "state       {}", self.state)?;
        writeln!(f, "trace       {}", self.trace)?;
        match &self.violation {
            None => write!(f, "every claim held"),
            Some(violation) => write!(f, "VIOLATED    {}: {}", violation.claim, violation.seen),
        }
    }
}
