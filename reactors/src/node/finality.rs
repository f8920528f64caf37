//! The node's part in finality: it votes if it is a witness, follows certificates if it is not, and makes
//! final what they cover.
//!
//! ```text
//!   ops that nothing certified, settled ──▶ begin a height ──▶ propose, judge, vote ──▶ certificate
//!   a peer's certificate ──▶ proved, in the order of heights ──┐                           │
//!                                                              ▼                           ▼
//!                       its ops are all here? ──no──▶ wait; the replica asks for them      │
//!                                   │ yes                                                  │
//!                                   ▼ ◀────────────────────────────────────────────────────┘
//!            replica.certify ─▶ fold.finalize ─▶ state tree ─▶ durable ─▶ the next height
//! ```
//! Nodes tell each other every second at which height they are; who is ahead sends certificates, from its
//! store. Votes go to the witnesses among the peers; where not all of them are peers, to the others too, who
//! hand on what they know.
//!
//! The time of a checkpoint is proposed by one witness, and the others vote for it only if it lies near their
//! own clocks (as CometBFT's proposer-based timestamps, ADR 071): so it is near the clock of at least one
//! honest witness.

use std::collections::{BTreeMap, VecDeque};

use ledger::admit::Verify;
use ledger::certified::Covers;
use ledger::codec::{Reader, Writer};
use ledger::finality::chain::{CertifiedChain, ChainError};
use ledger::finality::checkpoint::{self, Certificate, Checkpoint, FOLD_VERSION};
use ledger::finality::consensus::{Consensus, Height, Input, Output as Said, Step};
use ledger::finality::vote::{Message, Record};
use ledger::finality::witness::WitnessSet;
use ledger::genesis::Genesis;
use ledger::id::{NetworkId, NodeId, OpId};
use ledger::key::SecretKey;
use ledger::op::Op;
use ledger::replica::Replica;
use projections::fold::{Change, Fold};
use projections::kinds;
use projections::state;
use projections::tree::{Key, Tree};

use super::{Durable, FRAME_CERTIFICATE, FRAME_FINALITY, FRAME_HEIGHT, Node, Output, framed};

/// Ops younger than this are in no proposal yet: they may still be on their way to the other witnesses.
pub const SETTLE_MS: u64 = 40;

/// How long after a certificate the next height begins, at least.
pub const CHECKPOINT_EVERY_MS: u64 = 100;

/// A height is begun without anything to certify after this long, so that certified time goes on.
pub const HEARTBEAT_MS: u64 = 60_000;

/// A proposal whose time lies further ahead of the own clock is not voted for.
pub const TIME_AHEAD_MS_MAX: u64 = 1_000;

/// A proposal whose time lies further behind the own clock is not voted for.
pub const TIME_BEHIND_MS_MAX: u64 = 5_000;

/// How often what is known of a running height is told again, to one peer.
pub const RETELL_MS: u64 = 250;

/// A peer is sent certificates at most this often.
const TELL_EVERY_MS: u64 = 200;

/// Certificates that are proved and wait for ops, at most; the peers have the others.
const WAITING_MAX: usize = 64;

/// What finality has seen go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FinalityCounters {
    /// Lies of witnesses that were proved.
    pub evidence: u64,
    /// Frames about finality that do not decode, and certificates that prove nothing.
    pub refused: u64,
    /// Certificates that do not follow the ones applied here: of two for one height.
    pub contradicted: u64,
}

/// How far the network is final, as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalityStatus {
    /// Height of the last certificate that is applied; 0 before the first.
    pub height: u64,
    /// Its time, in milliseconds since 1970; 0 before the first.
    pub time_ms: u64,
    /// Who votes at the next height.
    pub witnesses: WitnessSet,
    /// Whether this node does.
    pub votes: bool,
    /// The round of the height that is under way, and what is waited for in it, if one is.
    pub round: Option<(u32, Step)>,
    /// Proposals that cannot be judged yet.
    pub unjudged: usize,
    /// Certificates that wait for ops.
    pub waiting: usize,
    /// Root of the state at the end of the last certificate.
    pub state: [u8; 32],
    /// What went wrong.
    pub counters: FinalityCounters,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    height: u64,
    told_ms: u64,
}

