//! Instances: what was asked to run, where it is placed, and how it stands there.

use imbl::OrdMap;
use ledger::clock::Hlc;
use ledger::command::instances::LaunchInstance;
use ledger::id::{AccountId, InstanceId, NodeId, OpId};
use ledger::report::instances::Phase;
use serde::{Deserialize, Serialize};

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id: the command that launched it.
    pub id: InstanceId,
    /// Whose it is.
    pub owner: AccountId,
    /// What was asked.
    pub request: LaunchInstance,
    /// When.
    pub launched: Hlc,
    /// What its owner wants of it now.
    pub wanted: Wanted,
    /// Every valid placement by its op: the winner's rivals stay, since a later op may build on any.
    pub placements: OrdMap<OpId, Placement>,
    /// The placement that counts: the highest generation; of one generation the first in the instance's
    /// rendezvous order of nodes, then the smallest id.
    pub placed: Option<OpId>,
    /// The newest report of the holder of the placement that counts.
    pub status: Option<InstanceStatus>,
    /// Why the scheduler found no node for the generation after the one that counts, if it said so.
    pub cannot_place: Option<String>,
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
