//! Where an entry belongs: its position, 256 bits that are the hash of its table and key; and the places of
//! a tree, the prefixes of positions.

use ledger::id::hash;
use serde::{Deserialize, Serialize};

const CONTEXT: &str = "formation 2026 state position v1";

/// Bits of a position.
pub(super) const POSITION_BITS: usize = 256;

/// The hash of a table and a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position([u8; 32]);

impl Position {
    pub(super) fn of(table: u8, key: &[u8]) -> Self {
        Self(hash(CONTEXT, &[&[table], key]))
    }

    /// Which way it goes at a fork that `depth` < 256 forks are above.
    pub(super) fn bit(&self, depth: usize) -> usize {
        bit(&self.0, depth)
    }
}

fn bit(bytes: &[u8; 32], depth: usize) -> usize {
    usize::from(bytes[depth / 8] >> (7 - depth % 8) & 1)
}

/// A prefix of positions: all that is below one vertex of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    bits: u16,
    prefix: [u8; 32],
}

impl Place {
    /// The whole tree.
    pub const ROOT: Self = Self {
        bits: 0,
        prefix: [0; 32],
    };

    /// Bits of the prefix: forks above it. One that was sent may claim more than there can be.
    pub fn bits(&self) -> usize {
        usize::from(self.bits)
    }

    /// The way that leads to it, fork by fork; none if there can be no such place.
    pub(super) fn way(&self) -> Option<impl Iterator<Item = usize>> {
        let prefix = self.prefix;
        (self.bits() <= POSITION_BITS).then(|| (0..self.bits()).map(move |depth| bit(&prefix, depth)))
    }

    /// One fork further down. Only for places above the last bit.
    pub(super) fn below(mut self, side: usize) -> Self {
        let depth = self.bits();
        self.prefix[depth / 8] |= (side as u8) << (7 - depth % 8);
        self.bits += 1;
        self
    }

    /// Whether an entry of this position is below it.
    pub(super) fn holds(&self, position: &Position) -> bool {
        let (whole, rest) = (self.bits() / 8, self.bits() % 8);
        self.prefix[..whole] == position.0[..whole]
            && (rest == 0 || (self.prefix[whole] ^ position.0[whole]) >> (8 - rest) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_holds_the_positions_that_go_its_way() {
        let position = Position::of(1, b"key");
        let mut place = Place::ROOT;
        for depth in 0..POSITION_BITS {
            assert!(place.holds(&position));
            assert!(!place.below(1 - position.bit(depth)).holds(&position));
            place = place.below(position.bit(depth));
        }
        assert!(place.holds(&position));
        let beyond = Place { bits: 257, ..place };
        assert!(beyond.way().is_none());
    }
}
