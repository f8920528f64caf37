//! A ledger as one file: what `form ops export` and `form backup` write, and `form restore` reads.
//!
//! ```text
//! export := "formation export 1\n" ‖ network id (32) ‖ records ‖ end
//! record := kind (varint) ‖ length (varint) ‖ bytes
//!   1  run          node (32) ‖ incarnation (8 LE) ‖ first seq (varint) ‖ id before (32) ‖ count (varint)
//!                   ‖ that many bodies {length varint, bytes} ‖ signature of the last op (64)
//!   2  certificate  see finality/checkpoint.rs, in ascending heights
//!   3  fork         node (32) ‖ incarnation (8 LE) ‖ proof
//! end    := 0 ‖ 32 ‖ BLAKE3-derive-key("formation 2026 export v1", all before the end)
//! ```
//! Runs of a chain follow each other. It holds what is public among the members; no key, and no vote: a
//! witness that comes back from a file must not vote as if it had never voted since.
//!
//! Reading is total: a file that was cut or changed is refused as a whole, and every signature is checked.

use crate::codec::{DecodeError, Reader, Writer};
use crate::finality::checkpoint::{CERTIFICATE_BYTES_MAX, Certificate};
use crate::id::{NetworkId, NodeId, OpId, hash};
use crate::key::{Check, SIGNATURE_BYTES, Signature, verify_all};
use crate::op::{BODY_BYTES_MAX, Chain, Op, Slot};
use crate::sync::{RUN_BYTES_MAX, RUN_OPS_MAX};

const MAGIC: &[u8] = b"formation export 1\n";
const CONTEXT: &str = "formation 2026 export v1";
const END: u64 = 0;
const RUN: u64 = 1;
const CERTIFICATE: u64 = 2;
const FORK: u64 = 3;

/// Bytes of a record, at most.
const RECORD_BYTES_MAX: usize = 2 * (RUN_BYTES_MAX + BODY_BYTES_MAX) + CERTIFICATE_BYTES_MAX;

/// What a file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// The ops; those of a chain follow each other.
    pub ops: Vec<Op>,
    /// The certificates, by height.
    pub certificates: Vec<Certificate>,
    /// Proofs of forks, as they are stored.
    pub forks: Vec<(Chain, Vec<u8>)>,
}

/// Why a file is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// It is no such file.
    #[error("this is not an exported ledger")]
    NotAnExport,
    /// It is of another network.
    #[error("the ledger is that of network {0}")]
    OtherNetwork(NetworkId),
    /// It does not decode.
    #[error("the exported ledger is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// Its bytes are not those that were written.
    #[error("the exported ledger is damaged: its hash is another")]
    OtherHash,
    /// A signature does not hold.
    #[error("op {seq} of chain {incarnation:x} of node {node} is not what its node signed", node = chain.node, incarnation = chain.incarnation)]
    Forged {
        /// The chain.
        chain: Chain,
        /// The last op of the run.
        seq: u64,
    },
}

/// Writes ops (those of a chain in order, however chains are mixed), certificates and proofs. Ops at the end
/// of a chain that no signature vouches for are left out: they prove nothing.
pub fn encode(
    network: NetworkId,
    ops: &[Op],
    certificates: &[Certificate],
    forks: &[(Chain, Vec<u8>)],
) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.raw(MAGIC).raw(&network.0);
    let mut by_chain: Vec<&Op> = ops.iter().collect();
    by_chain.sort_by_key(|op| (op.slot().chain, op.slot().seq));
    for chain in by_chain.chunk_by(|a, b| a.slot().chain == b.slot().chain) {
        for run in runs(chain) {
            writer.varint(RUN).sized(&encode_run(run));
        }
    }
    for certificate in certificates {
        writer.varint(CERTIFICATE).sized(&certificate.encode());
    }
    for (chain, proof) in forks {
        let mut bytes = chain.node.0.to_vec();
        bytes.extend_from_slice(&chain.incarnation.to_le_bytes());
        bytes.extend_from_slice(proof);
        writer.varint(FORK).sized(&bytes);
    }
    let mut bytes = writer.into_bytes();
    let sum = hash(CONTEXT, &[&bytes]);
    let mut end = Writer::new();
    end.varint(END).sized(&sum);
    bytes.extend(end.into_bytes());
    bytes
}

