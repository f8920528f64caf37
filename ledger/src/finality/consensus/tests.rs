//! Each rule by itself: one witness that hears what a test lets it hear.

use super::*;
use crate::finality::checkpoint::FOLD_VERSION;
use crate::finality::checkpoint::VoteKind::{Precommit, Prevote};
use crate::finality::recovery::Recovery;
use crate::genesis::Genesis;
use crate::key::{SIGNATURE_BYTES, Signature};

/// Witness 0 of `count` and everybody's keys, with signatures.
struct Scene {
    keys: Vec<SecretKey>,
    height: Height,
    core: Consensus,
    now_ms: u64,
}

fn scene(count: u8) -> Scene {
    let mut keys: Vec<SecretKey> = (0..count).map(|it| SecretKey::from_seed([it; 32])).collect();
    keys.sort_by_key(SecretKey::node_id);
    let genesis = Genesis {
        name: "scene".into(),
        admins: vec![keys[0].public()],
        admins_needed: 1,
        witnesses: WitnessSet::of_equals(keys.iter().map(SecretKey::node_id)).expect("few"),
        created_ms: 1,
        salt: [0; 16],
    };
    let height = Height {
        network: genesis.network(),
        height: u64::from(count),
        previous: CheckpointId([1; 32]),
        witnesses: genesis.witnesses.clone(),
        admins: (&genesis).into(),
        verify: Verify::Real,
    };
    let me = Some((keys[0].node_id(), keys[0].clone()));
    let core = Consensus::new(height.clone(), me, Vec::new());
    let now_ms = 1;
    Scene {
        keys,
        height,
        core,
        now_ms,
    }
}

impl Scene {
    fn value(&self, tag: u8) -> Checkpoint {
        Checkpoint {
            height: self.height.height,
            previous: self.height.previous,
            time_ms: 1,
            order: [tag; 32],
            state: [0; 32],
            forks: [0; 32],
            fold_version: FOLD_VERSION,
            heads: Vec::new(),
            next_witnesses: None,
        }
    }

    fn id(&self, tag: u8) -> CheckpointId {
        self.value(tag).id(self.height.network)
    }

    /// A proposal by the witness whose turn it is.
    fn proposal(&self, round: u32, tag: u8, valid_round: Option<u32>) -> Input {
        let proposer = self
            .height
            .witnesses
            .proposer(self.height.height, round)
            .expect("some");
        let key = self
            .keys
            .iter()
            .find(|key| key.node_id() == proposer)
            .expect("a witness");
        let proposal = Proposal {
            round,
            valid_round,
            recovery: None,
            checkpoint: self.value(tag),
            proposer,
            signature: Signature([0; SIGNATURE_BYTES]),
        };
        Input::Message(Message::Proposal(proposal.signed(
            self.height.network,
            key,
            Verify::Real,
        )))
    }

    fn vote(&self, kind: VoteKind, round: u32, witness: usize, tag: Option<u8>) -> Vote {
        let vote = Vote {
            kind,
            height: self.height.height,
            round,
            recovery: None,
            checkpoint: tag.map(|tag| self.id(tag)),
            witness: self.keys[witness].node_id(),
            signature: Signature([0; SIGNATURE_BYTES]),
        };
        vote.signed(self.height.network, &self.keys[witness], Verify::Real)
    }

    /// Gives it an input, finds everything good, and says what came out in words.
    fn give(&mut self, input: Input) -> Vec<String> {
        let outputs = self.core.handle(input, self.now_ms);
        self.words(outputs)
    }

    fn tell(&mut self, kind: VoteKind, round: u32, witness: usize, tag: Option<u8>) -> Vec<String> {
        self.give(Input::Message(Message::Vote(
            self.vote(kind, round, witness, tag),
        )))
    }

    fn tick(&mut self) -> Vec<String> {
        self.now_ms = self.core.deadline().expect("it waits");
        self.give(Input::Tick)
    }

    fn tag(&self, id: Option<CheckpointId>) -> String {
        let tag = (0..9).find(|tag| Some(self.id(*tag)) == id);
        tag.map_or("none".into(), |tag| tag.to_string())
    }

