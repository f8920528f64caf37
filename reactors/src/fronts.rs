//! Where the front door of this node sends requests: host names to healthy instances. A name whose
//! instances are all unwell stands there without a target; it is served an error that says so.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use net::address;
use net::fronts::{FrontTable, Target};
use projections::instances::{Instance, Wanted};

use crate::action::Action;
use crate::names::{agent_name, instance_name};
use crate::sight::Sight;

/// Instances behind one name, at most. Beyond it those of the smallest ids stand.
pub const TARGETS_MAX: usize = 256;

/// The front-door table, on a node that has one.
pub fn decide(sight: &Sight<'_>) -> Option<Action> {
    sight.me.roles.edge.then(|| Action::Fronts(table(sight)))
}

fn table(sight: &Sight<'_>) -> FrontTable {
    let mut hosts = BTreeMap::new();
    let inner = sight
        .cloud
        .agents
        .values()
        .map(|agent| (agent_name(&agent.name), agent.id));
    for (name, agent) in inner.chain(sight.domains()) {
        let targets = sight
            .healthy_of(agent)
            .filter_map(|instance| target(sight, instance));
        hosts.insert(name, targets.take(TARGETS_MAX).collect());
    }
    for instance in sight.cloud.instances.values() {
        if instance.wanted == Wanted::Deleted || instance.request.port.is_none() {
            continue;
        }
        let Some(name) = instance_name(sight, instance) else {
            continue;
        };
        let healthy = sight.is_healthy(instance.id).then(|| target(sight, instance));
        hosts.insert(name, healthy.flatten().into_iter().collect());
    }
    FrontTable { hosts }
}

fn target(sight: &Sight<'_>, instance: &Instance) -> Option<Target> {
    let ipv6 = address::instance_address(&sight.cloud.network.0, &instance.id.0);
    let address = SocketAddr::from((ipv6, instance.request.port?));
    Some(Target {
        address,
        instance: instance.id.to_string(),
    })
}
