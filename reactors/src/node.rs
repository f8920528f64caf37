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
//! gather several calls and make one write of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::admit::Verify;
use ledger::genesis::{InvitationError, SignedInvitation};
use ledger::id::{BuildId, CommandId, Digest, InstanceId, NodeId, OpId};
use ledger::journal::JournalRecord;
use ledger::op::Op;
use ledger::replica::{self, Replica};
use ledger::report::images::{ImageBuilt, ImageFailed, REASON_MAX};
use ledger::report::nodes::AnnounceNode;
use ledger::report::{Carry, Report};
use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::outcome::Outcome;
use vmm::machine::MachineState;
use vmm::spec::MachineSpec;

use crate::action::{Action, ActionKey, ReportKey};
use crate::me::Me;
use crate::observed::{Ending, HeldImage, HeldMachine, Observed, Seen};
use crate::pace::Pace;
use crate::presence;

/// How often [`Input::Tick`] should come.
pub const TICK_MS: u64 = 200;

/// How often a node tells its presence.
pub const PRESENCE_EVERY_MS: u64 = 1_000;

/// How often one input may lead to a decision that leads to another; the next tick goes on from there.
const SETTLE_ROUNDS_MAX: usize = 8;

/// First byte of a frame between nodes: what follows.
const FRAME_SYNC: u8 = 0;
const FRAME_PRESENCE: u8 = 1;
const FRAME_INVITATION: u8 = 2;

/// A connected peer. The transport has proved its key; that it belongs to the network, its invitation
/// proves. Till then it is told nothing, and nothing that it says is heard.
#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    /// It is in the log, or showed its invitation.
    member: bool,
    /// It has said something besides its invitation, so it knows us for a member too.
    heard: bool,
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
    },
    /// A hand tells what is so on this host, or what came of an action.
    Host(HostEvent),
}

/// What a hand tells.
#[derive(Debug)]
pub enum HostEvent {
    /// A machine is in this state.
    Machine {
        /// Which.
        instance: InstanceId,
        /// Generation that it was last started for.
        generation: u64,
        /// What it was started from, as far as the hand knows.
        spec: Option<Box<MachineSpec>>,
        /// How it is.
        state: MachineState,
    },
    /// Nothing is left of a machine.
    MachineGone {
        /// Which.
        instance: InstanceId,
    },
    /// An image is complete here.
    Image {
        /// Digest of its manifest.
        digest: Digest,
        /// Where it is and what runs in it.
        image: HeldImage,
    },
    /// A build's context is complete here.
    Context {
        /// Digest of its manifest.
        digest: Digest,
    },
    /// A blob is no longer here.
    BlobGone {
        /// Digest of its manifest.
        digest: Digest,
    },
    /// A build ended.
    Built {
        /// Which.
        build: BuildId,
        /// The image and its size, or why there is none.
        result: Result<(Digest, u64), String>,
        /// How long it took.
        took_ms: u64,
    },
    /// The hands have told of everything that this host holds.
    Known,
    /// An action ended. What it changed was told by an event before.
    Done {
        /// Which.
        key: ActionKey,
        /// Whether it did what it should.
        ok: bool,
    },
}

/// What goes out.
#[derive(Debug)]
pub enum Output {
    /// Make these durable, as one: ops in admission order and the journal's records of what they became.
    Persist {
        /// Newly admitted ops.
        ops: Vec<Op>,
        /// What they, and others through them, became.
        journal: Vec<JournalRecord>,
    },
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
    /// A new view.
    Publish(Arc<Cloud>),
    /// The answer to [`Input::Submit`].
    Reply {
        /// The submitter's token.
        token: u64,
        /// What became of the command.
        reply: Result<Submitted, SubmitError>,
    },
    /// Something for a hand to do; what came of it returns as [`HostEvent::Done`].
    Act(Action),
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
}

/// What a node begins with.
pub struct Setup {
    /// The replica's part: genesis, invitation, key, incarnation.
    pub replica: replica::Setup,
    /// Ops in the store.
    pub stored: Vec<Op>,
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
    observed: Observed,
    pace: Pace,
    journal_next: u64,
    presence_seq: u64,
    presence_next_ms: u64,
    invitation: SignedInvitation,
    peers: BTreeMap<NodeId, Peer>,
    /// Frames of peers that have not shown an invitation.
    strangers: u64,
    /// What stood in the place of a machine whose start is under way.
    before_start: BTreeMap<InstanceId, Option<HeldMachine>>,
    /// Its invitation names no peer: it began the network.
    first: bool,
    dirty: bool,
}

