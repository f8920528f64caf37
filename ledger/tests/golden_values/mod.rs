//! One of each: the values whose bytes are the golden vectors.

use crate::scene::{START_MS, admin, network, secret};
use ledger::admit::Verify;
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
use ledger::export;
use ledger::finality::checkpoint::{Certificate, Checkpoint, VoteKind, order_root, vote_message};
use ledger::finality::recovery::{Recovery, SignedRecovery};
use ledger::finality::vote::{Message, Proposal, Record, Vote};
use ledger::finality::witness::{Witness, WitnessSet};
use ledger::fork::{Branch, ForkProof};
use ledger::genesis::{Invitation, SignedInvitation};
use ledger::id::{
    AccountId, AgentId, BuildId, CheckpointId, CommandId, Digest, HoldId, InstanceId, NodeId, OpId,
};
use ledger::key::Signature;
use ledger::op::{Body, Chain, Dependency, Op, Slot};
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
use ledger::want::{ForksList, ForksTold, Want};

pub(crate) fn commands() -> Vec<command::Body> {
    let shape = Shape {
        vcpus: 2,
        memory_mib: 512,
        disk_gib: 5,
    };
    let release = Release {
        description: "says hello".into(),
        build: BuildId([1; 32]),
        shape,
        port: Some(8080),
    };
    let name = || String::from("hello");
    vec![
        OpenAccount { name: "alice".into() }.into(),
        BuildImage {
            name: name(),
            context: Digest([2; 32]),
            context_bytes: 70_000,
            held_by: NodeId([3; 32]),
        }
        .into(),
        RegisterAgent {
            name: name(),
            release: release.clone(),
        }
        .into(),
        UpdateAgent {
            agent: AgentId([4; 32]),
            release: Release {
                port: None,
                ..release
            },
        }
        .into(),
        LaunchInstance {
            name: name(),
            agent: Some(AgentId([4; 32])),
            build: BuildId([1; 32]),
            shape,
            port: Some(80),
        }
        .into(),
        StopInstance {
            instance: InstanceId([5; 32]),
        }
        .into(),
        StartInstance {
            instance: InstanceId([5; 32]),
        }
        .into(),
        DeleteInstance {
            instance: InstanceId([5; 32]),
        }
        .into(),
        ClaimDomain {
            name: "hello.fog".into(),
            agent: AgentId([4; 32]),
        }
        .into(),
        ReleaseDomain {
            name: "hello.fog".into(),
        }
        .into(),
        TransferCredits {
            to: AccountId([9; 32]),
            amount: 1_000_000,
            memo: "for tea".into(),
        }
        .into(),
        GrantRights {
            node: NodeId([3; 32]),
            incarnation: 0x0102_0304_0506_0708,
            amount: 500,
            expires_ms: START_MS + 1,
        }
        .into(),
        PlaceHold {
            node: NodeId([3; 32]),
            amount: 300,
            expires_ms: START_MS + 2,
            purpose: "a task".into(),
        }
        .into(),
        ReleaseHold {
            hold: HoldId([10; 32]),
        }
        .into(),
    ]
}

/// Commands of a kind that has several shapes, each with a name.
pub(crate) fn shaped_commands() -> Vec<(&'static str, command::Body)> {
    let add = |scopes, expires_ms| {
        AddKey {
            key: secret(7).public(),
            scopes,
            expires_ms,
            label: "laptop".into(),
            consent: Consent::sign(network(), AccountId([9; 32]), &secret(7)),
        }
        .into()
    };
    let part = Scopes {
        account: false,
        deploy: true,
        domains: false,
        credits: Some(500),
    };
    let act = |act| {
        ApproveAct {
            act,
            salt: [3; 16],
            expires_ms: START_MS,
        }
        .into()
    };
    let witness = |node, weight| Witness {
        node: NodeId([node; 32]),
        weight,
    };
    let set = WitnessSet::new(vec![witness(1, 1), witness(2, 300)]).unwrap();
    let (node, key) = (NodeId([3; 32]), secret(8).public());
    vec![
        (" part", add(part, Some(START_MS))),
        (" all", add(Scopes::ALL, None)),
        ("", RevokeKey { key }.into()),
        (" add admin", act(Act::AddAdmin(key))),
        (" remove admin", act(Act::RemoveAdmin(key))),
        (" set admins needed", act(Act::SetAdminsNeeded(2))),
        (" revoke node", act(Act::RevokeNode { node, cutoff: None })),
        (
            " revoke node at",
            act(Act::RevokeNode {
                node,
                cutoff: Some(300),
            }),
        ),
        (" reinstate node", act(Act::ReinstateNode(node))),
        (" set witnesses", act(Act::SetWitnesses(set))),
        (
            " activate",
            act(Act::Activate {
                kind: 0x123,
                version: 2,
            }),
        ),
        (
            " mint",
            act(Act::Mint {
                account: AccountId([9; 32]),
                amount: 1_000_000,
            }),
        ),
    ]
}

