//! What a run is like: drawn from its seed, so that each seed is another kind of bad day.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// The options of a run. Times are in milliseconds of simulated time; chances in a thousand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// The seed that everything else of the run is drawn from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How long people ask for things and faults happen.
    pub busy_ms: u64,
    /// How long the healed network may take to settle afterwards.
    pub settle_ms: u64,
    /// Commands in all.
    pub commands: u32,
    /// Least delay of a frame.
    pub delay_min_ms: u64,
    /// Greatest delay of a frame. Frames of different delays overtake each other.
    pub delay_max_ms: u64,
    /// Frames lost.
    pub loss_permille: u32,
    /// Partitions of the nodes into two sides.
    pub partitions: u32,
    /// Crashes of a node's process; its machines go on.
    pub crashes: u32,
    /// Losses of a whole host, machines and all; it comes back with its disk.
    pub host_losses: u32,
    /// Of the crashes, those in the middle of performing outputs, before or after the write.
    pub crash_at_write_permille: u32,
    /// How far each clock may be off.
    pub skew_max_ms: u64,
    /// Builds and boots that fail.
    pub failures_permille: u32,
    /// Check signatures for real. Without it the run is many times faster.
    pub real_signatures: bool,
}

impl Options {
    /// The options of a seed, for a number of nodes.
    pub fn draw(seed: u64, nodes: usize) -> Self {
        let mut chance = Chance::new(seed ^ 0x6f70_7469_6f6e_7321);
        let calm = chance.permille(150);
        let mut at_most = |most: u64| if calm { 0 } else { chance.between(0, most) };
        let (loss, partitions, crashes, host_losses) =
            (at_most(200) as u32, at_most(4) as u32, at_most(6) as u32, at_most(2) as u32);
        let (skew_max_ms, failures_permille) = (at_most(800), at_most(100) as u32);
        Self {
            seed,
            nodes,
            busy_ms: chance.between(30_000, 120_000),
            settle_ms: 180_000,
            commands: chance.between(10, 60) as u32,
            delay_min_ms: chance.between(0, 20),
            delay_max_ms: chance.between(20, 400),
            loss_permille: loss,
            partitions,
            crashes,
            host_losses,
            crash_at_write_permille: 500,
            skew_max_ms,
            failures_permille,
            real_signatures: false,
        }
    }
}
