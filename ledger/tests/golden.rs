//! The bytes of format v1, for ever: a vector for each kind and version, and for all that is hashed, signed,
//! sent or stored. A vector once in `fixtures/golden-v1.txt` never changes; a change here means that old logs
//! no longer read.
//!
//! A new kind or version adds a line: `FORMATION_WRITE_GOLDEN=1 cargo test -p ledger --test golden` writes the
//! file, and the diff must show added lines only.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod golden_values;
mod scene;

use std::collections::BTreeMap;
use std::path::PathBuf;

use data_encoding::HEXLOWER;
use golden_values::*;
use ledger::admit::Verify;
use ledger::command::{self, SignedCommand};
use ledger::entry::Entry;
use ledger::export;
use ledger::finality::checkpoint::{Certificate, Checkpoint, VoteKind, vote_message};
use ledger::finality::recovery::{Admins, SignedRecovery};
use ledger::finality::vote::{Message, Record};
use ledger::genesis::SignedInvitation;
use ledger::journal::{CheckpointTold, JournalRecord};
use ledger::op::Op;
use ledger::report::Report;
use ledger::sync::Frame;
use ledger::vector::{Head, Vector};
use scene::{START_MS, network};

fn vectors() -> BTreeMap<String, Vec<u8>> {
    let mut vectors = BTreeMap::new();
    let mut add = |name: String, bytes: Vec<u8>| {
        assert!(
            vectors.insert(name.clone(), bytes).is_none(),
            "{name} is there twice"
        );
    };
    for body in commands() {
        let entry = body.to_entry();
        add(
            format!("kind {:#05x} v{} {}", entry.kind, entry.version, body.name()),
            entry.bytes,
        );
    }
    for (which, body) in shaped_commands() {
        let entry = body.to_entry();
        add(
            format!(
                "kind {:#05x} v{} {}{which}",
                entry.kind,
                entry.version,
                body.name()
            ),
            entry.bytes,
        );
    }
    for (which, report) in reports() {
        let entry = report.to_entry();
        add(
            format!(
                "kind {:#05x} v{} {}{which}",
                entry.kind,
                entry.version,
                report.name()
            ),
            entry.bytes,
        );
    }
    for (entry, report) in old_versions() {
        let name = format!("kind {:#05x} v{} {}", entry.kind, entry.version, report.name());
        add(name, entry.bytes);
    }
    add("genesis".into(), ledger::codec::encode(&scene::genesis()));
    add("genesis id".into(), network().0.to_vec());
    add("invitation".into(), signed_invitation().bytes().to_vec());
    add("command".into(), signed_command().bytes().to_vec());
    add("command id".into(), signed_command().id().0.to_vec());
    let op = op();
    add("op body".into(), op.bytes().to_vec());
    add("op id".into(), op.id().0.to_vec());
    add("op signature".into(), op.signature().unwrap().0.to_vec());
    for (name, frame) in frames() {
        add(format!("frame {name}"), frame.encode());
    }
    let mut vector = Vector::default();
    vector.advance(
        op.slot().chain,
        Head {
            next: 301,
            id: op.id(),
        },
    );
    add("vector root".into(), vector.root().to_vec());
    let record = JournalRecord {
        offset: 1000,
        op: op.id(),
        entry: 1,
        outcome: vec![1, 2, 3],
        turned: true,
    };
    add("journal record".into(), record.encode());
    let certificate = certificate();
    let told = CheckpointTold {
        height: 2,
        time_ms: START_MS,
        ops: 300,
    };
    let id = certificate.checkpoint.id(network());
    let record = JournalRecord::of_checkpoint(1001, id, &told);
    assert_eq!(record.checkpoint(), Some((id, told)));
    add("journal checkpoint".into(), record.encode());
    add("export".into(), exported());
    add("checkpoint".into(), certificate.checkpoint.encode());
    add("checkpoint id".into(), id.0.to_vec());
    add("certificate".into(), certificate.encode());
    let vote = |kind, about| vote_message(network(), kind, 2, 200, None, about).to_vec();
    add("prevote id".into(), vote(VoteKind::Prevote, Some(id)));
    add("precommit of nothing id".into(), vote(VoteKind::Precommit, None));
    let recovered = Certificate {
        recovery: Some(recovery()),
        ..certificate
    };
    add("certificate recovered".into(), recovered.encode());
    add("recovery".into(), recovery().encode());
    add("recovery id".into(), recovery().recovery.id(network()).0.to_vec());
    add("proposal id".into(), proposal().message(network()).to_vec());
    for (name, message) in messages() {
        add(format!("message {name}"), message.encode());
    }
    for (name, record) in records() {
        add(format!("record {name}"), record.encode());
    }
    vectors
}

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden-v1.txt")
}

fn fixtures() -> BTreeMap<String, Vec<u8>> {
    let text = std::fs::read_to_string(file()).unwrap();
    let line = |line: &str| {
        let (name, hex) = line.split_once(" = ").unwrap();
        (name.to_string(), HEXLOWER.decode(hex.as_bytes()).unwrap())
    };
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(line)
        .collect()
}

