//! A model check (stateright) of this very code: the state of the model is the [`Consensus`] of each honest
//! witness, and each step is a call into it.
//!
//! **Scope.** Four witnesses, one of them lying, two values a height. Every order of deliveries, every message
//! late for ever or lost. The liar can say everything that it can sign: to each witness something else, any
//! vote of any round, any proposal in its turn with any valid round; signatures stand for who speaks
//! (`Verify::Trusting`). What would go beyond the last round is left out. Each test explores all of its scope:
//!
//! | heights | rounds | timers that may run out | crashes | who lies | states |
//! |---|---|---|---|---|---|
//! | 1 | 1 | all | each witness once | the first proposer | 74,561 |
//! | 1 | 2 | precommit | none | the first proposer | 62,854 |
//! | 1 | 2 | precommit | none | the second proposer | 75,669 |
//! | 2, the set changes | 1 each | none | none | the first proposer | 113,435 |
//!
//! Between the heights one honest witness leaves and one joins that had only followed certificates. With the
//! lock forgotten (line 29 of the paper), both tests of two rounds find two certificates for one height.
//!
//! **What keeps it small, and why nothing is lost.** A message that changes nothing but what is remembered
//! (no output, no step, no timer) is delivered only as part of the smallest batch that does change something:
//! rules only ever wait for more messages, so a run in which it came earlier has the same outputs as the run
//! in which it came just before it was needed. What honest witnesses have said is what stands in their state,
//! and the liar's messages need no state at all. A step that nobody else sees is taken only together with the
//! next one that somebody does; votes that came to no quorum are forgotten after it (they can come again, so
//! this only adds runs), and who makes a quorum up is not told apart. So a state of the model is the tuple of
//! the witnesses' states, each kept once in a table, and what a witness does on a batch is computed once.

#![cfg(test)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Mutex;

use stateright::{Checker, Model, Property};

use super::*;
use crate::finality::chain::CertifiedChain;
use crate::finality::checkpoint::FOLD_VERSION;
use crate::genesis::Genesis;
use crate::key::{SIGNATURE_BYTES, Signature};

const NETWORK_ADMIN: [u8; 32] = [99; 32];

fn node(index: u8) -> NodeId {
    NodeId([index; 32])
}

/// What happens to one honest witness.
#[derive(Clone, Debug)]
struct Local {
    core: Consensus,
    chain: CertifiedChain,
    /// Durable records of the height.
    records: Vec<Record>,
    /// All that it has told, of both heights.
    said: BTreeSet<u32>,
    certificates: Vec<Certificate>,
    /// Their checkpoints.
    ids: Vec<CheckpointId>,
    /// What it has told to have precommitted: height, round and what.
    precommitted: BTreeSet<(u64, u32, CheckpointId)>,
    crashes: u8,
}

impl Local {
    /// All that is not the same for all states of one witness, or follows from the rest.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let it = &self.core;
        (it.height.height, it.height.previous, it.round, it.step as u8).hash(&mut hasher);
        (it.me.as_ref().map(|(node, _)| *node), it.locked, it.valid).hash(&mut hasher);
        let mut said = BTreeSet::new();
        for (round, votes) in &it.rounds {
            let offer = votes.offer.map(|offer| (offer.id, offer.valid_round));
            (round, offer).hash(&mut hasher);
            // Who makes a quorum up changes nothing.
            let set = &it.height.witnesses;
            for vote in votes.votes() {
                let quorum = votes.has_quorum(set, vote.kind, vote.checkpoint);
                let witness = Some(vote.witness).filter(|_| !quorum);
                said.insert((*round, vote.kind, witness, vote.checkpoint));
            }
        }
        said.hash(&mut hasher);
        for (id, known) in &it.known {
            (id, known.good, known.timely).hash(&mut hasher);
        }
        for (place, vote) in &it.own {
            (place, vote.checkpoint).hash(&mut hasher);
        }
        (&it.latest, it.twin).hash(&mut hasher);
        for timer in it.timers.keys() {
            (*timer as u8).hash(&mut hasher);
        }
        for (place, message) in &it.early {
            (place, message.encode()).hash(&mut hasher);
        }
        for record in &self.records {
            record.encode().hash(&mut hasher);
        }
        for certificate in &self.certificates {
            certificate.encode().hash(&mut hasher);
        }
        (&self.said, self.crashes).hash(&mut hasher);
        hasher.finish()
    }

    /// Forgets what others voted where it came to no quorum: they can say it again.
    fn forget(&mut self) {
        let it = &mut self.core;
        let me = it
            .me
            .as_ref()
            .and_then(|(me, _)| it.height.witnesses.index_of(me));
        for round in it.rounds.values_mut() {
            round.keep_quorums(&it.height.witnesses, me.map(|place| place as u8));
        }
        it.latest = vec![None; it.latest.len()];
    }

    /// What others can see of it.
    fn seen(&self) -> (usize, usize) {
        (self.said.len(), self.certificates.len())
    }

    fn control(&self) -> (u64, u32, Step, Vec<Timer>) {
        let timers = self.core.timers.keys().copied().collect();
        (self.core.height(), self.core.round, self.core.step, timers)
    }
}

