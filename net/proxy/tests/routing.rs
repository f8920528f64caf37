//! By host name to an instance, with what each side may know of the other.

#![allow(clippy::unwrap_used)]

mod door;

use bytes::Bytes;
use door::{Door, fronts, instance, nobody, serve};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use net_proxy::ProxyConfig;

#[tokio::test]
async fn a_host_leads_to_its_instance_whatever_its_dress() {
    let (a, _) = instance("a").await;
    let (b, _) = instance("b").await;
    let door = Door::open(&[("a.fog", &[a]), ("b.fog", &[b])]).await;
    for (host, path, expect) in [
        ("a.fog", "/x?y=1", "a GET /x?y=1 0"),
        ("A.Fog", "/", "a GET / 0"),
        ("b.fog:8080", "/", "b GET / 0"),
        ("b.fog.", "/", "b GET / 0"),
    ] {
        let (status, headers, body) = door.get(host, path).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, expect));
        assert_eq!(headers["x-formation-instance"], "i0");
    }
    // In absolute form, as to a proxy, and the Host header does not count then.
    let text = door
        .raw("GET http://b.fog/p HTTP/1.1\r\nHost: a.fog\r\nConnection: close\r\n\r\n")
        .await;
    assert!(text.ends_with("b GET /p 0"), "{text}");
    let counters = door.server.counters();
    assert_eq!(
        (
            counters.hosts["a.fog"].requests,
            counters.hosts["b.fog"].answers_good
        ),
        (2, 3)
    );
}

#[tokio::test]
async fn what_is_not_there_is_said_in_one_format() {
    let door = Door::open(&[("idle.fog", &[])]).await;
    for (host, status, code) in [
        ("nobody.fog", 404, "unknown-host"),
        ("idle.fog", 503, "no-healthy-instance"),
    ] {
        let (got, headers, body) = door.get(host, "/").await;
        assert_eq!(got.as_u16(), status);
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers.contains_key("retry-after"), status == 503);
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((&body["code"], &body["status"]), (&code.into(), &status.into()));
        assert_eq!(
            body["request_id"].as_str().unwrap(),
            headers["x-request-id"].to_str().unwrap()
        );
        assert!(body["detail"].as_str().unwrap().contains(host));
    }
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    ] {
        let text = door.raw(request).await;
        assert!(
            text.starts_with("HTTP/1.1 400") && text.contains("bad-host"),
            "{text}"
        );
    }
    let text = door
        .raw("TRACE / HTTP/1.1\r\nHost: idle.fog\r\nConnection: close\r\n\r\n")
        .await;
    assert!(text.starts_with("HTTP/1.1 405"), "{text}");
    let text = door
        .raw("CONNECT idle.fog:443 HTTP/1.1\r\nHost: idle.fog\r\nConnection: close\r\n\r\n")
        .await;
    assert!(text.starts_with("HTTP/1.1 405"), "{text}");
}

