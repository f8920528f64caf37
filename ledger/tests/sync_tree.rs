//! Live ops reach all along a tree that makes and mends itself. Virtual time: nothing sleeps.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod apart;

use std::collections::{BTreeMap, BTreeSet};

use apart::{DELAY_MS, START_MS};
use ledger::id::{NodeId, OpId};
use ledger::replica::{Output, Replica};
use ledger::report::Report;
use ledger::report::images::ImageFailed;
use ledger::sync::Frame;

/// Many replicas, each linked to some others.
struct Net {
    replicas: BTreeMap<NodeId, Replica>,
    links: BTreeSet<(NodeId, NodeId)>,
    flying: BTreeSet<(u64, u64, NodeId, NodeId, Vec<u8>)>,
    now_ms: u64,
    dice: u64,
    lose_percent: u64,
    number: u64,
    /// When each op was made; copies that arrived, by op; when the last replica got it.
    made: BTreeMap<OpId, u64>,
    last_ms: BTreeMap<OpId, u64>,
    held: BTreeMap<OpId, usize>,
    copies: u64,
    live_bytes: u64,
    tree_bytes: u64,
    other_bytes: u64,
}

impl Net {
    fn new(count: u32, links_each: usize) -> Self {
        let mut net = Self {
            replicas: BTreeMap::new(),
            links: BTreeSet::new(),
            flying: BTreeSet::new(),
            now_ms: START_MS,
            dice: 7,
            lose_percent: 0,
            number: 0,
            made: BTreeMap::new(),
            last_ms: BTreeMap::new(),
            held: BTreeMap::new(),
            copies: 0,
            live_bytes: 0,
            tree_bytes: 0,
            other_bytes: 0,
        };
        for number in 1..=count {
            let (replica, _) = Replica::open(apart::setup(number), vec![], START_MS).unwrap();
            net.replicas.insert(replica.node(), replica);
        }
        let nodes: Vec<NodeId> = net.replicas.keys().copied().collect();
        for (index, a) in nodes.iter().enumerate() {
            // A ring, so that all hang together, and others by chance.
            let mut others = vec![nodes[(index + 1) % nodes.len()]];
            while others.len() < links_each.div_ceil(2) {
                others.push(nodes[net.roll(nodes.len() as u64) as usize]);
            }
            for b in others {
                if *a != b && net.links.insert((*a, b)) && net.links.insert((b, *a)) {
                    net.up(*a, b);
                    net.up(b, *a);
                }
            }
        }
        net
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self
            .dice
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.dice >> 33) % sides
    }

    fn up(&mut self, at: NodeId, peer: NodeId) {
        let now_ms = self.now_ms;
        let outputs = self.replicas.get_mut(&at).unwrap().peer_up(peer, now_ms);
        self.take(at, outputs);
    }

    fn say(&mut self, at: NodeId) {
        let report: Report = ImageFailed {
            build: ledger::id::BuildId([1; 32]),
            reason: "x".into(),
        }
        .into();
        let now_ms = self.now_ms;
        let (id, outputs) = self
            .replicas
            .get_mut(&at)
            .unwrap()
            .append(vec![report], now_ms)
            .unwrap();
        self.made.insert(id, self.now_ms);
        self.take(at, outputs);
    }

    fn take(&mut self, at: NodeId, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, frame } => {
                    let size = frame.len() as u64;
                    match Frame::decode(&frame).unwrap() {
                        Frame::Ops(ops) if ops.live => {
                            self.live_bytes += size;
                            self.copies += ops.stretches.iter().map(|s| s.bodies.len() as u64).sum::<u64>();
                        }
                        Frame::Announce(_) | Frame::Graft(_) | Frame::Prune => self.tree_bytes += size,
                        _ => self.other_bytes += size,
                    }
                    if self.roll(100) >= self.lose_percent {
                        self.number += 1;
                        // Not all ways are equally long.
                        let late = self.roll(4);
                        self.flying
                            .insert((self.now_ms + DELAY_MS + late, self.number, at, to, frame));
                    }
                }
                Output::Admitted(ops) => {
                    for op in ops {
                        *self.held.entry(op.id()).or_default() += 1;
                        self.last_ms.insert(op.id(), self.now_ms);
                    }
                }
                Output::Disconnect { why, .. } => panic!("{why}"),
                other => panic!("{other:?}"),
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms += 1;
            while self.flying.first().is_some_and(|frame| frame.0 <= self.now_ms) {
                let (_, _, from, to, frame) = self.flying.pop_first().unwrap();
                let now_ms = self.now_ms;
                let outputs = self
                    .replicas
                    .get_mut(&to)
                    .unwrap()
                    .receive_all(vec![(from, frame)], now_ms);
                self.take(to, outputs);
            }
            let nodes: Vec<NodeId> = self.replicas.keys().copied().collect();
            for (index, node) in nodes.iter().enumerate() {
                if (self.now_ms + 7 * index as u64).is_multiple_of(200) {
                    let now_ms = self.now_ms;
                    let outputs = self.replicas.get_mut(node).unwrap().tick(now_ms);
                    self.take(*node, outputs);
                }
            }
        }
    }

    fn forget(&mut self) {
        self.made.clear();
        self.held.clear();
        (self.copies, self.live_bytes, self.tree_bytes, self.other_bytes) = (0, 0, 0, 0);
    }

    /// Ops by nodes in turn, one each so many milliseconds.
    fn chatter(&mut self, count: usize, every_ms: u64) {
        let nodes: Vec<NodeId> = self.replicas.keys().copied().collect();
        for _ in 0..count {
            let at = nodes[self.roll(nodes.len() as u64) as usize];
            self.say(at);
            self.pass(every_ms);
        }
    }

    /// Copies that a node was sent of an op, in the mean; hops to the last one, mean and most.
    fn summary(&self, what: &str) -> (f64, f64) {
        let (nodes, ops) = (self.replicas.len(), self.made.len());
        for id in self.made.keys() {
            assert_eq!(self.held[id], nodes, "{what}: every op reached all");
        }
        let took = self
            .made
            .iter()
            .map(|(id, made)| (self.last_ms[id] - made) as f64 / (DELAY_MS + 2) as f64);
        let took: Vec<f64> = took.collect();
        let most = took.iter().copied().fold(0.0, f64::max);
        let copies = self.copies as f64 / (nodes - 1) as f64 / ops as f64;
        println!(
            "{what}: {nodes} nodes, {ops} ops: {copies:.2} copies a node, last node after {:.1} hops, at most {most:.1}; an op and node: {} bytes live, {} of the tree; {} of comparison",
            took.iter().sum::<f64>() / took.len() as f64,
            self.live_bytes / (nodes * ops) as u64,
            self.tree_bytes / (nodes * ops) as u64,
            self.other_bytes / (nodes * ops) as u64,
        );
        (copies, most)
    }
}

