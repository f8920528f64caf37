//! The twin of the store: what was written with one atomic, durable batch is there after a crash, what was
//! not is gone.

use ledger::journal::JournalRecord;
use ledger::op::Op;

/// A node's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    ops: Vec<Op>,
    journal: Vec<JournalRecord>,
}

impl Disk {
    /// Writes one batch.
    pub fn append(&mut self, ops: Vec<Op>, journal: Vec<JournalRecord>) {
        self.ops.extend(ops);
        self.journal.extend(journal);
    }

    /// Everything written.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The number of the next journal record, as the store finds it when it is opened.
    pub fn journal_next(&self) -> u64 {
        self.journal.last().map_or(0, |record| record.offset + 1)
    }

    /// Everything written to the journal.
    pub fn journal(&self) -> &[JournalRecord] {
        &self.journal
    }
}
