//! A network of consensus cores in virtual time: messages are late, lost and out of order, nodes crash between
//! any two outputs and come back with what they had made durable, and one may lie. It checks all along that
//! every height has one certificate that holds, and that no honest witness ever says two things in one place
//! or says what it has not written down.

#![allow(dead_code, reason = "the tests and the example use different parts")]

use std::collections::{BTreeMap, BTreeSet};

use ledger::admit::Verify;
use ledger::finality::chain::CertifiedChain;
use ledger::finality::checkpoint::{Certificate, Checkpoint, FOLD_VERSION, VoteKind};
use ledger::finality::consensus::{Consensus, Height, Input, Output, Step};
use ledger::finality::recovery::SignedRecovery;
use ledger::finality::vote::{Evidence, Message, Proposal, Record, Vote};
use ledger::finality::witness::WitnessSet;
use ledger::genesis::Genesis;
use ledger::id::{CheckpointId, NodeId, hash};
use ledger::key::{SIGNATURE_BYTES, SecretKey, Signature};

/// How often a node tells one peer again what it knows, in milliseconds.
const RETELL_MS: u64 = 200;

/// What goes wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    /// Messages take at least this long, in milliseconds.
    pub(crate) delay_ms: u64,
    /// And up to this much longer: so they overtake each other.
    pub(crate) jitter_ms: u64,
    /// Of a thousand messages, how many are lost.
    pub(crate) lost: u64,
    /// Of a thousand outputs, after how many the node crashes.
    pub(crate) crash: u64,
}

/// Ten milliseconds one way, nothing lost.
pub(crate) const CALM: Faults = Faults {
    delay_ms: 10,
    jitter_ms: 0,
    lost: 0,
    crash: 0,
};

enum Event {
    Tell(Message),
    Certificate(Certificate),
    Judged(CheckpointId),
    Tick,
    /// Of this start of the node.
    Retell(u64),
    Begin,
    Restart,
}

/// Where something is said: by whom, height, round, as a vote or a proposal, under which recovery.
type Said = (NodeId, u64, u32, Option<VoteKind>, Option<[u8; 32]>);

/// One node.
pub(crate) struct Node {
    pub(crate) secret: SecretKey,
    pub(crate) up: bool,
    pub(crate) core: Option<Consensus>,
    pub(crate) chain: CertifiedChain,
    /// All certificates, by height from 1, and when they were there.
    pub(crate) certificates: Vec<(u64, Certificate)>,
    /// Durable.
    pub(crate) records: Vec<Record>,
    pub(crate) evidence: Vec<Evidence>,
    /// How often it was started.
    starts: u64,
    /// The next tick that is due.
    tick_ms: u64,
}

pub(crate) struct Net {
    pub(crate) genesis: Genesis,
    pub(crate) now_ms: u64,
    pub(crate) faults: Faults,
    pub(crate) nodes: Vec<Node>,
    /// Lies, if there is one: it has no core.
    pub(crate) liar: Option<usize>,
    /// Whether each node starts the next height as soon as it has a certificate.
    pub(crate) busy: bool,
    /// The witnesses that a checkpoint of this height names.
    pub(crate) changes: BTreeMap<u64, WitnessSet>,
    pub(crate) verify: Verify,
    pub(crate) messages: u64,
    queue: BTreeMap<(u64, u64), (usize, Event)>,
    sequence: u64,
    chance: u64,
    decided: BTreeMap<u64, CheckpointId>,
    said: BTreeMap<Said, Option<CheckpointId>>,
    seen: BTreeSet<(u64, CheckpointId)>,
}

pub(crate) fn secret(index: usize) -> SecretKey {
    SecretKey::from_seed([index as u8 + 1; 32])
}