pub(crate) fn reports() -> Vec<(&'static str, Report)> {
    let instance = InstanceId([5; 32]);
    let changed = |phase| {
        InstanceChanged {
            instance,
            generation: 3,
            start: 2,
            phase,
        }
        .into()
    };
    let failed = Phase::Failed {
        reason: "exit".into(),
        exit_code: Some(-1),
    };
    vec![
        (
            "",
            Carry {
                command: vec![1, 2, 3],
            }
            .into(),
        ),
        ("", {
            let before = Some(ChainEnd {
                incarnation: 9,
                seq: 300,
                id: OpId([6; 32]),
            });
            OpenChain {
                invitation: vec![7; 5],
                before,
            }
            .into()
        }),
        ("", {
            AnnounceNode {
                name: "node-a".into(),
                roles: Roles {
                    gateway: true,
                    compute: false,
                    builder: true,
                    edge: false,
                    witness: false,
                },
                addresses: vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()],
                ipv4: vec![std::net::Ipv4Addr::new(10, 0, 0, 1)],
                capacity: Capacity {
                    vcpus: 8,
                    memory_mib: 16_384,
                    disk_gib: 200,
                },
                payout: Some(AccountId([9; 32])),
            }
            .into()
        }),
        ("", {
            ImageBuilt {
                build: BuildId([1; 32]),
                image: Digest([8; 32]),
                bytes: 1 << 27,
                took_ms: 4_321,
            }
            .into()
        }),
        (
            "",
            ImageFailed {
                build: BuildId([1; 32]),
                reason: "no space".into(),
            }
            .into(),
        ),
        ("", {
            let previous = Some(OpId([6; 32]));
            PlaceInstance {
                instance,
                generation: 2,
                previous,
                node: NodeId([3; 32]),
            }
            .into()
        }),
        (
            "",
            CannotPlace {
                instance,
                generation: 1,
                reason: "no node has 128 GiB".into(),
            }
            .into(),
        ),
        (" booted", changed(Phase::Booted)),
        (" serving", changed(Phase::Serving)),
        (" stopped", changed(Phase::Stopped)),
        (" failed", changed(failed)),
        (" deleted", changed(Phase::Deleted)),
        (
            "",
            Charge {
                hold: HoldId([10; 32]),
                amount: 200,
                number: 3,
            }
            .into(),
        ),
        (
            "",
            EndHold {
                hold: HoldId([10; 32]),
            }
            .into(),
        ),
        (
            "",
            ReturnRights {
                account: AccountId([9; 32]),
                incarnation: 0x0102_0304_0506_0708,
                amount: 100,
            }
            .into(),
        ),
        ("", RenewMembership {}.into()),
    ]
}

/// Entries of versions that are read and no longer written, each with what it reads as.
pub(crate) fn old_versions() -> Vec<(Entry, Report)> {
    let old = |report| match report {
        Report::AnnounceNode(newest) => Some(AnnounceNodeV1::of(&newest)),
        _ => None,
    };
    reports()
        .into_iter()
        .filter_map(|(_, report)| old(report))
        .map(|old| {
            (
                old.to_entry(),
                ledger::report::upcast::announce_node_v1(old).into(),
            )
        })
        .collect()
}

pub(crate) fn signed_command() -> SignedCommand {
    let key = secret(42);
    let command = Command {
        key: key.public(),
        nonce: [11; 16],
        not_after_ms: START_MS,
        after: vec![CommandId([12; 32])],
        body: OpenAccount { name: "alice".into() }.into(),
    };
    command.sign(network(), &key)
}

pub(crate) fn signed_invitation() -> SignedInvitation {
    let peers = vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()];
    let invitation = Invitation {
        genesis: crate::scene::genesis(),
        node: crate::scene::node(1),
        admin: admin().public(),
        peers,
    };
    invitation.sign(&admin())
}

