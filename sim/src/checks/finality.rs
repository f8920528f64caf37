//! What is final stands: one certificate a height on all disks, each following the one before; nothing that a
//! certificate covers turns after it; and once the network is healed and has a quorum, everything is final.

use std::collections::BTreeMap;

use ledger::finality::witness::WitnessSet;
use ledger::id::{CheckpointId, NetworkId, NodeId, OpId};
use ledger::op::{Chain, Op};
use reactors::node::Node;

use super::{Holds, Violation};
use crate::disk::Disk;

fn violated(seen: String) -> Holds {
    Err(Violation {
        claim: "finality",
        seen,
    })
}

/// At any time, over all disks, also those of nodes that are down.
pub fn one_certificate_a_height<'a>(
    network: NetworkId,
    disks: impl Iterator<Item = (usize, &'a Disk)>,
) -> Holds {
    let mut first: BTreeMap<u64, (usize, CheckpointId)> = BTreeMap::new();
    for (node, disk) in disks {
        let mut before = CheckpointId([0; 32]);
        for (place, certificate) in (1..).zip(disk.certificates(0)) {
            let checkpoint = &certificate.checkpoint;
            let (height, id) = (checkpoint.height, checkpoint.id(network));
            if height != place || checkpoint.previous != before {
                return violated(format!(
                    "certificate {place} on the disk of node {node} has height {height} or follows another"
                ));
            }
            before = id;
            let (other, known) = *first.entry(height).or_insert((node, id));
            if known != id {
                return violated(format!(
                    "nodes {other} and {node} have two certificates for height {height}"
                ));
            }
        }
    }
    Ok(())
}

/// At any time, of one disk: an outcome that was told before a certificate covered its op is not told otherwise
/// after it.
pub fn final_outcomes_stand(node: usize, disk: &Disk) -> Holds {
    let places: BTreeMap<OpId, (Chain, u64)> = disk.ops().iter().map(|op| (op.id(), place(op))).collect();
    let mut certified: BTreeMap<Chain, u64> = BTreeMap::new();
    let mut certificates = disk.certificates(0).iter();
    for record in disk.journal() {
        if let Some((_, told)) = record.checkpoint() {
            for certificate in certificates.by_ref() {
                let checkpoint = &certificate.checkpoint;
                certified.extend(checkpoint.heads.iter().map(|(chain, head)| (*chain, head.next)));
                if checkpoint.height >= told.height {
                    break;
                }
            }
            continue;
        }
        let Some((chain, seq)) = places.get(&record.op) else {
            continue;
        };
        if record.turned && *seq < certified.get(chain).copied().unwrap_or(0) {
            return violated(format!(
                "op {} was final on node {node} when its entry {} turned",
                record.op.short(),
                record.entry
            ));
        }
    }
    Ok(())
}

fn place(op: &Op) -> (Chain, u64) {
    (op.slot().chain, op.slot().seq)
}

/// Whether those who are up can certify anything.
pub fn has_quorum(witnesses: &WitnessSet, up: impl Iterator<Item = NodeId>) -> bool {
    let weight = up.map(|node| witnesses.weight_of(&node)).sum();
    !witnesses.is_empty() && witnesses.is_quorum(weight)
}

/// At the end, where there is a quorum: nothing is tentative, all are at one height with one state.
pub fn all_is_final<'a>(nodes: impl Iterator<Item = (usize, &'a Node)> + Clone) -> Holds {
    let mut first: Option<(usize, u64, [u8; 32])> = None;
    let rounds = || -> Vec<_> {
        let rounds = nodes.clone().map(|(index, node)| {
            let status = node.finality();
            (
                index,
                status.height,
                status.round,
                status.unjudged,
                status.waiting,
            )
        });
        rounds.collect()
    };
    for (index, node) in nodes.clone() {
        let status = node.finality();
        let tentative = node.replica().log().tentative();
        if tentative > 0 {
            return violated(format!(
                "{tentative} ops are tentative at node {index}, though the network is healed; node, height, round, \
                 unjudged, waiting: {:?}",
                rounds()
            ));
        }
        let (other, height, state) = *first.get_or_insert((index, status.height, status.state));
        if (height, state) != (status.height, status.state) {
            return violated(format!(
                "node {other} is at height {height}, node {index} at height {}, or their states differ",
                status.height
            ));
        }
    }
    Ok(())
}

/// At any time: no node had to call its operator.
pub fn no_alarm<'a>(nodes: impl Iterator<Item = (usize, &'a Node)>) -> Holds {
    for (index, node) in nodes {
        if let Some(alarm) = node.alarm() {
            return violated(format!("node {index} alarms: {alarm}"));
        }
    }
    Ok(())
}
