//! Reports about instances.

use serde::{Deserialize, Serialize};

use super::images::REASON_MAX;
use crate::codec::DecodeError;
use crate::command::accounts::check_length;
use crate::id::{InstanceId, NodeId, OpId};

/// Places an instance on a node.
///
/// It counts only if it names its predecessor and adds 1 to its generation; between placements of one
/// generation the instance's rendezvous order of nodes decides, then the op's id. So every order of arrival
/// gives one winner, and nobody can jump to a huge generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceInstance {
    /// Which instance.
    pub instance: InstanceId,
    /// 1 for the first placement.
    pub generation: u64,
    /// The op of the placement that this one replaces; none for the first.
    pub previous: Option<OpId>,
    /// Where it goes.
    pub node: NodeId,
}

/// The scheduler finds no node for an instance. A later placement overrules it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CannotPlace {
    /// Which instance.
    pub instance: InstanceId,
    /// The generation that could not be made.
    pub generation: u64,
    /// Why each node was ruled out, for people.
    pub reason: String,
}

/// What became of an instance on the node that holds it. Health is not told here: it is in the presence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceChanged {
    /// Which instance.
    pub instance: InstanceId,
    /// The placement's generation.
    pub generation: u64,
    /// How many times the node has started it in this generation: orders the reports of one generation.
    pub start: u32,
    /// Where it stands.
    pub phase: Phase,
}

/// Where an instance stands on its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Its guest booted and the entrypoint was started.
    Booted,
    /// The entrypoint served for the first time.
    Serving,
    /// It was stopped as asked, or its entrypoint ended with status 0.
    Stopped,
    /// It failed, and will not be started again by itself.
    Failed {
        /// What went wrong, for people.
        reason: String,
        /// Exit status of the entrypoint, where that is what failed.
        exit_code: Option<i32>,
    },
    /// Nothing of it is left on the node.
    Deleted,
}

impl PlaceInstance {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        if self.generation == 0 || (self.generation == 1) != self.previous.is_none() {
            return Err(DecodeError::Meaningless(
                "a placement whose generation and predecessor disagree",
            ));
        }
        Ok(())
    }
}

impl CannotPlace {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_length(&self.reason, REASON_MAX, "a reason")
    }
}

impl InstanceChanged {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        match &self.phase {
            Phase::Failed { reason, .. } => check_length(reason, REASON_MAX, "a reason"),
            _ => Ok(()),
        }
    }
}