/// States and messages by number, and what was computed of them.
#[derive(Default)]
struct Table {
    locals: Vec<Local>,
    numbers: HashMap<u64, u32>,
    messages: Vec<Message>,
    message_numbers: HashMap<Vec<u8>, u32>,
    steps: HashMap<(u32, Vec<u32>), Vec<u32>>,
    /// What changes something in a state, if only what is remembered.
    news: HashMap<(u32, u32), bool>,
    fires: HashMap<(u32, Vec<u32>), Option<u32>>,
}

impl Table {
    fn number(&mut self, mut local: Local) -> u32 {
        local.forget();
        let fingerprint = local.fingerprint();
        if let Some(number) = self.numbers.get(&fingerprint) {
            return *number;
        }
        let number = self.locals.len() as u32;
        self.locals.push(local);
        self.numbers.insert(fingerprint, number);
        number
    }

    fn message(&mut self, message: Message) -> u32 {
        let bytes = message.encode();
        if let Some(number) = self.message_numbers.get(&bytes) {
            return *number;
        }
        let number = self.messages.len() as u32;
        self.messages.push(message);
        self.message_numbers.insert(bytes, number);
        number
    }
}

/// The scope: who lies, how far rounds go, how often a witness may crash.
struct Scope {
    genesis: Genesis,
    /// Honest nodes: three of the first witnesses and the one who joins.
    honest: Vec<u8>,
    liar: u8,
    second: WitnessSet,
    /// The last round of each height.
    rounds: Vec<u32>,
    /// The timers of each height that may run out.
    timers: Vec<Vec<Timer>>,
    crashes: u8,
    table: Mutex<Table>,
}

type State = Vec<u32>;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Move {
    place: usize,
    to: u32,
}

impl Scope {
    fn new(liar: u8, heights: &[(u32, &[Timer])], crashes: u8) -> Self {
        let set = |nodes: &[u8]| WitnessSet::of_equals(nodes.iter().map(|it| node(*it))).expect("few");
        let mut honest: Vec<u8> = (0..4).filter(|it| *it != liar).collect();
        let genesis = Genesis {
            name: "model".into(),
            admins: vec![SecretKey::from_seed(NETWORK_ADMIN).public()],
            admins_needed: 1,
            witnesses: set(&[0, 1, 2, 3]),
            created_ms: 1,
            salt: [0; 16],
        };
        let second = set(&[honest[0], honest[1], liar, 4]);
        honest.push(4);
        Self {
            genesis,
            honest,
            liar,
            second,
            rounds: heights.iter().map(|(rounds, _)| *rounds).collect(),
            timers: heights.iter().map(|(_, timers)| timers.to_vec()).collect(),
            crashes,
            table: Mutex::default(),
        }
    }