#[test]
fn a_tree_brings_every_op_to_all_with_few_copies() {
    for (count, links) in [(50, 49), (100, 10)] {
        let mut net = Net::new(count, links);
        net.pass(3_000);
        net.chatter(20, 50);
        net.pass(2_000);
        net.forget();
        net.chatter(60, 20);
        net.pass(2_000);
        let (copies, most) = net.summary(&format!("calm, about {links} links each"));
        assert!(copies <= 2.0, "{copies}");
        assert!(most < 20.0, "{most}");
    }
}

#[test]
fn what_is_lost_is_grafted() {
    let mut net = Net::new(50, 12);
    net.pass(3_000);
    net.chatter(20, 50);
    net.forget();
    net.lose_percent = 5;
    net.chatter(60, 20);
    net.pass(4_000);
    let (copies, _) = net.summary("5 % lost");
    assert!(copies <= 3.0, "{copies}");
}

#[test]
fn a_quarter_of_the_nodes_may_go_at_once() {
    let mut net = Net::new(40, 12);
    net.pass(3_000);
    net.chatter(20, 50);
    let nodes: Vec<NodeId> = net.replicas.keys().copied().collect();
    for (index, gone) in nodes.iter().enumerate() {
        if index % 4 == 1 {
            net.replicas.remove(gone);
            net.flying
                .retain(|(_, _, from, to, _)| from != gone && to != gone);
            for peer in net.replicas.values_mut() {
                drop(peer.peer_down(*gone, net.now_ms));
            }
        }
    }
    net.forget();
    net.chatter(30, 30);
    net.pass(4_000);
    let (copies, _) = net.summary("a quarter gone");
    assert!(copies <= 3.0, "{copies}");
}
