//! What was said at one height, round by round, and how much weight stands behind it.

use std::collections::BTreeMap;

use crate::finality::checkpoint::{Checkpoint, VoteKind};
use crate::finality::vote::Vote;
use crate::finality::witness::WitnessSet;
use crate::id::CheckpointId;
use crate::key::Signature;

/// The proposal of a round without its checkpoint, which stands in [`Known`] once for all rounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offer {
    pub(super) id: CheckpointId,
    pub(super) valid_round: Option<u32>,
    pub(super) signature: Signature,
}

/// A checkpoint that was proposed, and what the caller said of it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) checkpoint: Checkpoint,
    pub(super) good: Option<bool>,
    /// Its time was near the own clock when it was judged.
    pub(super) timely: bool,
}

/// One round: a proposal, and what each witness voted.
///
/// An honest witness has one vote of a kind. Of a liar who tells each a different one, another vote is kept
/// where more than a third stand behind what it is for, so that an honest witness is among them. It has to be:
/// who holds more than two thirds for a checkpoint, the liar among them, locks on it, and unless all others
/// can hold the same votes they never follow (the paper assumes that what one honest process has, all get).
/// Two values at most have a third, so a liar fills three places a round and kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub(super) offer: Option<Offer>,
    /// The first vote of each witness, by place.
    first: BTreeMap<(VoteKind, u8), Vote>,
    /// Further votes of liars.
    further: BTreeMap<(VoteKind, u8, Option<CheckpointId>), Vote>,
}

impl Round {
    /// All votes.
    pub(super) fn votes(&self) -> impl Iterator<Item = &Vote> {
        self.first.values().chain(self.further.values())
    }

    /// The first vote of a witness.
    pub(super) fn first(&self, kind: VoteKind, place: u8) -> Option<&Vote> {
        self.first.get(&(kind, place))
    }

    /// Whether this vote is here.
    pub(super) fn has(&self, kind: VoteKind, place: u8, value: Option<CheckpointId>) -> bool {
        self.further.contains_key(&(kind, place, value))
            || self
                .first(kind, place)
                .is_some_and(|vote| vote.checkpoint == value)
    }

    /// Counts a vote: the first of its witness, or one for what is wanted.
    pub(super) fn count(&mut self, set: &WitnessSet, place: u8, vote: Vote) {
        let (kind, value) = (vote.kind, vote.checkpoint);
        if self.first(kind, place).is_none() {
            self.first.insert((kind, place), vote);
        } else if !self.has(kind, place, value) && self.is_wanted(set, kind, value) {
            self.further.insert((kind, place, value), vote);
        }
    }

    /// The votes for this, or for none where it is nothing, with their places in ascending order: of each
    /// witness one.
    pub(super) fn votes_for(&self, kind: VoteKind, value: Option<CheckpointId>) -> BTreeMap<u8, &Vote> {
        let first = self
            .first
            .iter()
            .map(|((kind, place), vote)| (*kind, *place, vote));
        let further = self
            .further
            .iter()
            .map(|((kind, place, _), vote)| (*kind, *place, vote));
        first
            .chain(further)
            .filter(|(of, _, vote)| *of == kind && vote.checkpoint == value)
            .map(|(_, place, vote)| (place, vote))
            .collect()
    }

    /// Whether more than two thirds voted for this, or for none where it is nothing.
    pub(super) fn has_quorum(&self, set: &WitnessSet, kind: VoteKind, value: Option<CheckpointId>) -> bool {
        set.is_quorum(weight(set, self.votes_for(kind, value).into_keys()))
    }

    /// Whether more than two thirds voted, for whatever it was.
    pub(super) fn has_votes(&self, set: &WitnessSet, kind: VoteKind) -> bool {
        let places = self.first.keys().filter(|(of, _)| *of == kind);
        set.is_quorum(weight(set, places.map(|(_, place)| *place)))
    }

    /// The checkpoint for which more than two thirds voted. Two quorums share an honest witness, so there is
    /// at most one.
    pub(super) fn chosen(&self, set: &WitnessSet, kind: VoteKind) -> Option<CheckpointId> {
        let first = self.first.values().filter(|vote| vote.kind == kind);
        first
            .filter_map(|vote| vote.checkpoint)
            .find(|id| self.has_quorum(set, kind, Some(*id)))
    }

    /// Whether an honest witness must have voted for this, as far as first votes say.
    pub(super) fn is_wanted(&self, set: &WitnessSet, kind: VoteKind, value: Option<CheckpointId>) -> bool {
        let behind = self
            .first
            .iter()
            .filter(|((of, _), vote)| *of == kind && vote.checkpoint == value);
        set.is_blocking(weight(set, behind.map(|((_, place), _)| *place)))
    }

    /// Forgets votes of others that are part of no quorum.
    #[cfg(test)]
    pub(super) fn keep_quorums(&mut self, set: &WitnessSet, own: Option<u8>) {
        let whole = self.clone();
        let keep = |kind, place, value| own == Some(place) || whole.has_quorum(set, kind, value);
        self.first
            .retain(|(kind, place), vote| keep(*kind, *place, vote.checkpoint));
        self.further
            .retain(|(kind, place, value), _| keep(*kind, *place, *value));
    }

    /// Whether anything here names this checkpoint.
    pub(super) fn names(&self, id: CheckpointId) -> bool {
        self.offer.is_some_and(|offer| offer.id == id) || self.votes().any(|vote| vote.checkpoint == Some(id))
    }
}

fn weight(set: &WitnessSet, places: impl Iterator<Item = u8>) -> u64 {
    places
        .filter_map(|place| set.at(usize::from(place)))
        .map(|witness| u64::from(witness.weight))
        .sum()
}