    fn words(&mut self, outputs: Vec<Output>) -> Vec<String> {
        let mut words = Vec::new();
        let mut judged = Vec::new();
        for output in outputs {
            words.push(match output {
                Output::Propose { round, .. } => format!("asks for a value in round {round}"),
                Output::Judge(checkpoint) => {
                    judged.push(checkpoint.id(self.height.network));
                    continue;
                }
                Output::Persist(Record::Vote(vote)) => {
                    format!(
                        "writes {:?} {} in {}",
                        vote.kind,
                        self.tag(vote.checkpoint),
                        vote.round
                    )
                }
                Output::Persist(Record::Lock {
                    round, checkpoint, ..
                }) => {
                    let id = checkpoint.id(self.height.network);
                    format!("writes lock {} in {round}", self.tag(Some(id)))
                }
                Output::Persist(Record::Proposal(it)) => format!("writes a proposal in {}", it.round),
                Output::Persist(Record::Recovery(_)) => "writes a recovery".into(),
                Output::Broadcast(Message::Vote(vote)) => {
                    format!(
                        "tells {:?} {} in {}",
                        vote.kind,
                        self.tag(vote.checkpoint),
                        vote.round
                    )
                }
                Output::Broadcast(Message::Proposal(it)) => {
                    let id = it.checkpoint.id(self.height.network);
                    format!(
                        "proposes {} in {}, valid in {:?}",
                        self.tag(Some(id)),
                        it.round,
                        it.valid_round
                    )
                }
                Output::Broadcast(Message::Recovery(_)) => "tells a recovery".into(),
                Output::Evidence(evidence) => {
                    assert!(evidence.verify(self.height.network));
                    "accuses".into()
                }
                Output::Twin(_) => "has a twin".into(),
                Output::Decided(it) => {
                    let set = &self.height.witnesses;
                    let verified = it.verify(self.height.network, set, &self.height.admins, [0; 32]);
                    verified.expect("what is decided verifies");
                    let id = it.checkpoint.id(self.height.network);
                    format!(
                        "decides {} in {} by {}",
                        self.tag(Some(id)),
                        it.round,
                        it.precommits.len()
                    )
                }
            });
        }
        for checkpoint in judged {
            let (good, timely) = (true, true);
            let judged = Input::Judged {
                checkpoint,
                good,
                timely,
            };
            let outputs = self.core.handle(judged, self.now_ms);
            words.extend(self.words(outputs));
        }
        words
    }

    fn restart(&mut self, stored: Vec<Record>) {
        let me = Some((self.keys[0].node_id(), self.keys[0].clone()));
        self.core = Consensus::new(self.height.clone(), me, stored);
    }
}

// Height 4 of four witnesses: the turn in round r is r mod 4, so it is ours in rounds 0 and 4.
fn in_round_1() -> Scene {
    let mut it = scene(4);
    let outputs = it.core.begin(it.now_ms);
    assert_eq!(it.words(outputs), ["asks for a value in round 0"]);
    assert_eq!(it.tick(), ["writes Prevote none in 0", "tells Prevote none in 0"]);
    it.tell(Prevote, 0, 1, None);
    let words = it.tell(Prevote, 0, 2, None);
    assert_eq!(words, ["writes Precommit none in 0", "tells Precommit none in 0"]);
    assert_eq!((it.core.round(), it.core.step()), (1, Step::Propose));
    it
}

/// Locked on value 1 in round 1, now in round 2.
fn locked() -> Scene {
    let mut it = in_round_1();
    let words = it.give(it.proposal(1, 1, None));
    assert_eq!(words, ["writes Prevote 1 in 1", "tells Prevote 1 in 1"]);
    assert!(it.tell(Prevote, 1, 1, Some(1)).is_empty());
    let words = it.tell(Prevote, 1, 2, Some(1));
    assert_eq!(
        words,
        [
            "writes lock 1 in 1",
            "writes Precommit 1 in 1",
            "tells Precommit 1 in 1"
        ]
    );
    it.tell(Precommit, 1, 1, None);
    it.tell(Precommit, 1, 2, None);
    it.tick();
    assert_eq!((it.core.round(), it.core.step()), (2, Step::Propose));
    it
}

