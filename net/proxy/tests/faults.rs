//! Clients and instances that misbehave, and the bounds that hold.

#![allow(clippy::unwrap_used)]

mod door;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use door::{Door, instance, open_request, raw_instance, read_head, serve, soon, until};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::TokioIo;
use net_proxy::ProxyConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn brief() -> ProxyConfig {
    let wait = Duration::from_millis(400);
    ProxyConfig {
        head_wait: wait,
        body_wait: wait,
        answer_wait: wait,
        tunnel_wait: wait,
        ..ProxyConfig::default()
    }
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_never_reaches_an_instance() {
    let (a, seen) = instance("a").await;
    let door = Door::open(&[("a.fog", &[a])]).await;
    let inner = "GET /admin HTTP/1.1\r\nHost: a.fog\r\n\r\n";
    for lines in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: xchunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding : chunked\r\nContent-Length: 4\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n",
        "Content-Length: 4\nTransfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let text = door
            .raw(&format!(
                "POST / HTTP/1.1\r\nHost: a.fog\r\n{lines}\r\n0\r\n\r\n{inner}"
            ))
            .await;
        assert!(text.starts_with("HTTP/1.1 400"), "{lines:?}: {text}");
        assert_eq!(
            text.matches("HTTP/1.1").count(),
            1,
            "nothing behind it is answered: {text}"
        );
    }
    assert_eq!(seen.count(), 0);
    // The second of two requests on one connection is watched as well.
    let text = door
        .raw(&format!(
            "POST / HTTP/1.1\r\nHost: a.fog\r\nContent-Length: 5\r\n\r\nhello\
             POST / HTTP/1.1\r\nHost: a.fog\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
        ))
        .await;
    assert!(text.contains("bad-framing") && !text.contains("/admin"), "{text}");
}

#[tokio::test]
async fn heads_have_a_largest_size_and_a_latest_time() {
    let (a, seen) = instance("a").await;
    let door = Door::with(brief(), &[("a.fog", &[a])]).await;
    let long = "x".repeat(100_000);
    let text = door
        .raw(&format!("GET / HTTP/1.1\r\nHost: a.fog\r\nX: {long}\r\n\r\n"))
        .await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    let many = "X: y\r\n".repeat(200);
    let text = door
        .raw(&format!("GET / HTTP/1.1\r\nHost: a.fog\r\n{many}\r\n"))
        .await;
    assert!(text.starts_with("HTTP/1.1 431"), "{text}");
    // Half a head, and none at all after an answer.
    for begin in [
        "GET / HTTP/1.1\r\nHost: a",
        "",
        "GET / HTTP/1.1\r\nHost: a.fog\r\n\r\n",
    ] {
        let start = Instant::now();
        door.raw(begin).await;
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{begin:?} was held open"
        );
    }
    assert_eq!(seen.count(), 1);
    until("all are closed", || door.server.counters().connections_open == 0).await;
}

#[tokio::test]
async fn a_body_that_stops_coming_is_given_up() {
    let (a, _) = instance("a").await;
    // The instance has far less time, but it is not the one that is waited for.
    let config = ProxyConfig {
        answer_wait: Duration::from_millis(50),
        ..brief()
    };
    let door = Door::with(config, &[("a.fog", &[a])]).await;
    let text = door
        .raw("POST / HTTP/1.1\r\nHost: a.fog\r\nContent-Length: 100\r\n\r\nhalf")
        .await;
    assert!(
        text.starts_with("HTTP/1.1 408") && text.contains("slow-body"),
        "{text}"
    );
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_a_504_but_a_slow_upload_is_not() {
    let hangs = serve(|_| std::future::pending::<Response<Full<Bytes>>>()).await;
    let (reads, _) = instance("reads").await;
    let door = Door::with(brief(), &[("hangs.fog", &[hangs]), ("reads.fog", &[reads])]).await;
    let (status, _, body) = door.get("hangs.fog", "/").await;
    assert_eq!(status, StatusCode::GATEWAY_TIMEOUT);
    assert!(body.contains("instance-timeout"), "{body}");
    assert_eq!(door.server.counters().hosts["hangs.fog"].timed_out, 1);
    // Ten pieces, each within the limit, all together well over it.
    let mut stream = TcpStream::connect(door.at).await.unwrap();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: reads.fog\r\nContent-Length: 10\r\n\r\n")
        .await
        .unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"x").await.unwrap();
    }
    let head = soon("answer", read_head(&mut stream)).await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
}

