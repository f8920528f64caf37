//! Tendermint's rule for one node at one height: arXiv 1807.04938, "The latest gossip on BFT consensus",
//! Algorithm 1. Each rule in `rules.rs` names the lines of the paper that it is.
//!
//! It is pure: messages, the caller's answers and the time go in, what to do comes out.
//!
//! ```text
//!             begin, or a message of the height
//!                │
//!    ┌──────────▼ round r: the proposer's turn
//!    │       PROPOSE ──── good proposal, not locked elsewhere ──▶ prevote it ───┐
//!    │          └──── bad, or locked elsewhere, or too late ────▶ prevote none ─┤
//!    │                                                                          ▼
//!    │       PREVOTE ──── > 2/3 prevoted it ────────▶ lock it, precommit it ────┐
//!    │          ├──── too late ───────────────────────────▶ precommit none ────┤
//!    │── r + 1 ─┴──── > 2/3 prevoted none ──────────────────▶ precommit none    │
//!    │                                                                          ▼
//!    │      PRECOMMIT ─── > 2/3 precommitted it, in whatever round ──▶ DECIDED: the certificate
//!    └── r + 1 ─┴──── > 2/3 precommitted anything, and too late
//!    └── r' ───────── > 1/3 are at round r' or later
//! ```
//! **Durable before told.** Every own proposal, vote and lock is first an [`Output::Persist`]: the caller
//! makes it durable before it performs the outputs that follow. A witness that restarts hands its records to
//! [`Consensus::new`] and never votes otherwise than it did.
//!
//! **Silent when idle.** A height starts when the caller asks ([`Consensus::begin`]) or when another witness
//! says something at it.
//!
//! **The caller** tells [`Output::Broadcast`] to all witnesses; while a height runs, it tells
//! [`Consensus::messages`] again from time to time to peers that may have missed them; it calls
//! [`Input::Tick`] at [`Consensus::deadline`]. To a peer that is at an earlier height it sends certificates.
//! After [`Output::Decided`], or when it has the height's certificate from elsewhere, it makes the next
//! height's `Consensus` and gives it [`Consensus::into_early`].
//!
//! Differences from the paper, none of which touches its proof of agreement: line 49 does not ask whether
//! this node found the checkpoint good, since the certificate proves it to everybody who never saw the
//! proposal as well; where more than two thirds prevoted none, nobody can be locked in the round and the next
//! one starts at once, without the wait of line 47; line 55 takes witnesses at the same *or a later* round; a checkpoint is known by its id
//! from whichever proposal brought it.

mod rules;
mod tally;

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::tally::{Known, Offer, Round};
use super::checkpoint::{Certificate, Checkpoint, VoteKind};
use super::recovery::{Admins, SignedRecovery};
use super::vote::{Evidence, Message, Proposal, Record, Vote};
use super::witness::WitnessSet;
use crate::admit::Verify;
use crate::id::{CheckpointId, NetworkId, NodeId, RecoveryId};
use crate::key::{Check, SecretKey};

/// How long a proposal is waited for in round 0, in milliseconds.
pub const PROPOSE_MS: u64 = 150;

/// How long votes are waited for in round 0 once more than two thirds voted without agreeing, in milliseconds.
pub const VOTE_MS: u64 = 100;

/// By how much each further round waits longer, in milliseconds: once it is longer than messages take, a
/// round succeeds.
pub const ROUND_MS: u64 = 100;

/// Rounds before the current one whose votes and proposals are kept and accepted. Those before are dropped,
/// but for that of the valid value and the one that the current proposal rests on.
pub const ROUNDS_BEHIND: u32 = 16;

/// Rounds after the current one whose votes and proposals are kept. Of those after them it is only noted that
/// the witness is there.
pub const ROUNDS_AHEAD: u32 = 4;

/// Which height is agreed on, and by whom.
#[derive(Clone, Debug)]
pub struct Height {
    /// The network.
    pub network: NetworkId,
    /// From 1.
    pub height: u64,
    /// The checkpoint certified before; zeros for none.
    pub previous: CheckpointId,
    /// Who votes.
    pub witnesses: WitnessSet,
    /// Who may name others when a quorum is lost.
    pub admins: Admins,
    /// Whether signatures of votes and proposals are made and checked. Those of a recovery always are.
    pub verify: Verify,
}

