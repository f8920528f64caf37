//! The server by real sockets on loopback, asked by `dig` and by hickory's resolver.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use net::names::{NameRecords, NameTable};
use net_dns::{Dns, DnsConfig, DnsServer, StartError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const LIMIT: Duration = Duration::from_secs(20);

fn records(ips: &[&str]) -> NameRecords {
    let mut records = NameRecords {
        ttl_s: 5,
        ..NameRecords::default()
    };
    for ip in ips {
        match ip.parse().unwrap() {
            IpAddr::V4(ip) => records.ipv4.push(ip),
            IpAddr::V6(ip) => records.ipv6.push(ip),
        }
    }
    records
}

fn table(names: &[(&str, &[&str])]) -> Arc<NameTable> {
    let names: BTreeMap<_, _> = names
        .iter()
        .map(|(name, ips)| ((*name).to_owned(), records(ips)))
        .collect();
    Arc::new(NameTable {
        zones: vec!["form.internal".to_owned(), "fog".to_owned()],
        names,
        serial: 1,
    })
}

type Table = Arc<ArcSwap<NameTable>>;

async fn server(config: DnsConfig, names: &[(&str, &[&str])]) -> (DnsServer, Table, SocketAddr) {
    let table: Table = Arc::new(ArcSwap::new(table(names)));
    let listen = if config.listen.is_empty() {
        vec!["127.0.0.1:0".parse().unwrap()]
    } else {
        config.listen
    };
    let server = Dns::start(DnsConfig { listen, ..config }, table.clone())
        .await
        .unwrap();
    let address = server.listen_addresses()[0];
    (server, table, address)
}

/// Runs `dig`; `None` where it is not installed.
async fn dig(at: SocketAddr, arguments: &[&str]) -> Option<String> {
    let output = tokio::process::Command::new("dig")
        .args([
            &format!("@{}", at.ip()),
            "-p",
            &at.port().to_string(),
            "+time=5",
            "+tries=1",
        ])
        .args(arguments)
        .output()
        .await;
    match output {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            eprintln!("SKIPPED a part of net-dns tests/server.rs: dig cannot be run: {error}");
            None
        }
    }
}

#[tokio::test]
async fn dig_finds_what_is_in_the_table_over_udp_and_tcp() {
    let names: &[(&str, &[&str])] = &[("hello.fog", &["fd00::1", "10.0.0.1"]), ("idle.fog", &[])];
    let (server, _table, at) = server(DnsConfig::default(), names).await;
    for arguments in [
        &["hello.fog", "AAAA"][..],
        &["HELLO.fog", "AAAA"],
        &["+tcp", "hello.fog", "AAAA"],
    ] {
        let Some(text) = dig(at, arguments).await else {
            return;
        };
        assert!(
            text.contains("status: NOERROR") && text.contains("fd00::1"),
            "{text}"
        );
        assert!(text.contains("flags: qr aa rd"), "{text}");
    }
    for (arguments, expect) in [
        (&["idle.fog", "A"][..], "status: NOERROR"),
        (&["nobody.fog", "A"], "status: NXDOMAIN"),
        (&["example.org", "A"], "status: REFUSED"),
        (&["hello.fog", "ANY"], "status: REFUSED"),
        (&["+tcp", "fog", "AXFR"], "Transfer failed"),
        (&["-c", "CH", "version.bind", "TXT"], "status: REFUSED"),
        (&["fog", "SOA"], "ns.fog. hostmaster.fog. 1 60 10 3600 5"),
    ] {
        let text = dig(at, arguments).await.unwrap();
        assert!(text.contains(expect), "{arguments:?}: {text}");
        if expect.ends_with("NXDOMAIN") || arguments[0] == "idle.fog" {
            assert!(
                text.contains("AUTHORITY SECTION") && text.contains("SOA"),
                "{text}"
            );
        }
    }
    let counters = server.counters();
    assert_eq!(
        (counters.answered, counters.no_data, counters.no_such_name),
        (4, 1, 1)
    );
}

#[tokio::test]
async fn a_stub_resolver_is_content_and_sees_a_swapped_table_at_once() {
    use hickory_resolver::config::{NameServerConfig, ResolverConfig};
    use hickory_resolver::net::runtime::TokioRuntimeProvider;
    let (_server, swap, at) = server(DnsConfig::default(), &[("a.fog", &["10.0.0.1", "fd00::1"])]).await;
    let mut upstream = NameServerConfig::udp_and_tcp(at.ip());
    for connection in &mut upstream.connections {
        connection.port = at.port();
    }
    let config = ResolverConfig::from_parts(None, vec![], vec![upstream]);
    let mut builder =
        hickory_resolver::Resolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    let resolver = builder.build().unwrap();
    let look_up = async |name: &'static str| {
        let mut found: Vec<String> = resolver
            .lookup_ip(name)
            .await
            .map(|ips| ips.iter().map(|ip| ip.to_string()).collect())
            .unwrap_or_default();
        found.sort();
        found
    };
    assert_eq!(look_up("a.fog.").await, ["10.0.0.1", "fd00::1"]);
    swap.store(table(&[("a.fog", &["10.0.0.9"])]));
    assert_eq!(look_up("a.fog.").await, ["10.0.0.9"]);
    swap.store(table(&[]));
    assert!(look_up("a.fog.").await.is_empty());
}

