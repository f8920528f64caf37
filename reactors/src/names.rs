//! What the DNS of this node answers from. Only what is alive and healthy has addresses; a name that exists
//! without them is answered with no data, so that a client asks again soon.
//!
//! ```text
//! <agent>.fog, claimed domains              the edge nodes, while an instance of the agent can be reached
//! <agent>.agent.form.internal               the agent's healthy instances
//! <instance>.<account>.form.internal        the instance, while it is healthy
//! <node>.node.form.internal                 the node, while it is live
//! ```

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ledger::command::domains::VANITY_ZONE;
use ledger::id::NodeId;
use net::address;
use net::names::{NameRecords, NameTable};
use projections::instances::{Instance, Wanted};

use crate::action::Action;
use crate::sight::Sight;

/// The zone of names that only this network knows.
pub const INTERNAL_ZONE: &str = "form.internal";

/// The label under which nodes stand in it. An account of this name has no instance names.
pub const NODE_LABEL: &str = "node";

/// The label under which agents stand in it. An account of this name has no instance names.
pub const AGENT_LABEL: &str = "agent";

/// How long an answer may be kept. Shorter than a presence counts, so that a name follows a lost node.
pub const NAME_TTL_S: u32 = 5;

/// Addresses of one kind that a name has, at most: an answer should fit into one datagram. Beyond it the
/// smallest stand.
pub const NAME_ADDRESSES_MAX: usize = 16;

/// The names table, on a node that answers.
pub fn decide(sight: &Sight<'_>) -> Option<Action> {
    sight.me.roles.edge.then(|| Action::Names(table(sight)))
}

/// The name of an instance; none when its account's name is a label of ours.
pub fn instance_name(sight: &Sight<'_>, instance: &Instance) -> Option<String> {
    let account = &sight.cloud.accounts.get(&instance.owner)?.name;
    let free = account != NODE_LABEL && account != AGENT_LABEL;
    free.then(|| format!("{}.{account}.{INTERNAL_ZONE}", instance.request.name))
}

/// The inner name of an agent.
pub fn agent_name(agent: &str) -> String {
    format!("{agent}.{AGENT_LABEL}.{INTERNAL_ZONE}")
}

fn table(sight: &Sight<'_>) -> NameTable {
    let mut names = BTreeMap::new();
    let edge = edge(sight);
    for (domain, agent) in sight.domains() {
        let reachable = sight
            .healthy_of(agent)
            .any(|instance| instance.request.port.is_some());
        names.insert(domain, if reachable { edge.clone() } else { records([], []) });
    }
    for agent in sight.cloud.agents.values() {
        let healthy = sight
            .healthy_of(agent.id)
            .map(|instance| instance_address(sight, instance));
        names.insert(agent_name(&agent.name), records([], healthy));
    }
    for instance in sight
        .cloud
        .instances
        .values()
        .filter(|it| it.wanted != Wanted::Deleted)
    {
        let Some(name) = instance_name(sight, instance) else {
            continue;
        };
        let healthy = sight
            .is_healthy(instance.id)
            .then(|| instance_address(sight, instance));
        names.insert(name, records([], healthy));
    }
    names.extend(nodes(sight));
    let zones = vec![INTERNAL_ZONE.to_owned(), VANITY_ZONE.to_owned()];
    // Modulo 2^32, as serials are. Changes of health are no ops; `Pace` counts them on top.
    NameTable {
        zones,
        names,
        serial: sight.cloud.position.ops as u32,
    }
}

/// The live nodes that have the front door.
fn edge(sight: &Sight<'_>) -> NameRecords {
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for (node, announced) in sight.live_with(|roles| roles.edge) {
        ipv4.extend(announced.ipv4.iter().copied());
        ipv6.push(node_address(sight, node));
    }
    records(ipv4, ipv6)
}

/// Nodes by name. Of two of one name the live one stands there, then the one that started last, then the
/// one of the smallest key: a node that was set up anew takes its name back.
fn nodes(sight: &Sight<'_>) -> BTreeMap<String, NameRecords> {
    let mut best: BTreeMap<&str, _> = BTreeMap::new();
    for (node, announced) in sight.announced() {
        let started = sight.cloud.nodes.get(&node).map(|node| node.started);
        let claim = (sight.is_live(node), started, Reverse(node));
        let entry = best.entry(announced.name.as_str()).or_insert((claim, announced));
        if entry.0 < claim {
            *entry = (claim, announced);
        }
    }
    best.into_iter()
        .map(|(name, ((live, _, Reverse(node)), announced))| {
            let records = if live {
                records(announced.ipv4.iter().copied(), [node_address(sight, node)])
            } else {
                records([], [])
            };
            (format!("{name}.{NODE_LABEL}.{INTERNAL_ZONE}"), records)
        })
        .collect()
}

fn instance_address(sight: &Sight<'_>, instance: &Instance) -> Ipv6Addr {
    address::instance_address(&sight.cloud.network.0, &instance.id.0)
}

fn node_address(sight: &Sight<'_>, node: NodeId) -> Ipv6Addr {
    address::node_address(&sight.cloud.network.0, &node.0)
}

fn records(
    ipv4: impl IntoIterator<Item = Ipv4Addr>,
    ipv6: impl IntoIterator<Item = Ipv6Addr>,
) -> NameRecords {
    NameRecords {
        ipv4: few(ipv4),
        ipv6: few(ipv6),
        txt: Vec::new(),
        ttl_s: NAME_TTL_S,
    }
}

fn few<T: Ord>(addresses: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut addresses: Vec<T> = addresses.into_iter().collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(NAME_ADDRESSES_MAX);
    addresses
}
