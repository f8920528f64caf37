//! Views: one thing by its id, name or the first digits; many by pages and filters; what an instance is called.

use std::collections::BTreeSet;

use api::client::{ListQuery, OpsListQuery};
use api::door::{InstanceLive, NodeLive};
use api::problem::ErrorCode;
use api::views::builds::BuildWord;
use api::views::domains::DomainOrigin;
use api::views::instances::InstanceWord;
use ledger::command::accounts::OpenAccount;
use ledger::command::agents::{RegisterAgent, Release};
use ledger::command::domains::ClaimDomain;
use ledger::command::images::BuildImage;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape, StartInstance, StopInstance};
use ledger::id::{BuildId, Digest, InstanceId, OpId};
use ledger::report::images::{ImageBuilt, ImageFailed};
use ledger::report::instances::{CannotPlace, InstanceChanged, Phase, PlaceInstance};

use crate::node::{World, code, now_ms};

const SHAPE: Shape = Shape {
    vcpus: 1,
    memory_mib: 128,
    disk_gib: 1,
};
const IMAGE: Digest = Digest([6; 32]);

fn launch(build: BuildId) -> LaunchInstance {
    LaunchInstance {
        name: "web".into(),
        agent: None,
        build,
        shape: SHAPE,
        port: Some(80),
    }
}

impl World {
    async fn account(&self, seed: u8, name: &str) {
        self.submit(seed, 1, OpenAccount { name: name.into() })
            .await
            .unwrap();
    }

    async fn build(&self, seed: u8, nonce: u64) -> BuildId {
        let held_by = self.node.secret.node_id();
        let body = BuildImage {
            name: "img".into(),
            context: Digest([5; 32]),
            context_bytes: 9,
            held_by,
        };
        self.submit(seed, nonce, body).await.unwrap().id.into()
    }

    async fn word(&self, id: InstanceId) -> InstanceWord {
        self.client.instance(&id.to_string()).await.unwrap().item.state
    }

    fn see(&self, live: bool, images: &[Digest], instance: Option<(InstanceId, u64, bool)>) {
        let mut seen = self.node.live.lock().unwrap();
        let images: BTreeSet<Digest> = images.iter().copied().collect();
        let node = NodeLive {
            live,
            last_seen_ms: Some(now_ms()),
            images,
            ..NodeLive::default()
        };
        seen.nodes.insert(self.node.secret.node_id(), node);
        seen.instances.clear();
        if let Some((id, generation, healthy)) = instance {
            let live = InstanceLive {
                address: Some("fd00::1".parse().unwrap()),
                names: vec!["web.alice.form.internal".into()],
                generation: Some(generation),
                healthy,
            };
            seen.instances.insert(id, live);
        }
    }
}

