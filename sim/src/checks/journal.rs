//! The journal tells a consumer everything, whenever it resumes: numbers without a gap across restarts, each
//! entry of each op at least once, each turn of an outcome after it, and what was told last is what is so.

use std::collections::BTreeMap;

use ledger::codec;
use ledger::id::OpId;
use ledger::journal::JournalRecord;
use ledger::op::Op;
use projections::outcome::Outcome;

use super::{Holds, Violation};

/// At any time, of a node that is up. `ops` and `journal` are on its disk; `now` is what it says became of an
/// op.
pub fn tells_everything<'a>(
    node: usize,
    ops: &[Op],
    journal: &[JournalRecord],
    now: impl Fn(OpId) -> Option<&'a [Outcome]>,
) -> Holds {
    let violated = |seen| {
        Err(Violation {
            claim: "journal",
            seen,
        })
    };
    let mut told: BTreeMap<(OpId, u32), &[u8]> = BTreeMap::new();
    for (place, record) in journal.iter().enumerate() {
        let (op, entry) = (record.op.short(), record.entry);
        if record.offset != place as u64 {
            return violated(format!(
                "record {place} of node {node}'s journal has the number {}",
                record.offset
            ));
        }
        let before = told.insert((record.op, record.entry), &record.outcome);
        if before.is_some() != record.turned {
            let how = if record.turned {
                "told as turned, but was not told before"
            } else {
                "told as new twice"
            };
            return violated(format!(
                "entry {entry} of op {op} is {how} in node {node}'s journal"
            ));
        }
    }
    for op in ops {
        let id = op.id();
        // Of what has been final for long the node keeps no outcome; the journal must have told of it.
        let Some(outcomes) = now(id) else {
            if (0..op.body().entries.len()).all(|entry| told.contains_key(&(id, entry as u32))) {
                continue;
            }
            return violated(format!(
                "node {node} does not say what became of op {}",
                id.short()
            ));
        };
        for (entry, outcome) in (0..).zip(outcomes) {
            let last = told.get(&(id, entry)).copied();
            if last != Some(&*codec::encode(outcome)) {
                let how = if last.is_some() {
                    "tells another end of"
                } else {
                    "never tells of"
                };
                let seen = format!(
                    "node {node}'s journal {how} entry {entry} of op {}: {outcome:?}",
                    id.short()
                );
                return violated(seen);
            }
        }
    }
    Ok(())
}
