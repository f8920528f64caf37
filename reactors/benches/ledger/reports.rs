//! What a running network mostly says: small reports of nodes about their instances.

use ledger::clock::Hlc;
use ledger::genesis::Genesis;
use ledger::id::{InstanceId, OpId};
use ledger::key::SecretKey;
use ledger::op::{Body, Chain, Op, Slot};
use ledger::report::instances::{InstanceChanged, Phase, PlaceInstance};
use ledger::report::nodes::OpenChain;
use ledger::report::{Carry, Report};
use projections::fold::Fold;

use crate::folding::BATCH;
use crate::history::{NOW_MS, People, invitation, secret};
use crate::turns::timed;

/// The number of the first node that reports.
const FIRST: u64 = 1_000_000;

/// Reports about instances that the people of a history launched.
pub(crate) struct Reports {
    /// The commands, the chains and the placements.
    pub(crate) before: Vec<Op>,
    /// The reports, in their order.
    pub(crate) ops: Vec<Op>,
}

/// Whether ops are signed: the fold and the store ask for no signature, and to sign takes long.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ops {
    Signed,
    Bare,
}

/// A node that says things.
pub(crate) struct Author {
    secret: SecretKey,
    ops: Ops,
    chain: Chain,
    seq: u64,
    previous: OpId,
}

impl Author {
    pub(crate) fn new(number: u64, ops: Ops) -> Self {
        let secret = secret(number);
        let node = secret.node_id();
        Self {
            secret,
            ops,
            chain: Chain { node, incarnation: 1 },
            seq: 0,
            previous: OpId([0; 32]),
        }
    }

    pub(crate) fn say(&mut self, genesis: &Genesis, ms: u64, report: impl Into<Report>) -> Op {
        let (chain, seq, previous) = (self.chain, self.seq, self.previous);
        let body = Body {
            hlc: Hlc::at_ms(ms),
            dependencies: Vec::new(),
            entries: vec![report.into().to_entry()],
        };
        let slot = Slot { chain, seq, previous };
        let op = match self.ops {
            Ops::Signed => Op::sign(genesis.network(), slot, body, &self.secret),
            Ops::Bare => {
                Op::decode(genesis.network(), slot, body.encode(), None).expect("the body is well formed")
            }
        };
        (self.seq, self.previous) = (seq + 1, op.id());
        op
    }
}

/// So many commands of people, all carried by one node.
pub(crate) fn commands(genesis: &Genesis, count: usize, signed: Ops) -> Vec<Op> {
    let mut author = Author::new(1, signed);
    let mut people = People::new(genesis.clone(), author.chain.node);
    let opening = OpenChain {
        invitation: invitation(genesis, 1).bytes().to_vec(),
        before: None,
    };
    let mut ops = vec![author.say(genesis, NOW_MS, opening)];
    ops.extend((1..=count as u64).map(|at| {
        let command = people.next().bytes().to_vec();
        author.say(genesis, NOW_MS + at, Carry { command })
    }));
    ops
}

impl Reports {
    /// So many reports by so many chains about what these ops launched.
    pub(crate) fn new(genesis: &Genesis, launched: &[Op], chains: usize, count: usize, signed: Ops) -> Self {
        let mut fold = Fold::new(genesis.clone());
        fold.apply(launched.to_vec());
        let instances: Vec<InstanceId> = fold.cloud().instances.keys().copied().collect();
        let last = launched.last().expect("there are some").body().hlc.ms();
        let mut authors: Vec<Author> = (0..chains as u64)
            .map(|number| Author::new(FIRST + number, signed))
            .collect();
        let mut setup: Vec<Op> = authors
            .iter_mut()
            .zip(FIRST..)
            .map(|(author, number)| {
                let invitation = invitation(genesis, number).bytes().to_vec();
                let before = None;
                author.say(genesis, last + 1, OpenChain { invitation, before })
            })
            .collect();
        for (at, instance) in instances.iter().enumerate() {
            let author = &mut authors[at % chains];
            let placed = PlaceInstance {
                instance: *instance,
                generation: 1,
                previous: None,
                node: author.chain.node,
            };
            setup.push(author.say(genesis, last + 2 + at as u64, placed));
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
                authors[it % chains].say(genesis, from + at as u64, changed)
            })
            .collect();
        let before = [launched.to_vec(), setup].concat();
        Self { before, ops }
    }

    /// A time at which all of them are past.
    pub(crate) fn now_ms(&self) -> u64 {
        self.ops.last().map_or(0, |op| op.body().hlc.ms())
    }

    /// All ops, also those before the reports.
    pub(crate) fn all(&self) -> Vec<Op> {
        [self.before.clone(), self.ops.clone()].concat()
    }

    /// A fold that has all that the reports are about.
    pub(crate) fn fold(&self, genesis: &Genesis) -> Fold {
        let mut fold = Fold::new(genesis.clone());
        fold.apply(self.before.clone());
        let cloud = fold.cloud();
        // From a final view: that is how a node begins, and nothing that comes is undone past it.
        Fold::from_final(cloud.as_ref().clone())
    }

    /// The last report but `depth` comes after all others: seconds for each of `turns`.
    pub(crate) fn late(&self, genesis: &Genesis, depth: usize, turns: usize) -> Vec<f64> {
        let mut fold = self.fold(genesis);
        let tail = self.ops.len().min(depth + turns);
        let (first, last) = self.ops.split_at(self.ops.len() - tail);
        // The first of the last come late, one by one; the others stand.
        let (late, stand) = last.split_at(tail - depth.min(tail));
        for ops in first.chunks(BATCH).chain(stand.chunks(BATCH)) {
            fold.apply(ops.to_vec());
        }
        let took = late.iter().rev().map(|op| {
            let op = vec![op.clone()];
            timed(|| fold.apply(op)).as_secs_f64()
        });
        took.collect()
    }
}
