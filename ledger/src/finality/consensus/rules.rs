//! The rules, each with the lines of Algorithm 1 of arXiv 1807.04938 that it is. `> 2/3` and `> 1/3` of the
//! weight stand for the paper's 2f + 1 and f + 1.

use super::*;
use crate::finality::checkpoint::VoteKind::{Precommit, Prevote};
use crate::key::{SIGNATURE_BYTES, Signature};

impl Consensus {
    /// Lines 22 to 56: applies rules until none applies, then sets the timers that are due to be set.
    pub(super) fn advance(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.step == Step::Idle {
            return;
        }
        while self.step != Step::Decided
            && (self.decide(out)
                || self.skip(now_ms, out)
                || self.prevote_the_proposal(out)
                || self.lock_the_chosen(out)
                || self.precommit_none(out)
                || self.leave_the_round(now_ms, out))
        {}
        self.set_timers(now_ms);
    }

    /// Lines 11 to 21, and 56 and 67 which come here.
    pub(super) fn start_round(&mut self, round: u32, now_ms: u64, out: &mut Vec<Output>) {
        self.round = round;
        self.step = Step::Propose;
        self.timers.clear();
        self.forget();
        self.timers
            .insert(Timer::Propose, now_ms.saturating_add(wait(PROPOSE_MS, round)));
        if !self.may_propose() {
            return;
        }
        // One turn each: to witnesses who do not know it, it is old.
        let first = self
            .inherited
            .filter(|_| (round as usize) < self.height.witnesses.len());
        let inherited = first.map(|id| (None, id));
        let valid = self.valid.map(|(round, id)| (Some(round), id));
        match valid.or(inherited) {
            Some((valid_round, id)) => self.propose(id, valid_round, out),
            None => out.push(Output::Propose {
                height: self.height.height,
                round,
            }),
        }
    }

    /// Whether it is this node's turn and it has not said anything in this round.
    fn may_propose(&self) -> bool {
        let proposer = self.height.witnesses.proposer(self.height.height, self.round);
        let said = |kind| self.own.contains_key(&(self.round, kind));
        self.step == Step::Propose
            && self.voter().is_some_and(|(node, _)| Some(*node) == proposer)
            && self.rounds.get(&self.round).is_none_or(|it| it.offer.is_none())
            && !said(Prevote)
            && !said(Precommit)
    }

    /// This node, if it votes at this height.
    fn voter(&self) -> Option<&(NodeId, SecretKey)> {
        let me = self.me.as_ref().filter(|_| !self.twin)?;
        self.height.witnesses.index_of(&me.0).map(|_| me)
    }

    /// Line 19.
    fn propose(&mut self, id: CheckpointId, valid_round: Option<u32>, out: &mut Vec<Output>) {
        let (Some((node, secret)), Some(known)) = (self.voter(), self.known.get(&id)) else {
            return;
        };
        let proposal = Proposal {
            round: self.round,
            valid_round,
            recovery: self.era(),
            checkpoint: known.checkpoint.clone(),
            proposer: *node,
            signature: Signature([0; SIGNATURE_BYTES]),
        };
        let proposal = proposal.signed(self.height.network, secret, self.height.verify);
        self.keep_offer(&proposal, id);
        out.push(Output::Persist(Record::Proposal(proposal.clone())));
        out.push(Output::Broadcast(Message::Proposal(proposal)));
    }

    /// Line 18: the caller's value.
    pub(super) fn take_value(&mut self, checkpoint: Checkpoint, out: &mut Vec<Output>) {
        let fits = checkpoint.height == self.height.height && checkpoint.previous == self.height.previous;
        if fits && self.may_propose() {
            let id = checkpoint.id(self.height.network);
            let known = self.know(id, checkpoint);
            (known.good, known.timely) = (Some(true), true);
            self.propose(id, None, out);
        }
    }