#[test]
fn it_prevotes_the_good_locks_the_chosen_and_decides_the_precommitted() {
    let mut it = in_round_1();
    it.give(it.proposal(1, 1, None));
    it.tell(Prevote, 1, 1, Some(1));
    it.tell(Prevote, 1, 2, Some(1));
    assert!(it.tell(Precommit, 1, 1, Some(1)).is_empty());
    assert_eq!(it.tell(Precommit, 1, 3, Some(1)), ["decides 1 in 1 by 3"]);
    assert!(it.tell(Precommit, 1, 2, Some(1)).is_empty());
    assert!(it.core.messages().is_empty() && it.core.deadline().is_none());
}

#[test]
fn a_vote_told_twice_counts_once() {
    let mut it = in_round_1();
    it.give(it.proposal(1, 1, None));
    for _ in 0..3 {
        assert!(it.tell(Prevote, 1, 1, Some(1)).is_empty());
        assert!(it.tell(Precommit, 1, 1, Some(1)).is_empty());
    }
    assert_eq!(it.core.step(), Step::Prevote);
}

#[test]
fn two_of_three_are_not_more_than_two_thirds() {
    let mut it = scene(3);
    it.core.begin(1);
    let words = it.give(Input::Value(it.value(1)));
    assert_eq!(words.last().map(String::as_str), Some("tells Prevote 1 in 0"));
    assert!(it.tell(Prevote, 0, 1, Some(1)).is_empty());
    assert_eq!(it.tell(Prevote, 0, 2, Some(1)).len(), 3);
    assert!(it.tell(Precommit, 0, 1, Some(1)).is_empty());
    assert_eq!(it.tell(Precommit, 0, 2, Some(1)), ["decides 1 in 0 by 3"]);
}

#[test]
fn who_is_locked_prevotes_nothing_else_until_more_than_two_thirds_did_later() {
    let mut it = locked();
    let words = it.give(it.proposal(2, 2, None));
    assert_eq!(words, ["writes Prevote none in 2", "tells Prevote none in 2"]);

    let mut it = locked();
    let words = it.give(it.proposal(2, 1, None));
    assert_eq!(
        words,
        ["writes Prevote 1 in 2", "tells Prevote 1 in 2"],
        "what it is locked on"
    );

    // Of round 2 it hears only later, when round 3 proposes what was prevoted there.
    let mut it = locked();
    it.tick();
    it.tell(Precommit, 2, 1, None);
    it.tell(Precommit, 2, 2, None);
    it.tell(Precommit, 2, 3, None);
    it.tick();
    assert_eq!((it.core.round(), it.core.step()), (3, Step::Propose));
    assert!(
        it.give(it.proposal(3, 2, Some(2))).is_empty(),
        "waits for the prevotes of round 2"
    );
    it.tell(Prevote, 2, 1, Some(2));
    it.tell(Prevote, 2, 2, Some(2));
    let words = it.tell(Prevote, 2, 3, Some(2));
    assert_eq!(words, ["writes Prevote 2 in 3", "tells Prevote 2 in 3"]);
}

#[test]
fn it_proposes_the_valid_value_when_its_turn_comes() {
    let mut it = locked();
    it.tell(Prevote, 4, 1, None);
    let words = it.tell(Prevote, 4, 2, None);
    assert_eq!(
        words[..2],
        ["writes a proposal in 4", "proposes 1 in 4, valid in Some(1)"]
    );
}

#[test]
fn a_liars_second_vote_is_evidence_once_and_counts_for_what_an_honest_witness_wants() {
    let mut it = in_round_1();
    it.give(it.proposal(1, 1, None));
    it.tell(Prevote, 1, 3, None);
    assert_eq!(it.tell(Prevote, 1, 3, Some(2)), ["accuses"]);
    assert!(it.tell(Prevote, 1, 3, Some(3)).is_empty(), "accused once");
    assert!(
        it.tell(Prevote, 1, 3, Some(1)).is_empty(),
        "nobody else but us wants it"
    );
    assert!(it.tell(Prevote, 1, 1, Some(1)).is_empty(), "two of four");
    let words = it.tell(Prevote, 1, 3, Some(1));
    assert_eq!(words[0], "writes lock 1 in 1");
}

