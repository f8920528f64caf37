//! Events: what a node's fold did, in the order in which it did it.
//!
//! The id of an event is `<node>:<offset>`: each node numbers its own journal. A consumer resumes at the
//! node that it was with. Every event comes at least once; a turn of an outcome is an event too.

use std::fmt;
use std::str::FromStr;

use ledger::id::{NodeId, OpId};
use projections::cloud::Cloud;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ops::EntryView;
use crate::door::JournalEntry;

/// Where an event stands: whose journal, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    /// Whose journal.
    pub node: NodeId,
    /// The number.
    pub offset: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.node, self.offset)
    }
}

/// The text is not the id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an event: `<node>:<offset>` is expected")]
pub struct ParseEventIdError;

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, ParseEventIdError> {
        let (node, offset) = text.split_once(':').ok_or(ParseEventIdError)?;
        let node = node.parse().map_err(|_| ParseEventIdError)?;
        Ok(Self {
            node,
            offset: offset.parse().map_err(|_| ParseEventIdError)?,
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

impl EventView {
    /// The event of a journal's entry.
    pub fn new(cloud: &Cloud, entry: &JournalEntry) -> Self {
        let op = &entry.op;
        Self {
            offset: entry.offset,
            op: op.id(),
            index: entry.entry as u64,
            node: op.node(),
            at_ms: op.body().hlc.ms(),
            turned: entry.turned,
            entry: EntryView::new(cloud, op, entry.entry, Some(&entry.outcome)),
        }
    }
}
