//! What was asked and how it was answered. Counts only grow.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A reading of all counts.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Counters { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Debug, Default)]
        pub(crate) struct Counts { $(pub(crate) $name: AtomicU64,)* }

        impl Counts {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl Counters {
            /// Name and value of each count, for a metrics page.
            pub fn each(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

counters! {
    /// Messages that arrived.
    queries,
    /// Answered with records.
    answered,
    /// Names that exist but have nothing of the asked type now.
    no_data,
    /// Names of our zones that do not exist.
    no_such_name,
    /// Refused: not our zone and not our client, or a kind of question that we do not answer.
    refused,
    /// Messages that are no query; answered with an error or passed over.
    malformed,
    /// Answers that were too large for UDP.
    truncated,
    /// Passed on and answered.
    forwarded,
    /// Passed on in vain.
    forward_failed,
    /// Not passed on because too many were under way.
    forward_busy,
    /// TCP connections turned away because there were too many.
    connections_refused,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
