//! A replica: a node's log with its door, its clock and its talk with peers. Sans-IO: time and frames come
//! in as arguments, what is to be done comes out as [`Output`]s.
//!
//! Every opening begins a new chain of the node (see [`crate::op`]): its first op carries the invitation and
//! names the end of the chain before. The same inputs give the same outputs, since chance comes from
//! [`Setup::seed`].
//!
//! Outputs are to be carried out in the order given: what [`Output::Admitted`] brings is durable before the
//! frames that follow it leave.

use std::collections::{BTreeSet, VecDeque};

use crate::admit::{self, Counters, Refusal, Verdict, Verify};
use crate::chance::Chance;
use crate::clock::{Clock, Hlc};
use crate::codec::DecodeError;
use crate::entry::ENTRY_BYTES_MAX;
use crate::fork::{ForkProof, Forks, ProofError};
use crate::genesis::{Genesis, InvitationError, SignedInvitation};
use crate::id::{NetworkId, NodeId, OpId};
use crate::key::{Check, SIGNATURE_BYTES, SecretKey, Signature, verify_all};
use crate::limbo::{Limbo, Missing, Waiting};
use crate::log::{LinkError, Log};
use crate::op::{BODY_BYTES_MAX, Body, Chain, DEPENDENCIES_MAX, Dependency, ENTRIES_MAX, Op, Slot};
use crate::peers::Peers;
use crate::report::Report;
use crate::report::nodes::{ChainEnd, OpenChain};
use crate::sync::FrameError;
use crate::vector::Head;
use crate::void::Keep;

/// What a replica is opened with.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The network.
    pub genesis: Genesis,
    /// What lets the node in.
    pub invitation: SignedInvitation,
    /// The node's key.
    pub secret: SecretKey,
    /// Random: names the chain that this opening begins.
    pub incarnation: u64,
    /// Random and secret: where chance comes from.
    pub seed: [u8; 32],
    /// Whether signatures are checked.
    pub verify: Verify,
}

/// What the caller has to do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame to a connected peer. A frame that cannot be sent may be dropped.
    Send {
        /// To whom.
        to: NodeId,
        /// The bytes.
        frame: Vec<u8>,
    },
    /// These ops entered the log, in this order, in which each comes after all that it depends on. Persist
    /// them, then fold.
    Admitted(Vec<Op>),
    /// A chain is forked. Persist the proof: it comes back in with [`Stored::forks`].
    Forked(ForkProof),
    /// These ops left the log, those of a chain from this place on: it is forked, or another branch of it is
    /// certified. Take them out of the stored chain, before what follows is stored, and of the fold. They
    /// are void: keep them beside, they come back in with [`Stored::void`].
    Quarantined {
        /// The chain.
        chain: Chain,
        /// The first place.
        from_seq: u64,
        /// In the order of the chain.
        ops: Vec<Op>,
    },
    /// These ops are void and were never in the log. Keep them for [`Stored::void`]: they show others that
    /// what they wait for is void.
    Void(Vec<Op>),
    /// Another process lives with this node's key: it has written in a chain of its own since this opening.
    /// Told once. The node should place and spend nothing and call its operator.
    AliveTwice {
        /// The other process's chain.
        other: Chain,
    },
    /// The peer did what no honest one does. It is no longer heard until it is up again.
    Disconnect {
        /// Who.
        peer: NodeId,
        /// What it did.
        why: Misconduct,
    },
}

/// What a peer did that no honest peer of this version and network does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misconduct {
    /// It sent what is not a frame.
    #[error("it sent bytes that are not a frame: {0}")]
    Frame(#[from] FrameError),
    /// It is in another network.
    #[error("it is in network {0}")]
    OtherNetwork(NetworkId),
    /// It sent an op that an honest peer refuses.
    #[error("it sent op {seq} of chain {incarnation:x} of node {node}, which is refused: {why}", node = chain.node, incarnation = chain.incarnation)]
    Op {
        /// The op's chain.
        chain: Chain,
        /// The op's place.
        seq: u64,
        /// Why it is refused.
        why: Refusal,
    },
    /// It sent a proof of a fork that proves nothing.
    #[error("it sent a proof of a fork that proves nothing: {0}")]
    Proof(ProofError),
}

/// What the store holds. An empty part is one that there is not.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// The ops, in any order in which the ops of a chain follow each other.
    pub ops: Vec<Op>,
    /// The proofs of forks.
    pub forks: Vec<ForkProof>,
    /// How far each chain is final: the newest head of each in the certificates.
    pub certified: Vec<(Chain, Head)>,
    /// Void ops, in any order.
    pub void: Vec<Op>,
}

