//! Instances: what was asked to run, where it is placed, and how it stands there.
//!
//! ```text
//! wanted:   Running ⇄ Stopped ─▶ Deleted ─▶ gone     Deleted is final; gone once its holder has nothing left
//! placed:   none ─▶ 1 ─▶ 2 ─▶ …                      each placement names the one that it replaces
//! status:   none ─▶ Booted ─▶ Serving ─▶ Stopped | Failed ─▶ Deleted     none again at each new placement
//! ```

use std::sync::Arc;

use ledger::clock::Hlc;
use ledger::command::instances::LaunchInstance;
use ledger::id::{AccountId, InstanceId, NodeId, OpId};
use ledger::report::instances::{CannotPlace, InstanceChanged, Phase, PlaceInstance};
use serde::{Deserialize, Serialize};

use crate::commands::{Asked, check_own_agent, check_own_build};
use crate::entries::Told;
use crate::nodes;
use crate::outcome::Void;
use crate::rendezvous::{self, Rank};
use crate::undo::{InstanceNames, Instances, Writer};

/// Instances of one account that are not deleted, at most.
pub const ACCOUNT_INSTANCES_MAX: usize = 256;

/// Placements kept of one instance, at most. Beyond that the one furthest from counting is forgotten, and
/// nothing can build on it any more.
pub const PLACEMENTS_MAX: usize = 64;

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id: the command that launched it.
    pub id: InstanceId,
    /// Whose it is.
    pub owner: AccountId,
    /// What was asked.
    pub request: Arc<LaunchInstance>,
    /// When.
    pub launched: Hlc,
    /// What its owner wants of it now.
    pub wanted: Wanted,
    /// When its owner last said so. An end of the machine that was told before is not the answer to it: an
    /// instance that stopped or failed, and then was asked to start, is to be started again.
    pub wanted_at: Hlc,
    /// Every valid placement by its op: the winner's rivals stay, since a later op may build on any.
    pub placements: Placements,
    /// The placement that counts: the highest generation; of one generation the first in the instance's
    /// rendezvous order of nodes, then the smallest id.
    pub placed: Option<OpId>,
    /// The newest report of the holder of the placement that counts.
    pub status: Option<InstanceStatus>,
    /// Why the scheduler found no node for the generation after the one that counts, if it said so.
    pub cannot_place: Option<String>,
}

/// Placements by their op, in ascending order. Few, so they lie side by side; a clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<Placement>", into = "Vec<Placement>")]
pub struct Placements(Arc<Vec<Placement>>);

impl From<Vec<Placement>> for Placements {
    fn from(mut all: Vec<Placement>) -> Self {
        all.sort_by_key(|placement| placement.op);
        all.dedup_by_key(|placement| placement.op);
        Self(Arc::new(all))
    }
}

impl From<Placements> for Vec<Placement> {
    fn from(all: Placements) -> Self {
        Arc::unwrap_or_clone(all.0)
    }
}

impl Placements {
    fn find(&self, op: &OpId) -> Result<usize, usize> {
        self.0.binary_search_by_key(op, |placement| placement.op)
    }

    /// The placement that an op made.
    pub fn get(&self, op: &OpId) -> Option<&Placement> {
        self.0.get(self.find(op).ok()?)
    }

    /// All, by their op.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Placement> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn insert(&mut self, placement: Placement) {
        if let Err(at) = self.find(&placement.op) {
            Arc::make_mut(&mut self.0).insert(at, placement);
        }
    }

    fn remove(&mut self, op: &OpId) {
        if let Ok(at) = self.find(op) {
            Arc::make_mut(&mut self.0).remove(at);
        }
    }
}

/// What an owner wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    /// It shall run.
    Running,
    /// It shall stand still, its disk kept.
    Stopped,
    /// It shall be gone.
    Deleted,
}

/// A placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The op that says so.
    pub op: OpId,
    /// 1 for the first.
    pub generation: u64,
    /// Where.
    pub node: NodeId,
    /// Who decided.
    pub by: NodeId,
    /// When.
    pub at: Hlc,
}

