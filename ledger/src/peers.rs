//! The talk with each peer: comparisons of vectors and what follows from them (see [`crate::sync`]).
//!
//! Now and then a replica greets one connected peer, drawn by chance. Of two that greet each other at once
//! only the smaller id's greeting is answered. A replica fetches from one peer at a time, so that a joiner
//! with many peers gets each op once; a peer that is slow at it is passed over after a while.
//!
//! What a peer costs is bounded: one vector of its own, one push under way, a rate of bytes served.
//! A wall clock that is set back delays nothing: a time in the future counts as long past.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::op::Chain;
use crate::push::{Push, Told};
use crate::replica::{Misconduct, Output, Replica};
use crate::sync::{Frame, HeadMark, Heads, Hello, Unlisted};

/// How often one peer is greeted, in the mean. The time between varies by half of it either way, so that two
/// replicas do not always greet each other at once.
pub const GREET_EVERY_MS: u64 = 500;

/// A greeting that was not answered, or a push that was not granted on, is given up after this long.
pub const STALL_MS: u64 = 2_000;

/// Where nothing came for this long, the ops of a push are no longer waited for.
pub const QUIET_MS: u64 = 300;

/// A peer may keep a replica from fetching elsewhere for this long, at most.
pub const FETCH_MS_MAX: u64 = 5_000;

/// A peer is asked about ops that are missing at most this often.
pub const GAP_EVERY_MS: u64 = 100;

/// Chains of a peer's vector, at most.
pub const CHAINS_MAX: usize = 65_536;

/// Bytes served to one peer in a second, at most, in the mean.
pub const SERVED_BYTES_PER_S: u64 = 64 << 20;

/// Bytes that one peer may be served at once after a quiet time.
pub const SERVED_BYTES_BURST: u64 = 8 << 20;

/// Whether less than `span_ms` have passed since a time.
fn within(now_ms: u64, since_ms: u64, span_ms: u64) -> bool {
    now_ms >= since_ms && now_ms - since_ms < span_ms
}