    /// Lines 24 to 27, 40 and 41, 45 and 46, 59 and 63: votes, once in each round and kind for ever.
    fn cast(&mut self, kind: VoteKind, checkpoint: Option<CheckpointId>, out: &mut Vec<Output>) {
        let Some((node, secret)) = self.voter() else {
            return;
        };
        if self.own.contains_key(&(self.round, kind)) {
            return;
        }
        let vote = Vote {
            kind,
            height: self.height.height,
            round: self.round,
            recovery: self.era(),
            checkpoint,
            witness: *node,
            signature: Signature([0; SIGNATURE_BYTES]),
        };
        let vote = vote.signed(self.height.network, secret, self.height.verify);
        self.own.insert((self.round, kind), vote);
        self.count(vote);
        out.push(Output::Persist(Record::Vote(vote)));
        out.push(Output::Broadcast(Message::Vote(vote)));
    }

    /// Lines 22 to 33: prevotes the proposal if it is good and no lock forbids it, else none.
    fn prevote_the_proposal(&mut self, out: &mut Vec<Output>) -> bool {
        if self.step != Step::Propose {
            return false;
        }
        let Some(offer) = self.rounds.get(&self.round).and_then(|it| it.offer) else {
            return false;
        };
        let known = self.known.get(&offer.id);
        let Some((good, timely)) = known.and_then(|known| Some((known.good?, known.timely))) else {
            return false;
        };
        let allowed = match (self.locked, offer.valid_round) {
            // Line 28: a valid round counts once its prevotes are here.
            (_, Some(valid)) if !self.has_quorum(valid, Prevote, Some(offer.id)) => return false,
            (None, _) => true,
            // Line 29: more than two thirds prevoted it after this node was locked.
            (Some((locked, id)), Some(valid)) => locked <= valid || id == offer.id,
            // Line 23.
            (Some((_, id)), None) => id == offer.id,
        };
        // What was prevoted before was near an honest witness's clock then, under a set that was lost as well.
        let near = timely || offer.valid_round.is_some() || self.inherited == Some(offer.id);
        self.cast(Prevote, (good && near && allowed).then_some(offer.id), out);
        self.step = Step::Prevote;
        true
    }

    /// Lines 36 to 43: what more than two thirds prevoted becomes the valid value, and who has not
    /// precommitted yet locks on it and precommits it.
    fn lock_the_chosen(&mut self, out: &mut Vec<Output>) -> bool {
        if self.step < Step::Prevote || self.valid.is_some_and(|(round, _)| round == self.round) {
            return false;
        }
        let Some(id) = self.chosen(self.round, Prevote) else {
            return false;
        };
        let Some(known) = self.known.get(&id).filter(|known| known.good == Some(true)) else {
            return false;
        };
        if self.step == Step::Prevote {
            if self.voter().is_some() {
                out.push(Output::Persist(Record::Lock {
                    round: self.round,
                    recovery: self.era(),
                    checkpoint: known.checkpoint.clone(),
                }));
            }
            self.locked = Some((self.round, id));
            self.cast(Precommit, Some(id), out);
            self.step = Step::Precommit;
        }
        self.valid = Some((self.round, id));
        true
    }

    /// Lines 44 to 46.
    fn precommit_none(&mut self, out: &mut Vec<Output>) -> bool {
        if self.step != Step::Prevote || !self.has_quorum(self.round, Prevote, None) {
            return false;
        }
        self.cast(Precommit, None, out);
        self.step = Step::Precommit;
        true
    }

    /// Not in the paper: where more than two thirds prevoted none, nothing can be chosen in this round, so nobody
    /// is locked in it and there is nothing to wait for: a witness that is down costs its turn and no more.
    fn leave_the_round(&mut self, now_ms: u64, out: &mut Vec<Output>) -> bool {
        if self.step != Step::Precommit || !self.has_quorum(self.round, Prevote, None) {
            return false;
        }
        let Some(next) = self.round.checked_add(1) else {
            return false;
        };
        self.start_round(next, now_ms, out);
        true
    }

