//! Every value has one encoding: what is written reads back, what reads re-encodes to the same bytes, and no
//! bytes make a decoder panic.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;
mod strategies;

use ledger::command::accounts::OpenAccount;
use ledger::command::agents::{RegisterAgent, Release};
use ledger::command::credits::{GrantRights, PlaceHold, TransferCredits};
use ledger::command::domains::{ClaimDomain, ReleaseDomain};
use ledger::command::images::BuildImage;
use ledger::command::instances::{LaunchInstance, Shape};
use ledger::command::{self, Command, SignedCommand};
use ledger::entry::Entry;
use ledger::finality::checkpoint::{self, Certificate, Checkpoint};
use ledger::genesis::{Invitation, SignedInvitation};
use ledger::id::{
    AccountId, AgentId, BuildId, CheckpointId, CommandId, Digest, HoldId, InstanceId, NodeId, OpId,
};
use ledger::journal::{JournalRecord, OUTCOME_BYTES_MAX};
use ledger::key::{SIGNATURE_BYTES, Signature};
use ledger::op::{Body, Chain, Dependency};
use ledger::report::credits::{Charge, ReturnRights};
use ledger::report::images::ImageFailed;
use ledger::report::instances::PlaceInstance;
use ledger::report::nodes::{AnnounceNode, Capacity, OpenChain, Roles};
use ledger::report::upcast::AnnounceNodeV1;
use ledger::report::{Carry, Report};
use ledger::sync::{Anchor, Frame, HeadMark, Heads, List, Mark, Ops, Parts, Stretch};
use ledger::vector::Head;
use proptest::collection::vec;
use proptest::prelude::*;
use scene::network;
use strategies::*;

/// Bytes near valid ones: cut, changed, lengthened.
fn spoil(mut bytes: Vec<u8>, at: usize, with: u8, how: u8) -> Vec<u8> {
    let at = at % (bytes.len() + 1);
    match how % 4 {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, with),
        2 if at < bytes.len() => bytes[at] = with,
        _ => bytes.push(with),
    }
    bytes
}

/// A report framed again in the version that it was read from.
fn entry_like(report: &Report, entry: &Entry) -> Entry {
    match report {
        Report::AnnounceNode(newest) if entry.version == 1 => AnnounceNodeV1::of(newest).to_entry(),
        _ => report.to_entry(),
    }
}

/// What any bytes give: no panic, and nothing but canonical bytes is read.
fn decode_all(bytes: &[u8]) {
    if let Ok(frame) = Frame::decode(bytes) {
        assert_eq!(frame.encode(), bytes);
    }
    if let Ok(body) = Body::decode(bytes) {
        assert_eq!(body.encode(), bytes);
        for entry in &body.entries {
            if let Ok(report) = Report::from_entry(entry) {
                assert_eq!(entry_like(&report, entry), *entry);
            }
        }
    }
    if let Ok(command) = SignedCommand::decode(network(), bytes) {
        let again = command.command().body.to_entry();
        assert_eq!(command::Body::from_entry(&again).unwrap(), command.command().body);
    }
    let _ = command::check_of(network(), bytes);
    if let Ok(invitation) = SignedInvitation::decode(bytes) {
        assert_eq!(invitation.bytes(), bytes);
    }
    if let Ok(record) = JournalRecord::decode(bytes) {
        assert_eq!(record.encode(), bytes);
    }
    if let Ok(checkpoint) = Checkpoint::decode(bytes) {
        assert_eq!(checkpoint.encode(), bytes);
    }
    if let Ok(certificate) = Certificate::decode(bytes) {
        assert_eq!(certificate.encode(), bytes);
    }
    for (kind, version) in command::Body::KINDS.iter().chain(Report::KINDS) {
        let entry = Entry {
            kind: *kind,
            version: *version,
            bytes: bytes.to_vec(),
        };
        if let Ok(body) = command::Body::from_entry(&entry) {
            assert_eq!(body.to_entry(), entry);
        }
        if let Ok(report) = Report::from_entry(&entry) {
            assert_eq!(entry_like(&report, &entry), entry);
        }
    }
}