/// See the module.
pub(super) struct Finality {
    network: NetworkId,
    verify: Verify,
    me: (NodeId, SecretKey),
    /// How far certificates were proved.
    chain: CertifiedChain,
    /// The last that was applied.
    applied: Option<Checkpoint>,
    consensus: Consensus,
    tree: Tree,
    state: [u8; 32],
    /// Proved certificates whose ops are not all here, or that come after one such.
    waiting: VecDeque<Certificate>,
    unjudged: Vec<Checkpoint>,
    /// It is this node's turn to propose.
    proposes: bool,
    /// When the last certificate was applied, by the own clock.
    certified_ms: u64,
    retold_ms: u64,
    peers: BTreeMap<NodeId, Peer>,
    counters: FinalityCounters,
    /// Something that only an operator can mend.
    alarm: Option<String>,
}

/// What a certificate brought.
pub(super) struct Applied {
    pub(super) changes: Vec<Change>,
    pub(super) outputs: Vec<ledger::replica::Output>,
    /// Ops that became final.
    pub(super) ops: u64,
}

impl Finality {
    pub(super) fn new(
        genesis: &Genesis,
        fold: &Fold,
        secret: &SecretKey,
        verify: Verify,
        now_ms: u64,
    ) -> Self {
        let chain = CertifiedChain::from_genesis(genesis);
        let tree = state::tree(&fold.final_cloud());
        let (network, me) = (genesis.network(), (secret.node_id(), secret.clone()));
        Self {
            consensus: consensus(network, verify, &chain, &me, Vec::new()),
            network,
            verify,
            me,
            chain,
            applied: None,
            state: tree.root(),
            tree,
            waiting: VecDeque::new(),
            unjudged: Vec::new(),
            proposes: false,
            certified_ms: now_ms,
            retold_ms: now_ms,
            peers: BTreeMap::new(),
            counters: FinalityCounters::default(),
            alarm: None,
        }
    }

    /// Takes up what the store holds: the certificates, in order, then the own votes since the last of them.
    /// A certificate whose ops the disk has lost waits for them.
    pub(super) fn restore(
        &mut self,
        certificates: Vec<Certificate>,
        votes: Vec<Record>,
        replica: &mut Replica,
        fold: &mut Fold,
        now_ms: u64,
    ) -> Result<Vec<ledger::replica::Output>, ChainError> {
        let mut outputs = Vec::new();
        for certificate in certificates {
            self.chain.follow_trusting(&certificate)?;
            self.waiting.push_back(certificate);
            while let Some((_, applied)) = self.apply_next(replica, fold, now_ms) {
                outputs.extend(applied.outputs);
            }
        }
        self.next_height(votes);
        Ok(outputs)
    }

    fn applied_height(&self) -> u64 {
        self.applied.as_ref().map_or(0, |checkpoint| checkpoint.height)
    }

    fn applied_time_ms(&self) -> u64 {
        self.applied.as_ref().map_or(0, |checkpoint| checkpoint.time_ms)
    }

    fn order(&self) -> [u8; 32] {
        self.applied
            .as_ref()
            .map_or([0; 32], |checkpoint| checkpoint.order)
    }

    /// Begins to listen at the height after the last proved certificate.
    fn next_height(&mut self, stored: Vec<Record>) {
        let next = consensus(self.network, self.verify, &self.chain, &self.me, stored);
        let before = std::mem::replace(&mut self.consensus, next);
        self.unjudged.clear();
        self.proposes = false;
        for message in before.into_early() {
            // What it answers comes when the height begins.
            let _ = self.consensus.handle(Input::Message(message), 0);
        }
    }

