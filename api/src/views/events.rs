//! Events: what a node's fold did, in the order in which it did it.
//!
//! The id that travels with an event is a cursor, `<node>:<offset of the next one>`: each node numbers its own
//! journal, and a consumer resumes at the node that it was with. Every event comes at least once; a turn of an
//! outcome is an event too.

use std::fmt;
use std::str::FromStr;

use ledger::id::{CheckpointId, NodeId, OpId};
use ledger::journal::CheckpointTold;
use projections::cloud::Cloud;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ops::EntryView;
use crate::door::EntryTold;

/// Where a consumer goes on: in whose journal, and with which event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventCursor {
    /// Whose journal.
    pub node: NodeId,
    /// The number of the first event that it has not had.
    pub next: u64,
}

impl fmt::Display for EventCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.next)
    }
}

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor of an event stream: `<node>:<offset>` is expected")]
pub struct ParseEventCursorError;

impl FromStr for EventCursor {
    type Err = ParseEventCursorError;

    fn from_str(text: &str) -> Result<Self, ParseEventCursorError> {
        let (node, next) = text.split_once(':').ok_or(ParseEventCursorError)?;
        let node = node.parse().map_err(|_| ParseEventCursorError)?;
        Ok(Self {
            node,
            next: next.parse().map_err(|_| ParseEventCursorError)?,
        })
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Its number in the journal of the answering node.
    pub offset: u64,
    /// The op.
    #[schema(value_type = String)]
    pub op: OpId,
    /// Which entry of the op, from 0.
    pub index: u64,
    /// The node that wrote the op.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The op's clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// The outcome was another before.
    pub turned: bool,
    /// What was said and what became of it.
    pub entry: EntryView,
}

/// Tells a consumer where it is when there is no event to tell: at the beginning and as a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JournalPosition {
    /// The offset that the next event will have.
    pub next: u64,
}

impl EventView {
    /// The event of a journal's entry.
    pub fn new(cloud: &Cloud, offset: u64, told: &EntryTold) -> Self {
        let op = &told.op;
        Self {
            offset,
            op: op.id(),
            index: told.entry as u64,
            node: op.node(),
            at_ms: op.body().hlc.ms(),
            turned: told.turned,
            entry: EntryView::new(cloud, op, told.entry, Some(&told.outcome)),
        }
    }
}

/// A certificate came: every event before this one whose op it covers is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckpointEvent {
    /// Its number in the journal of the answering node.
    pub offset: u64,
    /// The checkpoint that was certified.
    #[schema(value_type = String)]
    pub checkpoint: CheckpointId,
    /// Its height, from 1.
    pub height: u64,
    /// Certified time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Ops that became final by it.
    pub ops: u64,
}

impl CheckpointEvent {
    /// The event of a record of the journal.
    pub fn new(offset: u64, checkpoint: CheckpointId, told: &CheckpointTold) -> Self {
        Self {
            offset,
            checkpoint,
            height: told.height,
            time_ms: told.time_ms,
            ops: told.ops,
        }
    }
}
