//! Keeps a `Cloud` up to date: ops come in any causally closed order, and are folded in the total order.
//!
//! ```text
//!   ops          final ──────────────▶│ tentative ─────────────────────────────▶ in the total order
//!   checkpoints                       ■ the final view       ■        ■          waypoints of the Cloud
//!   undo log                                           ◀──────window──────────▶  what each op changed
//! ```
//! What a certificate covers is **final**: it stands in its order after what was final before, is never
//! folded again, and leaves memory but for the last [`FINAL_WINDOW_OPS`]. All other ops are **tentative** and
//! come after it by their clocks. One that belongs before others rewinds to its place: by the undo log when
//! that is within the window, else from the copy before it; then all from there on is folded again. What was
//! told of an op and no longer holds is told again, as turned.
//!
//! An op that is **denied** keeps its place and changes nothing: one of a chain in quarantine (see
//! [`Fold::exclude`]), and one that a revocation cuts off (see [`crate::revocations`]).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Deref;
use std::sync::{Arc, OnceLock};

use ledger::finality::checkpoint::Checkpoint;
use ledger::genesis::Genesis;
use ledger::id::{NodeId, OpId};
use ledger::op::{Chain, ENTRIES_MAX, Op, OrderKey};

use crate::cloud::{Cloud, Position};
use crate::denials::{self, Asked, Standing};
use crate::entries;
use crate::outcome::{Outcome, Void};
use crate::undo::{Certified, TouchedKey, UndoLog, Writer};

/// How many of the last ops can be undone one by one, and how far apart waypoints stand.
pub const WINDOW_OPS: usize = 4096;

/// Waypoints kept, at most. Beyond that the one that is missed least goes: they stand the sparser
/// the further back, so that a rewind costs in proportion to its depth.
pub const CHECKPOINTS_MAX: usize = 16;

/// Final ops kept for [`Fold::op`] and [`Fold::outcomes`]: the last ones.
pub const FINAL_WINDOW_OPS: usize = 1024;

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
    /// Another outcome was told before: a late op, a certificate or a denial turned it.
    pub turned: bool,
}

/// What came of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finalized {
    /// What became of entries, new or turned, the final ones first.
    pub changes: Vec<Change>,
    /// All that may differ between the final view before and the one now, beside the fields that are no maps;
    /// in ascending order. For [`Fold::final_cloud`]'s state tree.
    pub touched: Vec<TouchedKey>,
}

/// What the fold has done, for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Times that a late op made the fold step back.
    pub rewinds: u64,
    /// Of these, the ones beyond the undo log, from a waypoint.
    pub deep_rewinds: u64,
    /// Ops that were folded again.
    pub refolded_ops: u64,
    /// Entries whose outcome turned.
    pub turned: u64,
    /// Waypoints that stand now, beside the final view.
    pub checkpoints: u64,
    /// Ops that became final here.
    pub final_ops: u64,
}

/// What became of an op's entries, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcomes(Came);

/// Most ops are applied whole; these take no memory of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Came {
    Applied(u8),
    Mixed(Box<[Outcome]>),
}

static APPLIED: [Outcome; ENTRIES_MAX] = [const { Outcome::Applied }; ENTRIES_MAX];

impl Deref for Outcomes {
    type Target = [Outcome];

    fn deref(&self) -> &[Outcome] {
        match &self.0 {
            Came::Applied(count) => &APPLIED[..usize::from(*count)],
            Came::Mixed(outcomes) => outcomes,
        }
    }
}

/// An op in its place, with what became of its entries.
#[derive(Clone, Debug)]
pub struct FoldedOp {
    /// The op.
    pub op: Op,
    /// What became of each of its entries.
    pub outcomes: Outcomes,
    told: Told,
}

/// What was told of an op before the call that goes on.
#[derive(Clone, Debug)]
enum Told {
    /// What stands beside it.
    This,
    /// Something else, or the same.
    Before(Outcomes),
    /// Nothing.
    Nothing,
}

