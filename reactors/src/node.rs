//! A whole node as a state machine: inputs and the time come in, outputs go out. The daemon and the
//! simulator run this same code.
//!
//! ```text
//!            ┌───────── receive, append ────────┐
//!  Input ──▶ replica ──admitted ops──▶ fold ──Cloud──▶ decide ──▶ pace ──▶ Output
//!            ▲                                           ▲           │
//!            └───────── reports of this node ◀───────────┼───────────┘
//!                                     presences, host ───┘
//! ```
//! The shell must make every [`Output::Persist`] of a call durable before it performs any other output of
//! that call: what was answered survives a crash, and nobody is told of an op that may be lost. It may
//! gather several calls and make one write of them; inputs that have come together it gives together, so that
//! the node decides once ([`Node::handle_all`]).

mod appending;
mod finality;
mod folding;
mod host;
mod waiting;

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::admit::Verify;
use ledger::codec::DecodeError;
use ledger::finality::chain::ChainError;
use ledger::finality::checkpoint::Certificate;
use ledger::finality::vote::Record;
use ledger::fork::ForkProof;
use ledger::genesis::{InvitationError, SignedInvitation};
use ledger::id::{CommandId, InstanceId, NodeId, OpId};
use ledger::journal::JournalRecord;
use ledger::op::{Chain, Op};
use ledger::replica::{self, Replica};
use ledger::report::Report;
use ledger::report::nodes::AnnounceNode;
use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::outcome::Outcome;

use crate::action::Action;
use crate::me::Me;
use crate::observed::{HeldMachine, Observed, Seen};
use crate::pace::Pace;
use crate::presence;

pub use finality::{
    CHECKPOINT_EVERY_MS, FinalityCounters, FinalityStatus, HEARTBEAT_MS, RETELL_MS, SETTLE_MS,
    TIME_AHEAD_MS_MAX, TIME_BEHIND_MS_MAX,
};
pub use host::HostEvent;
pub use waiting::{ASKED_MAX, WAIT_MS_MAX, WAITING_MAX, Wait};

/// How often [`Input::Tick`] should come.
pub const TICK_MS: u64 = 200;

/// How often a node tells its presence.
pub const PRESENCE_EVERY_MS: u64 = 1_000;

/// How often a node decides though nothing has happened: time alone can change what is right, such as a silence
/// that grows too long.
pub const DECIDE_EVERY_MS: u64 = 1_000;

/// How often one input may lead to a decision that leads to another; the next tick goes on from there.
const SETTLE_ROUNDS_MAX: usize = 8;

/// Presences of one node that are taken and passed on in a second, at most: an honest one tells one a second,
/// and one more when a machine's health changes.
pub const PRESENCES_A_SECOND_MAX: u32 = 10;

/// A node that was not up for this long (its host slept, its disk stood still) was deaf meanwhile: it takes
/// nobody's silence of that time for death, but listens anew, as after a start.
pub const DEAF_MS: u64 = 4_000;

/// Reports of hands that wait for the log to take them, at most; the oldest is dropped. A build whose report
/// is dropped is built again.
pub const UNSAID_MAX: usize = 64;

/// First byte of a frame between nodes: what follows.
const FRAME_SYNC: u8 = 0;
const FRAME_PRESENCE: u8 = 1;
const FRAME_INVITATION: u8 = 2;
const FRAME_ASK_HELD: u8 = 3;
const FRAME_HELD: u8 = 4;
const FRAME_FINALITY: u8 = 5;
const FRAME_CERTIFICATE: u8 = 6;
const FRAME_HEIGHT: u8 = 7;

/// A connected peer. The transport has proved its key; that it belongs to the network, its invitation
/// proves. Till then it is told nothing, and nothing that it says is heard.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// It is in the log, or showed its invitation.
    member: bool,
    /// It has said something besides its invitation, so it knows us for a member too.
    heard: bool,
}

