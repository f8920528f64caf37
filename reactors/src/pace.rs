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
//! A report counts as done once it has passed. A table passes when it differs from the one before it.

use std::collections::BTreeMap;

use ledger::codec;
use ledger::id::{InstanceId, NodeId, hash};
use net::names::NameTable;

pub use crate::action::ActionKey;
use crate::action::{Action, ReportKey};

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
        let mut passed = Vec::new();
        for action in actions {
            let key = action.key();
            let kind = Kind::of(&key);
            if kind == Kind::Table {
                passed.extend(self.pass_table(key, action, now_ms));
                continue;
            }
            let flying = in_flight.entry(kind).or_default();
            let waits = *flying >= kind.rule().in_flight_max || self.must_wait(&key, now_ms);
            if self.pass(key, kind, waits, now_ms) {
                *flying += 1;
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
            .chain(self.tables.values().filter_map(|table| table.retry_ms))
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
