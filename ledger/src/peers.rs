//! The connected peers and what each is owed: windows of ops, a share of the bytes served. What is compared
//! with them is in [`crate::compare`], how new ops spread in [`crate::spread`] (see [`crate::sync`] for the
//! frames).
//!
//! Now and then a replica greets one connected peer, drawn by chance. Of two that greet each other at once
//! only the smaller id's greeting is answered. A replica fetches from one peer at a time, so that a joiner
//! with many peers gets each op once; a peer that is slow at it is passed over after a while.
//!
//! What a peer costs is bounded: one list of chains, one push under way, a rate of bytes served.
//! A wall clock that is set back delays nothing: a time in the future counts as long past.

use std::collections::BTreeMap;

use crate::compare::{Greeting, Listed, Memories};
use crate::id::NodeId;
use crate::limbo::Waiting;
use crate::op::{Chain, Dependency};
use crate::plumtree::Plumtree;
use crate::push::{self, Push};
use crate::replica::{Misconduct, Output, Replica};
use crate::sync::{Frame, HeadMark, Heads};

/// How often one peer is greeted, in the mean. The time between varies by half of it either way, so that two
/// replicas do not always greet each other at once.
pub const GREET_EVERY_MS: u64 = 500;

/// A new peer that is to greet, and does not within this time, is greeted.
pub const MEET_MS: u64 = 150;

/// A greeting that was not answered, or a push that was not granted on, is given up after this long.
pub const STALL_MS: u64 = 2_000;

/// Where nothing came for this long, the ops of a push are no longer waited for.
pub const QUIET_MS: u64 = 300;

/// A peer may keep a replica from fetching elsewhere for this long, at most.
pub const FETCH_MS_MAX: u64 = 5_000;

/// A peer is asked about ops that are missing at most this often.
pub const GAP_EVERY_MS: u64 = 100;

/// Bytes served to one peer in a second, at most, in the mean.
pub const SERVED_BYTES_PER_S: u64 = 64 << 20;

/// Bytes that one peer may be served at once after a quiet time.
pub const SERVED_BYTES_BURST: u64 = 8 << 20;

/// Whether less than `span_ms` have passed since a time.
pub(crate) fn within(now_ms: u64, since_ms: u64, span_ms: u64) -> bool {
    now_ms >= since_ms && now_ms - since_ms < span_ms
}

#[derive(Debug)]
pub(crate) struct Peer {
    /// Our last greeting, unless it was answered.
    pub(crate) greeting: Option<Greeting>,
    /// What we listed to it last, unless it has told what of that it lacks.
    pub(crate) listed: Option<Listed>,
    /// Since when it is waited for that it greets.
    pub(crate) met_ms: Option<u64>,
    /// When it was last asked about a gap.
    asked_ms: u64,
    /// What it lacks.
    pub(crate) push: Push,
    /// When it was last sent a window.
    pushed_ms: u64,
    /// Whether it granted a window that has not been sent yet.
    granted: bool,
    /// Bytes that it may be served, below zero when it was served more, and when that was reckoned.
    allowance: i64,
    reckoned_ms: u64,
}

impl Peer {
    /// Reckons the allowance; whether anything of it is left.
    pub(crate) fn may_be_served(&mut self, now_ms: u64) -> bool {
        let passed_ms = now_ms.saturating_sub(self.reckoned_ms);
        let gained = passed_ms
            .saturating_mul(SERVED_BYTES_PER_S / 1000)
            .min(2 * SERVED_BYTES_BURST);
        let allowance = self.allowance.saturating_add(gained as i64);
        self.allowance = allowance.min(SERVED_BYTES_BURST as i64);
        self.reckoned_ms = now_ms;
        self.allowance > 0
    }

    /// Sends a frame at the expense of the allowance.
    pub(crate) fn serve(&mut self, to: NodeId, frame: Frame, outputs: &mut Vec<Output>) {
        let frame = frame.encode();
        self.allowance -= frame.len() as i64;
        outputs.push(Output::Send { to, frame });
    }

    /// Whether it should have greeted by now.
    fn waits_in_vain(&self, now_ms: u64) -> bool {
        self.met_ms.is_some_and(|ms| !within(now_ms, ms, MEET_MS))
    }

    /// Whether a greeting of ours is under way.
    pub(crate) fn greets(&self, now_ms: u64) -> bool {
        self.greeting
            .as_ref()
            .is_some_and(|greeting| within(now_ms, greeting.ms, STALL_MS))
    }

    /// Forgets a push that the peer, which now asks anew, has not granted on for long: a frame of it was lost.
    pub(crate) fn drop_stalled(&mut self, now_ms: u64) {
        if !within(now_ms, self.pushed_ms, 2 * QUIET_MS) {
            self.push = Push::default();
            self.granted = false;
        }
    }

    /// Whether a comparison or a push is under way.
    fn is_busy(&self, now_ms: u64) -> bool {
        self.greets(now_ms) || !self.push.is_done() && within(now_ms, self.pushed_ms, STALL_MS)
    }
}

