//! Limbo: authentic ops that cannot be admitted yet.
//!
//! An op waits for another op (the one before it, or a dependency) or for the wall clock to come near its
//! own. Limbo is bounded for each peer that brings ops and in all; at a peer's bound its oldest op goes, at
//! the bound of all the oldest of the peer that takes most room. So a flood from one peer throws out its own
//! ops. What was thrown out comes again by anti-entropy.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::clock::Hlc;
use crate::id::{NodeId, OpId};
use crate::op::{Chain, Dependency, Op, Slot};

/// Ops that wait on behalf of one peer, at most.
pub const PEER_OPS_MAX: usize = 16_384;

/// Bytes that the ops that wait on behalf of one peer take, at most: bodies as they came and as they were read.
pub const PEER_BYTES_MAX: usize = 4 << 20;

/// Ops that wait, at most.
pub const OPS_MAX: usize = 65_536;

/// Bytes that the ops that wait take, at most.
pub const BYTES_MAX: usize = 32 << 20;

/// What an op waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// An op that is not in the log.
    Op(Dependency),
    /// The wall clock, to come near this reading.
    Time(Hlc),
}

/// An op that waits.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    /// The op. It is authentic: its own signature or that of a later op of its run was checked.
    pub(crate) op: Op,
    /// The peer that brought it.
    pub(crate) from: NodeId,
    /// Whether it goes on to the other peers once it is admitted.
    pub(crate) live: bool,
    /// Since when it waits.
    pub(crate) since_ms: u64,
    /// What came with it, up to the signature that vouches for it.
    pub(crate) run: Arc<[Op]>,
    /// Its part of the bytes of what came with it and does not wait on account of the same run.
    pub(crate) beside: usize,
}

impl Waiting {
    fn size(&self) -> usize {
        self.op.held_bytes() + self.beside
    }
}

#[derive(Debug, Default)]
struct Share {
    arrivals: BTreeSet<u64>,
    bytes: usize,
    /// Up to which arrival what is missing was asked for.
    asked: u64,
}

/// The ops that wait.
#[derive(Debug, Default)]
pub(crate) struct Limbo {
    arrived: u64,
    waiting: BTreeMap<u64, (Waiting, Missing)>,
    ids: HashSet<OpId>,
    named: HashMap<Dependency, u64>,
    by_op: HashMap<Dependency, BTreeSet<u64>>,
    by_time: BTreeSet<(Hlc, u64)>,
    shares: BTreeMap<NodeId, Share>,
    bytes: usize,
}

impl Limbo {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn contains(&self, id: &OpId) -> bool {
        self.ids.contains(id)
    }

    /// The op of this id that waits.
    pub(crate) fn get(&self, id: &OpId) -> Option<&Op> {
        self.named(&Dependency::from(*id)).filter(|op| op.id() == *id)
    }

    /// Whether this op waits and no signature of its own is known.
    pub(crate) fn lacks_signature(&self, id: &OpId) -> bool {
        self.get(id).is_some_and(|op| op.signature().is_none())
    }

    /// Lets go of an op that entered the log another way.
    pub(crate) fn forget(&mut self, id: &OpId) {
        if self.ids.contains(id)
            && let Some(arrival) = self.named.get(&Dependency::from(*id)).copied()
        {
            self.remove(arrival);
        }
    }

    /// The op that waits whose id begins so.
    pub(crate) fn named(&self, dependency: &Dependency) -> Option<&Op> {
        let (waiting, _) = self.waiting.get(self.named.get(dependency)?)?;
        Some(&waiting.op)
    }

    /// Whether a peer may bring a further window without throwing out its own ops.
    pub(crate) fn has_room_for(&self, peer: NodeId) -> bool {
        self.shares
            .get(&peer)
            .is_none_or(|share| share.arrivals.len() < PEER_OPS_MAX / 2 && share.bytes < PEER_BYTES_MAX / 2)
    }

    /// Lets an op wait; gives how many ops were thrown out for it.
    pub(crate) fn add(&mut self, waiting: Waiting, missing: Missing) -> u64 {
        let id = waiting.op.id();
        if waiting.op.signature().is_some() && self.lacks_signature(&id) {
            // With its signature it may enter where it may not without.
            self.forget(&id);
        }
        if !self.ids.insert(id) {
            return 0;
        }
        let arrival = self.arrived;
        self.arrived += 1;
        let size = waiting.size();
        let peer = waiting.from;
        let share = self.shares.entry(peer).or_default();
        share.arrivals.insert(arrival);
        share.bytes += size;
        self.bytes += size;
        match missing {
            Missing::Op(dependency) => {
                self.by_op.entry(dependency).or_default().insert(arrival);
            }
            Missing::Time(hlc) => {
                self.by_time.insert((hlc, arrival));
            }
        }
        self.named.insert(waiting.op.id().into(), arrival);
        self.waiting.insert(arrival, (waiting, missing));
        self.keep_bounds(peer)
    }