impl Node {
    /// Opens the node on what its store holds. The outputs must be performed like those of
    /// [`Self::handle`].
    pub fn open(setup: Setup, now_ms: u64) -> Result<(Self, Vec<Output>), replica::OpenError> {
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
        let mut fold = Fold::new(replica_setup.genesis.clone());
        // What the store holds was told in the journal before; its records are not told again.
        fold.apply(stored.clone());
        let (replica, outputs) = Replica::open(replica_setup, stored, now_ms)?;
        let mut node = Self {
            secret,
            verify,
            replica,
            fold,
            pace: Pace::new(me.node),
            me,
            announce,
            observed: Observed { started_ms: now_ms, ..Observed::default() },
            journal_next,
            presence_seq: 0,
            presence_next_ms: now_ms,
            invitation,
            peers: BTreeMap::new(),
            strangers: 0,
            before_start: BTreeMap::new(),
            first,
            dirty: true,
        };
        let mut out = Vec::new();
        node.take(outputs, &mut out);
        let announced = Report::AnnounceNode(node.announce.clone());
        node.append(vec![announced], now_ms, &mut out);
        node.settle(now_ms, &mut out);
        Ok((node, out))
    }

    /// Takes one input. See the module for what the shell owes to the outputs.
    pub fn handle(&mut self, input: Input, now_ms: u64) -> Vec<Output> {
        let mut out = Vec::new();
        match input {
            Input::Tick => self.tick(now_ms, &mut out),
            Input::PeerUp(peer) => {
                self.peers.insert(peer, Peer::default());
                self.show_invitation(peer, &mut out);
                if self.fold.cloud().nodes.contains_key(&peer) {
                    self.welcome(peer, now_ms, &mut out);
                }
            }
            Input::PeerDown(peer) => {
                self.peers.remove(&peer);
                let outputs = self.replica.peer_down(peer, now_ms);
                self.take(outputs, &mut out);
            }
            Input::Frame { from, bytes } => self.frame(from, &bytes, now_ms, &mut out),
            Input::Submit { token, command, id } => self.submit(token, command, id, now_ms, &mut out),
            Input::Host(event) => {
                self.host(event, now_ms, &mut out);
                self.dirty = true;
            }
        }
        self.settle(now_ms, &mut out);
        out
    }

    /// The newest view.
    pub fn cloud(&self) -> Arc<Cloud> {
        self.fold.cloud()
    }

