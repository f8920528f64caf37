//! Every value has one encoding: what is written reads back, what reads re-encodes to the same bytes, and no
//! bytes make a decoder panic.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::clock::Hlc;
use ledger::command::accounts::OpenAccount;
use ledger::command::admin::{Act, ApproveAct};
use ledger::command::agents::{RegisterAgent, Release, UpdateAgent};
use ledger::command::credits::{GrantRights, PlaceHold, ReleaseHold, TransferCredits};
use ledger::command::domains::{ClaimDomain, ReleaseDomain};
use ledger::command::images::BuildImage;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape, StartInstance, StopInstance};
use ledger::command::keys::{AddKey, Consent, RevokeKey, Scopes};
use ledger::command::{self, Command, SignedCommand};
use ledger::entry::Entry;
use ledger::finality::checkpoint::{self, Certificate, Checkpoint};
use ledger::finality::witness::{WEIGHT_MAX, WITNESSES_MAX, Witness, WitnessSet};
use ledger::genesis::{Invitation, SignedInvitation};
use ledger::id::{
    AccountId, AgentId, BuildId, CheckpointId, CommandId, Digest, HoldId, InstanceId, NodeId, OpId,
};
use ledger::journal::{JournalRecord, OUTCOME_BYTES_MAX};
use ledger::key::{PublicKey, SIGNATURE_BYTES, Signature};
use ledger::op::{Body, Chain, Dependency};
use ledger::report::credits::{Charge, EndHold, ReturnRights};
use ledger::report::images::{ImageBuilt, ImageFailed};
use ledger::report::instances::{CannotPlace, InstanceChanged, Phase, PlaceInstance};
use ledger::report::nodes::{AnnounceNode, Capacity, ChainEnd, OpenChain, RenewMembership, Roles};
use ledger::report::upcast::AnnounceNodeV1;
use ledger::report::{Carry, Report};
use ledger::sync::{
    Anchor, Frame, HeadMark, Heads, Hello, Lacks, List, Mark, Ops, Parts, Run, Stretch, Summary,
};
use ledger::vector::Head;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use scene::network;

fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
}

fn shape() -> impl Strategy<Value = Shape> {
    (1u8..=128, 128u32..=256_000, 1u16..).prop_map(|(vcpus, memory_mib, disk_gib)| Shape {
        vcpus,
        memory_mib,
        disk_gib,
    })
}

fn release() -> impl Strategy<Value = Release> {
    (".{0,40}", any::<[u8; 32]>(), shape(), option::of(1u16..)).prop_map(
        |(description, build, shape, port)| Release {
            description,
            build: BuildId(build),
            shape,
            port,
        },
    )
}

fn command_body() -> impl Strategy<Value = command::Body> {
    let id = any::<[u8; 32]>;
    prop_oneof![
        label().prop_map(|name| OpenAccount { name }.into()),
        (label(), id(), 0u64..1 << 30, id()).prop_map(|(name, context, context_bytes, held_by)| BuildImage {
            name,
            context: Digest(context),
            context_bytes,
            held_by: NodeId(held_by)
        }
        .into()),
        (label(), release()).prop_map(|(name, release)| RegisterAgent { name, release }.into()),
        (id(), release()).prop_map(|(agent, release)| UpdateAgent {
            agent: AgentId(agent),
            release
        }
        .into()),
        (label(), option::of(id()), id(), shape(), option::of(1u16..)).prop_map(
            |(name, agent, build, shape, port)| LaunchInstance {
                name,
                agent: agent.map(AgentId),
                build: BuildId(build),
                shape,
                port
            }
            .into()
        ),
        id().prop_map(|id| StopInstance {
            instance: InstanceId(id)
        }
        .into()),
        id().prop_map(|id| StartInstance {
            instance: InstanceId(id)
        }
        .into()),
        id().prop_map(|id| DeleteInstance {
            instance: InstanceId(id)
        }
        .into()),
        (label(), id()).prop_map(|(name, agent)| ClaimDomain {
            name: format!("{name}.fog"),
            agent: AgentId(agent)
        }
        .into()),
        label().prop_map(|name| ReleaseDomain {
            name: format!("{name}.fog")
        }
        .into()),
        (id(), 1u64.., ".{0,40}").prop_map(|(to, amount, memo)| TransferCredits {
            to: AccountId(to),
            amount,
            memo
        }
        .into()),
        (id(), any::<u64>(), 1u64.., any::<u64>()).prop_map(|(node, incarnation, amount, expires_ms)| {
            GrantRights {
                node: NodeId(node),
                incarnation,
                amount,
                expires_ms,
            }
            .into()
        }),
        (id(), 1u64.., any::<u64>(), ".{0,40}").prop_map(|(node, amount, expires_ms, purpose)| PlaceHold {
            node: NodeId(node),
            amount,
            expires_ms,
            purpose
        }
        .into()),
        id().prop_map(|id| ReleaseHold { hold: HoldId(id) }.into()),
        add_key().prop_map(Into::into),
        id().prop_map(|key| RevokeKey {
            key: PublicKey::Ed25519(key)
        }
        .into()),
        (act(), any::<[u8; 16]>(), any::<u64>()).prop_map(|(act, salt, expires_ms)| ApproveAct {
            act,
            salt,
            expires_ms
        }
        .into()),
    ]
}

