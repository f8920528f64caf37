//! What the fuzzer runs: for each decoder of the ledger a function that takes any bytes and checks what must
//! hold of them. `ledger/tests/corpus.rs` runs the same functions over the committed corpus.
//!
//! A decoder is total, so no bytes make it panic; canonical, so what it accepts re-encodes to the same bytes;
//! bounded, so what it accepts keeps the named bounds. [`receive()`] goes further: a replica takes whatever
//! peers may send, and its log keeps its invariants.
//!
//! A new decoder is a function here, a line in [`TARGETS`], a file in `fuzz_targets/` and its lines in
//! `Cargo.toml`.
#![allow(unreachable_pub, reason = "a module of a test as well as the root of a crate")]

mod receive;
mod script;

use ledger::admit::Verify;
use ledger::command::{self, AFTER_MAX, COMMAND_BYTES_MAX, SignedCommand, check_of};
use ledger::entry::{ENTRY_BYTES_MAX, Entry, EntryError};
use ledger::export;
use ledger::finality::checkpoint::{self, CERTIFICATE_BYTES_MAX, Certificate, Checkpoint};
use ledger::finality::recovery::{Admins, RECOVERY_BYTES_MAX, SignedRecovery};
use ledger::finality::vote::{MESSAGE_BYTES_MAX, Message, Record};
use ledger::finality::witness::WITNESSES_MAX;
use ledger::fork::PROOF_BYTES_MAX;
use ledger::genesis::{ADMINS_MAX, INVITATION_BYTES_MAX, PEERS_MAX, SignedInvitation};
use ledger::id::{NetworkId, NodeId, OpId, hash};
use ledger::journal::{JournalRecord, OUTCOME_BYTES_MAX};
use ledger::op::{BODY_BYTES_MAX, Body, Chain, DEPENDENCIES_MAX, ENTRIES_MAX, Op, Slot};
use ledger::report::Report;
use ledger::sync::{
    self, BRANCH_BYTES_MAX, FRAME_BYTES_MAX, Frame, HEADS_MAX, Mark, RUN_BYTES_MAX, RUN_OPS_MAX, Summary,
    TAG_BITS_MAX,
};
use ledger::want::{ForksTold, LISTED_MAX, NAMES_MAX};

pub use receive::receive;
pub use script::{OTHERWISE, Script, UNTOLD};

/// A target: its name, which is also that of its folder in `corpus/`, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("op", op),
    ("frame", frame),
    ("command", command),
    ("entry", entry),
    ("invitation", invitation),
    ("journal", journal),
    ("checkpoint", checkpoint),
    ("certificate", certificate),
    ("message", message),
    ("record", record),
    ("recovery", recovery),
    ("export", export),
    ("receive", receive),
];

const NETWORK: NetworkId = NetworkId([1; 32]);

/// An op's body: the framing of dependencies and entries, and of the commands carried in it.
pub fn op(bytes: &[u8]) {
    let slot = Slot {
        chain: Chain {
            node: NodeId([2; 32]),
            incarnation: 3,
        },
        seq: 4,
        previous: OpId([5; 32]),
    };
    let Ok(op) = Op::decode(NETWORK, slot, bytes.to_vec(), None) else {
        assert!(Body::decode(bytes).is_err());
        return;
    };
    let body = op.body();
    assert_eq!(body.encode(), bytes, "an op's body is canonical");
    assert_eq!(op.bytes(), bytes, "an op keeps its bytes");
    assert_eq!(op.id(), slot.id(NETWORK, bytes));
    assert!(bytes.len() <= BODY_BYTES_MAX);
    assert!(body.dependencies.len() <= DEPENDENCIES_MAX);
    assert!(body.dependencies.is_sorted_by(|a, b| a < b));
    assert!(body.entries.len() <= ENTRIES_MAX);
    let carries = body.entries.iter().filter(|entry| entry.is_carry()).count();
    if let Ok(checks) = ledger::admit::command_checks(NETWORK, &op) {
        assert_eq!(checks.len(), carries, "every carried command is checked");
    }
    body.entries.iter().for_each(read_entry);
}