#[tokio::test]
async fn a_list_comes_in_pages_that_miss_nothing_and_repeat_nothing() {
    let world = World::new().await;
    for seed in 1..=7 {
        world.account(seed, &format!("account-{seed}")).await;
    }
    let mut query = ListQuery {
        limit: Some(3),
        ..ListQuery::default()
    };
    let mut seen = BTreeSet::new();
    let mut sizes = Vec::new();
    loop {
        let page = world.client.accounts(&query).await.unwrap();
        assert_eq!(page.position.ops, 9);
        sizes.push(page.items.len());
        seen.extend(page.items.into_iter().map(|account| account.name));
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
    assert_eq!((sizes, seen.len()), (vec![3, 3, 1], 7));
    let named = ListQuery {
        name: Some("account-4".into()),
        ..ListQuery::default()
    };
    assert_eq!(world.client.accounts(&named).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_parameter_that_is_wrong_or_unknown_is_refused_not_passed_over() {
    let world = World::new().await;
    for path in [
        "/v1/accounts?limit=0",
        "/v1/accounts?limit=1001",
        "/v1/accounts?limit=x",
        "/v1/accounts?after=zz",
        "/v1/accounts?owner=x",
        "/v1/instances?state=happy",
        "/v1/ops?incarnation=xyz",
        "/v1/ops/12",
        "/v1/commands?wait=final",
        "/v1/accounts/%ff",
        "/v1/events?from=-1",
    ] {
        let answer = if path.starts_with("/v1/commands") {
            world.post(path, vec![]).await
        } else {
            world.get(path).await
        };
        assert_eq!(answer.status(), 400, "{path}");
        let problem: serde_json::Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "malformed", "{path}");
    }
}

#[tokio::test]
async fn a_thing_is_found_by_its_id_its_name_or_its_first_digits() {
    let world = World::new().await;
    world.account(1, "alice").await;
    let id = world.client.account("alice").await.unwrap().item.id.to_string();
    for text in [&id, &id[..8], &id[..63]] {
        assert_eq!(world.client.account(text).await.unwrap().item.name, "alice");
    }
    for text in [
        "bob",
        "0",
        &id[..3],
        &format!("{id}0"),
        &id.to_uppercase(),
        "a/../../v1",
        "",
        "%",
    ] {
        let found = world.client.account(text).await;
        assert!(found.is_err(), "`{text}` found {found:?}");
    }
    assert_eq!(
        code(world.client.account("bob").await),
        (ErrorCode::NotFound, 404)
    );
    let node = world.node.secret.node_id().to_string();
    for text in ["one", &node, &node[..6]] {
        let view = world.client.node(text).await.unwrap().item;
        assert_eq!(
            (view.name.as_deref(), view.capacity.unwrap().vcpus, view.live),
            (Some("one"), 4, false)
        );
    }
}

#[tokio::test]
async fn two_instances_of_one_name_need_more_than_the_name() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for seed in [1, 2] {
        world.account(seed, &format!("account-{seed}")).await;
        let build = world.build(seed, 2).await;
        ids.push(world.submit(seed, 3, launch(build)).await.unwrap().id);
    }
    assert_eq!(
        code(world.client.instance("web").await),
        (ErrorCode::Ambiguous, 409)
    );
    let query = ListQuery {
        owner: Some("account-2".into()),
        name: Some("web".into()),
        ..ListQuery::default()
    };
    let page = world.client.instances(&query).await.unwrap();
    assert_eq!(
        page.items.iter().map(|view| view.id.0).collect::<Vec<_>>(),
        [ids[1].0]
    );
    world
        .submit(
            2,
            4,
            DeleteInstance {
                instance: ids[1].into(),
            },
        )
        .await
        .unwrap();
    assert_eq!(world.client.instance("web").await.unwrap().item.id.0, ids[0].0);
}

#[tokio::test]
async fn an_instance_is_called_what_it_is() {
    let world = World::new().await;
    let node = world.node.secret.node_id();
    world.account(1, "alice").await;
    let build = world.build(1, 2).await;
    let id: InstanceId = world.submit(1, 3, launch(build)).await.unwrap().id.into();
    assert_eq!(world.word(id).await, InstanceWord::Building);

    world.node.report(ImageBuilt {
        build,
        image: IMAGE,
        bytes: 1,
        took_ms: 1,
    });
    assert_eq!(
        world.client.build(&build.to_string()).await.unwrap().item.state,
        BuildWord::Built
    );
    assert_eq!(world.word(id).await, InstanceWord::Placing);
    world.node.report(CannotPlace {
        instance: id,
        generation: 1,
        reason: "one: too small".into(),
    });
    let view = world.client.instance("web").await.unwrap().item;
    assert_eq!(
        (view.state, view.why.as_deref()),
        (InstanceWord::Placing, Some("one: too small"))
    );

    world.node.report(PlaceInstance {
        instance: id,
        generation: 1,
        previous: None,
        node,
    });
    assert_eq!(
        world.word(id).await,
        InstanceWord::Unhealthy,
        "its node is silent"
    );
    world.see(true, &[], None);
    assert_eq!(world.word(id).await, InstanceWord::Fetching);
    world.see(true, &[IMAGE], None);
    assert_eq!(world.word(id).await, InstanceWord::Starting);

    let report = |phase| {
        world.node.report(InstanceChanged {
            instance: id,
            generation: 1,
            start: 1,
            phase,
        })
    };
    report(Phase::Booted);
    world.see(true, &[IMAGE], Some((id, 1, false)));
    assert_eq!(world.word(id).await, InstanceWord::Starting);
    report(Phase::Serving);
    assert_eq!(world.word(id).await, InstanceWord::Unhealthy);
    world.see(true, &[IMAGE], Some((id, 1, true)));
    let view = world.client.instance("web").await.unwrap().item;
    assert_eq!(view.state, InstanceWord::Running);
    assert_eq!(
        (view.node, view.node_name.as_deref(), view.generation),
        (Some(node), Some("one"), 1)
    );
    assert_eq!(view.names, ["web.alice.form.internal"]);
    assert_eq!(view.address, Some("fd00::1".parse().unwrap()));
    let running = ListQuery {
        state: Some("running".into()),
        node: Some("one".into()),
        ..ListQuery::default()
    };
    assert_eq!(world.client.instances(&running).await.unwrap().items.len(), 1);
    // An older generation that still runs there is not this one.
    world.see(true, &[IMAGE], Some((id, 0, true)));
    assert_eq!(world.word(id).await, InstanceWord::Unhealthy);
    world.see(false, &[IMAGE], Some((id, 1, true)));
    assert_eq!(world.word(id).await, InstanceWord::Unhealthy);

    world.see(true, &[IMAGE], None);
    world.submit(1, 4, StopInstance { instance: id }).await.unwrap();
    assert_eq!(world.word(id).await, InstanceWord::Stopping);
    report(Phase::Stopped);
    assert_eq!(world.word(id).await, InstanceWord::Stopped);
    world.submit(1, 5, StartInstance { instance: id }).await.unwrap();
    assert_eq!(world.word(id).await, InstanceWord::Starting);
    let failed = Phase::Failed {
        reason: "exec format error".into(),
        exit_code: Some(126),
    };
    world.node.report(InstanceChanged {
        instance: id,
        generation: 1,
        start: 2,
        phase: failed,
    });
    let view = world.client.instance("web").await.unwrap().item;
    assert_eq!(
        (view.state, view.exit_code, view.starts),
        (InstanceWord::Failed, Some(126), 2)
    );
    assert_eq!(view.why.as_deref(), Some("exec format error"));
    world.submit(1, 6, DeleteInstance { instance: id }).await.unwrap();
    assert_eq!(world.word(id).await, InstanceWord::Deleting);
}

#[tokio::test]
async fn an_instance_of_a_build_that_failed_has_failed_and_says_why() {
    let world = World::new().await;
    world.account(1, "alice").await;
    let build = world.build(1, 2).await;
    let id: InstanceId = world.submit(1, 3, launch(build)).await.unwrap().id.into();
    world.node.report(ImageFailed {
        build,
        reason: "no such package".into(),
    });
    let view = world.client.instance(&id.to_string()).await.unwrap().item;
    assert_eq!(view.state, InstanceWord::Failed);
    assert!(view.why.unwrap().contains("no such package"));
    let failed = ListQuery {
        state: Some("failed".into()),
        ..ListQuery::default()
    };
    assert_eq!(
        world.client.builds(&failed).await.unwrap().items[0]
            .why
            .as_deref(),
        Some("no such package")
    );
}

#[tokio::test]
async fn a_name_leads_to_its_agent_whether_claimed_or_its_own() {
    let world = World::new().await;
    world.account(1, "alice").await;
    let build = world.build(1, 2).await;
    let release = Release {
        description: "greets".into(),
        build,
        shape: SHAPE,
        port: Some(80),
    };
    let agent = world
        .submit(
            1,
            3,
            RegisterAgent {
                name: "hello".into(),
                release,
            },
        )
        .await
        .unwrap()
        .id;
    world
        .submit(
            1,
            4,
            ClaimDomain {
                name: "hi.fog".into(),
                agent: agent.into(),
            },
        )
        .await
        .unwrap();
    let page = world.client.domains(&ListQuery::default()).await.unwrap();
    let found: Vec<_> = page
        .items
        .iter()
        .map(|view| (view.name.as_str(), view.origin, view.agent.0 == agent.0))
        .collect();
    let expected = [
        ("hello.fog", DomainOrigin::Vanity, true),
        ("hi.fog", DomainOrigin::Claimed, true),
    ];
    assert_eq!(found, expected);
    assert_eq!(
        world
            .client
            .domain("hello.fog")
            .await
            .unwrap()
            .item
            .agent_name
            .as_deref(),
        Some("hello")
    );
    assert_eq!(
        code(world.client.domain("none.fog").await),
        (ErrorCode::NotFound, 404)
    );
    let view = world.client.agent("hello").await.unwrap().item;
    assert_eq!(
        (view.owner_name.as_deref(), view.port, view.image),
        (Some("alice"), Some(80), None)
    );
}

#[tokio::test]
async fn ops_are_read_in_both_directions_with_what_became_of_them() {
    let world = World::new().await;
    world.account(1, "alice").await;
    let void = world.submit(2, 1, OpenAccount { name: "alice".into() }).await;
    assert_eq!(code(void).0, ErrorCode::NameTaken);
    let kinds = async |query: &OpsListQuery| {
        let page = world.client.ops(query).await.unwrap();
        let kinds: Vec<String> = page
            .items
            .iter()
            .flat_map(|op| &op.entries)
            .map(|entry| entry.kind.clone())
            .collect();
        (kinds, page.next.map(|next| next.parse::<OpId>().unwrap()))
    };
    let all = ["OpenChain", "AnnounceNode", "OpenAccount", "OpenAccount"];
    let query = OpsListQuery::default();
    assert_eq!(kinds(&query).await, (all.map(String::from).to_vec(), None));
    let query = OpsListQuery {
        limit: Some(3),
        newest_first: true,
        ..query
    };
    let (newest, next) = kinds(&query).await;
    assert_eq!(newest, ["OpenAccount", "OpenAccount", "AnnounceNode"]);
    let query = OpsListQuery { after: next, ..query };
    assert_eq!(kinds(&query).await, (vec!["OpenChain".to_owned()], None));
    let query = OpsListQuery {
        incarnation: Some("1".into()),
        ..OpsListQuery::default()
    };
    assert_eq!(kinds(&query).await.0, Vec::<String>::new());
    let query = OpsListQuery {
        node: Some("one".into()),
        limit: Some(1),
        ..OpsListQuery::default()
    };
    assert_eq!(kinds(&query).await.0, ["OpenChain"]);
    let query = OpsListQuery {
        after: Some(OpId([1; 32])),
        ..OpsListQuery::default()
    };
    assert_eq!(code(world.client.ops(&query).await), (ErrorCode::NotFound, 404));

    let page = world.client.ops(&OpsListQuery::default()).await.unwrap();
    let op = world.client.op(page.items[3].id).await.unwrap().item;
    let entry = &op.entries[0];
    assert_eq!(entry.content, serde_json::json!({ "name": "alice" }));
    assert_eq!(entry.outcome.as_ref().unwrap().code, Some(ErrorCode::NameTaken));
    assert_eq!(page.items[2].entries[0].account_name.as_deref(), Some("alice"));
    assert_eq!(
        code(world.client.op(OpId([1; 32])).await),
        (ErrorCode::NotFound, 404)
    );
    assert_eq!(world.client.verify_ops().await.unwrap().ops, 4);
}

#[tokio::test]
async fn status_network_and_figures_agree() {
    let world = World::new().await;
    world.account(1, "alice").await;
    let status = world.client.status().await.unwrap();
    assert_eq!(
        (status.position.ops, status.counts.accounts, status.counts.nodes),
        (3, 1, 1)
    );
    assert_eq!(status.network, world.node.network);
    use api::door::Door;
    let hash = data_encoding::HEXLOWER.encode(&world.node.cloud().state_hash());
    assert_eq!(status.state_hash, hash);
    assert_eq!(world.client.network().await.unwrap().id, world.node.network);
    assert!(world.client.ready().await.unwrap().ready);
    assert_eq!(world.get("/healthz").await.text().await.unwrap(), "ok\n");
    let figures = world.client.metrics().await.unwrap();
    for line in [
        "form_ops_folded 3",
        "form_node_counter_total{part=\"ledger\",what=\"admitted\"} 7",
    ] {
        assert!(
            figures.lines().any(|found| found == line),
            "{line} is not in\n{figures}"
        );
    }
    let counted = "form_api_requests_total{method=\"POST\",route=\"/v1/commands\",status=\"200\"}";
    assert!(figures.contains(counted), "{figures}");
    assert_eq!(world.client.openapi().await.unwrap(), api::openapi::document());
}