proptest! {
    #[test]
    fn a_command_reads_back(
        body in command_body(),
        nonce: [u8; 16],
        not_after_ms: u64,
        after in vec(any::<[u8; 32]>().prop_map(CommandId), 0..4),
    ) {
        let key = scene::secret(1);
        let command = Command { key: key.public(), nonce, not_after_ms, after, body };
        let signed = command.clone().sign(network(), &key);
        let read = SignedCommand::decode(network(), signed.bytes()).unwrap();
        prop_assert_eq!(read.command(), &command);
        prop_assert_eq!(&read, &signed);
        prop_assert_eq!(command::check_of(network(), signed.bytes()).unwrap().message, signed.id().0);
        prop_assert!(ledger::key::verify(&read.check()));
    }

    #[test]
    fn a_report_reads_back(report in node_report()) {
        prop_assert_eq!(Report::from_entry(&report.to_entry()), Ok(report));
    }

    #[test]
    fn a_body_reads_back(body in body()) {
        prop_assert_eq!(Body::decode(&body.encode()), Ok(body));
    }

    #[test]
    fn a_frame_reads_back(frame in frame()) {
        prop_assert_eq!(Frame::decode(&frame.encode()), Ok(frame));
    }

    #[test]
    fn an_invitation_reads_back(peers in vec(".{0,80}", 0..8)) {
        let (genesis, admin) = (scene::genesis(), scene::admin());
        let invitation = Invitation { genesis, node: scene::node(1), admin: admin.public(), peers };
        let signed = invitation.sign(&admin);
        prop_assert_eq!(SignedInvitation::decode(signed.bytes()), Ok(signed));
    }

    #[test]
    fn a_journal_record_reads_back(offset: u64, op: [u8; 32], entry: u32, outcome: Vec<u8>, turned: bool) {
        let record = JournalRecord { offset, op: OpId(op), entry, outcome, turned };
        prop_assert_eq!(JournalRecord::decode(&record.encode()), Ok(record));
    }

    #[test]
    fn a_checkpoint_and_a_certificate_read_back(certificate in certificate()) {
        let checkpoint = certificate.checkpoint.clone();
        prop_assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        prop_assert_eq!(Certificate::decode(&certificate.encode()), Ok(certificate));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..400)) {
        decode_all(&bytes);
    }

    #[test]
    fn no_spoilt_value_makes_a_decoder_panic(
        frame in frame(),
        body in body(),
        command in command_body(),
        report in node_report(),
        certificate in certificate(),
        spots in vec((any::<usize>(), any::<u8>(), any::<u8>()), 1..4),
    ) {
        let key = scene::secret(1);
        let (nonce, not_after_ms) = ([0; 16], 1);
        let command = Command { key: key.public(), nonce, not_after_ms, after: vec![], body: command };
        let command = command.sign(network(), &key).bytes().to_vec();
        let invitation = scene::invitation(1).bytes().to_vec();
        let certificates = [certificate.checkpoint.encode(), certificate.encode()];
        let others = [frame.encode(), body.encode(), command, report.to_entry().bytes, invitation];
        for mut bytes in others.into_iter().chain(certificates) {
            decode_all(&bytes);
            for (at, with, how) in &spots {
                bytes = spoil(bytes, *at, *with, *how);
                decode_all(&bytes);
            }
        }
    }
}

