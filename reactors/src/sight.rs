//! What one decision looks at: the Cloud, what is observed, the node itself and the time, with the few
//! questions that several concerns ask of them.

use std::collections::{BTreeMap, BTreeSet};

use ledger::command::domains::VANITY_ZONE;
use ledger::id::{AgentId, InstanceId, NodeId};
use ledger::report::nodes::{AnnounceNode, Roles};
use projections::cloud::Cloud;
use projections::instances::{Instance, Placement, Wanted};
use projections::rendezvous;

use crate::load;
use crate::me::Me;
use crate::observed::{Observed, PRESENCE_TTL_MS};

/// A node that has not caught up with the log after this time acts on what it has: nobody may be there to
/// catch up with.
pub const SYNC_PATIENCE_MS: u64 = 30_000;

/// What one decision looks at.
#[derive(Debug)]
pub struct Sight<'a> {
    /// What should be.
    pub cloud: &'a Cloud,
    /// What is.
    pub observed: &'a Observed,
    /// Who decides.
    pub me: &'a Me,
    /// When, by this node's clock.
    pub now_ms: u64,
    healthy: BTreeSet<InstanceId>,
    /// The healthy ones that serve an agent.
    by_agent: BTreeSet<(AgentId, InstanceId)>,
    crowded_out: BTreeSet<InstanceId>,
}

impl<'a> Sight<'a> {
    /// Looks.
    pub fn new(cloud: &'a Cloud, observed: &'a Observed, me: &'a Me, now_ms: u64) -> Self {
        let healthy = healthy(cloud, observed, now_ms);
        let instances = healthy.iter().filter_map(|id| cloud.instances.get(id));
        let by_agent = instances
            .filter_map(|it| Some((it.request.agent?, it.id)))
            .collect();
        Self {
            cloud,
            observed,
            me,
            now_ms,
            healthy,
            by_agent,
            crowded_out: load::crowded_out(cloud),
        }
    }

    /// Whether a node shows itself. This one does.
    pub fn is_live(&self, node: NodeId) -> bool {
        node == self.me.node || self.observed.is_live(node, self.now_ms)
    }

    /// How long a node has been silent, as far as this node has been up to hear it.
    pub fn silence_ms(&self, node: NodeId) -> u64 {
        if node == self.me.node {
            return 0;
        }
        let heard_ms = self
            .observed
            .presences
            .get(&node)
            .map_or(0, |seen| seen.arrived_ms);
        self.now_ms.saturating_sub(heard_ms.max(self.observed.started_ms))
    }

    /// Whether this node may take the log that it holds for what is so now.
    pub fn has_caught_up(&self) -> bool {
        self.observed.synced || self.now_ms >= self.observed.started_ms.saturating_add(SYNC_PATIENCE_MS)
    }

    /// Whether this node has been up for long enough to have heard all who are live, and has caught up: only
    /// then does it decide for the network.
    pub fn has_settled(&self) -> bool {
        self.has_caught_up() && self.now_ms >= self.observed.started_ms.saturating_add(PRESENCE_TTL_MS)
    }

    /// The nodes that have said what they are.
    pub fn announced(&self) -> impl Iterator<Item = (NodeId, &'a AnnounceNode)> + use<'a> {
        self.cloud
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((*id, node.announced.as_ref()?)))
    }

    /// The live ones among them that have a role.
    pub fn live_with(&self, role: fn(&Roles) -> bool) -> impl Iterator<Item = (NodeId, &'a AnnounceNode)> {
        self.announced()
            .filter(move |(node, announced)| role(&announced.roles) && self.is_live(*node))
    }

    /// Whether this node is the one that acts for a thing: the first live one with the role in the thing's
    /// rendezvous order.
    pub fn is_responsible(&self, thing: &[u8; 32], role: fn(&Roles) -> bool) -> bool {
        rendezvous::first(self.live_with(role).map(|(node, _)| node), thing) == Some(self.me.node)
    }

    /// The placement of an instance that counts, when it is on this node.
    pub fn placed_here(&self, instance: &'a Instance) -> Option<&'a Placement> {
        instance
            .placement()
            .filter(|placement| placement.node == self.me.node)
    }

    /// Whether the node that an instance was given to has no room for it: it must not start there.
    pub fn is_crowded_out(&self, instance: InstanceId) -> bool {
        self.crowded_out.contains(&instance)
    }

    /// Whether an instance serves: it shall run, and the live holder of the placement that counts says that
    /// its health check holds.
    pub fn is_healthy(&self, instance: InstanceId) -> bool {
        self.healthy.contains(&instance)
    }

    /// Which agent each domain name leads to: the names that were claimed, and the vanity names of agents.
    pub fn domains(&self) -> BTreeMap<String, AgentId> {
        let vanity = self
            .cloud
            .agents
            .values()
            .map(|agent| (format!("{}.{VANITY_ZONE}", agent.name), agent.id));
        // A claim stands above the name that comes with an agent.
        let claimed = self
            .cloud
            .domains
            .values()
            .map(|domain| (domain.name.clone(), domain.agent));
        vanity.chain(claimed).collect()
    }

    /// The healthy instances of an agent, in the order of their ids.
    pub fn healthy_of(&self, agent: AgentId) -> impl Iterator<Item = &'a Instance> {
        let all = (agent, InstanceId([0; 32]))..=(agent, InstanceId([0xff; 32]));
        self.by_agent
            .range(all)
            .filter_map(|(_, id)| self.cloud.instances.get(id))
    }
}

fn healthy(cloud: &Cloud, observed: &Observed, now_ms: u64) -> BTreeSet<InstanceId> {
    let mut healthy = BTreeSet::new();
    for (node, seen) in &observed.presences {
        if !observed.is_live(*node, now_ms) {
            continue;
        }
        for held in seen.presence.instances.iter().filter(|held| held.healthy) {
            let counts = cloud.instances.get(&held.instance).is_some_and(|instance| {
                instance.wanted == Wanted::Running
                    && instance
                        .placement()
                        .is_some_and(|placed| placed.node == *node && placed.generation == held.generation)
            });
            if counts {
                healthy.insert(held.instance);
            }
        }
    }
    healthy
}