    /// Makes final what the first waiting certificate covers, if all of it is here.
    fn apply_next(
        &mut self,
        replica: &mut Replica,
        fold: &mut Fold,
        now_ms: u64,
    ) -> Option<(Certificate, Applied)> {
        let checkpoint = &self.waiting.front()?.checkpoint;
        let settled = fold.final_cloud();
        let covered = replica.log().added_by(&checkpoint.heads);
        let lacking = covered
            .iter()
            .flatten()
            .find_map(|op| kinds::lacking(&settled, op));
        if let Some((kind, version)) = lacking {
            self.alarm = Some(format!(
                "height {} holds an entry of kind {kind:#x} version {version}, which the network has activated and \
                 this build does not know: it stands still before that height, and votes and places nothing. \
                 Install a newer build",
                checkpoint.height
            ));
            return None;
        }
        drop(settled);
        let (ids, outputs) = replica.certify(checkpoint, now_ms).ok()?;
        let order = checkpoint::order_root(self.order(), ids.iter().copied());
        if order != checkpoint.order || self.state != checkpoint.state {
            let what = if order == checkpoint.order {
                "state"
            } else {
                "order"
            };
            self.alarm = Some(format!(
                "the {what} that was certified at height {} is not the one of this node: its build or its disk \
                 is at fault. It votes and places no more; start it anew with an empty ledger, or with the \
                 build that the witnesses run",
                checkpoint.height
            ));
        }
        let covered: Vec<Op> = ids
            .iter()
            .filter_map(|id: &OpId| replica.log().get(id).cloned())
            .collect();
        let finalized = fold.finalize(checkpoint, covered);
        let touched = finalized.touched.iter().map(Key::from);
        state::update(&mut self.tree, &fold.final_cloud(), touched);
        self.state = self.tree.root();
        let certificate = self.waiting.pop_front()?;
        self.applied = Some(certificate.checkpoint.clone());
        let (changes, ops) = (finalized.changes, ids.len() as u64);
        let applied = Applied {
            changes,
            outputs,
            ops,
        };
        Some((certificate, applied))
    }

    /// The checkpoint that this node would propose, if there is anything to certify.
    fn value(&self, replica: &Replica, fold: &Fold, now_ms: u64) -> Option<Checkpoint> {
        let heads = replica.proposal(now_ms, SETTLE_MS);
        let next_witnesses = next_witnesses(fold, self.chain.witnesses());
        let heartbeat = now_ms >= self.certified_ms.saturating_add(HEARTBEAT_MS);
        if heads.is_empty() && next_witnesses.is_none() && !heartbeat {
            return None;
        }
        Some(Checkpoint {
            height: self.applied_height() + 1,
            previous: self.chain.last(),
            time_ms: now_ms.max(self.applied_time_ms() + 1),
            order: replica.order_root(self.order(), &heads)?,
            state: self.state,
            forks: replica.forks_root(),
            fold_version: FOLD_VERSION,
            heads,
            next_witnesses,
        })
    }

    /// The answer whether this node stands by a checkpoint; nothing while it cannot know.
    fn judge(&self, checkpoint: &Checkpoint, replica: &Replica, fold: &Fold, now_ms: u64) -> Option<Input> {
        let good = checkpoint.time_ms > self.applied_time_ms()
            && checkpoint.fold_version == FOLD_VERSION
            && checkpoint.state == self.state
            && checkpoint.next_witnesses == next_witnesses(fold, self.chain.witnesses());
        let good = good
            && match replica.covers(&checkpoint.heads) {
                Covers::Never => false,
                Covers::Missing => return None,
                // A proof that one of the two lacks is on its way.
                Covers::Yes if checkpoint.forks != replica.forks_root() => return None,
                Covers::Yes => {
                    let order = replica.order_root(self.order(), &checkpoint.heads);
                    order == Some(checkpoint.order)
                }
            };
        Some(Input::Judged {
            checkpoint: checkpoint.id(self.network),
            good,
            timely: checkpoint.time_ms <= now_ms.saturating_add(TIME_AHEAD_MS_MAX)
                && checkpoint.time_ms >= now_ms.saturating_sub(TIME_BEHIND_MS_MAX),
        })
    }

    /// Whether a height is due: this node votes, and there is something to certify, or certified time has
    /// stood still for long.
    fn is_due(&self, replica: &Replica, fold: &Fold, now_ms: u64) -> bool {
        self.consensus.step() == Step::Idle
            && self.chain.witnesses().index_of(&self.me.0).is_some()
            && now_ms >= self.certified_ms.saturating_add(CHECKPOINT_EVERY_MS)
            && self.value(replica, fold, now_ms).is_some()
    }

    pub(super) fn forget(&mut self, peer: &NodeId) {
        self.peers.remove(peer);
    }

    fn status(&self) -> FinalityStatus {
        FinalityStatus {
            height: self.applied_height(),
            time_ms: self.applied_time_ms(),
            witnesses: self.chain.witnesses().clone(),
            votes: self.chain.witnesses().index_of(&self.me.0).is_some(),
            round: (self.consensus.step() > Step::Idle)
                .then(|| (self.consensus.round(), self.consensus.step())),
            unjudged: self.unjudged.len(),
            waiting: self.waiting.len(),
            state: self.state,
            counters: self.counters,
        }
    }
}