#[test]
fn values_over_their_bounds_are_refused() {
    let big = |length| "x".repeat(length);
    let shape = Shape {
        vcpus: 1,
        memory_mib: 128,
        disk_gib: 1,
    };
    let launch = |name: &str, shape: Shape, port| {
        let (agent, build) = (None, BuildId([0; 32]));
        command::Body::from(LaunchInstance {
            name: name.into(),
            agent,
            build,
            shape,
            port,
        })
    };
    let release = Release {
        description: big(5000),
        build: BuildId([0; 32]),
        shape,
        port: None,
    };
    let build = |context_bytes| {
        let (context, held_by) = (Digest([0; 32]), NodeId([0; 32]));
        command::Body::from(BuildImage {
            name: "a".into(),
            context,
            context_bytes,
            held_by,
        })
    };
    let transfer = |amount, memo: &str| {
        let (to, memo) = (AccountId([0; 32]), memo.into());
        command::Body::from(TransferCredits { to, amount, memo })
    };
    let hold = |amount, purpose: &str| {
        command::Body::from(PlaceHold {
            node: NodeId([0; 32]),
            amount,
            expires_ms: 1,
            purpose: purpose.into(),
        })
    };
    for body in [
        command::Body::from(OpenAccount { name: big(64) }),
        OpenAccount { name: "".into() }.into(),
        OpenAccount { name: "Upper".into() }.into(),
        OpenAccount { name: "-a".into() }.into(),
        RegisterAgent {
            name: "a".into(),
            release: release.clone(),
        }
        .into(),
        RegisterAgent {
            name: "a".into(),
            release: Release {
                description: "".into(),
                port: Some(0),
                ..release
            },
        }
        .into(),
        build((1 << 30) + 1),
        launch("a", Shape { vcpus: 0, ..shape }, None),
        launch("a", Shape { vcpus: 129, ..shape }, None),
        launch(
            "a",
            Shape {
                memory_mib: 127,
                ..shape
            },
            None,
        ),
        launch(
            "a",
            Shape {
                memory_mib: 256_001,
                ..shape
            },
            None,
        ),
        launch("a", Shape { disk_gib: 0, ..shape }, None),
        launch("a", shape, Some(0)),
        launch("a.b", shape, None),
        ClaimDomain {
            name: "a.com".into(),
            agent: AgentId([0; 32]),
        }
        .into(),
        ReleaseDomain {
            name: "a.b.fog".into(),
        }
        .into(),
        transfer(0, ""),
        transfer(1, &big(257)),
        GrantRights {
            node: NodeId([0; 32]),
            incarnation: 1,
            amount: 0,
            expires_ms: 1,
        }
        .into(),
        hold(0, ""),
        hold(1, &big(257)),
    ] {
        assert!(command::Body::from_entry(&body.to_entry()).is_err(), "{body:?}");
    }
    let announce = AnnounceNode {
        name: "a".into(),
        roles: Roles {
            gateway: true,
            compute: true,
            builder: true,
            edge: true,
            witness: true,
        },
        addresses: vec![],
        ipv4: vec![],
        capacity: Capacity::default(),
        payout: None,
    };
    let place = PlaceInstance {
        instance: InstanceId([0; 32]),
        generation: 2,
        previous: None,
        node: NodeId([0; 32]),
    };
    for report in [
        Report::from(ImageFailed {
            build: BuildId([0; 32]),
            reason: big(4097),
        }),
        AnnounceNode {
            addresses: vec![big(300)],
            ..announce.clone()
        }
        .into(),
        AnnounceNode {
            addresses: vec![String::new(); 17],
            ..announce
        }
        .into(),
        place.into(),
        PlaceInstance {
            generation: 0,
            ..place
        }
        .into(),
        PlaceInstance {
            generation: 1,
            previous: Some(OpId([0; 32])),
            ..place
        }
        .into(),
        OpenChain {
            invitation: vec![0; 9000],
            before: None,
        }
        .into(),
        Carry {
            command: vec![0; 32 * 1024 - 7],
        }
        .into(),
        Charge {
            hold: HoldId([0; 32]),
            amount: 0,
            number: 1,
        }
        .into(),
        ReturnRights {
            account: AccountId([0; 32]),
            incarnation: 1,
            amount: 0,
        }
        .into(),
    ] {
        assert!(Report::from_entry(&report.to_entry()).is_err(), "{report:?}");
    }
    let record = JournalRecord {
        offset: 0,
        op: OpId([0; 32]),
        entry: 0,
        outcome: vec![0; OUTCOME_BYTES_MAX + 1],
        turned: false,
    };
    assert!(JournalRecord::decode(&record.encode()).is_err());
    assert_eq!(SIGNATURE_BYTES, 64);
}

