//! The journal: what a node folded, numbered without gaps, so that consumers resume where they were.
//!
//! Delivery is at least once. An op whose outcome turned, since an earlier op arrived late, gets a further
//! record. What an outcome is, the ledger does not know: its bytes are the caller's.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError};
use crate::id::OpId;

/// Bytes of an outcome, at most.
pub const OUTCOME_BYTES_MAX: usize = 8 * 1024;

/// Bytes of a record, at most.
pub const RECORD_BYTES_MAX: usize = OUTCOME_BYTES_MAX + 64;

/// One entry of one op, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalRecord {
    /// Its number in this node's journal, from 0.
    pub offset: u64,
    /// The op.
    pub op: OpId,
    /// The entry's place in the op.
    pub entry: u32,
    /// What came of it.
    pub outcome: Vec<u8>,
    /// Whether another outcome was told before.
    pub turned: bool,
}

impl JournalRecord {
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
