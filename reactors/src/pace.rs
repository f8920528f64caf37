//! Keeps what is decided again and again from being done again and again: the reactors are level-triggered
//! and repeat an action until what is observed shows its effect.
//!
//! ```text
//!            passed               done: Ok          observed, so not asked for any more
//!  (asked) ────────▶ in flight ─────────────▶ resting ──────────────────▶ (forgotten)
//!                       │  ▲       done: Err     │  ▲
//!                       │  │     rests longer    │  │ asked again after the rest: it had no effect,
//!                       │  └─────────────────────┘  │ so the next rest is longer
//!                       └── deadline: taken as lost ┘
//! ```
//! A report counts as done once it has passed. A table passes when it differs from the one before it, and
//! once that one is applied: of two under way, the older could be the last to take effect.

use std::collections::BTreeMap;

use ledger::codec;
use ledger::id::{InstanceId, NodeId, hash};
use net::names::NameTable;

pub use crate::action::ActionKey;
use crate::action::{Action, ReportKey};

/// Reports that pass at once, at most: they fit into one op. The others pass at the next call.
pub const REPORTS_MAX: usize = 32;

/// Bytes of reports that pass at once, at most, unless there is only one.
pub const REPORT_BYTES_MAX: usize = 48 * 1024;

/// How one kind of action is paced.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// In flight at once, at most. What is over waits for the next call.
    in_flight_max: usize,
    /// In flight for longer than this counts as lost.
    deadline_ms: u64,
    /// After success: how long what is observed has to show it, before it passes again.
    settle_ms: u64,
    /// After the first failure: how long until the next try. It doubles each time.
    backoff_ms: u64,
    /// The longest rest.
    rest_max_ms: u64,
}

const REPORT: Rule = Rule {
    in_flight_max: 64,
    deadline_ms: 0,
    settle_ms: 10_000,
    backoff_ms: 1_000,
    rest_max_ms: 300_000,
};
/// Reasons change with every node that comes and goes; a person reads one of them.
const CANNOT_PLACE: Rule = Rule {
    settle_ms: 30_000,
    ..REPORT
};
const FETCH: Rule = Rule {
    in_flight_max: 4,
    deadline_ms: 900_000,
    settle_ms: 2_000,
    backoff_ms: 1_000,
    rest_max_ms: 60_000,
};
const BUILD: Rule = Rule {
    in_flight_max: 16,
    deadline_ms: 7_200_000,
    settle_ms: 10_000,
    backoff_ms: 5_000,
    rest_max_ms: 600_000,
};
const START: Rule = Rule {
    in_flight_max: 4,
    deadline_ms: 180_000,
    settle_ms: 5_000,
    backoff_ms: 1_000,
    rest_max_ms: 60_000,
};
const STOP: Rule = Rule {
    in_flight_max: 32,
    deadline_ms: 60_000,
    settle_ms: 2_000,
    backoff_ms: 1_000,
    rest_max_ms: 30_000,
};
const DELETE: Rule = Rule {
    in_flight_max: 8,
    deadline_ms: 60_000,
    settle_ms: 2_000,
    backoff_ms: 1_000,
    rest_max_ms: 60_000,
};
const FORGET: Rule = Rule {
    in_flight_max: 4,
    deadline_ms: 60_000,
    settle_ms: 10_000,
    backoff_ms: 10_000,
    rest_max_ms: 600_000,
};
const TABLE: Rule = Rule {
    in_flight_max: 1,
    deadline_ms: 30_000,
    settle_ms: 0,
    backoff_ms: 500,
    rest_max_ms: 30_000,
};

/// The kind of an action, for its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Report,
    CannotPlace,
    Fetch,
    Build,
    Start,
    Stop,
    Delete,
    Forget,
    Table,
}

