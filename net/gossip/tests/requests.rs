//! Requests: answered, refused, bounded, timed.

#![allow(clippy::unwrap_used)]

mod nodes;

use std::time::Duration;

use net_gossip::{Handle, RequestError};
use nodes::{QUIC, TCP, config, node, node_with};

const SOON: Duration = Duration::from_secs(30);

async fn pair(listen: &str) -> (Handle, Handle) {
    let (mut a, mut b) = (node(1, listen).await, node(2, listen).await);
    a.keep(&[&b]);
    a.up(b.id()).await;
    b.up(a.id()).await;
    (a.answer_all(), b.answer_all())
}

#[tokio::test]
async fn a_request_has_an_answer_or_a_refusal_both_ways() {
    for listen in [QUIC, TCP] {
        let (a, b) = pair(listen).await;
        for (from, to) in [(&a, &b), (&b, &a)] {
            let answer = from
                .request(to.node(), "reverse", b"abc".to_vec(), SOON)
                .await
                .unwrap();
            assert_eq!(answer, b"cba");
            let big: Vec<u8> = (0..2u32 << 20).map(|n| n as u8).collect();
            let answer = from
                .request(to.node(), "reverse", big.clone(), SOON)
                .await
                .unwrap();
            assert!(answer.iter().eq(big.iter().rev()));
            let refusal = from
                .request(to.node(), "nonsense", vec![], SOON)
                .await
                .unwrap_err();
            assert!(matches!(refusal, RequestError::Refused(ref why) if why == "no service nonsense"));
        }
        assert_eq!(b.counters().requests_served, 3);
    }
}

#[tokio::test]
async fn two_hundred_requests_at_once_are_all_answered() {
    let (a, b) = pair(QUIC).await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..200u32 {
        let (a, node) = (a.clone(), b.node());
        all.spawn(async move {
            let body = n.to_be_bytes().repeat(1000);
            let answer = a.request(node, "reverse", body.clone(), SOON).await;
            (answer.map_err(|error| error.to_string()), body)
        });
    }
    while let Some(done) = all.join_next().await {
        let (answer, body) = done.unwrap();
        assert!(answer.unwrap().iter().eq(body.iter().rev()));
    }
}

#[tokio::test]
async fn a_request_ends_in_time_and_names_its_bounds() {
    let (a, b) = pair(TCP).await;
    let slow = a
        .request(b.node(), "never", vec![], Duration::from_millis(300))
        .await;
    assert!(matches!(slow, Err(RequestError::Timeout { after_ms: 300 })));
    let large = a.request(b.node(), "reverse", vec![0; (2 << 20) + 1], SOON).await;
    assert!(matches!(
        large,
        Err(RequestError::TooLarge { max: 0x20_0000, .. })
    ));
    let nobody = a.request([0; 32], "reverse", vec![], SOON).await;
    assert!(matches!(nobody, Err(RequestError::NotConnected)));
    let unnamed = a.request(b.node(), "", vec![], SOON).await;
    assert!(matches!(unnamed, Err(RequestError::Service)));
}

#[tokio::test]
async fn a_request_over_the_other_ends_bound_is_closed_and_frames_go_on() {
    let mut strict = config(2, QUIC);
    strict.request_bytes_max = 100;
    let (mut a, mut b) = (node(1, QUIC).await, node_with(strict).await);
    a.keep(&[&b]);
    let (ida, idb) = (a.id(), b.id());
    a.up(idb).await;
    b.up(ida).await;
    let refused = a.handle.request(idb, "reverse", vec![0; 200_000], SOON).await;
    assert!(matches!(refused, Err(RequestError::Broken(_))), "{refused:?}");
    assert!(a.handle.send(idb, b"still here".to_vec()));
    assert_eq!(b.frame(ida).await, b"still here");
    assert_eq!(b.handle.counters().requests_refused_malformed, 1);
}
