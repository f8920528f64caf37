//! How far what is so is final: part of the state, so that a snapshot holds all that its fold goes on from.

use ledger::finality::checkpoint::Checkpoint;
use ledger::finality::witness::WitnessSet;
use ledger::genesis::Genesis;
use ledger::id::{CheckpointId, NetworkId};
use serde::{Deserialize, Serialize};

/// The last checkpoint whose ops are all in the view. How far each chain is final is
/// [`crate::cloud::Cloud::certified`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finality {
    /// Its height; 0 before the first.
    pub height: u64,
    /// Its id; zeros before the first.
    pub checkpoint: CheckpointId,
    /// Its time in milliseconds since 1970; 0 before the first. No op after it counts as earlier.
    pub time_ms: u64,
    /// Root over the ids of all final ops in their order; zeros before the first.
    pub order: [u8; 32],
    /// Who certified it; before the first, those of genesis.
    pub witnesses: WitnessSet,
    /// Who votes at the height after it.
    pub next_witnesses: WitnessSet,
}

impl Finality {
    /// Before the first checkpoint.
    pub fn before_all(genesis: &Genesis) -> Self {
        Self {
            height: 0,
            checkpoint: CheckpointId([0; 32]),
            time_ms: 0,
            order: [0; 32],
            witnesses: genesis.witnesses.clone(),
            next_witnesses: genesis.witnesses.clone(),
        }
    }

    /// The time of the last certificate, if there is one, in milliseconds since 1970.
    pub fn certified_ms(&self) -> Option<u64> {
        (self.height > 0).then_some(self.time_ms)
    }

    /// After `checkpoint`, the next one.
    pub(crate) fn after(&self, network: NetworkId, checkpoint: &Checkpoint) -> Self {
        let witnesses = self.next_witnesses.clone();
        let next_witnesses = checkpoint.next_witnesses.clone();
        Self {
            height: checkpoint.height,
            checkpoint: checkpoint.id(network),
            time_ms: checkpoint.time_ms,
            order: checkpoint.order,
            next_witnesses: next_witnesses.unwrap_or_else(|| witnesses.clone()),
            witnesses,
        }
    }
}
