//! Connections: bounded in size, number and time; every error in one form; an orderly end.

use std::time::{Duration, Instant};

use api::Limits;
use api::client::{Client, ClientError, WaitFor};
use api::problem::Problem;
use ledger::command::accounts::OpenAccount;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::node::World;

/// What comes back for raw bytes, till the server closes.
async fn raw(world: &World, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("the server closes");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn every_error_has_the_same_form() {
    let world = World::new().await;
    let client = reqwest::Client::new();
    let cases = [
        (
            client.get(format!("{}/nothing/here", world.url)),
            404,
            "no_such_path",
        ),
        (client.delete(format!("{}/v1/commands", world.url)), 405, "method"),
        (client.post(format!("{}/v1/accounts", world.url)), 405, "method"),
        (
            client.get(format!("{}/v1/accounts/nobody", world.url)),
            404,
            "not_found",
        ),
    ];
    for (request, status, code) in cases {
        let answer = request.header("x-request-id", "my-id.1").send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert_eq!(answer.headers()["x-request-id"], "my-id.1");
        let problem: Problem = answer.json().await.unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (status, code));
        assert_eq!(problem.request_id, "my-id.1");
    }
    let answer = client
        .get(format!("{}/healthz", world.url))
        .header("x-request-id", "no blanks")
        .send();
    let id = answer.await.unwrap().headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(id.len(), 16, "a strange id is replaced: {id}");
}

#[tokio::test]
async fn headers_beyond_their_bounds_end_the_connection() {
    let world = World::new().await;
    let long = format!(
        "GET /healthz HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n",
        "a".repeat(200_000)
    );
    let answer = raw(&world, long.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 431") || answer.is_empty(),
        "{answer}"
    );
    let many = "x-many: 1\r\n".repeat(100);
    let answer = raw(
        &world,
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes(),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let answer = raw(&world, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").await;
    assert!(
        answer.starts_with("HTTP/1.1 400") || answer.is_empty(),
        "{answer}"
    );
    assert_eq!(world.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let limits = Limits {
        header_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let world = World::with(limits, Duration::ZERO).await;
    for bytes in [
        &b""[..],
        b"GET /healthz HTT",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let began = Instant::now();
        raw(&world, bytes).await;
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_dropped() {
    let limits = Limits {
        stall_time: Duration::from_millis(300),
        heartbeat: Duration::from_millis(10),
        event_streams: 1,
        ..Limits::default()
    };
    let world = World::with(limits, Duration::ZERO).await;
    for count in 0..400 {
        world
            .submit(1, count, OpenAccount { name: "a".repeat(60) })
            .await
            .ok();
    }
    // Many requests in one go, whose answers nobody reads: the buffers between fill up.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = "GET /v1/ops?limit=1000 HTTP/1.1\r\nhost: x\r\n\r\n".repeat(100);
    stream.write_all(request.as_bytes()).await.unwrap();
    let began = Instant::now();
    loop {
        // The server has closed when writing fails; nothing is read meanwhile.
        if stream.write_all(b" ").await.is_err() {
            break;
        }
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the reader still has its place"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(world.get("/healthz").await.status(), 200);
}

#[tokio::test]
async fn more_requests_than_the_node_takes_on_are_told_so() {
    let limits = Limits {
        requests: 1,
        ..Limits::default()
    };
    let world = World::with(limits, Duration::from_millis(500)).await;
    let command = world.command(1, 1, OpenAccount { name: "alice".into() });
    let slow = world.client.submit(&command, WaitFor::Tentative);
    let others = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let busy = world.get("/v1/accounts").await.status();
        let health = world.get("/healthz").await.status();
        (busy.as_u16(), health.as_u16())
    };
    let (slow, others) = tokio::join!(slow, others);
    slow.unwrap();
    assert_eq!(others, (503, 200));
    assert_eq!(world.get("/v1/accounts").await.status(), 200);
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_given_up_and_the_command_still_counts() {
    let limits = Limits {
        answer_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let world = World::with(limits, Duration::from_millis(300)).await;
    let command = world.command(1, 1, OpenAccount { name: "alice".into() });
    let late = world.client.submit(&command, WaitFor::Tentative).await;
    assert_eq!(late.unwrap_err().problem().unwrap().status, 504);
    let began = Instant::now();
    while world.client.command(command.id()).await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_server_ends_with_its_streams_and_finishes_what_it_began() {
    let world = World::with(Limits::default(), Duration::from_millis(300)).await;
    let mut stream = world.get("/v1/events").await;
    stream.chunk().await.unwrap().unwrap();
    let command = world.command(1, 1, OpenAccount { name: "alice".into() });
    let slow = tokio::spawn({
        let client = world.client.clone();
        async move { client.submit(&command, WaitFor::Tentative).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    world.server.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    slow.await.unwrap().unwrap();
    while let Ok(Some(_)) = stream.chunk().await {}
    let refused = Client::new(&world.url).unwrap().status().await;
    assert!(matches!(refused, Err(ClientError::Connect { .. })), "{refused:?}");
}

#[tokio::test]
async fn one_address_does_not_take_all_connections() {
    let limits = Limits {
        connections_per_address: 3,
        ..Limits::default()
    };
    let world = World::with(limits, Duration::ZERO).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        stream
            .write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            .await
            .unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        held.push(stream);
    }
    assert_eq!(raw(&world, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await, "");
    held.clear();
    let began = Instant::now();
    while raw(
        &world,
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    )
    .await
    .is_empty()
    {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "the places were not given back"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