/// What goes in.
#[derive(Clone, Debug)]
pub enum Input {
    /// From another witness, decoded. Its signature is checked here.
    Message(Message),
    /// The answer to [`Output::Judge`]: whether the checkpoint is good. As long as its ops are not here, the
    /// caller does not answer.
    Judged {
        /// Which.
        checkpoint: CheckpointId,
        /// Whether this node would stand by it, its time left aside.
        good: bool,
        /// Whether its time is near this node's clock. It is asked for when a checkpoint is new: one that more
        /// than two thirds prevoted in an earlier round was near the clock of an honest witness then, and a
        /// witness that is locked on it may propose it much later.
        timely: bool,
    },
    /// The answer to [`Output::Propose`].
    Value(Checkpoint),
    /// Time has passed.
    Tick,
}

/// What to do, in this order; all of it before an answer to one of these goes in.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// It is this node's turn: answer with [`Input::Value`], at once or as long as the round lasts.
    Propose {
        /// At which height.
        height: u64,
        /// In which round.
        round: u32,
    },
    /// Say whether this is good, see [`Input::Judged`]: everything in it but height and previous checkpoint.
    Judge(Checkpoint),
    /// Make it durable before any output that follows is performed.
    Persist(Record),
    /// Tell it to all other witnesses.
    Broadcast(Message),
    /// A witness lied.
    Evidence(Evidence),
    /// Somebody votes with this node's key: the key lives twice, or records were lost. This node says nothing
    /// more at this height.
    Twin(Vote),
    /// The height is decided: this is the last output.
    Decided(Certificate),
}

/// Where in a round a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing happens yet.
    Idle,
    /// Waits for the proposal.
    Propose,
    /// Has prevoted.
    Prevote,
    /// Has precommitted.
    Precommit,
    /// Nothing happens any more.
    Decided,
}

/// What a node waits for no longer than a certain time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Propose,
    Prevote,
    Precommit,
}

/// One node at one height. A node that does not vote follows along and decides as well.
#[derive(Clone, Debug)]
pub struct Consensus {
    height: Height,
    me: Option<(NodeId, SecretKey)>,
    /// What named the witnesses in `height`, where that was the admins.
    recovery: Option<(RecoveryId, SignedRecovery)>,
    round: u32,
    step: Step,
    locked: Option<(u32, CheckpointId)>,
    valid: Option<(u32, CheckpointId)>,
    /// What the witness was locked on under a set that was lost: proposed again first.
    inherited: Option<CheckpointId>,
    rounds: BTreeMap<u32, Round>,
    known: BTreeMap<CheckpointId, Known>,
    /// Own votes of all rounds: two a round, and each round takes longer than the one before.
    own: BTreeMap<(u32, VoteKind), Vote>,
    /// The latest round in which each witness, by place, was seen.
    latest: Vec<Option<u32>>,
    /// Witnesses, by place, that were caught lying: one evidence each is enough.
    caught: u64,
    /// Somebody else votes with our key.
    twin: bool,
    /// When each timer runs out.
    timers: BTreeMap<Timer, u64>,
    /// What was said at the next height: one proposal, and of each witness one vote of each kind.
    early: BTreeMap<(u8, Option<VoteKind>), Message>,
}

impl Consensus {
    /// For one height. `me` votes if it is among the witnesses; `stored` are its records, in the order in
    /// which they were written.
    pub fn new(height: Height, me: Option<(NodeId, SecretKey)>, stored: Vec<Record>) -> Self {
        let mut it = Self {
            latest: vec![None; height.witnesses.len()],
            height,
            me,
            recovery: None,
            round: 0,
            step: Step::Idle,
            locked: None,
            valid: None,
            inherited: None,
            rounds: BTreeMap::new(),
            known: BTreeMap::new(),
            own: BTreeMap::new(),
            caught: 0,
            twin: false,
            timers: BTreeMap::new(),
            early: BTreeMap::new(),
        };
        it.restore(stored);
        it
    }