#[test]
fn heads_out_of_order_or_grouped_otherwise_are_refused() {
    let chain = |node: u8, incarnation| Chain {
        node: NodeId([node; 32]),
        incarnation,
    };
    let mark = HeadMark {
        next: 1,
        mark: [1; 8],
    };
    let heads = |chains: &[Chain]| {
        let heads = chains.iter().map(|chain| (*chain, mark)).collect();
        Frame::decode(&Frame::Heads(Heads { heads }).encode())
    };
    assert!(heads(&[chain(1, 1), chain(1, 2), chain(2, 1)]).is_ok());
    assert!(heads(&[chain(1, 2), chain(1, 1)]).is_err());
    assert!(heads(&[chain(1, 1), chain(1, 1)]).is_err());
    assert!(heads(&[chain(2, 1), chain(1, 1)]).is_err());
    let marks = |shorts: &[u64]| {
        let mark = |short: &u64| Mark {
            short: *short,
            next: 0,
            mark: [0; 4],
        };
        Frame::decode(&Frame::Graft(shorts.iter().map(mark).collect()).encode())
    };
    assert!(marks(&[1, 1, 2]).is_ok(), "two chains may have one short name");
    assert!(marks(&[2, 1]).is_err());
}

#[test]
fn parts_that_do_not_exist_are_refused() {
    let list = |set: u8| {
        let parts = Some(Parts {
            bits: 2,
            set: vec![set],
        });
        let list = List {
            talk: 0,
            lacks: vec![],
            sent: 3,
            parts,
            until: None,
            marks: vec![],
        };
        Frame::decode(&Frame::List(list).encode())
    };
    assert!(list(0b1111).is_ok());
    assert!(list(0b1_0000).is_err());
}

#[test]
fn a_frame_of_ops_without_ops_or_with_too_many_is_refused() {
    let frame = |stretches: usize, bodies: usize| {
        let stretch = Stretch {
            anchor: Anchor::After(Dependency([1; 16])),
            bodies: vec![vec![]; bodies],
            signature: Signature([0; 64]),
        };
        let stretches = vec![stretch; stretches];
        Frame::decode(
            &Frame::Ops(Ops {
                live: true,
                stretches,
            })
            .encode(),
        )
    };
    assert!(frame(0, 0).is_err());
    assert!(frame(1, 0).is_err());
    assert!(frame(8, 1024).is_ok());
    assert!(frame(9, 1024).is_err());
}

#[test]
fn a_checkpoint_out_of_order_or_of_nothing_is_refused() {
    let chain = |node: u8| Chain {
        node: NodeId([node; 32]),
        incarnation: 1,
    };
    let head = |next| Head {
        next,
        id: OpId([1; 32]),
    };
    let good = Checkpoint {
        height: 2,
        previous: CheckpointId([1; 32]),
        time_ms: 0,
        order: [0; 32],
        state: [0; 32],
        forks: [0; 32],
        fold_version: 1,
        heads: vec![(chain(1), head(1)), (chain(2), head(1))],
        next_witnesses: None,
    };
    let many = (0..=checkpoint::HEADS_MAX as u64).map(|incarnation| Chain {
        node: NodeId([1; 32]),
        incarnation,
    });
    let many: Vec<_> = many.map(|chain| (chain, head(1))).collect();
    let with_heads = |heads| Checkpoint {
        heads,
        ..good.clone()
    };
    assert!(Checkpoint::decode(&good.encode()).is_ok());
    assert!(Checkpoint::decode(&with_heads(many[1..].to_vec()).encode()).is_ok());
    for bad in [
        with_heads(vec![(chain(2), head(1)), (chain(1), head(1))]),
        with_heads(vec![(chain(1), head(1)), (chain(1), head(2))]),
        with_heads(vec![(chain(1), head(0))]),
        with_heads(many),
        Checkpoint {
            height: 0,
            ..good.clone()
        },
        Checkpoint {
            height: 1,
            ..good.clone()
        },
        Checkpoint {
            previous: CheckpointId([0; 32]),
            ..good.clone()
        },
    ] {
        assert!(Checkpoint::decode(&bad.encode()).is_err());
    }
    let signature = Signature([1; SIGNATURE_BYTES]);
    for precommits in [
        vec![(1, signature), (0, signature)],
        vec![(1, signature), (1, signature)],
        vec![(64, signature)],
    ] {
        let bad = Certificate {
            checkpoint: good.clone(),
            round: 0,
            recovery: None,
            precommits,
        };
        assert!(Certificate::decode(&bad.encode()).is_err());
    }
}