impl From<Vec<Op>> for Stored {
    fn from(ops: Vec<Op>) -> Self {
        Self {
            ops,
            ..Self::default()
        }
    }
}

/// Why a replica does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The invitation does not let this node into the network.
    #[error("cannot open the ledger: {0}")]
    Invitation(#[from] InvitationError),
    /// A stored op does not follow from those before it.
    #[error("cannot open the ledger: stored op {id} (place {seq} of its chain): {why}")]
    Stored {
        /// Which.
        id: OpId,
        /// Its place.
        seq: u64,
        /// What is wrong.
        why: LinkError,
    },
    /// A stored proof of a fork does not decode.
    #[error("cannot open the ledger: a stored proof of a fork is damaged: {0}")]
    Proof(DecodeError),
    /// A chain is not held as far as it is certified.
    #[error("cannot open the ledger: the store lacks certified ops of chain {incarnation:x} of node {node}", node = .0.node, incarnation = .0.incarnation)]
    Certified(Chain),
    /// The store holds a chain of this name already: the incarnation was not random.
    #[error(
        "cannot open the ledger: a chain with incarnation {0:x} exists already; open with another random number"
    )]
    IncarnationUsed(u64),
}

/// Why an op is not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// There is nothing to append, or more than an op takes.
    #[error("an op carries 1 to {ENTRIES_MAX} entries, not {0}")]
    Count(usize),
    /// An entry is too large.
    #[error("a {kind} of {size} bytes is too large for an entry: at most {ENTRY_BYTES_MAX}")]
    EntryTooLarge {
        /// What it is.
        kind: &'static str,
        /// Its size.
        size: usize,
    },
    /// All entries together are too large.
    #[error("the entries make an op of {0} bytes, at most {BODY_BYTES_MAX}: append them in several ops")]
    TooLarge(usize),
    /// A report breaks the bounds of its kind.
    #[error("a {kind} is not well formed: {source}")]
    Meaningless {
        /// What it is.
        kind: &'static str,
        /// What is wrong.
        source: crate::entry::EntryError,
    },
    /// The wall clock was set back, and ops of this chain are ahead of it: others would not admit a further
    /// one before their clocks show its time.
    #[error(
        "the chain's clock is {0} ms ahead of the wall clock, which was set back: start the node again, so that it begins a new chain, or wait"
    )]
    ClockAhead(u64),
    /// The chain of this opening is forked: its key and its number were used by another process.
    #[error(
        "the chain of this start is forked by another process with the node's key: stop that one, then start the node again"
    )]
    Forked,
    /// A carried command is malformed.
    #[error("a carried command is malformed: {0}")]
    MalformedCommand(DecodeError),
    /// The signature of a carried command does not hold.
    #[error("the signature of a carried command does not hold")]
    ForgedCommand,
}

/// Whether another process was seen that lives with the node's key.
#[derive(Clone, Copy, Debug, Default)]
enum Twin {
    #[default]
    Unseen,
    Seen(Chain),
    Told,
}

/// The replica.
#[derive(Debug)]
pub struct Replica {
    pub(crate) network: NetworkId,
    pub(crate) chain: Chain,
    secret: SecretKey,
    pub(crate) verify: Verify,
    pub(crate) chance: Chance,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
    pub(crate) limbo: Limbo,
    /// The ops that no other op in the log names and that can be shown to others, except those of the chain of
    /// this opening.
    pub(crate) frontier: BTreeSet<(Hlc, OpId)>,
    pub(crate) forks: Forks,
    /// What a certificate covers that is not held yet, by chains.
    pub(crate) pending: Vec<(Chain, Head)>,
    /// When what is missing was last asked for.
    pub(crate) wanted_ms: u64,
    /// When this opening was, by its own clock.
    opened: Hlc,
    twin: Twin,
    pub(crate) counters: Counters,
    pub(crate) peers: Peers,
    /// A peer has been found to hold the same since the opening.
    pub(crate) agreed: bool,
}

