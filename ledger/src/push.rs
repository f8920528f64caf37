//! What one peer lacks, and the order in which it gets it.
//!
//! Ops go out in the total order, a window at a time, so that what a window brings depends on little that
//! is still to come. Within a window the ops of a chain are sent together, as runs: each ends at an op whose
//! signature is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::log::Log;
use crate::op::{Chain, Op, OrderKey};
use crate::sync::{HeadMark, RUN_BYTES_MAX, RUN_OPS_MAX, Run, Unlisted};

/// Bytes of bodies that a window begins to send before it is full.
pub const WINDOW_BYTES: usize = 1 << 20;

/// Ops of a window, about.
pub const WINDOW_OPS: usize = 8192;

/// A peer's vector, as it told us.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) unlisted: Unlisted,
    pub(crate) heads: BTreeMap<Chain, HeadMark>,
}

impl Told {
    fn next(&self, chain: &Chain) -> Option<u64> {
        match (self.heads.get(chain), self.unlisted) {
            (Some(head), _) => Some(head.next),
            (None, Unlisted::Unknown) => Some(0),
            (None, Unlisted::Level) => None,
        }
    }

    /// Where we are behind: what we hold of the chains of which the peer holds more.
    pub(crate) fn behind(&self, log: &Log) -> Vec<(Chain, HeadMark)> {
        let ours = |chain: &Chain| log.vector().head(chain).map_or(HeadMark::NOTHING, HeadMark::from);
        let ahead = self
            .heads
            .iter()
            .filter(|(chain, head)| head.next > log.vector().next(chain));
        ahead.map(|(chain, _)| (*chain, ours(chain))).collect()
    }
}

/// What is still to be sent: for each chain of which the peer lacks something, the next op.
#[derive(Debug, Default)]
pub(crate) struct Push {
    next: BTreeSet<OrderKey>,
    /// Ends of forked chains, for which only a void branch vouches.
    pub(crate) vouched: Vec<Run>,
}

impl Push {
    pub(crate) fn new(log: &Log, told: &Told) -> Self {
        let lacking = log
            .vector()
            .iter()
            .filter_map(|(chain, _)| log.at(chain, told.next(chain)?));
        Self {
            next: lacking.map(Op::order).collect(),
            vouched: Vec::new(),
        }
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
            let Some(OrderKey { chain, seq, .. }) = self.next.pop_first() else {
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
                self.next.insert(next.order());
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
    let run = |(from, to, _): &(usize, usize, usize)| {
        let signature = all[to - 1].signature()?;
        Some(Run {
            live: false,
            chain,
            first: *from as u64,
            previous: all[*from].slot().previous,
            bodies: all[*from..*to].iter().map(|op| op.bytes().to_vec()).collect(),
            signature,
        })
    };
    joined.iter().filter_map(run).collect()
}
