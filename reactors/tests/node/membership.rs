//! Who is told, and who is heard.

use ledger::genesis::SignedInvitation;
use reactors::node::Input;

use crate::wire::{BEGIN_MS, Net, id, invitation, open_account, secret, submit};

/// First byte of a frame that shows an invitation.
const SHOWS_INVITATION: u8 = 2;

fn shown(invitation: &SignedInvitation) -> Vec<u8> {
    [&[SHOWS_INVITATION], invitation.bytes()].concat()
}

/// What node 1 told a stranger, besides its own invitation.
fn told(net: &mut Net, stranger: u8) -> Vec<Vec<u8>> {
    let sent = std::mem::take(&mut net.at(1).sent);
    let to_it = sent
        .into_iter()
        .filter(|(to, _)| *to == id(stranger))
        .map(|(_, bytes)| bytes);
    to_it
        .filter(|bytes| *bytes != shown(&invitation("home", 1)))
        .collect()
}

#[test]
fn a_stranger_is_told_nothing_but_the_nodes_own_invitation() {
    let mut net = Net::of(1);
    net.give(1, Input::PeerUp(id(9)));
    net.at(1).submit(1, &open_account(100, 1, "ann"), BEGIN_MS);
    net.pass(5_000);
    net.give(1, Input::PeerUp(id(9)));
    assert!(
        net.at(1).sent.iter().any(|(to, _)| *to == id(9)),
        "it introduces itself"
    );
    assert_eq!(told(&mut net, 9), Vec::<Vec<u8>>::new());
}

#[test]
fn a_stranger_is_not_heard() {
    let mut net = Net::of(2);
    // Node 2 is a member and says what members say; here it has not shown its invitation.
    net.at(2).submit(1, &open_account(100, 1, "ann"), BEGIN_MS);
    net.give(2, Input::PeerUp(id(1)));
    net.give(
        2,
        Input::Frame {
            from: id(1),
            bytes: shown(&invitation("home", 1)),
        },
    );
    net.give(2, Input::Tick);
    net.at(2).submit(2, &open_account(101, 1, "bob"), BEGIN_MS);
    let said: Vec<Vec<u8>> = net.at(2).sent.drain(..).map(|(_, bytes)| bytes).collect();
    let said: Vec<_> = said
        .into_iter()
        .filter(|bytes| bytes[0] != SHOWS_INVITATION)
        .collect();
    assert!(said.len() >= 3, "a greeting, a presence, an op: {}", said.len());
    net.give(1, Input::PeerUp(id(2)));
    let before = net.at(1).ops.len();
    for bytes in &said {
        net.give(
            1,
            Input::Frame {
                from: id(2),
                bytes: bytes.clone(),
            },
        );
    }
    assert_eq!(net.at(1).node.strangers(), said.len() as u64);
    assert_eq!(net.at(1).ops.len(), before);
    assert_eq!(net.at(1).sees_live(BEGIN_MS), Vec::<u8>::new());
    assert!(told(&mut net, 2).is_empty());
}

#[test]
fn one_with_another_networks_or_another_nodes_invitation_is_disconnected() {
    let mut forged = invitation("home", 9).bytes().to_vec();
    *forged.last_mut().expect("it has bytes") ^= 1;
    let mut unentitled = invitation("home", 9).invitation;
    unentitled.admin = secret(9).public();
    let cases = [
        (shown(&invitation("away", 9)), "is for network"),
        (shown(&invitation("home", 8)), "is for node"),
        (shown(&unentitled.sign(&secret(9))), "no admin of the network"),
        (
            [&[SHOWS_INVITATION][..], &forged].concat(),
            "signature does not hold",
        ),
        (vec![SHOWS_INVITATION, 1, 2, 3], "not an invitation"),
    ];
    for (frame, why) in cases {
        let mut net = Net::of(1);
        net.give(1, Input::PeerUp(id(9)));
        net.give(
            1,
            Input::Frame {
                from: id(9),
                bytes: frame,
            },
        );
        let broken = std::mem::take(&mut net.at(1).disconnected);
        assert!(
            matches!(&broken[..], [(peer, said)] if *peer == id(9) && said.contains(why)),
            "{why}: {broken:?}"
        );
        assert_eq!(net.at(1).node.peers().count(), 0);
        // The right one comes too late: it has to connect anew.
        net.give(
            1,
            Input::Frame {
                from: id(9),
                bytes: shown(&invitation("home", 9)),
            },
        );
        net.pass(3_000);
        assert!(told(&mut net, 9).is_empty());
    }
}

