//! Lives of peers: gone, back, restarted without a word.

#![allow(clippy::unwrap_used)]

mod nodes;

use std::time::{Duration, Instant};

use nodes::{Node, QUIC, TCP, config, node, node_with};

#[tokio::test]
async fn a_peer_that_stops_is_down_and_up_again_when_it_is_back() {
    for listen in [QUIC, TCP] {
        let (mut a, mut b) = (node(1, listen).await, node(2, listen).await);
        a.keep(&[&b]);
        let (ida, idb) = (a.id(), b.id());
        a.up(idb).await;
        b.up(ida).await;
        let (address, start) = (b.address(), Instant::now());
        b.handle.shutdown().await;
        a.down(idb).await;
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "a goodbye is noticed at once"
        );
        assert!(!a.handle.send(idb, vec![1]));

        let mut back = node(2, &address).await;
        a.up(idb).await;
        back.up(ida).await;
        assert!(a.handle.send(idb, b"again".to_vec()));
        assert_eq!(back.frame(ida).await, b"again");
    }
}

/// A runtime that ends without waiting for anything.
struct Abrupt(Option<tokio::runtime::Runtime>);

impl Drop for Abrupt {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Starts a node in a runtime of its own, which can be torn down without a goodbye.
fn in_own_runtime(seed: u8, listen: String, keep: Vec<([u8; 32], Vec<String>)>) -> (Abrupt, Node) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let node = runtime.block_on(node(seed, &listen));
        node.handle.keep(keep);
        (Abrupt(Some(runtime)), node)
    })
    .join()
    .unwrap()
}

#[tokio::test]
async fn a_peer_killed_without_a_word_comes_up_again_as_a_new_life() {
    for listen in [QUIC, TCP] {
        let mut a = node(1, listen).await;
        let (ida, at) = (a.id(), a.address());
        let kept = vec![(ida, vec![at])];
        let (runtime, mut b) = in_own_runtime(2, listen.to_owned(), kept.clone());
        let (idb, address) = (b.id(), b.address());
        a.up(idb).await;
        b.up(ida).await;
        drop(runtime);
        drop(b);
        // It comes back on the same port before a silent connection would be missed, and dials.
        let (_runtime, mut back) = in_own_runtime(2, address, kept);
        let start = Instant::now();
        a.down(idb).await;
        a.up(idb).await;
        assert!(
            start.elapsed() < Duration::from_secs(8),
            "by the new life, not by the silence of the old"
        );
        back.up(ida).await;
        assert!(back.handle.send(ida, b"new life".to_vec()));
        assert_eq!(a.frame(idb).await, b"new life");
        assert!(a.handle.send(idb, b"seen".to_vec()));
        assert_eq!(back.frame(ida).await, b"seen");
    }
}

#[tokio::test]
async fn a_kept_peer_that_starts_later_is_found() {
    let mut a = node(1, QUIC).await;
    let probe = node(2, QUIC).await;
    let (idb, address) = (probe.id(), probe.address());
    probe.handle.shutdown().await;
    drop(probe);
    a.handle.keep(vec![(idb, vec![address.clone()])]);
    nodes::until("a dial fails", || a.handle.counters().dials_failed > 0).await;
    let _b = node_with(config(2, &address)).await;
    a.up(idb).await;
}

#[tokio::test]
async fn an_address_that_is_none_is_said_so() {
    let a = node(1, QUIC).await;
    let error = a.handle.dial("example.org:4100").await.unwrap_err().to_string();
    assert!(
        error.starts_with("example.org:4100 is no multiaddress such as"),
        "{error}"
    );
    let error = a
        .handle
        .dial("/ip4/127.0.0.1/tcp/1")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no node answered at /ip4/127.0.0.1/tcp/1"),
        "{error}"
    );
    assert!(error.contains("refused"), "{error}");
    let taken = config(3, &a.address().replace("127.0.0.1", "127.0.0.300"));
    assert!(net_gossip::start(taken).await.is_err());
    let taken = net_gossip::start(config(3, &a.address()))
        .await
        .unwrap_err()
        .to_string();
    assert!(taken.contains("in use"), "{taken}");
}
