//! What the nodes carry by the Cloud, and whom a node has no room for.
//!
//! An instance that stands still counts, since it may start again where it is; one on its way out counts,
//! since its room is not free before its holder has said so.

use std::collections::{BTreeMap, BTreeSet};

use ledger::id::{AgentId, InstanceId, NodeId};
use ledger::report::nodes::Capacity;
use projections::cloud::Cloud;
use projections::instances::{Instance, Wanted};

/// What the nodes carry.
#[derive(Default)]
pub(crate) struct Load {
    used: BTreeMap<NodeId, Capacity>,
    agents: BTreeMap<(NodeId, AgentId), usize>,
}

impl Load {
    pub(crate) fn of(cloud: &Cloud) -> Self {
        let mut load = Self::default();
        for instance in cloud.instances.values() {
            if let Some(placed) = instance.placement() {
                load.add(placed.node, instance);
            }
        }
        load
    }

    pub(crate) fn add(&mut self, node: NodeId, instance: &Instance) {
        let used = self.used.entry(node).or_default();
        let shape = instance.request.shape;
        used.vcpus = used.vcpus.saturating_add(shape.vcpus.into());
        used.memory_mib = used.memory_mib.saturating_add(shape.memory_mib.into());
        used.disk_gib = used.disk_gib.saturating_add(shape.disk_gib.into());
        if let Some(agent) = instance.request.agent {
            *self.agents.entry((node, agent)).or_default() += 1;
        }
    }

    pub(crate) fn free(&self, node: NodeId, capacity: &Capacity) -> Capacity {
        let used = self.used.get(&node).copied().unwrap_or_default();
        Capacity {
            vcpus: capacity.vcpus.saturating_sub(used.vcpus),
            memory_mib: capacity.memory_mib.saturating_sub(used.memory_mib),
            disk_gib: capacity.disk_gib.saturating_sub(used.disk_gib),
        }
    }

    /// Instances of the same agent on a node.
    pub(crate) fn peers(&self, node: NodeId, instance: &Instance) -> usize {
        let agent = instance.request.agent;
        agent
            .and_then(|agent| self.agents.get(&(node, agent)))
            .copied()
            .unwrap_or_default()
    }
}

/// Whom their nodes have no room for. Two schedulers may fill the same gap at once; then, on every node alike,
/// those that were placed last and of which nothing was heard yet have to go on to another node. What has
/// begun stays where it is.
pub(crate) fn crowded_out(cloud: &Cloud) -> BTreeSet<InstanceId> {
    let load = Load::of(cloud);
    let over: BTreeMap<NodeId, Capacity> = cloud
        .nodes
        .iter()
        .filter_map(|(id, node)| Some((*id, node.announced.as_ref()?.capacity)))
        .filter(|(id, capacity)| load.used.get(id).is_some_and(|used| !fits(used, capacity)))
        .collect();
    if over.is_empty() {
        return BTreeSet::new();
    }
    let placed = cloud
        .instances
        .values()
        .filter_map(|instance| Some((instance, instance.placement()?)));
    let mut crowd: Vec<_> = placed
        .filter(|(_, placed)| over.contains_key(&placed.node))
        .map(|(instance, placed)| {
            let begun = instance.status.is_some() || instance.wanted != Wanted::Running;
            (!begun, placed.at, instance.id, placed.node, instance)
        })
        .collect();
    crowd.sort_unstable_by_key(|(waits, at, id, _, _)| (*waits, *at, *id));
    let (mut taken, mut out) = (Load::default(), BTreeSet::new());
    for (waits, _, id, node, instance) in crowd {
        let room = over.get(&node).is_some_and(|capacity| {
            let free = taken.free(node, capacity);
            let shape = instance.request.shape;
            let wanted = Capacity {
                vcpus: shape.vcpus.into(),
                memory_mib: shape.memory_mib.into(),
                disk_gib: shape.disk_gib.into(),
            };
            fits(&wanted, &free)
        });
        if waits && !room {
            out.insert(id);
        } else {
            taken.add(node, instance);
        }
    }
    out
}

fn fits(used: &Capacity, capacity: &Capacity) -> bool {
    used.vcpus <= capacity.vcpus
        && used.memory_mib <= capacity.memory_mib
        && used.disk_gib <= capacity.disk_gib
}