    /// Takes records back: what was written under the last recovery, if there was one.
    fn restore(&mut self, stored: Vec<Record>) {
        for record in &stored {
            if let Record::Recovery(signed) = record
                && let Some(id) = self.accepts_recovery(signed)
            {
                self.change_set(id, signed.clone());
            }
        }
        let (era, at) = (self.era(), self.height.height);
        for record in stored {
            match record {
                Record::Vote(vote) if vote.height == at && vote.recovery == era => {
                    self.round = self.round.max(vote.round);
                    self.own.insert((vote.round, vote.kind), vote);
                    self.count(vote);
                }
                Record::Proposal(proposal) if proposal.height() == at && proposal.recovery == era => {
                    self.round = self.round.max(proposal.round);
                    let id = proposal.checkpoint.id(self.height.network);
                    self.keep_offer(&proposal, id);
                    self.know(id, proposal.checkpoint);
                }
                Record::Lock {
                    round,
                    recovery,
                    checkpoint,
                } if recovery == era && checkpoint.height == at => {
                    let id = checkpoint.id(self.height.network);
                    self.know(id, checkpoint).good = Some(true);
                    self.locked = self.locked.max(Some((round, id)));
                    self.valid = self.locked;
                }
                Record::Lock { checkpoint, .. } if checkpoint.height == at => {
                    let id = checkpoint.id(self.height.network);
                    self.know(id, checkpoint);
                    self.inherited = Some(id);
                }
                _ => {}
            }
        }
        // A precommit without its lock was not written here.
        self.twin = self.own.iter().any(|((round, kind), vote)| {
            *kind == VoteKind::Precommit
                && vote.checkpoint.is_some()
                && self.locked.is_none_or(|(locked, _)| locked < *round)
        });
    }

    /// Starts the height, or goes on with it after a restart: own words of the round are told again.
    pub fn begin(&mut self, now_ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        self.wake(now_ms, &mut out);
        self.advance(now_ms, &mut out);
        out
    }

    fn wake(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.step != Step::Idle || self.height.witnesses.is_empty() {
            return;
        }
        let unjudged = self.known.values().filter(|known| known.good.is_none());
        out.extend(unjudged.map(|known| Output::Judge(known.checkpoint.clone())));
        let has = |kind| self.own.contains_key(&(self.round, kind));
        let (prevoted, precommitted) = (has(VoteKind::Prevote), has(VoteKind::Precommit));
        let mine = self.me.as_ref().map(|(node, _)| *node);
        let again = self.messages().into_iter().filter(|message| match message {
            Message::Proposal(proposal) => Some(proposal.proposer) == mine,
            Message::Vote(vote) => Some(vote.witness) == mine,
            Message::Recovery(_) => true,
        });
        out.extend(again.map(Output::Broadcast));
        self.start_round(self.round, now_ms, out);
        if precommitted {
            self.step = Step::Precommit;
        } else if prevoted {
            self.step = Step::Prevote;
        }
    }