#[test]
fn a_second_proposal_is_evidence_and_its_checkpoint_counts_once_it_is_wanted() {
    let mut it = in_round_1();
    it.give(it.proposal(1, 1, None));
    assert_eq!(it.give(it.proposal(1, 2, None)), ["accuses"]);
    it.tell(Prevote, 1, 1, Some(2));
    it.tell(Prevote, 1, 2, Some(2));
    it.tell(Prevote, 1, 3, Some(2));
    assert_eq!(
        it.core.step(),
        Step::Prevote,
        "it cannot lock on what it does not know"
    );
    let words = it.give(it.proposal(1, 2, None));
    assert_eq!(words[0], "writes lock 2 in 1");
}

#[test]
fn a_forged_or_foreign_message_changes_nothing() {
    let mut it = in_round_1();
    let Input::Message(Message::Proposal(proposal)) = it.proposal(1, 1, None) else {
        unreachable!("it is a proposal");
    };
    let change = |change: &dyn Fn(&mut Proposal)| {
        let mut changed = proposal.clone();
        change(&mut changed);
        Input::Message(Message::Proposal(changed))
    };
    let changes: [&dyn Fn(&mut Proposal); 5] = [
        &|it| it.checkpoint.order[0] ^= 1,
        &|it| it.checkpoint.previous.0[0] ^= 1,
        &|it| it.valid_round = Some(0),
        &|it| it.proposer.0[0] ^= 1,
        &|it| it.round = 2,
    ];
    let before = format!("{:?}", it.core);
    for made in changes {
        assert!(it.give(change(made)).is_empty());
    }
    let mut vote = it.vote(Prevote, 1, 1, Some(1));
    vote.round = 9;
    assert!(it.give(Input::Message(Message::Vote(vote))).is_empty());
    let stranger = SecretKey::from_seed([77; 32]);
    vote.witness = stranger.node_id();
    let vote = vote.signed(it.height.network, &stranger, Verify::Real);
    assert!(it.give(Input::Message(Message::Vote(vote))).is_empty());
    assert_eq!(format!("{:?}", it.core), before);
}

#[test]
fn more_than_a_third_at_a_later_round_take_it_along() {
    let mut it = in_round_1();
    let far = 1 + ROUNDS_AHEAD * 100;
    it.tell(Prevote, far, 1, None);
    assert_eq!(it.core.round(), 1, "one of four may lie");
    it.tell(Precommit, far + 5, 2, None);
    assert_eq!(it.core.round(), far);
}

#[test]
fn a_liar_fills_no_more_than_the_window() {
    let mut it = in_round_1();
    for round in 0..500 {
        for tag in [None, Some(1), Some(2), Some(3)] {
            it.tell(Prevote, round, 3, tag);
        }
    }
    let votes: usize = it.core.rounds.values().map(|round| round.votes().count()).sum();
    assert!(votes <= (ROUNDS_AHEAD as usize + 2) + 5, "{votes} votes are kept");
    assert_eq!(it.core.round(), 1);
}

#[test]
fn restarted_it_goes_on_where_its_records_end_and_votes_nothing_twice() {
    let mut it = locked();
    let own = it.core.own.values().copied().collect::<Vec<_>>();
    let mut stored: Vec<Record> = own.iter().map(|vote| Record::Vote(*vote)).collect();
    stored.push(Record::Lock {
        round: 1,
        recovery: None,
        checkpoint: it.value(1),
    });
    it.restart(stored.clone());
    let outputs = it.core.begin(it.now_ms);
    let words = it.words(outputs);
    assert_eq!(
        words.iter().filter(|word| word.starts_with("tells")).count(),
        4,
        "{words:?}"
    );
    assert!(words.iter().all(|word| !word.starts_with("writes")), "{words:?}");
    assert_eq!((it.core.round(), it.core.step()), (1, Step::Precommit));
    it.tell(Precommit, 1, 1, None);
    it.tell(Precommit, 1, 2, None);
    it.tick();
    let words = it.give(it.proposal(2, 2, None));
    assert_eq!(
        words,
        ["writes Prevote none in 2", "tells Prevote none in 2"],
        "it is locked still"
    );

    // Without the lock that belongs to its precommit it says nothing: these are not its records.
    stored.pop();
    it.restart(stored);
    it.core.begin(it.now_ms);
    it.tell(Prevote, 2, 1, None);
    it.tell(Prevote, 2, 2, None);
    assert!(it.give(it.proposal(2, 2, None)).is_empty());
}