    /// Lines 49 to 54; the next height is the caller's.
    fn decide(&mut self, out: &mut Vec<Output>) -> bool {
        let chosen = |(round, it): (&u32, &Round)| {
            let id = it.chosen(&self.height.witnesses, Precommit)?;
            Some((*round, id, self.known.get(&id)?.checkpoint.clone()))
        };
        let Some((round, id, checkpoint)) = self.rounds.iter().find_map(chosen) else {
            return false;
        };
        let precommits = self.rounds.get(&round).into_iter();
        let precommits = precommits
            .flat_map(|it| it.votes_for(Precommit, Some(id)))
            .map(|(place, vote)| (place, vote.signature))
            .collect();
        let recovery = self.recovery.as_ref().map(|(_, signed)| signed.clone());
        self.step = Step::Decided;
        self.timers.clear();
        out.push(Output::Decided(Certificate {
            checkpoint,
            round,
            recovery,
            precommits,
        }));
        true
    }

    /// Lines 55 and 56: goes to the latest round at which, or after which, more than a third are.
    fn skip(&mut self, now_ms: u64, out: &mut Vec<Output>) -> bool {
        let set = &self.height.witnesses;
        let mut ahead: Vec<(u32, u64)> = self
            .latest
            .iter()
            .zip(set.iter())
            .filter_map(|(latest, witness)| Some(((*latest)?, u64::from(witness.weight))))
            .filter(|(latest, _)| *latest > self.round)
            .collect();
        ahead.sort_unstable_by(|a, b| b.cmp(a));
        let mut weight = 0;
        let blocking = ahead.into_iter().find(|(_, more)| {
            weight += more;
            set.is_blocking(weight)
        });
        let Some((round, _)) = blocking else {
            return false;
        };
        self.start_round(round, now_ms, out);
        true
    }

    /// Lines 34 and 35, 47 and 48.
    fn set_timers(&mut self, now_ms: u64) {
        if self.step != Step::Propose {
            self.timers.remove(&Timer::Propose);
        }
        if self.step != Step::Prevote {
            self.timers.remove(&Timer::Prevote);
        }
        let Some(round) = self.rounds.get(&self.round) else {
            return;
        };
        let at = now_ms.saturating_add(wait(VOTE_MS, self.round));
        let set = &self.height.witnesses;
        if self.step == Step::Prevote && round.has_votes(set, Prevote) {
            self.timers.entry(Timer::Prevote).or_insert(at);
        }
        if self.step != Step::Decided && round.has_votes(set, Precommit) {
            self.timers.entry(Timer::Precommit).or_insert(at);
        }
    }

