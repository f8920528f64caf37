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

use ledger::admit::Verify;
use ledger::command::{self, AFTER_MAX, COMMAND_BYTES_MAX, SignedCommand, check_of};
use ledger::entry::{ENTRY_BYTES_MAX, Entry, EntryError};
use ledger::finality::checkpoint::{self, CERTIFICATE_BYTES_MAX, Certificate, Checkpoint};
use ledger::finality::recovery::{Admins, RECOVERY_BYTES_MAX, SignedRecovery};
use ledger::finality::vote::{MESSAGE_BYTES_MAX, Message, Record};
use ledger::finality::witness::WITNESSES_MAX;
use ledger::fork::PROOF_BYTES_MAX;
use ledger::genesis::{ADMINS_MAX, INVITATION_BYTES_MAX, PEERS_MAX, SignedInvitation};
use ledger::id::{NetworkId, NodeId, OpId};
use ledger::journal::{JournalRecord, OUTCOME_BYTES_MAX};
use ledger::op::{BODY_BYTES_MAX, Body, Chain, DEPENDENCIES_MAX, ENTRIES_MAX, Op, Slot};
use ledger::report::Report;
use ledger::sync::{self, BRANCH_BYTES_MAX, FRAME_BYTES_MAX, Frame, HEADS_MAX, RUN_BYTES_MAX, RUN_OPS_MAX};
use ledger::want::{ForksTold, LISTED_MAX, NAMES_MAX};

pub use receive::{Script, receive};

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
            let chains = heads
                .after
                .iter()
                .chain(heads.heads.iter().map(|(chain, _)| chain));
            assert!(chains.is_sorted_by(|a, b| a < b));
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
    assert_eq!(sync::VERSION, 1, "what is above is true of this version");
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
        Ok(report) => assert_eq!(report.to_entry(), *entry, "a report is canonical"),
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

fn admins() -> Admins {
    Admins::from(receive::genesis())
}

/// A key that signs nothing that anybody checks.
fn secret() -> ledger::key::SecretKey {
    ledger::key::SecretKey::from_seed([7; 32])
}