/// What the holder last said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// The generation that it speaks of.
    pub generation: u64,
    /// Which start in that generation.
    pub start: u32,
    /// Where it stands.
    pub phase: Phase,
    /// When that was said.
    pub at: Hlc,
}

impl Instance {
    /// The placement that counts.
    pub fn placement(&self) -> Option<&Placement> {
        self.placements.get(&self.placed?)
    }
}

/// How much a placement counts: a higher generation, then a node that stands higher, then a smaller id.
type Weight = (u64, Rank, std::cmp::Reverse<OpId>);

impl Placement {
    fn weight(&self, instance: InstanceId) -> Weight {
        (
            self.generation,
            rendezvous::rank(self.node, &instance.0),
            std::cmp::Reverse(self.op),
        )
    }
}

/// Reports of one start come in this order; a later phase is not taken back by an earlier one.
fn phase_order(phase: &Phase) -> u8 {
    match phase {
        Phase::Booted => 0,
        Phase::Serving => 1,
        Phase::Stopped | Phase::Failed { .. } => 2,
        Phase::Deleted => 3,
    }
}

fn find<'a>(writer: &'a Writer<'_>, id: InstanceId) -> Result<&'a Instance, Void> {
    writer
        .instances
        .get(&id)
        .ok_or_else(|| Void::NotFound(format!("instance: {id}")))
}

/// The instance is there, belongs to `owner`, and is not deleted.
fn find_own<'a>(writer: &'a Writer<'_>, owner: AccountId, id: InstanceId) -> Result<&'a Instance, Void> {
    let instance = find(writer, id)?;
    if instance.owner != owner {
        return Err(Void::NotOwner);
    }
    if instance.wanted == Wanted::Deleted {
        return Err(Void::Deleted);
    }
    Ok(instance)
}

/// Launches an instance.
pub(crate) fn launch(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &LaunchInstance,
) -> Result<(), Void> {
    if let Some(agent) = ask.agent {
        check_own_agent(writer, owner, agent)?;
    }
    check_own_build(writer, owner, ask.build)?;
    if writer.instance_names.contains_key(&(owner, ask.name.clone())) {
        return Err(Void::NameTaken(ask.name.clone()));
    }
    if writer.instances_named_by(owner).count() >= ACCOUNT_INSTANCES_MAX {
        return Err(Void::Refused(format!(
            "the account has {ACCOUNT_INSTANCES_MAX} instances, the most that it may have: delete one first"
        )));
    }
    let id = InstanceId::from(asked.command);
    let instance = Instance {
        id,
        owner,
        request: Arc::new(ask.clone()),
        launched: asked.at,
        wanted: Wanted::Running,
        wanted_at: asked.at,
        placements: Placements::default(),
        placed: None,
        status: None,
        cannot_place: None,
    };
    writer.put::<InstanceNames>((owner, ask.name.clone()), id);
    writer.put::<Instances>(id, instance);
    Ok(())
}

/// Stops an instance. Asking twice is no error.
pub(crate) fn stop(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    id: InstanceId,
) -> Result<(), Void> {
    want(writer, asked, owner, id, Wanted::Stopped)
}

/// Starts an instance: one that was stopped, or one that ended or failed by itself.
pub(crate) fn start(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    id: InstanceId,
) -> Result<(), Void> {
    want(writer, asked, owner, id, Wanted::Running)
}

fn want(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    id: InstanceId,
    wanted: Wanted,
) -> Result<(), Void> {
    find_own(writer, owner, id)?;
    writer.change::<Instances>(id, |instance| {
        instance.wanted = wanted;
        instance.wanted_at = asked.at;
    });
    Ok(())
}

/// Deletes an instance. Its name is free at once; the instance goes when nothing of it is left.
pub(crate) fn delete(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    id: InstanceId,
) -> Result<(), Void> {
    let instance = Instance {
        wanted: Wanted::Deleted,
        wanted_at: asked.at,
        ..find_own(writer, owner, id)?.clone()
    };
    writer.remove::<InstanceNames>((owner, instance.request.name.clone()));
    let nothing_left = instance.placed.is_none()
        || instance
            .status
            .as_ref()
            .is_some_and(|it| it.phase == Phase::Deleted);
    if nothing_left {
        writer.remove::<Instances>(id);
    } else {
        writer.put::<Instances>(id, instance);
    }
    Ok(())
}

