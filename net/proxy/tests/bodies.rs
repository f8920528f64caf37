//! Bodies stream, in both directions, of any size, and connections are used again.

#![allow(clippy::unwrap_used)]

mod door;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use door::{Door, instance, open_request, raw_instance, read_head, serve, soon, until};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Piece = Result<Frame<Bytes>, Infallible>;

fn pieces() -> (mpsc::Sender<Piece>, StreamBody<mpsc::Receiver<Piece>>) {
    let (pieces, body) = mpsc::channel(0);
    (pieces, StreamBody::new(body))
}

fn piece(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from(text)))
}

#[tokio::test]
async fn each_piece_goes_through_before_the_next_is_there() {
    // An echo that answers each piece as it comes.
    let echo = serve(async |request: Request<Incoming>| Response::new(request.into_body())).await;
    let door = Door::open(&[("a.fog", &[echo])]).await;
    let (mut out, body) = pieces();
    let request = Request::post("/").header("host", "a.fog").body(body).unwrap();
    let at = door.at;
    let answer = tokio::spawn(async move { open_request(at, request).await });
    out.send(piece("one")).await.unwrap();
    let mut body = soon("answer", answer).await.unwrap().into_body();
    for text in ["one", "two", "three"] {
        if text != "one" {
            out.send(piece(text)).await.unwrap();
        }
        let frame = soon("piece", body.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), text);
    }
    drop(out);
    assert!(soon("end", body.frame()).await.is_none());
}

#[tokio::test]
async fn a_large_body_arrives_whole_both_ways() {
    const SIZE: usize = 64 << 20;
    let sum = serve(async |request: Request<Incoming>| {
        let mut body = request.into_body();
        let (mut size, mut sum) = (0usize, 0u64);
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().unwrap();
            size += data.len();
            sum += data.iter().map(|byte| u64::from(*byte)).sum::<u64>();
        }
        let back = futures::stream::repeat(Bytes::from(vec![7u8; 1 << 16])).take(size >> 16);
        let back = back.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        Response::builder()
            .header("x-sum", sum.to_string())
            .body(StreamBody::new(back))
            .unwrap()
    })
    .await;
    let door = Door::open(&[("a.fog", &[sum])]).await;
    let up = futures::stream::repeat(Bytes::from(vec![3u8; 1 << 16])).take(SIZE >> 16);
    let body = StreamBody::new(up.map(|bytes| Ok::<_, Infallible>(Frame::data(bytes))));
    let request = Request::post("/").header("host", "a.fog").body(body).unwrap();
    let response = soon("answer", open_request(door.at, request)).await;
    assert_eq!(response.headers()["x-sum"], (SIZE as u64 * 3).to_string());
    let mut body = response.into_body();
    let mut size = 0;
    while let Some(frame) = soon("piece", body.frame()).await {
        size += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(size, SIZE);
}

#[tokio::test]
async fn a_hundred_connections_at_once_are_served_by_few_to_the_instance() {
    let accepted = Arc::new(AtomicUsize::new(0));
    let counting = accepted.clone();
    let at = raw_instance(move |mut stream| {
        counting.fetch_add(1, Ordering::Relaxed);
        async move {
            while !read_head(&mut stream).await.is_empty() {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    })
    .await;
    let door = Arc::new(Door::open(&[("a.fog", &[at])]).await);
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let door = door.clone();
        all.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(door.at).await.unwrap();
            for _ in 0..10 {
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: a.fog\r\n\r\n")
                    .await
                    .unwrap();
                let head = soon("answer", read_head(&mut stream)).await;
                assert!(head.starts_with("HTTP/1.1 200"), "{head}");
                let mut body = [0; 2];
                soon("body", stream.read_exact(&mut body)).await.unwrap();
            }
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
    assert_eq!(door.server.counters().hosts["a.fog"].answers_good, 1000);
    let accepted = accepted.load(Ordering::Relaxed);
    assert!(accepted <= 110, "{accepted} connections for 1000 requests");
}

#[tokio::test]
async fn an_instance_that_hangs_gets_no_more_while_others_are_free() {
    let hangs = Arc::new(AtomicUsize::new(0));
    let counting = hangs.clone();
    let slow = serve(move |_| {
        counting.fetch_add(1, Ordering::Relaxed);
        std::future::pending::<Response<Full<Bytes>>>()
    })
    .await;
    let (fast, _) = instance("fast").await;
    let door = Arc::new(Door::open(&[("a.fog", &[slow, fast])]).await);
    let held: Vec<_> = (0..2)
        .map(|_| {
            let door = door.clone();
            tokio::spawn(async move { door.get("a.fog", "/").await.0 })
        })
        .collect();
    until("one request hangs", || hangs.load(Ordering::Relaxed) == 1).await;
    for _ in 0..10 {
        assert_eq!(door.get("a.fog", "/").await.0, StatusCode::OK);
    }
    assert_eq!(hangs.load(Ordering::Relaxed), 1);
    held.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn answers_without_a_body_and_old_clients_are_served() {
    let at = serve(async |request: Request<Incoming>| {
        let (status, text) = match request.uri().path() {
            "/204" => (204, ""),
            "/304" => (304, ""),
            _ => (200, "hello"),
        };
        Response::builder()
            .status(status)
            .body(Full::new(Bytes::from(text)))
            .unwrap()
    })
    .await;
    let door = Door::open(&[("a.fog", &[at])]).await;
    assert_eq!(door.get("a.fog", "/204").await.0, StatusCode::NO_CONTENT);
    assert_eq!(door.get("a.fog", "/304").await.0, StatusCode::NOT_MODIFIED);
    let head = Request::head("/")
        .header("host", "a.fog")
        .body(Full::default())
        .unwrap();
    let (status, headers, body) = door.send(head).await;
    assert_eq!(
        (status, &headers["content-length"], body.as_str()),
        (StatusCode::OK, &"5".parse().unwrap(), "")
    );
    let text = door.raw("GET / HTTP/1.0\r\nHost: a.fog\r\n\r\n").await;
    assert!(
        text.starts_with("HTTP/1.0 200") && text.ends_with("\r\n\r\nhello"),
        "{text}"
    );
    // The client waits for the word to go on; the instance is not asked for it.
    let request = "POST / HTTP/1.1\r\nHost: a.fog\r\nExpect: 100-continue\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
    assert!(door.raw(request).await.ends_with("hello"));
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_instance() {
    let open = Arc::new(AtomicUsize::new(0));
    let counting = open.clone();
    let at = raw_instance(move |mut stream| {
        let open = counting.clone();
        async move {
            open.fetch_add(1, Ordering::Relaxed);
            read_head(&mut stream).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nfirst")
                .await;
            // Ends when we are hung up on.
            let _ = stream.read_u8().await;
            open.fetch_sub(1, Ordering::Relaxed);
        }
    })
    .await;
    let door = Door::open(&[("a.fog", &[at])]).await;
    let request = Request::get("/")
        .header("host", "a.fog")
        .body(Empty::<Bytes>::new())
        .unwrap();
    let mut response = soon("answer", open_request(door.at, request)).await;
    soon("piece", response.body_mut().frame()).await.unwrap().unwrap();
    assert_eq!(open.load(Ordering::Relaxed), 1);
    drop(response);
    until("the instance is hung up on", || open.load(Ordering::Relaxed) == 0).await;
}