#[tokio::test]
async fn what_an_instance_breaks_off_is_repeated_only_when_it_may_be() {
    let broken = Arc::new(AtomicUsize::new(0));
    let counting = broken.clone();
    let breaks = raw_instance(move |mut stream| {
        let counting = counting.clone();
        async move {
            read_head(&mut stream).await;
            counting.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let (live, seen) = instance("live").await;
    let door = Door::open(&[("a.fog", &[breaks, live])]).await;
    for _ in 0..4 {
        assert_eq!(door.get("a.fog", "/").await.0, StatusCode::OK);
    }
    assert!(broken.load(Ordering::Relaxed) > 0, "the broken one was tried");
    assert_eq!(seen.count(), 4);
    let (before, mut failed) = (broken.load(Ordering::Relaxed), 0);
    for _ in 0..4 {
        let request = Request::post("/")
            .header("host", "a.fog")
            .body(Full::new(Bytes::from("pay")))
            .unwrap();
        let (status, _, _) = door.send(request).await;
        failed += usize::from(status == StatusCode::BAD_GATEWAY);
    }
    assert_eq!(
        failed,
        broken.load(Ordering::Relaxed) - before,
        "each broken POST is a 502, none is sent twice"
    );
    assert!(failed > 0);
    assert_eq!(seen.count(), 4 + 4 - failed);
}

#[tokio::test]
async fn a_kept_connection_that_the_instance_closed_is_not_noticed_by_the_client() {
    // Answers once, says that it stays, and closes.
    let at = raw_instance(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let _ = stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .await;
    })
    .await;
    let door = Door::open(&[("a.fog", &[at])]).await;
    for n in 0..20 {
        assert_eq!(door.get("a.fog", "/").await.0, StatusCode::OK, "request {n}");
    }
}

#[tokio::test]
async fn an_answer_that_is_nonsense_is_a_502() {
    for nonsense in [
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let at = raw_instance(move |mut stream| async move {
            read_head(&mut stream).await;
            let _ = stream.write_all(nonsense.as_bytes()).await;
        })
        .await;
        let door = Door::open(&[("a.fog", &[at])]).await;
        assert_eq!(
            door.get("a.fog", "/").await.0,
            StatusCode::BAD_GATEWAY,
            "{nonsense:?}"
        );
    }
    // An upgrade that nobody asked for.
    let at = raw_instance(async |mut stream: TcpStream| {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.read_u8().await;
    })
    .await;
    let door = Door::open(&[("a.fog", &[at])]).await;
    assert_eq!(door.get("a.fog", "/").await.0, StatusCode::BAD_GATEWAY);
}

/// An instance that upgrades and then sends everything back.
async fn echo_after_upgrade() -> std::net::SocketAddr {
    raw_instance(async |mut stream: TcpStream| {
        let head = read_head(&mut stream).await.to_lowercase();
        let upgrade = head.contains("upgrade: websocket") && head.contains("connection: upgrade");
        let answer = if upgrade {
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain"
        };
        let _ = stream.write_all(answer.as_bytes()).await;
        let mut bytes = [0; 1000];
        while let Ok(length @ 1..) = stream.read(&mut bytes).await {
            if stream.write_all(&bytes[..length]).await.is_err() {
                return;
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_websocket_is_joined_through_and_ends_when_it_is_silent() {
    let at = echo_after_upgrade().await;
    let door = Door::with(brief(), &[("a.fog", &[at])]).await;
    let stream = TcpStream::connect(door.at).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = Request::get("/chat")
        .header("host", "a.fog")
        .header("connection", "Upgrade")
        .header("upgrade", "WebSocket")
        .body(Empty::new())
        .unwrap();
    let response = soon("answer", sender.send_request(request)).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let mut socket = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    // What would be nonsense as HTTP.
    for text in [&b"\x81\x05hello\n\n"[..], b"\0\r\n\r\n\xff", b"bye"] {
        socket.write_all(text).await.unwrap();
        let mut back = vec![0; text.len()];
        soon("echo", socket.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, text);
    }
    assert_eq!(
        door.server.counters().connections_open,
        1,
        "a tunnel counts as a connection"
    );
    let end = soon("end of the silence", socket.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)));
    assert_eq!(door.server.counters().hosts["a.fog"].upgrades, 1);
    until("the place is free", || {
        door.server.counters().connections_open == 0
    })
    .await;

    // Any other upgrade is not passed on.
    let text = door
        .raw("GET / HTTP/1.1\r\nHost: a.fog\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n")
        .await;
    assert!(text.ends_with("plain"), "{text}");
}

#[tokio::test]
async fn connections_are_bounded_in_all_and_for_each_client() {
    let (a, _) = instance("a").await;
    let config = ProxyConfig {
        connections_max: 2,
        ..ProxyConfig::default()
    };
    let door = Door::with(config, &[("a.fog", &[a])]).await;
    let first = TcpStream::connect(door.at).await.unwrap();
    let _second = TcpStream::connect(door.at).await.unwrap();
    until("both are accepted", || {
        door.server.counters().connections_open == 2
    })
    .await;
    let at = door.at;
    let third = tokio::spawn(async move {
        let request = Request::get("/")
            .header("host", "a.fog")
            .body(Empty::<Bytes>::new())
            .unwrap();
        open_request(at, request).await.status()
    });
    tokio::task::yield_now().await;
    assert_eq!(door.server.counters().connections, 2, "the third waits");
    drop(first);
    assert_eq!(soon("the third", third).await.unwrap(), StatusCode::OK);

    let config = ProxyConfig {
        connections_per_client_max: 2,
        ..ProxyConfig::default()
    };
    let door = Door::with(config, &[("a.fog", &[a])]).await;
    let _held = (
        TcpStream::connect(door.at).await.unwrap(),
        TcpStream::connect(door.at).await.unwrap(),
    );
    until("both are accepted", || {
        door.server.counters().connections_open == 2
    })
    .await;
    assert_eq!(door.raw("GET / HTTP/1.1\r\nHost: a.fog\r\n\r\n").await, "");
    assert_eq!(door.server.counters().connections_refused, 1);
}

#[tokio::test]
async fn a_shutdown_lets_requests_end_and_takes_no_new_ones() {
    let entered = Arc::new(AtomicUsize::new(0));
    let (leave, gate) = tokio::sync::watch::channel(false);
    let counting = entered.clone();
    let at = serve(move |_| {
        counting.fetch_add(1, Ordering::Relaxed);
        let mut gate = gate.clone();
        async move {
            let _ = gate.wait_for(|open| *open).await;
            Response::new(Full::new(Bytes::from("done")))
        }
    })
    .await;
    let Door { server, at: door, .. } = Door::open(&[("a.fog", &[at])]).await;
    let idle = TcpStream::connect(door).await.unwrap();
    let request = || {
        Request::get("/")
            .header("host", "a.fog")
            .body(Empty::<Bytes>::new())
            .unwrap()
    };
    let under_way = tokio::spawn(open_request(door, request()));
    until("the request is under way", || {
        entered.load(Ordering::Relaxed) == 1
    })
    .await;
    let ended = tokio::spawn(server.shutdown(door::LIMIT));
    let start = Instant::now();
    while TcpStream::connect(door).await.is_ok() {
        assert!(start.elapsed() < door::LIMIT, "still accepting");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    leave.send_replace(true);
    let response = soon("answer", under_way).await.unwrap();
    let body = soon("body", response.into_body().collect())
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(body, "done");
    assert!(soon("shutdown", ended).await.unwrap(), "all ended by themselves");
    drop(idle);

    let hangs = serve(|_| std::future::pending::<Response<Full<Bytes>>>()).await;
    let Door { server, at: door, .. } = Door::open(&[("a.fog", &[hangs])]).await;
    let cut_off = tokio::spawn(async move {
        let stream = TcpStream::connect(door).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        sender
            .send_request(request())
            .await
            .is_ok_and(|answer| answer.status() != StatusCode::BAD_GATEWAY)
    });
    until("the request is under way", || {
        server.counters().hosts.contains_key("a.fog")
    })
    .await;
    assert!(!server.shutdown(Duration::from_millis(200)).await);
    assert!(!soon("cut off", cut_off).await.unwrap(), "cut off, or told so");
}