#[derive(Debug)]
struct Peer {
    /// When we greeted it last, unless it has answered.
    greeted_ms: Option<u64>,
    /// When it was last asked about a gap.
    asked_ms: u64,
    /// The frames so far of a vector that takes several, and the last chain in them.
    telling: Option<(Told, Option<Chain>)>,
    /// What it lacks.
    push: Push,
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
    fn may_be_served(&mut self, now_ms: u64) -> bool {
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
    fn serve(&mut self, to: NodeId, frame: Frame, outputs: &mut Vec<Output>) {
        let frame = frame.encode();
        self.allowance -= frame.len() as i64;
        outputs.push(Output::Send { to, frame });
    }

    /// Whether a comparison or a push is under way.
    fn is_busy(&self, now_ms: u64) -> bool {
        self.greeted_ms.is_some_and(|ms| within(now_ms, ms, STALL_MS))
            || !self.push.is_done() && within(now_ms, self.pushed_ms, STALL_MS)
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
    peers: BTreeMap<NodeId, Peer>,
    greeted_ms: u64,
    greet_after_ms: u64,
    fetch: Option<Fetch>,
}

impl Peers {
    pub(crate) fn up(&mut self, peer: NodeId, now_ms: u64) {
        let state = Peer {
            greeted_ms: None,
            asked_ms: 0,
            telling: None,
            push: Push::default(),
            pushed_ms: 0,
            granted: false,
            allowance: SERVED_BYTES_BURST as i64,
            reckoned_ms: now_ms,
        };
        self.peers.insert(peer, state);
    }

    pub(crate) fn down(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
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
    fn may_fetch(&mut self, from: NodeId, now_ms: u64) -> bool {
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

fn send(to: NodeId, frame: Frame, outputs: &mut Vec<Output>) {
    outputs.push(Output::Send {
        to,
        frame: frame.encode(),
    });
}

impl Replica {
    /// Begins a comparison with a peer.
    pub(crate) fn greet(&mut self, to: NodeId, now_ms: u64, outputs: &mut Vec<Output>) {
        self.tell_forks(to, outputs);
        let hello = Hello {
            network: self.network,
            root: self.compared_root(),
        };
        if let Some(peer) = self.peers.peers.get_mut(&to) {
            peer.greeted_ms = Some(now_ms);
            send(to, Frame::Hello(hello), outputs);
        }
    }

    /// Asks who brought an op that has to wait for what is missing: for the missing part of its chain, and
    /// for all else by a comparison. While ops are being fetched, they may be on their way.
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
        for page in Heads::pages(Unlisted::Level, false, &[(chain, mark)]) {
            send(from, Frame::Heads(page), outputs);
        }
        self.greet(from, now_ms, outputs);
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
            Frame::Hello(hello) => self.hear_hello(from, hello, now_ms, outputs),
            Frame::Heads(heads) => self.hear_heads(from, heads, now_ms, outputs),
            Frame::More => {
                // The next comparison takes up again what is not granted now.
                if self.limbo.has_room_for(from) {
                    self.peers.brings(from, now_ms);
                    send(from, Frame::Next, outputs);
                } else {
                    self.counters.throttled += 1;
                }
                Ok(())
            }
            Frame::Next => {
                if let Some(peer) = self.peers.peers.get_mut(&from) {
                    peer.granted = !peer.push.is_done();
                }
                self.push_window(from, now_ms, outputs);
                Ok(())
            }
            Frame::Level => {
                // An answer to no question says nothing.
                if self
                    .peers
                    .peers
                    .get_mut(&from)
                    .is_some_and(|peer| peer.greeted_ms.take().is_some())
                {
                    self.agreed = true;
                }
                Ok(())
            }
            Frame::Fork(proof) => self.hear_fork(from, proof, now_ms, outputs),
            Frame::Want(want) => {
                self.hear_want(from, want, now_ms, outputs);
                Ok(())
            }
            Frame::Forks(told) => {
                self.hear_forks(from, told, now_ms, outputs);
                Ok(())
            }
            Frame::Run(_) | Frame::Branch(_) => unreachable!("runs are received by Replica::receive_run"),
        }
    }

    fn hear_hello(
        &mut self,
        from: NodeId,
        hello: Hello,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        if hello.network != self.network {
            return Err(Misconduct::OtherNetwork(hello.network));
        }
        let (own, root) = (self.node(), self.compared_root());
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return Ok(());
        };
        let crossed = peer.greeted_ms.is_some_and(|ms| within(now_ms, ms, STALL_MS));
        if hello.root == root {
            peer.greeted_ms = None;
            self.agreed = true;
            send(from, Frame::Level, outputs);
            return Ok(());
        }
        if crossed && own < from {
            return Ok(());
        }
        peer.greeted_ms = None;
        if !peer.may_be_served(now_ms) {
            self.counters.throttled += 1;
            return Ok(());
        }
        // Who hears our vector sends what we lack.
        if !self.peers.may_fetch(from, now_ms) {
            return Ok(());
        }
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return Ok(());
        };
        for page in Heads::pages(Unlisted::Unknown, true, &Heads::of(self.log.vector())) {
            peer.serve(from, Frame::Heads(page), outputs);
        }
        Ok(())
    }

    fn hear_heads(
        &mut self,
        from: NodeId,
        page: Heads,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return Ok(());
        };
        let (mut told, continued) = match (peer.telling.take(), page.after) {
            (_, None) => (
                Told {
                    unlisted: page.unlisted,
                    heads: BTreeMap::new(),
                },
                None,
            ),
            (Some((told, last)), Some(after)) if last == Some(after) => (told, last),
            // A frame of this vector was lost: the next comparison brings it again.
            _ => return Ok(()),
        };
        if told.heads.len() + page.heads.len() > CHAINS_MAX {
            return Err(Misconduct::TooManyChains(CHAINS_MAX));
        }
        let end = page.heads.last().map(|(chain, _)| *chain).or(continued);
        told.heads.extend(page.heads);
        if !page.last {
            peer.telling = Some((told, end));
            return Ok(());
        }
        peer.greeted_ms = None;
        peer.push = Push::new(&self.log, &told);
        peer.granted = !peer.push.is_done();
        self.show_conflicts(from, &told, now_ms, outputs);
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return Ok(());
        };
        let behind = told.behind(&self.log);
        // Under constant traffic two vectors are hardly ever equal; to have all that the peer has is enough.
        self.agreed |= behind.is_empty() && told.unlisted == Unlisted::Unknown;
        if page.ask && !behind.is_empty() && peer.may_be_served(now_ms) && self.peers.may_fetch(from, now_ms)
        {
            let whole = Heads::of(self.log.vector());
            let pages = if behind.len() <= whole.len() {
                Heads::pages(Unlisted::Level, false, &behind)
            } else {
                Heads::pages(Unlisted::Unknown, false, &whole)
            };
            let Some(peer) = self.peers.peers.get_mut(&from) else {
                return Ok(());
            };
            for page in pages {
                peer.serve(from, Frame::Heads(page), outputs);
            }
        }
        self.push_window(from, now_ms, outputs);
        Ok(())
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
        for run in peer.push.window(&self.log) {
            peer.serve(to, Frame::Run(run), outputs);
        }
        for run in std::mem::take(&mut peer.push.vouched) {
            peer.serve(to, Frame::Branch(run), outputs);
        }
        if !peer.push.is_done() {
            send(to, Frame::More, outputs);
        }
    }

    /// What is due by time: windows that had to wait, and a greeting to a peer drawn by chance.
    pub(crate) fn keep_talking(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        let granted = self.peers.peers.iter().filter(|(_, peer)| peer.granted);
        for peer in granted.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.push_window(peer, now_ms, outputs);
        }
        if within(now_ms, self.peers.greeted_ms, self.peers.greet_after_ms)
            || self.peers.fetching(now_ms).is_some()
        {
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