impl Kind {
    fn of(key: &ActionKey) -> Self {
        match key {
            ActionKey::Report(ReportKey::CannotPlace { .. }) => Kind::CannotPlace,
            ActionKey::Report(_) => Kind::Report,
            ActionKey::Fetch(_) => Kind::Fetch,
            ActionKey::Build(_) => Kind::Build,
            ActionKey::Start { .. } => Kind::Start,
            ActionKey::Stop { .. } => Kind::Stop,
            ActionKey::Delete { .. } => Kind::Delete,
            ActionKey::Forget(_) => Kind::Forget,
            ActionKey::Names | ActionKey::Fronts | ActionKey::Guests | ActionKey::Peers => Kind::Table,
        }
    }

    fn rule(self) -> &'static Rule {
        match self {
            Kind::Report => &REPORT,
            Kind::CannotPlace => &CANNOT_PLACE,
            Kind::Fetch => &FETCH,
            Kind::Build => &BUILD,
            Kind::Start => &START,
            Kind::Stop => &STOP,
            Kind::Delete => &DELETE,
            Kind::Forget => &FORGET,
            Kind::Table => &TABLE,
        }
    }
}

/// Where one action stands. Both end at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight { until_ms: u64 },
    Resting { until_ms: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    state: State,
    /// How often it has passed since it was first asked for.
    tries: u32,
    /// The last call asked for it.
    asked: bool,
}

/// The table of a kind that passed last.
#[derive(Clone, Debug)]
struct Table {
    passed: Action,
    /// The hand is at it, until this time at the latest.
    in_flight_ms: Option<u64>,
    /// The hand could not apply it: pass it again at this time, changed or not.
    retry_ms: Option<u64>,
    tries: u32,
}

/// What has passed, and when what may pass again.
#[derive(Clone, Debug)]
pub struct Pace {
    node: NodeId,
    entries: BTreeMap<ActionKey, Entry>,
    tables: BTreeMap<ActionKey, Table>,
}

