//! How ops lie on disk: successive ops of a chain that were written together are one record.
//!
//! ```text
//! key    := node (32) ‖ incarnation (8 BE) ‖ seq of the first (8 BE)
//! record := 2 ‖ sum (16) ‖ count (varint) ‖ that many { 0 | 1 ‖ signature (64) } ‖ length (varint) ‖ body }
//! sum    := first half of BLAKE3-derive-key("formation 2026 stored run v2", id of the last op ‖ signatures)
//! ```
//! The id of the last op covers all bytes before it in the chain, so one sum guards a record and its place. A
//! signature vouches for all ops before it: only the first and the last of a record are kept.
//!
//! A record that is damaged hides what follows it in its chain, till the ops have come again from a peer. They
//! may then be grouped otherwise: where records overlap, the one that begins earlier counts.

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{NetworkId, OpId, hash};
use crate::key::{SIGNATURE_BYTES, Signature};
use crate::op::{BODY_BYTES_MAX, Chain, Op, Slot};

use super::Damage;

/// Ops of a record, at most.
pub(super) const OPS_MAX: usize = 1024;

/// Bytes of the bodies of a record, at most, but for one that is larger by itself.
pub(super) const BYTES_MAX: usize = 64 * 1024;

const VERSION: u64 = 2;

/// Splits ops into what makes a record each: successive ops of one chain, in the order given.
pub(super) fn groups(ops: &[Op]) -> Vec<Vec<&Op>> {
    let mut by_chain: Vec<&Op> = ops.iter().collect();
    by_chain.sort_by_key(|op| (op.slot().chain, op.slot().seq));
    let mut groups: Vec<Vec<&Op>> = Vec::new();
    let mut bytes = 0;
    for op in by_chain {
        let follows = groups
            .last()
            .and_then(|group| group.last())
            .is_some_and(|last| last.slot().chain == op.slot().chain && last.slot().seq + 1 == op.slot().seq);
        let fits = groups
            .last()
            .is_some_and(|group| group.len() < OPS_MAX && bytes + op.bytes().len() <= BYTES_MAX);
        match groups.last_mut().filter(|_| follows && fits) {
            Some(group) => {
                bytes += op.bytes().len();
                group.push(op);
            }
            None => {
                bytes = op.bytes().len();
                groups.push(vec![op]);
            }
        }
    }
    groups
}

fn sum(last: OpId, signatures: &[Signature]) -> [u8; 16] {
    let signatures: Vec<&[u8]> = signatures.iter().map(|signature| &signature.0[..]).collect();
    let parts: Vec<&[u8]> = [&last.0[..]].into_iter().chain(signatures).collect();
    *hash("formation 2026 stored run v2", &parts)
        .first_chunk()
        .expect("32 bytes begin with 16")
}

/// The record of a group.
pub(super) fn encode(group: &[&Op]) -> Vec<u8> {
    let first = group.iter().position(|op| op.signature().is_some());
    let last = group.iter().rposition(|op| op.signature().is_some());
    let kept = |index: usize| {
        let kept = Some(index) == first || Some(index) == last;
        group[index].signature().filter(|_| kept)
    };
    let signatures: Vec<Signature> = (0..group.len()).filter_map(kept).collect();
    let end = group.last().map_or(OpId([0; 32]), |op| op.id());
    let mut writer = Writer::new();
    writer
        .varint(VERSION)
        .raw(&sum(end, &signatures))
        .varint(group.len() as u64);
    for (index, op) in group.iter().enumerate() {
        match kept(index) {
            Some(signature) => writer.varint(1).raw(&signature.0),
            None => writer.varint(0),
        };
        writer.sized(op.bytes());
    }
    writer.into_bytes()
}

/// Reads a record into `ops`, which holds what was read of the chain so far.
pub(super) fn decode(
    network: NetworkId,
    chain: Chain,
    first: u64,
    record: &[u8],
    ops: &mut Vec<Op>,
) -> Result<(), Damage> {
    let next = ops.last().map_or(0, |op| op.slot().seq + 1);
    if first > next {
        return Err(Damage::Missing);
    }
    let mut reader = Reader::new(record);
    if reader.varint(VERSION, "the version of a stored run")? != VERSION {
        return Err(DecodeError::Meaningless("the version of a stored run").into());
    }
    let stored: [u8; 16] = reader.array("a stored run's sum")?;
    let count = reader.varint(OPS_MAX as u64, "the ops of a stored run")?;
    let begin = ops.len();
    let mut signatures = Vec::new();
    let read = || {
        let mut previous = ops.last().map_or(OpId([0; 32]), Op::id);
        for seq in first..first + count {
            let signature = match reader.varint(1, "a stored op's signature")? {
                0 => None,
                _ => Some(Signature(
                    reader.array::<SIGNATURE_BYTES>("a stored op's signature")?,
                )),
            };
            signatures.extend(signature);
            let body = reader.sized(BODY_BYTES_MAX, "a stored op")?;
            if seq < next {
                continue;
            }
            let slot = Slot { chain, seq, previous };
            let op = Op::decode(network, slot, body.to_vec(), signature)?;
            previous = op.id();
            ops.push(op);
        }
        reader.end()?;
        // What lies within ops that were read already says nothing new.
        if ops.len() > begin && sum(previous, &signatures) != stored {
            return Err(Damage::OtherSum);
        }
        Ok(())
    };
    let outcome = read();
    if outcome.is_err() {
        ops.truncate(begin);
    }
    outcome
}