/// The place of an op. The id settles what cannot be, two ops in one slot, alike everywhere.
type Place = (OrderKey, OpId);

/// The view after the first `ops` tentative ops.
#[derive(Debug)]
struct Waypoint {
    ops: usize,
    cloud: Cloud,
}

/// A `Cloud` that follows a growing set of ops.
#[derive(Debug)]
pub struct Fold {
    cloud: Cloud,
    /// The view as readers get it, made when one asks.
    published: OnceLock<Arc<Cloud>>,
    /// The view at the end of what is final.
    settled: Arc<Cloud>,
    /// The last of the final ops, the newest at the back.
    recent: VecDeque<FoldedOp>,
    /// All tentative ops, in order; those in `cloud` are all of them between two calls.
    ops: Vec<FoldedOp>,
    places: HashMap<OpId, OrderKey>,
    undo: UndoLog,
    waypoints: Vec<Waypoint>,
    window: usize,
    /// From where on a chain's ops do not count unless they are final.
    quarantine: BTreeMap<Chain, u64>,
    /// Tentative ops that tentative revocations deny.
    denied: BTreeSet<OpId>,
    /// The first op that was folded by the call that goes on.
    low: usize,
    counters: Counters,
    rules: Rules,
}

/// What becomes of one entry of an op.
pub(crate) type Rules = fn(&mut Writer<'_>, &Op, usize) -> Outcome;

/// An op that waits to be folded, with what was told of it before.
struct Pending {
    op: Op,
    told: Told,
}

impl Fold {
    /// The view before the first op.
    pub fn new(genesis: Genesis) -> Self {
        Self::with_window(genesis, WINDOW_OPS)
    }

    /// As [`Self::new`] with another window than [`WINDOW_OPS`]; it changes the cost of a rewind, never the
    /// view. At least 1.
    pub fn with_window(genesis: Genesis, window: usize) -> Self {
        let mut fold = Self::from_final(Cloud::new(genesis));
        fold.window = window.max(1);
        fold
    }

    /// Goes on from a final view: a snapshot's. Which chains are in quarantine has to be told again.
    pub fn from_final(cloud: Cloud) -> Self {
        Self {
            settled: Arc::new(cloud.clone()),
            cloud,
            published: OnceLock::new(),
            recent: VecDeque::new(),
            ops: Vec::new(),
            places: HashMap::new(),
            undo: UndoLog::default(),
            waypoints: Vec::new(),
            window: WINDOW_OPS,
            quarantine: BTreeMap::new(),
            denied: BTreeSet::new(),
            low: 0,
            counters: Counters::default(),
            rules: entries::apply,
        }
    }

    /// By other rules than those of this network.
    #[cfg(test)]
    pub(crate) fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// Takes ops in any causally closed order of arrival, as tentative ones. Those that belong before others
    /// rewind to their place in the total order; all of one call are folded in one go. Ops that are in
    /// already, or in whose place stands a final one, are passed over. Tells what became of each entry of
    /// the new ops, and of the older ones what turned, in order.
    pub fn apply(&mut self, ops: Vec<Op>) -> Vec<Change> {
        let mut new: Vec<(Place, Op)> = ops
            .into_iter()
            .filter(|op| !self.places.contains_key(&op.id()) && !self.is_below_final(op))
            .map(|op| (place(&op), op))
            .collect();
        if !new.is_sorted_by(|(a, _), (b, _)| a < b) {
            new.sort_unstable_by_key(|(place, _)| *place);
            new.dedup_by_key(|(place, _)| *place);
        }
        let Some((first, _)) = new.first() else {
            return Vec::new();
        };
        let keep = self.ops.partition_point(|folded| place(&folded.op) < *first);
        self.begin();
        let tail = self.rewind_to(keep.min(self.first_denied()));
        self.denied.clear();
        self.places
            .extend(new.iter().map(|(place, op)| (op.id(), place.0)));
        self.fold_all(merge(tail, new), Standing::Tentative);
        self.tell()
    }

    /// Makes `covered` final: the ops that `checkpoint` adds to the one before, in any order. They take their
    /// place after what was final before; those that were not here come in with it. All others stay tentative,
    /// now after these, and are folded again: the certificate's time is later than that of the one before.
    ///
    /// The caller has verified the certificate, and calls once for each height, in order. A log that is read
    /// back is best given checkpoint by checkpoint, without [`Self::apply`] in between: then each op is
    /// folded once.
    pub fn finalize(&mut self, checkpoint: &Checkpoint, covered: Vec<Op>) -> Finalized {
        let mut covered: Vec<(Place, Op)> = covered.into_iter().map(|op| (place(&op), op)).collect();
        covered.sort_unstable_by_key(|(place, _)| *place);
        covered.dedup_by_key(|(place, _)| *place);
        self.begin();
        // What stands as it will be final need not be folded again.
        let same = |(folded, (place_of, _)): &(&FoldedOp, &(Place, Op))| {
            place(&folded.op) == *place_of && !self.is_quarantined(&folded.op)
        };
        let same = self.ops.iter().zip(&covered).take_while(same).count();
        let mut keep = same.min(self.first_denied());
        if self.undo.len() < self.ops.len() {
            // The notes of the first ops are gone, and what they touched has to be known.
            keep = 0;
        }
        let mut tail = self.rewind_to(keep);
        self.denied.clear();
        let is_covered = |op: &Op| {
            covered
                .binary_search_by_key(&place(op), |(place, _)| *place)
                .is_ok()
        };
        let rest: Vec<FoldedOp> = tail.extract_if(.., |folded| !is_covered(&folded.op)).collect();
        for (place, op) in &covered {
            self.places.insert(op.id(), place.0);
        }
        let new = covered.split_off(keep);
        self.fold_all(merge(tail, new), Standing::Final);
        let mut finalized = Finalized {
            changes: self.tell(),
            touched: self.settle(checkpoint),
        };
        let (stale, rest): (Vec<_>, Vec<_>) = rest
            .into_iter()
            .partition(|folded| self.is_below_final(&folded.op));
        for folded in stale {
            self.drop_stale(folded, &mut finalized.changes);
        }
        self.low = 0;
        self.fold_all(rest.into_iter().map(Pending::from), Standing::Tentative);
        finalized.changes.extend(self.tell());
        finalized
    }

    /// A chain's ops from a place on count no longer, as far as they are not final: it was forked there, and
    /// neither branch counts. They keep their places, void. What comes of them later is void from the
    /// beginning; a certificate that covers them makes them count after all.
    pub fn exclude(&mut self, chain: Chain, from_seq: u64) -> Vec<Change> {
        let from = self.quarantine.entry(chain).or_insert(u64::MAX);
        if *from <= from_seq {
            return Vec::new();
        }
        *from = from_seq;
        let slot = |folded: &FoldedOp| {
            let slot = folded.op.slot();
            slot.chain == chain && slot.seq >= from_seq
        };
        let Some(first) = self.ops.iter().position(slot) else {
            return Vec::new();
        };
        self.begin();
        let tail = self.rewind_to(first.min(self.first_denied()));
        self.denied.clear();
        self.fold_all(tail.into_iter().map(Pending::from), Standing::Tentative);
        self.tell()
    }

    /// The view, to share. Costs next to nothing: its maps share their nodes with the fold's.
    pub fn cloud(&self) -> Arc<Cloud> {
        Arc::clone(self.published.get_or_init(|| Arc::new(self.cloud.clone())))
    }

    /// The view at the end of what is final.
    pub fn final_cloud(&self) -> Arc<Cloud> {
        Arc::clone(&self.settled)
    }

    /// What became of each entry of an op; none if the op is not in the fold, or final for long: what
    /// became of that is in the journal.
    pub fn outcomes(&self, op: OpId) -> Option<&[Outcome]> {
        self.find(op).map(|folded| &*folded.outcomes)
    }

    /// An op that is in the fold; none also for one that is final for long: that is in the store.
    pub fn op(&self, op: OpId) -> Option<&Op> {
        self.find(op).map(|folded| &folded.op)
    }

    /// All tentative ops in the total order, with what became of them.
    pub fn ops(&self) -> &[FoldedOp] {
        &self.ops
    }

    /// The last final ops in their order, at most [`FINAL_WINDOW_OPS`].
    pub fn final_ops(&self) -> impl ExactSizeIterator<Item = &FoldedOp> {
        self.recent.iter()
    }

    /// What the fold has done so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    fn find(&self, op: OpId) -> Option<&FoldedOp> {
        let Some(order) = self.places.get(&op) else {
            return self.recent.iter().rev().find(|folded| folded.op.id() == op);
        };
        self.ops.get(self.index(&(*order, op)))
    }

    fn index(&self, sought: &Place) -> usize {
        self.ops.partition_point(|folded| place(&folded.op) < *sought)
    }

    /// A call begins that changes the view. What no reader holds any more is then changed in place.
    fn begin(&mut self) {
        self.published = OnceLock::new();
        self.low = self.ops.len();
    }

    fn is_below_final(&self, op: &Op) -> bool {
        let slot = op.slot();
        let certified = self.settled.certified.get(&slot.chain);
        certified.is_some_and(|head| slot.seq < head.next)
    }

    fn is_quarantined(&self, op: &Op) -> bool {
        let slot = op.slot();
        let from = self.quarantine.get(&slot.chain);
        from.is_some_and(|from| slot.seq >= *from)
    }

    /// Where the first op stands that a tentative revocation denies. Which ones it denies is asked anew
    /// whenever something changes.
    fn first_denied(&self) -> usize {
        let places = self
            .denied
            .iter()
            .filter_map(|id| Some((*self.places.get(id)?, *id)));
        places.min().map_or(usize::MAX, |first| self.index(&first))
    }

    /// Why an op does not count, whatever it says.
    fn denial(&self, op: &Op, standing: Standing) -> Option<Void> {
        if standing == Standing::Tentative && !self.quarantine.is_empty() && self.is_quarantined(op) {
            return Some(Void::Quarantined);
        }
        let height = self.settled.finality.height;
        let by_final = || {
            let revocation = self.settled.revocations.get(&op.node());
            revocation.is_some_and(|it| denials::denied_by_final(it, height, op))
        };
        let denied = (!self.denied.is_empty() && self.denied.contains(&op.id()))
            || (!self.settled.revocations.is_empty() && by_final());
        denied.then_some(Void::CutOff)
    }

    /// Steps back to the view after the first `keep` tentative ops, or to one before that. Returns the ops
    /// that are to be folded again.
    fn rewind_to(&mut self, keep: usize) -> Vec<FoldedOp> {
        let depth = self.ops.len().saturating_sub(keep);
        if depth == 0 {
            return Vec::new();
        }
        self.counters.rewinds += 1;
        self.waypoints
            .truncate(self.waypoints.partition_point(|it| it.ops <= keep));
        let mut from = keep;
        if depth <= self.undo.len() {
            for _ in 0..depth {
                self.undo.undo_step(&mut self.cloud);
            }
        } else {
            self.counters.deep_rewinds += 1;
            self.undo.clear();
            let last = self.waypoints.last();
            from = last.map_or(0, |it| it.ops);
            self.cloud = last.map_or_else(|| Cloud::clone(&self.settled), |it| it.cloud.clone());
        }
        self.low = self.low.min(from);
        let tail = self.ops.split_off(from);
        self.counters.refolded_ops += tail.len() as u64;
        tail
    }

    /// Folds ops after those that are folded, in their order; then asks what the revocations among them deny,
    /// and folds again without it, until nothing is added.
    fn fold_all(&mut self, ops: impl Iterator<Item = Pending>, standing: Standing) {
        for pending in ops {
            self.fold(pending, standing);
        }
        let mut asked = Asked::new();
        while let Some(first) = self.deny(standing, &mut asked) {
            for folded in self.rewind_to(first) {
                self.fold(folded.into(), standing);
            }
        }
        self.counters.checkpoints = self.waypoints.len() as u64;
    }

    /// Notes what the next revocation denies, and tells where the first of it stands.
    fn deny(&mut self, standing: Standing, asked: &mut Asked) -> Option<usize> {
        if self.cloud.revocations.is_empty() || self.cloud.revocations.ptr_eq(&self.settled.revocations) {
            return None;
        }
        let settled = &self.settled.revocations;
        let is_new = |node: &NodeId, op| settled.get(node).is_none_or(|known| known.op != op);
        let new = self.cloud.revocations.iter().map(|(node, it)| (*node, it));
        let new: Vec<_> = new.filter(|(node, it)| is_new(node, it.op)).collect();
        let ops: Vec<&Op> = self.ops.iter().map(|folded| &folded.op).collect();
        let height = self.settled.finality.height;
        let more = denials::next(&ops, &new, standing, height, &self.denied, asked);
        let first = self.index(&place(more.first()?));
        let more: Vec<OpId> = more.into_iter().map(Op::id).collect();
        self.denied.extend(more);
        Some(first)
    }

    fn fold(&mut self, pending: Pending, standing: Standing) {
        let Pending { op, told } = pending;
        let before = self.cloud.position;
        let denial = self.denial(&op, standing);
        let after = match denial {
            Some(_) => before,
            None => Position {
                ops: before.ops + 1,
                hlc: before.hlc.max(op.body().hlc),
            },
        };
        let count = op.body().entries.len();
        let mut outcomes = Outcomes(Came::Applied(count as u8));
        let mut writer = Writer::new(&mut self.cloud, &mut self.undo);
        for index in 0..count {
            let outcome = match &denial {
                Some(void) => Outcome::Void(void.clone()),
                None => (self.rules)(&mut writer, &op, index),
            };
            if outcome != Outcome::Applied {
                outcomes.set(index, outcome);
            }
        }
        writer.end(after);
        self.ops.push(FoldedOp { op, outcomes, told });
        if standing == Standing::Tentative {
            self.undo.keep(self.window);
            if self.ops.len().is_multiple_of(self.window) {
                self.mark();
            }
        }
    }

    /// Tells what became of what the call folded, as far as it was not told.
    fn tell(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let network = self.cloud.network;
        for folded in &mut self.ops[self.low..] {
            let told = std::mem::replace(&mut folded.told, Told::This);
            let earlier = match &told {
                Told::This => continue,
                Told::Before(earlier) => Some(earlier),
                Told::Nothing => None,
            };
            if earlier == Some(&folded.outcomes) {
                continue;
            }
            for (index, outcome) in folded.outcomes.iter().enumerate() {
                if earlier.is_some_and(|earlier| earlier[index] == *outcome) {
                    continue;
                }
                let turned = earlier.is_some();
                self.counters.turned += u64::from(turned);
                changes.push(Change {
                    op: folded.op.id(),
                    entry: index as u32,
                    kind: entries::kind_of(network, &folded.op, index),
                    outcome: outcome.clone(),
                    turned,
                });
            }
        }
        self.low = self.ops.len();
        changes
    }

    /// All that is folded is final now. Tells what it touched.
    fn settle(&mut self, checkpoint: &Checkpoint) -> Vec<TouchedKey> {
        self.cloud.finality = self.cloud.finality.after(self.cloud.network, checkpoint);
        let mut writer = Writer::new(&mut self.cloud, &mut self.undo);
        for (chain, head) in &checkpoint.heads {
            writer.put::<Certified>(*chain, *head);
        }
        let touched = self.undo.touched();
        for folded in &self.ops {
            self.places.remove(&folded.op.id());
        }
        self.counters.final_ops += self.ops.len() as u64;
        let skipped = self.ops.len().saturating_sub(FINAL_WINDOW_OPS);
        self.recent.extend(self.ops.drain(..).skip(skipped));
        self.recent
            .drain(..self.recent.len().saturating_sub(FINAL_WINDOW_OPS));
        self.undo.clear();
        self.waypoints.clear();
        self.denied.clear();
        self.settled = Arc::new(self.cloud.clone());
        touched
    }

    /// An op in whose place another one is final now: it leaves the fold.
    fn drop_stale(&mut self, mut folded: FoldedOp, changes: &mut Vec<Change>) {
        self.places.remove(&folded.op.id());
        folded.told = Told::Before(folded.outcomes.clone());
        for index in 0..folded.outcomes.len() {
            folded.outcomes.set(index, Outcome::Void(Void::Quarantined));
        }
        let rest = std::mem::replace(&mut self.ops, vec![folded]);
        self.low = 0;
        changes.extend(self.tell());
        self.ops = rest;
    }

    fn mark(&mut self) {
        let ops = self.ops.len();
        if self.waypoints.last().is_some_and(|last| last.ops >= ops) {
            return;
        }
        if self.waypoints.len() == CHECKPOINTS_MAX {
            self.waypoints.remove(self.least_missed(ops));
        }
        self.waypoints.push(Waypoint {
            ops,
            cloud: self.cloud.clone(),
        });
    }

    /// The waypoint whose absence costs a rewind the least: the gap that it leaves, in proportion to how far
    /// back it lies.
    fn least_missed(&self, head: usize) -> usize {
        let gap = |index: usize| {
            let before = index
                .checked_sub(1)
                .map_or(0, |before| self.waypoints[before].ops);
            let after = self.waypoints.get(index + 1).map_or(head, |after| after.ops);
            (after - before) as u128
        };
        let distance = |index: usize| (head - self.waypoints[index].ops) as u128;
        (0..self.waypoints.len())
            .min_by(|&left, &right| (gap(left) * distance(right)).cmp(&(gap(right) * distance(left))))
            .unwrap_or(0)
    }
}

