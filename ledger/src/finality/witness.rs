//! Who votes on checkpoints, and with what weight.

use serde::{Deserialize, Serialize};

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::NodeId;

/// Witnesses of a set, at most.
pub const WITNESSES_MAX: usize = 64;

/// Weight of one witness, at most: a whole set's weight fits into 32 bits.
pub const WEIGHT_MAX: u32 = 1 << 24;

/// One who votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Witness {
    /// The node; it signs votes with its key.
    pub node: NodeId,
    /// How much its vote counts, 1 to [`WEIGHT_MAX`].
    pub weight: u32,
}

/// Those who vote at one height, in ascending order of nodes. An empty set certifies nothing: the network
/// stays tentative.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessSet(Vec<Witness>);

impl WitnessSet {
    /// A set of these; the order in which they come does not matter.
    pub fn new(mut witnesses: Vec<Witness>) -> Result<Self, DecodeError> {
        witnesses.sort();
        let set = Self(witnesses);
        set.check()?;
        Ok(set)
    }

    /// A set in which each has the weight 1. Repeated nodes count once.
    pub fn of_equals(nodes: impl IntoIterator<Item = NodeId>) -> Result<Self, DecodeError> {
        let mut nodes: Vec<NodeId> = nodes.into_iter().collect();
        nodes.sort();
        nodes.dedup();
        Self::new(
            nodes
                .into_iter()
                .map(|node| Witness { node, weight: 1 })
                .collect(),
        )
    }

    /// Whether it keeps its bounds: what was deserialized has to be asked.
    pub fn check(&self) -> Result<(), DecodeError> {
        let (size, max) = (self.0.len() as u64, WITNESSES_MAX as u64);
        if size > max {
            return Err(DecodeError::TooLarge {
                what: "a set of witnesses",
                size,
                max,
            });
        }
        if !self.0.is_sorted_by(|a, b| a.node < b.node) {
            return Err(DecodeError::NotCanonical("a set of witnesses"));
        }
        if self.0.iter().any(|it| it.weight == 0 || it.weight > WEIGHT_MAX) {
            return Err(DecodeError::Meaningless("a witness's weight"));
        }
        Ok(())
    }

    /// Whether nobody votes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many vote.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Those who vote, in ascending order of nodes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Witness> {
        self.0.iter()
    }

    /// The witness at a place of the order.
    pub fn at(&self, index: usize) -> Option<&Witness> {
        self.0.get(index)
    }

    /// A node's place in the order, if it votes.
    pub fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.0.binary_search_by_key(node, |it| it.node).ok()
    }

    /// A node's weight; 0 when it does not vote.
    pub fn weight_of(&self, node: &NodeId) -> u64 {
        self.index_of(node)
            .map_or(0, |index| u64::from(self.0[index].weight))
    }

    /// All weights together.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|it| u64::from(it.weight)).sum()
    }

    /// Whether a weight is more than two thirds of all: enough to certify.
    pub fn is_quorum(&self, weight: u64) -> bool {
        3 * weight > 2 * self.total()
    }

    /// Whether a weight is more than a third of all: at least one honest witness is among them.
    pub fn is_blocking(&self, weight: u64) -> bool {
        3 * weight > self.total()
    }

    /// Who proposes in a round: each in turn from one height to the next, and with a wider step from round to
    /// round, so that one height's second proposer is not the first one of the next height: two neighbours
    /// that are down do not cost three rounds.
    pub fn proposer(&self, height: u64, round: u32) -> Option<NodeId> {
        let count = self.0.len() as u64;
        // Coprime to the count: everybody gets a turn at every height.
        let step = (1..=count / 2)
            .rev()
            .find(|step| gcd(*step, count) == 1)
            .unwrap_or(1);
        let turn = height.checked_rem(count)? + (u64::from(round) % count) * step;
        self.0.get((turn % count) as usize).map(|it| it.node)
    }

    /// Appends the canonical bytes.
    pub fn write(&self, writer: &mut Writer) {
        writer.varint(self.0.len() as u64);
        for witness in &self.0 {
            writer.raw(&witness.node.0).varint(u64::from(witness.weight));
        }
    }

    /// Reads canonical bytes.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.varint(WITNESSES_MAX as u64, "a set of witnesses")?;
        let witnesses = (0..count)
            .map(|_| {
                Ok(Witness {
                    node: NodeId(reader.array("a witness")?),
                    weight: reader.varint(u64::from(WEIGHT_MAX), "a witness's weight")? as u32,
                })
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        let set = Self(witnesses);
        set.check()?;
        Ok(set)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(count: u8) -> WitnessSet {
        WitnessSet::of_equals((0..count).map(|it| NodeId([it; 32]))).expect("few")
    }

    #[test]
    fn two_thirds_are_not_more_than_two_thirds() {
        for (count, quorum) in [(1, 1), (2, 2), (3, 3), (4, 3), (6, 5), (7, 5), (9, 7), (10, 7)] {
            let set = set(count);
            assert!(
                set.is_quorum(quorum) && !set.is_quorum(quorum - 1),
                "{count} witnesses"
            );
            // What is not blocking leaves a quorum to the others.
            for weight in 0..=u64::from(count) {
                assert_eq!(
                    set.is_blocking(weight),
                    !set.is_quorum(u64::from(count) - weight) && 3 * weight != u64::from(count),
                    "{weight} of {count}"
                );
            }
        }
        assert!(!set(0).is_quorum(0));
    }

    #[test]
    fn everybody_gets_a_turn_at_every_height_and_as_the_first() {
        for count in 1..=WITNESSES_MAX as u8 {
            let set = set(count);
            let turns = |turn: &dyn Fn(u32) -> Option<NodeId>| {
                let mut nodes: Vec<_> = (0..u32::from(count)).map(turn).collect();
                nodes.sort();
                nodes.dedup();
                nodes.len()
            };
            assert_eq!(
                turns(&|round| set.proposer(u64::MAX - 3, round)),
                usize::from(count)
            );
            assert_eq!(
                turns(&|height| set.proposer(u64::from(height), 0)),
                usize::from(count)
            );
        }
        assert_eq!(set(0).proposer(1, 0), None);
    }
}