/// Who the final state says shall vote from the height after the next on, where those are others than
/// `current`.
fn next_witnesses(fold: &Fold, current: &WitnessSet) -> Option<WitnessSet> {
    let settled = fold.final_cloud();
    let wanted = settled.witnesses_wanted();
    (wanted != current).then(|| wanted.clone())
}

fn consensus(
    network: NetworkId,
    verify: Verify,
    chain: &CertifiedChain,
    me: &(NodeId, SecretKey),
    stored: Vec<Record>,
) -> Consensus {
    let height = Height {
        network,
        height: chain.height() + 1,
        previous: chain.last(),
        witnesses: chain.witnesses().clone(),
        admins: chain.admins().clone(),
        verify,
    };
    let votes = height.witnesses.index_of(&me.0).is_some();
    Consensus::new(height, votes.then(|| me.clone()), stored)
}

impl Node {
    /// How far the network is final, as this node sees it.
    pub fn finality(&self) -> FinalityStatus {
        self.finality.status()
    }

    /// The heights that peers told of last.
    pub fn heights(&self) -> impl Iterator<Item = (NodeId, u64)> {
        self.finality.peers.iter().map(|(peer, it)| (*peer, it.height))
    }

    /// What only an operator can mend, if there is such a thing.
    pub fn alarm(&self) -> Option<String> {
        let twin = self.twin.as_ref().map(|chain| {
            format!(
                "another process lives with this node's key, in its incarnation {:x}: end one of the two. Till \
                 then this one places nothing",
                chain.incarnation
            )
        });
        self.finality.alarm.clone().or(twin)
    }

    /// When time alone gives finality something to do, if it does: [`super::Input::Tick`] should come then.
    pub fn deadline(&self) -> Option<u64> {
        let finality = &self.finality;
        let waits = finality.consensus.deadline();
        let idle = finality.consensus.step() == Step::Idle
            && finality.chain.witnesses().index_of(&finality.me.0).is_some()
            && self.replica.log().tentative() > 0;
        let begin = idle.then(|| {
            let earliest = finality.certified_ms.saturating_add(CHECKPOINT_EVERY_MS);
            earliest.max(self.last_ms.saturating_add(SETTLE_MS))
        });
        waits.into_iter().chain(begin).min()
    }

    /// Does what follows for finality from what has come in.
    pub(super) fn drive_finality(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.finality.chain.witnesses().is_empty() {
            return;
        }
        self.apply_waiting(now_ms, out);
        if !self.finality.waiting.is_empty() || self.finality.alarm.is_some() {
            return;
        }
        if self.finality.is_due(&self.replica, &self.fold, now_ms) {
            let said = self.finality.consensus.begin(now_ms);
            self.hear_consensus(said, now_ms, out);
        }
        if self.finality.consensus.deadline().is_some_and(|at| at <= now_ms) {
            let said = self.finality.consensus.handle(Input::Tick, now_ms);
            self.hear_consensus(said, now_ms, out);
        }
        self.answer_consensus(now_ms, out);
        self.retell(now_ms, out);
    }

    /// Proposes and judges what could not be before.
    fn answer_consensus(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        if self.finality.proposes
            && let Some(value) = self.finality.value(&self.replica, &self.fold, now_ms)
        {
            self.finality.proposes = false;
            let said = self.finality.consensus.handle(Input::Value(value), now_ms);
            self.hear_consensus(said, now_ms, out);
        }
        for checkpoint in std::mem::take(&mut self.finality.unjudged) {
            match self
                .finality
                .judge(&checkpoint, &self.replica, &self.fold, now_ms)
            {
                Some(judged) => {
                    let said = self.finality.consensus.handle(judged, now_ms);
                    self.hear_consensus(said, now_ms, out);
                }
                None => self.finality.unjudged.push(checkpoint),
            }
        }
    }