    /// Runs out the timers that are due, the first one first.
    pub(super) fn tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        while let Some(timer) = self.due(now_ms) {
            self.expire(timer, now_ms, out);
            self.advance(now_ms, out);
        }
    }

    fn due(&self, now_ms: u64) -> Option<Timer> {
        let due = self.timers.iter().filter(|(_, at)| **at <= now_ms);
        due.min_by_key(|(timer, at)| (**at, **timer))
            .map(|(timer, _)| *timer)
    }

    /// Lines 57 to 67.
    pub(super) fn expire(&mut self, timer: Timer, now_ms: u64, out: &mut Vec<Output>) {
        self.timers.remove(&timer);
        match (timer, self.step) {
            (Timer::Propose, Step::Propose) => {
                self.cast(Prevote, None, out);
                self.step = Step::Prevote;
            }
            (Timer::Prevote, Step::Prevote) => {
                self.cast(Precommit, None, out);
                self.step = Step::Precommit;
            }
            (Timer::Precommit, _) => {
                if let Some(next) = self.round.checked_add(1) {
                    self.start_round(next, now_ms, out);
                }
            }
            _ => {}
        }
    }

    fn has_quorum(&self, round: u32, kind: VoteKind, value: Option<CheckpointId>) -> bool {
        self.rounds
            .get(&round)
            .is_some_and(|it| it.has_quorum(&self.height.witnesses, kind, value))
    }

    fn chosen(&self, round: u32, kind: VoteKind) -> Option<CheckpointId> {
        self.rounds.get(&round)?.chosen(&self.height.witnesses, kind)
    }

    /// A proposal of the witness whose turn it is in a round that is kept. A second one in the same round is
    /// evidence; its checkpoint is kept only if votes say that an honest witness found it good.
    pub(super) fn take_proposal(&mut self, proposal: Proposal, now_ms: u64, out: &mut Vec<Output>) {
        let (network, height, round) = (self.height.network, self.height.height, proposal.round);
        let set = &self.height.witnesses;
        let Some(place) = set.index_of(&proposal.proposer) else {
            return;
        };
        let fits = proposal.recovery == self.era()
            && proposal.checkpoint.previous == self.height.previous
            && set.proposer(height, round) == Some(proposal.proposer);
        let kept = self.is_kept(round);
        if !fits || (!kept && self.latest[place] >= Some(round)) {
            return;
        }
        let id = proposal.checkpoint.id(network);
        let first = self.rounds.get(&round).and_then(|it| it.offer);
        let again = first.is_some_and(|it| it.id == id && it.valid_round == proposal.valid_round);
        let wanted = || {
            let set = &self.height.witnesses;
            let behind = |it: &Round| {
                [Prevote, Precommit]
                    .iter()
                    .any(|kind| it.is_wanted(set, *kind, Some(id)))
            };
            !self.known.contains_key(&id) && self.rounds.get(&round).is_some_and(behind)
        };
        if again || (first.is_some() && self.is_caught(place) && !wanted()) {
            return;
        }
        if !self.holds(|| proposal.checks(network)) {
            return;
        }
        self.latest[place] = self.latest[place].max(Some(round));
        let wanted = kept && (first.is_none() || wanted());
        if let Some(first) = first
            && let Some(first) = self.proposal(round, first)
            && self.catch(place)
        {
            let both = Box::new((first, proposal.clone()));
            out.push(Output::Evidence(Evidence::Proposals(both)));
        }
        if wanted {
            if first.is_none() {
                self.keep_offer(&proposal, id);
            }
            let known = self.know(id, proposal.checkpoint);
            // What was bad may have become good, if only by the time: whoever proposes it again asks again.
            known.good = known.good.filter(|good| *good);
            if known.good.is_none() {
                let checkpoint = known.checkpoint.clone();
                out.push(Output::Judge(checkpoint));
            }
        }
        self.wake(now_ms, out);
    }

    /// A vote of a witness. The first of a kind in a round counts; a second one is evidence, and counts only
    /// where [`Round::is_wanted`].
    pub(super) fn take_vote(&mut self, vote: Vote, now_ms: u64, out: &mut Vec<Output>) {
        let network = self.height.network;
        let set = &self.height.witnesses;
        let Some(place) = set.index_of(&vote.witness) else {
            return;
        };
        let kept = self.is_kept(vote.round);
        if vote.recovery != self.era() || (!kept && self.latest[place] >= Some(vote.round)) {
            return;
        }
        if self.me.as_ref().is_some_and(|(node, _)| *node == vote.witness) {
            return self.take_own_vote(vote, out);
        }
        let (kind, value, at) = (vote.kind, vote.checkpoint, place as u8);
        let round = self.rounds.get(&vote.round);
        let first = round.and_then(|it| it.first(kind, at)).copied();
        let again = round.is_some_and(|it| it.has(kind, at, value));
        let useless = first.is_some()
            && self.is_caught(place)
            && !round.is_some_and(|it| it.is_wanted(set, kind, value));
        if again || useless || !self.holds(|| vote.checks(network)) {
            return;
        }
        if let Some(first) = first
            && self.catch(place)
        {
            out.push(Output::Evidence(Evidence::Votes(Box::new((first, vote)))));
        }
        if kept {
            self.count(vote);
        }
        self.latest[place] = self.latest[place].max(Some(vote.round));
        self.wake(now_ms, out);
    }

    /// A vote with this node's key. One that it did not cast shows that somebody else has the key, or that
    /// records were lost: it stands by the vote and says nothing more.
    fn take_own_vote(&mut self, vote: Vote, out: &mut Vec<Output>) {
        let mine = self.own.get(&(vote.round, vote.kind));
        if mine.is_some_and(|mine| mine.checkpoint == vote.checkpoint)
            || self.twin
            || !self.holds(|| vote.checks(self.height.network))
        {
            return;
        }
        self.twin = true;
        match mine {
            Some(mine) => out.push(Output::Evidence(Evidence::Votes(Box::new((*mine, vote))))),
            None => {
                self.own.insert((vote.round, vote.kind), vote);
                self.count(vote);
                out.push(Output::Persist(Record::Vote(vote)));
            }
        }
        out.push(Output::Twin(vote));
    }

    fn is_caught(&self, place: usize) -> bool {
        self.caught & (1 << place) != 0
    }

    /// Whether this is the first time that the witness is caught.
    fn catch(&mut self, place: usize) -> bool {
        let first = !self.is_caught(place);
        self.caught |= 1 << place;
        first
    }

    /// The id of a recovery that holds for this height and is later than the one that stands.
    pub(super) fn accepts_recovery(&self, signed: &SignedRecovery) -> Option<RecoveryId> {
        let stands = self.recovery.as_ref();
        let attempt = stands.map_or(0, |(_, signed)| signed.recovery.attempt);
        let holds = signed.recovery.attempt > attempt
            && signed.fits(self.height.height, self.height.previous).is_ok()
            && signed.verify(self.height.network, &self.height.admins).is_ok();
        holds.then(|| signed.recovery.id(self.height.network))
    }

    /// Begins the height anew with other witnesses. Nothing said under the lost set counts; what this node was
    /// locked on it proposes first, in case the lost set has certified it unseen.
    pub(super) fn change_set(&mut self, id: RecoveryId, signed: SignedRecovery) {
        self.inherited = self.locked.or(self.valid).map(|(_, id)| id).or(self.inherited);
        self.height.witnesses = signed.recovery.witnesses.clone();
        self.latest = vec![None; self.height.witnesses.len()];
        self.recovery = Some((id, signed));
        self.round = 0;
        self.step = Step::Idle;
        self.locked = None;
        self.valid = None;
        self.caught = 0;
        self.rounds.clear();
        self.own.clear();
        self.timers.clear();
        self.early.clear();
        self.forget();
    }

    pub(super) fn take_recovery(&mut self, signed: SignedRecovery, now_ms: u64, out: &mut Vec<Output>) {
        let Some(id) = self.accepts_recovery(&signed) else {
            return;
        };
        out.push(Output::Persist(Record::Recovery(signed.clone())));
        self.change_set(id, signed);
        // Waking tells it on: everybody who takes it in tells it once.
        self.wake(now_ms, out);
    }

    /// Keeps what witnesses of this height say in the first round of the next one: they were faster.
    pub(super) fn note_early(&mut self, message: Message) {
        let (network, next) = (self.height.network, self.height.height.checked_add(1));
        let set = &self.height.witnesses;
        let (place, kind, check) = match &message {
            Message::Proposal(it) if it.round == 0 && it.recovery.is_none() => {
                let turn = next.and_then(|height| set.proposer(height, 0)) == Some(it.proposer);
                let place = set.index_of(&it.proposer).filter(|_| turn);
                (place, None, it.checks(network))
            }
            Message::Vote(it) if it.round == 0 && it.recovery.is_none() => {
                (set.index_of(&it.witness), Some(it.kind), it.checks(network))
            }
            _ => return,
        };
        let Some(place) = place.filter(|_| Some(message.height()) == next) else {
            return;
        };
        let key = (place as u8, kind);
        if !self.early.contains_key(&key) && self.holds(|| check) {
            self.early.insert(key, message);
        }
    }
}

/// How long to wait in a round, in milliseconds.
fn wait(base_ms: u64, round: u32) -> u64 {
    base_ms + ROUND_MS * u64::from(round)
}
