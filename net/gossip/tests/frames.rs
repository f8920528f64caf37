//! Frames: in order, bounded, each peer up once.

#![allow(clippy::unwrap_used)]

mod nodes;

use net_gossip::Event;
use nodes::{Node, QUIC, TCP, config, node, node_with, until};

async fn frames_go_both_ways_in_order(listen: &str) {
    let (mut a, mut b) = (node(1, listen).await, node(2, listen).await);
    assert_eq!(a.handle.dial(&b.address()).await.unwrap(), b.id());
    let (ida, idb) = (a.id(), b.id());
    a.up(idb).await;
    b.up(ida).await;
    for n in 0..300u32 {
        assert!(a.handle.send(idb, n.to_be_bytes().repeat(1 + n as usize)));
        assert!(
            b.handle
                .send(ida, vec![n as u8; 70_000 * usize::from(n.is_multiple_of(50))])
        );
    }
    for n in 0..300u32 {
        assert_eq!(b.frame(ida).await, n.to_be_bytes().repeat(1 + n as usize));
        assert_eq!(
            a.frame(idb).await,
            vec![n as u8; 70_000 * usize::from(n.is_multiple_of(50))]
        );
    }
    assert_eq!(a.handle.peers().len(), 1);
    assert!(a.handle.peers()[0].address.contains("127.0.0.1"));
}

#[tokio::test]
async fn frames_go_both_ways_in_order_over_quic() {
    frames_go_both_ways_in_order(QUIC).await;
}

#[tokio::test]
async fn frames_go_both_ways_in_order_over_tcp() {
    frames_go_both_ways_in_order(TCP).await;
}

#[tokio::test]
async fn the_node_id_is_the_public_key_of_the_seed() {
    assert_eq!(node(1, TCP).await.id(), net_gossip::node_id([1; 32]));
}

#[tokio::test]
async fn three_nodes_that_all_dial_each_other_see_each_other_up_once() {
    let mut nodes = [node(1, QUIC).await, node(2, TCP).await, node(3, QUIC).await];
    // A node dials what it speaks: all listen on one transport but speak both.
    for i in 0..3 {
        let others: Vec<&Node> = (0..3).filter(|j| *j != i).map(|j| &nodes[j]).collect();
        nodes[i].keep(&others);
    }
    let ids: Vec<_> = nodes.iter().map(Node::id).collect();
    for (i, node) in nodes.iter_mut().enumerate() {
        let mut missing: Vec<_> = (0..3).filter(|j| *j != i).map(|j| ids[j]).collect();
        while !missing.is_empty() {
            match node.next("PeerUp").await {
                Event::PeerUp { node, .. } => {
                    let before = missing.len();
                    missing.retain(|id| *id != node);
                    assert_eq!(missing.len() + 1, before, "up twice");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // Long enough for the doubles of the simultaneous dials to settle: many frames, each the only event.
    for round in 0..200u8 {
        for (i, node) in nodes.iter().enumerate() {
            for id in ids.iter().filter(|id| **id != node.id()) {
                assert!(node.handle.send(*id, vec![round, i as u8]));
            }
        }
        for (i, node) in nodes.iter_mut().enumerate() {
            for _ in 0..2 {
                match node.next("a frame").await {
                    Event::Frame { bytes, .. } => assert_ne!(bytes[1], i as u8),
                    other => panic!("round {round}: {other:?}"),
                }
            }
        }
    }
}

#[tokio::test]
async fn a_peer_that_sends_an_oversize_frame_is_dropped_and_shut_out() {
    let mut strict = config(1, QUIC);
    strict.frame_bytes_max = 1000;
    let (mut a, mut b) = (node_with(strict).await, node(2, QUIC).await);
    b.keep(&[&a]);
    let (ida, idb) = (a.id(), b.id());
    a.up(idb).await;
    b.up(ida).await;
    assert!(
        !a.handle.send(idb, vec![0; 1001]),
        "we do not send what we would not take"
    );
    assert!(b.handle.send(ida, vec![0; 1000]));
    assert!(b.handle.send(ida, vec![0; 1001]));
    assert_eq!(a.frame(idb).await.len(), 1000);
    a.down(idb).await;
    b.down(ida).await;
    assert_eq!(a.handle.counters().peers_dropped_oversize, 1);
    until("a redial is turned away", || {
        a.handle.counters().incoming_failed > 0
    })
    .await;
    assert!(a.handle.peers().is_empty());
}

#[tokio::test]
async fn a_caller_that_does_not_drain_makes_the_sender_drop_not_grow() {
    let (a, mut b) = (node(1, TCP).await, node(2, TCP).await);
    b.keep(&[&a]);
    b.up(a.id()).await;
    // Nobody drains a's events. Its readers wait, the streams fill, then b's queue does.
    let ida = a.id();
    until("a frame is refused", || !b.handle.send(ida, vec![0; 1 << 20])).await;
    let counters = b.handle.counters();
    assert!(counters.frames_dropped_queue_full > 0);
    assert!(b.handle.peers()[0].queued_bytes <= 16 << 20);
}

#[tokio::test]
async fn a_node_of_another_network_never_comes_up() {
    for listen in [QUIC, TCP] {
        let mut foreign = config(9, listen);
        foreign.network = [8; 32];
        let (mut a, mut b, mut x) = (
            node(1, listen).await,
            node(2, listen).await,
            node_with(foreign).await,
        );
        x.keep(&[&a]);
        a.keep(&[&x]);
        until("the stranger is dropped", || {
            a.handle.counters().peers_dropped_foreign + x.handle.counters().peers_dropped_foreign > 0
        })
        .await;
        // Those of our network come up meanwhile, and are all that does.
        a.keep(&[&x, &b]);
        a.up(b.id()).await;
        b.up(a.id()).await;
        assert!(a.seen.is_empty() && b.seen.is_empty());
        assert!(x.events.try_recv().is_err());
        assert!(!a.handle.send(x.id(), vec![1]));
    }
}