/// The presences of one node that were taken within a second.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    since_ms: u64,
    count: u32,
}

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// Time passed.
    Tick,
    /// A peer is connected: its key is proved by the transport.
    PeerUp(NodeId),
    /// A peer is gone.
    PeerDown(NodeId),
    /// A peer sent a frame.
    Frame {
        /// Who.
        from: NodeId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A person's command, its signature checked. Answered by [`Output::Reply`] with the same token.
    Submit {
        /// Chosen by the shell.
        token: u64,
        /// The command's verbatim bytes.
        command: Vec<u8>,
        /// Its id.
        id: CommandId,
        /// What the answer waits for.
        wait: Wait,
    },
    /// A hand tells what is so on this host, or what came of an action.
    Host(HostEvent),
}

/// What goes out.
#[derive(Debug)]
pub enum Output {
    /// Make these durable, as one.
    Persist(Durable),
    /// Send a frame to a peer. It may be lost.
    Send {
        /// Whom to.
        to: NodeId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Break with a peer.
    Disconnect {
        /// Whom.
        peer: NodeId,
        /// Why, for the log.
        why: String,
    },
    /// The answer to [`Input::Submit`].
    Reply {
        /// The submitter's token.
        token: u64,
        /// What became of the command.
        reply: Result<Submitted, SubmitError>,
    },
    /// Send a peer certificates from this height on, some of them: those that are stored.
    TellCertificates {
        /// Whom to.
        to: NodeId,
        /// The first height.
        from_height: u64,
    },
    /// Something for a hand to do; what came of it returns as [`HostEvent::Done`].
    Act(Action),
}

/// What has to be durable before anything else of a call is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// Newly admitted ops, in admission order.
    pub ops: Vec<Op>,
    /// What they, and others through them, became.
    pub journal: Vec<JournalRecord>,
    /// New certificates, by height. The votes written before them are of no use any more.
    pub certificates: Vec<Certificate>,
    /// What a witness must not forget, see [`ledger::finality::vote::Record`]. After the certificates.
    pub votes: Vec<Vec<u8>>,
    /// Proofs of forks.
    pub forks: Vec<ForkProof>,
}

impl Durable {
    /// Adds what is to be written in the same batch, after this.
    pub fn extend(&mut self, more: Durable) {
        self.ops.extend(more.ops);
        self.journal.extend(more.journal);
        if !more.certificates.is_empty() {
            self.votes.clear();
        }
        self.certificates.extend(more.certificates);
        self.votes.extend(more.votes);
        self.forks.extend(more.forks);
    }
}

/// What a store holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// The ops, in their total order.
    pub ops: Vec<Op>,
    /// The certificates, by height from 1.
    pub certificates: Vec<Certificate>,
    /// The own votes since the last of them, in the order in which they were written.
    pub votes: Vec<Vec<u8>>,
    /// Proofs of forks.
    pub forks: Vec<ForkProof>,
}

impl From<Vec<Op>> for Held {
    fn from(ops: Vec<Op>) -> Self {
        Self {
            ops,
            ..Self::default()
        }
    }
}

/// Why a node does not open.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Its replica does not.
    #[error(transparent)]
    Replica(#[from] replica::OpenError),
    /// The certificates in the store do not follow from each other.
    #[error("cannot open the ledger: {0}")]
    Certificates(#[from] ChainError),
    /// A vote in the store does not read.
    #[error("cannot open the ledger: a stored vote: {0}")]
    Vote(#[from] DecodeError),
}

/// What became of a command, as of now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The op that carries it.
    pub op: OpId,
    /// What became of it.
    pub outcome: Outcome,
}

/// Why a command did not enter the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The replica could not append.
    #[error("the command could not be appended: {0}")]
    Append(String),
    /// It is in the log and durable here, but not enough others held it in time.
    #[error(
        "the command is durable here, but of {needed} other nodes that should hold it {held} said so in time"
    )]
    NotReplicated {
        /// How many others were asked for.
        needed: usize,
        /// How many said that they hold it.
        held: usize,
    },
    /// It is in the log and durable here, but no certificate covered it in time.
    #[error(
        "the command is durable here, but it did not become final in time: is there a quorum of witnesses?"
    )]
    NotFinal,
}

