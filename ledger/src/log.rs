//! The admitted ops in memory: by chain, by id, by order.
//!
//! The log takes what [`crate::admit`] let pass and only guards the links of a chain. It grows by the ops
//! of the network: snapshots and pruning will bound it.
//!
//! An op that came in a run has no signature of its own: the next op of its chain that has one vouches for
//! it. Where a run could be admitted only in part, the ops at the end of the chain have no voucher yet. They
//! count as admitted, but [`Log::vector`] leaves them out: it says what this replica can prove to another.
//! The rest of such a run is kept beside them, so that the run can be shown to others.
//!
//! Of a forked chain the log has what stands before the fork, and what is final. All else of it is
//! [`crate::void`].

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeBounds;
use std::sync::Arc;

use crate::fork::Branch;
use crate::id::{NodeId, OpId};
use crate::key::Signature;
use crate::op::{BODY_BYTES_MAX, Chain, Dependency, Op, OrderKey};
use crate::sync::{BRANCH_BYTES_MAX, RUN_BYTES_MAX, RUN_OPS_MAX, Run};
use crate::vector::{Head, Vector};
use crate::void::{Keep, Void};

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
    /// The run that brought the last op, where nothing in the log vouches for that: at most one.
    tail: Option<Arc<[Op]>>,
}