#[test]
fn an_invited_joiner_is_welcome_and_gets_the_log() {
    let mut net = Net::of(2);
    let early = open_account(100, 1, "ann");
    net.at(1).submit(1, &early, BEGIN_MS);
    net.connect(1, 2);
    net.pass(3_000);
    assert!(net.at(2).knows(early.id()));
    let late = open_account(101, 1, "bob");
    let now_ms = net.now_ms;
    net.at(2).submit(2, &late, now_ms);
    net.carry();
    assert!(net.at(1).knows(late.id()), "what a joiner says is heard at once");
    let hashes = [1, 2].map(|number| {
        net.at(number)
            .node
            .cloud()
            .nodes
            .keys()
            .copied()
            .collect::<Vec<_>>()
    });
    assert_eq!(hashes[0], hashes[1]);
    assert_eq!(hashes[0].len(), 2);
    assert!(net.at(2).node.observed().synced);
}

#[test]
fn a_lost_introduction_is_made_again() {
    let mut net = Net::of(2);
    net.connect(1, 2);
    net.at(1).sent.clear();
    net.at(2).sent.clear();
    net.pass(2_000);
    assert_eq!(net.at(1).node.cloud().nodes.len(), 2);
    assert_eq!(net.at(2).node.cloud().nodes.len(), 2);
}

#[test]
fn a_member_of_the_log_needs_no_invitation_when_it_comes_back() {
    let mut net = Net::of(2);
    net.connect(1, 2);
    net.pass(2_000);
    net.cut(1, 2);
    net.give(1, Input::PeerUp(id(2)));
    // Of two that meet only one greets at once; the other waits for that a little.
    net.now_ms += 400;
    net.give(1, Input::Tick);
    assert!(!told(&mut net, 2).is_empty(), "it is greeted soon");
}

#[test]
fn a_peer_that_breaks_the_protocol_is_not_heard_in_anything_until_it_is_up_again() {
    let mut net = Net::of(2);
    net.connect(1, 2);
    net.pass(2_000);
    net.give(
        1,
        Input::Frame {
            from: id(2),
            bytes: vec![0, 255, 255],
        },
    );
    assert_eq!(net.at(1).disconnected.len(), 1);
    let (before, now_ms) = (net.at(1).node.strangers(), net.now_ms);
    let command = open_account(100, 1, "ann");
    net.at(2).submit(1, &command, now_ms);
    net.pass(2_000);
    assert!(!net.at(1).knows(command.id()));
    assert!(
        net.at(1).node.strangers() > before,
        "its presences are not heard either"
    );
    net.cut(1, 2);
    net.connect(1, 2);
    net.pass(2_000);
    assert!(net.at(1).knows(command.id()));
}

#[test]
fn no_bytes_of_a_stranger_or_a_member_make_a_node_fail() {
    use proptest::prelude::*;
    let mut net = Net::of(2);
    net.connect(1, 2);
    net.pass(2_000);
    let config = ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let net = std::cell::RefCell::new(net);
    let frames = (
        any::<bool>(),
        0u8..4,
        proptest::collection::vec(any::<u8>(), 0..300),
    );
    runner
        .run(&frames, |(member, kind, bytes)| {
            let mut net = net.borrow_mut();
            let from = if member { id(2) } else { id(9) };
            net.give(1, Input::PeerUp(from));
            net.give(
                1,
                Input::Frame {
                    from,
                    bytes: [&[kind][..], &bytes].concat(),
                },
            );
            net.give(
                1,
                Input::Frame {
                    from,
                    bytes: Vec::new(),
                },
            );
            Ok(())
        })
        .expect("no case fails");
    let mut net = net.into_inner();
    let now_ms = net.now_ms;
    net.at(1).give(submit(7, &open_account(100, 1, "ann")), now_ms);
    assert!(net.at(1).replies.contains_key(&7));
}