/// From whom ops are fetched.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    from: NodeId,
    began_ms: u64,
    moved_ms: u64,
}

/// The connected peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) memories: Memories,
    pub(crate) tree: Plumtree,
    /// Live ops that go on to others with the end of the call.
    pub(crate) forward: Vec<Waiting>,
    /// The step of the vector up to which moved chains were announced.
    pub(crate) announced: u64,
    /// Whom to greet next, since a list was longer than a frame.
    pub(crate) again: Option<NodeId>,
    greeted_ms: u64,
    greet_after_ms: u64,
    fetch: Option<Fetch>,
}

impl Peers {
    pub(crate) fn up(&mut self, peer: NodeId, now_ms: u64) {
        let state = Peer {
            greeting: None,
            listed: None,
            met_ms: None,
            asked_ms: 0,
            push: Push::default(),
            pushed_ms: 0,
            granted: false,
            allowance: SERVED_BYTES_BURST as i64,
            reckoned_ms: now_ms,
        };
        self.peers.insert(peer, state);
        self.tree.up(peer);
    }

    pub(crate) fn down(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        self.tree.down(&peer);
        if self.fetch.is_some_and(|fetch| fetch.from == peer) {
            self.fetch = None;
        }
    }

    pub(crate) fn is_up(&self, peer: &NodeId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
    }

    /// Sends a frame at the expense of the peer's allowance; whether anything of it was left.
    pub(crate) fn serve(&mut self, to: NodeId, frame: Frame, now_ms: u64, outputs: &mut Vec<Output>) -> bool {
        let Some(peer) = self.peers.get_mut(&to) else {
            return false;
        };
        let served = peer.may_be_served(now_ms);
        if served {
            peer.serve(to, frame, outputs);
        }
        served
    }

    /// Notes that a peer brings ops that were fetched from it.
    pub(crate) fn brings(&mut self, peer: NodeId, now_ms: u64) {
        if let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.from == peer) {
            fetch.moved_ms = now_ms;
        }
    }

    /// From whom ops are being fetched.
    fn fetching(&self, now_ms: u64) -> Option<NodeId> {
        let under_way = |fetch: &Fetch| {
            within(now_ms, fetch.moved_ms, QUIET_MS) && within(now_ms, fetch.began_ms, FETCH_MS_MAX)
        };
        self.fetch.filter(under_way).map(|fetch| fetch.from)
    }

    /// Begins to fetch from a peer, unless that is being done from another.
    pub(crate) fn may_fetch(&mut self, from: NodeId, now_ms: u64) -> bool {
        match self.fetching(now_ms) {
            Some(other) if other != from => false,
            Some(_) => true,
            None => {
                self.fetch = Some(Fetch {
                    from,
                    began_ms: now_ms,
                    moved_ms: now_ms,
                });
                true
            }
        }
    }
}

pub(crate) fn send(to: NodeId, frame: Frame, outputs: &mut Vec<Output>) {
    outputs.push(Output::Send {
        to,
        frame: frame.encode(),
    });
}

impl Replica {
    /// A peer is connected: the one with the smaller id greets the other, who does so when it did not come.
    pub(crate) fn meet(&mut self, peer: NodeId, now_ms: u64, outputs: &mut Vec<Output>) {
        if self.node() < peer {
            self.greet(peer, now_ms, outputs);
        } else if let Some(peer) = self.peers.peers.get_mut(&peer) {
            peer.met_ms = Some(now_ms);
        }
    }