    fn value(&self, chain: &CertifiedChain, tag: u32) -> Checkpoint {
        let height = chain.height() + 1;
        Checkpoint {
            height,
            previous: chain.last(),
            time_ms: height,
            order: [tag as u8; 32],
            state: [0; 32],
            forks: [0; 32],
            fold_version: FOLD_VERSION,
            heads: Vec::new(),
            next_witnesses: (height == 1).then(|| self.second.clone()),
        }
    }

    fn open(&self, who: u8, chain: &CertifiedChain, records: Vec<Record>) -> Consensus {
        let height = Height {
            network: self.genesis.network(),
            height: chain.height() + 1,
            previous: chain.last(),
            witnesses: chain.witnesses().clone(),
            admins: chain.admins().clone(),
            verify: Verify::Trusting,
        };
        let me = Some((node(who), SecretKey::from_seed([who; 32])));
        Consensus::new(height, me, records)
    }

    fn local(&self, table: &mut Table, who: u8) -> Local {
        let chain = CertifiedChain::from_genesis(&self.genesis);
        let mut local = Local {
            core: self.open(who, &chain, Vec::new()),
            chain,
            records: Vec::new(),
            said: BTreeSet::new(),
            certificates: Vec::new(),
            ids: Vec::new(),
            precommitted: BTreeSet::new(),
            crashes: self.crashes,
        };
        self.begin(table, &mut local);
        local
    }

    /// Begins the height, if the node votes at it and the scope goes so far.
    fn begin(&self, table: &mut Table, local: &mut Local) {
        let me = local.core.me.as_ref().map(|(node, _)| *node);
        let votes = me.is_some_and(|me| local.core.witnesses().index_of(&me).is_some());
        if votes && local.core.height() <= self.rounds.len() as u64 {
            let outputs = local.core.begin(0);
            self.perform(table, local, outputs);
        }
    }

    /// Gives it one message; whether anything came of it.
    fn deliver(&self, table: &mut Table, local: &mut Local, message: u32) -> bool {
        let before = local.control();
        let message = table.messages[message as usize].clone();
        let outputs = local.core.handle(Input::Message(message), 0);
        let told = self.perform(table, local, outputs);
        told || local.control() != before
    }

    fn perform(&self, table: &mut Table, local: &mut Local, outputs: Vec<Output>) -> bool {
        let mut told = false;
        let mut answers = Vec::new();
        for output in outputs {
            match output {
                Output::Propose { round, .. } => {
                    answers.push(Input::Value(self.value(&local.chain, round % 2)));
                }
                Output::Judge(checkpoint) => answers.push(Input::Judged {
                    checkpoint: checkpoint.id(self.genesis.network()),
                    good: true,
                    timely: true,
                }),
                Output::Persist(record) => local.records.push(record),
                Output::Broadcast(message) => {
                    told = true;
                    let durable = match &message {
                        Message::Vote(vote) => local.records.contains(&Record::Vote(*vote)),
                        Message::Proposal(it) => local.records.contains(&Record::Proposal(it.clone())),
                        Message::Recovery(_) => false,
                    };
                    assert!(durable, "told before it was durable: {message:?}");
                    if let Message::Vote(vote) = &message
                        && let (VoteKind::Precommit, Some(id)) = (vote.kind, vote.checkpoint)
                    {
                        local.precommitted.insert((vote.height, vote.round, id));
                    }
                    local.said.insert(table.message(message));
                }
                // Where it does not matter who made a quorum up, a state stands for others with it, and who
                // is honest there may seem to lie here.
                Output::Evidence(_) => {}
                Output::Twin(vote) => panic!("nobody has another's key: {vote:?}"),
                Output::Decided(certificate) => {
                    self.certified(table, local, certificate);
                    return true;
                }
            }
        }
        for answer in answers {
            let outputs = local.core.handle(answer, 0);
            told |= self.perform(table, local, outputs);
        }
        told
    }

    /// It has the certificate of its height, and begins the next one.
    fn certified(&self, table: &mut Table, local: &mut Local, certificate: Certificate) {
        let who = local.core.me.as_ref().expect("each has a key").0;
        let followed = local.chain.follow_trusting(&certificate);
        followed.expect("every certificate verifies");
        local.certificates.push(certificate);
        local.ids.push(local.chain.last());
        local.records.clear();
        local.core = self.open(who.0[0], &local.chain, Vec::new());
        self.begin(table, local);
    }