impl Pace {
    /// A pace of `node`, whose key makes its jitter differ from other nodes'.
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            entries: BTreeMap::new(),
            tables: BTreeMap::new(),
        }
    }

    /// Those of `actions`, all that is decided now, that are to be done now.
    pub fn filter(&mut self, actions: Vec<Action>, now_ms: u64) -> Vec<Action> {
        for entry in self.entries.values_mut() {
            entry.asked = false;
        }
        let mut in_flight = self.in_flight(now_ms);
        let (mut reports, mut report_bytes) = (0, 0);
        let mut passed = Vec::new();
        for action in actions {
            let key = action.key();
            let kind = Kind::of(&key);
            if kind == Kind::Table {
                passed.extend(self.pass_table(key, action, now_ms));
                continue;
            }
            let flying = in_flight.entry(kind).or_default();
            let mut waits = *flying >= kind.rule().in_flight_max || self.must_wait(&key, now_ms);
            let mut bytes = 0;
            if let Action::Report(report) = &action {
                bytes = report.to_entry().bytes.len();
                waits |= reports == REPORTS_MAX || report_bytes + bytes > REPORT_BYTES_MAX && reports > 0;
            }
            if self.pass(key, kind, waits, now_ms) {
                *flying += 1;
                reports += usize::from(matches!(action, Action::Report(_)));
                report_bytes += bytes;
                passed.push(action);
            }
        }
        self.entries.retain(|_, entry| match entry.state {
            State::InFlight { until_ms } | State::Resting { until_ms } => entry.asked || now_ms < until_ms,
        });
        passed
    }

    /// The hand has done an action that passed, or could not. For a report this is needed only if it was not
    /// appended.
    pub fn done(&mut self, key: &ActionKey, ok: bool, now_ms: u64) {
        let kind = Kind::of(key);
        if kind == Kind::Table {
            let tries = self.tables.get(key).map_or(0, |table| table.tries) + 1;
            let rest_ms = self.rest_ms(key, kind.rule().backoff_ms, tries);
            if let Some(table) = self.tables.get_mut(key) {
                table.in_flight_ms = None;
                (table.tries, table.retry_ms) = if ok {
                    (0, None)
                } else {
                    (tries, Some(now_ms.saturating_add(rest_ms)))
                };
            }
            return;
        }
        let Some(tries) = self.entries.get(key).map(|entry| entry.tries) else {
            return;
        };
        let first_ms = if ok {
            kind.rule().settle_ms
        } else {
            kind.rule().backoff_ms
        };
        let until_ms = now_ms.saturating_add(self.rest_ms(key, first_ms, tries));
        if let Some(entry) = self.entries.get_mut(key) {
            entry.state = State::Resting { until_ms };
        }
    }

    /// The earliest time at which something that waits now may pass: when to decide again, if nothing else
    /// happens before.
    pub fn next_ms(&self) -> Option<u64> {
        let entries = self
            .entries
            .values()
            .filter(|entry| entry.asked)
            .map(|entry| match entry.state {
                State::InFlight { until_ms } | State::Resting { until_ms } => until_ms,
            });
        entries
            .chain(
                self.tables
                    .values()
                    .filter_map(|table| table.in_flight_ms.or(table.retry_ms)),
            )
            .min()
    }

    fn in_flight(&self, now_ms: u64) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for (key, entry) in &self.entries {
            if matches!(entry.state, State::InFlight { until_ms } if now_ms < until_ms) {
                *counts.entry(Kind::of(key)).or_default() += 1;
            }
        }
        counts
    }

    /// A machine is not started while it is being stopped, removed, or started for something else.
    fn must_wait(&self, key: &ActionKey, now_ms: u64) -> bool {
        let ActionKey::Start { instance, .. } = key else {
            return false;
        };
        self.entries.iter().any(|(other, entry)| {
            other != key
                && machine(other) == Some(*instance)
                && matches!(entry.state, State::InFlight { until_ms } if now_ms < until_ms)
        })
    }

    fn pass(&mut self, key: ActionKey, kind: Kind, waits: bool, now_ms: u64) -> bool {
        let held = self.entries.get_mut(&key);
        let tries = match held {
            Some(entry) => {
                entry.asked = true;
                let (State::InFlight { until_ms } | State::Resting { until_ms }) = entry.state;
                if now_ms < until_ms || waits {
                    return false;
                }
                entry.tries.saturating_add(1)
            }
            None if waits => return false,
            None => 1,
        };
        let state = match kind {
            Kind::Report | Kind::CannotPlace => {
                let rest_ms = self.rest_ms(&key, kind.rule().settle_ms, tries);
                State::Resting {
                    until_ms: now_ms.saturating_add(rest_ms),
                }
            }
            _ => State::InFlight {
                until_ms: now_ms.saturating_add(kind.rule().deadline_ms),
            },
        };
        self.entries.insert(
            key,
            Entry {
                state,
                tries,
                asked: true,
            },
        );
        true
    }

    fn pass_table(&mut self, key: ActionKey, mut action: Action, now_ms: u64) -> Option<Action> {
        let before = self.tables.get(&key);
        if let Some(before) = before {
            if before.in_flight_ms.is_some_and(|until_ms| now_ms < until_ms) {
                return None;
            }
            let retry = before.retry_ms.is_some_and(|retry_ms| now_ms >= retry_ms);
            if is_same_table(&before.passed, &action) && !retry {
                return None;
            }
            if let (Action::Names(before), Action::Names(next)) = (&before.passed, &mut action) {
                next.serial = next_serial(before, next);
            }
        }
        let tries = before.map_or(0, |table| table.tries);
        self.tables.insert(
            key,
            Table {
                passed: action.clone(),
                in_flight_ms: Some(now_ms.saturating_add(TABLE.deadline_ms)),
                retry_ms: None,
                tries,
            },
        );
        Some(action)
    }

    /// `first_ms`, doubled with each try after the first up to the longest rest of its kind, give or take a
    /// quarter: nodes that failed together do not try again together.
    fn rest_ms(&self, key: &ActionKey, first_ms: u64, tries: u32) -> u64 {
        let doublings = tries.saturating_sub(1).min(20);
        let rest_ms = first_ms
            .saturating_mul(1 << doublings)
            .min(Kind::of(key).rule().rest_max_ms);
        let chance = hash(
            "formation 2026 pace v1",
            &[&self.node.0, &codec::encode(key), &tries.to_le_bytes()],
        );
        let part = u64::from(u16::from_le_bytes([chance[0], chance[1]]));
        rest_ms - rest_ms / 4 + (rest_ms / 2) * part / u64::from(u16::MAX)
    }
}