/// Places an instance. It counts only if it builds on a placement of the generation before; an op that
/// names another's id has seen it.
pub(crate) fn place(writer: &mut Writer<'_>, told: &Told, report: &PlaceInstance) -> Result<(), Void> {
    let id = report.instance;
    let instance = find(writer, id)?;
    if instance.wanted == Wanted::Deleted {
        return Err(Void::Deleted);
    }
    if nodes::check_member(writer, report.node, told.certified_ms).is_err() {
        return Err(Void::NotFound(format!("node: {}", report.node)));
    }
    let before = match report.previous {
        None => 0,
        Some(op) => {
            instance
                .placements
                .get(&op)
                .ok_or(Void::StalePlacement)?
                .generation
        }
    };
    if before.checked_add(1) != Some(report.generation) {
        return Err(Void::StalePlacement);
    }
    if instance.placements.get(&told.op).is_some() {
        return Err(Void::AlreadyReported);
    }
    let placement = Placement {
        op: told.op,
        generation: report.generation,
        node: report.node,
        by: told.node,
        at: told.at,
    };
    let mut instance = instance.clone();
    if instance.placements.len() >= PLACEMENTS_MAX {
        let all = instance.placements.values().chain([&placement]);
        let least = all
            .min_by_key(|placement| placement.weight(id))
            .map(|placement| placement.op);
        match least {
            Some(op) if op != placement.op => instance.placements.remove(&op),
            _ => return Err(Void::StalePlacement),
        };
    }
    instance.placements.insert(placement);
    if instance
        .placement()
        .is_none_or(|placed| placed.weight(id) < placement.weight(id))
    {
        instance.placed = Some(told.op);
        instance.status = None;
        instance.cannot_place = None;
    }
    writer.put::<Instances>(id, instance);
    Ok(())
}

/// Notes why an instance has no next placement.
pub(crate) fn cannot_place(writer: &mut Writer<'_>, _: &Told, report: &CannotPlace) -> Result<(), Void> {
    let instance = find(writer, report.instance)?;
    if instance.wanted == Wanted::Deleted {
        return Err(Void::Deleted);
    }
    let placed = instance.placement().map_or(0, |placed| placed.generation);
    if placed.checked_add(1) != Some(report.generation) {
        return Err(Void::StalePlacement);
    }
    writer.change::<Instances>(report.instance, |instance| {
        instance.cannot_place = Some(report.reason.clone());
    });
    Ok(())
}

/// Notes how an instance stands on its node. When it is deleted and nothing of it is left there, it goes.
pub(crate) fn changed(writer: &mut Writer<'_>, told: &Told, report: &InstanceChanged) -> Result<(), Void> {
    let instance = find(writer, report.instance)?;
    let is_its_place =
        |placement: &Placement| placement.generation == report.generation && placement.node == told.node;
    if !instance.placements.values().any(is_its_place) {
        return Err(Void::NotItsPlace);
    }
    if !instance.placement().is_some_and(is_its_place) {
        return Err(Void::StalePlacement);
    }
    let newness = |start: u32, phase: &Phase| (start, phase_order(phase));
    let known = instance
        .status
        .as_ref()
        .map(|status| newness(status.start, &status.phase));
    if known >= Some(newness(report.start, &report.phase)) {
        return Err(Void::AlreadyReported);
    }
    if instance.wanted == Wanted::Deleted && report.phase == Phase::Deleted {
        writer.remove::<Instances>(report.instance);
        return Ok(());
    }
    let status = InstanceStatus {
        generation: report.generation,
        start: report.start,
        phase: report.phase.clone(),
        at: told.at,
    };
    writer.change::<Instances>(report.instance, |instance| instance.status = Some(status));
    Ok(())
}
