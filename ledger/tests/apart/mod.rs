//! Two ledgers of many chains that are some ops apart, and what it costs to bring them together: for the tests
//! and for `examples/compare.rs`. Signatures are taken on trust, so that a history is cheap to make.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "each user has its part of it"
)]
#![allow(
    clippy::unwrap_used,
    reason = "a history that cannot be made should say where"
)]

use std::collections::VecDeque;

use ledger::admit::Verify;
use ledger::clock::Hlc;
use ledger::entry::Entry;
use ledger::genesis::{Genesis, Invitation};
use ledger::id::{NodeId, OpId};
use ledger::key::{SecretKey, Signature};
use ledger::op::{Body, Chain, Op, Slot};
use ledger::replica::{Output, Replica, Setup};
use ledger::report::Report;
use ledger::report::nodes::OpenChain;
use ledger::sync::{Frame, RUN_OPS_MAX, Run};

pub const START_MS: u64 = 1_800_000_000_000;

/// One way.
pub const DELAY_MS: u64 = 10;

fn secret(number: u32) -> SecretKey {
    let mut seed = [3; 32];
    seed[..4].copy_from_slice(&number.to_le_bytes());
    SecretKey::from_seed(seed)
}

pub fn genesis() -> Genesis {
    Genesis {
        name: "apart".into(),
        admins: vec![secret(0).public()],
        admins_needed: 1,
        witnesses: Default::default(),
        created_ms: START_MS - 1_000_000,
        salt: [9; 16],
    }
}

pub fn setup(number: u32) -> Setup {
    let key = secret(number);
    let invitation = Invitation {
        genesis: genesis(),
        node: key.node_id(),
        admin: secret(0).public(),
        peers: Vec::new(),
    };
    Setup {
        genesis: genesis(),
        invitation: invitation.sign(&secret(0)),
        secret: key,
        incarnation: u64::from(number),
        seed: [number as u8; 32],
        verify: Verify::Trusting,
    }
}

/// Writes chains in turn.
pub struct Authors {
    chains: Vec<(Chain, u64, OpId)>,
    opening: Vec<Entry>,
    hlc: Hlc,
    payload: usize,
    last: Option<OpId>,
}

impl Authors {
    /// So many chains, ten of each node, whose ops carry so many bytes.
    pub fn new(chains: usize, payload: usize) -> Self {
        let nodes: Vec<Setup> = (0..chains.div_ceil(10))
            .map(|number| setup(1000 + number as u32))
            .collect();
        let opening = |setup: &Setup| {
            let invitation = setup.invitation.bytes().to_vec();
            let before = None;
            Report::from(OpenChain { invitation, before }).to_entry()
        };
        let chain = |index: usize| Chain {
            node: nodes[index / 10].secret.node_id(),
            incarnation: 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(index as u64 + 1),
        };
        Self {
            chains: (0..chains)
                .map(|index| (chain(index), 0, OpId([0; 32])))
                .collect(),
            opening: nodes.iter().map(opening).collect(),
            hlc: Hlc::at_ms(START_MS - 900_000),
            payload,
            last: None,
        }
    }

    /// The next op of a chain.
    pub fn write(&mut self, index: usize) -> Op {
        self.hlc = Hlc(self.hlc.0 + 1);
        let (chain, seq, previous) = self.chains[index];
        let slot = Slot { chain, seq, previous };
        let entry = match seq {
            0 => self.opening[index / 10].clone(),
            _ => Entry {
                kind: 0x7ff,
                version: 1,
                bytes: vec![7; self.payload],
            },
        };
        let body = Body {
            hlc: self.hlc,
            dependencies: Vec::new(),
            entries: vec![entry],
        };
        let signature = Some(Signature([0; 64]));
        let op = Op::decode(genesis().network(), slot, body.encode(), signature).unwrap();
        self.chains[index] = (chain, seq + 1, op.id());
        self.last = Some(op.id());
        op
    }

    /// So many ops, the chains in turn.
    pub fn history(&mut self, ops: usize) -> Vec<Op> {
        (0..ops)
            .map(|index| self.write(index % self.chains.len()))
            .collect()
    }
}

/// Two numbers, of which the first makes the smaller id.
pub fn numbers() -> [u32; 2] {
    let mut numbers = [1, 2];
    numbers.sort_by_key(|number| secret(*number).node_id());
    numbers
}

/// A replica that holds a history: the one that greets is 0, the other 1.
pub fn replica(index: usize, stored: Vec<Op>) -> Replica {
    Replica::open(setup(numbers()[index]), stored, START_MS)
        .unwrap()
        .0
}

/// Gives ops to a replica as if from a peer that has gone again.
pub fn give(replica: &mut Replica, ops: &[Op], now_ms: u64) {
    let stranger = secret(77).node_id();
    replica.peer_up(stranger, now_ms);
    for op in ops {
        let slot = *op.slot();
        let run = Run {
            live: false,
            chain: slot.chain,
            first: slot.seq,
            previous: slot.previous,
            bodies: vec![op.bytes().to_vec()],
            signature: op.signature().unwrap(),
        };
        replica.receive(stranger, &Frame::Run(run).encode(), now_ms);
        assert!(replica.log().contains(&op.id()), "{:?}", replica.counters());
    }
    replica.peer_down(stranger, now_ms);
}

