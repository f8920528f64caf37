//! Decides about the workload: when the entrypoint is started, started again, and when all ends. Pure; the
//! clock is an argument.
//!
//! ```text
//!            Started          failed, restarts left
//! (begin) ─────────▶ Running ──────────────────────▶ Pausing ──pause over──▶ (start again)
//!                     │    │ status 0, or no restart left        │
//!                     │    └───────────────▶ Over ◀──────────────┤
//!                     │ Stop                  ▲                  │ Stop
//!                     └──────▶ Ending ────────┴──────────────────┘
//!                          SIGTERM, after the grace SIGKILL
//! ```

use vmm::guest::{Ending, Exit};
use vmm::spec::Restart;

/// An entrypoint that ran this long is not in a loop of failures: counting begins anew.
const SETTLED_MS: u64 = 60_000;

/// The longest pause before a restart.
const PAUSE_MS_MAX: u64 = 30_000;

/// How long a killed process may take to be gone.
const KILL_WAIT_MS: u64 = 3_000;

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Happened {
    /// The entrypoint was started as this process.
    Started {
        /// Its process.
        pid: i32,
    },
    /// The entrypoint could not be started.
    CannotStart {
        /// Why.
        reason: String,
    },
    /// A process ended: the entrypoint or any other.
    Exited {
        /// Which process.
        pid: i32,
        /// How.
        exit: Exit,
    },
    /// The host asks for the end.
    Stop {
        /// What the workload may take.
        grace_ms: u64,
    },
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Do {
    /// Start the entrypoint.
    Start {
        /// How often it was started then, from 1.
        attempt: u32,
    },
    /// Tell the host that it ended and will be started again.
    SayRestarting {
        /// How it ended.
        exit: Exit,
        /// Pause until then.
        pause_ms: u64,
    },
    /// Ask the entrypoint's processes to end.
    Terminate {
        /// Leader of their group.
        pid: i32,
    },
    /// Kill all processes but init.
    KillAll,
    /// End the guest.
    End(Ending),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Running { pid: i32, since_ms: u64 },
    Pausing { until_ms: u64 },
    Ending { pid: i32, kill_ms: u64, killed: bool },
    Over,
}

/// The state of the workload.
#[derive(Debug)]
pub(crate) struct Supervision {
    restart: Restart,
    phase: Phase,
    starts: u32,
    failures: u32,
}

impl Supervision {
    /// A workload that is about to be started, and the first thing to do.
    pub(crate) fn begin(restart: Restart) -> (Self, Do) {
        let supervision = Supervision {
            restart,
            phase: Phase::Starting,
            starts: 1,
            failures: 0,
        };
        (supervision, Do::Start { attempt: 1 })
    }

    /// How often the entrypoint was started.
    pub(crate) fn starts(&self) -> u32 {
        self.starts
    }

    /// Whether the entrypoint runs and nobody wants it gone.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// When the next `Tick` is due.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Pausing { until_ms } => Some(until_ms),
            Phase::Ending { kill_ms, .. } => Some(kill_ms),
            _ => None,
        }
    }

    /// Takes what happened.
    pub(crate) fn handle(&mut self, happened: Happened, now_ms: u64) -> Vec<Do> {
        match (self.phase, happened) {
            (Phase::Starting, Happened::Started { pid }) => {
                self.phase = Phase::Running {
                    pid,
                    since_ms: now_ms,
                };
                Vec::new()
            }
            (Phase::Starting, Happened::CannotStart { reason }) => self.over(Ending::CannotStart { reason }),
            (Phase::Running { pid, since_ms }, Happened::Exited { pid: ended, exit }) if pid == ended => {
                self.ended(exit, since_ms, now_ms)
            }
            (Phase::Running { pid, .. }, Happened::Stop { grace_ms }) => {
                self.phase = Phase::Ending {
                    pid,
                    kill_ms: now_ms.saturating_add(grace_ms),
                    killed: false,
                };
                vec![Do::Terminate { pid }]
            }
            (Phase::Starting | Phase::Pausing { .. }, Happened::Stop { .. }) => self.over(Ending::Asked),
            (Phase::Pausing { until_ms }, Happened::Tick) if until_ms <= now_ms => {
                self.phase = Phase::Starting;
                self.starts = self.starts.saturating_add(1);
                vec![Do::Start { attempt: self.starts }]
            }
            (Phase::Ending { pid, .. }, Happened::Exited { pid: ended, .. }) if pid == ended => {
                self.over(Ending::Asked)
            }
            (Phase::Ending { pid, kill_ms, killed }, Happened::Tick) if kill_ms <= now_ms => {
                if killed {
                    // It cannot be killed: the power goes anyway.
                    return self.over(Ending::Asked);
                }
                self.phase = Phase::Ending {
                    pid,
                    kill_ms: now_ms + KILL_WAIT_MS,
                    killed: true,
                };
                vec![Do::KillAll]
            }
            _ => Vec::new(),
        }
    }

    fn over(&mut self, ending: Ending) -> Vec<Do> {
        self.phase = Phase::Over;
        vec![Do::End(ending)]
    }

    fn ended(&mut self, exit: Exit, since_ms: u64, now_ms: u64) -> Vec<Do> {
        if exit.is_success() {
            return self.over(Ending::Finished);
        }
        if now_ms.saturating_sub(since_ms) >= SETTLED_MS {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        if self.failures > self.restart.attempts {
            return self.over(Ending::Failed {
                exit,
                attempts: self.failures,
            });
        }
        let doublings = (self.failures - 1).min(20);
        let pause_ms = self
            .restart
            .backoff_ms
            .saturating_mul(1 << doublings)
            .min(PAUSE_MS_MAX);
        self.phase = Phase::Pausing {
            until_ms: now_ms + pause_ms,
        };
        vec![Do::SayRestarting { exit, pause_ms }]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn running(attempts: u32, backoff_ms: u64) -> Supervision {
        let (mut supervision, first) = Supervision::begin(Restart { attempts, backoff_ms });
        assert_eq!(first, Do::Start { attempt: 1 });
        assert!(supervision.handle(Happened::Started { pid: 10 }, 0).is_empty());
        supervision
    }

    fn fails(supervision: &mut Supervision, at_ms: u64) -> Vec<Do> {
        supervision.handle(
            Happened::Exited {
                pid: 10,
                exit: Exit::Status(3),
            },
            at_ms,
        )
    }

    #[test]
    fn a_failing_entrypoint_is_started_again_with_growing_pauses_until_none_is_left() {
        let mut it = running(2, 100);
        assert_eq!(
            fails(&mut it, 5),
            [Do::SayRestarting {
                exit: Exit::Status(3),
                pause_ms: 100
            }]
        );
        assert!(it.handle(Happened::Tick, 104).is_empty());
        assert_eq!(it.handle(Happened::Tick, 105), [Do::Start { attempt: 2 }]);
        it.handle(Happened::Started { pid: 10 }, 105);
        assert_eq!(
            fails(&mut it, 110),
            [Do::SayRestarting {
                exit: Exit::Status(3),
                pause_ms: 200
            }]
        );
        it.handle(Happened::Tick, 310);
        it.handle(Happened::Started { pid: 10 }, 310);
        assert_eq!(
            fails(&mut it, 320),
            [Do::End(Ending::Failed {
                exit: Exit::Status(3),
                attempts: 3
            })]
        );
    }

    #[test]
    fn a_minute_without_failure_forgives_the_earlier_ones() {
        let mut it = running(1, 100);
        fails(&mut it, 5);
        it.handle(Happened::Tick, 105);
        it.handle(Happened::Started { pid: 10 }, 105);
        assert_eq!(
            fails(&mut it, 105 + SETTLED_MS),
            [Do::SayRestarting {
                exit: Exit::Status(3),
                pause_ms: 100
            }]
        );
    }

    #[test]
    fn status_zero_is_a_good_end() {
        let mut it = running(5, 100);
        let exited = Happened::Exited {
            pid: 10,
            exit: Exit::Status(0),
        };
        assert_eq!(it.handle(exited, 5), [Do::End(Ending::Finished)]);
    }

    #[test]
    fn a_stop_asks_first_and_kills_after_the_grace() {
        let mut it = running(5, 100);
        assert_eq!(
            it.handle(Happened::Stop { grace_ms: 50 }, 10),
            [Do::Terminate { pid: 10 }]
        );
        assert!(it.handle(Happened::Stop { grace_ms: 0 }, 11).is_empty());
        assert!(
            it.handle(
                Happened::Exited {
                    pid: 99,
                    exit: Exit::Status(0)
                },
                12
            )
            .is_empty()
        );
        assert_eq!(it.handle(Happened::Tick, 60), [Do::KillAll]);
        let killed = Happened::Exited {
            pid: 10,
            exit: Exit::Signal(9),
        };
        assert_eq!(it.handle(killed, 61), [Do::End(Ending::Asked)]);
    }

    #[test]
    fn a_stop_between_two_starts_ends_at_once() {
        let mut it = running(5, 100);
        fails(&mut it, 5);
        assert_eq!(
            it.handle(Happened::Stop { grace_ms: 50 }, 10),
            [Do::End(Ending::Asked)]
        );
    }

    proptest! {
        #[test]
        fn there_is_one_end_and_nothing_after_it(
            attempts in 0u32..4,
            backoff_ms in any::<u64>(),
            steps in proptest::collection::vec((0u8..6, 0u64..50_000), 0..60),
        ) {
            let (mut it, _) = Supervision::begin(Restart { attempts, backoff_ms });
            let (mut ms, mut ends) = (0u64, 0);
            for (kind, passed) in steps {
                ms += passed;
                let acts = it.handle(match kind {
                    0 => Happened::Started { pid: 10 },
                    1 => Happened::Exited { pid: 10, exit: Exit::Status(1) },
                    2 => Happened::Exited { pid: 11, exit: Exit::Status(0) },
                    3 => Happened::Stop { grace_ms: passed },
                    4 => Happened::CannotStart { reason: String::new() },
                    _ => Happened::Tick,
                }, ms);
                prop_assert!(ends == 0 || acts.is_empty());
                ends += acts.iter().filter(|act| matches!(act, Do::End(_))).count();
                prop_assert!(ends <= 1);
            }
        }
    }
}
