//! When to dial a kept peer again: exponential backoff with jitter. Pure; chance comes as an argument.

use std::time::Duration;

/// Wait after the first failure.
pub const FIRST_MS: u64 = 250;
/// Longest wait.
pub const LONGEST_MS: u64 = 30_000;

/// How long to wait after `failures` failures in a row (0: the peer was up a good while and left).
/// `chance` is any random number; the wait lies between a half and one and a half of the nominal one, so
/// that nodes that lost the same peer do not come back together.
pub fn backoff(failures: u32, chance: u32) -> Duration {
    let nominal = FIRST_MS.saturating_mul(1 << failures.min(16)).min(LONGEST_MS);
    let jittered = nominal / 2 + (u128::from(nominal) * u128::from(chance) / u128::from(u32::MAX)) as u64;
    Duration::from_millis(jittered)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_wait_is_never_longer_than_one_and_a_half_of_the_longest(failures: u32, chance: u32) {
            let wait = backoff(failures, chance);
            prop_assert!(wait >= Duration::from_millis(FIRST_MS / 2));
            prop_assert!(wait <= Duration::from_millis(LONGEST_MS * 3 / 2));
        }

        #[test]
        fn more_failures_never_shorten_the_wait(failures in 0u32..40, chance: u32) {
            prop_assert!(backoff(failures, chance) <= backoff(failures + 1, chance));
        }
    }
}
