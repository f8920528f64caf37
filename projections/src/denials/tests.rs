//! Revocations that cross, by rules of their own: an announcement named `revoke-N-CUT` revokes node N, with CUT as
//! its cut-off; every op of a node that is not revoked leaves its mark. The plain way to the same end is
//! `Plain`: it folds from the beginning each time.

use std::collections::{BTreeMap, BTreeSet};

use ledger::clock::Hlc;
use ledger::codec::encode;
use ledger::finality::checkpoint::{Checkpoint, FOLD_VERSION};
use ledger::genesis::Genesis;
use ledger::id::{AgentId, CheckpointId, NodeId, OpId};
use ledger::key::SecretKey;
use ledger::op::{Body, Chain, Dependency, Op, Said, Slot};
use ledger::report::Report;
use ledger::report::nodes::{AnnounceNode, Capacity, Roles};
use ledger::vector::Head;
use proptest::prelude::*;

use crate::cloud::Cloud;
use crate::fold::Fold;
use crate::outcome::{Outcome, Void};
use crate::revocations::Revocation;
use crate::undo::{AgentNames, Revocations, Writer};

const NODES: usize = 4;

fn key(node: usize) -> SecretKey {
    SecretKey::from_seed([node as u8 + 1; 32])
}

fn genesis() -> Genesis {
    Genesis {
        name: "denials".into(),
        admins: Vec::new(),
        admins_needed: 1,
        witnesses: Default::default(),
        created_ms: 0,
        salt: [0; 16],
    }
}

/// What an op asks for: the node to revoke and the cut-off.
fn asks(op: &Op) -> Option<(usize, Option<u64>)> {
    let [Said::Report(Report::AnnounceNode(it))] = op.said(genesis().network()) else {
        return None;
    };
    let (node, cutoff) = it.name.strip_prefix("revoke-")?.split_once('-')?;
    Some((node.parse().ok()?, cutoff.parse().ok()))
}

fn rules(writer: &mut Writer<'_>, op: &Op, _: usize) -> Outcome {
    if writer.revocations.contains_key(&op.node()) {
        return Outcome::Void(Void::NotItsPlace);
    }
    writer.put::<AgentNames>(op.id().to_string(), AgentId(op.id().0));
    if let Some((node, cutoff)) = asks(op) {
        let (node, op, at) = (key(node).node_id(), op.id(), op.body().hlc);
        if !writer.revocations.contains_key(&node) {
            let reinstated = None;
            let revocation = Revocation {
                op,
                at,
                cutoff,
                reinstated,
            };
            writer.put::<Revocations>(node, revocation);
        }
    }
    Outcome::Applied
}

/// The plain way: which ops left a mark, and who revoked whom.
#[derive(Clone, Debug, Default)]
struct Plain {
    marks: BTreeSet<OpId>,
    revoked: BTreeMap<NodeId, (OpId, Option<u64>)>,
}

impl Plain {
    fn one(&mut self, op: &Op, denied: bool) {
        if denied || self.revoked.contains_key(&op.node()) {
            return;
        }
        self.marks.insert(op.id());
        if let Some((node, cutoff)) = asks(op) {
            let node = key(node).node_id();
            self.revoked.entry(node).or_insert((op.id(), cutoff));
        }
    }

    /// After a part of the ops that is judged as one: what a checkpoint adds, or what none does.
    fn part(&self, ops: &[Op], past: &BTreeMap<OpId, BTreeSet<OpId>>, height: u64, is_final: bool) -> Self {
        let is_cut = |cutoff: Option<u64>| cutoff.is_none_or(|cutoff| cutoff <= height);
        let gone = |op: &&Op| {
            self.revoked
                .get(&op.node())
                .is_some_and(|(_, cutoff)| is_cut(*cutoff))
        };
        let mut denied: BTreeSet<OpId> = ops.iter().filter(gone).map(Op::id).collect();
        let mut asked = BTreeSet::new();
        loop {
            let mut now = self.clone();
            ops.iter().for_each(|op| now.one(op, denied.contains(&op.id())));
            let new = |(node, it): (&NodeId, &(OpId, Option<u64>))| {
                (self.revoked.get(node) != Some(it)).then_some((*node, *it))
            };
            let mut new: Vec<_> = now.revoked.iter().filter_map(new).collect();
            let place = |id: &OpId| ops.iter().position(|op| op.id() == *id);
            new.sort_by_key(|(node, (op, _))| (place(op), *node));
            let more = new.into_iter().find_map(|(node, (by, cutoff))| {
                if !asked.insert((node, by)) {
                    return None;
                }
                let counts = |op: &Op| match cutoff {
                    Some(_) if is_final => op.id() == by || !is_cut(cutoff),
                    _ => op.id() == by || past[&by].contains(&op.id()),
                };
                let more = ops
                    .iter()
                    .filter(|op| op.node() == node && !counts(op))
                    .map(Op::id);
                let more: Vec<_> = more.filter(|id| !denied.contains(id)).collect();
                (!more.is_empty()).then_some(more)
            });
            match more {
                Some(more) => denied.extend(more),
                None => return now,
            }
        }
    }

    fn compare(&self, cloud: &Cloud) {
        let marks = cloud.agent_names.values().map(|id| OpId(id.0));
        assert_eq!(self.marks, marks.collect());
        let revoked = cloud.revocations.iter();
        let revoked = revoked.map(|(node, it)| (*node, (it.op, it.cutoff)));
        assert_eq!(self.revoked, revoked.collect());
    }
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize % bound.max(1)
    }
}