    fn hear_consensus(&mut self, said: Vec<Said>, now_ms: u64, out: &mut Vec<Output>) {
        let mut said = VecDeque::from(said);
        while let Some(output) = said.pop_front() {
            match output {
                Said::Propose { .. } => {
                    self.finality.proposes = true;
                    if let Some(value) = self.finality.value(&self.replica, &self.fold, now_ms) {
                        self.finality.proposes = false;
                        said.extend(self.finality.consensus.handle(Input::Value(value), now_ms));
                    }
                }
                Said::Judge(checkpoint) => {
                    match self
                        .finality
                        .judge(&checkpoint, &self.replica, &self.fold, now_ms)
                    {
                        Some(judged) => said.extend(self.finality.consensus.handle(judged, now_ms)),
                        None => self.finality.unjudged.push(checkpoint),
                    }
                }
                Said::Persist(record) => out.push(Output::Persist(Durable {
                    votes: vec![record.encode()],
                    ..Durable::default()
                })),
                Said::Broadcast(message) => self.tell_witnesses(&message, out),
                Said::Evidence(_) => self.finality.counters.evidence += 1,
                Said::Twin(_) => {
                    self.finality.alarm = Some(
                        "somebody votes with this node's key, or its votes were lost: it votes no more till it \
                         is started again"
                            .into(),
                    );
                }
                Said::Decided(certificate) => {
                    if self.finality.chain.follow_trusting(&certificate).is_ok() {
                        self.finality.waiting.push_back(certificate);
                        self.apply_waiting(now_ms, out);
                    }
                    // What else was said was about the height that is over.
                    return;
                }
            }
        }
    }

    fn tell_witnesses(&self, message: &Message, out: &mut Vec<Output>) {
        let witnesses = self.finality.consensus.witnesses();
        let members = || {
            self.peers
                .iter()
                .filter(|(_, peer)| peer.member)
                .map(|(id, _)| *id)
        };
        let near = members()
            .filter(|peer| witnesses.index_of(peer).is_some())
            .count();
        let own = usize::from(witnesses.index_of(&self.finality.me.0).is_some());
        let all_near = near + own == witnesses.len();
        let frame = framed(FRAME_FINALITY, &message.encode());
        for to in members().filter(|peer| !all_near || witnesses.index_of(peer).is_some()) {
            let bytes = frame.clone();
            out.push(Output::Send { to, bytes });
        }
    }

    /// Tells one peer what is known of the running height: words may have been lost, and not everybody hears
    /// everybody.
    fn retell(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let finality = &self.finality;
        if finality.consensus.step() == Step::Idle || now_ms < finality.retold_ms.saturating_add(RETELL_MS) {
            return;
        }
        let height = finality.applied_height();
        let witnesses = finality.consensus.witnesses();
        let members = self
            .peers
            .iter()
            .filter(|(_, peer)| peer.member)
            .map(|(id, _)| *id);
        let behind = |peer: &NodeId| finality.peers.get(peer).is_none_or(|peer| peer.height <= height);
        let mut members: Vec<NodeId> = members.filter(behind).collect();
        if members.iter().any(|peer| witnesses.index_of(peer).is_some()) {
            members.retain(|peer| witnesses.index_of(peer).is_some());
        }
        let turn = (now_ms / RETELL_MS) as usize;
        if let Some(to) = turn.checked_rem(members.len()).and_then(|turn| members.get(turn)) {
            for message in finality.consensus.messages() {
                let bytes = framed(FRAME_FINALITY, &message.encode());
                out.push(Output::Send { to: *to, bytes });
            }
        }
        self.finality.retold_ms = now_ms;
    }

    /// Makes final what can be.
    fn apply_waiting(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let mut any = false;
        while let Some((certificate, applied)) =
            self.finality
                .apply_next(&mut self.replica, &mut self.fold, now_ms)
        {
            any = true;
            self.take(applied.outputs, out);
            let mut journal = self.journal_of(applied.changes);
            journal.push(self.journal_of_certificate(&certificate.checkpoint, applied.ops));
            self.tell_newest(&certificate, out);
            out.push(Output::Persist(Durable {
                journal,
                certificates: vec![certificate],
                ..Durable::default()
            }));
            self.dirty = true;
        }
        if any {
            self.finality.certified_ms = now_ms;
            if self.finality.consensus.height() != self.finality.chain.height() + 1 {
                self.finality.next_height(Vec::new());
            }
            self.give_final(now_ms, out);
        }
    }