impl Net {
    /// `voters` of the `count` nodes are the first witnesses.
    pub(crate) fn new(seed: u64, count: usize, voters: usize, verify: Verify) -> Self {
        let secrets: Vec<SecretKey> = (0..count).map(secret).collect();
        let witnesses = WitnessSet::of_equals(secrets[..voters].iter().map(SecretKey::node_id));
        let genesis = Genesis {
            name: "net".into(),
            admins: (100..103).map(|it| secret(it).public()).collect(),
            admins_needed: 2,
            witnesses: witnesses.expect("few"),
            created_ms: 1,
            salt: [0; 16],
        };
        let nodes = secrets
            .into_iter()
            .map(|secret| Node {
                secret,
                up: true,
                core: None,
                chain: CertifiedChain::from_genesis(&genesis),
                certificates: Vec::new(),
                records: Vec::new(),
                evidence: Vec::new(),
                starts: 0,
                tick_ms: 0,
            })
            .collect();
        Self {
            genesis,
            now_ms: 1000,
            faults: CALM,
            nodes,
            liar: None,
            busy: true,
            changes: BTreeMap::new(),
            verify,
            messages: 0,
            queue: BTreeMap::new(),
            sequence: 0,
            chance: seed,
            decided: BTreeMap::new(),
            said: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Starts all nodes that are up.
    pub(crate) fn start(&mut self) {
        for node in 0..self.nodes.len() {
            if self.liar == Some(node) {
                self.at(self.now_ms + 1, node, Event::Retell(0));
            } else if self.nodes[node].up {
                self.restart(node);
            }
        }
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.chance;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }

    fn at(&mut self, at_ms: u64, node: usize, event: Event) {
        self.sequence += 1;
        self.queue.insert((at_ms, self.sequence), (node, event));
    }

    fn send(&mut self, to: usize, event: Event) {
        self.messages += 1;
        if self.below(1000) >= self.faults.lost {
            let jitter_ms = self.below(self.faults.jitter_ms + 1);
            self.at(self.now_ms + self.faults.delay_ms + jitter_ms, to, event);
        }
    }

    /// The height that a node is at.
    pub(crate) fn height(&self, node: usize) -> u64 {
        self.nodes[node].chain.height() + 1
    }

    /// Lets time pass until then.
    pub(crate) fn run_until(&mut self, until_ms: u64) {
        while let Some(((at_ms, _), (node, event))) = self
            .queue
            .first_key_value()
            .is_some_and(|((at_ms, _), _)| *at_ms <= until_ms)
            .then(|| self.queue.pop_first())
            .flatten()
        {
            self.now_ms = at_ms;
            self.take(node, event);
        }
        self.now_ms = until_ms;
    }

    fn take(&mut self, node: usize, event: Event) {
        if self.liar == Some(node) {
            return self.lie(event);
        }
        if !self.nodes[node].up {
            if matches!(event, Event::Restart) {
                self.restart(node);
            }
            return;
        }
        match event {
            Event::Tell(message) => self.input(node, Input::Message(message)),
            Event::Judged(checkpoint) => self.input(
                node,
                Input::Judged {
                    checkpoint,
                    good: true,
                    timely: true,
                },
            ),
            Event::Tick => {
                self.nodes[node].tick_ms = 0;
                self.input(node, Input::Tick);
            }
            Event::Certificate(certificate) => {
                if certificate.checkpoint.height == self.height(node) {
                    self.certified(node, certificate);
                }
            }
            Event::Retell(start) if start == self.nodes[node].starts => self.retell(node),
            Event::Begin => self.begin(node),
            Event::Restart | Event::Retell(_) => {}
        }
    }

    /// Tells a random peer again what is known, or the certificate that it lacks.
    fn retell(&mut self, node: usize) {
        let start = self.nodes[node].starts;
        self.at(self.now_ms + RETELL_MS, node, Event::Retell(start));
        let peer = self.below(self.nodes.len() as u64) as usize;
        let theirs = self.height(peer);
        if let Some((_, certificate)) = self.nodes[node].certificates.get(theirs as usize - 1) {
            let event = Event::Certificate(certificate.clone());
            self.send(peer, event);
        } else if theirs == self.height(node) {
            let core = self.nodes[node].core.as_ref();
            for message in core.map(Consensus::messages).unwrap_or_default() {
                self.send(peer, Event::Tell(message));
            }
        }
    }

    /// Brings a node up with what it has on disk.
    pub(crate) fn restart(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.up = true;
        it.starts += 1;
        it.tick_ms = 0;
        let start = it.starts;
        self.open(node);
        self.at(self.now_ms + RETELL_MS, node, Event::Retell(start));
    }

    fn crash(&mut self, node: usize) {
        self.nodes[node].up = false;
        self.nodes[node].core = None;
        let pause_ms = 1 + self.below(1500);
        self.at(self.now_ms + pause_ms, node, Event::Restart);
    }

    /// Makes the core of the height that the node is at, and begins it if there is something to do.
    fn open(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let height = it.chain.height() + 1;
        it.records.retain(|record| record.height() == height);
        let place = Height {
            network: self.genesis.network(),
            height,
            previous: it.chain.last(),
            witnesses: it.chain.witnesses().clone(),
            admins: it.chain.admins().clone(),
            verify: self.verify,
        };
        let me = Some((it.secret.node_id(), it.secret.clone()));
        // What was written reads back.
        let stored = it.records.iter().map(|record| {
            let again = Record::decode(&record.encode()).expect("a record reads back");
            assert_eq!(again, *record);
            again
        });
        it.core = Some(Consensus::new(place, me, stored.collect()));
        if self.busy || !self.nodes[node].records.is_empty() {
            self.at(self.now_ms + 1, node, Event::Begin);
        }
    }

    /// Begins the height at which a node is.
    pub(crate) fn begin(&mut self, node: usize) {
        if let Some(core) = &mut self.nodes[node].core {
            let outputs = core.begin(self.now_ms);
            self.perform(node, outputs);
        }
    }

    pub(crate) fn input(&mut self, node: usize, input: Input) {
        let Some(core) = &mut self.nodes[node].core else {
            return;
        };
        let outputs = core.handle(input, self.now_ms);
        self.perform(node, outputs);
    }

    /// Gives a recovery to one node.
    pub(crate) fn recover(&mut self, node: usize, signed: SignedRecovery) {
        self.input(node, Input::Message(Message::Recovery(signed)));
    }

    /// What an honest node proposes.
    pub(crate) fn value(&self, node: usize) -> Checkpoint {
        let chain = &self.nodes[node].chain;
        let height = chain.height() + 1;
        Checkpoint {
            height,
            previous: chain.last(),
            time_ms: self.now_ms.max(chain.time_ms() + 1),
            order: hash(
                "test value",
                &[&[node as u8], &height.to_le_bytes(), &self.now_ms.to_le_bytes()],
            ),
            state: [0; 32],
            forks: [0; 32],
            fold_version: FOLD_VERSION,
            heads: Vec::new(),
            next_witnesses: self.changes.get(&height).cloned(),
        }
    }

    fn perform(&mut self, node: usize, outputs: Vec<Output>) {
        // All outputs are performed before an answer to one of them goes in.
        let mut answers = Vec::new();
        for output in outputs {
            match output {
                Output::Persist(record) => self.nodes[node].records.push(record),
                Output::Broadcast(message) => {
                    self.check_said(node, &message);
                    for peer in (0..self.nodes.len()).filter(|peer| *peer != node) {
                        self.send(peer, Event::Tell(message.clone()));
                    }
                }
                Output::Propose { .. } => {
                    answers.push(Input::Value(self.value(node)));
                }
                Output::Judge(checkpoint) => {
                    // The ops may come later than the proposal.
                    let late_ms = self.below(self.faults.jitter_ms + 1);
                    let id = checkpoint.id(self.genesis.network());
                    if late_ms == 0 {
                        let (checkpoint, good, timely) = (id, true, true);
                        answers.push(Input::Judged {
                            checkpoint,
                            good,
                            timely,
                        });
                    } else {
                        self.at(self.now_ms + late_ms, node, Event::Judged(id));
                    }
                }
                Output::Evidence(evidence) => {
                    let liar = self.liar.map(|liar| self.nodes[liar].secret.node_id());
                    assert_eq!(Some(evidence.witness()), liar, "an honest witness was accused");
                    if self.verify == Verify::Real {
                        assert!(evidence.verify(self.genesis.network()));
                    }
                    self.nodes[node].evidence.push(evidence);
                }
                Output::Twin(vote) => panic!("nobody else has the key of node {node}: {vote:?}"),
                Output::Decided(certificate) => {
                    let text = certificate.encode();
                    assert_eq!(Certificate::decode(&text).as_ref(), Ok(&certificate));
                    self.certified(node, certificate);
                }
            }
            if self.faults.crash > 0 && self.nodes[node].up && self.below(1000) < self.faults.crash {
                return self.crash(node);
            }
            if !self.nodes[node].up {
                return;
            }
        }
        for answer in answers {
            self.input(node, answer);
        }
        let core = self.nodes[node].core.as_ref();
        if let Some(at_ms) = core.and_then(Consensus::deadline)
            && !(1..=at_ms).contains(&self.nodes[node].tick_ms)
        {
            let at_ms = at_ms.max(self.now_ms);
            self.nodes[node].tick_ms = at_ms;
            self.at(at_ms, node, Event::Tick);
        }
    }

    /// What an honest witness says it has written down, and never says otherwise.
    fn check_said(&mut self, node: usize, message: &Message) {
        assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(message));
        let it = &self.nodes[node];
        let me = it.secret.node_id();
        let (key, value, record) = match message {
            Message::Vote(vote) => (
                (
                    vote.witness,
                    vote.height,
                    vote.round,
                    Some(vote.kind),
                    vote.recovery.map(|id| id.0),
                ),
                vote.checkpoint,
                Record::Vote(*vote),
            ),
            Message::Proposal(proposal) => (
                (
                    proposal.proposer,
                    proposal.height(),
                    proposal.round,
                    None,
                    proposal.recovery.map(|id| id.0),
                ),
                Some(proposal.checkpoint.id(self.genesis.network())),
                Record::Proposal(proposal.clone()),
            ),
            Message::Recovery(_) => return,
        };
        assert_eq!(key.0, me, "a node speaks for itself");
        assert!(
            it.records.contains(&record),
            "told before it was durable: {record:?}"
        );
        if let (Some(VoteKind::Precommit), Some(id)) = (key.3, value) {
            let network = self.genesis.network();
            assert!(
                it.records.iter().any(|record| matches!(record,
                    Record::Lock { round, checkpoint, .. }
                        if *round == key.2 && checkpoint.id(network) == id)),
                "precommitted without a durable lock"
            );
        }
        let before = *self.said.entry(key).or_insert(value);
        assert_eq!(before, value, "an honest witness said two things at {key:?}");
    }

    /// A node has the certificate of the height at which it is.
    fn certified(&mut self, node: usize, certificate: Certificate) {
        let id = certificate.checkpoint.id(self.genesis.network());
        let height = certificate.checkpoint.height;
        let before = *self.decided.entry(height).or_insert(id);
        assert_eq!(before, id, "two certificates at height {height}");
        let it = &mut self.nodes[node];
        let followed = match self.verify {
            Verify::Real => it.chain.follow(&certificate, [7; 32]),
            Verify::Trusting => it.chain.follow_trusting(&certificate),
        };
        followed.expect("what was decided verifies");
        it.certificates.push((self.now_ms, certificate));
        let early = it.core.take().map(Consensus::into_early).unwrap_or_default();
        self.open(node);
        for message in early {
            self.input(node, Input::Message(message));
        }
    }

    /// Whatever the liar hears, it says something else to everybody.
    fn lie(&mut self, event: Event) {
        let liar = self.liar.expect("it lies");
        match event {
            Event::Retell(_) => self.at(self.now_ms + RETELL_MS / 4, liar, Event::Retell(0)),
            Event::Tell(message) => {
                let network = self.genesis.network();
                let id = match &message {
                    Message::Proposal(proposal) => Some(proposal.checkpoint.id(network)),
                    Message::Vote(vote) => vote.checkpoint,
                    Message::Recovery(_) => None,
                };
                self.seen.extend(id.map(|id| (message.height(), id)));
            }
            Event::Certificate(_) => {}
            _ => return,
        }
        for peer in (0..self.nodes.len()).filter(|peer| *peer != liar) {
            if self.below(3) == 0 {
                self.lie_to(peer);
            }
        }
    }

    fn lie_to(&mut self, peer: usize) {
        let Some(core) = self.nodes[peer]
            .core
            .as_ref()
            .filter(|core| core.step() != Step::Decided)
        else {
            return;
        };
        let (network, secret) = (
            self.genesis.network(),
            self.nodes[self.liar.expect("it lies")].secret.clone(),
        );
        let (height, me) = (core.height(), secret.node_id());
        let round = core.round();
        let mine = core.witnesses().proposer(height, round) == Some(me);
        let round = round + if mine { 0 } else { self.below(3) as u32 };
        let mut known: Vec<Option<CheckpointId>> = self
            .seen
            .range((height, CheckpointId([0; 32]))..)
            .take_while(|(at, _)| *at == height)
            .map(|(_, id)| Some(*id))
            .collect();
        known.push(None);
        if mine {
            let mut checkpoint = self.value(peer);
            checkpoint.order = [self.below(2) as u8; 32];
            let proposal = Proposal {
                round,
                valid_round: (round > 0 && self.below(2) == 0).then(|| round - 1),
                recovery: None,
                checkpoint,
                proposer: me,
                signature: Signature([0; SIGNATURE_BYTES]),
            };
            let proposal = proposal.signed(network, &secret, self.verify);
            self.send(peer, Event::Tell(Message::Proposal(proposal)));
        }
        for kind in [VoteKind::Prevote, VoteKind::Precommit] {
            let checkpoint = known[self.below(known.len() as u64) as usize];
            let vote = Vote {
                kind,
                height,
                round,
                recovery: None,
                checkpoint,
                witness: me,
                signature: Signature([0; SIGNATURE_BYTES]),
            };
            let vote = vote.signed(network, &secret, self.verify);
            self.send(peer, Event::Tell(Message::Vote(vote)));
        }
    }
}

/// Lets `count` ops appear, about `gap_ms` apart, while the nodes `down` are; the sorted times in milliseconds
/// from each op to its certificate, at the node where it appeared. A node certifies what reached it before it
/// proposed.
pub(crate) fn time_to_final(net: &mut Net, down: &[usize], gap_ms: u64, count: usize) -> Vec<u64> {
    net.busy = false;
    for node in down {
        net.nodes[*node].up = false;
    }
    net.start();
    let up: Vec<usize> = (0..net.nodes.len()).filter(|node| !down.contains(node)).collect();
    let mut at_ms = net.now_ms;
    // When and where.
    let mut ops: Vec<(u64, usize)> = (0..count)
        .map(|_| {
            at_ms += net.below(2 * gap_ms);
            (at_ms, up[net.below(up.len() as u64) as usize])
        })
        .collect();
    let mut times = Vec::new();
    let until_ms = at_ms + 60_000;
    while !ops.is_empty() {
        assert!(
            net.now_ms < until_ms,
            "{} ops are not final after a minute",
            ops.len()
        );
        net.run_until(net.now_ms + 1);
        let (now_ms, delay_ms) = (net.now_ms, net.faults.delay_ms);
        // A checkpoint's time is when it was proposed; it covers what its proposer had then.
        ops.retain(|(at_ms, node)| {
            let last = net.nodes[*node].certificates.last();
            let covers = last.filter(|(_, it)| it.checkpoint.time_ms >= at_ms + delay_ms);
            if let Some((certified_ms, _)) = covers.filter(|_| *at_ms <= now_ms) {
                times.push(certified_ms - at_ms);
                return false;
            }
            true
        });
        let waits = |node: usize| {
            ops.iter()
                .any(|(at_ms, home)| at_ms + if node == *home { 0 } else { delay_ms } <= now_ms)
        };
        let begins: Vec<usize> = up.iter().copied().filter(|node| waits(*node)).collect();
        for node in begins {
            net.begin(node);
        }
    }
    times.sort_unstable();
    times
}