impl Replica {
    /// Opens a replica on what the store holds and begins its new chain. The store has checked the ops' ids;
    /// they may come in any order in which the ops of a chain follow each other.
    pub fn open(
        setup: Setup,
        stored: impl Into<Stored>,
        now_ms: u64,
    ) -> Result<(Self, Vec<Output>), OpenError> {
        let Setup {
            genesis,
            invitation,
            secret,
            incarnation,
            seed,
            verify,
        } = setup;
        let network = genesis.network();
        let node = secret.node_id();
        invitation.verify(network, node)?;
        let chain = Chain { node, incarnation };
        let mut replica = Self {
            network,
            chain,
            secret,
            verify,
            chance: Chance::new(seed),
            clock: Clock::default(),
            log: Log::default(),
            limbo: Limbo::default(),
            frontier: BTreeSet::new(),
            forks: Forks::default(),
            pending: Vec::new(),
            wanted_ms: 0,
            opened: Hlc::default(),
            twin: Twin::Unseen,
            counters: Counters::default(),
            peers: Peers::default(),
            agreed: false,
        };
        replica.take_up(stored.into())?;
        if !replica.log.chain(&chain).is_empty() {
            return Err(OpenError::IncarnationUsed(incarnation));
        }
        replica.resume(now_ms);
        let before = replica.end_of_last_incarnation();
        let opening = OpenChain {
            invitation: invitation.bytes().to_vec(),
            before,
        };
        let mut outputs = Vec::new();
        replica.append_entries(vec![Report::from(opening).to_entry()], now_ms, &mut outputs);
        replica.opened = replica.clock.last();
        Ok((replica, outputs))
    }

    /// Takes up what the store holds.
    fn take_up(&mut self, stored: Stored) -> Result<(), OpenError> {
        self.log.certified = stored.certified.iter().copied().collect();
        for proof in stored.forks {
            let shown = proof.ops(self.network).map_err(OpenError::Proof)?;
            self.log.quarantine(proof.chain, proof.seq, shown);
            self.forks.keep(proof);
        }
        for op in stored.ops {
            let Slot { chain, seq, .. } = *op.slot();
            if self.log.is_void_place(&chain, seq) {
                self.log.void.keep(op, Keep::Id);
                continue;
            }
            let id = op.id();
            self.log
                .insert(op)
                .map_err(|why| OpenError::Stored { id, seq, why })?;
        }
        for op in stored.void {
            if !self.log.contains(&op.id()) {
                self.log.void.keep(op, Keep::Id);
            }
        }
        for (chain, head) in stored.certified {
            let held = self.log.at(&chain, head.next.saturating_sub(1));
            if held.is_none_or(|op| op.id() != head.id) {
                return Err(OpenError::Certified(chain));
            }
            self.log.set_certified(chain, head);
        }
        let forked: Vec<Chain> = self.forks.iter().map(|proof| proof.chain).collect();
        for chain in forked {
            self.log.reckon(&chain);
        }
        Ok(())
    }

    /// Sets clock and frontier by the ops in the log. An op far ahead of the wall clock, written before a
    /// wrong clock was set right, moves neither: the new chain does not depend on it, so others admit it. What
    /// cannot be shown to others is not depended on either.
    fn resume(&mut self, now_ms: u64) {
        let near = |op: &&Op| !op.body().hlc.is_ahead_of(now_ms);
        for op in self.log.iter().filter(near) {
            self.clock.observe(op.body().hlc);
            if self.log.is_proven(op) {
                note(&self.log, &mut self.frontier, op);
            }
        }
    }

    fn end_of_last_incarnation(&self) -> Option<ChainEnd> {
        let heads = self
            .log
            .chains_of(self.chain.node)
            .filter_map(|(_, ops)| ops.last());
        let last = heads.max_by_key(|op| op.order())?;
        let Slot { chain, seq, .. } = *last.slot();
        Some(ChainEnd {
            incarnation: chain.incarnation,
            seq,
            id: last.id(),
        })
    }

    /// Appends an op of one's own, which depends on all that the log holds.
    pub fn append(&mut self, reports: Vec<Report>, now_ms: u64) -> Result<(OpId, Vec<Output>), AppendError> {
        if reports.is_empty() || reports.len() > ENTRIES_MAX {
            return Err(AppendError::Count(reports.len()));
        }
        if self.forks.seq(&self.chain).is_some() {
            return Err(AppendError::Forked);
        }
        if self.clock.last().is_ahead_of(now_ms) {
            return Err(AppendError::ClockAhead(self.clock.last().ms() - now_ms));
        }
        let mut checks = Vec::new();
        let mut entries = Vec::new();
        let mut size = 8 + 2 + DEPENDENCIES_MAX * 16 + 2;
        for report in &reports {
            let entry = report.to_entry();
            let kind = report.name();
            if entry.bytes.len() > ENTRY_BYTES_MAX {
                return Err(AppendError::EntryTooLarge {
                    kind,
                    size: entry.bytes.len(),
                });
            }
            if let Report::Carry(carry) = report {
                let check = crate::command::check_of(self.network, &carry.command);
                checks.push(check.map_err(AppendError::MalformedCommand)?);
            }
            Report::from_entry(&entry).map_err(|source| AppendError::Meaningless { kind, source })?;
            size += 3 + 2 + 3 + entry.bytes.len();
            entries.push(entry);
        }
        if size > BODY_BYTES_MAX {
            return Err(AppendError::TooLarge(size));
        }
        if !self.all_hold(&checks) {
            return Err(AppendError::ForgedCommand);
        }
        let mut outputs = Vec::new();
        let id = self.append_entries(entries, now_ms, &mut outputs);
        Ok((id, outputs))
    }

