//! Who takes part.

use ledger::id::AccountId;
use ledger::report::Report;
use ledger::report::nodes::{AnnounceNode, Capacity, OpenChain, Roles};
use ledger::report::upcast::AnnounceNodeV1;
use projections::fold::Fold;

use crate::script::World;
use crate::{check, check_ops};

fn announcement(name: &str) -> AnnounceNode {
    AnnounceNode {
        name: name.into(),
        roles: Roles {
            gateway: true,
            compute: true,
            builder: true,
            edge: true,
        },
        addresses: vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()],
        ipv4: vec![[10, 0, 0, 1].into()],
        payout: None,
        capacity: Capacity {
            vcpus: 4,
            memory_mib: 4096,
            disk_gib: 40,
        },
    }
}

#[test]
fn a_node_joins_once_and_its_newest_incarnation_counts() {
    let (world, cloud) = check(
        |world| {
            world.say(1, announcement("one"));
            world.restart(1);
            (world.node(1), world.ops.len())
        },
        &["AnnounceNode: applied", "OpenChain: applied"],
    );
    let node = &cloud.nodes[&world.0];
    assert_eq!(node.incarnation, 2);
    assert!(node.started > node.joined);
    assert_eq!(
        node.announced,
        Some(announcement("one")),
        "what it said before it started again still holds"
    );
}

#[test]
fn the_newest_announcement_of_a_node_counts() {
    let (node, cloud) = check(
        |world| {
            world.say(1, announcement("one"));
            world.say(1, announcement("uno"));
            world.node(1)
        },
        &["AnnounceNode: applied", "AnnounceNode: applied"],
    );
    assert_eq!(cloud.nodes[&node].announced, Some(announcement("uno")));
}

#[test]
fn a_chain_opens_once_at_its_beginning() {
    check(
        |world| {
            world.say(
                1,
                OpenChain {
                    invitation: Vec::new(),
                    before: None,
                },
            );
        },
        &["OpenChain: the node that says so has no right to"],
    );
}

#[test]
fn a_stranger_announces_nothing() {
    let mut world = World::new();
    let stranger = world.add_node();
    let from = world.ops.len();
    world.say(stranger, announcement("me"));
    let cloud = check_ops(
        &world,
        from,
        &["AnnounceNode: the node that says so has no right to"],
    );
    assert_eq!(cloud.nodes.len(), 3);
}

#[test]
fn only_the_first_entry_of_a_chain_opens_it() {
    let mut world = World::empty();
    let node = world.add_node();
    let open = ledger::report::Report::from(OpenChain {
        invitation: Vec::new(),
        before: None,
    })
    .to_entry();
    world.op(node, vec![open.clone(), open]);
    check_ops(
        &world,
        0,
        &[
            "OpenChain: applied",
            "OpenChain: the node that says so has no right to",
        ],
    );
}

#[test]
fn announcements_of_both_versions_fold_in_one_log_and_the_newest_word_counts() {
    let payout = Some(AccountId([4; 32]));
    let paid = AnnounceNode {
        payout,
        ..announcement("paid")
    };
    let unpaid = AnnounceNode {
        payout: None,
        ..paid.clone()
    };
    let (old, new) = (
        AnnounceNodeV1::of(&paid).to_entry(),
        Report::from(paid.clone()).to_entry(),
    );
    assert_eq!((old.version, new.version), (1, 2));
    for (entries, expect) in [
        ([&old, &new], &paid),
        ([&new, &old], &unpaid),
        ([&old, &old], &unpaid),
    ] {
        let (world, cloud) = check(
            |world| {
                for entry in entries {
                    world.op(1, vec![entry.clone()]);
                }
                (world.node(1), world.genesis.clone(), world.ops.clone())
            },
            &["AnnounceNode: applied", "AnnounceNode: applied"],
        );
        let (node, genesis, ops) = world;
        assert_eq!(cloud.nodes[&node].announced.as_ref(), Some(expect));
        let mut fold = Fold::new(genesis);
        let ids: Vec<_> = ops.iter().map(|op| op.id()).collect();
        ops.into_iter().rev().for_each(|op| drop(fold.apply(vec![op])));
        assert_eq!(fold.cloud(), cloud, "in the other order of arrival");
        let kept: Vec<_> = fold.ops().iter().map(|folded| folded.op.id()).collect();
        assert_eq!(kept, ids, "an old op keeps its id");
        let entry = fold.ops().iter().find_map(|folded| {
            let entry = folded.op.body().entries.first()?;
            (entry.kind == 0x102).then_some(entry)
        });
        assert_eq!(entry, Some(entries[0]), "and its bytes");
    }
}
