//! How new ops spread: live along the tree of [`crate::plumtree`], several in a frame when they come together;
//! the ends of moved chains to a few of the other peers.

use crate::id::NodeId;
use crate::limbo::Waiting;
use crate::op::{Chain, Dependency, Op};
use crate::peers::send;
use crate::plumtree::TOLD_CHAINS_MAX;
use crate::push::{self, run};
use crate::replica::{Output, Replica};
use crate::sync::{FRAME_BYTES_MAX, Frame, Mark};

/// Ops that answer a graft and are handed on by who gets them, at most. Where more are lacking the peer is
/// only sent them: its neighbours lack them as well and ask for themselves.
pub const GRAFTED_OPS_MAX: usize = 256;

impl Replica {
    /// Pushes an op of one's own.
    pub(crate) fn spread_own(&mut self, op: &Op, outputs: &mut Vec<Output>) {
        let peers: Vec<NodeId> = self.peers.tree.eager().collect();
        for frame in live_frames(&[op]) {
            outputs.extend(peers.iter().map(|to| Output::Send {
                to: *to,
                frame: frame.clone(),
            }));
        }
    }

    /// Hands on the live ops that were admitted in this call: to each eager peer in one frame those that neither
    /// came from it nor are its own.
    pub(crate) fn spread(&mut self, outputs: &mut Vec<Output>) {
        let forward = std::mem::take(&mut self.peers.forward);
        if forward.is_empty() {
            return;
        }
        let goes = |waiting: &&Waiting, to: NodeId| waiting.from != to && waiting.op.node() != to;
        let mut last: (Vec<&Op>, Vec<Vec<u8>>) = Default::default();
        for to in self.peers.tree.eager() {
            let ops = forward.iter().filter(|waiting| goes(waiting, to));
            let ops: Vec<&Op> = ops.map(|waiting| &waiting.op).collect();
            // Most peers get the same.
            let same =
                |a: &[&Op], b: &[&Op]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.id() == b.id());
            if !same(&last.0, &ops) {
                let frames = live_frames(&ops);
                last = (ops, frames);
            }
            outputs.extend(last.1.iter().map(|frame| Output::Send {
                to,
                frame: frame.clone(),
            }));
        }
    }

    /// Asks for what was announced and did not come, and announces the chains that moved.
    pub(crate) fn tend_tree(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        let vector = self.log.vector();
        let held = |short| {
            let chains = vector.shorts(short, short);
            chains.map(|(_, _, head)| head.next).max().unwrap_or(0)
        };
        for graft in self.peers.tree.due(now_ms, &mut self.chance, held) {
            let mut marks: Vec<Mark> = Vec::new();
            for short in graft.shorts {
                let mut held = vector
                    .shorts(short, short)
                    .map(|(_, _, head)| Mark::new(short, Some(head), 0));
                marks.push(held.next().unwrap_or(Mark::new(short, None, 0)));
                marks.extend(held);
            }
            marks.sort_unstable();
            marks.truncate(crate::sync::HEADS_MAX);
            send(graft.to, Frame::Graft(marks), outputs);
        }
        let since = std::mem::replace(&mut self.peers.announced, vector.step());
        if since == vector.step() {
            return;
        }
        let told = self.peers.tree.told(&mut self.chance);
        if told.is_empty() {
            return;
        }
        let moved = vector.moved_since(since).rev().take(TOLD_CHAINS_MAX);
        let mut marks: Vec<Mark> = moved
            .map(|chain| Mark::new(vector.short(chain), vector.head(chain), 0))
            .collect();
        marks.sort_unstable();
        let frame = Frame::Announce(marks);
        for to in told {
            send(to, frame.clone(), outputs);
        }
    }

    pub(crate) fn hear_announce(&mut self, from: NodeId, marks: &[Mark], now_ms: u64) {
        let vector = self.log.vector();
        for mark in marks {
            let held = vector.shorts(mark.short, mark.short);
            if held.map(|(_, _, head)| head.next).max().unwrap_or(0) < mark.next {
                self.peers.tree.announced(from, mark.short, mark.next, now_ms);
            }
        }
    }

    pub(crate) fn hear_graft(
        &mut self,
        from: NodeId,
        marks: &[Mark],
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        self.peers.tree.keep(&from);
        let found = self.stand(0, marks);
        let lacking = |(chain, next): &(Chain, u64)| self.log.vector().next(chain).saturating_sub(*next);
        let few = found.behind.iter().map(lacking).sum::<u64>() <= GRAFTED_OPS_MAX as u64;
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return;
        };
        if !few {
            self.push_from(from, found.behind, now_ms, outputs);
        } else if peer.may_be_served(now_ms) {
            let mut lacking = push::Push::default();
            for (chain, next) in found.behind {
                lacking.add(&self.log, chain, next);
            }
            for frame in push::frames(lacking.window(&self.log), true) {
                peer.serve(from, frame, outputs);
            }
        } else {
            self.counters.throttled += 1;
        }
    }

    /// Sends the ops after one that the peer does not hold with the name of their chain; then it can ask for what
    /// comes before.
    pub(crate) fn hear_unplaced(
        &mut self,
        from: NodeId,
        before: Dependency,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        let Some(op) = self.log.named(&before) else { return };
        let slot = *op.slot();
        let after = &self.log.chain(&slot.chain)[slot.seq as usize + 1..];
        let signed = after.iter().position(|op| op.signature().is_some());
        let Some(run) = signed.and_then(|last| run(&after[..=last])) else {
            return;
        };
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return;
        };
        if peer.may_be_served(now_ms) {
            peer.serve(from, Frame::Run(crate::sync::Run { live: true, ..run }), outputs);
        } else {
            self.counters.throttled += 1;
        }
    }
}

/// The frames that bring live ops: those of one chain that follow each other are joined.
fn live_frames(ops: &[&Op]) -> Vec<Vec<u8>> {
    let mut chains: Vec<Vec<Op>> = Vec::new();
    for op in ops {
        let follows = |ops: &&mut Vec<Op>| ops.last().is_some_and(|last| last.id() == op.slot().previous);
        let is_signed = |ops: &[Op]| ops.last().is_some_and(|last| last.signature().is_some());
        let size = |ops: &[Op]| ops.iter().map(|op| op.bytes().len()).sum::<usize>();
        match chains.iter_mut().rev().find(follows) {
            Some(ops) if size(ops) < push::ANCHORED_BYTES_MAX || !is_signed(ops) => ops.push((*op).clone()),
            _ => chains.push(vec![(*op).clone()]),
        }
    }
    let runs = chains.iter().filter_map(|ops| run(ops)).collect();
    let frames = push::frames(runs, true);
    let encode = |frame: &Frame| {
        let bytes = frame.encode();
        debug_assert!(
            bytes.len() <= FRAME_BYTES_MAX,
            "frames are put together to be smaller"
        );
        bytes
    };
    frames.iter().map(encode).collect()
}