/// The machine that an action changes.
fn machine(key: &ActionKey) -> Option<InstanceId> {
    match key {
        ActionKey::Start { instance, .. }
        | ActionKey::Stop { instance, .. }
        | ActionKey::Delete { instance, .. } => Some(*instance),
        _ => None,
    }
}

/// Whether two tables say the same; a serial says nothing.
fn is_same_table(left: &Action, right: &Action) -> bool {
    match (left, right) {
        (Action::Names(left), Action::Names(right)) => left.zones == right.zones && left.names == right.names,
        (left, right) => left == right,
    }
}

/// Health changes names without a new op, and a serial must grow with each change.
fn next_serial(before: &NameTable, next: &NameTable) -> u32 {
    next.serial.max(before.serial.wrapping_add(1))
}

#[cfg(test)]
mod tests {
    use ledger::id::Digest;
    use ledger::report::instances::{CannotPlace, PlaceInstance};
    use net::names::NameRecords;
    use proptest::prelude::*;

    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const INSTANCE: InstanceId = InstanceId([2; 32]);

    fn fetch(number: u8) -> Action {
        Action::Fetch {
            digest: Digest([number; 32]),
            from: vec![NODE],
        }
    }

    fn stop() -> Action {
        Action::Stop {
            instance: INSTANCE,
            generation: 1,
            grace_ms: 10,
        }
    }

    fn delete() -> Action {
        Action::Delete {
            instance: INSTANCE,
            generation: 1,
        }
    }

    fn start(start: u32) -> Action {
        let nic = vmm::spec::Nic {
            tap: "t".into(),
            mac: [2; 6],
            ipv6: std::net::Ipv6Addr::LOCALHOST,
            gateway_v6: std::net::Ipv6Addr::LOCALHOST,
            ipv4: std::net::Ipv4Addr::LOCALHOST,
            gateway_v4: std::net::Ipv4Addr::LOCALHOST,
            resolvers: Vec::new(),
        };
        let workload = vmm::spec::Workload {
            entrypoint: Vec::new(),
            env: Vec::new(),
            workdir: "/".into(),
            restart: vmm::spec::Restart {
                attempts: 1,
                backoff_ms: 1,
            },
            health: vmm::spec::Health::Process,
        };
        let spec = vmm::spec::MachineSpec {
            id: vmm::spec::MachineId(INSTANCE.0),
            generation: 1,
            hostname: "a".into(),
            vcpus: 1,
            memory_mib: 128,
            image: "/image".into(),
            disk_gib: 1,
            nic,
            workload,
        };
        Action::Start {
            spec: Box::new(spec),
            start,
        }
    }

    fn cannot(reason: &str) -> Action {
        Action::Report(
            CannotPlace {
                instance: INSTANCE,
                generation: 1,
                reason: reason.into(),
            }
            .into(),
        )
    }

    fn place(node: u8) -> Action {
        let node = NodeId([node; 32]);
        Action::Report(
            PlaceInstance {
                instance: INSTANCE,
                generation: 1,
                previous: None,
                node,
            }
            .into(),
        )
    }