fn add_key() -> impl Strategy<Value = AddKey> {
    let scopes = (any::<[bool; 3]>(), option::of(any::<u64>()));
    let scopes = scopes.prop_map(|([account, deploy, domains], credits)| {
        let part = Scopes {
            account: false,
            deploy,
            domains,
            credits,
        };
        if account { Scopes::ALL } else { part }
    });
    let consent = any::<([u8; 32], [u8; 32])>().prop_map(|halves| {
        let bytes = [halves.0, halves.1].concat();
        Consent(bytes.try_into().unwrap())
    });
    (
        any::<[u8; 32]>(),
        scopes,
        option::of(any::<u64>()),
        label(),
        consent,
    )
        .prop_map(|(key, scopes, expires_ms, label, consent)| AddKey {
            key: PublicKey::Ed25519(key),
            scopes,
            expires_ms,
            label,
            consent,
        })
}

fn act() -> impl Strategy<Value = Act> {
    let id = any::<[u8; 32]>;
    prop_oneof![
        id().prop_map(|key| Act::AddAdmin(PublicKey::Ed25519(key))),
        id().prop_map(|key| Act::RemoveAdmin(PublicKey::Ed25519(key))),
        (1u8..=16).prop_map(Act::SetAdminsNeeded),
        (id(), option::of(any::<u64>())).prop_map(|(node, cutoff)| Act::RevokeNode {
            node: NodeId(node),
            cutoff
        }),
        id().prop_map(|node| Act::ReinstateNode(NodeId(node))),
        vec(id().prop_map(NodeId), 0..9)
            .prop_map(|nodes| Act::SetWitnesses(WitnessSet::of_equals(nodes).unwrap())),
        any::<(u16, u8)>().prop_map(|(kind, version)| Act::Activate { kind, version }),
        (id(), any::<u64>()).prop_map(|(account, amount)| Act::Mint {
            account: AccountId(account),
            amount
        }),
    ]
}

fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Booted),
        Just(Phase::Serving),
        Just(Phase::Stopped),
        Just(Phase::Deleted),
        (".{0,40}", any::<Option<i32>>()).prop_map(|(reason, exit_code)| Phase::Failed { reason, exit_code }),
    ]
}

