//! What becomes of a machine: takes what happens, answers what to do. Pure; the clock is an argument.
//!
//! ```text
//!   Hello         Started                      Ended          monitor gone
//! boot ──▶ set up ───────▶ Running ──┬──────────────▶ power off ──────────▶ Stopped or Failed
//!   │ BOOT_LIMIT_MS  │               └─ Stop ─▶ Stopping ─▶ ▲        ▲
//!   └────────────────┴── too late ───── STOP_MARGIN_MS ── cut ───────┘
//! ```
//! The guest may be broken into: whatever it says in whatever order, it can only end its own machine.

use vmm::guest::{Ending, GuestConfig, LogSource, PROTOCOL, ToGuest, ToHost, readable};
use vmm::machine::MachineState;
use vmm::order::Timeline;
use vmm::spec::MachineSpec;

/// What a guest may take from the monitor's start to its entrypoint's. Generous: an emulated guest on a busy
/// host boots slowly, but it boots.
pub(crate) const BOOT_LIMIT_MS: u64 = 180_000;

/// What a guest may take beyond the grace of its workload to write its disks.
pub(crate) const STOP_MARGIN_MS: u64 = 15_000;

/// What a guest may take to cut its own power when it was told to.
pub(crate) const POWER_OFF_LIMIT_MS: u64 = 5_000;

/// The longest grace that is granted.
pub(crate) const GRACE_MS_MAX: u64 = 600_000;

/// How often the guest is told the time.
pub(crate) const CLOCK_EVERY_MS: u64 = 30_000;

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// Init said something.
    Guest(ToHost),
    /// Init's bytes made no sense.
    Garbled(String),
    /// The daemon asks for an end in good order.
    Stop {
        /// What the workload may take.
        grace_ms: u64,
    },
    /// The daemon asks for an end at once.
    Kill,
    /// The monitor is gone.
    MonitorEnded(Result<(), String>),
    /// Time passed.
    Tick,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// Tell init.
    Send(ToGuest),
    /// Add to the workload's log.
    Log(Vec<u8>),
    /// Cut the guest's power.
    Cut,
}

/// The time, as far as a life needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Milliseconds since this process started.
    pub(crate) ms: u64,
    /// Microseconds since 1970.
    pub(crate) unix_us: u64,
}

/// Where a machine stands and how it came there.
#[derive(Debug)]
pub(crate) struct Life {
    spec: MachineSpec,
    state: MachineState,
    timeline: Timeline,
    greeted: bool,
    asked_to_end: bool,
    ending: Option<Ending>,
    /// Why the guest was cut without being asked.
    fault: Option<String>,
    /// When it is cut.
    limit_ms: Option<u64>,
    clock_ms: Option<u64>,
    over: bool,
}

impl Life {
    /// A machine whose monitor is about to be started at `now`.
    pub(crate) fn new(spec: MachineSpec, now: Now) -> Self {
        Life {
            spec,
            state: MachineState::Starting,
            timeline: Timeline {
                monitor_ms: Some(now.ms),
                ..Timeline::default()
            },
            greeted: false,
            asked_to_end: false,
            ending: None,
            fault: None,
            limit_ms: Some(now.ms + BOOT_LIMIT_MS),
            clock_ms: None,
            over: false,
        }
    }

    /// Where it stands.
    pub(crate) fn state(&self) -> &MachineState {
        &self.state
    }