    /// Sends a new certificate to peers that may not have it.
    fn tell_newest(&mut self, certificate: &Certificate, out: &mut Vec<Output>) {
        let height = certificate.checkpoint.height;
        let frame = framed(FRAME_CERTIFICATE, &certificate.encode());
        let witnesses = self.finality.chain.witnesses();
        for (peer, _) in self.peers.iter().filter(|(_, peer)| peer.member) {
            let known = self.finality.peers.entry(*peer).or_default();
            // Witnesses make it themselves.
            if known.height + 1 == height && witnesses.index_of(peer).is_none() {
                known.height = height;
                out.push(Output::Send {
                    to: *peer,
                    bytes: frame.clone(),
                });
            }
        }
    }

    /// Tells the peers at which height this node is.
    pub(super) fn tell_height(&self, out: &mut Vec<Output>) {
        if self.finality.chain.witnesses().is_empty() {
            return;
        }
        let mut writer = Writer::new();
        writer.varint(self.finality.chain.height());
        let frame = framed(FRAME_HEIGHT, &writer.into_bytes());
        for (peer, _) in self.peers.iter().filter(|(_, peer)| peer.member) {
            out.push(Output::Send {
                to: *peer,
                bytes: frame.clone(),
            });
        }
    }

    /// A peer tells its height: if it lags, it gets certificates.
    pub(super) fn height_frame(&mut self, from: NodeId, bytes: &[u8], now_ms: u64, out: &mut Vec<Output>) {
        let mut reader = Reader::new(bytes);
        let read = reader.varint(u64::MAX, "a height");
        let (Ok(height), Ok(())) = (read, reader.end()) else {
            self.finality.counters.refused += 1;
            return;
        };
        self.finality.peers.entry(from).or_default().height = height;
        self.tell_certificates(from, height, now_ms, out);
    }

    fn tell_certificates(&mut self, to: NodeId, height: u64, now_ms: u64, out: &mut Vec<Output>) {
        let ours = self.finality.applied_height();
        let peer = self.finality.peers.entry(to).or_default();
        if height < ours && now_ms >= peer.told_ms.saturating_add(TELL_EVERY_MS) {
            peer.told_ms = now_ms;
            out.push(Output::TellCertificates {
                to,
                from_height: height + 1,
            });
        }
    }

    /// A peer says something about a height that is being agreed on.
    pub(super) fn finality_frame(&mut self, from: NodeId, bytes: &[u8], now_ms: u64, out: &mut Vec<Output>) {
        let Ok(message) = Message::decode(bytes) else {
            self.finality.counters.refused += 1;
            return;
        };
        let next = self.finality.chain.height() + 1;
        if message.height() < next {
            self.tell_certificates(from, message.height().saturating_sub(1), now_ms, out);
            return;
        }
        if !self.finality.waiting.is_empty() || self.finality.alarm.is_some() {
            return;
        }
        let said = self.finality.consensus.handle(Input::Message(message), now_ms);
        self.hear_consensus(said, now_ms, out);
    }

    /// A peer sends a certificate.
    pub(super) fn certificate_frame(
        &mut self,
        from: NodeId,
        bytes: &[u8],
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        let Ok(certificate) = Certificate::decode(bytes) else {
            self.finality.counters.refused += 1;
            return;
        };
        if self.finality.waiting.len() >= WAITING_MAX {
            return;
        }
        let followed = match self.finality.verify {
            Verify::Real => {
                let seed = self.replica.draw();
                self.finality.chain.follow(&certificate, seed)
            }
            Verify::Trusting => self.finality.chain.follow_trusting(&certificate),
        };
        let height = certificate.checkpoint.height;
        match followed {
            Ok(()) => {
                let peer = self.finality.peers.entry(from).or_default();
                peer.height = peer.height.max(height);
                self.finality.waiting.push_back(certificate);
                // Where its ops are not here, the height that is listened to is over all the same.
                self.finality.next_height(Vec::new());
                self.apply_waiting(now_ms, out);
            }
            // Known, or one before it was lost: the peer is told the height every second.
            Err(ChainError::Height { .. }) => {}
            Err(ChainError::Forked { .. } | ChainError::TimeBackwards { .. }) => {
                self.finality.counters.contradicted += 1;
            }
            Err(error @ ChainError::Unproven { .. }) => {
                self.finality.counters.refused += 1;
                self.break_with(from, error.to_string(), out);
            }
        }
    }
}
