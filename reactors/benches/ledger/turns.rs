//! How long something takes: by the clock, or only while this thread has a core.

use std::time::{Duration, Instant};

/// Turns; the median counts.
pub(crate) const TURNS: usize = 3;

/// The median of several turns.
pub(crate) fn median(mut turns: Vec<Duration>) -> f64 {
    turns.sort_unstable();
    turns[turns.len() / 2].as_secs_f64()
}

pub(crate) fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let begin = Instant::now();
    std::hint::black_box(work());
    begin.elapsed()
}

/// Time that this thread had a core, where the kernel tells; other work on the machine does not count.
pub(crate) fn timed_on_core<T>(work: impl FnOnce() -> T) -> Duration {
    let on_core = || {
        let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(told.split(' ').next()?.parse().ok()?))
    };
    let (begin, took) = (on_core(), timed(work));
    match (begin, on_core()) {
        (Some(begin), Some(end)) => end.saturating_sub(begin),
        _ => took,
    }
}

pub(crate) fn folder() -> tempfile::TempDir {
    // Beside the build, so on a real disk: a temporary folder may be in memory.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder for the store")
}
