//! The journal: what a node folded, numbered without gaps, so that consumers resume where they were.
//!
//! Delivery is at least once. An op whose outcome turned, since an earlier op arrived late, gets a further
//! record. What an outcome is, the ledger does not know: its bytes are the caller's. A certificate gets a record
//! after those of the ops that turned by it: all that it covers stands from then on as it was told last.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::{CheckpointId, OpId};

/// Bytes of an outcome, at most.
pub const OUTCOME_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a record, at most.
pub const RECORD_BYTES_MAX: usize = OUTCOME_BYTES_MAX + 64;

/// In the place of an entry's: the record is that of a certificate.
pub const CHECKPOINT_ENTRY: u32 = u32::MAX;

/// What the record of a certificate tells, in the place of an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointTold {
    /// Its height.
    pub height: u64,
    /// Its time, in milliseconds since 1970.
    pub time_ms: u64,
    /// Ops that became final by it.
    pub ops: u64,
}

/// One entry of one op, and what came of it; or a certificate (see [`Self::checkpoint`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// Its number in this node's journal, from 0.
    pub offset: u64,
    /// The op; of a certificate the id of its checkpoint.
    pub op: OpId,
    /// The entry's place in the op; [`CHECKPOINT_ENTRY`] in the record of a certificate.
    pub entry: u32,
    /// What came of it.
    pub outcome: Vec<u8>,
    /// Whether another outcome was told before.
    pub turned: bool,
}

impl JournalRecord {
    /// The record of a certificate.
    pub fn of_checkpoint(offset: u64, id: CheckpointId, told: &CheckpointTold) -> Self {
        Self {
            offset,
            op: OpId(id.0),
            entry: CHECKPOINT_ENTRY,
            outcome: codec::encode(told),
            turned: false,
        }
    }

    /// What it tells of a certificate, if it is the record of one.
    pub fn checkpoint(&self) -> Option<(CheckpointId, CheckpointTold)> {
        if self.entry != CHECKPOINT_ENTRY {
            return None;
        }
        let told = codec::decode(&self.outcome, OUTCOME_BYTES_MAX, "a told checkpoint").ok()?;
        Some((CheckpointId(self.op.0), told))
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let record: Self = codec::decode(bytes, RECORD_BYTES_MAX, "a journal record")?;
        record.check()?;
        Ok(record)
    }

    /// Whether its outcome keeps the bound.
    pub fn check(&self) -> Result<(), DecodeError> {
        let (size, max) = (self.outcome.len() as u64, OUTCOME_BYTES_MAX as u64);
        if size > max {
            return Err(DecodeError::TooLarge {
                what: "an outcome",
                size,
                max,
            });
        }
        Ok(())
    }
}