    fn names(name: &str, serial: u32) -> Action {
        let names = [(name.to_owned(), NameRecords::default())].into();
        Action::Names(NameTable {
            zones: Vec::new(),
            names,
            serial,
        })
    }

    /// How long after `from_ms` an action passes that is asked for in each millisecond.
    fn passes_after(pace: &mut Pace, action: &Action, from_ms: u64, most_ms: u64) -> u64 {
        (0..=most_ms)
            .find(|ms| !pace.filter(vec![action.clone()], from_ms + ms).is_empty())
            .expect("it passes in time")
    }

    #[test]
    fn an_action_passes_once_while_it_is_in_flight() {
        let mut pace = Pace::new(NODE);
        assert_eq!(pace.filter(vec![fetch(1), fetch(1)], 0), [fetch(1)]);
        assert_eq!(pace.filter(vec![fetch(1)], 1), []);
        assert_eq!(pace.filter(vec![], 2), [], "not asked for, it still flies");
        assert_eq!(pace.filter(vec![fetch(1)], 3), []);
    }

    #[test]
    fn what_flies_for_too_long_is_taken_as_lost() {
        let mut pace = Pace::new(NODE);
        pace.filter(vec![fetch(1)], 0);
        assert_eq!(
            passes_after(&mut pace, &fetch(1), 0, FETCH.deadline_ms),
            FETCH.deadline_ms
        );
    }

    #[test]
    fn a_failed_action_rests_longer_each_time_up_to_a_bound() {
        let mut pace = Pace::new(NODE);
        let mut now_ms = 0;
        let mut expected_ms = FETCH.backoff_ms;
        pace.filter(vec![fetch(1)], now_ms);
        for _ in 0..12 {
            pace.done(&fetch(1).key(), false, now_ms);
            let rest_ms = passes_after(&mut pace, &fetch(1), now_ms, 2 * FETCH.rest_max_ms);
            assert!(
                expected_ms * 3 / 4 <= rest_ms && rest_ms <= expected_ms * 5 / 4,
                "{rest_ms}"
            );
            expected_ms = (expected_ms * 2).min(FETCH.rest_max_ms);
            now_ms += rest_ms;
        }
    }

    #[test]
    fn nodes_that_failed_together_do_not_try_again_together() {
        let rests = (0..8u8).map(|node| {
            let mut pace = Pace::new(NodeId([node; 32]));
            pace.filter(vec![fetch(1)], 0);
            pace.done(&fetch(1).key(), false, 0);
            passes_after(&mut pace, &fetch(1), 0, 2 * FETCH.backoff_ms)
        });
        assert!(rests.collect::<std::collections::BTreeSet<_>>().len() > 4);
    }

    #[test]
    fn what_had_its_effect_is_forgotten() {
        let mut pace = Pace::new(NODE);
        pace.filter(vec![fetch(1)], 0);
        pace.done(&fetch(1).key(), true, 0);
        assert_eq!(
            pace.filter(vec![fetch(1)], 1),
            [],
            "what is observed has time to show it"
        );
        assert_eq!(pace.filter(vec![], FETCH.rest_max_ms), []);
        assert!(pace.entries.is_empty());
        assert_eq!(pace.filter(vec![fetch(1)], FETCH.rest_max_ms), [fetch(1)]);
    }

    #[test]
    fn what_was_done_without_effect_passes_ever_more_rarely() {
        let mut pace = Pace::new(NODE);
        let mut now_ms = 0;
        let mut last_ms = 0;
        pace.filter(vec![fetch(1)], 0);
        for _ in 0..4 {
            pace.done(&fetch(1).key(), true, now_ms);
            let rest_ms = passes_after(&mut pace, &fetch(1), now_ms, 2 * FETCH.rest_max_ms);
            assert!(rest_ms > last_ms, "{rest_ms} after {last_ms}");
            now_ms += rest_ms;
            last_ms = rest_ms;
        }
    }

