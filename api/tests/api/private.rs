//! What only one account may do: read its logs, send contexts of builds.

use std::time::Duration;

use api::Limits;
use api::client::{ClientError, LogStart};
use api::door::BodyError;
use api::problem::{ErrorCode, Problem};
use api::signature::{Content, Target, sign};
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, Method};
use ledger::command::accounts::OpenAccount;
use ledger::command::images::BuildImage;
use ledger::command::instances::{LaunchInstance, Shape};
use ledger::id::{Digest, InstanceId};

use crate::node::{World, code, filler, key, now_ms};

/// A world in which `alice` (key 1) has an instance that wrote something, and `bob` (key 2) has an account.
async fn with_instance(limits: Limits) -> (World, InstanceId) {
    let world = World::with(limits, Duration::ZERO).await;
    for (seed, name) in [(1, "alice"), (2, "bob")] {
        world
            .submit(seed, 1, OpenAccount { name: name.into() })
            .await
            .unwrap();
    }
    let held_by = world.node.secret.node_id();
    let build = BuildImage {
        name: "img".into(),
        context: Digest([5; 32]),
        context_bytes: 9,
        held_by,
    };
    let build = world.submit(1, 2, build).await.unwrap().id.into();
    let shape = Shape {
        vcpus: 1,
        memory_mib: 128,
        disk_gib: 1,
    };
    let launch = LaunchInstance {
        name: "web".into(),
        agent: None,
        build,
        shape,
        port: None,
    };
    let id = world.submit(1, 3, launch).await.unwrap().id.into();
    world
        .node
        .logs
        .lock()
        .unwrap()
        .insert(id, (b"hello\nworld\n".to_vec(), false));
    (world, id)
}

fn headers(
    method: &Method,
    path: &str,
    query: Option<&str>,
    content: Option<Content>,
    age_s: i64,
) -> HeaderMap {
    let created = (now_ms() / 1000).saturating_add_signed(-age_s);
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).unwrap();
    sign(Target { method, path, query }, content, created, nonce, &key(1))
}

async fn refusal(answer: reqwest::Response) -> (u16, ErrorCode) {
    let problem: Problem = answer.json().await.unwrap();
    (problem.status, problem.code)
}

#[tokio::test]
async fn a_log_is_read_by_its_owner_only() {
    let (world, id) = with_instance(Limits::default()).await;
    let log = world.client_of(1).logs(id, LogStart::default()).await.unwrap();
    assert_eq!(log.from, 0);
    let bytes: Vec<_> = log.bytes.try_collect().await.unwrap();
    assert_eq!(bytes.concat(), b"hello\nworld\n");
    let log = world
        .client_of(1)
        .logs(
            id,
            LogStart {
                from: Some(6),
                follow: false,
            },
        )
        .await
        .unwrap();
    assert_eq!(
        log.bytes.try_collect::<Vec<_>>().await.unwrap().concat(),
        b"world\n"
    );

    assert!(matches!(
        world.client.logs(id, LogStart::default()).await,
        Err(ClientError::NoKey)
    ));
    let unsigned = world.get(&format!("/v1/instances/{id}/logs")).await;
    assert_eq!(refusal(unsigned).await, (401, ErrorCode::Unsigned));
    let refused = |seed| {
        let client = world.client_of(seed);
        async move { client.logs(id, LogStart::default()).await.map(|log| log.from) }
    };
    assert_eq!(code(refused(2).await), (ErrorCode::NotOwner, 403));
    assert_eq!(code(refused(3).await), (ErrorCode::NoAccount, 403));
    let other = InstanceId([9; 32]);
    let missing = world
        .client_of(1)
        .logs(other, LogStart::default())
        .await
        .map(|log| log.from);
    assert_eq!(code(missing), (ErrorCode::NotFound, 404));
}

#[tokio::test]
async fn a_signed_request_counts_once_now_and_as_it_was_signed() {
    let (world, id) = with_instance(Limits::default()).await;
    let path = format!("/v1/instances/{id}/logs");
    let send = async |query: &str, headers: &HeaderMap| {
        let request = reqwest::Client::new().get(format!("{}{path}{query}", world.url));
        request.headers(headers.clone()).send().await.unwrap()
    };
    let good = headers(&Method::GET, &path, None, None, 0);
    assert_eq!(send("", &good).await.status(), 200);
    assert_eq!(
        refusal(send("", &good).await).await,
        (401, ErrorCode::ReplayedRequest)
    );
    for age_s in [120, -120] {
        let stale = headers(&Method::GET, &path, None, None, age_s);
        assert_eq!(refusal(send("", &stale).await).await, (401, ErrorCode::Stale));
    }
    let other_query = headers(&Method::GET, &path, Some("from=3"), None, 0);
    assert_eq!(
        refusal(send("?from=0", &other_query).await).await,
        (401, ErrorCode::Forged)
    );
    assert_eq!(send("?from=3", &other_query).await.status(), 200);
    let other_path = headers(&Method::GET, "/v1/builds/1/log", None, None, 0);
    assert_eq!(
        refusal(send("", &other_path).await).await,
        (401, ErrorCode::Forged)
    );
}

