//! Keeps a `Cloud` up to date: ops come in any causally closed order, and are folded in the total order.
//!
//! ```text
//!   ops       ────────────────────────────────────────▶ in the total order
//!   checkpoints  ■ (copies of the Cloud)  ■        ■     every `window` ops, sparser further back
//!   undo log                               ◀──window──▶  what each of the last ops changed
//! ```
//! An op that belongs before others rewinds to its place: by the undo log when that is within the window,
//! else from the checkpoint before it; then all from there on is folded again. What was told of an op and
//! no longer holds is told again, as turned.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use ledger::genesis::Genesis;
use ledger::id::OpId;
use ledger::op::{Op, OrderKey};

use crate::cloud::{Cloud, Position};
use crate::entries;
use crate::outcome::Outcome;
use crate::undo::{Prior, Writer, undo};

/// How many of the last ops can be undone one by one, and how far apart checkpoints stand.
pub const WINDOW_OPS: usize = 4096;

/// Checkpoints kept, at most. Beyond that the one that is missed least goes: they stand the sparser the
/// further back, so that a rewind costs in proportion to its depth.
pub const CHECKPOINTS_MAX: usize = 16;

/// What became of an entry: told first when its op is folded, and again when it turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The op.
    pub op: OpId,
    /// Which of its entries, from 0.
    pub entry: u32,
    /// The name of its kind; for a carried command the command's.
    pub kind: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// Another outcome was told before: a late op turned it.
    pub turned: bool,
}

/// What the fold has done, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Times that a late op made the fold step back.
    pub rewinds: u64,
    /// Of these, the ones beyond the undo log, from a checkpoint.
    pub deep_rewinds: u64,
    /// Ops that were folded again.
    pub refolded_ops: u64,
    /// Entries whose outcome turned.
    pub turned: u64,
    /// Checkpoints that stand now.
    pub checkpoints: u64,
}

/// An op in its place, with what became of its entries.
#[derive(Clone, Debug)]
pub struct FoldedOp {
    /// The op.
    pub op: Op,
    /// What became of each of its entries.
    pub outcomes: Box<[Outcome]>,
}

/// The place of an op. The id settles what cannot be, two ops in one slot, alike everywhere.
type Place = (OrderKey, OpId);

/// What one op changed.
#[derive(Debug)]
struct Step {
    position: Position,
    priors: Vec<Prior>,
}

/// The view after the first `ops` ops.
#[derive(Debug)]
struct Checkpoint {
    ops: usize,
    cloud: Cloud,
}

/// A `Cloud` that follows a growing set of ops.
#[derive(Debug)]
pub struct Fold {
    cloud: Cloud,
    /// The view as readers get it, made when one asks.
    published: OnceLock<Arc<Cloud>>,
    /// All ops, in order; those in `cloud` are all of them between two calls.
    ops: Vec<FoldedOp>,
    places: BTreeMap<OpId, OrderKey>,
    /// What the last ops changed, the newest at the back.
    steps: VecDeque<Step>,
    checkpoints: Vec<Checkpoint>,
    window: usize,
    counters: Counters,
}

/// An op that waits to be folded, with what was told of it before.
struct Pending {
    op: Op,
    told: Option<Box<[Outcome]>>,
}

impl Fold {
    /// The view before the first op.
    pub fn new(genesis: Genesis) -> Self {
        Self::with_window(genesis, WINDOW_OPS)
    }

    /// As [`Self::new`] with another window than [`WINDOW_OPS`]; it changes the cost of a rewind, never the
    /// view. At least 1.
    pub fn with_window(genesis: Genesis, window: usize) -> Self {
        Self {
            cloud: Cloud::new(genesis),
            published: OnceLock::new(),
            ops: Vec::new(),
            places: BTreeMap::new(),
            steps: VecDeque::new(),
            checkpoints: Vec::new(),
            window: window.max(1),
            counters: Counters::default(),
        }
    }

    /// Takes ops in any causally closed order of arrival. Those that belong before others rewind to their
    /// place in the total order; all of one call are folded in one go. Ops that are in already are passed
    /// over. Tells what became of each entry of the new ops, and of the older ones what turned, in order.
    pub fn apply(&mut self, ops: Vec<Op>) -> Vec<Change> {
        let mut new: Vec<(Place, Op)> = ops
            .into_iter()
            .filter(|op| !self.places.contains_key(&op.id()))
            .map(|op| (place(&op), op))
            .collect();
        new.sort_unstable_by_key(|(place, _)| *place);
        new.dedup_by_key(|(place, _)| *place);
        let Some((first, _)) = new.first() else {
            return Vec::new();
        };
        // Let go of the published view first: what no reader holds any more is then changed in place.
        self.published = OnceLock::new();
        let keep = self.ops.partition_point(|folded| place(&folded.op) < *first);
        let tail = self.rewind_to(keep);
        self.places
            .extend(new.iter().map(|(place, op)| (op.id(), place.0)));
        let mut changes = Vec::new();
        for pending in merge(tail, new) {
            self.fold(pending, &mut changes);
        }
        self.counters.checkpoints = self.checkpoints.len() as u64;
        changes
    }

    /// The view, to share. Costs next to nothing: its maps share their nodes with the fold's.
    pub fn cloud(&self) -> Arc<Cloud> {
        Arc::clone(self.published.get_or_init(|| Arc::new(self.cloud.clone())))
    }