    /// Takes something in and says what to do.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        if self.step == Step::Decided {
            return self.handle_decided(input);
        }
        match input {
            Input::Message(message) if message.height() != self.height.height => self.note_early(message),
            Input::Message(Message::Proposal(proposal)) => self.take_proposal(proposal, now_ms, &mut out),
            Input::Message(Message::Vote(vote)) => self.take_vote(vote, now_ms, &mut out),
            Input::Message(Message::Recovery(signed)) => self.take_recovery(signed, now_ms, &mut out),
            Input::Judged {
                checkpoint,
                good,
                timely,
            } => {
                if let Some(known) = self.known.get_mut(&checkpoint) {
                    known.timely |= timely;
                    known.good.get_or_insert(good);
                }
            }
            Input::Value(checkpoint) => self.take_value(checkpoint, &mut out),
            Input::Tick => self.tick(now_ms, &mut out),
        }
        self.advance(now_ms, &mut out);
        out
    }

    fn handle_decided(&mut self, input: Input) -> Vec<Output> {
        if let Input::Message(message) = input
            && message.height() != self.height.height
        {
            self.note_early(message);
        }
        Vec::new()
    }

    /// When [`Input::Tick`] is due; nothing while nothing is waited for.
    pub fn deadline(&self) -> Option<u64> {
        self.timers.values().min().copied()
    }

    /// What a peer at this height that lags should be told: own votes, the current proposal and the valid
    /// value's, and the votes known of those rounds. Nothing once the height is decided: it gets the
    /// certificate.
    pub fn messages(&self) -> Vec<Message> {
        if self.step == Step::Decided {
            return Vec::new();
        }
        let recovery = self.recovery.iter();
        let recovery = recovery.map(|(_, signed)| Message::Recovery(signed.clone()));
        let mut rounds = vec![self.round];
        rounds.extend(self.proof_rounds());
        rounds.sort_unstable();
        rounds.dedup();
        let own = self.own.values().filter(|vote| !rounds.contains(&vote.round));
        let kept = rounds
            .iter()
            .filter_map(|round| Some((*round, self.rounds.get(round)?)));
        let votes = kept.clone().flat_map(|(_, it)| it.votes());
        let votes = own.chain(votes).map(|vote| Message::Vote(*vote));
        let proposals = kept
            .filter_map(|(round, it)| self.proposal(round, it.offer?))
            .map(Message::Proposal);
        recovery.chain(votes).chain(proposals).collect()
    }

    /// Messages for the next height that came before this one was decided.
    pub fn into_early(self) -> Vec<Message> {
        self.early.into_values().collect()
    }

    /// Which height this is.
    pub fn height(&self) -> u64 {
        self.height.height
    }

    /// In which round it is.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// Where in the round it is.
    pub fn step(&self) -> Step {
        self.step
    }

    /// Who votes: those of the height, or those that the admins named in their place.
    pub fn witnesses(&self) -> &WitnessSet {
        &self.height.witnesses
    }

    fn era(&self) -> Option<RecoveryId> {
        self.recovery.as_ref().map(|(id, _)| *id)
    }

    /// Rounds whose prevotes others need in order to believe a valid round: our valid value's, and that of
    /// the current proposal.
    fn proof_rounds(&self) -> impl Iterator<Item = u32> {
        let offer = self.rounds.get(&self.round).and_then(|it| it.offer);
        let proposed = offer.and_then(|offer| offer.valid_round);
        [self.valid.map(|(round, _)| round), proposed]
            .into_iter()
            .flatten()
    }

    fn is_kept(&self, round: u32) -> bool {
        let first = self.round.saturating_sub(ROUNDS_BEHIND);
        let last = self.round.saturating_add(ROUNDS_AHEAD);
        (first..=last).contains(&round) || self.proof_rounds().any(|proof| proof == round)
    }

    fn holds(&self, check: impl FnOnce() -> Check) -> bool {
        self.height.verify == Verify::Trusting || crate::key::verify(&check())
    }

    fn proposal(&self, round: u32, offer: Offer) -> Option<Proposal> {
        Some(Proposal {
            round,
            valid_round: offer.valid_round,
            recovery: self.era(),
            checkpoint: self.known.get(&offer.id)?.checkpoint.clone(),
            proposer: self.height.witnesses.proposer(self.height.height, round)?,
            signature: offer.signature,
        })
    }

    fn keep_offer(&mut self, proposal: &Proposal, id: CheckpointId) {
        self.rounds.entry(proposal.round).or_default().offer = Some(Offer {
            id,
            valid_round: proposal.valid_round,
            signature: proposal.signature,
        });
    }

    fn know(&mut self, id: CheckpointId, checkpoint: Checkpoint) -> &mut Known {
        let known = Known {
            checkpoint,
            good: None,
            timely: false,
        };
        self.known.entry(id).or_insert(known)
    }

    fn count(&mut self, vote: Vote) {
        let set = &self.height.witnesses;
        if let Some(place) = set.index_of(&vote.witness) {
            let round = self.rounds.entry(vote.round).or_default();
            round.count(set, place as u8, vote);
            self.latest[place] = self.latest[place].max(Some(vote.round));
        }
    }

    /// Drops rounds that are too far behind, and checkpoints that nothing names.
    fn forget(&mut self) {
        let mut rounds = std::mem::take(&mut self.rounds);
        rounds.retain(|round, _| self.is_kept(*round));
        let valid = self.valid.into_iter().chain(self.locked).map(|(_, id)| id);
        let held: Vec<CheckpointId> = valid.chain(self.inherited).collect();
        self.known
            .retain(|id, _| held.contains(id) || rounds.values().any(|it| it.names(*id)));
        self.rounds = rounds;
    }
}