/// What went over the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// All bytes.
    pub bytes: usize,
    /// Bodies and signatures of ops.
    pub ops_bytes: usize,
    /// Frames that bring no ops.
    pub talk_bytes: usize,
    /// Ops brought.
    pub ops: usize,
    /// Frames.
    pub frames: usize,
    /// Milliseconds until the first ops left, and until both were level.
    pub first_ms: u64,
    pub level_ms: u64,
}

impl Cost {
    fn count(&mut self, frame: &[u8]) {
        self.bytes += frame.len();
        self.frames += 1;
        match Frame::decode(frame).unwrap() {
            Frame::Run(run) => self.count_ops(&run.bodies),
            Frame::Ops(ops) => ops
                .stretches
                .iter()
                .for_each(|stretch| self.count_ops(&stretch.bodies)),
            _ => self.talk_bytes += frame.len(),
        }
    }

    fn count_ops(&mut self, bodies: &[Vec<u8>]) {
        assert!(bodies.len() <= RUN_OPS_MAX);
        self.ops += bodies.len();
        self.ops_bytes += bodies.iter().map(Vec::len).sum::<usize>() + 64;
    }

    /// What it cost beside the ops themselves.
    pub fn beyond(&self) -> usize {
        self.bytes - self.ops_bytes
    }

    /// Round trips until data flowed: one is two ways.
    pub fn trips(&self) -> f64 {
        self.first_ms as f64 / (2 * DELAY_MS) as f64
    }
}

/// Two replicas and a wire without mischief.
pub struct Pair {
    pub replicas: [Replica; 2],
    pub now_ms: u64,
    flying: VecDeque<(u64, usize, Vec<u8>)>,
    cost: Cost,
    since_ms: u64,
}

impl Pair {
    pub fn new(a: Replica, b: Replica) -> Self {
        assert!(a.node() < b.node());
        Self {
            replicas: [a, b],
            now_ms: START_MS,
            flying: VecDeque::new(),
            cost: Cost::default(),
            since_ms: START_MS,
        }
    }

    /// Both hear of each other. The first has the smaller id, so it greets.
    pub fn link(&mut self) {
        self.begin();
        let ids = [0, 1].map(|index: usize| self.replicas[index].node());
        for index in 0..2 {
            let outputs = self.replicas[index].peer_up(ids[1 - index], self.now_ms);
            self.take(index, outputs);
        }
    }

    /// From now on is counted.
    pub fn begin(&mut self) {
        self.cost = Cost::default();
        self.since_ms = self.now_ms;
    }

    pub fn take(&mut self, at: usize, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { frame, .. } => {
                    if self.cost.frames == 0 {
                        self.since_ms = self.now_ms;
                    }
                    let had = self.cost.ops;
                    self.cost.count(&frame);
                    if had == 0 && self.cost.ops > 0 {
                        self.cost.first_ms = self.now_ms - self.since_ms;
                    }
                    self.flying.push_back((self.now_ms + DELAY_MS, 1 - at, frame));
                }
                Output::Admitted(_) => {}
                Output::Disconnect { why, .. } => panic!("{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    fn is_level(&self) -> bool {
        let [a, b] = &self.replicas;
        a.log().vector().root() == b.log().vector().root()
    }

    /// Lets time pass; frames that come at one time are taken together.
    pub fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 1;
            while let Some((at_ms, to, frame)) = self.flying.pop_front() {
                if at_ms > self.now_ms {
                    self.flying.push_front((at_ms, to, frame));
                    break;
                }
                let from: NodeId = self.replicas[1 - to].node();
                let outputs = self.replicas[to].receive_all(vec![(from, frame)], self.now_ms);
                self.take(to, outputs);
            }
            // Their ticks do not fall together, so that they do not greet each other at once.
            for index in 0..2 {
                if (self.now_ms + 100 * index as u64).is_multiple_of(200) {
                    let outputs = self.replicas[index].tick(self.now_ms);
                    self.take(index, outputs);
                }
            }
        }
    }

    /// Lets time pass until both hold the same and all frames have come; gives what it cost.
    pub fn settle(&mut self, limit_ms: u64) -> Cost {
        let end = self.now_ms + limit_ms;
        while !(self.is_level() && self.flying.is_empty()) {
            assert!(
                self.now_ms < end,
                "not level after {limit_ms} ms: {:?}",
                self.cost
            );
            self.pass(1);
        }
        self.cost.level_ms = self.now_ms - self.since_ms;
        self.cost
    }
}

/// A pair that remembers that it held the same, and is then given what sets it apart: the ops of `a` and of `b`.
pub fn remembering(shared: &[Op], a: &[Op], b: &[Op]) -> Pair {
    let mut pair = Pair::new(replica(0, shared.to_vec()), replica(1, shared.to_vec()));
    pair.link();
    pair.settle(10_000);
    pair.pass(3_000);
    let now_ms = pair.now_ms;
    for (index, ops) in [a, b].iter().enumerate() {
        give(&mut pair.replicas[index], ops, now_ms);
    }
    pair.begin();
    pair
}

/// A pair that never met.
pub fn strangers(shared: &[Op], a: &[Op], b: &[Op]) -> Pair {
    let mut pair = Pair::new(replica(0, [shared, a].concat()), replica(1, [shared, b].concat()));
    pair.link();
    pair
}