/// A frame between replicas.
pub fn frame(bytes: &[u8]) {
    let Ok(frame) = Frame::decode(bytes) else { return };
    assert_eq!(frame.encode(), bytes, "a frame is canonical");
    assert!(bytes.len() <= FRAME_BYTES_MAX);
    match frame {
        Frame::Heads(heads) => {
            assert!(heads.heads.len() <= HEADS_MAX);
            let chains = heads.heads.iter().map(|(chain, _)| chain);
            assert!(chains.is_sorted_by(|a, b| a < b));
        }
        Frame::Hello(hello) => match hello.summary {
            Summary::Tags(tags) => {
                assert!(tags.len().is_power_of_two() && tags.len() <= 1 << TAG_BITS_MAX);
            }
            Summary::Since { marks, .. } => read_marks(&marks),
        },
        Frame::List(list) => {
            assert!(list.lacks.len() <= HEADS_MAX);
            read_marks(&list.marks);
            if let Some(parts) = list.parts {
                assert!(parts.iter().all(|part| part < 1 << parts.bits));
            }
        }
        Frame::Lacks(lacks) => assert!(lacks.lacks.len() <= HEADS_MAX),
        Frame::Announce(marks) | Frame::Graft(marks) => read_marks(&marks),
        Frame::Ops(ops) => {
            assert!(!ops.stretches.is_empty());
            let count: usize = ops.stretches.iter().map(|stretch| stretch.bodies.len()).sum();
            assert!((ops.stretches.len()..=RUN_OPS_MAX).contains(&count));
        }
        Frame::Run(run) | Frame::Branch(run) => {
            let size: usize = run.bodies.iter().map(Vec::len).sum();
            assert!((1..=RUN_OPS_MAX).contains(&run.bodies.len()));
            assert!(
                size <= if bytes[0] == 2 {
                    RUN_BYTES_MAX + BODY_BYTES_MAX
                } else {
                    BRANCH_BYTES_MAX
                }
            );
            assert!(run.first.checked_add(run.bodies.len() as u64).is_some());
        }
        Frame::Fork(proof) => {
            assert!(bytes.len() <= 1 + PROOF_BYTES_MAX);
            // Signatures are taken on trust here: what is left must not panic either.
            let _ = proof.verify(NETWORK, Verify::Trusting, [0; 32]);
            if let Ok(ops) = proof.ops(NETWORK) {
                assert!(ops.iter().filter(|op| *op.slot() == proof.slot()).count() == 2);
            }
        }
        Frame::Want(want) => assert!((1..=NAMES_MAX).contains(&want.names.len())),
        Frame::Forks(ForksTold::List(list)) => {
            assert!(list.forks.len() <= LISTED_MAX);
            let chains = list.after.iter().chain(list.forks.iter().map(|(chain, _)| chain));
            assert!(chains.is_sorted_by(|a, b| a < b));
        }
        _ => {}
    }
    assert_eq!(sync::VERSION, 2, "what is above is true of this version");
}

fn read_marks(marks: &[Mark]) {
    assert!(marks.len() <= HEADS_MAX);
    assert!(marks.is_sorted());
    assert!(marks.iter().all(|mark| mark.next > 0 || mark.mark == [0; 4]));
}

/// A signed command, known or not.
pub fn command(bytes: &[u8]) {
    let signature = check_of(NETWORK, bytes);
    let Ok(signed) = SignedCommand::decode(NETWORK, bytes) else {
        return;
    };
    let check = signature.expect("a command that is understood has a signature to check");
    assert_eq!((check.message, check.key), (signed.id().0, signed.command().key));
    assert_eq!(signed.bytes(), bytes);
    assert!(bytes.len() <= COMMAND_BYTES_MAX);
    assert!(signed.command().after.len() <= AFTER_MAX);
    let again = signed.command().clone().sign(NETWORK, &secret());
    let unsigned = bytes.len() - ledger::key::SIGNATURE_BYTES;
    assert_eq!(
        again.bytes()[..unsigned],
        bytes[..unsigned],
        "a command is canonical"
    );
}