    /// Everything that the liar can say at a height, after this chain.
    fn lies(&self, table: &mut Table, chain: &CertifiedChain) -> Vec<u32> {
        let height = chain.height() + 1;
        let Some(last) = self.rounds.get(height as usize - 1) else {
            return Vec::new();
        };
        let network = self.genesis.network();
        let signature = Signature([0; SIGNATURE_BYTES]);
        let values = [0, 1].map(|tag| self.value(chain, tag));
        let mut lies = Vec::new();
        for round in 0..=*last {
            if chain.witnesses().proposer(height, round) == Some(node(self.liar)) {
                for checkpoint in &values {
                    for valid_round in std::iter::once(None).chain((0..round).map(Some)) {
                        lies.push(Message::Proposal(Proposal {
                            round,
                            valid_round,
                            recovery: None,
                            checkpoint: checkpoint.clone(),
                            proposer: node(self.liar),
                            signature,
                        }));
                    }
                }
            }
            for kind in [VoteKind::Prevote, VoteKind::Precommit] {
                let ids = values.iter().map(|value| Some(value.id(network)));
                for checkpoint in ids.chain([None]) {
                    lies.push(Message::Vote(Vote {
                        kind,
                        height,
                        round,
                        recovery: None,
                        checkpoint,
                        witness: node(self.liar),
                        signature,
                    }));
                }
            }
        }
        lies.into_iter().map(|lie| table.message(lie)).collect()
    }

    /// Batches of which something may come: votes of one kind and round, of each witness at most one, and at
    /// most one proposal. No rule needs more.
    fn batches(&self, table: &Table, available: &[u32]) -> Vec<Vec<u32>> {
        let mut proposals = vec![Vec::new()];
        let mut votes: BTreeMap<(u32, VoteKind), BTreeMap<NodeId, Vec<u32>>> = BTreeMap::new();
        for number in available {
            match &table.messages[*number as usize] {
                Message::Proposal(_) => proposals.push(vec![*number]),
                Message::Vote(vote) => votes
                    .entry((vote.round, vote.kind))
                    .or_default()
                    .entry(vote.witness)
                    .or_default()
                    .push(*number),
                Message::Recovery(_) => {}
            }
        }
        let mut batches = proposals.clone();
        for by_witness in votes.values() {
            let mut sets = vec![Vec::new()];
            for votes in by_witness.values() {
                let more = sets.iter().flat_map(|set: &Vec<u32>| {
                    votes.iter().map(move |vote| [set.as_slice(), &[*vote]].concat())
                });
                let more: Vec<Vec<u32>> = more.collect();
                sets.extend(more);
            }
            for set in sets.into_iter().filter(|set| !set.is_empty()) {
                batches.extend(
                    proposals
                        .iter()
                        .map(|proposal| [proposal.as_slice(), &set].concat()),
                );
            }
        }
        batches.retain(|batch| !batch.is_empty());
        batches
    }

    /// What comes of a batch, if something comes of its last message and nothing without any one of it.
    fn fire(&self, table: &mut Table, from: &Local, batch: &[u32]) -> Option<Local> {
        let mut local = from.clone();
        let (last, before) = batch.split_last()?;
        for message in before {
            if self.deliver(table, &mut local, *message) {
                return None;
            }
        }
        if !self.deliver(table, &mut local, *last) {
            return None;
        }
        for left_out in 0..before.len() {
            let mut less = from.clone();
            for (place, message) in batch.iter().enumerate() {
                if place != left_out && self.deliver(table, &mut less, *message) {
                    return None;
                }
            }
        }
        Some(local)
    }

    fn is_in_scope(&self, next: &Local) -> bool {
        let last = self.rounds.get(next.core.height() as usize - 1);
        last.is_none_or(|last| next.core.round <= *last)
    }

