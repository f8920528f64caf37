//! The admitted ops in memory: by chain, by id, by order.
//!
//! The log takes what [`crate::admit`] let pass and only guards the links of a chain. It grows by the ops
//! of the network: snapshots and pruning will bound it.
//!
//! An op that came in a run has no signature of its own: the next op of its chain that has one vouches for
//! it. Where a run could be admitted only in part, the ops at the end of the chain have no voucher yet. They
//! count as admitted, but [`Log::vector`] leaves them out: it says what this replica can prove to another.

use std::collections::{BTreeMap, HashMap};
use std::ops::RangeBounds;

use crate::id::{NodeId, OpId};
use crate::key::Signature;
use crate::op::{Chain, Dependency, Op, OrderKey};
use crate::vector::{Head, Vector};

/// Why an op does not continue its chain here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It is here already.
    #[error("the op is in the log already")]
    Duplicate,
    /// Another op stands in its place, or before it.
    #[error("another op stands at this place of the chain, or before it")]
    Forked,
    /// The op before is not here.
    #[error("the op before it is not in the log")]
    Gap,
}

#[derive(Clone, Debug, Default)]
struct Links {
    ops: Vec<Op>,
    /// Bytes of the ops at the end that no signature vouches for.
    unproven_bytes: usize,
}

/// The log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    chains: BTreeMap<Chain, Links>,
    named: HashMap<Dependency, (Chain, u64)>,
    order: BTreeMap<OrderKey, Op>,
    vector: Vector,
}

impl Log {
    /// How many ops there are.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The op with this id.
    pub fn get(&self, id: &OpId) -> Option<&Op> {
        self.named(&Dependency::from(*id)).filter(|op| op.id() == *id)
    }

    /// Whether the op is here.
    pub fn contains(&self, id: &OpId) -> bool {
        self.get(id).is_some()
    }

    /// The op whose id begins so. To make two of one beginning takes 2^64 hashes; the first to come is
    /// the one that is found.
    pub fn named(&self, dependency: &Dependency) -> Option<&Op> {
        let (chain, seq) = self.named.get(dependency)?;
        self.at(chain, *seq)
    }

    /// The op at a place.
    pub fn at(&self, chain: &Chain, seq: u64) -> Option<&Op> {
        self.chains.get(chain)?.ops.get(usize::try_from(seq).ok()?)
    }

    /// The ops of a chain, from its first.
    pub fn chain(&self, chain: &Chain) -> &[Op] {
        self.chains.get(chain).map_or(&[], |links| &links.ops)
    }

    /// The place of the next op of a chain: 0 for one that is not known.
    pub fn next(&self, chain: &Chain) -> u64 {
        self.chain(chain).len() as u64
    }

    /// The last op of a chain.
    pub fn head(&self, chain: &Chain) -> Option<&Op> {
        self.chain(chain).last()
    }

    /// All chains in ascending order, each with its ops.
    pub fn chains(&self) -> impl Iterator<Item = (&Chain, &[Op])> {
        self.chains.iter().map(|(chain, links)| (chain, &links.ops[..]))
    }

    /// The chains of one node, in ascending order.
    pub fn chains_of(&self, node: NodeId) -> impl Iterator<Item = (&Chain, &[Op])> {
        let chain = |incarnation| Chain { node, incarnation };
        self.chains
            .range(chain(0)..=chain(u64::MAX))
            .map(|(chain, links)| (chain, &links.ops[..]))
    }

    /// The ops in a range of the total order.
    pub fn range(&self, range: impl RangeBounds<OrderKey>) -> impl DoubleEndedIterator<Item = &Op> {
        self.order.range(range).map(|(_, op)| op)
    }

    /// All ops in the total order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Op> {
        self.order.values()
    }

    /// What is held and can be proved to another replica.
    pub fn vector(&self) -> &Vector {
        &self.vector
    }

    /// Bytes at the end of a chain that no signature vouches for.
    pub(crate) fn unproven_bytes(&self, chain: &Chain) -> usize {
        self.chains.get(chain).map_or(0, |links| links.unproven_bytes)
    }

    /// Whether an op continues its chain.
    pub fn link(&self, op: &Op) -> Result<(), LinkError> {
        let slot = op.slot();
        let links = self.chain(&slot.chain);
        let next = links.len() as u64;
        if slot.seq < next {
            let here = self
                .at(&slot.chain, slot.seq)
                .is_some_and(|held| held.id() == op.id());
            return Err(if here {
                LinkError::Duplicate
            } else {
                LinkError::Forked
            });
        }
        if slot.seq > next {
            return Err(LinkError::Gap);
        }
        match links.last() {
            Some(head) if head.id() != slot.previous => Err(LinkError::Forked),
            _ => Ok(()),
        }
    }

    /// Takes an op that continues its chain.
    pub(crate) fn insert(&mut self, op: Op) -> Result<(), LinkError> {
        self.link(&op)?;
        let slot = *op.slot();
        let links = self.chains.entry(slot.chain).or_default();
        links.ops.push(op.clone());
        if op.signature().is_some() {
            links.unproven_bytes = 0;
            self.vector.advance(
                slot.chain,
                Head {
                    next: slot.seq + 1,
                    id: op.id(),
                },
            );
        } else {
            links.unproven_bytes += op.bytes().len();
        }
        self.named.entry(op.id().into()).or_insert((slot.chain, slot.seq));
        self.order.insert(op.order(), op);
        Ok(())
    }

    /// Whether a signature by this op would vouch for ops that have no voucher yet.
    pub(crate) fn wants_signature(&self, op: &Op) -> bool {
        op.slot().seq >= self.vector.next(&op.slot().chain) && self.contains(&op.id())
    }

    /// Adds the signature of an op that came without, so that it vouches for what stands before it. The
    /// caller has checked it.
    pub(crate) fn vouch(&mut self, id: &OpId, signature: Signature) {
        let Some(op) = self.get(id).cloned() else { return };
        let slot = *op.slot();
        let signed = op.with_signature(signature);
        let links = self
            .chains
            .get_mut(&slot.chain)
            .expect("the op was found in this chain");
        links.ops[slot.seq as usize] = signed.clone();
        self.order.insert(signed.order(), signed);
        if slot.seq >= self.vector.next(&slot.chain) {
            links.unproven_bytes = links.ops[slot.seq as usize + 1..]
                .iter()
                .map(|op| op.bytes().len())
                .sum();
            self.vector.advance(
                slot.chain,
                Head {
                    next: slot.seq + 1,
                    id: *id,
                },
            );
        }
    }
}
