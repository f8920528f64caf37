//! `form status`: the network in a few lines, as one node sees it. Nodes that folded the same ops show the
//! same state hash.

use std::collections::BTreeMap;

use api::views::status::Counts;
use clap::Args;
use serde::Serialize;

use crate::exit::Failure;
use crate::invocation::Invocation;
use crate::output::ago;
use crate::submit::now_ms;

/// The network as the node sees it.
#[derive(Debug, Args)]
pub struct StatusArgs {}

#[derive(Serialize)]
struct NetworkStatus {
    network: String,
    network_name: String,
    node: String,
    node_name: String,
    ops: u64,
    hlc: String,
    newest_op_ms: u64,
    state_hash: String,
    counts: Counts,
    nodes_live: u64,
    instances: BTreeMap<String, u64>,
    not_ready: Vec<String>,
}

impl StatusArgs {
    /// Shows it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let status = invocation.status().await?;
        let live = invocation.nodes().await?.iter().filter(|node| node.live).count();
        let mut instances = BTreeMap::new();
        for instance in invocation.instances().await? {
            *instances.entry(instance.state.to_string()).or_insert(0) += 1;
        }
        let view = NetworkStatus {
            network: status.network.to_string(),
            network_name: status.network_name,
            node: status.node.id.to_string(),
            node_name: status.node.name,
            ops: status.position.ops,
            hlc: status.position.hlc,
            newest_op_ms: status.position.at_ms,
            state_hash: status.state_hash,
            counts: status.counts,
            nodes_live: live as u64,
            instances,
            not_ready: status.node.not_ready,
        };
        let fields = |view: &NetworkStatus| {
            let counts = &view.counts;
            let words: Vec<String> = view
                .instances
                .iter()
                .map(|(state, count)| format!("{count} {state}"))
                .collect();
            let instances = if words.is_empty() {
                "none".into()
            } else {
                words.join(", ")
            };
            let mut fields = vec![
                ("network", format!("{} ({})", view.network_name, view.network)),
                ("seen by", format!("{} ({})", view.node_name, view.node)),
                (
                    "position",
                    format!(
                        "{} ops, the newest {}",
                        view.ops,
                        ago(view.newest_op_ms, now_ms())
                    ),
                ),
                ("state hash", view.state_hash.clone()),
                ("nodes", format!("{} live of {}", view.nodes_live, counts.nodes)),
                ("instances", instances),
                (
                    "also",
                    format!(
                        "accounts {}, agents {}, builds {}, domains {}, commands {}",
                        counts.accounts, counts.agents, counts.builds, counts.domains, counts.commands
                    ),
                ),
            ];
            if !view.not_ready.is_empty() {
                fields.push(("not ready", view.not_ready.join("; ")));
            }
            fields
        };
        invocation
            .output
            .one(&view, fields, |view| view.state_hash.clone())
    }
}