    /// How its boot went.
    pub(crate) fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Whether all is over and the state is the last one.
    #[cfg(test)]
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// When the next `Tick` is due, in milliseconds since this process started.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        [self.limit_ms, self.clock_ms].into_iter().flatten().min()
    }

    /// Takes an event.
    pub(crate) fn handle(&mut self, event: Event, now: Now) -> Vec<Act> {
        if self.over {
            return Vec::new();
        }
        match event {
            Event::Guest(message) => self.heard(message, now),
            Event::Garbled(what) => self.cut(format!("the guest's init spoke nonsense: {what}")),
            Event::Stop { grace_ms } => self.asked_to_stop(grace_ms.min(GRACE_MS_MAX), now),
            Event::Kill => {
                self.asked_to_end = true;
                self.state = MachineState::Stopping;
                self.limit_ms = None;
                vec![Act::Cut]
            }
            Event::MonitorEnded(how) => {
                self.timeline.ended_ms = Some(now.ms);
                self.state = self.last_state(how);
                self.over = true;
                Vec::new()
            }
            Event::Tick => self.ticked(now),
        }
    }

    fn cut(&mut self, fault: String) -> Vec<Act> {
        self.fault.get_or_insert(fault);
        self.limit_ms = None;
        vec![Act::Cut]
    }

    fn asked_to_stop(&mut self, grace_ms: u64, now: Now) -> Vec<Act> {
        if self.asked_to_end {
            return Vec::new();
        }
        self.asked_to_end = true;
        self.state = MachineState::Stopping;
        if !self.greeted {
            // Init does not listen yet, and nothing runs that could be ended in good order.
            self.limit_ms = None;
            return vec![Act::Cut];
        }
        self.limit_ms = Some(now.ms + grace_ms + STOP_MARGIN_MS);
        vec![Act::Send(ToGuest::Stop { grace_ms })]
    }

    fn ticked(&mut self, now: Now) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.limit_ms.is_some_and(|limit| limit <= now.ms) {
            acts.extend(self.cut(match &self.state {
                MachineState::Starting => {
                    format!("the guest did not come up within {} s", BOOT_LIMIT_MS / 1000)
                }
                _ => "the guest did not end in time".to_owned(),
            }));
        }
        if self.clock_ms.is_some_and(|at| at <= now.ms) {
            self.clock_ms = Some(now.ms + CLOCK_EVERY_MS);
            acts.push(Act::Send(ToGuest::Clock { unix_us: now.unix_us }));
        }
        acts
    }

    fn heard(&mut self, message: ToHost, now: Now) -> Vec<Act> {
        match message {
            ToHost::Hello { protocol, .. } if self.greeted => {
                tracing::debug!(protocol, "init greets again");
                Vec::new()
            }
            ToHost::Hello { protocol, .. } if protocol != PROTOCOL => self.cut(format!(
                "the guest's init speaks protocol {protocol}, this host {PROTOCOL}"
            )),
            ToHost::Hello { .. } => {
                self.greeted = true;
                self.timeline.init_ms = Some(now.ms);
                self.clock_ms = Some(now.ms + CLOCK_EVERY_MS);
                vec![Act::Send(ToGuest::Configure(Box::new(GuestConfig {
                    protocol: PROTOCOL,
                    unix_us: now.unix_us,
                    hostname: self.spec.hostname.clone(),
                    nic: self.spec.nic.clone(),
                    workload: self.spec.workload.clone(),
                })))]
            }
            ToHost::Started { .. } => {
                self.timeline.entrypoint_ms.get_or_insert(now.ms);
                if self.state == MachineState::Starting && self.greeted {
                    self.state = MachineState::Running { serving: false };
                    self.limit_ms = None;
                }
                Vec::new()
            }
            ToHost::Serving { serving, .. } => {
                if let MachineState::Running { serving: current } = &mut self.state {
                    *current = serving;
                    if serving {
                        self.timeline.serving_ms.get_or_insert(now.ms);
                    }
                }
                Vec::new()
            }
            ToHost::Log { source, lost, bytes } => log(source, lost, bytes),
            ToHost::Restarting { exit, pause_ms } => {
                if let MachineState::Running { serving } = &mut self.state {
                    *serving = false;
                }
                vec![note(&format!(
                    "the entrypoint ended with {exit}; it is started again in {pause_ms} ms"
                ))]
            }
            ToHost::Ended(ending) => {
                if self.ending.is_some() {
                    return Vec::new();
                }
                self.limit_ms = Some(now.ms + POWER_OFF_LIMIT_MS);
                self.clock_ms = None;
                self.state = MachineState::Stopping;
                let words = note(&match &ending {
                    Ending::Asked => "stopped".to_owned(),
                    Ending::Finished => "the entrypoint ended with status 0".to_owned(),
                    Ending::Failed { exit, .. } => {
                        format!("the entrypoint ended with {exit}; no restart is left")
                    }
                    Ending::CannotStart { reason } | Ending::Broken { reason } => readable(reason),
                });
                self.ending = Some(ending);
                vec![words, Act::Send(ToGuest::PowerOff)]
            }
        }
    }

    fn last_state(&mut self, monitor: Result<(), String>) -> MachineState {
        if self.asked_to_end {
            return MachineState::Stopped;
        }
        let failed = |reason: String| MachineState::Failed {
            reason,
            exit_code: None,
        };
        if let Some(ending) = &self.ending {
            match ending {
                Ending::Finished => return MachineState::Stopped,
                Ending::Failed { exit, attempts } => {
                    let times = if *attempts > 1 {
                        format!(", after {attempts} starts")
                    } else {
                        String::new()
                    };
                    return MachineState::Failed {
                        reason: format!("the entrypoint ended with {exit}{times}"),
                        exit_code: Some(exit.code()),
                    };
                }
                Ending::CannotStart { reason } => {
                    return failed(format!("the entrypoint cannot be started: {}", readable(reason)));
                }
                Ending::Broken { reason } => {
                    return failed(format!("the guest cannot be brought up: {}", readable(reason)));
                }
                // It claims an order that was never given.
                Ending::Asked => {}
            }
        }
        match (self.fault.take(), monitor) {
            (Some(fault), _) => failed(fault),
            (None, Err(complaint)) => failed(complaint),
            (None, Ok(())) => failed("the guest went down by itself".to_owned()),
        }
    }

    /// Adds what the console said last to the reason of a failure that init did not explain.
    pub(crate) fn explain(&mut self, console: &str) {
        let unexplained = self.ending.as_ref().is_none_or(|ending| *ending == Ending::Asked);
        if let MachineState::Failed { reason, .. } = &mut self.state
            && unexplained
            && !console.is_empty()
        {
            reason.push_str(&format!("; its console said last: {}", readable(console)));
        }
    }
}