#[tokio::test]
async fn other_names_are_passed_on_over_udp_and_tcp_for_clients_only() {
    // The upstream is another server of ours, with other zones.
    let (upstream, upstream_table, upstream_at) =
        server(DnsConfig::default(), &[("there.fog", &["192.0.2.7"])]).await;
    let mut long = NameTable::clone(&upstream_table.load());
    let texts = NameRecords {
        txt: vec!["long ".repeat(120)],
        ..NameRecords::default()
    };
    long.names.insert("long.fog".to_owned(), texts);
    upstream_table.store(Arc::new(long));
    let other = Arc::new(ArcSwap::from_pointee(NameTable {
        zones: vec!["here".to_owned()],
        ..NameTable::default()
    }));
    let dead: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let config = DnsConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        upstreams: vec![dead, upstream_at],
        ..DnsConfig::default()
    };
    let server = Dns::start(config, other).await.unwrap();
    let at = server.listen_addresses()[0];
    for arguments in [
        &["there.fog", "A"][..],
        &["+tcp", "there.fog", "A"],
        &["+noedns", "there.fog", "A"],
    ] {
        let Some(text) = dig(at, arguments).await else {
            return;
        };
        assert!(
            text.contains("192.0.2.7") && text.contains("status: NOERROR"),
            "{text}"
        );
    }
    // Cut over UDP, so dig asks again over TCP, and both times it is passed on.
    let text = dig(at, &["+noedns", "long.fog", "TXT"]).await.unwrap();
    assert!(
        text.matches("long").count() > 100 && text.contains("retrying in TCP mode"),
        "{text}"
    );
    // Without the wish for recursion it is refused, and ours are never passed on.
    assert!(
        dig(at, &["+norecurse", "there.fog", "A"])
            .await
            .unwrap()
            .contains("status: REFUSED")
    );
    assert!(
        dig(at, &["nobody.here", "A"])
            .await
            .unwrap()
            .contains("status: NXDOMAIN")
    );
    upstream.shutdown().await;
    let text = dig(at, &["there.fog", "A"]).await.unwrap();
    assert!(text.contains("status: SERVFAIL"), "{text}");
    let counters = server.counters();
    assert_eq!((counters.forwarded, counters.forward_failed), (5, 1));
}

/// Waits until the server has seen a number of messages.
async fn arrived(server: &DnsServer, number: u64) {
    let start = Instant::now();
    while server.counters().queries < number {
        assert!(start.elapsed() < LIMIT, "{:?}", server.counters());
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

#[tokio::test]
async fn garbage_on_both_transports_leaves_the_server_answering() {
    let (server, _table, at) = server(DnsConfig::default(), &[("a.fog", &["10.0.0.1"])]).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(at).await.unwrap();
    // A repeatable stream of bytes: each step of a linear generator.
    let mut state = 12345u64;
    let mut byte = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u8
    };
    for length in 0..400usize {
        let packet: Vec<u8> = (0..length).map(|_| byte()).collect();
        client.send(&packet).await.unwrap();
        // One at a time, or the socket's own buffer drops them.
        arrived(&server, 1 + length as u64).await;
    }
    for length in [0u16, 1, 11, 12, 500, 65_535] {
        let mut stream = TcpStream::connect(at).await.unwrap();
        let body: Vec<u8> = (0..length).map(|_| byte()).collect();
        stream
            .write_all(&[&length.to_be_bytes(), body.as_slice()].concat())
            .await
            .unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest))
            .await
            .unwrap();
    }
    let Some(text) = dig(at, &["a.fog", "A"]).await else {
        return;
    };
    assert!(text.contains("10.0.0.1"), "{text}");
}

#[tokio::test]
async fn one_client_cannot_hold_all_connections() {
    let (server, _table, at) = server(DnsConfig::default(), &[("a.fog", &["10.0.0.1"])]).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(TcpStream::connect(at).await.unwrap());
    }
    let mut refused = TcpStream::connect(at).await.unwrap();
    let end = tokio::time::timeout(LIMIT, refused.read(&mut [0; 1]))
        .await
        .unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "the seventeenth is closed");
    assert_eq!(server.counters().connections_refused, 1);
    held.clear();
    let start = Instant::now();
    loop {
        let Some(text) = dig(at, &["+tcp", "a.fog", "A"]).await else {
            return;
        };
        if text.contains("10.0.0.1") {
            break;
        }
        assert!(start.elapsed() < LIMIT);
    }
}

#[tokio::test]
async fn a_server_that_would_ask_itself_does_not_start() {
    let free = UdpSocket::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let config = DnsConfig {
        listen: vec![free],
        upstreams: vec![free],
        ..DnsConfig::default()
    };
    let error = Dns::start(config, Arc::default()).await.unwrap_err();
    assert!(matches!(error, StartError::Itself { .. }), "{error}");
    let (_server, _table, at) = server(DnsConfig::default(), &[]).await;
    let config = DnsConfig {
        listen: vec![at],
        ..DnsConfig::default()
    };
    let error = Dns::start(config, Arc::default()).await.unwrap_err();
    assert!(
        error.to_string().contains("is another DNS server running"),
        "{error}"
    );
}