    /// What this node sees.
    pub fn observed(&self) -> &Observed {
        &self.observed
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
            let presence = presence::own(&cloud, &self.me, &self.observed, &chain, self.presence_seq, now_ms);
            let record = presence::sign(&presence, self.replica.network(), &self.secret, self.verify);
            self.spread_presence(&record, None, out);
            // A frame may be lost: who has said nothing yet is shown the invitation again.
            let silent: Vec<NodeId> =
                self.peers.iter().filter(|(_, peer)| !peer.heard).map(|(peer, _)| *peer).collect();
            for peer in silent {
                self.show_invitation(peer, out);
            }
            self.observed.presences.insert(presence.node, Seen { presence, arrived_ms: now_ms });
        }
        // The first node of a network has nobody to ask. One that was invited has, whatever its log holds yet.
        let alone = self.first && self.fold.cloud().nodes.keys().all(|node| *node == self.replica.node());
        self.observed.synced |= alone || self.replica.has_agreed();
        // Time alone can change what is right: a silence that grows too long, a backoff that ends.
        self.dirty = true;
    }

    fn frame(&mut self, from: NodeId, bytes: &[u8], now_ms: u64, out: &mut Vec<Output>) {
        match bytes.split_first() {
            Some((&FRAME_INVITATION, shown)) => self.invitation(from, shown, now_ms, out),
            _ if !self.hears(from) => self.strangers += 1,
            Some((&FRAME_SYNC, frame)) => {
                let outputs = self.replica.receive(from, frame, now_ms);
                self.take(outputs, out);
            }
            Some((&FRAME_PRESENCE, record)) => self.presence(from, record, now_ms, out),
            _ => self.observed.unknown_frames += 1,
        }
    }

    fn show_invitation(&self, to: NodeId, out: &mut Vec<Output>) {
        out.push(Output::Send { to, bytes: framed(FRAME_INVITATION, self.invitation.bytes()) });
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
                out.push(Output::Disconnect { peer: from, why: error.to_string() });
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
        match presence::accept(record, &self.fold.cloud(), &self.observed, now_ms, self.verify) {
            Ok(Some(presence)) => {
                let about = presence.node;
                self.spread_presence(record, Some((from, about)), out);
                // From a node that lives and says what it said before, nothing follows.
                self.dirty |= !self.observed.is_live(about, now_ms)
                    || self
                        .observed
                        .presences
                        .get(&about)
                        .is_none_or(|seen| !seen.presence.says_the_same(&presence));
                self.observed.presences.insert(about, Seen { presence, arrived_ms: now_ms });
            }
            // It came by another way before: that is how it spreads, not a fault.
            Ok(None) => {}
            Err(refusal) => self.observed.refused_presence(&refusal),
        }
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

    fn submit(&mut self, token: u64, command: Vec<u8>, id: CommandId, now_ms: u64, out: &mut Vec<Output>) {
        // A command that is in the log already is answered with what became of it: a client that lost the
        // answer asks again with the same bytes.
        if self.fold.cloud().commands.get(&id).is_none() {
            let op = self.try_append(vec![Report::Carry(Carry { command })], now_ms, out);
            if let Err(error) = op {
                out.push(Output::Reply {
                    token,
                    reply: Err(SubmitError::Append(error.to_string())),
                });
                return;
            }
        }
        let cloud = self.fold.cloud();
        let reply = match cloud.commands.get(&id) {
            Some(record) => Ok(Submitted {
                op: record.op,
                outcome: record.outcome.clone(),
            }),
            None => Err(SubmitError::Append(
                "the fold has no record of the command".into(),
            )),
        };
        out.push(Output::Reply { token, reply });
    }

    fn host(&mut self, event: HostEvent, now_ms: u64, out: &mut Vec<Output>) {
        match event {
            HostEvent::Machine {
                instance,
                generation,
                spec,
                state,
            } => {
                self.machine(instance, generation, spec, state);
                // Others should hear at once that an instance became healthy, or ceased to be.
                self.presence_next_ms = now_ms;
            }
            HostEvent::MachineGone { instance } => {
                self.observed.machines.remove(&instance);
            }
            HostEvent::Image { digest, image } => {
                self.observed.images.insert(digest, image);
            }
            HostEvent::Context { digest } => {
                self.observed.contexts.insert(digest);
            }
            HostEvent::BlobGone { digest } => {
                self.observed.images.remove(&digest);
                self.observed.contexts.remove(&digest);
            }
            HostEvent::Built {
                build,
                result,
                took_ms,
            } => {
                let report = match result {
                    Ok((image, bytes)) => Report::ImageBuilt(ImageBuilt {
                        build,
                        image,
                        bytes,
                        took_ms,
                    }),
                    Err(reason) => Report::ImageFailed(ImageFailed {
                        build,
                        reason: last_bytes(reason),
                    }),
                };
                self.append(vec![report], now_ms, out);
            }
            HostEvent::Known => self.observed.host_known = true,
            HostEvent::Done { key, ok } => self.done(key, ok, now_ms),
        }
    }

    fn machine(
        &mut self,
        instance: InstanceId,
        generation: u64,
        spec: Option<Box<MachineSpec>>,
        state: MachineState,
    ) {
        let spec = spec.map(|spec| *spec);
        match self.observed.machines.get_mut(&instance) {
            Some(machine) if generation < machine.generation => {}
            Some(machine) if generation == machine.generation => {
                machine.state = state;
                if spec.is_some() {
                    machine.spec = spec;
                }
            }
            _ => {
                let ending = if state.is_alive() {
                    Ending::ByItself
                } else {
                    Ending::Found
                };
                let machine = HeldMachine {
                    spec,
                    generation,
                    start: 0,
                    state,
                    ending,
                };
                self.observed.machines.insert(instance, machine);
            }
        }
    }

    /// Notes what an action that goes out makes so, before its hand says more.
    fn note_begun(&mut self, action: &Action) {
        match action {
            Action::Fetch { digest, .. } => {
                self.observed.fetching.insert(*digest, ());
            }
            Action::Build { build, .. } => {
                self.observed.building.insert(*build, ());
            }
            Action::Start { spec, start } => {
                let instance = InstanceId(spec.id.0);
                let machine = HeldMachine {
                    spec: Some((**spec).clone()),
                    generation: spec.generation,
                    start: *start,
                    state: MachineState::Starting,
                    ending: Ending::ByItself,
                };
                let before = self.observed.machines.insert(instance, machine);
                self.before_start.insert(instance, before);
            }
            Action::Stop { instance, .. } => {
                if let Some(machine) = self.observed.machines.get_mut(instance) {
                    machine.ending = Ending::Asked;
                }
            }
            _ => {}
        }
    }

    fn done(&mut self, key: ActionKey, ok: bool, now_ms: u64) {
        match &key {
            ActionKey::Fetch(digest) => {
                self.observed.fetching.remove(digest);
            }
            ActionKey::Build(build) => {
                self.observed.building.remove(build);
            }
            ActionKey::Start { instance, .. } => {
                let before = self.before_start.remove(instance);
                let starting = self
                    .observed
                    .machines
                    .get(instance)
                    .is_some_and(|machine| machine.state == MachineState::Starting);
                if !ok && starting {
                    match before.flatten() {
                        Some(machine) => self.observed.machines.insert(*instance, machine),
                        None => self.observed.machines.remove(instance),
                    };
                }
            }
            _ => {}
        }
        self.pace.done(&key, ok, now_ms);
    }

    /// Decides until nothing follows: what is reported changes the view, and that may call for more.
    fn settle(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        for _ in 0..SETTLE_ROUNDS_MAX {
            if !self.dirty {
                return;
            }
            self.dirty = false;
            let cloud = self.fold.cloud();
            let actions = crate::decide::decide(&cloud, &self.observed, &self.me, now_ms);
            let mut reports = Vec::new();
            for action in self.pace.filter(actions, now_ms) {
                match action {
                    Action::Report(report) => reports.push(report),
                    action => {
                        self.note_begun(&action);
                        out.push(Output::Act(action));
                    }
                }
            }
            if !reports.is_empty() {
                self.append(reports, now_ms, out);
            }
        }
    }

    /// Appends reports that were decided. One that cannot be appended is decided again later, more slowly.
    fn append(&mut self, reports: Vec<Report>, now_ms: u64, out: &mut Vec<Output>) {
        let keys: Vec<ReportKey> = reports.iter().map(ReportKey::of).collect();
        if self.try_append(reports, now_ms, out).is_err() {
            for key in keys {
                self.pace.done(&ActionKey::Report(key), false, now_ms);
            }
        }
    }

    fn try_append(
        &mut self,
        reports: Vec<Report>,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<OpId, replica::AppendError> {
        let (op, outputs) = self.replica.append(reports, now_ms)?;
        self.take(outputs, out);
        Ok(op)
    }

    /// Folds what the replica admitted and passes the rest on.
    fn take(&mut self, outputs: Vec<replica::Output>, out: &mut Vec<Output>) {
        for output in outputs {
            match output {
                replica::Output::Send { to, frame } => {
                    out.push(Output::Send {
                        to,
                        bytes: framed(FRAME_SYNC, &frame),
                    });
                }
                replica::Output::Disconnect { peer, why } => {
                    out.push(Output::Disconnect {
                        peer,
                        why: why.to_string(),
                    });
                }
                replica::Output::Admitted(ops) => {
                    let changes = self.fold.apply(ops.clone());
                    let mut journal = Vec::with_capacity(changes.len());
                    for change in changes {
                        journal.push(JournalRecord {
                            offset: self.journal_next,
                            op: change.op,
                            entry: change.entry,
                            outcome: ledger::codec::encode(&change.outcome),
                            turned: change.turned,
                        });
                        self.journal_next += 1;
                    }
                    out.push(Output::Persist { ops, journal });
                    out.push(Output::Publish(self.fold.cloud()));
                    self.dirty = true;
                }
            }
        }
    }
}

fn framed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(bytes.len() + 1);
    frame.push(kind);
    frame.extend_from_slice(bytes);
    frame
}

/// The end of a text, within what a report may hold: of a build's log the end says what went wrong.
fn last_bytes(text: String) -> String {
    let mut start = text.len().saturating_sub(REASON_MAX);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text[start..].to_owned()
}