#[test]
fn the_bytes_are_those_of_the_fixtures() {
    let vectors = vectors();
    if std::env::var_os("FORMATION_WRITE_GOLDEN").is_some() {
        let line = |(name, bytes): (&String, &Vec<u8>)| format!("{name} = {}\n", HEXLOWER.encode(bytes));
        let text: String = vectors.iter().map(line).collect();
        let head = "# Format v1. A line once here never changes; see tests/golden.rs.\n";
        // Renamed into place, since the other tests read the file meanwhile.
        let draft = file().with_extension("draft");
        std::fs::write(&draft, format!("{head}{text}")).unwrap();
        std::fs::rename(draft, file()).unwrap();
    }
    let fixtures = fixtures();
    for (name, bytes) in &vectors {
        assert_eq!(
            fixtures.get(name).map(|b| HEXLOWER.encode(b)),
            Some(HEXLOWER.encode(bytes)),
            "{name}"
        );
    }
    assert_eq!(
        fixtures.len(),
        vectors.len(),
        "every fixture is still made by this test"
    );
}

#[test]
fn every_kind_and_version_has_a_fixture() {
    let fixtures = fixtures();
    for (kind, version) in command::Body::KINDS.iter().chain(Report::KINDS) {
        let prefix = format!("kind {kind:#05x} v{version} ");
        assert!(
            fixtures.keys().any(|name| name.starts_with(&prefix)),
            "no fixture for {prefix}"
        );
    }
}

#[test]
fn the_fixtures_read_back() {
    let fixtures = fixtures();
    let entry = |body: Entry, name: String| Entry {
        bytes: fixtures[&name].clone(),
        ..body
    };
    for body in commands() {
        let made = body.to_entry();
        let name = format!("kind {:#05x} v{} {}", made.kind, made.version, body.name());
        assert_eq!(command::Body::from_entry(&entry(made, name)), Ok(body));
    }
    for (which, body) in shaped_commands() {
        let made = body.to_entry();
        let name = format!("kind {:#05x} v{} {}{which}", made.kind, made.version, body.name());
        assert_eq!(command::Body::from_entry(&entry(made, name)), Ok(body));
    }
    for (which, report) in reports() {
        let made = report.to_entry();
        let name = format!(
            "kind {:#05x} v{} {}{which}",
            made.kind,
            made.version,
            report.name()
        );
        assert_eq!(Report::from_entry(&entry(made, name)), Ok(report));
    }
    for (old, report) in old_versions() {
        let name = format!("kind {:#05x} v{} {}", old.kind, old.version, report.name());
        assert_eq!(Report::from_entry(&entry(old, name)), Ok(report));
    }
    assert_eq!(
        SignedCommand::decode(network(), &fixtures["command"]),
        Ok(signed_command())
    );
    assert!(ledger::key::verify(&signed_command().check()));
    let invitation = SignedInvitation::decode(&fixtures["invitation"]).unwrap();
    assert_eq!(invitation.verify(network(), scene::node(1)), Ok(()));
    let read = Op::decode(
        network(),
        *op().slot(),
        fixtures["op body"].clone(),
        op().signature(),
    )
    .unwrap();
    assert_eq!(read, op());
    assert!(ledger::key::verify(&read.check().unwrap()));
    for (name, frame) in frames() {
        assert_eq!(Frame::decode(&fixtures[&format!("frame {name}")]), Ok(frame));
    }
    assert_eq!(
        JournalRecord::decode(&fixtures["journal record"]).unwrap().offset,
        1000
    );
    let read = export::decode(network(), &fixtures["export"], [0; 32]).unwrap();
    assert_eq!((read.ops.len(), read.certificates), (2, vec![certificate()]));
    assert_eq!(read.forks[0].0, fork().chain);
    for (name, message) in messages() {
        assert_eq!(
            Message::decode(&fixtures[&format!("message {name}")]),
            Ok(message)
        );
    }
    for (name, record) in records() {
        assert_eq!(Record::decode(&fixtures[&format!("record {name}")]), Ok(record));
    }
    let admins = Admins::from(&scene::genesis());
    let read = SignedRecovery::decode(&fixtures["recovery"]).unwrap();
    assert_eq!(read.verify(network(), &admins), Ok(()));
    assert!(ledger::key::verify(&vote().checks(network())));
    assert!(ledger::key::verify(&proposal().checks(network())));
    assert_eq!(fork().verify(network(), Verify::Real, [0; 32]), Ok(()));
    let read = Certificate::decode(&fixtures["certificate"]).unwrap();
    assert_eq!(read, certificate());
    assert_eq!(read.verify(network(), &witnesses(), &admins, [0; 32]), Ok(()));
    assert_eq!(Checkpoint::decode(&fixtures["checkpoint"]), Ok(read.checkpoint));
}