/// What a node begins with.
pub struct Setup {
    /// The replica's part: genesis, invitation, key, incarnation.
    pub replica: replica::Setup,
    /// What the store holds.
    pub stored: Held,
    /// The offset of the next journal record.
    pub journal_next: u64,
    /// What the node knows of itself.
    pub me: Me,
    /// What it tells others of itself.
    pub announce: AnnounceNode,
}

/// A node.
pub struct Node {
    secret: ledger::key::SecretKey,
    verify: Verify,
    replica: Replica,
    fold: Fold,
    me: Me,
    announce: AnnounceNode,
    /// Shared with whoever looks at it: see [`Node::sees`].
    observed: Arc<Observed>,
    pace: Pace,
    journal_next: u64,
    presence_seq: u64,
    presence_next_ms: u64,
    told: BTreeMap<NodeId, Told>,
    /// When the last input came.
    last_ms: u64,
    invitation: SignedInvitation,
    copies: waiting::Copies,
    finality: finality::Finality,
    /// Another process that lives with this node's key.
    twin: Option<Chain>,
    /// When the node last asked for its membership to go on, by its clock.
    renewed_ms: u64,
    peers: BTreeMap<NodeId, Peer>,
    /// Frames of peers that have not shown an invitation.
    strangers: u64,
    /// What stood in the place of a machine whose start is under way.
    before_start: BTreeMap<InstanceId, Option<HeldMachine>>,
    /// What is said once and could not be appended yet.
    unsaid: Vec<Report>,
    /// Its invitation names no peer: it began the network.
    first: bool,
    /// Something has changed since the last decision.
    dirty: bool,
    /// When that was.
    decided_ms: u64,
}

impl Node {
    /// Opens the node on what its store holds. The outputs must be performed like those of
    /// [`Self::handle`].
    pub fn open(setup: Setup, now_ms: u64) -> Result<(Self, Vec<Output>), OpenError> {
        let Setup {
            replica: replica_setup,
            stored,
            journal_next,
            me,
            announce,
        } = setup;
        let (secret, verify) = (replica_setup.secret.clone(), replica_setup.verify);
        let invitation = replica_setup.invitation.clone();
        let first = replica_setup.invitation.invitation.peers.is_empty();
        let genesis = replica_setup.genesis.clone();
        let mut fold = Fold::new(genesis.clone());
        let in_log = replica::Stored {
            ops: stored.ops.clone(),
            forks: stored.forks,
            ..replica::Stored::default()
        };
        let (mut replica, outputs) = Replica::open(replica_setup, in_log, now_ms)?;
        let votes = stored.votes.iter().map(|record| Record::decode(record));
        let votes = votes.collect::<Result<Vec<_>, _>>()?;
        let mut finality = finality::Finality::new(&genesis, &fold, &secret, verify, now_ms);
        // What the store holds was told in the journal before; its records are not told again.
        let late = finality.restore(stored.certificates, votes, &mut replica, &mut fold, now_ms)?;
        for proof in replica.forks().iter() {
            fold.exclude(proof.chain, proof.seq);
        }
        let log = replica.log();
        let tentative = stored
            .ops
            .into_iter()
            .filter(|op| log.contains(&op.id()) && !log.is_final(op));
        fold.apply(tentative.collect());
        let mut node = Self {
            secret,
            verify,
            replica,
            fold,
            pace: Pace::new(me.node),
            me,
            announce,
            observed: Arc::new(Observed {
                started_ms: now_ms,
                ..Observed::default()
            }),
            journal_next,
            presence_seq: 0,
            presence_next_ms: now_ms,
            told: BTreeMap::new(),
            last_ms: now_ms,
            invitation,
            copies: waiting::Copies::default(),
            finality,
            twin: None,
            renewed_ms: now_ms,
            peers: BTreeMap::new(),
            strangers: 0,
            before_start: BTreeMap::new(),
            unsaid: Vec::new(),
            first,
            dirty: true,
            decided_ms: now_ms,
        };
        let mut out = Vec::new();
        node.take(late, &mut out);
        node.take(outputs, &mut out);
        let announced = Report::AnnounceNode(node.announce.clone());
        node.say(announced, now_ms, &mut out);
        node.settle(now_ms, &mut out);
        Ok((node, out))
    }