#[test]
fn a_vote_with_our_key_that_we_did_not_cast_silences_us() {
    let mut it = in_round_1();
    let words = it.tell(Prevote, 1, 0, Some(2));
    assert_eq!(words, ["writes Prevote 2 in 1", "has a twin"]);
    assert!(it.give(it.proposal(1, 1, None)).is_empty());

    let mut it = in_round_1();
    assert!(
        it.tell(Prevote, 0, 0, None).is_empty(),
        "our own vote told to us again"
    );
    assert_eq!(it.tell(Prevote, 0, 0, Some(1)), ["accuses", "has a twin"]);
}

#[test]
fn what_is_bad_is_not_prevoted_and_what_is_not_judged_is_waited_for() {
    let mut it = in_round_1();
    let Input::Message(message) = it.proposal(1, 1, None) else {
        unreachable!("it is a message");
    };
    let outputs = it.core.handle(Input::Message(message), it.now_ms);
    assert_eq!(outputs, [Output::Judge(it.value(1))]);
    assert_eq!(it.core.step(), Step::Propose);
    let (checkpoint, good, timely) = (it.id(1), false, true);
    let words = it.give(Input::Judged {
        checkpoint,
        good,
        timely,
    });
    assert_eq!(words, ["writes Prevote none in 1", "tells Prevote none in 1"]);
    // The others found it good: they decide, and so do we by what they say.
    for witness in 1..4 {
        assert_ne!(it.core.step(), Step::Decided);
        it.tell(Precommit, 1, witness, Some(1));
    }
    assert_eq!(it.core.step(), Step::Decided);
}

#[test]
fn what_is_said_early_is_kept_for_the_next_height() {
    let mut it = in_round_1();
    let mut vote = it.vote(Prevote, 0, 1, None);
    vote.height += 1;
    let vote = vote.signed(it.height.network, &it.keys[1], Verify::Real);
    assert!(it.give(Input::Message(Message::Vote(vote))).is_empty());
    let mut later = vote;
    later.height += 1;
    let later = later.signed(it.height.network, &it.keys[1], Verify::Real);
    it.give(Input::Message(Message::Vote(later)));
    assert_eq!(it.core.into_early(), [Message::Vote(vote)]);
}

#[test]
fn messages_bring_a_peer_that_heard_nothing_to_the_same_place() {
    let it = locked();
    let mut other = scene(4);
    other.core = Consensus::new(it.height.clone(), None, Vec::new());
    for message in it.core.messages() {
        other.give(Input::Message(message));
    }
    assert!(other.core.rounds[&1].has_quorum(&it.height.witnesses, Prevote, Some(it.id(1))));
    assert_eq!(other.core.valid, Some((1, it.id(1))));
}

#[test]
fn with_other_witnesses_it_proposes_what_it_was_locked_on_and_old_votes_count_for_nothing() {
    let mut it = locked();
    let recovery = Recovery {
        after: it.height.previous,
        height: 4,
        attempt: 1,
        witnesses: it.height.witnesses.clone(),
    };
    let signatures = vec![(0, recovery.sign(it.height.network, &it.keys[0]))];
    let signed = SignedRecovery { recovery, signatures };
    let words = it.give(Input::Message(Message::Recovery(signed)));
    assert_eq!(
        words,
        [
            "writes a recovery",
            "tells a recovery",
            "writes a proposal in 0",
            "proposes 1 in 0, valid in None",
            "writes Prevote 1 in 0",
            "tells Prevote 1 in 0",
        ]
    );
    for witness in 1..4 {
        assert!(it.tell(Prevote, 0, witness, Some(1)).is_empty());
        assert!(it.tell(Precommit, 0, witness, Some(1)).is_empty());
    }
}
