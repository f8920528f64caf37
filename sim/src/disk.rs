//! The twin of the store: what was written with one atomic, durable batch is there after a crash, what was
//! not is gone.

use ledger::finality::checkpoint::Certificate;
use ledger::fork::ForkProof;
use ledger::journal::JournalRecord;
use ledger::op::Op;
use reactors::node::{Durable, Held};

/// A node's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    ops: Vec<Op>,
    journal: Vec<JournalRecord>,
    certificates: Vec<Certificate>,
    votes: Vec<Vec<u8>>,
    forks: Vec<ForkProof>,
}

impl Disk {
    /// Writes one batch.
    pub fn write(&mut self, durable: Durable) {
        self.ops.extend(durable.ops);
        self.journal.extend(durable.journal);
        if !durable.certificates.is_empty() {
            self.votes.clear();
        }
        self.certificates.extend(durable.certificates);
        self.votes.extend(durable.votes);
        self.forks.extend(durable.forks);
    }

    /// All that a node opens on.
    pub fn held(&self) -> Held {
        Held {
            ops: self.ops.clone(),
            certificates: self.certificates.clone(),
            votes: self.votes.clone(),
            forks: self.forks.clone(),
        }
    }

    /// The certificates from a height on.
    pub fn certificates(&self, from_height: u64) -> &[Certificate] {
        let from = self
            .certificates
            .partition_point(|it| it.checkpoint.height < from_height);
        &self.certificates[from..]
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