    /// Whether a message changes anything, if only what is remembered.
    fn is_news(&self, table: &mut Table, number: u32, from: &Local, message: u32) -> bool {
        if let Some(news) = table.news.get(&(number, message)) {
            return *news;
        }
        let mut local = from.clone();
        let news = self.deliver(table, &mut local, message) || local.fingerprint() != from.fingerprint();
        table.news.insert((number, message), news);
        news
    }

    /// All that a witness may do next, where the others have said what is available.
    fn steps(&self, place: usize, number: u32, others: &[u32]) -> Vec<u32> {
        let mut table = self.table.lock().expect("no step panics while others go on");
        let table = &mut *table;
        let from = table.locals[number as usize].clone();
        let height = from.core.height();
        if from.core.step == Step::Idle || height > self.rounds.len() as u64 {
            return Vec::new();
        }
        let mut available: Vec<u32> = others
            .iter()
            .flat_map(|other| table.locals[*other as usize].said.iter().copied())
            .filter(|message| table.messages[*message as usize].height() == height)
            .collect();
        available.sort_unstable();
        let key = (number, available);
        if let Some(steps) = table.steps.get(&key) {
            return steps.clone();
        }
        let mut available = key.1.clone();
        available.extend(self.lies(table, &from.chain));
        // Whatever nobody sees may as well come just before what is seen.
        let (mut todo, mut met, mut steps) = (vec![number], BTreeSet::from([number]), BTreeSet::new());
        while let Some(unseen) = todo.pop() {
            for next in self.nexts(table, place, unseen, &available) {
                if table.locals[next as usize].seen() != from.seen() {
                    steps.insert(next);
                } else if met.insert(next) {
                    todo.push(next);
                }
            }
        }
        let steps: Vec<u32> = steps.into_iter().collect();
        table.steps.insert(key, steps.clone());
        steps
    }

    /// What may come next of a batch of messages, a timer or a crash.
    fn nexts(&self, table: &mut Table, place: usize, number: u32, available: &[u32]) -> Vec<u32> {
        let from = table.locals[number as usize].clone();
        let mut available = available.to_vec();
        available.retain(|message| self.is_news(table, number, &from, *message));
        let mut steps = Vec::new();
        for batch in self.batches(table, &available) {
            let fire = (number, batch);
            let next = match table.fires.get(&fire) {
                Some(next) => *next,
                None => {
                    let next = self.fire(table, &from, &fire.1);
                    let next = next.filter(|next| self.is_in_scope(next));
                    let next = next.map(|next| table.number(next));
                    table.fires.insert(fire, next);
                    next
                }
            };
            steps.extend(next);
        }
        let mut others = Vec::new();
        let mut timers: Vec<Timer> = from.core.timers.keys().copied().collect();
        timers.retain(|timer| self.timers[from.core.height() as usize - 1].contains(timer));
        for timer in timers {
            let mut local = from.clone();
            let mut outputs = Vec::new();
            local.core.expire(timer, 0, &mut outputs);
            local.core.advance(0, &mut outputs);
            self.perform(table, &mut local, outputs);
            others.push(local);
        }
        if from.crashes > 0 {
            let mut local = from.clone();
            local.crashes -= 1;
            local.core = self.open(self.honest[place], &local.chain, local.records.clone());
            self.begin(table, &mut local);
            others.push(local);
        }
        for local in others.into_iter().filter(|local| self.is_in_scope(local)) {
            steps.push(table.number(local));
        }
        steps
    }

    /// The certificates of others by which a witness that is behind comes on.
    fn catch_up(&self, number: u32, others: &[u32]) -> Option<u32> {
        let mut table = self.table.lock().expect("no step panics while others go on");
        let mut local = table.locals[number as usize].clone();
        let have = local.certificates.len();
        let certificate = others
            .iter()
            .find_map(|other| table.locals[*other as usize].certificates.get(have))?
            .clone();
        self.certified(&mut table, &mut local, certificate);
        Some(table.number(local))
    }

