//! The twin of the transport: frames between connected nodes take their time, overtake each other, get
//! lost, come twice; a partition cuts the connections across it.

use std::collections::BTreeSet;

use crate::chance::Chance;
use crate::options::Options;

/// Who can reach whom, and what befalls a frame.
#[derive(Debug)]
pub struct Network {
    chance: Chance,
    delay_min_ms: u64,
    delay_max_ms: u64,
    loss_permille: u32,
    repeat_permille: u32,
    cut: BTreeSet<usize>,
    /// Frames handed to it.
    pub sent: u64,
    /// Frames lost by chance.
    pub lost: u64,
}

impl Network {
    /// A network of the run's kind.
    pub fn new(options: &Options, chance: Chance) -> Self {
        Self {
            chance,
            delay_min_ms: options.delay_min_ms,
            delay_max_ms: options.delay_max_ms,
            loss_permille: options.loss_permille,
            repeat_permille: options.repeat_permille,
            cut: BTreeSet::new(),
            sent: 0,
            lost: 0,
        }
    }

    /// Cuts these nodes off from the others; of nobody, ends the partition.
    pub fn partition(&mut self, side: BTreeSet<usize>) {
        self.cut = side;
    }

    /// Ends partition, loss and repetition for good: what is left is delay.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.loss_permille = 0;
        self.repeat_permille = 0;
    }

    /// Whether no partition lies between two nodes.
    pub fn joins(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&a) == self.cut.contains(&b)
    }

    /// How long a frame takes, each time that it arrives.
    pub fn send(&mut self) -> Vec<u64> {
        self.sent += 1;
        if self.chance.permille(self.loss_permille) {
            self.lost += 1;
            return Vec::new();
        }
        let copies = if self.chance.permille(self.repeat_permille) {
            2
        } else {
            1
        };
        (0..copies)
            .map(|_| self.chance.between(self.delay_min_ms, self.delay_max_ms))
            .collect()
    }
}
