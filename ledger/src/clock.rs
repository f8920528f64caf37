//! The hybrid logical clock: wall time that never runs backwards and never stands still.
//!
//! Source: Kulkarni et al., "Logical Physical Clocks and Consistent Snapshots in Globally Distributed
//! Databases" (2014). A reading is one `u64`: 48 bits of milliseconds since 1970, 16 bits of counter.
//! The wall clock comes in as an argument.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An op that claims to be further ahead of us than this is held back and does not move our clock.
pub const AHEAD_MS_MAX: u64 = 2_000;

const COUNTER_BITS: u32 = 16;
const MS_MAX: u64 = (1 << 48) - 1;

/// A reading of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The reading at the start of a millisecond.
    pub fn at_ms(ms: u64) -> Self {
        Self(ms.min(MS_MAX) << COUNTER_BITS)
    }

    /// Milliseconds since 1970.
    pub fn ms(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// How many readings of the same millisecond came before.
    pub fn counter(self) -> u16 {
        self.0 as u16
    }

    /// Whether it lies too far ahead of a wall clock that shows `now_ms`.
    pub fn is_ahead_of(self, now_ms: u64) -> bool {
        self.ms() > now_ms.saturating_add(AHEAD_MS_MAX)
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.ms(), self.counter())
    }
}

/// A clock: the greatest reading given or seen.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Hlc,
}

impl Clock {
    /// A reading greater than all before it.
    pub fn tick(&mut self, now_ms: u64) -> Hlc {
        let next = Hlc(self.last.0.saturating_add(1));
        self.last = next.max(Hlc::at_ms(now_ms));
        self.last
    }

    /// Takes note of another's reading, so that the next one here is greater. The caller has made sure
    /// that it does not lie ahead (see [`Hlc::is_ahead_of`]).
    pub fn observe(&mut self, seen: Hlc) {
        self.last = self.last.max(seen);
    }

    /// The greatest reading given or seen.
    pub fn last(&self) -> Hlc {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn readings_only_grow(steps in proptest::collection::vec((0u64..1 << 47, any::<bool>()), 1..50)) {
            let mut clock = Clock::default();
            let mut last = Hlc::default();
            for (ms, observe) in steps {
                if observe {
                    clock.observe(Hlc::at_ms(ms));
                }
                let next = clock.tick(ms);
                prop_assert!(next > last);
                prop_assert!(next.ms() >= ms);
                last = next;
            }
        }
    }
}
