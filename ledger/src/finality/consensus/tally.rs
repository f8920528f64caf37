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
}

/// One round: a proposal, and of each witness one vote of each kind. The first vote of a witness is the one
/// that counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Round {
    pub(super) offer: Option<Offer>,
    pub(super) votes: BTreeMap<(VoteKind, u8), Vote>,
}

impl Round {
    fn weight(&self, set: &WitnessSet, counts: impl Fn(&Vote) -> bool) -> u64 {
        self.votes
            .iter()
            .filter(|(_, vote)| counts(vote))
            .filter_map(|((_, place), _)| set.at(usize::from(*place)))
            .map(|witness| u64::from(witness.weight))
            .sum()
    }

    /// Whether more than two thirds voted for this, or for none where it is nothing.
    pub(super) fn has_quorum(&self, set: &WitnessSet, kind: VoteKind, value: Option<CheckpointId>) -> bool {
        set.is_quorum(self.weight(set, |vote| vote.kind == kind && vote.checkpoint == value))
    }

    /// Whether more than two thirds voted, for whatever it was.
    pub(super) fn has_votes(&self, set: &WitnessSet, kind: VoteKind) -> bool {
        set.is_quorum(self.weight(set, |vote| vote.kind == kind))
    }

    /// The checkpoint for which more than two thirds voted.
    pub(super) fn chosen(&self, set: &WitnessSet, kind: VoteKind) -> Option<CheckpointId> {
        let of_kind = self.votes.values().filter(|vote| vote.kind == kind);
        // Two quorums share a witness, and each counts once: there is at most one.
        of_kind
            .filter_map(|vote| vote.checkpoint)
            .find(|id| self.has_quorum(set, kind, Some(*id)))
    }

    /// Whether an honest witness must have found this checkpoint good.
    pub(super) fn is_wanted(&self, set: &WitnessSet, id: CheckpointId) -> bool {
        [VoteKind::Prevote, VoteKind::Precommit].into_iter().any(|kind| {
            set.is_blocking(self.weight(set, |vote| vote.kind == kind && vote.checkpoint == Some(id)))
        })
    }

    /// Whether anything here names this checkpoint.
    pub(super) fn names(&self, id: CheckpointId) -> bool {
        self.offer.is_some_and(|offer| offer.id == id)
            || self.votes.values().any(|vote| vote.checkpoint == Some(id))
    }
}