/// Splits the ops of a chain into runs that end with a signature, as long as they may be.
fn runs<'a>(mut rest: &'a [&'a Op]) -> Vec<&'a [&'a Op]> {
    let mut runs = Vec::new();
    loop {
        let mut bytes = 0;
        let mut end = None;
        for (index, op) in rest.iter().enumerate() {
            bytes += op.bytes().len();
            let full = bytes > RUN_BYTES_MAX || index >= RUN_OPS_MAX;
            // A run may be longer where its signature is only reached then.
            if full && end.is_some() {
                break;
            }
            if op.signature().is_some() {
                end = Some(index + 1);
            }
        }
        let Some(end) = end else { return runs };
        let (run, tail) = rest.split_at(end);
        runs.push(run);
        rest = tail;
    }
}

fn encode_run(run: &[&Op]) -> Vec<u8> {
    let first = run[0].slot();
    let mut writer = Writer::new();
    writer
        .raw(&first.chain.node.0)
        .raw(&first.chain.incarnation.to_le_bytes())
        .varint(first.seq)
        .raw(&first.previous.0)
        .varint(run.len() as u64);
    for op in run {
        writer.sized(op.bytes());
    }
    let signature = run.last().and_then(|op| op.signature());
    writer.raw(&signature.expect("a run ends with a signature").0);
    writer.into_bytes()
}

/// Reads a file of a network.
pub fn decode(network: NetworkId, bytes: &[u8], seed: [u8; 32]) -> Result<Export, ExportError> {
    let mut reader = Reader::new(bytes.strip_prefix(MAGIC).ok_or(ExportError::NotAnExport)?);
    let of = NetworkId(reader.array("an export's network")?);
    if of != network {
        return Err(ExportError::OtherNetwork(of));
    }
    let mut export = Export::default();
    let mut checks: Vec<(Check, u64, Chain)> = Vec::new();
    loop {
        let before = bytes.len() - reader.rest().len();
        let kind = reader.varint(FORK, "a record's kind")?;
        let record = reader.sized(RECORD_BYTES_MAX, "a record")?;
        match kind {
            END => {
                if hash(CONTEXT, &[&bytes[..before]]) != *record {
                    return Err(ExportError::OtherHash);
                }
                reader.end()?;
                break;
            }
            RUN => checks.extend(decode_run(network, record, &mut export.ops)?),
            CERTIFICATE => export.certificates.push(Certificate::decode(record)?),
            _ => {
                let mut reader = Reader::new(record);
                let node = NodeId(reader.array("a fork's node")?);
                let incarnation = u64::from_le_bytes(reader.array("a fork's incarnation")?);
                let chain = Chain { node, incarnation };
                export.forks.push((chain, reader.rest().to_vec()));
            }
        }
    }
    let signatures: Vec<Check> = checks.iter().map(|(check, ..)| check.clone()).collect();
    let held = verify_all(&signatures, seed);
    match held.iter().position(|held| !held) {
        Some(index) => {
            let (_, seq, chain) = checks[index];
            Err(ExportError::Forged { chain, seq })
        }
        None => Ok(export),
    }
}

fn decode_run(
    network: NetworkId,
    record: &[u8],
    ops: &mut Vec<Op>,
) -> Result<Option<(Check, u64, Chain)>, ExportError> {
    let mut reader = Reader::new(record);
    let node = NodeId(reader.array("a run's node")?);
    let incarnation = u64::from_le_bytes(reader.array("a run's incarnation")?);
    let chain = Chain { node, incarnation };
    let first = reader.varint(u64::MAX - RUN_OPS_MAX as u64, "a run's first place")?;
    let mut previous = OpId(reader.array("the op before a run")?);
    let count = reader.varint(2 * RUN_OPS_MAX as u64, "the ops of a run")?;
    let bodies = (0..count)
        .map(|_| reader.sized(BODY_BYTES_MAX, "an op's body"))
        .collect::<Result<Vec<_>, _>>()?;
    let signature = Signature(reader.array::<SIGNATURE_BYTES>("a run's signature")?);
    reader.end()?;
    let mut last = None;
    for (index, body) in bodies.iter().enumerate() {
        let seq = first + index as u64;
        let slot = Slot { chain, seq, previous };
        let signature = (index + 1 == bodies.len()).then_some(signature);
        let op = Op::decode(network, slot, body.to_vec(), signature)?;
        previous = op.id();
        last = op.check().map(|check| (check, seq, chain));
        ops.push(op);
    }
    Ok(last)
}
