//! Commands: what counts, what does not, and how each is answered.

use std::sync::atomic::Ordering;
use std::time::Duration;

use api::Limits;
use api::client::WaitFor;
use api::door::SubmitError;
use api::problem::{ErrorCode, Problem};
use api::views::commands::OutcomeWord;
use futures::StreamExt;
use ledger::command::COMMAND_BYTES_MAX;
use ledger::command::accounts::OpenAccount;
use ledger::command::agents::{RegisterAgent, Release};
use ledger::command::instances::{Shape, StopInstance};
use ledger::id::{BuildId, InstanceId};

use crate::node::{World, code, filler, key, now_ms};

fn open(name: &str) -> OpenAccount {
    OpenAccount { name: name.into() }
}

#[tokio::test]
async fn a_command_that_counts_is_applied_and_answered_with_its_op() {
    let world = World::new().await;
    let command = world.command(1, 1, open("alice"));
    let answer = world.client.submit(&command, WaitFor::Tentative).await.unwrap();
    assert_eq!(
        (answer.id, answer.kind.as_str(), answer.repeated),
        (command.id(), "OpenAccount", false)
    );
    assert_eq!(answer.outcome.unwrap().result, OutcomeWord::Applied);
    assert_eq!(answer.position.ops, 3);
    let account = world.client.account("alice").await.unwrap().item;
    assert_eq!(account.key, key(1).public());
    let record = world.client.command(command.id()).await.unwrap().item;
    assert_eq!(
        (record.op, record.outcome.result),
        (answer.op, OutcomeWord::Applied)
    );
}

#[tokio::test]
async fn the_same_command_again_brings_its_first_outcome_and_no_second_op() {
    let world = World::with(Limits::default(), Duration::from_millis(50)).await;
    let command = world.command(1, 1, open("alice"));
    // Eight at the same time, then one more: one op.
    let posts = (0..8).map(|_| world.client.submit(&command, WaitFor::Tentative));
    let answers = futures::future::try_join_all(posts).await.unwrap();
    let last = world.client.submit(&command, WaitFor::Tentative).await.unwrap();
    assert_eq!(world.node.submissions.load(Ordering::SeqCst), 1);
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    assert!(answers.iter().all(|answer| answer.op == last.op) && last.repeated);
    assert_eq!(world.client.status().await.unwrap().position.ops, 3);
    // A void one is repeated with its reason.
    let void = world.command(2, 1, open("alice"));
    for _ in 0..2 {
        assert_eq!(
            code(world.client.submit(&void, WaitFor::Tentative).await),
            (ErrorCode::NameTaken, 409)
        );
    }
    // The view is published a little after the answer.
    let limit = tokio::time::Instant::now() + Duration::from_secs(10);
    while world.client.status().await.unwrap().position.ops < 4 && tokio::time::Instant::now() < limit {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.client.status().await.unwrap().position.ops, 4);
}

#[tokio::test]
async fn who_does_not_wait_is_told_that_it_is_durable_and_asks_later() {
    let world = World::new().await;
    let command = world.command(1, 1, open("alice"));
    let answer = world.client.submit(&command, WaitFor::Nothing).await.unwrap();
    assert_eq!(answer.outcome, None);
    let again = world.client.submit(&command, WaitFor::Tentative).await.unwrap();
    assert_eq!((again.op, again.repeated), (answer.op, true));
    let status = world
        .post(
            "/v1/commands?wait=none",
            world.command(2, 1, open("bob")).bytes().to_vec(),
        )
        .await;
    assert_eq!(status.status(), 202);
}