fn node_report() -> impl Strategy<Value = Report> {
    let id = any::<[u8; 32]>;
    let end = (any::<u64>(), any::<u64>(), id());
    let end = end.prop_map(|(incarnation, seq, id)| ChainEnd {
        incarnation,
        seq,
        id: OpId(id),
    });
    let roles = any::<[bool; 5]>();
    let roles = roles.prop_map(|[gateway, compute, builder, edge, witness]| Roles {
        gateway,
        compute,
        builder,
        edge,
        witness,
    });
    let capacity = any::<(u32, u64, u64)>();
    let capacity = capacity.prop_map(|(vcpus, memory_mib, disk_gib)| Capacity {
        vcpus,
        memory_mib,
        disk_gib,
    });
    prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(|command| Carry { command }.into()),
        (vec(any::<u8>(), 0..200), option::of(end)).prop_map(|(invitation, before)| OpenChain {
            invitation,
            before
        }
        .into()),
        (
            label(),
            roles,
            vec(".{0,60}", 0..5),
            vec(any::<std::net::Ipv4Addr>(), 0..5),
            capacity,
            option::of(id())
        )
            .prop_map(|(name, roles, addresses, ipv4, capacity, payout)| AnnounceNode {
                name,
                roles,
                addresses,
                ipv4,
                capacity,
                payout: payout.map(AccountId)
            }
            .into()),
        (id(), id(), any::<u64>(), any::<u64>()).prop_map(|(build, image, bytes, took_ms)| ImageBuilt {
            build: BuildId(build),
            image: Digest(image),
            bytes,
            took_ms
        }
        .into()),
        (id(), ".{0,40}").prop_map(|(build, reason)| ImageFailed {
            build: BuildId(build),
            reason
        }
        .into()),
        (id(), 2u64.., id(), id(), any::<bool>()).prop_map(
            |(instance, generation, previous, node, first)| {
                let (instance, node) = (InstanceId(instance), NodeId(node));
                let (generation, previous) = if first {
                    (1, None)
                } else {
                    (generation, Some(OpId(previous)))
                };
                PlaceInstance {
                    instance,
                    generation,
                    previous,
                    node,
                }
                .into()
            }
        ),
        (id(), any::<u64>(), ".{0,40}").prop_map(|(instance, generation, reason)| CannotPlace {
            instance: InstanceId(instance),
            generation,
            reason
        }
        .into()),
        (id(), any::<u64>(), any::<u32>(), phase()).prop_map(|(instance, generation, start, phase)| {
            InstanceChanged {
                instance: InstanceId(instance),
                generation,
                start,
                phase,
            }
            .into()
        }),
        (id(), 1u64.., any::<u64>()).prop_map(|(hold, amount, number)| Charge {
            hold: HoldId(hold),
            amount,
            number
        }
        .into()),
        id().prop_map(|id| EndHold { hold: HoldId(id) }.into()),
        (id(), any::<u64>(), 1u64..).prop_map(|(account, incarnation, amount)| ReturnRights {
            account: AccountId(account),
            incarnation,
            amount
        }
        .into()),
        Just(RenewMembership {}.into()),
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let entry = (any::<u16>(), any::<u8>(), vec(any::<u8>(), 0..50));
    let entry = entry.prop_map(|(kind, version, bytes)| Entry { kind, version, bytes });
    let dependencies = proptest::collection::btree_set(any::<[u8; 16]>().prop_map(Dependency), 0..6);
    (any::<u64>(), dependencies, vec(entry, 0..5)).prop_map(|(hlc, dependencies, entries)| Body {
        hlc: Hlc(hlc),
        dependencies: dependencies.into_iter().collect(),
        entries,
    })
}

fn chain() -> impl Strategy<Value = Chain> {
    // Few nodes, so that some have several chains.
    (0u8..4, any::<u64>()).prop_map(|(node, incarnation)| Chain {
        node: NodeId([node; 32]),
        incarnation,
    })
}

fn marks() -> impl Strategy<Value = Vec<Mark>> {
    let mark = (
        0u64..1 << 48,
        prop_oneof![Just(0), any::<u64>()],
        any::<[u8; 4]>(),
    );
    let mark = mark.prop_map(|(short, next, mark)| Mark {
        short,
        next,
        mark: if next == 0 { [0; 4] } else { mark },
    });
    vec(mark, 0..20).prop_map(|mut marks| {
        marks.sort_unstable();
        marks
    })
}

fn talk() -> impl Strategy<Value = Frame> {
    let tags = (0u32..5, any::<u16>()).prop_map(|(bits, tag)| Summary::Tags(vec![tag; 1 << bits]));
    let since = (any::<u64>(), marks()).prop_map(|(talk, marks)| Summary::Since { talk, marks });
    let hello = (any::<[u8; 32]>(), any::<u64>(), prop_oneof![tags, since]);
    let hello = hello.prop_map(|(root, talk, summary)| {
        let network = network();
        Frame::Hello(Hello {
            network,
            root,
            talk,
            summary,
        })
    });
    let parts = (0u32..5, vec(any::<usize>(), 0..9)).prop_map(|(bits, picked)| {
        let mut parts = Parts::none(bits);
        picked.iter().for_each(|part| parts.insert(part % (1 << bits)));
        parts
    });
    let list = (
        any::<u64>(),
        vec(any::<u64>(), 0..9),
        any::<u64>(),
        proptest::option::of(parts),
        proptest::option::of(0u64..1 << 48),
        marks(),
    );
    let list = list.prop_map(|(talk, lacks, sent, parts, until, marks)| {
        Frame::List(List {
            talk,
            lacks,
            sent,
            parts,
            until,
            marks,
        })
    });
    let lacks = (any::<u64>(), vec(any::<u64>(), 0..9));
    prop_oneof![
        hello,
        list,
        lacks.prop_map(|(talk, lacks)| Frame::Lacks(Lacks { talk, lacks })),
        any::<u64>().prop_map(Frame::Level),
        marks().prop_map(Frame::Announce),
        marks().prop_map(Frame::Graft),
        Just(Frame::Prune),
        any::<[u8; 16]>().prop_map(|before| Frame::Unplaced(Dependency(before))),
    ]
}

