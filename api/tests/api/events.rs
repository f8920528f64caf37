//! Events: nothing is missed, wherever a consumer begins again.

use std::time::Duration;

use api::Limits;
use api::client::{EventFilter, EventStart};
use api::problem::{ErrorCode, Problem};
use api::views::commands::OutcomeWord;
use api::views::ops::Noun;
use futures::{StreamExt, TryStreamExt};
use ledger::command::accounts::OpenAccount;
use ledger::report::nodes::{AnnounceNode, Capacity, Roles};

use crate::node::{World, code};

fn announce(name: &str) -> AnnounceNode {
    AnnounceNode {
        name: name.into(),
        roles: Roles {
            gateway: true,
            compute: false,
            builder: false,
            edge: false,
            witness: false,
        },
        addresses: vec![],
        ipv4: vec![],
        capacity: Capacity::default(),
        payout: None,
    }
}

#[tokio::test]
async fn a_consumer_gets_what_was_and_what_comes_in_order() {
    let world = World::new().await;
    let events = world.client.events(EventFilter::default(), EventStart::Offset(0));
    world
        .submit(1, 1, OpenAccount { name: "alice".into() })
        .await
        .unwrap();
    let first: Vec<_> = events.take(3).try_collect().await.unwrap();
    let kinds: Vec<_> = first
        .iter()
        .map(|event| (event.offset, event.entry.kind.as_str()))
        .collect();
    assert_eq!(kinds, [(0, "OpenChain"), (1, "AnnounceNode"), (2, "OpenAccount")]);
    let entry = &first[2].entry;
    assert_eq!(entry.outcome.as_ref().unwrap().result, OutcomeWord::Applied);
    assert_eq!(entry.subject.as_ref().unwrap().noun, Noun::Account);
    assert_eq!(entry.account_name.as_deref(), Some("alice"));
}

#[tokio::test]
async fn a_consumer_that_begins_now_misses_nothing_from_then_on() {
    let world = World::new().await;
    // The raw stream tells where it is before anything happens.
    let mut raw = world.get("/v1/events").await;
    let greeting = String::from_utf8(raw.chunk().await.unwrap().unwrap().to_vec()).unwrap();
    let cursor = format!("{}:2", world.node.secret.node_id());
    assert!(
        greeting.contains("event: position") && greeting.contains(&cursor),
        "{greeting}"
    );
    drop(raw);
    // While nobody listens something happens; whoever resumes gets it.
    world.node.report(announce("two"));
    let events = world
        .client
        .events(EventFilter::default(), EventStart::Cursor(cursor));
    world.node.report(announce("three"));
    let found: Vec<_> = events.take(2).try_collect().await.unwrap();
    assert_eq!(found.iter().map(|event| event.offset).collect::<Vec<_>>(), [2, 3]);
}

#[tokio::test]
async fn a_filter_keeps_the_kinds_that_were_asked_for() {
    let world = World::new().await;
    let filter = EventFilter {
        kinds: vec!["OpenAccount".into(), "Other".into()],
    };
    for count in 0..200 {
        world.node.report(announce(&format!("node-{count}")));
    }
    world
        .submit(1, 1, OpenAccount { name: "alice".into() })
        .await
        .unwrap();
    let mut events = world.client.events(filter, EventStart::Offset(0));
    assert_eq!(events.next().await.unwrap().unwrap().offset, 202);
}

#[tokio::test]
async fn a_stream_is_never_silent_and_moves_its_cursor_past_what_it_filters() {
    let limits = Limits {
        heartbeat: Duration::from_millis(50),
        ..Limits::default()
    };
    let world = World::with(limits, Duration::ZERO).await;
    let mut raw = world.get("/v1/events?kind=Nothing&from=0").await;
    let wanted = format!("{}:2", world.node.secret.node_id());
    let mut text = String::new();
    while !text.contains(&wanted) {
        let chunk = tokio::time::timeout(Duration::from_secs(5), raw.chunk())
            .await
            .unwrap();
        text.push_str(std::str::from_utf8(&chunk.unwrap().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn a_cursor_that_leads_nowhere_is_refused() {
    let world = World::new().await;
    let resume = async |cursor: String| {
        let request = reqwest::Client::new().get(format!("{}/v1/events", world.url));
        let answer = request.header("last-event-id", cursor).send().await.unwrap();
        assert!(answer.status().is_client_error(), "{}", answer.status());
        answer.json::<Problem>().await.unwrap().code
    };
    let node = world.node.secret.node_id();
    assert_eq!(
        resume(format!("{}:1", "ab".repeat(32))).await,
        ErrorCode::OtherJournal
    );
    assert_eq!(resume(format!("{node}:3")).await, ErrorCode::OtherJournal);
    assert_eq!(resume("7".into()).await, ErrorCode::Malformed);
    *world.node.pruned.lock().unwrap() = 1;
    assert_eq!(resume(format!("{node}:0")).await, ErrorCode::Pruned);
    let mut events = world.client.events(EventFilter::default(), EventStart::Offset(0));
    assert_eq!(code(events.next().await.unwrap()), (ErrorCode::Pruned, 410));
    assert!(
        events.next().await.is_none(),
        "a stream ends with an error that does not pass"
    );
}

#[tokio::test]
async fn the_client_goes_on_where_it_was_when_the_server_comes_back() {
    let mut world = World::new().await;
    let mut events = world.client.events(EventFilter::default(), EventStart::Offset(0));
    assert_eq!(events.next().await.unwrap().unwrap().offset, 0);
    assert_eq!(events.next().await.unwrap().unwrap().offset, 1);
    // The server goes, something happens, it comes back at the same address with the same journal.
    world.server.stop().await;
    world.node.report(announce("two"));
    let listener = tokio::net::TcpListener::bind(world.address).await.unwrap();
    world.server = api::serve(listener, world.node.clone());
    let next = tokio::time::timeout(Duration::from_secs(10), events.next())
        .await
        .unwrap();
    assert_eq!(next.unwrap().unwrap().offset, 2);
}

#[tokio::test]
async fn there_are_no_more_streams_than_the_node_takes_on() {
    let limits = Limits {
        event_streams: 2,
        ..Limits::default()
    };
    let world = World::with(limits, Duration::ZERO).await;
    let first = world.get("/v1/events").await;
    let second = world.get("/v1/events").await;
    assert_eq!((first.status().as_u16(), second.status().as_u16()), (200, 200));
    let third = world.get("/v1/events").await;
    assert_eq!(third.status(), 503);
    assert_eq!(third.headers()["retry-after"], "1");
    drop(first);
    for _ in 0..100 {
        if world.get("/v1/events").await.status() == 200 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the place of a consumer that left was not given to another");
}