/// Kind (2, little-endian), version (1) and content of an entry: a command's body or a report.
pub fn entry(bytes: &[u8]) {
    let Some((&[low, high, version], content)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    read_entry(&Entry {
        kind: u16::from_le_bytes([low, high]),
        version,
        bytes: content.to_vec(),
    });
}

fn read_entry(entry: &Entry) {
    let known = |kinds: &[(u16, u8)]| kinds.contains(&(entry.kind, entry.version));
    let unknown = EntryError::Unknown {
        kind: entry.kind,
        version: entry.version,
    };
    match command::Body::from_entry(entry) {
        Ok(body) => assert_eq!(body.to_entry(), *entry, "a command's body is canonical"),
        Err(error) => assert_eq!(error == unknown, !known(command::Body::KINDS)),
    }
    match Report::from_entry(entry) {
        Ok(report) => {
            let again = report.to_entry();
            if again.version == entry.version {
                assert_eq!(again, *entry, "a report is canonical");
            } else {
                assert!(again.kind == entry.kind && again.version > entry.version);
                assert_eq!(
                    Report::from_entry(&again),
                    Ok(report),
                    "an older version is read as the newest"
                );
            }
        }
        Err(error) => assert_eq!(error == unknown, !known(Report::KINDS)),
    }
    if known(command::Body::KINDS) || known(Report::KINDS) {
        assert!(entry.bytes.len() <= ENTRY_BYTES_MAX || Report::from_entry(entry).is_err());
    }
}

/// An invitation with the genesis in it.
pub fn invitation(bytes: &[u8]) {
    let Ok(signed) = SignedInvitation::decode(bytes) else {
        return;
    };
    let invitation = signed.invitation.clone();
    let genesis = &invitation.genesis;
    assert_eq!(signed.bytes(), bytes);
    assert!(bytes.len() <= INVITATION_BYTES_MAX);
    assert!((1..=ADMINS_MAX).contains(&genesis.admins.len()));
    assert!((1..=genesis.admins.len()).contains(&usize::from(genesis.admins_needed)));
    assert!(genesis.witnesses.len() <= WITNESSES_MAX);
    assert!(invitation.peers.len() <= PEERS_MAX);
    let own = signed.verify(genesis.network(), invitation.node);
    assert!(signed.verify(NETWORK, invitation.node).is_err());
    let again = invitation.sign(&secret());
    let unsigned = bytes.len() - ledger::key::SIGNATURE_BYTES;
    assert_eq!(
        again.bytes()[..unsigned],
        bytes[..unsigned],
        "an invitation is canonical"
    );
    if own.is_ok() {
        assert!(
            signed
                .invitation
                .genesis
                .admins
                .contains(&signed.invitation.admin)
        );
    }
}

/// A record of the journal.
pub fn journal(bytes: &[u8]) {
    let Ok(record) = JournalRecord::decode(bytes) else {
        return;
    };
    assert_eq!(record.encode(), bytes, "a journal record is canonical");
    assert!(record.outcome.len() <= OUTCOME_BYTES_MAX);
}

/// A checkpoint.
pub fn checkpoint(bytes: &[u8]) {
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        read_checkpoint(&checkpoint, bytes);
    }
}

fn read_checkpoint(checkpoint: &Checkpoint, bytes: &[u8]) {
    assert_eq!(checkpoint.encode(), bytes, "a checkpoint is canonical");
    assert!(checkpoint.heads.len() <= checkpoint::HEADS_MAX);
    assert!(checkpoint.heads.is_sorted_by(|(a, _), (b, _)| a < b));
    assert!(checkpoint.heads.iter().all(|(_, head)| head.next > 0));
    assert!(checkpoint.height > 0);
    if let Some(witnesses) = &checkpoint.next_witnesses {
        assert_eq!(witnesses.check(), Ok(()));
    }
}