    /// What became of each entry of an op; none if the op is not in the fold.
    pub fn outcomes(&self, op: OpId) -> Option<&[Outcome]> {
        self.find(op).map(|folded| &*folded.outcomes)
    }

    /// An op that is in the fold.
    pub fn op(&self, op: OpId) -> Option<&Op> {
        self.find(op).map(|folded| &folded.op)
    }

    /// All ops in the total order, with what became of them.
    pub fn ops(&self) -> &[FoldedOp] {
        &self.ops
    }

    /// What the fold has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn find(&self, op: OpId) -> Option<&FoldedOp> {
        let sought = (*self.places.get(&op)?, op);
        let index = self
            .ops
            .binary_search_by_key(&sought, |folded| place(&folded.op))
            .ok()?;
        self.ops.get(index)
    }

    /// Steps back to the view after the first `keep` ops, or to one before that. Returns the ops that are
    /// to be folded again.
    fn rewind_to(&mut self, keep: usize) -> Vec<FoldedOp> {
        let depth = self.ops.len() - keep;
        if depth == 0 {
            return Vec::new();
        }
        self.counters.rewinds += 1;
        self.checkpoints.truncate(
            self.checkpoints
                .partition_point(|checkpoint| checkpoint.ops <= keep),
        );
        let mut from = keep;
        if depth <= self.steps.len() {
            for step in self.steps.drain(self.steps.len() - depth..).rev() {
                undo(&mut self.cloud, step.priors.into_iter());
                self.cloud.position = step.position;
            }
        } else {
            self.counters.deep_rewinds += 1;
            self.steps.clear();
            let last = self.checkpoints.last();
            from = last.map_or(0, |checkpoint| checkpoint.ops);
            self.cloud = last.map_or_else(
                || Cloud::new(self.cloud.genesis.clone()),
                |checkpoint| checkpoint.cloud.clone(),
            );
        }
        let tail = self.ops.split_off(from);
        self.counters.refolded_ops += tail.len() as u64;
        tail
    }

    fn fold(&mut self, pending: Pending, changes: &mut Vec<Change>) {
        let Pending { op, told } = pending;
        let position = self.cloud.position;
        let mut writer = Writer::new(&mut self.cloud);
        let mut outcomes = Vec::with_capacity(op.body().entries.len());
        for index in 0..op.body().entries.len() {
            let (kind, outcome) = entries::apply(&mut writer, &op, index);
            let earlier = told.as_ref().and_then(|told| told.get(index));
            if earlier != Some(&outcome) {
                let turned = earlier.is_some();
                self.counters.turned += u64::from(turned);
                let entry = index as u32;
                changes.push(Change {
                    op: op.id(),
                    entry,
                    kind,
                    outcome: outcome.clone(),
                    turned,
                });
            }
            outcomes.push(outcome);
        }
        let priors = writer.into_priors();
        self.cloud.position = Position {
            ops: position.ops + 1,
            hlc: position.hlc.max(op.body().hlc),
        };
        self.ops.push(FoldedOp {
            op,
            outcomes: outcomes.into(),
        });
        if self.steps.len() == self.window {
            self.steps.pop_front();
        }
        self.steps.push_back(Step { position, priors });
        if self.ops.len().is_multiple_of(self.window) {
            self.checkpoint();
        }
    }

    fn checkpoint(&mut self) {
        let ops = self.ops.len();
        if self.checkpoints.last().is_some_and(|last| last.ops >= ops) {
            return;
        }
        if self.checkpoints.len() == CHECKPOINTS_MAX {
            self.checkpoints.remove(self.least_missed(ops));
        }
        self.checkpoints.push(Checkpoint {
            ops,
            cloud: self.cloud.clone(),
        });
    }

    /// The checkpoint whose absence costs a rewind the least: the gap that it leaves, in proportion to how
    /// far back it lies.
    fn least_missed(&self, head: usize) -> usize {
        let gap = |index: usize| {
            let before = index
                .checked_sub(1)
                .map_or(0, |before| self.checkpoints[before].ops);
            let after = self.checkpoints.get(index + 1).map_or(head, |after| after.ops);
            (after - before) as u128
        };
        let distance = |index: usize| (head - self.checkpoints[index].ops) as u128;
        (0..self.checkpoints.len())
            .min_by(|&left, &right| (gap(left) * distance(right)).cmp(&(gap(right) * distance(left))))
            .unwrap_or(0)
    }
}

fn place(op: &Op) -> Place {
    (op.order(), op.id())
}

/// Both in one order; both are in order already.
fn merge(tail: Vec<FoldedOp>, new: Vec<(Place, Op)>) -> impl Iterator<Item = Pending> {
    let mut tail = tail.into_iter().peekable();
    let mut new = new.into_iter().peekable();
    std::iter::from_fn(move || {
        let late = match (tail.peek(), new.peek()) {
            (Some(folded), Some((first, _))) => *first < place(&folded.op),
            (folded, _) => folded.is_none(),
        };
        if late {
            new.next().map(|(_, op)| Pending { op, told: None })
        } else {
            tail.next().map(|FoldedOp { op, outcomes }| Pending {
                op,
                told: Some(outcomes),
            })
        }
    })
}
