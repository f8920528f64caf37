//! What the replica gives is folded, numbered in the journal, and handed on to be written.

use ledger::finality::checkpoint::Checkpoint;
use ledger::id::NodeId;
use ledger::journal::{CheckpointTold, JournalRecord};
use ledger::replica;
use projections::fold::Change;

use super::{Durable, FRAME_SYNC, Node, Output, framed};

impl Node {
    /// Folds what the replica admitted and passes the rest on.
    pub(super) fn take(&mut self, outputs: Vec<replica::Output>, out: &mut Vec<Output>) {
        for output in outputs {
            match output {
                replica::Output::Send { to, frame } => {
                    out.push(Output::Send {
                        to,
                        bytes: framed(FRAME_SYNC, &frame),
                    });
                }
                replica::Output::Disconnect { peer, why } => self.break_with(peer, why.to_string(), out),
                replica::Output::Admitted(ops) => {
                    let changes = self.fold.apply(ops.clone());
                    let journal = self.journal_of(changes);
                    out.push(Output::Persist(Durable {
                        ops,
                        journal,
                        ..Durable::default()
                    }));
                    self.dirty = true;
                }
                replica::Output::Forked(proof) => {
                    let changes = self.fold.exclude(proof.chain, proof.seq);
                    let journal = self.journal_of(changes);
                    out.push(Output::Persist(Durable {
                        journal,
                        forks: vec![proof],
                        ..Durable::default()
                    }));
                    self.dirty = true;
                }
                replica::Output::Quarantined { chain, from_seq, .. } => {
                    let changes = self.fold.exclude(chain, from_seq);
                    let journal = self.journal_of(changes);
                    out.push(Output::Persist(Durable {
                        journal,
                        ..Durable::default()
                    }));
                    self.dirty = true;
                }
                // The peers that brought them show them again to whoever asks.
                replica::Output::Void(_) => self.dirty = true,
                replica::Output::AliveTwice { other } => {
                    self.twin = Some(other);
                    self.dirty = true;
                }
            }
        }
    }

    /// Till it is up again nothing else of a peer is heard either.
    pub(super) fn break_with(&mut self, peer: NodeId, why: String, out: &mut Vec<Output>) {
        self.peers.remove(&peer);
        self.copies.forget(&peer);
        self.finality.forget(&peer);
        out.push(Output::Disconnect { peer, why });
    }

    fn number(&mut self) -> u64 {
        let offset = self.journal_next;
        self.journal_next += 1;
        offset
    }

    /// What became of entries, as records.
    pub(super) fn journal_of(&mut self, changes: Vec<Change>) -> Vec<JournalRecord> {
        let record = |change: Change| JournalRecord {
            offset: self.number(),
            op: change.op,
            entry: change.entry,
            outcome: ledger::codec::encode(&change.outcome),
            turned: change.turned,
        };
        changes.into_iter().map(record).collect()
    }

    /// That a certificate was applied, as a record.
    pub(super) fn journal_of_certificate(&mut self, checkpoint: &Checkpoint, ops: u64) -> JournalRecord {
        let told = CheckpointTold {
            height: checkpoint.height,
            time_ms: checkpoint.time_ms,
            ops,
        };
        let id = checkpoint.id(self.replica.network());
        JournalRecord::of_checkpoint(self.number(), id, &told)
    }
}