    /// An op came whose predecessor or dependency is missing: asks for the chain where it ends here, and
    /// begins a comparison for the rest.
    pub(crate) fn ask_for_gap(&mut self, from: NodeId, chain: Chain, now_ms: u64, outputs: &mut Vec<Output>) {
        if self.peers.fetching(now_ms).is_some() {
            return;
        }
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return;
        };
        if within(now_ms, peer.asked_ms, GAP_EVERY_MS) {
            return;
        }
        peer.asked_ms = now_ms;
        let mark = self
            .log
            .vector()
            .head(&chain)
            .map_or(HeadMark::NOTHING, HeadMark::from);
        let heads = vec![(chain, mark)];
        send(from, Frame::Heads(Heads { heads }), outputs);
        self.greet(from, now_ms, outputs);
    }

    /// Ops came after one that is not here: asks for them with the name of their chain.
    pub(crate) fn ask_for_place(
        &mut self,
        from: NodeId,
        before: Dependency,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return;
        };
        if within(now_ms, peer.asked_ms, GAP_EVERY_MS) {
            return;
        }
        peer.asked_ms = now_ms;
        send(from, Frame::Unplaced(before), outputs);
    }

    /// Handles a frame that brings no ops.
    pub(crate) fn converse(
        &mut self,
        from: NodeId,
        frame: Frame,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        match frame {
            Frame::Hello(hello) => return self.hear_hello(from, hello, now_ms, outputs),
            Frame::Heads(heads) => self.hear_heads(from, &heads, now_ms, outputs),
            Frame::More => {
                // The next comparison takes up again what is not granted now.
                if self.limbo.has_room_for(from) {
                    self.peers.brings(from, now_ms);
                    send(from, Frame::Next, outputs);
                } else {
                    self.counters.throttled += 1;
                }
            }
            Frame::Next => self.begin_push(from, now_ms, outputs),
            Frame::Level(talk) => self.hear_level(from, talk),
            Frame::List(list) => self.hear_list(from, &list, now_ms, outputs),
            Frame::Lacks(lacks) => self.hear_lacks(from, &lacks, now_ms, outputs),
            Frame::Announce(marks) => self.hear_announce(from, &marks, now_ms),
            Frame::Graft(marks) => self.hear_graft(from, &marks, now_ms, outputs),
            Frame::Prune => self.peers.tree.pruned_by(&from),
            Frame::Unplaced(before) => self.hear_unplaced(from, before, now_ms, outputs),
            Frame::Fork(proof) => return self.hear_fork(from, proof, now_ms, outputs),
            Frame::Want(want) => self.hear_want(from, want, now_ms, outputs),
            Frame::Forks(told) => self.hear_forks(from, told, now_ms, outputs),
            Frame::Run(_) | Frame::Branch(_) | Frame::Ops(_) => {
                unreachable!("ops are received in crate::receive")
            }
        }
        Ok(())
    }

    fn hear_heads(&mut self, from: NodeId, heads: &Heads, now_ms: u64, outputs: &mut Vec<Output>) {
        let log = &self.log;
        let places = heads.heads.iter().map(|(chain, head)| {
            // Where the peer holds another op than we, that one's place shows it the fork.
            let before = head.next.checked_sub(1);
            let forked = before
                .and_then(|seq| log.at(chain, seq))
                .is_some_and(|op| op.id().0[..8] != head.mark);
            (*chain, head.next - u64::from(forked))
        });
        let places: Vec<(Chain, u64)> = places.collect();
        self.push_from(from, places, now_ms, outputs);
    }

    /// Pushes chains to a peer from the places on at which it stands.
    pub(crate) fn push_from(
        &mut self,
        to: NodeId,
        places: Vec<(Chain, u64)>,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        let Some(peer) = self.peers.peers.get_mut(&to) else {
            return;
        };
        peer.drop_stalled(now_ms);
        let idle = peer.push.is_done();
        for (chain, from) in places {
            peer.push.add(&self.log, chain, from);
        }
        if idle {
            self.begin_push(to, now_ms, outputs);
        }
    }

    fn begin_push(&mut self, to: NodeId, now_ms: u64, outputs: &mut Vec<Output>) {
        if let Some(peer) = self.peers.peers.get_mut(&to) {
            peer.granted = !peer.push.is_done();
        }
        self.push_window(to, now_ms, outputs);
    }

    /// Sends a peer the window that it granted, if its allowance lasts.
    fn push_window(&mut self, to: NodeId, now_ms: u64, outputs: &mut Vec<Output>) {
        let Some(peer) = self.peers.peers.get_mut(&to) else {
            return;
        };
        if !peer.granted {
            return;
        }
        if !peer.may_be_served(now_ms) {
            self.counters.throttled += 1;
            return;
        }
        peer.granted = false;
        peer.pushed_ms = now_ms;
        for frame in push::frames(peer.push.window(&self.log), false) {
            peer.serve(to, frame, outputs);
        }
        for run in std::mem::take(&mut peer.push.vouched) {
            peer.serve(to, Frame::Branch(run), outputs);
        }
        if !peer.push.is_done() {
            send(to, Frame::More, outputs);
        }
    }

    /// What is due by time: windows that had to wait, what spreads, and a greeting to a peer drawn by chance.
    pub(crate) fn keep_talking(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        let granted = self.peers.peers.iter().filter(|(_, peer)| peer.granted);
        for peer in granted.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.push_window(peer, now_ms, outputs);
        }
        self.tend_tree(now_ms, outputs);
        let met = self
            .peers
            .peers
            .iter()
            .filter(|(_, peer)| peer.waits_in_vain(now_ms));
        for peer in met.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.greet(peer, now_ms, outputs);
        }
        if self.peers.fetching(now_ms).is_some() {
            return;
        }
        if let Some(again) = self.peers.again.take() {
            self.greet(again, now_ms, outputs);
            return;
        }
        if within(now_ms, self.peers.greeted_ms, self.peers.greet_after_ms) {
            return;
        }
        self.peers.greeted_ms = now_ms;
        self.peers.greet_after_ms = GREET_EVERY_MS / 2 + self.chance.below(GREET_EVERY_MS);
        let idle = self.peers.peers.iter().filter(|(_, peer)| !peer.is_busy(now_ms));
        let idle: Vec<NodeId> = idle.map(|(id, _)| *id).collect();
        let drawn = self.chance.below(idle.len() as u64) as usize;
        if let Some(peer) = idle.get(drawn) {
            self.greet(*peer, now_ms, outputs);
        }
    }
}