/// A certificate.
pub fn certificate(bytes: &[u8]) {
    let Ok(certificate) = Certificate::decode(bytes) else {
        return;
    };
    assert_eq!(certificate.encode(), bytes, "a certificate is canonical");
    assert!(bytes.len() <= CERTIFICATE_BYTES_MAX);
    assert!(certificate.precommits.len() <= WITNESSES_MAX);
    assert!(certificate.precommits.is_sorted_by(|(a, _), (b, _)| a < b));
    read_checkpoint(&certificate.checkpoint, &certificate.checkpoint.encode());
    let witnesses = certificate.checkpoint.next_witnesses.clone().unwrap_or_default();
    if let Some(recovery) = &certificate.recovery {
        read_recovery(recovery, &recovery.encode());
    }
    if certificate
        .verify(NETWORK, &witnesses, &admins(), [0; 32])
        .is_ok()
    {
        let witnesses = certificate.voters(&witnesses);
        let signed = certificate.precommits.iter();
        let weight = signed.filter_map(|(index, _)| witnesses.at(usize::from(*index)));
        assert!(witnesses.is_quorum(weight.map(|it| u64::from(it.weight)).sum()));
    }
}

/// What a witness says to the others.
pub fn message(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    assert_eq!(message.encode(), bytes, "a message is canonical");
    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
    assert!(message.height() > 0);
    match message {
        Message::Proposal(proposal) => {
            read_checkpoint(&proposal.checkpoint, &proposal.checkpoint.encode());
            assert!(proposal.valid_round.is_none_or(|round| round < proposal.round));
        }
        Message::Vote(vote) => assert_eq!(vote.checks(NETWORK).key, vote.witness.into()),
        Message::Recovery(signed) => read_recovery(&signed, &bytes[1..]),
    }
}

/// What a witness must not forget.
pub fn record(bytes: &[u8]) {
    let Ok(record) = Record::decode(bytes) else { return };
    assert_eq!(record.encode(), bytes, "a record is canonical");
    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
    assert!(record.height() > 0);
}

/// Other witnesses, named by the admins.
pub fn recovery(bytes: &[u8]) {
    if let Ok(signed) = SignedRecovery::decode(bytes) {
        read_recovery(&signed, bytes);
    }
}

fn read_recovery(signed: &SignedRecovery, bytes: &[u8]) {
    assert_eq!(signed.encode(), bytes, "a recovery is canonical");
    assert!(bytes.len() <= RECOVERY_BYTES_MAX);
    assert_eq!(signed.recovery.witnesses.check(), Ok(()));
    assert!(!signed.recovery.witnesses.is_empty());
    assert!(signed.signatures.len() <= ADMINS_MAX);
    // One admin, of whom nobody has the key.
    let checks = signed.checks(NETWORK, &admins());
    assert!(checks.is_err() || signed.signatures.iter().any(|(place, _)| *place == 0));
}

/// What stands in an exported ledger between its head and its end.
pub fn export(bytes: &[u8]) {
    let head = [b"formation export 1\n", &NETWORK.0[..], bytes].concat();
    assert!(export::decode(NETWORK, &head, [0; 32]).is_err(), "it was cut");
    let end = [&[0, 32], &hash("formation 2026 export v1", &[&head])[..]].concat();
    let whole = [head, end].concat();
    // Who follows a fuzzer's ops finds none signed: what decodes is mostly refused for that.
    let Ok(export) = export::decode(NETWORK, &whole, [0; 32]) else {
        return;
    };
    let follows = |a: &Op, b: &Op| a.id() == b.slot().previous && a.slot().seq + 1 == b.slot().seq;
    let mut chains: Vec<&Op> = export.ops.iter().collect();
    chains.sort_by_key(|op| (op.slot().chain, op.slot().seq));
    let pairs = chains.windows(2);
    let mut within = pairs.filter(|pair| pair[0].slot().chain == pair[1].slot().chain);
    if within.all(|pair| follows(pair[0], pair[1])) {
        let again = export::encode(NETWORK, &export.ops, &export.certificates, &export.forks);
        let again = export::decode(NETWORK, &again, [0; 32]).expect("what was read can be written");
        assert!(again.ops.iter().eq(chains), "no op is lost");
        assert_eq!(
            (again.certificates, again.forks),
            (export.certificates, export.forks)
        );
    }
}

fn admins() -> Admins {
    Admins::from(receive::genesis())
}

/// A key that signs nothing that anybody checks.
fn secret() -> ledger::key::SecretKey {
    ledger::key::SecretKey::from_seed([7; 32])
}
