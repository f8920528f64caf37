//! How nodes hear of one another.

use reactors::node::{Input, PRESENCES_A_SECOND_MAX};
use reactors::observed::PRESENCE_TTL_MS;
use reactors::presence;

use crate::wire::{Net, id, secret};

/// First byte of a frame with a presence.
const TELLS_PRESENCE: u8 = 1;

fn presences(net: &mut Net, from: u8, to: u8) -> usize {
    let sent = &net.at(from).sent;
    sent.iter()
        .filter(|(peer, bytes)| *peer == id(to) && bytes[0] == TELLS_PRESENCE)
        .count()
}

#[test]
fn a_presence_spreads_to_nodes_that_are_not_connected_to_its_own() {
    let mut net = Net::of(3);
    net.connect(1, 2);
    net.connect(2, 3);
    net.pass(3_000);
    let now_ms = net.now_ms;
    for number in [1, 2, 3] {
        assert_eq!(net.at(number).sees_live(now_ms), [1, 2, 3], "node {number}");
    }
    net.cut(2, 3);
    net.pass(PRESENCE_TTL_MS + 1_500);
    let now_ms = net.now_ms;
    assert_eq!(net.at(1).sees_live(now_ms), [1, 2]);
    assert_eq!(net.at(3).sees_live(now_ms), [3]);
}

#[test]
fn a_presence_goes_neither_back_nor_to_whom_it_is_about_nor_twice() {
    let mut net = Net::of(3);
    for (a, b) in [(1, 2), (2, 3), (1, 3)] {
        net.connect(a, b);
    }
    net.pass(3_000);
    // Only node 1 speaks: what the others send now, they pass on.
    net.now_ms += 1_000;
    net.give(1, Input::Tick);
    let (record, to) = {
        let sent = std::mem::take(&mut net.at(1).sent);
        let told: Vec<_> = sent
            .into_iter()
            .filter(|(_, bytes)| bytes[0] == TELLS_PRESENCE)
            .collect();
        (told[0].1.clone(), told.len())
    };
    assert_eq!(to, 2);
    net.give(
        2,
        Input::Frame {
            from: id(1),
            bytes: record.clone(),
        },
    );
    assert_eq!((presences(&mut net, 2, 1), presences(&mut net, 2, 3)), (0, 1));
    net.give(
        2,
        Input::Frame {
            from: id(3),
            bytes: record,
        },
    );
    assert_eq!(
        (presences(&mut net, 2, 1), presences(&mut net, 2, 3)),
        (0, 1),
        "it is known by now"
    );
}

#[test]
fn a_member_that_floods_presences_is_passed_on_in_measure() {
    let mut net = Net::of(3);
    for (a, b) in [(1, 2), (2, 3), (1, 3)] {
        net.connect(a, b);
    }
    net.pass(3_000);
    let mut said = net.at(2).node.observed().presences[&id(2)].presence.clone();
    let network = net.at(2).node.replica().network();
    net.now_ms += 2_000;
    for seq in 1_000..1_100 {
        said.seq = seq;
        said.at_ms = net.now_ms;
        let record = presence::sign(&said, network, &secret(2), ledger::admit::Verify::Real);
        let bytes = [&[TELLS_PRESENCE][..], &record].concat();
        net.give(1, Input::Frame { from: id(2), bytes });
    }
    assert_eq!(presences(&mut net, 1, 3), PRESENCES_A_SECOND_MAX as usize);
    let refused = net
        .at(1)
        .node
        .observed()
        .refused_presences
        .get("too-often")
        .copied();
    assert_eq!(refused, Some(100 - u64::from(PRESENCES_A_SECOND_MAX)));
}