pub(crate) fn op() -> Op {
    let chain = Chain {
        node: crate::scene::node(1),
        incarnation: 0x0102_0304_0506_0708,
    };
    let slot = Slot {
        chain,
        seq: 300,
        previous: OpId([6; 32]),
    };
    let entries = vec![
        Report::from(Carry {
            command: signed_command().bytes().to_vec(),
        })
        .to_entry(),
        Entry {
            kind: 0x7777,
            version: 200,
            bytes: vec![1],
        },
    ];
    let dependencies = vec![Dependency([1; 16]), Dependency([2; 16])];
    let hlc = Hlc(Hlc::at_ms(START_MS).0 + 5);
    Op::sign(
        network(),
        slot,
        Body {
            hlc,
            dependencies,
            entries,
        },
        &secret(1),
    )
}

/// Frames of ops: one after an op that is known, one in full.
pub(crate) fn ops_frames() -> (Frame, Frame) {
    let run = crate::scene::run_of(&[op()], false);
    let (chain, first, previous) = (run.chain, run.first, run.previous);
    let frame = |anchor| {
        let stretch = Stretch {
            anchor,
            bodies: run.bodies.clone(),
            signature: run.signature,
        };
        let stretches = vec![stretch.clone(), stretch];
        Frame::Ops(Ops {
            live: true,
            stretches,
        })
    };
    let whole = Anchor::At {
        chain,
        first,
        previous,
    };
    (frame(Anchor::After(Dependency([6; 16]))), frame(whole))
}

pub(crate) fn frames() -> Vec<(&'static str, Frame)> {
    let chain = |node: u8, incarnation| Chain {
        node: NodeId([node; 32]),
        incarnation,
    };
    let heads = vec![
        (
            chain(1, 1),
            HeadMark {
                next: 300,
                mark: [1; 8],
            },
        ),
        (chain(1, 2), HeadMark::NOTHING),
        (
            chain(2, 9),
            HeadMark {
                next: 1,
                mark: [2; 8],
            },
        ),
    ];
    let marks = vec![
        Mark {
            short: 0x0102_0304_0506,
            next: 300,
            mark: [7; 4],
        },
        Mark {
            short: 0x0102_0304_0507,
            next: 0,
            mark: [0; 4],
        },
    ];
    let hello = |summary| {
        Frame::Hello(Hello {
            network: network(),
            root: [1; 32],
            talk: 2,
            summary,
        })
    };
    let mut parts = Parts::none(4);
    [0, 9, 15].iter().for_each(|part| parts.insert(*part));
    let (short, long) = ops_frames();
    vec![
        ("hello", hello(Summary::Tags(vec![1, 2, 3, 0xffee]))),
        (
            "hello since",
            hello(Summary::Since {
                talk: 1,
                marks: marks.clone(),
            }),
        ),
        ("heads", Frame::Heads(Heads { heads })),
        ("ops", short),
        ("ops in full", long),
        (
            "list",
            Frame::List(List {
                talk: 2,
                lacks: vec![0, 300],
                sent: 3,
                parts: Some(parts),
                until: Some(0xffff_ffff_ffff),
                marks: marks.clone(),
            }),
        ),
        (
            "lacks",
            Frame::Lacks(Lacks {
                talk: 2,
                lacks: vec![0, 1],
            }),
        ),
        ("announce", Frame::Announce(marks.clone())),
        ("graft", Frame::Graft(marks)),
        ("prune", Frame::Prune),
        ("unplaced", Frame::Unplaced(Dependency([5; 16]))),
        (
            "run",
            Frame::Run(Run {
                live: true,
                ..crate::scene::run_of(&[op()], false)
            }),
        ),
        ("more", Frame::More),
        ("next", Frame::Next),
        ("level", Frame::Level(2)),
        ("fork", Frame::Fork(fork())),
        (
            "want",
            Frame::Want(Want {
                back: true,
                names: vec![Dependency([1; 16]), Dependency([2; 16])],
            }),
        ),
        ("branch", Frame::Branch(crate::scene::run_of(&[op()], false))),
        ("forks root", Frame::Forks(ForksTold::Root([3; 32]))),
        (
            "forks list",
            Frame::Forks(ForksTold::List(ForksList {
                ask: true,
                after: Some(chain(0, 1)),
                last: true,
                forks: vec![(chain(1, 1), 300), (chain(1, 2), 0)],
            })),
        ),
    ]
}