    fn append_entries(
        &mut self,
        entries: Vec<crate::entry::Entry>,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> OpId {
        let hlc = self.clock.tick(now_ms);
        let head = self.log.head(&self.chain);
        let seq = head.map_or(0, |op| op.slot().seq + 1);
        let previous = head.map_or(OpId([0; 32]), Op::id);
        // The newest first; what does not fit is named by a later op.
        let named: Vec<(Hlc, OpId)> = self
            .frontier
            .range(..(hlc, OpId([0; 32])))
            .rev()
            .take(DEPENDENCIES_MAX)
            .copied()
            .collect();
        let mut dependencies: Vec<Dependency> = named.iter().map(|(_, id)| (*id).into()).collect();
        dependencies.sort();
        for name in &named {
            self.frontier.remove(name);
        }
        let slot = Slot {
            chain: self.chain,
            seq,
            previous,
        };
        let body = Body {
            hlc,
            dependencies,
            entries,
        };
        let op = match self.verify {
            Verify::Real => Op::sign(self.network, slot, body, &self.secret),
            Verify::Trusting => {
                let empty = Some(Signature([0; SIGNATURE_BYTES]));
                Op::decode(self.network, slot, body.encode(), empty).expect("append keeps the bounds")
            }
        };
        let id = op.id();
        self.log
            .insert(op.clone())
            .expect("an own op follows the own head");
        self.counters.appended += 1;
        let mut admitted = vec![op.clone()];
        self.admit_released(id, now_ms, &mut admitted, &mut Vec::new());
        outputs.push(Output::Admitted(admitted));
        self.tell_twin(outputs);
        self.spread_own(&op, outputs);
        id
    }

    /// A peer is connected.
    pub fn peer_up(&mut self, peer: NodeId, now_ms: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        if peer != self.chain.node {
            self.peers.up(peer, now_ms);
            self.meet(peer, now_ms, &mut outputs);
        }
        outputs
    }

    /// A peer is no longer connected.
    pub fn peer_down(&mut self, peer: NodeId, _now_ms: u64) -> Vec<Output> {
        self.peers.down(peer);
        Vec::new()
    }

    /// Time passes: ops whose time has come are admitted, and vectors are compared. To be called about
    /// every 200 ms.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Output> {
        let mut outputs = Vec::new();
        let due = self.limbo.release_due(now_ms);
        // Nobody is blamed: who brought an op that turns out wrong only now may be gone.
        let _ = self.admit_all(due, now_ms, &mut outputs);
        self.spread(&mut outputs);
        self.keep_wanting(now_ms, &mut outputs);
        self.keep_talking(now_ms, &mut outputs);
        outputs
    }

    /// Whether since its opening this replica has held all that some peer held.
    pub fn has_agreed(&self) -> bool {
        self.agreed
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What happened at the door.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        self.chain.node
    }

    /// The chain that this opening began.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// The greatest reading of the clock that was given or seen.
    pub fn clock(&self) -> Hlc {
        self.clock.last()
    }