    #[test]
    fn only_so_many_of_a_kind_fly_at_once() {
        let mut pace = Pace::new(NODE);
        let wanted: Vec<Action> = (0..10).map(fetch).collect();
        let passed = pace.filter(wanted.clone(), 0);
        assert_eq!(passed, wanted[..FETCH.in_flight_max]);
        assert_eq!(pace.filter(wanted.clone(), 1), []);
        pace.done(&wanted[0].key(), true, 2);
        assert_eq!(
            pace.filter(wanted.clone(), 2),
            [wanted[FETCH.in_flight_max].clone()]
        );
        // Other kinds do not wait for these.
        assert_eq!(pace.filter(vec![stop()], 3), [stop()]);
    }

    #[test]
    fn a_machine_is_not_started_while_it_is_stopped_or_removed() {
        for first in [stop(), delete(), start(1)] {
            let mut pace = Pace::new(NODE);
            let key = first.key();
            let passed = pace.filter(vec![first, start(2)], 0);
            assert_eq!(passed.iter().map(Action::key).collect::<Vec<_>>(), [key]);
            assert_eq!(pace.filter(vec![start(2)], 1), []);
            pace.done(&key, true, 2);
            assert_eq!(pace.filter(vec![start(2)], 2), [start(2)]);
        }
    }

    #[test]
    fn a_machine_is_stopped_and_removed_while_its_start_is_under_way() {
        let mut pace = Pace::new(NODE);
        pace.filter(vec![start(1)], 0);
        assert_eq!(pace.filter(vec![stop()], 1), [stop()]);
        assert_eq!(pace.filter(vec![delete()], 2), [delete()]);
    }

    #[test]
    fn a_report_passes_once_until_the_view_had_time_to_show_it() {
        let mut pace = Pace::new(NODE);
        assert_eq!(pace.filter(vec![place(3)], 0), [place(3)]);
        assert_eq!(
            pace.filter(vec![place(4)], 1),
            [],
            "the same generation, elsewhere"
        );
        let rest_ms = passes_after(&mut pace, &place(4), 1, 2 * REPORT.settle_ms);
        assert!(rest_ms >= REPORT.settle_ms * 3 / 4 - 1, "{rest_ms}");
    }

    #[test]
    fn a_report_that_was_not_appended_passes_again_soon() {
        let mut pace = Pace::new(NODE);
        pace.filter(vec![place(3)], 0);
        pace.done(&place(3).key(), false, 0);
        assert!(passes_after(&mut pace, &place(3), 0, REPORT.settle_ms) <= REPORT.backoff_ms * 5 / 4);
    }

    #[test]
    fn what_passes_at_once_fits_into_one_op() {
        let cannot = |n: u8, size: usize| {
            let report = CannotPlace {
                instance: InstanceId([n; 32]),
                generation: 1,
                reason: "x".repeat(size),
            };
            Action::Report(report.into())
        };
        for (size, passes) in [
            (1, REPORTS_MAX),
            (4_000, REPORT_BYTES_MAX / 4_036),
            (REPORT_BYTES_MAX, 1),
        ] {
            let mut pace = Pace::new(NODE);
            let wanted: Vec<Action> = (0..100).map(|n| cannot(n, size)).collect();
            let first = pace.filter(wanted.clone(), 0);
            assert_eq!(first, wanted[..passes], "{size}");
            assert_eq!(pace.filter(wanted.clone(), 0), wanted[passes..2 * passes]);
        }
    }

    #[test]
    fn reasons_that_change_quickly_do_not_fill_the_log() {
        let mut pace = Pace::new(NODE);
        let passed = (0..600).flat_map(|s| pace.filter(vec![cannot(&format!("reason {s}"))], s * 1_000));
        assert!(passed.count() <= 10);
    }