    fn with<T>(&self, state: &State, ask: impl Fn(&[&Local]) -> T) -> T {
        let table = self.table.lock().expect("no step panics while others go on");
        let locals: Vec<&Local> = state
            .iter()
            .map(|number| &table.locals[*number as usize])
            .collect();
        ask(&locals)
    }
}

impl Model for Scope {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        let mut table = self.table.lock().expect("nothing panicked");
        let table = &mut *table;
        let state = self.honest.iter().map(|who| {
            let local = self.local(table, *who);
            table.number(local)
        });
        vec![state.collect()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Move>) {
        for (place, number) in state.iter().enumerate() {
            let mut others = state.clone();
            others.remove(place);
            let nexts = self
                .steps(place, *number, &others)
                .into_iter()
                .chain(self.catch_up(*number, &others));
            actions.extend(nexts.map(|to| Move { place, to }));
        }
    }

    fn next_state(&self, state: &State, step: Move) -> Option<State> {
        let mut next = state.clone();
        next[step.place] = step.to;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE, |scope: &Scope, state| {
                scope.with(state, |locals| {
                    (0..2).all(|height| {
                        let mut ids = locals.iter().filter_map(|it| it.ids.get(height));
                        let first = ids.next();
                        ids.all(|id| Some(id) == first)
                    })
                })
            }),
            Property::always(SAID, |scope: &Scope, state| {
                let said = |locals: &[&Local], certificate: &Certificate, id: &CheckpointId| {
                    let height = certificate.checkpoint.height;
                    let set = [&scope.genesis.witnesses, &scope.second][height as usize - 1];
                    certificate.precommits.iter().all(|(place, _)| {
                        let who = set.at(usize::from(*place)).expect("it verified").node;
                        let honest = scope.honest.iter().position(|it| node(*it) == who);
                        let said = (height, certificate.round, *id);
                        honest.is_none_or(|at| locals[at].precommitted.contains(&said))
                    })
                };
                scope.with(state, |locals| {
                    let mut all = locals.iter().flat_map(|it| it.certificates.iter().zip(&it.ids));
                    all.all(|(certificate, id)| said(locals, certificate, id))
                })
            }),
            Property::sometimes("all heights are decided", |scope: &Scope, state| {
                let heights = scope.rounds.len();
                scope.with(state, |locals| {
                    locals[..2].iter().all(|it| it.ids.len() == heights)
                })
            }),
            Property::sometimes("a height is decided in its last round", |scope: &Scope, state| {
                scope.with(state, |locals| {
                    let mut certificates = locals.iter().flat_map(|it| &it.certificates);
                    certificates.any(|it| it.round == scope.rounds[it.checkpoint.height as usize - 1])
                })
            }),
        ]
    }
}

const ONE: &str = "one checkpoint is certified at each height";
const SAID: &str = "who stands in a certificate has said so";

const ALL: &[Timer] = &[Timer::Propose, Timer::Prevote, Timer::Precommit];

/// `heights` says of each how far its rounds go and which timers may run out.
fn check(liar: u8, heights: &[(u32, &[Timer])], crashes: u8) {
    let started = std::time::Instant::now();
    let scope = Scope::new(liar, heights, crashes);
    let checker = scope.checker().threads(2).spawn_bfs().join();
    let witnesses = checker
        .model()
        .table
        .lock()
        .expect("nothing panicked")
        .locals
        .len();
    println!(
        "{} states of {witnesses} states of one witness in {:?}",
        checker.unique_state_count(),
        started.elapsed()
    );
    checker.assert_properties();
}

#[test]
fn agreement_holds_where_the_liar_proposes_and_witnesses_crash() {
    check(1, &[(0, ALL)], 1);
}

#[test]
fn agreement_holds_across_a_change_of_the_set() {
    check(1, &[(0, &[]), (0, &[])], 0);
}

#[test]
fn agreement_holds_across_rounds_where_the_liar_proposes_first() {
    check(1, &[(1, &[Timer::Precommit])], 0);
}

#[test]
fn agreement_holds_across_rounds_where_the_liar_proposes_second() {
    check(2, &[(1, &[Timer::Precommit])], 0);
}