#[tokio::test]
async fn a_followed_log_goes_on_till_it_ends() {
    let (world, id) = with_instance(Limits::default()).await;
    let log = world
        .client_of(1)
        .logs(
            id,
            LogStart {
                from: Some(0),
                follow: true,
            },
        )
        .await
        .unwrap();
    let mut bytes = log.bytes;
    assert_eq!(&bytes.next().await.unwrap().unwrap()[..], b"hello\nworld\n");
    world
        .node
        .logs
        .lock()
        .unwrap()
        .get_mut(&id)
        .unwrap()
        .0
        .extend_from_slice(b"more\n");
    assert_eq!(&bytes.next().await.unwrap().unwrap()[..], b"more\n");
    world.node.logs.lock().unwrap().get_mut(&id).unwrap().1 = true;
    assert!(bytes.next().await.is_none());
}

#[tokio::test]
async fn a_log_that_cannot_be_read_says_why() {
    let (world, _) = with_instance(Limits::default()).await;
    let build = world.client.builds(&Default::default()).await.unwrap().items[0].id;
    let log = world
        .client_of(1)
        .build_log(build, LogStart::default())
        .await
        .map(|log| log.from);
    assert_eq!(code(log), (ErrorCode::Unreachable, 502));
}

#[tokio::test]
async fn an_upload_arrives_whole_and_reports_its_progress() {
    let (world, _) = with_instance(Limits::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("context.tar");
    for size in [0, 1, 3_000_000] {
        let content = filler(size);
        std::fs::write(&file, &content).unwrap();
        let sent = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let seen = std::sync::Arc::clone(&sent);
        let progress = move |bytes| seen.store(bytes, std::sync::atomic::Ordering::SeqCst);
        let view = world.client_of(1).upload(&file, progress).await.unwrap();
        assert_eq!(
            (view.bytes, view.held_by),
            (size as u64, world.node.secret.node_id())
        );
        assert_eq!(sent.load(std::sync::atomic::Ordering::SeqCst), size as u64);
        assert_eq!(world.node.uploads.lock().unwrap().pop().unwrap(), content);
    }
    let missing = world
        .client_of(1)
        .upload(&folder.path().join("none"), |_| {})
        .await;
    assert!(matches!(missing, Err(ClientError::File { .. })));
}

#[tokio::test]
async fn an_upload_that_is_not_what_was_signed_is_refused_and_told_to_the_node() {
    let limits = Limits {
        stall_time: Duration::from_millis(300),
        ..Limits::default()
    };
    let (world, _) = with_instance(limits).await;
    let send = async |headers: HeaderMap, body: reqwest::Body| {
        let request = reqwest::Client::new().post(format!("{}/v1/uploads", world.url));
        request.headers(headers).body(body).send().await.unwrap()
    };
    let sign = |content| headers(&Method::POST, "/v1/uploads", None, content, 0);
    assert_eq!(
        refusal(send(HeaderMap::new(), "x".into()).await).await,
        (401, ErrorCode::Unsigned)
    );
    assert_eq!(
        refusal(send(sign(None), "x".into()).await).await,
        (401, ErrorCode::Unsigned)
    );
    let huge = Content {
        sha256: [0; 32],
        bytes: (1 << 30) + 1,
    };
    let mut announced = sign(Some(huge));
    assert_eq!(announced["content-length"], ((1u64 << 30) + 1).to_string());
    // The refusal comes before the body does.
    let answer = {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(world.address).await.unwrap();
        let mut head = "POST /v1/uploads HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".to_owned();
        for (name, value) in &announced {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 64];
        let count = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..count]).into_owned()
    };
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    announced.clear();
    // Other bytes of the same length.
    let other = send(sign(Some(Content::of(b"good"))), "evil".into()).await;
    assert_eq!(refusal(other).await, (400, ErrorCode::BodyMismatch));
    // A body that stops coming.
    let stuck = futures::stream::iter([Ok::<_, std::io::Error>("go".to_owned())]);
    let stuck = stuck.chain(futures::stream::pending());
    let stuck = send(
        sign(Some(Content::of(b"good"))),
        reqwest::Body::wrap_stream(stuck),
    )
    .await;
    assert_eq!(refusal(stuck).await, (408, ErrorCode::Stalled));
    let broken = world.node.broken_uploads.lock().unwrap().clone();
    assert_eq!(broken, [BodyError::Digest, BodyError::Stalled(0)]);
    assert!(world.node.uploads.lock().unwrap().is_empty());
}
