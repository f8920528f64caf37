//! The talk with each peer: comparisons of vectors and what follows from them (see [`crate::sync`]).
//!
//! Now and then a replica greets one connected peer, drawn by chance. Of two that greet each other at once
//! only the smaller id's greeting is answered. What a peer costs is bounded: one vector of its own, one push
//! under way, a rate of bytes served.

use std::collections::BTreeMap;

use crate::id::NodeId;
use crate::op::Chain;
use crate::push::{Push, Told};
use crate::replica::{Misconduct, Output, Replica};
use crate::sync::{Frame, HeadMark, Heads, Hello, Unlisted};

/// How often one peer is greeted.
pub const GREET_EVERY_MS: u64 = 500;

/// A peer with which a comparison or a push has not moved for this long is greeted again.
pub const STALL_MS: u64 = 2_000;

/// A peer is asked about ops that are missing at most this often.
pub const GAP_EVERY_MS: u64 = 100;

/// Chains of a peer's vector, at most.
pub const CHAINS_MAX: usize = 65_536;

/// Bytes served to one peer in a second, at most, in the mean.
pub const SERVED_BYTES_PER_S: u64 = 64 << 20;

/// Bytes that one peer may be served at once after a quiet time.
pub const SERVED_BYTES_BURST: u64 = 8 << 20;

#[derive(Debug)]
struct Peer {
    /// When we greeted it last, unless it has answered.
    greeted_ms: Option<u64>,
    /// When a comparison or a push with it last moved.
    moved_ms: u64,
    /// When it was last asked about a gap.
    asked_ms: u64,
    /// The frames so far of a vector that takes several, and the last chain in them.
    telling: Option<(Told, Option<Chain>)>,
    /// What it lacks.
    push: Push,
    /// Whether it granted a window that has not been sent yet.
    granted: bool,
    /// Bytes that it may be served, below zero when it was served more, and when that was reckoned.
    allowance: i64,
    reckoned_ms: u64,
}

impl Peer {
    /// Reckons the allowance; whether anything of it is left.
    fn may_be_served(&mut self, now_ms: u64) -> bool {
        let gained = now_ms
            .saturating_sub(self.reckoned_ms)
            .saturating_mul(SERVED_BYTES_PER_S / 1000);
        let gained = gained.min(2 * SERVED_BYTES_BURST) as i64;
        self.allowance = self
            .allowance
            .saturating_add(gained)
            .min(SERVED_BYTES_BURST as i64);
        self.reckoned_ms = self.reckoned_ms.max(now_ms);
        self.allowance > 0
    }

    /// Sends a frame at the expense of the allowance.
    fn serve(&mut self, to: NodeId, frame: Frame, outputs: &mut Vec<Output>) {
        let frame = frame.encode();
        self.allowance -= frame.len() as i64;
        outputs.push(Output::Send { to, frame });
    }
}

/// The connected peers.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    greet_ms: u64,
}

impl Peers {
    pub(crate) fn up(&mut self, peer: NodeId, now_ms: u64) {
        let state = Peer {
            greeted_ms: None,
            moved_ms: 0,
            asked_ms: 0,
            telling: None,
            push: Push::default(),
            granted: false,
            allowance: SERVED_BYTES_BURST as i64,
            reckoned_ms: now_ms,
        };
        self.peers.insert(peer, state);
    }

    pub(crate) fn down(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
    }

