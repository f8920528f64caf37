//! What a running network mostly says: small reports of nodes about their instances, from 1,000 chains. The
//! ops are not signed; the fold asks for no signature.

use ledger::clock::Hlc;
use ledger::id::{InstanceId, NodeId, OpId};
use ledger::op::{Body, Chain, Op, Slot};
use ledger::report::Report;
use ledger::report::instances::{InstanceChanged, Phase, PlaceInstance};
use ledger::report::nodes::OpenChain;
use projections::fold::Fold;

use super::{BATCH, History};

/// Chains that report.
const CHAINS: usize = 1_000;

/// Reports about instances that the people of a history launched.
pub(crate) struct Reports {
    /// The commands, the chains and the placements.
    before: Vec<Op>,
    /// The reports, in their order.
    pub(crate) ops: Vec<Op>,
}

struct Author {
    chain: Chain,
    seq: u64,
    previous: OpId,
}

impl Author {
    fn say(&mut self, history: &History, ms: u64, report: impl Into<Report>) -> Op {
        let (chain, seq, previous) = (self.chain, self.seq, self.previous);
        let body = Body {
            hlc: Hlc::at_ms(ms),
            dependencies: Vec::new(),
            entries: vec![report.into().to_entry()],
        };
        let slot = Slot { chain, seq, previous };
        let op = Op::decode(history.genesis.network(), slot, body.encode(), None).expect("a good body");
        (self.seq, self.previous) = (seq + 1, op.id());
        op
    }
}

impl Reports {
    pub(crate) fn new(history: &History, count: usize) -> Self {
        let mut fold = Fold::new(history.genesis.clone());
        fold.apply(history.ops.clone());
        let instances: Vec<InstanceId> = fold.cloud().instances.keys().copied().collect();
        let last = history.ops.last().expect("there are some").body().hlc.ms();
        let mut authors: Vec<Author> = (0..CHAINS)
            .map(|number| Author {
                chain: Chain {
                    node: NodeId(ledger::id::hash("ledger bench node", &[&number.to_le_bytes()])),
                    incarnation: 1,
                },
                seq: 0,
                previous: OpId([0; 32]),
            })
            .collect();
        let (invitation, before) = (Vec::new(), None);
        let open = OpenChain { invitation, before };
        let mut setup: Vec<Op> = authors
            .iter_mut()
            .map(|author| author.say(history, last + 1, open.clone()))
            .collect();
        for (at, instance) in instances.iter().enumerate() {
            let author = &mut authors[at % CHAINS];
            let placed = PlaceInstance {
                instance: *instance,
                generation: 1,
                previous: None,
                node: author.chain.node,
            };
            setup.push(author.say(history, last + 2 + at as u64, placed));
        }
        let from = last + 2 + instances.len() as u64;
        let ops = (0..count)
            .map(|at| {
                // Spread, so that one report has nothing to do with the next.
                let it = at * 7919 % instances.len();
                let changed = InstanceChanged {
                    instance: instances[it],
                    generation: 1,
                    start: 1 + (at / instances.len()) as u32,
                    phase: Phase::Booted,
                };
                authors[it % CHAINS].say(history, from + at as u64, changed)
            })
            .collect();
        let before = [history.ops.clone(), setup].concat();
        Self { before, ops }
    }

    /// All ops, also those before the reports.
    pub(crate) fn all(&self) -> Vec<Op> {
        [self.before.clone(), self.ops.clone()].concat()
    }

    /// A fold that has all that the reports are about.
    pub(crate) fn fold(&self, history: &History) -> Fold {
        let mut fold = Fold::new(history.genesis.clone());
        fold.apply(self.before.clone());
        let cloud = fold.cloud();
        // From a final view: that is how a node begins, and nothing that comes is undone past it.
        Fold::from_final(cloud.as_ref().clone())
    }

    /// The last report but `depth` comes after all others: seconds for each of `turns`.
    pub(crate) fn late(&self, history: &History, depth: usize, turns: usize) -> Vec<f64> {
        let mut fold = self.fold(history);
        let tail = self.ops.len().min(depth + turns);
        let (first, last) = self.ops.split_at(self.ops.len() - tail);
        // The first of the last come late, one by one; the others stand.
        let (late, stand) = last.split_at(tail - depth.min(tail));
        for ops in first.chunks(BATCH).chain(stand.chunks(BATCH)) {
            fold.apply(ops.to_vec());
        }
        let took = late.iter().rev().map(|op| {
            let op = vec![op.clone()];
            super::timed(|| fold.apply(op)).as_secs_f64()
        });
        took.collect()
    }
}
