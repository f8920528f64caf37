//! What a run is like: drawn from its seed, so that each seed is another kind of bad day. Printed as JSON,
//! and read back from it: a run can be repeated with one thing changed.

use serde::{Deserialize, Serialize};

use crate::chance::Chance;

/// Nodes of a run, at most.
pub const NODES_MAX: usize = 64;

/// Milliseconds of a phase of a run, at most: a day.
pub const PHASE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Commands and faults of a kind, at most.
pub const COUNT_MAX: u32 = 100_000;

/// The options of a run. Times are in milliseconds of simulated time; chances in a thousand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The seed that everything else of the run is drawn from.
    pub seed: u64,
    /// How many nodes.
    pub nodes: usize,
    /// How many of them, from the first on, certify checkpoints; with none all stays tentative.
    #[serde(default)]
    pub witnesses: usize,
    /// How long people ask for things and faults happen.
    pub busy_ms: u64,
    /// How long the healed network may take to settle afterwards.
    pub settle_ms: u64,
    /// How long the settled network is watched: it must stay as it is, and become quiet.
    pub calm_ms: u64,
    /// Commands in all.
    pub commands: u32,
    /// Least delay of a frame.
    pub delay_min_ms: u64,
    /// Greatest delay of a frame. Frames of different delays overtake each other.
    pub delay_max_ms: u64,
    /// Frames lost.
    pub loss_permille: u32,
    /// Frames that arrive twice.
    pub repeat_permille: u32,
    /// Partitions of the nodes into two sides.
    pub partitions: u32,
    /// Crashes of a node's process; its machines go on.
    pub crashes: u32,
    /// Losses of a whole host's power, machines and all; it comes back with its disk.
    pub host_losses: u32,
    /// Of the crashes, those in the middle of performing outputs: before, at or after the write.
    pub crash_at_write_permille: u32,
    /// The last node goes down when the faults end, and does not come back.
    pub lost_for_good: bool,
    /// How far each clock may be off.
    pub skew_max_ms: u64,
    /// Actions of the hands that fail.
    pub failures_permille: u32,
    /// Machines that end by themselves, or are unwell for a while.
    pub exits_permille: u32,
    /// Processors that a node offers: with few of them there is not room for all.
    pub vcpus: u32,
    /// Nodes but the first lack some of the roles.
    pub mixed_roles: bool,
    /// Check signatures for real. Without it the run is faster.
    pub real_signatures: bool,
}

/// Why options are not those of a run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the option `{name}` is {value}: it must be {expected}")]
pub struct OptionsError {
    name: &'static str,
    value: u64,
    expected: String,
}

impl Options {
    /// The options of a seed, for a number of nodes.
    pub fn draw(seed: u64, nodes: usize) -> Self {
        let mut chance = Chance::new(seed ^ 0x6f70_7469_6f6e_7321);
        let calm = chance.permille(150);
        let mut at_most = |most: u64| if calm { 0 } else { chance.between(0, most) };
        let mut count = |most: u64| at_most(most) as u32;
        let (loss_permille, repeat_permille) = (count(200), count(50));
        let (partitions, crashes, host_losses) = (count(4), count(6), count(2));
        let (skew, failures_permille, exits_permille) = (count(800), count(100), count(300));
        Self {
            seed,
            nodes,
            witnesses: match chance.between(0, 9) {
                0 => 0,
                1..=3 => 1,
                _ => nodes.min(7),
            },
            busy_ms: chance.between(30_000, 120_000),
            settle_ms: 180_000,
            calm_ms: 40_000,
            commands: chance.between(10, 60) as u32,
            delay_min_ms: chance.between(0, 20),
            delay_max_ms: chance.between(20, 400),
            loss_permille,
            repeat_permille,
            partitions,
            crashes,
            host_losses,
            crash_at_write_permille: 500,
            lost_for_good: !calm && nodes >= 3 && chance.permille(250),
            skew_max_ms: skew.into(),
            failures_permille,
            exits_permille,
            vcpus: chance.between(2, 16) as u32,
            mixed_roles: chance.permille(300),
            real_signatures: false,
        }
    }

    /// No fault of any kind: what is left is delay.
    pub fn without_faults(self) -> Self {
        Self {
            loss_permille: 0,
            repeat_permille: 0,
            partitions: 0,
            crashes: 0,
            host_losses: 0,
            lost_for_good: false,
            skew_max_ms: 0,
            failures_permille: 0,
            exits_permille: 0,
            ..self
        }
    }

    /// Whether a run can be made of them: options that a person wrote may say anything.
    pub fn check(&self) -> Result<(), OptionsError> {
        let phase = PHASE_MS_MAX;
        let count = u64::from(COUNT_MAX);
        let bounds = [
            ("nodes", self.nodes as u64, 1, NODES_MAX as u64),
            ("witnesses", self.witnesses as u64, 0, self.nodes as u64),
            ("busy_ms", self.busy_ms, 5_000, phase),
            ("settle_ms", self.settle_ms, 1, phase),
            ("calm_ms", self.calm_ms, 0, phase),
            ("commands", self.commands.into(), 0, count),
            ("delay_max_ms", self.delay_max_ms, self.delay_min_ms, 60_000),
            ("loss_permille", self.loss_permille.into(), 0, 1000),
            ("repeat_permille", self.repeat_permille.into(), 0, 1000),
            ("partitions", self.partitions.into(), 0, count),
            ("crashes", self.crashes.into(), 0, count),
            ("host_losses", self.host_losses.into(), 0, count),
            (
                "crash_at_write_permille",
                self.crash_at_write_permille.into(),
                0,
                1000,
            ),
            ("skew_max_ms", self.skew_max_ms, 0, 1_000),
            ("failures_permille", self.failures_permille.into(), 0, 1000),
            ("exits_permille", self.exits_permille.into(), 0, 1000),
            ("vcpus", self.vcpus.into(), 0, 4096),
        ];
        for (name, value, least, most) in bounds {
            if value < least || value > most {
                let expected = format!("from {least} to {most}");
                return Err(OptionsError {
                    name,
                    value,
                    expected,
                });
            }
        }
        if self.lost_for_good && self.nodes < 2 {
            let expected = "false where there is one node".to_owned();
            return Err(OptionsError {
                name: "lost_for_good",
                value: 1,
                expected,
            });
        }
        Ok(())
    }
}
