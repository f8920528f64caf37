//! Chance that repeats: a stream of pseudo-random numbers from one seed.
//!
//! BLAKE3 of the seed and a counter. A node's seed is random and secret, so nobody can aim at what is drawn
//! from it (the peer to compare with, the blinding of a batch of signatures); the simulator's is not, so a
//! run repeats.

use crate::id::hash;

/// The stream.
#[derive(Clone, Debug)]
pub(crate) struct Chance {
    seed: [u8; 32],
    drawn: u64,
}

impl Chance {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    /// 32 bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.drawn += 1;
        hash(
            "formation 2026 chance v1",
            &[&self.seed, &self.drawn.to_le_bytes()],
        )
    }

    /// A number below `bound`; 0 when there is none.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes();
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
            .checked_rem(bound)
            .unwrap_or(0)
    }
}