    /// The connected peers.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.peers.iter()
    }

    /// How many ops wait, and the bytes that they take.
    pub fn waiting(&self) -> (usize, usize) {
        (self.limbo.len(), self.limbo.bytes())
    }

    fn all_hold(&mut self, checks: &[Check]) -> bool {
        match self.verify {
            Verify::Real => verify_all(checks, self.chance.bytes())
                .into_iter()
                .all(|holds| holds),
            Verify::Trusting => true,
        }
    }

    pub(crate) fn refuse(&mut self, chain: Chain, seq: u64, why: Refusal) -> Misconduct {
        self.counters.count(&why);
        Misconduct::Op { chain, seq, why }
    }

    /// Admits authentic ops and whatever waited for them; what cannot be admitted yet waits. The error is
    /// the first refusal that blames the sender of one of `ops`.
    pub(crate) fn admit_all(
        &mut self,
        ops: Vec<Waiting>,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        let mut admitted = Vec::new();
        let mut forward = Vec::new();
        let mut outcome = Ok(());
        for waiting in ops {
            let slot = *waiting.op.slot();
            let from = waiting.from;
            match self.admit_one(waiting, now_ms, &mut admitted, &mut forward) {
                Ok(Some(id)) => self.admit_released(id, now_ms, &mut admitted, &mut forward),
                Ok(None) => {}
                Err(why) if why.blames_the_sender() && outcome.is_ok() && self.peers.is_up(&from) => {
                    outcome = Err(Misconduct::Op {
                        chain: slot.chain,
                        seq: slot.seq,
                        why,
                    });
                }
                Err(_) => {}
            }
        }
        if !admitted.is_empty() {
            outputs.push(Output::Admitted(admitted));
        }
        self.tell_twin(outputs);
        self.peers.forward.append(&mut forward);
        outcome
    }

    /// Judges again what waited for an op that entered the log, and what waited for that, and so on.
    fn admit_released(&mut self, id: OpId, now_ms: u64, admitted: &mut Vec<Op>, forward: &mut Vec<Waiting>) {
        let mut queue = VecDeque::from(self.limbo.release(&id));
        while let Some(waiting) = queue.pop_front() {
            if let Ok(Some(id)) = self.admit_one(waiting, now_ms, admitted, forward) {
                queue.extend(self.limbo.release(&id));
            }
        }
    }

    /// Admits an op or lets it wait; gives its id if it entered the log.
    fn admit_one(
        &mut self,
        waiting: Waiting,
        now_ms: u64,
        admitted: &mut Vec<Op>,
        forward: &mut Vec<Waiting>,
    ) -> Result<Option<OpId>, Refusal> {
        match admit::judge(self.network, &self.log, &waiting.op, now_ms) {
            Verdict::Admit => {
                let id = waiting.op.id();
                self.enter(waiting, admitted, forward);
                return Ok(Some(id));
            }
            Verdict::Duplicate => self.counters.duplicate += 1,
            Verdict::Wait(missing) => self.wait(waiting, missing),
            Verdict::Void => self.counters.void += 1,
            Verdict::Refuse(why) => {
                self.counters.count(&why);
                return Err(why);
            }
        }
        Ok(None)
    }

    fn enter(&mut self, waiting: Waiting, admitted: &mut Vec<Op>, forward: &mut Vec<Waiting>) {
        let op = waiting.op.clone();
        let chain = op.slot().chain;
        let may_prove = op.signature().is_some() || self.log.fork_seq(&chain).is_some();
        let proven = may_prove.then(|| self.log.proven_next(&chain));
        self.log.insert(op.clone()).expect("admission judged the link");
        self.limbo.forget(&op.id());
        if op.signature().is_none() {
            self.log.keep_tail(&chain, &waiting.run);
        }
        self.clock.observe(op.body().hlc);
        if let Some(proven) = proven {
            self.note_proven(chain, proven);
        }
        self.counters.admitted += 1;
        // What the key's earlier processes wrote bears earlier clocks, also where a restored disk lost it.
        if op.node() == self.chain.node && op.slot().chain != self.chain && op.body().hlc > self.opened {
            self.twin = match self.twin {
                Twin::Unseen => Twin::Seen(op.slot().chain),
                seen => seen,
            };
        }
        admitted.push(op);
        if waiting.live {
            forward.push(waiting);
        }
    }

    pub(crate) fn note(&mut self, op: &Op) {
        note(&self.log, &mut self.frontier, op);
    }

    /// Puts into the frontier what can be shown to others now: an op that named another one that nobody can
    /// show would wait at all others.
    pub(crate) fn note_proven(&mut self, chain: Chain, from: u64) {
        for seq in from..self.log.proven_next(&chain) {
            if let Some(op) = self.log.at(&chain, seq) {
                note(&self.log, &mut self.frontier, op);
            }
        }
    }

    fn tell_twin(&mut self, outputs: &mut Vec<Output>) {
        if let Twin::Seen(other) = self.twin {
            self.twin = Twin::Told;
            outputs.push(Output::AliveTwice { other });
        }
    }

    fn wait(&mut self, waiting: Waiting, missing: Missing) {
        match missing {
            Missing::Op(_) => self.counters.waited += 1,
            Missing::Time(_) => self.counters.held += 1,
        }
        self.counters.evicted += self.limbo.add(waiting, missing);
    }
}

/// Puts an op into the frontier, in place of those that it names.
fn note(log: &Log, frontier: &mut BTreeSet<(Hlc, OpId)>, op: &Op) {
    let name = |op: &Op| (op.body().hlc, op.id());
    let before = log.get(&op.slot().previous).into_iter();
    for named in before.chain(op.body().dependencies.iter().filter_map(|named| log.named(named))) {
        frontier.remove(&name(named));
    }
    frontier.insert(name(op));
}
