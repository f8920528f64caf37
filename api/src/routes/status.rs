//! How the node is and which network it is in; for machines: health, readiness, figures, the interface itself.

use std::fmt::Write;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;

use super::app::App;
use crate::path;
use crate::problem::Problem;
use crate::views::status::{Counts, NetworkView, ReadyView, StatusView};

/// How the node is.
#[utoipa::path(
    get, path = path::STATUS, tag = "status",
    responses(
        (status = 200, body = StatusView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn status(State(app): State<App>) -> Result<Json<StatusView>, Problem> {
    let (position, hash) = app.state_hash().await?;
    let cloud = app.door.cloud();
    Ok(Json(StatusView {
        node: app.door.status(),
        network: cloud.network,
        network_name: cloud.genesis.name.clone(),
        position: position.into(),
        state_hash: HEXLOWER.encode(&hash),
        counts: Counts {
            accounts: cloud.accounts.len() as u64,
            nodes: cloud.nodes.len() as u64,
            agents: cloud.agents.len() as u64,
            builds: cloud.builds.len() as u64,
            instances: cloud.instances.len() as u64,
            domains: cloud.domains.len() as u64,
            commands: cloud.commands.len() as u64,
        },
    }))
}

/// What network this is: its id goes into what a command signs.
#[utoipa::path(
    get, path = path::NETWORK, tag = "status",
    responses(
        (status = 200, body = NetworkView),
        (status = "default", body = Problem, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn network(State(app): State<App>) -> Json<NetworkView> {
    Json((&app.door.cloud().genesis).into())
}

/// Whether the process answers.
#[utoipa::path(
    get, path = path::HEALTHZ, tag = "status",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether the node can serve, and why not.
#[utoipa::path(
    get, path = path::READYZ, tag = "status",
    responses((status = 200, body = ReadyView), (status = 503, body = ReadyView))
)]
pub(crate) async fn readyz(State(app): State<App>) -> (StatusCode, Json<ReadyView>) {
    let mut why = app.door.status().not_ready;
    if app.shutdown.is_cancelled() {
        why.push("the node is shutting down".into());
    }
    let ready = why.is_empty();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(ReadyView { ready, why }))
}

/// Figures for Prometheus: those that the process recorded, and the node's counters.
#[utoipa::path(
    get, path = path::METRICS, tag = "status",
    responses((status = 200, body = String, content_type = "text/plain"))
)]
pub(crate) async fn metrics(State(app): State<App>) -> Response {
    let mut text = crate::figures::render();
    let status = app.door.status();
    let cloud = app.door.cloud();
    let gauges = [
        ("form_uptime_seconds", status.uptime_ms / 1000),
        ("form_ready", u64::from(status.not_ready.is_empty())),
        (
            "form_peers_connected",
            status.peers.iter().filter(|peer| peer.connected).count() as u64,
        ),
        ("form_ops_folded", cloud.position.ops),
        ("form_clock_seconds", cloud.position.hlc.ms() / 1000),
        ("form_final_height", cloud.finality.height),
        ("form_final_seconds", cloud.finality.time_ms / 1000),
        ("form_instances", cloud.instances.len() as u64),
        ("form_nodes", cloud.nodes.len() as u64),
        ("form_agents", cloud.agents.len() as u64),
        ("form_accounts", cloud.accounts.len() as u64),
    ];
    for (name, value) in gauges {
        let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
    }
    let _ = writeln!(text, "# TYPE form_node_counter_total counter");
    for (part, counters) in &status.counters {
        for (what, value) in counters {
            let (part, what) = (label(part), label(what));
            let _ = writeln!(
                text,
                "form_node_counter_total{{part=\"{part}\",what=\"{what}\"}} {value}"
            );
        }
    }
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
}

/// A label's value, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

/// This document.
#[utoipa::path(
    get, path = path::OPENAPI, tag = "status",
    responses((status = 200, body = String, content_type = "application/json"))
)]
pub(crate) async fn openapi() -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        crate::openapi::document(),
    )
        .into_response()
}