/// The log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    chains: BTreeMap<Chain, Links>,
    named: HashMap<Dependency, (Chain, u64)>,
    order: BTreeMap<OrderKey, Op>,
    vector: Vector,
    /// The places from which chains are forked.
    forked: BTreeMap<Chain, u64>,
    pub(crate) void: Void,
    /// How far each chain is final.
    pub(crate) certified: BTreeMap<Chain, Head>,
    /// Closed chains that are not compared any more.
    retired: BTreeSet<Chain>,
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

    /// How many ops of a chain can be proved to another replica.
    pub(crate) fn proven_next(&self, chain: &Chain) -> u64 {
        if self.retired.contains(chain) && self.vector.head(chain).is_none() {
            return self.certified_next(chain);
        }
        self.vector.next(chain)
    }

    /// Whether an op of the log can be proved to another replica.
    pub(crate) fn is_proven(&self, op: &Op) -> bool {
        op.slot().seq < self.proven_next(&op.slot().chain)
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

    /// The place from which a chain is forked, if it is.
    pub fn fork_seq(&self, chain: &Chain) -> Option<u64> {
        self.forked.get(chain).copied()
    }

    /// Whether this names an op of a forked chain that counts nowhere. A dependency on it is met.
    pub fn is_void(&self, name: &Dependency) -> bool {
        self.void.contains(name)
    }

    /// How many void ops are known by id, and the bytes of those that are kept.
    pub fn void_size(&self) -> (usize, usize) {
        self.void.size()
    }

    /// How far a chain is final: the place of its first op that is not.
    pub fn certified_next(&self, chain: &Chain) -> u64 {
        self.certified.get(chain).map_or(0, |head| head.next)
    }

    /// Whether the ops of a chain at a place are void.
    pub(crate) fn is_void_place(&self, chain: &Chain, seq: u64) -> bool {
        self.void_from(chain).is_some_and(|from| seq >= from)
    }

    /// From where on a forked chain's ops are void.
    fn void_from(&self, chain: &Chain) -> Option<u64> {
        let seq = self.fork_seq(chain)?;
        Some(seq.max(self.certified_next(chain)))
    }

    /// Takes an op that continues its chain.
    pub(crate) fn insert(&mut self, op: Op) -> Result<(), LinkError> {
        self.link(&op)?;
        let slot = *op.slot();
        self.named.entry(op.id().into()).or_insert((slot.chain, slot.seq));
        self.order.insert(op.order(), op.clone());
        let ends_at_fork = self.void_from(&slot.chain) == Some(slot.seq + 1);
        let links = self.chains.entry(slot.chain).or_default();
        links.ops.push(op.clone());
        if op.signature().is_some() {
            links.tail = None;
            links.unproven_bytes = 0;
            let (next, id) = (slot.seq + 1, op.id());
            self.vector.advance(slot.chain, Head { next, id });
        } else {
            links.unproven_bytes += op.bytes().len();
            if ends_at_fork {
                self.reckon(&slot.chain);
            }
        }
        Ok(())
    }

    /// Reckons again how far a chain can be proved.
    pub(crate) fn reckon(&mut self, chain: &Chain) {
        let ops = self.chain(chain);
        let signed = ops.iter().rposition(|op| op.signature().is_some());
        let mut next = signed.map_or(0, |index| index + 1);
        // What stands before the fork is vouched for by either branch, of which at least the proof's is kept.
        if self.void_from(chain) == Some(ops.len() as u64)
            && ops.last().is_some_and(|last| self.path(last).is_some())
        {
            next = ops.len();
        }
        let unproven = ops[next..].iter().map(|op| op.bytes().len()).sum();
        match next.checked_sub(1).map(|last| ops[last].id()) {
            Some(id) if !self.is_retired_at(chain, next as u64) => {
                let next = next as u64;
                self.vector.advance(*chain, Head { next, id });
            }
            _ => self.vector.remove(chain),
        }
        if let Some(links) = self.chains.get_mut(chain) {
            links.unproven_bytes = unproven;
        }
    }

    fn is_retired_at(&self, chain: &Chain, next: u64) -> bool {
        self.retired.contains(chain) && self.certified_next(chain) == next
    }

    /// Takes a closed chain out of the vector. It comes back with the next op of it that is admitted.
    pub(crate) fn retire(&mut self, chain: &Chain) {
        self.retired.insert(*chain);
        self.reckon(chain);
    }

    /// Keeps the run that brought the last op of a chain: it shows that op, though its end may never be let
    /// in.
    pub(crate) fn keep_tail(&mut self, chain: &Chain, run: &Arc<[Op]>) {
        if let Some(links) = self.chains.get_mut(chain) {
            links.tail = Some(Arc::clone(run));
        }
    }

    /// What follows an op in the run that brought the end of its chain.
    fn tail_after(&self, op: &Op) -> &[Op] {
        let slot = op.slot();
        let tail = self
            .chains
            .get(&slot.chain)
            .and_then(|links| links.tail.as_deref());
        let rest = tail.and_then(|run| {
            let index = (slot.seq + 1).checked_sub(run.first()?.slot().seq)?;
            run.get(usize::try_from(index).ok()?..)
        });
        rest.filter(|rest| rest.first().is_some_and(|next| next.slot().previous == op.id()))
            .unwrap_or(&[])
    }

    /// Takes the ops of a chain from a place on out of the log.
    fn truncate(&mut self, chain: &Chain, seq: u64) -> Vec<Op> {
        let Some(links) = self.chains.get_mut(chain) else {
            return Vec::new();
        };
        let at = (seq as usize).min(links.ops.len());
        let left = links.ops.split_off(at);
        let empty = links.ops.is_empty();
        links.tail = None;
        for op in &left {
            self.order.remove(&op.order());
            let name = op.id().into();
            if self.named.get(&name) == Some(&(*chain, op.slot().seq)) {
                self.named.remove(&name);
            }
        }
        self.reckon(chain);
        if empty {
            self.chains.remove(chain);
        }
        left
    }

    /// Puts a chain into quarantine from a place on; gives the ops that leave, and those that showed them.
    /// `shown` are the ops of the proof.
    pub(crate) fn quarantine(&mut self, chain: Chain, seq: u64, shown: Vec<Op>) -> (Vec<Op>, Vec<Op>) {
        self.forked.insert(chain, seq);
        let tail = self
            .head(&chain)
            .map_or_else(Vec::new, |head| self.tail_after(head).to_vec());
        let from = seq.max(self.certified_next(&chain));
        for op in shown {
            if !self.contains_final(&op) {
                self.void.keep(op, Keep::Always);
            }
        }
        let left = self.chain(&chain).get(from as usize..).unwrap_or(&[]).to_vec();
        for op in &left {
            self.void.keep(op.clone(), Keep::Id);
        }
        let mut beside = Vec::new();
        for op in tail.into_iter().filter(|op| op.slot().seq >= from) {
            if self.void.keep(op.clone(), Keep::Bounded) {
                beside.push(op);
            }
        }
        (self.truncate(&chain, from), beside)
    }

    /// Takes out ops that nothing vouches for, where other ones are shown to stand.
    pub(crate) fn displace(&mut self, chain: Chain, seq: u64) -> Vec<Op> {
        self.truncate(&chain, seq)
    }

    fn contains_final(&self, op: &Op) -> bool {
        op.slot().seq < self.certified_next(&op.slot().chain) && self.contains(&op.id())
    }

    /// Puts the certified branch of a chain in place of what stands there from `seq` on. The new ops were
    /// void. Gives the ops that leave.
    pub(crate) fn swap(&mut self, chain: Chain, seq: u64, branch: &[Op]) -> Vec<Op> {
        let left = self.chain(&chain).get(seq as usize..).unwrap_or(&[]).to_vec();
        for op in &left {
            self.void.keep(op.clone(), Keep::Id);
        }
        self.truncate(&chain, seq);
        for op in branch {
            self.void.take(&op.id());
            self.insert(op.clone())
                .expect("a branch continues what it branches off");
        }
        left
    }

    /// Notes how far a chain is final. What follows is held and continues.
    pub(crate) fn set_certified(&mut self, chain: Chain, head: Head) {
        self.certified.insert(chain, head);
        if self.forked.contains_key(&chain) {
            self.reckon(&chain);
        }
    }

    /// The ops that follow one up to the next that is signed; none if it is signed itself.
    pub(crate) fn path(&self, from: &Op) -> Option<Vec<Op>> {
        let chain = from.slot().chain;
        let mut path: Vec<Op> = Vec::new();
        let mut left = RUN_BYTES_MAX + BODY_BYTES_MAX;
        let mut last = from;
        while last.signature().is_none() {
            let follows = |op: &&Op| op.slot().previous == last.id();
            let next = self.at(&chain, last.slot().seq + 1).filter(follows);
            if let Some(next) = next {
                left = left.checked_sub(next.bytes().len())?;
                path.push(next.clone());
                last = next;
            } else {
                let tail = self.tail_after(last);
                if tail.is_empty() {
                    path.extend(self.void.path(last, left)?);
                } else {
                    path.extend_from_slice(tail);
                }
                break;
            }
        }
        Some(path)
    }

    /// Shows the op at a place: its body and those up to the next signature.
    pub(crate) fn branch_at(&self, chain: &Chain, seq: u64) -> Option<Branch> {
        let op = self.at(chain, seq)?;
        let path = self.path(op)?;
        let signature = path.last().unwrap_or(op).signature()?;
        let bodies = std::iter::once(op).chain(&path).map(|op| op.bytes().to_vec());
        Some(Branch {
            bodies: bodies.collect(),
            signature,
        })
    }

    /// A run that shows the op of this name, also a void one, with ops before it in at most so many bytes.
    pub(crate) fn run_to(&self, name: &Dependency, back_bytes: usize) -> Option<Run> {
        let op = self.named(name).or_else(|| self.void.named(name))?;
        let path = self.path(op)?;
        let mut before: Vec<&Op> = Vec::new();
        let mut bytes = op.bytes().len() + path.iter().map(|op| op.bytes().len()).sum::<usize>();
        let mut first = op;
        while first.slot().seq > 0 && before.len() + path.len() + 1 < RUN_OPS_MAX {
            let previous = &first.slot().previous;
            let Some(op) = self.get(previous).or_else(|| self.void.get(previous)) else {
                break;
            };
            bytes += op.bytes().len();
            if bytes > back_bytes {
                break;
            }
            before.push(op);
            first = op;
        }
        let ops = before.into_iter().rev().chain([op]).chain(&path);
        run_of(ops)
    }

    /// A run of the end of a forked chain from a place on, which nothing in the log vouches for but a void
    /// branch does.
    pub(crate) fn vouched_run(&self, chain: &Chain, from: u64) -> Option<Run> {
        if self.void_from(chain) != Some(self.next(chain)) {
            return None;
        }
        let ops = self.chain(chain).get(from as usize..)?;
        let path = self.path(ops.last()?)?;
        let bytes: usize = ops.iter().chain(&path).map(|op| op.bytes().len()).sum();
        if bytes > BRANCH_BYTES_MAX {
            return None;
        }
        run_of(ops.iter().chain(&path))
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

fn run_of<'a>(ops: impl Iterator<Item = &'a Op>) -> Option<Run> {
    let mut ops = ops.peekable();
    let slot = *ops.peek()?.slot();
    let mut bodies = Vec::new();
    let mut signature = None;
    for op in ops {
        signature = op.signature();
        bodies.push(op.bytes().to_vec());
    }
    Some(Run {
        live: false,
        chain: slot.chain,
        first: slot.seq,
        previous: slot.previous,
        bodies,
        signature: signature?,
    })
}