fn log(source: LogSource, lost: u64, bytes: Vec<u8>) -> Vec<Act> {
    let mut acts = Vec::new();
    if lost > 0 {
        acts.push(note(&format!("{lost} bytes of output were lost here")));
    }
    match source {
        LogSource::Stdout | LogSource::Stderr => acts.push(Act::Log(bytes)),
        LogSource::Init => acts.push(note(&readable(&String::from_utf8_lossy(&bytes)))),
    }
    acts
}

/// A line of ours between the workload's.
fn note(words: &str) -> Act {
    Act::Log(format!("[form] {words}\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vmm::guest::Exit;
    use vmm::spec::{Health, MachineId, Nic, Restart, Workload};

    fn spec() -> MachineSpec {
        MachineSpec {
            id: MachineId([1; 32]),
            generation: 1,
            hostname: "web".to_owned(),
            vcpus: 1,
            memory_mib: 256,
            image: "/i".into(),
            disk_gib: 1,
            nic: Nic {
                tap: "t".to_owned(),
                mac: [0; 6],
                ipv6: "fd00::2".parse().unwrap(),
                gateway_v6: "fe80::1".parse().unwrap(),
                ipv4: "10.0.0.2".parse().unwrap(),
                gateway_v4: "10.0.0.1".parse().unwrap(),
                resolvers: Vec::new(),
            },
            workload: Workload {
                entrypoint: Vec::new(),
                env: Vec::new(),
                workdir: String::new(),
                restart: Restart {
                    attempts: 0,
                    backoff_ms: 0,
                },
                health: Health::Process,
            },
        }
    }

    fn at(ms: u64) -> Now {
        Now {
            ms,
            unix_us: 1_000_000,
        }
    }

    fn hello() -> Event {
        Event::Guest(ToHost::Hello {
            protocol: PROTOCOL,
            uptime_ms: 1,
        })
    }

    fn started() -> Event {
        Event::Guest(ToHost::Started {
            attempt: 1,
            uptime_ms: 2,
        })
    }

    fn serving(serving: bool) -> Event {
        Event::Guest(ToHost::Serving {
            serving,
            uptime_ms: 3,
        })
    }

    /// A machine that runs.
    fn running() -> Life {
        let mut life = Life::new(spec(), at(0));
        life.handle(hello(), at(10));
        life.handle(started(), at(20));
        life
    }

    #[test]
    fn a_boot_runs_through_its_states() {
        let mut life = Life::new(spec(), at(5));
        assert_eq!(*life.state(), MachineState::Starting);
        let acts = life.handle(hello(), at(10));
        assert!(matches!(&acts[..], [Act::Send(ToGuest::Configure(_))]));
        life.handle(started(), at(20));
        assert_eq!(*life.state(), MachineState::Running { serving: false });
        life.handle(serving(true), at(30));
        assert_eq!(*life.state(), MachineState::Running { serving: true });
        life.handle(serving(false), at(40));
        assert_eq!(*life.state(), MachineState::Running { serving: false });
        let timeline = life.timeline();
        assert_eq!(
            (timeline.init_ms, timeline.entrypoint_ms, timeline.serving_ms),
            (Some(10), Some(20), Some(30))
        );
    }

    #[test]
    fn a_guest_that_does_not_come_up_is_cut_and_says_so() {
        let mut life = Life::new(spec(), at(0));
        life.handle(hello(), at(10));
        assert_eq!(life.due_ms(), Some(10 + CLOCK_EVERY_MS));
        assert!(
            life.handle(Event::Tick, at(BOOT_LIMIT_MS - 1))
                .iter()
                .all(|act| *act != Act::Cut)
        );
        assert!(life.handle(Event::Tick, at(BOOT_LIMIT_MS)).contains(&Act::Cut));
        life.handle(Event::MonitorEnded(Ok(())), at(BOOT_LIMIT_MS + 1));
        life.explain("Kernel panic\nnot syncing");
        let MachineState::Failed { reason, .. } = life.state() else {
            panic!("{:?}", life.state())
        };
        assert!(
            reason.contains("did not come up") && reason.contains("Kernel panic not syncing"),
            "{reason}"
        );
    }

    #[test]
    fn a_stop_is_passed_on_and_enforced() {
        let mut life = running();
        assert_eq!(
            life.handle(Event::Stop { grace_ms: 100 }, at(50)),
            [Act::Send(ToGuest::Stop { grace_ms: 100 })]
        );
        assert!(
            life.handle(Event::Stop { grace_ms: 9 }, at(51)).is_empty(),
            "a second stop changes nothing"
        );
        assert_eq!(*life.state(), MachineState::Stopping);
        assert!(
            life.handle(Event::Tick, at(150 + STOP_MARGIN_MS))
                .contains(&Act::Cut)
        );
        life.handle(Event::MonitorEnded(Ok(())), at(200 + STOP_MARGIN_MS));
        assert_eq!(*life.state(), MachineState::Stopped);
    }

    #[test]
    fn a_stop_before_init_listens_cuts_at_once() {
        let mut life = Life::new(spec(), at(0));
        assert_eq!(life.handle(Event::Stop { grace_ms: 100 }, at(50)), [Act::Cut]);
    }

    #[test]
    fn an_entrypoint_that_failed_gives_its_exit_code() {
        let mut life = running();
        let ending = Ending::Failed {
            exit: Exit::Signal(9),
            attempts: 3,
        };
        let acts = life.handle(Event::Guest(ToHost::Ended(ending)), at(50));
        assert!(acts.contains(&Act::Send(ToGuest::PowerOff)));
        assert!(life.state().is_alive(), "its disk and tap are not free yet");
        life.handle(Event::MonitorEnded(Ok(())), at(60));
        assert_eq!(
            *life.state(),
            MachineState::Failed {
                reason: "the entrypoint ended with signal 9, after 3 starts".to_owned(),
                exit_code: Some(137),
            }
        );
    }

    #[test]
    fn a_guest_that_claims_to_be_asked_or_just_goes_has_failed() {
        for ending in [Some(Ending::Asked), None] {
            let mut life = running();
            if let Some(ending) = ending {
                life.handle(Event::Guest(ToHost::Ended(ending)), at(50));
            }
            life.handle(Event::MonitorEnded(Ok(())), at(60));
            assert!(
                matches!(life.state(), MachineState::Failed { .. }),
                "{:?}",
                life.state()
            );
        }
    }

    #[test]
    fn the_words_of_the_monitor_are_the_reason_when_it_fails() {
        let mut life = Life::new(spec(), at(0));
        life.handle(Event::MonitorEnded(Err("no such tap".to_owned())), at(60));
        assert_eq!(
            *life.state(),
            MachineState::Failed {
                reason: "no such tap".to_owned(),
                exit_code: None
            }
        );
    }

    #[test]
    fn the_guest_is_told_the_time_again_and_again() {
        let mut life = running();
        let due = life.due_ms().unwrap();
        assert_eq!(
            life.handle(Event::Tick, at(due)),
            [Act::Send(ToGuest::Clock { unix_us: 1_000_000 })]
        );
        assert!(life.due_ms().unwrap() > due);
    }

    fn any_event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(hello()),
            any::<u16>().prop_map(|protocol| Event::Guest(ToHost::Hello {
                protocol,
                uptime_ms: 0
            })),
            Just(started()),
            any::<bool>().prop_map(serving),
            (any::<u64>(), any::<Vec<u8>>()).prop_map(|(lost, bytes)| Event::Guest(ToHost::Log {
                source: LogSource::Init,
                lost,
                bytes
            })),
            Just(Event::Guest(ToHost::Ended(Ending::Asked))),
            ".*".prop_map(|reason| Event::Guest(ToHost::Ended(Ending::Broken { reason }))),
            (any::<i32>(), any::<u32>()).prop_map(|(signal, attempts)| Event::Guest(ToHost::Ended(
                Ending::Failed {
                    exit: Exit::Signal(signal),
                    attempts
                }
            ))),
            ".*".prop_map(Event::Garbled),
            any::<u64>().prop_map(|grace_ms| Event::Stop { grace_ms }),
            Just(Event::Kill),
            Just(Event::Tick),
        ]
    }

    proptest! {
        #[test]
        fn whatever_happens_a_machine_lives_until_its_monitor_ends(
            events in proptest::collection::vec((any_event(), 0u64..100_000), 0..40),
        ) {
            let mut life = Life::new(spec(), at(0));
            let mut ms = 0;
            let mut asked = false;
            for (event, passed) in events {
                ms += passed;
                asked |= matches!(event, Event::Stop { .. } | Event::Kill);
                life.handle(event, at(ms));
                prop_assert!(life.state().is_alive());
                prop_assert!(!life.is_over());
            }
            life.handle(Event::MonitorEnded(Ok(())), at(ms));
            prop_assert!(life.is_over() && !life.state().is_alive());
            prop_assert!(!asked || *life.state() == MachineState::Stopped);
        }
    }
}
