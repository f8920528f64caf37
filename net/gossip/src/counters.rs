//! What was carried, dropped and refused, by reason. Counts only grow.

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
    /// Frames handed to the transport.
    frames_sent,
    /// Bytes of those frames.
    frame_bytes_sent,
    /// Frames that arrived.
    frames_received,
    /// Bytes of those frames.
    frame_bytes_received,
    /// Frames not sent because the peer is not up.
    frames_dropped_no_peer,
    /// Frames not sent because the peer's queue was full.
    frames_dropped_queue_full,
    /// Frames not sent because they were over the bound.
    frames_dropped_oversize,
    /// Peers dropped because they sent an oversize frame.
    peers_dropped_oversize,
    /// Peers dropped because they read too slowly.
    peers_dropped_slow,
    /// Peers dropped because they came and went too quickly, or opened what they may not.
    peers_dropped_unruly,
    /// Connections closed because the other end is of another network.
    peers_dropped_foreign,
    /// Requests answered by us.
    requests_served,
    /// Requests closed because too many were under way.
    requests_refused_busy,
    /// Requests closed because they were malformed, over the bound or too slow.
    requests_refused_malformed,
    /// Requests sent by us.
    requests_asked,
    /// Requests sent by us that failed.
    requests_failed,
    /// Dials that were tried.
    dials,
    /// Dials that failed.
    dials_failed,
    /// Incoming connections that failed or were turned away.
    incoming_failed,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(crate) fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