impl Outcomes {
    fn set(&mut self, index: usize, outcome: Outcome) {
        if let Came::Applied(_) = self.0 {
            self.0 = Came::Mixed(self.to_vec().into());
        }
        if let Came::Mixed(outcomes) = &mut self.0 {
            outcomes[index] = outcome;
        }
    }
}

impl From<FoldedOp> for Pending {
    fn from(folded: FoldedOp) -> Self {
        let FoldedOp { op, outcomes, told } = folded;
        let told = match told {
            Told::This => Told::Before(outcomes),
            told => told,
        };
        Self { op, told }
    }
}

fn place(op: &Op) -> Place {
    (op.order(), op.id())
}

/// Both in one order; both are in order already. What is in both is there once.
fn merge(tail: Vec<FoldedOp>, new: Vec<(Place, Op)>) -> impl Iterator<Item = Pending> {
    let mut tail = tail.into_iter().peekable();
    let mut new = new.into_iter().peekable();
    std::iter::from_fn(move || {
        let late = match (tail.peek(), new.peek()) {
            (Some(folded), Some((first, _))) => {
                let here = place(&folded.op);
                if here == *first {
                    new.next();
                }
                new.peek().is_some_and(|(first, _)| *first < here)
            }
            (folded, _) => folded.is_none(),
        };
        if late {
            let told = Told::Nothing;
            new.next().map(|(_, op)| Pending { op, told })
        } else {
            tail.next().map(Pending::from)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_op_takes_little_beside_itself() {
        assert!(size_of::<FoldedOp>() <= 48, "{}", size_of::<FoldedOp>());
        assert!(
            size_of::<crate::undo::Prior>() <= 96,
            "{}",
            size_of::<crate::undo::Prior>()
        );
    }
}