    #[test]
    fn a_table_passes_when_it_changes() {
        let mut pace = Pace::new(NODE);
        assert_eq!(pace.filter(vec![names("a", 7)], 0), [names("a", 7)]);
        pace.done(&ActionKey::Names, true, 0);
        assert_eq!(
            pace.filter(vec![names("a", 9)], 1),
            [],
            "a serial alone says nothing"
        );
        assert_eq!(pace.filter(vec![names("b", 9)], 2), [names("b", 9)]);
        pace.done(&ActionKey::Names, true, 2);
        assert_eq!(
            pace.filter(vec![names("a", 9)], 3),
            [names("a", 10)],
            "each change has a higher one"
        );
        pace.done(&ActionKey::Names, true, 4);
        assert_eq!(pace.filter(vec![names("a", 9)], 5), []);
    }

    #[test]
    fn a_table_waits_until_the_one_before_it_is_applied_or_lost() {
        let mut pace = Pace::new(NODE);
        pace.filter(vec![names("a", 1)], 0);
        assert_eq!(
            pace.filter(vec![names("b", 1)], 1),
            [],
            "they could change places"
        );
        pace.done(&ActionKey::Names, true, 2);
        assert_eq!(pace.filter(vec![names("b", 1)], 2), [names("b", 2)]);
        let lost_ms = 2 + TABLE.deadline_ms;
        assert_eq!(pace.filter(vec![names("c", 1)], lost_ms - 1), []);
        assert_eq!(pace.filter(vec![names("c", 1)], lost_ms), [names("c", 3)]);
    }

    #[test]
    fn a_table_that_could_not_be_applied_passes_again() {
        let mut pace = Pace::new(NODE);
        pace.filter(vec![names("a", 7)], 0);
        pace.done(&ActionKey::Names, false, 0);
        let retry_ms = passes_after(&mut pace, &names("a", 7), 0, TABLE.rest_max_ms);
        assert!((TABLE.backoff_ms * 3 / 4..=TABLE.backoff_ms * 5 / 4).contains(&retry_ms));
        pace.done(&ActionKey::Names, false, retry_ms);
        let longer_ms = passes_after(&mut pace, &names("a", 7), retry_ms, TABLE.rest_max_ms);
        assert!(longer_ms > retry_ms);
    }

    #[test]
    fn it_says_when_to_ask_again() {
        let mut pace = Pace::new(NODE);
        assert_eq!(pace.next_ms(), None);
        pace.filter(vec![fetch(1)], 0);
        pace.done(&fetch(1).key(), false, 0);
        let next_ms = pace.next_ms().expect("it waits for the fetch");
        assert_eq!(pace.filter(vec![fetch(1)], next_ms - 1), []);
        assert_eq!(pace.filter(vec![fetch(1)], next_ms), [fetch(1)]);
    }

    #[test]
    fn an_answer_to_what_never_passed_changes_nothing() {
        let mut pace = Pace::new(NODE);
        pace.done(&fetch(1).key(), false, 0);
        pace.done(&ActionKey::Names, false, 0);
        assert_eq!(
            pace.filter(vec![fetch(1), names("a", 1)], 0),
            [fetch(1), names("a", 1)]
        );
    }

    proptest! {
        #[test]
        fn whatever_is_asked_no_bound_is_passed(
            steps in prop::collection::vec((0u8..20, 0u8..4, any::<bool>(), 0u64..5_000), 1..200)
        ) {
            let mut pace = Pace::new(NODE);
            let (mut now_ms, mut flying) = (0, std::collections::BTreeSet::new());
            for (number, what, ok, ms) in steps {
                now_ms += ms;
                if what == 0 {
                    let key = fetch(number).key();
                    flying.remove(&key);
                    pace.done(&key, ok, now_ms);
                    continue;
                }
                let wanted = (0..number).map(fetch).collect();
                for action in pace.filter(wanted, now_ms) {
                    prop_assert!(flying.insert(action.key()), "it was in flight");
                }
                prop_assert!(flying.len() <= FETCH.in_flight_max);
            }
        }
    }
}