    /// Takes one input. See the module for what the shell owes to the outputs.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        self.handle_all([input], now_ms)
    }

    /// Takes inputs that have come together, in their order, and decides once, after the last.
    pub fn handle_all(&mut self, inputs: impl IntoIterator<Item = Input>, now_ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        self.note_time(now_ms);
        // Frames of sync that come together are received together: one batch of signatures.
        let mut frames = Vec::new();
        for input in inputs {
            match input {
                Input::Frame { from, bytes } if bytes.first() == Some(&FRAME_SYNC) => {
                    if self.hears(from) {
                        frames.push((from, bytes[1..].to_vec()));
                    } else {
                        self.strangers += 1;
                    }
                }
                other => {
                    self.receive(std::mem::take(&mut frames), now_ms, &mut out);
                    self.take_in(other, now_ms, &mut out);
                }
            }
        }
        self.receive(frames, now_ms, &mut out);
        self.drive_finality(now_ms, &mut out);
        self.tell_held(&mut out);
        self.settle(now_ms, &mut out);
        out
    }

    fn take_in(&mut self, input: Input, now_ms: u64, out: &mut Vec<Output>) {
        match input {
            Input::Tick => self.tick(now_ms, out),
            Input::PeerUp(peer) => {
                self.peers.insert(peer, Peer::default());
                self.show_invitation(peer, out);
                if self.fold.cloud().nodes.contains_key(&peer) {
                    self.welcome(peer, now_ms, out);
                }
            }
            Input::PeerDown(peer) => {
                self.peers.remove(&peer);
                self.copies.forget(&peer);
                self.finality.forget(&peer);
                let outputs = self.replica.peer_down(peer, now_ms);
                self.take(outputs, out);
            }
            Input::Frame { from, bytes } => self.frame(from, &bytes, now_ms, out),
            Input::Submit {
                token,
                command,
                id,
                wait,
            } => self.submit((token, id), command, wait, now_ms, out),
            Input::Host(event) => {
                self.host(event, now_ms, out);
                self.dirty = true;
            }
        }
    }

    /// Looks at how the clock went on since the last input.
    fn note_time(&mut self, now_ms: u64) {
        let last_ms = std::mem::replace(&mut self.last_ms, now_ms);
        if now_ms > last_ms.saturating_add(DEAF_MS) {
            self.sees().started_ms = now_ms;
        } else if now_ms < last_ms {
            // The clock was set back: nothing was seen later than now.
            let observed = self.sees();
            observed.started_ms = observed.started_ms.min(now_ms);
            for seen in observed.presences.values_mut() {
                seen.arrived_ms = seen.arrived_ms.min(now_ms);
            }
            self.presence_next_ms = self.presence_next_ms.min(now_ms);
        }
    }

    /// The newest view.
    pub fn cloud(&self) -> Arc<Cloud> {
        self.fold.cloud()
    }

    /// What is so at the end of what is final.
    pub fn final_cloud(&self) -> Arc<Cloud> {
        self.fold.final_cloud()
    }

    /// What this node sees.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// The same to keep: it costs nothing, and what is seen after that goes into a copy.
    pub fn observed_shared(&self) -> Arc<Observed> {
        Arc::clone(&self.observed)
    }

    /// What this node sees, to change.
    fn sees(&mut self) -> &mut Observed {
        Arc::make_mut(&mut self.observed)
    }

    /// The replica, for its log and its counters.
    pub fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The offset of the next journal record.
    pub fn journal_next(&self) -> u64 {
        self.journal_next
    }

    /// What became of an op's entries, as of now.
    pub fn outcomes(&self, op: OpId) -> Option<&[Outcome]> {
        self.fold.outcomes(op)
    }

    /// Frames of peers that were not members, or had not shown it yet.
    pub fn strangers(&self) -> u64 {
        self.strangers
    }

    /// Peers connected now.
    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.peers.keys().copied()
    }

    fn tick(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let outputs = self.replica.tick(now_ms);
        self.take(outputs, out);
        if now_ms >= self.presence_next_ms {
            self.presence_next_ms = now_ms + PRESENCE_EVERY_MS;
            self.presence_seq += 1;
            let cloud = self.fold.cloud();
            let chain = self.replica.chain();
            let presence = presence::own(
                &cloud,
                &self.me,
                &self.observed,
                &chain,
                self.presence_seq,
                now_ms,
            );
            let record = presence::sign(&presence, self.replica.network(), &self.secret, self.verify);
            self.spread_presence(&record, None, out);
            // A frame may be lost: who has said nothing yet is shown the invitation again.
            let silent: Vec<NodeId> = self
                .peers
                .iter()
                .filter(|(_, peer)| !peer.heard)
                .map(|(peer, _)| *peer)
                .collect();
            for peer in silent {
                self.show_invitation(peer, out);
            }
            let seen = Seen {
                presence,
                arrived_ms: now_ms,
            };
            self.sees().presences.insert(seen.presence.node, seen);
            self.tell_height(out);
            self.renew_membership(now_ms, out);
            self.ask_held_again(now_ms, out);
            for report in std::mem::take(&mut self.unsaid) {
                self.say(report, now_ms, out);
            }
        }
        // The first node of a network has nobody to ask. One that was invited has, whatever its log holds yet.
        let alone = self.first
            && self
                .fold
                .cloud()
                .nodes
                .keys()
                .all(|node| *node == self.replica.node());
        if !self.observed.synced && (alone || self.replica.has_agreed()) {
            self.sees().synced = true;
            self.dirty = true;
        }
        self.dirty |= now_ms.abs_diff(self.decided_ms) >= DECIDE_EVERY_MS
            || self.pace.next_ms().is_some_and(|next_ms| next_ms <= now_ms);
    }

    fn receive(&mut self, frames: Vec<(NodeId, Vec<u8>)>, now_ms: u64, out: &mut Vec<Output>) {
        if !frames.is_empty() {
            let outputs = self.replica.receive_all(frames, now_ms);
            self.take(outputs, out);
        }
    }

    fn frame(&mut self, from: NodeId, bytes: &[u8], now_ms: u64, out: &mut Vec<Output>) {
        match bytes.split_first() {
            Some((&FRAME_INVITATION, shown)) => self.invitation(from, shown, now_ms, out),
            _ if !self.hears(from) => self.strangers += 1,
            Some((&FRAME_PRESENCE, record)) => self.presence(from, record, now_ms, out),
            Some((&FRAME_ASK_HELD, asked)) => self.asked_held(from, asked, out),
            Some((&FRAME_HELD, told)) => self.held(from, told, now_ms, out),
            Some((&FRAME_FINALITY, said)) => self.finality_frame(from, said, now_ms, out),
            Some((&FRAME_CERTIFICATE, told)) => self.certificate_frame(from, told, now_ms, out),
            Some((&FRAME_HEIGHT, told)) => self.height_frame(from, told, now_ms, out),
            _ => self.sees().unknown_frames += 1,
        }
    }

    fn show_invitation(&self, to: NodeId, out: &mut Vec<Output>) {
        out.push(Output::Send {
            to,
            bytes: framed(FRAME_INVITATION, self.invitation.bytes()),
        });
    }

    /// Whether a peer is a member; notes that it spoke.
    fn hears(&mut self, from: NodeId) -> bool {
        match self.peers.get_mut(&from) {
            Some(peer) if peer.member => {
                peer.heard = true;
                true
            }
            _ => false,
        }
    }

    fn invitation(&mut self, from: NodeId, shown: &[u8], now_ms: u64, out: &mut Vec<Output>) {
        if self.peers.get(&from).is_none_or(|peer| peer.member) {
            return;
        }
        let holds = SignedInvitation::decode(shown).map_err(InvitationError::from);
        match holds.and_then(|invitation| invitation.verify(self.replica.network(), from)) {
            Ok(()) => self.welcome(from, now_ms, out),
            Err(error) => {
                self.peers.remove(&from);
                out.push(Output::Disconnect {
                    peer: from,
                    why: error.to_string(),
                });
            }
        }
    }

    /// A connected peer is known to be a member: from now on it is told and heard.
    fn welcome(&mut self, peer: NodeId, now_ms: u64, out: &mut Vec<Output>) {
        self.peers.entry(peer).or_default().member = true;
        let outputs = self.replica.peer_up(peer, now_ms);
        self.take(outputs, out);
        // A newcomer should not have to wait for the next round to see who is alive.
        self.presence_next_ms = now_ms;
    }

    fn presence(&mut self, from: NodeId, record: &[u8], now_ms: u64, out: &mut Vec<Output>) {
        let cloud = self.fold.cloud();
        match presence::accept(record, &cloud, &self.observed, now_ms, self.verify) {
            Ok(Some(presence)) => {
                let about = presence.node;
                if !self.may_tell(about, now_ms) {
                    *self.sees().refused_presences.entry("too-often").or_default() += 1;
                    return;
                }
                self.spread_presence(record, Some((from, about)), out);
                // From a node that lives and says what it said before, nothing follows.
                let before = self.observed.presences.get(&about);
                self.dirty |= !self.observed.is_live(about, now_ms)
                    || before.is_none_or(|seen| !seen.presence.says_the_same(&presence));
                let seen = Seen {
                    presence,
                    arrived_ms: now_ms,
                };
                self.sees().presences.insert(about, seen);
            }
            // It came by another way before: that is how it spreads, not a fault.
            Ok(None) => {}
            Err(refusal) => self.sees().refused_presence(&refusal),
        }
    }

    /// Whether one more presence of a node is within [`PRESENCES_A_SECOND_MAX`]. Each one taken is sent on to
    /// all peers, so that without a bound one member could keep the whole network busy.
    fn may_tell(&mut self, node: NodeId, now_ms: u64) -> bool {
        let told = self.told.entry(node).or_default();
        if now_ms.abs_diff(told.since_ms) >= 1_000 {
            *told = Told {
                since_ms: now_ms,
                count: 0,
            };
        }
        told.count += 1;
        told.count <= PRESENCES_A_SECOND_MAX
    }

    /// Passes a presence on: to everybody but where it came from and whom it is about.
    fn spread_presence(&self, signed: &[u8], not_to: Option<(NodeId, NodeId)>, out: &mut Vec<Output>) {
        for (peer, _) in self.peers.iter().filter(|(_, peer)| peer.member) {
            if not_to.is_none_or(|(from, about)| *peer != from && *peer != about) {
                out.push(Output::Send {
                    to: *peer,
                    bytes: framed(FRAME_PRESENCE, signed),
                });
            }
        }
    }

    /// Decides until nothing follows: what is reported changes the view, and that may call for more.
    fn settle(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            if !self.dirty {
                return;
            }
            self.dirty = false;
            self.decided_ms = now_ms;
            let cloud = self.fold.cloud();
            let places_nothing = self.alarm().is_some();
            let actions = crate::decide::decide(&cloud, &self.observed, &self.me, now_ms);
            let mut reports = Vec::new();
            for action in self.pace.filter(actions, now_ms) {
                match action {
                    // Two that place with one key would undo each other's work, and nothing certified what
                    // a node with an alarm sees.
                    Action::Report(Report::PlaceInstance(_)) if places_nothing => {}
                    Action::Report(report) => reports.push(report),
                    action => {
                        self.note_begun(&action);
                        out.push(Output::Act(action));
                    }
                }
            }
            // Whoever holds a view makes the fold copy what it changes.
            drop(cloud);
            if !reports.is_empty() {
                self.append(reports, now_ms, out);
            }
        }
    }
}

/// The frame by which a shell does [`Output::TellCertificates`]: one for each certificate.
pub fn certificate_frame(certificate: &Certificate) -> Vec<u8> {
    framed(FRAME_CERTIFICATE, &certificate.encode())
}

fn framed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(bytes.len() + 1);
    frame.push(kind);
    frame.extend_from_slice(bytes);
    frame
}