    pub(crate) fn is_up(&self, peer: &NodeId) -> bool {
        self.peers.contains_key(peer)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = NodeId> {
        self.peers.keys().copied()
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
        let hello = Hello {
            network: self.network,
            root: self.log.vector().root(),
        };
        if let Some(peer) = self.peers.peers.get_mut(&to) {
            peer.greeted_ms = Some(now_ms);
            send(to, Frame::Hello(hello), outputs);
        }
    }

    /// Asks who brought an op that has to wait for what is missing: for the missing part of its chain, and
    /// for all else by a comparison.
    pub(crate) fn ask_for_gap(&mut self, from: NodeId, chain: Chain, now_ms: u64, outputs: &mut Vec<Output>) {
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return;
        };
        if now_ms < peer.asked_ms.saturating_add(GAP_EVERY_MS) {
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
                    self.moved(from, now_ms);
                    send(from, Frame::Next, outputs);
                } else {
                    self.counters.throttled += 1;
                }
                Ok(())
            }
            Frame::Next => {
                if let Some(peer) = self.peers.peers.get_mut(&from) {
                    peer.granted = true;
                }
                self.serve(from, now_ms, outputs);
                Ok(())
            }
            Frame::Run(_) => unreachable!("runs are received by Replica::receive_run"),
        }
    }

    fn moved(&mut self, peer: NodeId, now_ms: u64) {
        if let Some(peer) = self.peers.peers.get_mut(&peer) {
            peer.moved_ms = now_ms;
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
        let own = self.node();
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return Ok(());
        };
        let crossed = peer
            .greeted_ms
            .is_some_and(|ms| now_ms < ms.saturating_add(STALL_MS));
        if hello.root == self.log.vector().root() {
            peer.greeted_ms = None;
            self.agreed = true;
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
        peer.moved_ms = now_ms;
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
        peer.moved_ms = now_ms;
        peer.push = Push::new(&self.log, &told);
        peer.granted = true;
        if page.ask && peer.may_be_served(now_ms) {
            let behind = told.behind(&self.log);
            let whole = Heads::of(self.log.vector());
            let pages = if behind.is_empty() {
                Vec::new()
            } else if behind.len() <= whole.len() {
                Heads::pages(Unlisted::Level, false, &behind)
            } else {
                Heads::pages(Unlisted::Unknown, false, &whole)
            };
            for page in pages {
                peer.serve(from, Frame::Heads(page), outputs);
            }
        }
        self.serve(from, now_ms, outputs);
        Ok(())
    }

    /// Sends a peer the window that it granted, if its allowance lasts.
    fn serve(&mut self, to: NodeId, now_ms: u64, outputs: &mut Vec<Output>) {
        let Some(peer) = self.peers.peers.get_mut(&to) else {
            return;
        };
        if !peer.granted || peer.push.is_done() {
            return;
        }
        if !peer.may_be_served(now_ms) {
            self.counters.throttled += 1;
            return;
        }
        peer.granted = false;
        peer.moved_ms = now_ms;
        for run in peer.push.window(&self.log) {
            peer.serve(to, Frame::Run(run), outputs);
        }
        if !peer.push.is_done() {
            send(to, Frame::More, outputs);
        }
    }

    /// What is due by time: windows that had to wait, and a greeting to a peer drawn by chance.
    pub(crate) fn keep_talking(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        let waiting: Vec<NodeId> = self
            .peers
            .peers
            .iter()
            .filter(|(_, peer)| peer.granted)
            .map(|(id, _)| *id)
            .collect();
        for peer in waiting {
            self.serve(peer, now_ms, outputs);
        }
        if now_ms < self.peers.greet_ms {
            return;
        }
        self.peers.greet_ms = now_ms.saturating_add(GREET_EVERY_MS);
        let quiet = |peer: &Peer| {
            let busy = !peer.push.is_done() || peer.greeted_ms.is_some();
            let since = peer.moved_ms.max(peer.greeted_ms.unwrap_or(0));
            !busy || now_ms >= since.saturating_add(STALL_MS)
        };
        let idle: Vec<NodeId> = self
            .peers
            .peers
            .iter()
            .filter(|(_, peer)| quiet(peer))
            .map(|(id, _)| *id)
            .collect();
        let drawn = self.chance.below(idle.len() as u64) as usize;
        if let Some(peer) = idle.get(drawn) {
            self.greet(*peer, now_ms, outputs);
        }
    }
}