/// Two branches that part at place 1, one of them of two ops.
pub(crate) fn fork() -> ForkProof {
    let (mut author, first) = crate::scene::Author::opened(1);
    let mut other = crate::scene::Author::opened(1).0;
    let short = [author.say("one")];
    let long = [other.say("another"), other.say("and on")];
    let branch = |ops: &[Op]| Branch {
        bodies: ops.iter().map(|op| op.bytes().to_vec()).collect(),
        signature: ops.last().unwrap().signature().unwrap(),
    };
    let invitation = crate::scene::invitation(1).bytes().to_vec();
    assert_eq!(short[0].slot().previous, first.id());
    ForkProof::new(*short[0].slot(), invitation, branch(&short), branch(&long)).unwrap()
}

pub(crate) fn recovery() -> SignedRecovery {
    let recovery = Recovery {
        after: CheckpointId([3; 32]),
        height: 2,
        attempt: 1,
        witnesses: witnesses(),
    };
    let signatures = vec![(0, recovery.sign(network(), &admin()))];
    SignedRecovery { recovery, signatures }
}

pub(crate) fn vote() -> Vote {
    Vote {
        kind: VoteKind::Precommit,
        height: 2,
        round: 200,
        recovery: Some(recovery().recovery.id(network())),
        checkpoint: Some(certificate().checkpoint.id(network())),
        witness: crate::scene::node(1),
        signature: Signature([0; 64]),
    }
    .signed(network(), &secret(1), Verify::Real)
}

pub(crate) fn proposal() -> Proposal {
    Proposal {
        round: 200,
        valid_round: Some(3),
        recovery: None,
        checkpoint: certificate().checkpoint,
        proposer: crate::scene::node(1),
        signature: Signature([0; 64]),
    }
    .signed(network(), &secret(1), Verify::Real)
}

pub(crate) fn messages() -> Vec<(&'static str, Message)> {
    vec![
        ("proposal", Message::Proposal(proposal())),
        ("vote", Message::Vote(vote())),
        ("recovery", Message::Recovery(recovery())),
    ]
}

pub(crate) fn records() -> Vec<(&'static str, Record)> {
    let lock = Record::Lock {
        round: 200,
        recovery: None,
        checkpoint: certificate().checkpoint,
    };
    vec![("vote", Record::Vote(vote())), ("lock", lock)]
}

pub(crate) fn witnesses() -> WitnessSet {
    let witness = |number, weight| Witness {
        node: crate::scene::node(number),
        weight,
    };
    WitnessSet::new(vec![witness(1, 1), witness(2, 300)]).unwrap()
}

pub(crate) fn certificate() -> Certificate {
    let chain = |node, incarnation| Chain {
        node: NodeId([node; 32]),
        incarnation,
    };
    let head = |next, id| Head {
        next,
        id: OpId([id; 32]),
    };
    let checkpoint = Checkpoint {
        height: 2,
        previous: CheckpointId([3; 32]),
        time_ms: START_MS,
        order: order_root([4; 32], [OpId([5; 32]), OpId([6; 32])]),
        state: [7; 32],
        forks: [8; 32],
        fold_version: 1,
        heads: vec![(chain(1, 2), head(300, 9)), (chain(2, 1), head(1, 10))],
        next_witnesses: Some(witnesses()),
    };
    let id = Some(checkpoint.id(network()));
    let message = vote_message(network(), VoteKind::Precommit, 2, 200, None, id);
    let number = |index| {
        [1, 2]
            .into_iter()
            .find(|number| witnesses().index_of(&crate::scene::node(*number)) == index)
    };
    let precommits = (0..2).map(|index| (index as u8, secret(number(Some(index)).unwrap()).sign(&message)));
    Certificate {
        checkpoint,
        round: 200,
        recovery: None,
        precommits: precommits.collect(),
    }
}

/// A ledger of one chain with two ops, a certificate and a proof.
pub(crate) fn exported() -> Vec<u8> {
    let (mut author, first) = crate::scene::Author::opened(1);
    let ops = [first, author.say("one")];
    let forks = [(fork().chain, fork().encode())];
    export::encode(network(), &ops, &[certificate()], &forks)
}