#[tokio::test]
async fn a_submission_goes_on_when_the_asker_goes_away() {
    let world = World::with(Limits::default(), Duration::from_millis(200)).await;
    let command = world.command(1, 1, open("alice"));
    let post = world.client.submit(&command, WaitFor::Tentative);
    tokio::time::timeout(Duration::from_millis(50), post)
        .await
        .unwrap_err();
    let answer = world.client.submit(&command, WaitFor::Tentative).await.unwrap();
    assert!(answer.repeated);
    assert_eq!(world.node.submissions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_is_forged_truncated_oversize_or_expired_is_refused_and_writes_nothing() {
    let world = World::new().await;
    let good = world.command(1, 1, open("alice")).bytes().to_vec();
    let refusal = async |bytes: Vec<u8>| {
        let answer = world.post("/v1/commands", bytes).await;
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        let problem: Problem = answer.json().await.unwrap();
        (problem.status, problem.code)
    };
    let flipped = |index: usize| {
        let mut bytes = good.clone();
        bytes[index] ^= 1;
        bytes
    };
    // The last byte is of the signature, the tenth of the key, the fortieth of the nonce.
    for index in [good.len() - 1, 40] {
        assert_eq!(
            refusal(flipped(index)).await,
            (401, ErrorCode::Forged),
            "byte {index}"
        );
    }
    for length in [0, 1, 63, 64, 65, 100, good.len() - 65, good.len() - 1] {
        let (status, _) = refusal(good[..length].to_vec()).await;
        assert!(status == 400 || status == 401, "{length} bytes: {status}");
    }
    assert_eq!(refusal([good.clone(), vec![0]].concat()).await.0, 400);
    assert_eq!(
        refusal(filler(COMMAND_BYTES_MAX).to_vec()).await,
        (400, ErrorCode::Malformed)
    );
    assert_eq!(
        refusal(filler(COMMAND_BYTES_MAX + 1).to_vec()).await,
        (413, ErrorCode::TooLarge)
    );
    // A body of unknown length is read no further than its bound.
    let endless = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(filler(4096))).take(100);
    let answer = world
        .post("/v1/commands", reqwest::Body::wrap_stream(endless))
        .await;
    assert_eq!(answer.status(), 413);

    let expired = world.command_till(1, 1, now_ms() - 1, open("alice"));
    assert_eq!(refusal(expired.bytes().to_vec()).await, (422, ErrorCode::Expired));
    let far = world.command_till(1, 1, now_ms() + 25 * 3_600_000, open("alice"));
    assert_eq!(refusal(far.bytes().to_vec()).await, (422, ErrorCode::TooFarAhead));

    let json = reqwest::Client::new()
        .post(format!("{}/v1/commands", world.url))
        .header("content-type", "application/json")
        .body(good.clone());
    assert_eq!(json.send().await.unwrap().status(), 415);

    assert_eq!(world.node.submissions.load(Ordering::SeqCst), 0);
    // After all that the good one still counts.
    assert_eq!(world.post("/v1/commands", good).await.status(), 200);
}

#[tokio::test]
async fn a_command_of_another_network_is_forged_here() {
    let world = World::new().await;
    let body = open("alice").into();
    let command = ledger::command::Command {
        key: key(1).public(),
        nonce: [1; 16],
        not_after_ms: now_ms() + 60_000,
        after: vec![],
        body,
    };
    let command = command.sign(ledger::id::NetworkId([9; 32]), &key(1));
    assert_eq!(
        code(world.client.submit(&command, WaitFor::Tentative).await),
        (ErrorCode::Forged, 401)
    );
}

#[tokio::test]
async fn a_void_command_says_why_with_a_status_of_its_own() {
    let world = World::new().await;
    world.submit(1, 1, open("alice")).await.unwrap();
    world.submit(2, 1, open("bob")).await.unwrap();
    let taken = world.submit(3, 1, open("alice")).await;
    let problem = taken.as_ref().unwrap_err().problem().unwrap().clone();
    assert!(problem.op.is_some() && problem.command.is_some() && problem.hint.is_some());
    assert_eq!(problem.detail, "the name `alice` is taken");
    assert_eq!(code(taken), (ErrorCode::NameTaken, 409));

    assert_eq!(
        code(world.submit(1, 2, open("alice2")).await),
        (ErrorCode::HasAccount, 409)
    );
    // The nonce of a void command is used up too.
    assert_eq!(
        code(world.submit(1, 2, open("alice3")).await),
        (ErrorCode::NonceUsed, 409)
    );
    let stop = StopInstance {
        instance: InstanceId([5; 32]),
    };
    assert_eq!(code(world.submit(4, 1, stop).await), (ErrorCode::NoAccount, 403));
    assert_eq!(code(world.submit(1, 3, stop).await), (ErrorCode::NotFound, 404));
    let release = Release {
        description: String::new(),
        build: BuildId([5; 32]),
        shape: Shape {
            vcpus: 1,
            memory_mib: 128,
            disk_gib: 1,
        },
        port: None,
    };
    let register = RegisterAgent {
        name: "hello".into(),
        release,
    };
    assert_eq!(
        code(world.submit(1, 4, register).await),
        (ErrorCode::NotFound, 404)
    );
    let unwilling = ledger::command::Command {
        after: vec![ledger::id::CommandId([8; 32])],
        ..world.command(1, 5, stop).command().clone()
    };
    let unwilling = unwilling.sign(world.node.network, &key(1));
    assert_eq!(
        code(world.client.submit(&unwilling, WaitFor::Tentative).await),
        (ErrorCode::OutOfOrder, 409)
    );
}

#[tokio::test]
async fn what_a_stranger_asks_leaves_no_trace_and_counts_once_it_is_none() {
    let world = World::new().await;
    let stop = StopInstance {
        instance: InstanceId([5; 32]),
    };
    let early = world.command(1, 1, stop);
    for _ in 0..3 {
        let answer = world.client.submit(&early, WaitFor::Tentative).await;
        assert_eq!(code(answer), (ErrorCode::NoAccount, 403));
    }
    assert_eq!(
        world.node.submissions.load(Ordering::Relaxed),
        0,
        "nothing reached the log"
    );
    world.submit(1, 2, open("alice")).await.unwrap();
    // The same bytes, judged by the log now: their nonce was not used up.
    let answer = world.client.submit(&early, WaitFor::Tentative).await;
    assert_eq!(code(answer), (ErrorCode::NotFound, 404));
}

#[tokio::test]
async fn a_flood_of_new_accounts_is_told_to_wait_and_those_that_are_there_go_on() {
    let limits = Limits {
        newcomers: 2,
        newcomer_time: Duration::from_millis(200),
        ..Limits::default()
    };
    let world = World::with(limits, Duration::ZERO).await;
    world.submit(1, 1, open("a1")).await.unwrap();
    let mut refused = 0;
    for seed in 2..30 {
        match world.submit(seed, 1, open(&format!("a{seed}"))).await {
            Ok(_) => {}
            answer => {
                assert_eq!(code(answer), (ErrorCode::Busy, 503));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "28 at once are more than 2");
    assert_eq!(
        code(world.submit(1, 2, open("b")).await),
        (ErrorCode::HasAccount, 409)
    );
    tokio::time::sleep(Duration::from_millis(250)).await;
    world.submit(40, 1, open("late")).await.unwrap();
}

#[tokio::test]
async fn a_node_that_cannot_write_says_so_and_takes_the_command_later() {
    let world = World::new().await;
    let command = world.command(1, 1, open("alice"));
    let errors = [
        (SubmitError::Busy, ErrorCode::Busy, 503),
        (SubmitError::ShuttingDown, ErrorCode::ShuttingDown, 503),
        (SubmitError::ClockOff(1500), ErrorCode::ClockOff, 503),
        (SubmitError::Failed("the disk".into()), ErrorCode::Internal, 500),
    ];
    for (error, expected, status) in errors {
        *world.node.refuse.lock().unwrap() = Some(error);
        assert_eq!(
            code(world.client.submit(&command, WaitFor::Tentative).await),
            (expected, status)
        );
    }
    *world.node.refuse.lock().unwrap() = None;
    assert!(
        !world
            .client
            .submit(&command, WaitFor::Tentative)
            .await
            .unwrap()
            .repeated
    );
}