fn frame() -> impl Strategy<Value = Frame> {
    let mark = (any::<u64>(), any::<[u8; 8]>());
    let mark = mark.prop_map(|(next, mark)| {
        if next == 0 {
            HeadMark::NOTHING
        } else {
            HeadMark { next, mark }
        }
    });
    let heads = proptest::collection::btree_map(chain(), mark, 0..20);
    let heads = heads.prop_map(|heads| {
        let heads = heads.into_iter().collect();
        Frame::Heads(Heads { heads })
    });
    let stretch = || {
        let bodies = vec(vec(any::<u8>(), 0..100), 1..10);
        let place = (chain(), 0u64..1 << 60, any::<[u8; 32]>());
        (place, any::<bool>(), bodies, vec(any::<u8>(), 64)).prop_map(|(place, whole, bodies, signature)| {
            let (chain, first, previous) = (place.0, place.1, OpId(place.2));
            let whole_anchor = Anchor::At {
                chain,
                first,
                previous,
            };
            Stretch {
                anchor: if whole {
                    whole_anchor
                } else {
                    Anchor::After(previous.into())
                },
                bodies,
                signature: Signature(signature.try_into().unwrap()),
            }
        })
    };
    let ops = (any::<bool>(), vec(stretch(), 1..4));
    let ops = ops.prop_map(|(live, stretches)| Frame::Ops(Ops { live, stretches }));
    let run = (any::<bool>(), chain(), 0u64..1 << 60, stretch());
    let run = run.prop_map(|(live, chain, first, stretch)| {
        Frame::Run(Run {
            live,
            chain,
            first,
            previous: OpId([9; 32]),
            bodies: stretch.bodies,
            signature: stretch.signature,
        })
    });
    prop_oneof![4 => talk(), 2 => heads, 2 => run, 4 => ops, 1 => Just(Frame::More), 1 => Just(Frame::Next)]
}

fn witnesses() -> impl Strategy<Value = WitnessSet> {
    btree_map(any::<[u8; 32]>(), 1..=WEIGHT_MAX, 1..5).prop_map(|set| {
        let witness = |(node, weight)| Witness {
            node: NodeId(node),
            weight,
        };
        WitnessSet::new(set.into_iter().map(witness).collect()).unwrap()
    })
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let root = any::<[u8; 32]>;
    let head = (1u64.., root()).prop_map(|(next, id)| Head { next, id: OpId(id) });
    let heads = btree_map(chain(), head, 0..8);
    let numbers = (1u64.., any::<u64>(), any::<u32>());
    (
        numbers,
        [root(), root(), root(), root()],
        heads,
        option::of(witnesses()),
    )
        .prop_map(
            |((height, time_ms, fold_version), [previous, order, state, forks], heads, next_witnesses)| {
                let first = height == 1;
                Checkpoint {
                    height,
                    previous: CheckpointId(if first { [0; 32] } else { previous }),
                    time_ms,
                    order,
                    state,
                    forks,
                    fold_version,
                    heads: heads.into_iter().collect(),
                    next_witnesses,
                }
            },
        )
}

fn certificate() -> impl Strategy<Value = Certificate> {
    let signature = vec(any::<u8>(), SIGNATURE_BYTES).prop_map(|bytes| Signature(bytes.try_into().unwrap()));
    let precommits = btree_map(0..WITNESSES_MAX as u8, signature, 0..5);
    (checkpoint(), any::<u32>(), precommits).prop_map(|(checkpoint, round, precommits)| Certificate {
        checkpoint,
        round,
        recovery: None,
        precommits: precommits.into_iter().collect(),
    })
}

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
