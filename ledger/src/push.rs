//! What one peer lacks, and the order in which it gets it.
//!
//! Ops go out in the total order, a window at a time, so that what a window brings depends on little that
//! is still to come. Within a window the ops of a chain are sent together, as runs: each ends at an op whose
//! signature is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::Log;
use crate::op::{Chain, Op, OrderKey};
use crate::sync::{Anchor, Frame, Ops, RUN_BYTES_MAX, RUN_OPS_MAX, Run, Stretch};

/// Bytes of bodies that a window begins to send before it is full.
pub const WINDOW_BYTES: usize = 1 << 20;

/// Ops of a window, about.
pub const WINDOW_OPS: usize = 8192;

/// A run of fewer bytes names the op before it only, not its chain: the whole name would be much of it.
pub const ANCHORED_BYTES_MAX: usize = 4096;

/// Bytes that a stretch takes beside its bodies, at most: anchor, signature, lengths.
const STRETCH_BYTES: usize = 200;

/// What is still to be sent: for each chain of which the peer lacks something, the next op.
#[derive(Debug, Default)]
pub(crate) struct Push {
    next: BTreeSet<OrderKey>,
    chains: BTreeMap<Chain, OrderKey>,
    /// Ends of forked chains, for which only a void branch vouches.
    pub(crate) vouched: Vec<Run>,
}

impl Push {
    /// Sends a chain from a place on, unless that is under way.
    pub(crate) fn add(&mut self, log: &Log, chain: Chain, from: u64) {
        if let Some(op) = log.at(&chain, from)
            && from < log.vector().next(&chain)
            && !self.chains.contains_key(&chain)
        {
            self.put(op.order());
        }
    }

    fn put(&mut self, order: OrderKey) {
        self.chains.insert(order.chain, order);
        self.next.insert(order);
    }

    fn pop(&mut self) -> Option<OrderKey> {
        let order = self.next.pop_first()?;
        self.chains.remove(&order.chain);
        Some(order)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next.is_empty()
    }

    /// The runs of one window.
    pub(crate) fn window(&mut self, log: &Log) -> Vec<Run> {
        let (mut bytes, mut ops) = (0, 0);
        // Each chain's stretches, each of which ends at a signature; and the chains as they came up.
        let mut stretches: BTreeMap<Chain, Vec<(usize, usize)>> = BTreeMap::new();
        let mut chains = Vec::new();
        while bytes < WINDOW_BYTES && ops < WINDOW_OPS {
            let Some(OrderKey { chain, seq, .. }) = self.pop() else {
                break;
            };
            let all = log.chain(&chain);
            let from = seq as usize;
            // Since it was noted the chain may have been put into quarantine.
            let rest = all.get(from..).unwrap_or(&[]);
            let Some(length) = rest.iter().position(|op| op.signature().is_some()) else {
                self.vouched.extend(log.vouched_run(&chain, seq));
                continue;
            };
            let to = from + length + 1;
            bytes += all[from..to].iter().map(|op| op.bytes().len()).sum::<usize>();
            ops += to - from;
            let of_chain = stretches.entry(chain).or_default();
            if of_chain.is_empty() {
                chains.push(chain);
            }
            of_chain.push((from, to));
            if let Some(next) = all.get(to) {
                self.put(next.order());
            }
        }
        chains
            .iter()
            .flat_map(|chain| runs(log, *chain, &stretches[chain]))
            .collect()
    }
}

/// Joins the successive stretches of a chain to runs as long as they may be.
fn runs(log: &Log, chain: Chain, stretches: &[(usize, usize)]) -> Vec<Run> {
    let all = log.chain(&chain);
    let size = |from: usize, to: usize| all[from..to].iter().map(|op| op.bytes().len()).sum::<usize>();
    let mut joined: Vec<(usize, usize, usize)> = Vec::new();
    for (from, to) in stretches {
        let bytes = size(*from, *to);
        match joined.last_mut() {
            Some((start, end, held)) if *held + bytes <= RUN_BYTES_MAX && to - *start <= RUN_OPS_MAX => {
                *end = *to;
                *held += bytes;
            }
            _ => joined.push((*from, *to, bytes)),
        }
    }
    joined
        .iter()
        .filter_map(|(from, to, _)| run(&all[*from..*to]))
        .collect()
}

/// Successive ops of a chain of which the last is signed.
pub(crate) fn run(ops: &[Op]) -> Option<Run> {
    let (first, last) = (ops.first()?.slot(), ops.last()?);
    Some(Run {
        live: false,
        chain: first.chain,
        first: first.seq,
        previous: first.previous,
        bodies: ops.iter().map(|op| op.bytes().to_vec()).collect(),
        signature: last.signature()?,
    })
}

/// Puts runs together to frames.
pub(crate) fn frames(runs: Vec<Run>, live: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    let (mut stretches, mut bytes, mut ops) = (Vec::new(), 0, 0);
    for run in runs {
        let size = run.bodies.iter().map(Vec::len).sum::<usize>();
        let full = bytes + size + STRETCH_BYTES > RUN_BYTES_MAX || ops + run.bodies.len() > RUN_OPS_MAX;
        if full && !stretches.is_empty() {
            let stretches = std::mem::take(&mut stretches);
            frames.push(Frame::Ops(Ops { live, stretches }));
            (bytes, ops) = (0, 0);
        }
        bytes += size + STRETCH_BYTES;
        ops += run.bodies.len();
        stretches.push(stretch(run, size));
    }
    if !stretches.is_empty() {
        frames.push(Frame::Ops(Ops { live, stretches }));
    }
    frames
}

fn stretch(run: Run, size: usize) -> Stretch {
    let Run {
        chain,
        first,
        previous,
        bodies,
        signature,
        ..
    } = run;
    let anchor = if first > 0 && size <= ANCHORED_BYTES_MAX {
        Anchor::After(previous.into())
    } else {
        Anchor::At {
            chain,
            first,
            previous,
        }
    };
    Stretch {
        anchor,
        bodies,
        signature,
    }
}
