//! The version vector: for each chain, how many of its ops are held and which one is the last.
//!
//! Two replicas whose vectors have one root hold the same ops; otherwise the vectors tell who lacks what.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::id::{OpId, hash};
use crate::op::Chain;

/// Where a chain ends in a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many ops of the chain are held: the place of the next one.
    pub next: u64,
    /// The last of them.
    pub id: OpId,
}

/// The vector. A chain of which nothing is held is not in it.
#[derive(Clone, Debug, Default)]
pub struct Vector {
    heads: BTreeMap<Chain, Head>,
    root: OnceLock<[u8; 32]>,
}

impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        self.heads == other.heads
    }
}

impl Vector {
    /// Notes that a chain now ends at `head`, further than before.
    pub fn advance(&mut self, chain: Chain, head: Head) {
        self.heads.insert(chain, head);
        self.root.take();
    }

    /// Takes a chain out, for one whose ops left or that need not be compared any more.
    pub fn remove(&mut self, chain: &Chain) {
        if self.heads.remove(chain).is_some() {
            self.root.take();
        }
    }

    /// The place of the next op of a chain: 0 for one that is not known.
    pub fn next(&self, chain: &Chain) -> u64 {
        self.heads.get(chain).map_or(0, |head| head.next)
    }

    /// Where a chain ends.
    pub fn head(&self, chain: &Chain) -> Option<&Head> {
        self.heads.get(chain)
    }

    /// All chains in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Chain, &Head)> {
        self.heads.iter()
    }

    /// How many chains there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// A hash over the whole vector. Computed when first asked for after a change: 80 bytes a chain.
    pub fn root(&self) -> [u8; 32] {
        *self.root.get_or_init(|| {
            let mut bytes = Vec::with_capacity(self.heads.len() * 80);
            for (chain, head) in &self.heads {
                bytes.extend_from_slice(&chain.node.0);
                bytes.extend_from_slice(&chain.incarnation.to_le_bytes());
                bytes.extend_from_slice(&head.next.to_le_bytes());
                bytes.extend_from_slice(&head.id.0);
            }
            hash("formation 2026 vector v1", &[&bytes])
        })
    }

    /// Compares what is held, chain by chain: `None` when each has what the other lacks.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        let behind = |a: &Self, b: &Self| a.heads.iter().any(|(chain, head)| head.next > b.next(chain));
        match (behind(self, other), behind(other, self)) {
            (false, false) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (true, true) => None,
        }
    }
}
