//! Values of all that is encoded, drawn by chance.

use crate::scene::network;
use ledger::clock::Hlc;
use ledger::command::accounts::OpenAccount;
use ledger::command::admin::{Act, ApproveAct};
use ledger::command::agents::{RegisterAgent, Release, UpdateAgent};
use ledger::command::credits::{GrantRights, PlaceHold, ReleaseHold, TransferCredits};
use ledger::command::domains::{ClaimDomain, ReleaseDomain};
use ledger::command::images::BuildImage;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape, StartInstance, StopInstance};
use ledger::command::keys::{AddKey, Consent, RevokeKey, Scopes};
use ledger::command::{self};
use ledger::entry::Entry;
use ledger::finality::checkpoint::{Certificate, Checkpoint};
use ledger::finality::witness::{WEIGHT_MAX, WITNESSES_MAX, Witness, WitnessSet};
use ledger::id::{AccountId, AgentId, BuildId, CheckpointId, Digest, HoldId, InstanceId, NodeId, OpId};
use ledger::key::{PublicKey, SIGNATURE_BYTES, Signature};
use ledger::op::{Body, Chain, Dependency};
use ledger::report::credits::{Charge, EndHold, ReturnRights};
use ledger::report::images::{ImageBuilt, ImageFailed};
use ledger::report::instances::{CannotPlace, InstanceChanged, Phase, PlaceInstance};
use ledger::report::nodes::{AnnounceNode, Capacity, ChainEnd, OpenChain, RenewMembership, Roles};
use ledger::report::{Carry, Report};
use ledger::sync::{
    Anchor, Frame, HeadMark, Heads, Hello, Lacks, List, Mark, Ops, Parts, Run, Stretch, Summary,
};
use ledger::vector::Head;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

pub(crate) fn label() -> impl Strategy<Value = String> {
    "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?"
}

pub(crate) fn shape() -> impl Strategy<Value = Shape> {
    (1u8..=128, 128u32..=256_000, 1u16..).prop_map(|(vcpus, memory_mib, disk_gib)| Shape {
        vcpus,
        memory_mib,
        disk_gib,
    })
}

pub(crate) fn release() -> impl Strategy<Value = Release> {
    (".{0,40}", any::<[u8; 32]>(), shape(), option::of(1u16..)).prop_map(
        |(description, build, shape, port)| Release {
            description,
            build: BuildId(build),
            shape,
            port,
        },
    )
}

pub(crate) fn command_body() -> impl Strategy<Value = command::Body> {
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

pub(crate) fn add_key() -> impl Strategy<Value = AddKey> {
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

pub(crate) fn act() -> impl Strategy<Value = Act> {
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

pub(crate) fn phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Booted),
        Just(Phase::Serving),
        Just(Phase::Stopped),
        Just(Phase::Deleted),
        (".{0,40}", any::<Option<i32>>()).prop_map(|(reason, exit_code)| Phase::Failed { reason, exit_code }),
    ]
}

pub(crate) fn node_report() -> impl Strategy<Value = Report> {
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

pub(crate) fn body() -> impl Strategy<Value = Body> {
    let entry = (any::<u16>(), any::<u8>(), vec(any::<u8>(), 0..50));
    let entry = entry.prop_map(|(kind, version, bytes)| Entry { kind, version, bytes });
    let dependencies = proptest::collection::btree_set(any::<[u8; 16]>().prop_map(Dependency), 0..6);
    (any::<u64>(), dependencies, vec(entry, 0..5)).prop_map(|(hlc, dependencies, entries)| Body {
        hlc: Hlc(hlc),
        dependencies: dependencies.into_iter().collect(),
        entries,
    })
}

pub(crate) fn chain() -> impl Strategy<Value = Chain> {
    // Few nodes, so that some have several chains.
    (0u8..4, any::<u64>()).prop_map(|(node, incarnation)| Chain {
        node: NodeId([node; 32]),
        incarnation,
    })
}

pub(crate) fn marks() -> impl Strategy<Value = Vec<Mark>> {
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

pub(crate) fn talk() -> impl Strategy<Value = Frame> {
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

pub(crate) fn frame() -> impl Strategy<Value = Frame> {
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

pub(crate) fn witnesses() -> impl Strategy<Value = WitnessSet> {
    btree_map(any::<[u8; 32]>(), 1..=WEIGHT_MAX, 1..5).prop_map(|set| {
        let witness = |(node, weight)| Witness {
            node: NodeId(node),
            weight,
        };
        WitnessSet::new(set.into_iter().map(witness).collect()).unwrap()
    })
}

pub(crate) fn checkpoint() -> impl Strategy<Value = Checkpoint> {
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

pub(crate) fn certificate() -> impl Strategy<Value = Certificate> {
    let signature = vec(any::<u8>(), SIGNATURE_BYTES).prop_map(|bytes| Signature(bytes.try_into().unwrap()));
    let precommits = btree_map(0..WITNESSES_MAX as u8, signature, 0..5);
    (checkpoint(), any::<u32>(), precommits).prop_map(|(checkpoint, round, precommits)| Certificate {
        checkpoint,
        round,
        recovery: None,
        precommits: precommits.into_iter().collect(),
    })
}