#[tokio::test]
async fn an_instance_learns_who_asks_from_us_and_not_from_the_client() {
    let (a, seen) = instance("a").await;
    let door = Door::open(&[("a.fog", &[a])]).await;
    let request = Request::get("/")
        .header("host", "a.fog:80")
        .header("x-forwarded-for", "10.9.9.9")
        .header("x-forwarded-proto", "https")
        .header("forwarded", "for=10.9.9.9")
        .header("x-request-id", "forged")
        .header("connection", "x-secret")
        .header("x-secret", "1")
        .header("te", "trailers")
        .header("proxy-authorization", "Basic x")
        .body(Full::default())
        .unwrap();
    let (_, headers, _) = door.send(request).await;
    let (_, got) = seen.last();
    assert_eq!(got["x-forwarded-for"], "127.0.0.1");
    assert_eq!(got["x-forwarded-proto"], "http");
    assert_eq!(got["x-forwarded-host"], "a.fog:80");
    assert_eq!(got["host"], "a.fog:80");
    assert_eq!(got["x-request-id"], headers["x-request-id"]);
    assert_ne!(got["x-request-id"], "forged");
    for gone in ["forwarded", "x-secret", "te", "proxy-authorization", "connection"] {
        assert!(!got.contains_key(gone), "{gone}");
    }

    let config = ProxyConfig {
        trusted_proxies: vec!["127.0.0.0/8".parse().unwrap()],
        ..ProxyConfig::default()
    };
    let door = Door::with(config, &[("a.fog", &[a])]).await;
    let request = Request::get("/")
        .header("host", "a.fog")
        .header("x-forwarded-for", "10.9.9.9")
        .header("x-forwarded-proto", "https")
        .header("x-request-id", "given")
        .body(Full::default())
        .unwrap();
    let (_, headers, _) = door.send(request).await;
    let (_, got) = seen.last();
    assert_eq!(got["x-forwarded-for"], "10.9.9.9, 127.0.0.1");
    assert_eq!(got["x-forwarded-proto"], "https");
    assert_eq!(
        (&got["x-request-id"], &headers["x-request-id"]),
        (&"given".parse().unwrap(), &got["x-request-id"])
    );
}

#[tokio::test]
async fn a_client_learns_nothing_of_the_hop_behind_us() {
    let a = serve(async |_| {
        Response::builder()
            .header("connection", "x-inner, close")
            .header("x-inner", "1")
            .header("keep-alive", "timeout=5")
            .header("x-formation-instance", "forged")
            .header("x-kept", "1")
            .body(Full::new(Bytes::from("hi")))
            .unwrap()
    })
    .await;
    let door = Door::open(&[("a.fog", &[a])]).await;
    let (_, headers, _) = door.get("a.fog", "/").await;
    assert_eq!(headers["x-formation-instance"], "i0");
    assert!(headers.contains_key("x-kept"));
    for gone in ["x-inner", "keep-alive", "connection"] {
        assert!(!headers.contains_key(gone), "{gone}: {headers:?}");
    }
}

#[tokio::test]
async fn a_swapped_table_counts_from_the_next_request_on_the_same_connection() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (a, _) = instance("one").await;
    let (b, _) = instance("two").await;
    let door = Door::open(&[("a.fog", &[a])]).await;
    let mut stream = tokio::net::TcpStream::connect(door.at).await.unwrap();
    let mut ask = async |expect: &str| {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.fog\r\n\r\n")
            .await
            .unwrap();
        let mut text = String::new();
        while !text.contains(expect) {
            let mut bytes = [0; 1024];
            let length = door::soon("answer", stream.read(&mut bytes)).await.unwrap();
            assert!(length > 0, "closed after {text}");
            text.push_str(std::str::from_utf8(&bytes[..length]).unwrap());
        }
    };
    ask("one GET /").await;
    door.table.store(fronts(&[("a.fog", &[b])]));
    ask("two GET /").await;
    door.table.store(fronts(&[]));
    ask("unknown-host").await;
    door.table.store(fronts(&[("a.fog", &[a])]));
    ask("one GET /").await;
}

#[tokio::test]
async fn an_instance_that_is_not_there_is_passed_over_whatever_the_method() {
    let (live, seen) = instance("live").await;
    let dead = nobody().await;
    let door = Door::open(&[("a.fog", &[dead, live, dead])]).await;
    for n in 0..6 {
        let request = Request::post("/")
            .header("host", "a.fog")
            .body(Full::new(Bytes::from("body")))
            .unwrap();
        let (status, _, body) = door.send(request).await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::OK, "live POST / 4"),
            "request {n}"
        );
    }
    assert_eq!(seen.count(), 6);
    let alone = Door::open(&[("a.fog", &[dead])]).await;
    let (status, _, body) = alone.get("a.fog", "/").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(
        body.contains("instance-failed") && !body.contains("127.0.0.1"),
        "{body}"
    );
}
