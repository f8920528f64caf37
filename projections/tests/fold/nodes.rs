//! Who takes part.

use ledger::report::nodes::{AnnounceNode, Capacity, OpenChain, Roles};

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
            witness: true,
        },
        addresses: vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()],
        ipv4: vec![[10, 0, 0, 1].into()],
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