/// Ops of nodes that hear of each other now and then; with each op's causal past.
fn history(dice: &mut Dice, count: usize) -> (Vec<Op>, BTreeMap<OpId, BTreeSet<OpId>>) {
    let mut ops: Vec<Op> = Vec::new();
    let mut past: BTreeMap<OpId, BTreeSet<OpId>> = BTreeMap::new();
    let mut heads: [Option<Op>; NODES] = Default::default();
    for _ in 0..count {
        let node = dice.roll(NODES);
        let mut before: Vec<Op> = heads[node].iter().cloned().collect();
        while dice.roll(3) == 0 && !ops.is_empty() {
            before.push(ops[dice.roll(ops.len())].clone());
        }
        let clock = before.iter().map(|op| op.body().hlc.ms()).max().unwrap_or(0);
        let name = match dice.roll(6) {
            0 => format!("revoke-{}-{}", dice.roll(NODES), dice.roll(5)),
            1 => format!("revoke-{}-none", dice.roll(NODES)),
            _ => "says-something".to_owned(),
        };
        let mut dependencies: Vec<Dependency> = before.iter().map(|op| op.id().into()).collect();
        dependencies.sort();
        dependencies.dedup();
        let said = Report::from(AnnounceNode {
            payout: None,
            name,
            roles: Roles {
                gateway: true,
                compute: true,
                builder: false,
                edge: false,
                witness: false,
            },
            addresses: Vec::new(),
            ipv4: Vec::new(),
            capacity: Capacity::default(),
        });
        let hlc = Hlc::at_ms(clock + 1 + dice.roll(20) as u64);
        let body = Body {
            hlc,
            dependencies,
            entries: vec![said.to_entry()],
        };
        let last = heads[node].as_ref();
        let slot = Slot {
            chain: Chain {
                node: key(node).node_id(),
                incarnation: 1,
            },
            seq: last.map_or(0, |op| op.slot().seq + 1),
            previous: last.map_or(OpId([0; 32]), Op::id),
        };
        let op = Op::sign(genesis().network(), slot, body, &key(node));
        let mut of_op: BTreeSet<OpId> = before.iter().map(Op::id).collect();
        before
            .iter()
            .for_each(|op| of_op.extend(past[&op.id()].iter().copied()));
        past.insert(op.id(), of_op);
        heads[node] = Some(op.clone());
        ops.push(op);
    }
    (ops, past)
}

fn certify(height: u64, covered: &[Op]) -> Checkpoint {
    let mut heads: BTreeMap<Chain, Head> = BTreeMap::new();
    for op in covered {
        let (next, id) = (op.slot().seq + 1, op.id());
        let head = heads.entry(op.slot().chain).or_insert(Head { next, id });
        if head.next < next {
            *head = Head { next, id };
        }
    }
    Checkpoint {
        height,
        previous: CheckpointId([1; 32]),
        time_ms: height,
        order: [0; 32],
        state: [0; 32],
        forks: [0; 32],
        fold_version: FOLD_VERSION,
        heads: heads.into_iter().collect(),
        next_witnesses: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_revocations_deny_does_not_depend_on_the_order_of_arrival(
        seed: u64,
        count in 1usize..40,
        window in 1usize..12,
        heights in 0u64..4,
    ) {
        let mut dice = Dice(seed);
        let (ops, past) = history(&mut dice, count);
        let mut rest = ops.clone();
        let mut plain = Plain::default();
        let mut certified = Vec::new();
        for height in 1..=heights {
            let some: Vec<Op> = (0..dice.roll(4)).filter_map(|_| rest.get(dice.roll(rest.len())).cloned()).collect();
            let (mut covered, later): (Vec<Op>, Vec<Op>) = rest.into_iter().partition(|op| {
                some.iter().any(|it| it.id() == op.id() || past[&it.id()].contains(&op.id()))
            });
            covered.sort_by_key(|op| op.order());
            rest = later;
            plain = plain.part(&covered, &past, height - 1, true);
            certified.push((certify(height, &covered), covered));
        }
        rest.sort_by_key(Op::order);
        let plain_final = plain.clone();
        let plain = plain.part(&rest, &past, heights, false);

        let mut views = Vec::new();
        for turn in 0..3 {
            let mut fold = Fold::with_window(genesis(), window).with_rules(rules);
            let mut told: BTreeMap<OpId, Outcome> = BTreeMap::new();
            let mut waiting = ops.clone();
            let mut certificates = certified.iter();
            let mut here: BTreeSet<OpId> = BTreeSet::new();
            while !waiting.is_empty() {
                let ready: Vec<usize> = (0..waiting.len())
                    .filter(|at| past[&waiting[*at].id()].is_subset(&here))
                    .collect();
                let op = waiting.remove(if turn == 0 { 0 } else { ready[dice.roll(ready.len())] });
                here.insert(op.id());
                let mut changes = fold.apply(vec![op]);
                if dice.roll(6) == 0 && let Some((checkpoint, covered)) = certificates.next() {
                    changes.extend(fold.finalize(checkpoint, covered.clone()).changes);
                }
                for change in changes {
                    let earlier = told.insert(change.op, change.outcome.clone());
                    prop_assert_eq!(earlier.is_some(), change.turned);
                    prop_assert_ne!(earlier, Some(change.outcome));
                }
            }
            for (checkpoint, covered) in certificates {
                fold.finalize(checkpoint, covered.clone());
            }
            plain.compare(&fold.cloud());
            plain_final.compare(&fold.final_cloud());
            views.push((encode(&*fold.cloud()), encode(&*fold.final_cloud())));
        }
        prop_assert!(views.iter().all(|view| *view == views[0]));
    }
}