    fn keep_bounds(&mut self, peer: NodeId) -> u64 {
        let mut evicted = 0;
        while self
            .shares
            .get(&peer)
            .is_some_and(|share| share.arrivals.len() > PEER_OPS_MAX || share.bytes > PEER_BYTES_MAX)
        {
            evicted += self.evict_oldest_of(peer);
        }
        while self.waiting.len() > OPS_MAX || self.bytes > BYTES_MAX {
            let size = |share: &Share| (share.bytes, share.arrivals.len());
            let largest = self
                .shares
                .iter()
                .max_by_key(|(_, share)| size(share))
                .map(|(peer, _)| *peer);
            evicted += self.evict_oldest_of(largest.expect("what waits belongs to a peer"));
        }
        evicted
    }

    fn evict_oldest_of(&mut self, peer: NodeId) -> u64 {
        let oldest = self
            .shares
            .get(&peer)
            .and_then(|share| share.arrivals.first().copied());
        self.remove(oldest.expect("a peer's share is dropped with its last op"));
        1
    }

    fn remove(&mut self, arrival: u64) -> Waiting {
        let (waiting, missing) = self
            .waiting
            .remove(&arrival)
            .expect("every index points at what waits");
        let size = waiting.size();
        self.ids.remove(&waiting.op.id());
        self.named.remove(&waiting.op.id().into());
        self.bytes -= size;
        match missing {
            Missing::Op(dependency) => {
                if let Some(arrivals) = self.by_op.get_mut(&dependency) {
                    arrivals.remove(&arrival);
                    if arrivals.is_empty() {
                        self.by_op.remove(&dependency);
                    }
                }
            }
            Missing::Time(hlc) => {
                self.by_time.remove(&(hlc, arrival));
            }
        }
        if let Some(share) = self.shares.get_mut(&waiting.from) {
            share.arrivals.remove(&arrival);
            share.bytes -= size;
            if share.arrivals.is_empty() {
                self.shares.remove(&waiting.from);
            }
        }
        waiting
    }

    /// Takes out what waited for an op, oldest first.
    pub(crate) fn release(&mut self, admitted: &OpId) -> Vec<Waiting> {
        let arrivals = self
            .by_op
            .get(&Dependency::from(*admitted))
            .cloned()
            .unwrap_or_default();
        arrivals.into_iter().map(|arrival| self.remove(arrival)).collect()
    }

    /// Whether something waits for this op.
    pub(crate) fn is_waited_for(&self, id: &OpId) -> bool {
        self.by_op.contains_key(&Dependency::from(*id))
    }

    /// Whether the op of this name waits itself.
    pub(crate) fn holds(&self, name: &Dependency) -> bool {
        self.named.contains_key(name)
    }

    /// Takes out the ops of a chain from a place on.
    pub(crate) fn take_chain(&mut self, chain: &Chain, seq: u64) -> Vec<Waiting> {
        let of_chain = |slot: &Slot| slot.chain == *chain && slot.seq >= seq;
        let arrivals = self.waiting.iter().filter(|(_, (it, _))| of_chain(it.op.slot()));
        let arrivals: Vec<u64> = arrivals.map(|(arrival, _)| *arrival).collect();
        arrivals.into_iter().map(|arrival| self.remove(arrival)).collect()
    }

    /// The next ops of each peer that have waited for other ops since `before_ms` or longer: in turn, at
    /// most so many of each peer.
    pub(crate) fn overdue(&mut self, before_ms: u64, of_peer_max: usize) -> Vec<(NodeId, Vec<Op>)> {
        let mut overdue = Vec::new();
        for (peer, share) in &mut self.shares {
            let mut ops = Vec::new();
            let turn: Vec<u64> = share
                .arrivals
                .range(share.asked..)
                .take(of_peer_max)
                .copied()
                .collect();
            share.asked = match turn.last() {
                Some(last) if turn.len() == of_peer_max => last + 1,
                _ => 0,
            };
            for arrival in turn {
                match self.waiting.get(&arrival) {
                    Some((it, Missing::Op(_))) if it.since_ms <= before_ms => ops.push(it.op.clone()),
                    _ => {}
                }
            }
            if !ops.is_empty() {
                overdue.push((*peer, ops));
            }
        }
        overdue
    }

    /// Takes out what waited for the wall clock to show `now_ms`, in the order of clocks.
    pub(crate) fn release_due(&mut self, now_ms: u64) -> Vec<Waiting> {
        let due = |(hlc, _): &&(Hlc, u64)| !hlc.is_ahead_of(now_ms);
        let arrivals: Vec<u64> = self
            .by_time
            .iter()
            .take_while(due)
            .map(|(_, arrival)| *arrival)
            .collect();
        arrivals.into_iter().map(|arrival| self.remove(arrival)).collect()
    }
}
