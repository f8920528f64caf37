//! The version vector: for each chain, how many of its ops are held and which one is the last.
//!
//! Two replicas whose vectors have one root hold the same ops; otherwise the vectors tell who lacks what.
//!
//! ```text
//! short  := first 6 bytes of BLAKE3-derive-key("formation 2026 chain v1", node ‖ incarnation (8 LE))
//! bucket := BLAKE3-derive-key("formation 2026 vector bucket v1", for each of its chains, by short and then by
//!           chain: node ‖ incarnation (8 LE) ‖ next (8 LE) ‖ id of the last op)
//! group  := BLAKE3-derive-key("formation 2026 vector group v1", its 32 buckets)
//! root   := BLAKE3-derive-key("formation 2026 vector v2", the 32 groups)
//! ```
//! A chain is in the bucket of the first ten bits of its short name. So a change hashes the chains of one
//! bucket and 2 KiB, however many chains there are. A sum of the chains' hashes would be cheaper still, but
//! whoever may choose the summands finds two sets of one sum.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::id::{OpId, hash};
use crate::op::Chain;

/// Bits of a short name.
pub const SHORT_BITS: u32 = 48;

/// The greatest short name.
pub const SHORT_MAX: u64 = (1 << SHORT_BITS) - 1;

/// Steps of which it is kept what they moved.
pub const MOVES_MAX: usize = 4096;

/// Chains that were taken out of a vector and are still known to a comparison, at most: a peer that has not
/// taken them out yet is not asked for them, and not sent them.
pub const GONE_MAX: usize = 1024;

/// Groups of buckets, and buckets in a group.
const FAN: usize = 32;

/// Where a chain ends in a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// How many ops of the chain are held: the place of the next one.
    pub next: u64,
    /// The last of them.
    pub id: OpId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Placed {
    head: Head,
    short: u64,
    /// The step of the vector at which the chain moved last.
    moved: u64,
}

/// The vector. A chain of which nothing is held is not in it.
#[derive(Clone, Debug)]
pub struct Vector {
    heads: BTreeMap<Chain, Placed>,
    shorts: BTreeSet<(u64, Chain)>,
    moved: BTreeMap<u64, Chain>,
    step: u64,
    /// The last steps: which chain moved, and from where.
    moves: VecDeque<(Chain, u64)>,
    /// The chains that were taken out last, oldest first, and where they ended.
    gone: VecDeque<(u64, Chain, Head)>,
    buckets: Vec<OnceLock<[u8; 32]>>,
    groups: Vec<OnceLock<[u8; 32]>>,
    root: OnceLock<[u8; 32]>,
}

impl Default for Vector {
    fn default() -> Self {
        Self {
            heads: BTreeMap::new(),
            shorts: BTreeSet::new(),
            moved: BTreeMap::new(),
            step: 0,
            moves: VecDeque::new(),
            gone: VecDeque::new(),
            buckets: vec![OnceLock::new(); FAN * FAN],
            groups: vec![OnceLock::new(); FAN],
            root: OnceLock::new(),
        }
    }
}

impl PartialEq for Vector {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

/// The short name of a chain: 48 bits, so that a frame may name many. Two chains of one short name can be
/// made by whoever owns both; what is said of one is then tried with each.
pub fn short(chain: &Chain) -> u64 {
    let whole = hash(
        "formation 2026 chain v1",
        &[&chain.node.0, &chain.incarnation.to_le_bytes()],
    );
    let [a, b, c, d, e, f, ..] = whole;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// In which of 2^`bits` equal parts of the short names one lies.
pub(crate) fn part_of(short: u64, bits: u32) -> usize {
    (short >> (SHORT_BITS - bits)) as usize
}

impl Vector {
    /// Notes that a chain now ends at `head`.
    pub fn advance(&mut self, chain: Chain, head: Head) {
        let step = self.begin_step(chain);
        let placed = self.heads.entry(chain).or_insert_with(|| Placed {
            head,
            short: short(&chain),
            moved: step,
        });
        if placed.moved == step {
            self.shorts.insert((placed.short, chain));
            self.gone.retain(|(_, gone, _)| *gone != chain);
        } else {
            self.moved.remove(&placed.moved);
            placed.moved = step;
            placed.head = head;
        }
        self.moved.insert(step, chain);
        let short = placed.short;
        self.touch(short);
    }

    /// Notes that nothing is to be told of a chain any more.
    pub fn remove(&mut self, chain: &Chain) {
        if self.heads.contains_key(chain) {
            self.begin_step(*chain);
        }
        if let Some(placed) = self.heads.remove(chain) {
            self.shorts.remove(&(placed.short, *chain));
            self.moved.remove(&placed.moved);
            if self.gone.len() == GONE_MAX {
                self.gone.pop_front();
            }
            self.gone.push_back((placed.short, *chain, placed.head));
            self.touch(placed.short);
        }
    }

    fn begin_step(&mut self, chain: Chain) -> u64 {
        if self.moves.len() == MOVES_MAX {
            self.moves.pop_front();
        }
        self.moves.push_back((chain, self.next(&chain)));
        self.step += 1;
        self.step
    }

    fn touch(&mut self, short: u64) {
        let bucket = part_of(short, 2 * FAN.ilog2());
        self.buckets[bucket].take();
        self.groups[bucket / FAN].take();
        self.root.take();
    }

    /// The place of the next op of a chain: 0 for one that is not known.
    pub fn next(&self, chain: &Chain) -> u64 {
        self.heads.get(chain).map_or(0, |placed| placed.head.next)
    }

    /// Where a chain ends.
    pub fn head(&self, chain: &Chain) -> Option<&Head> {
        self.heads.get(chain).map(|placed| &placed.head)
    }

    /// All chains in ascending order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Chain, &Head)> {
        self.heads.iter().map(|(chain, placed)| (chain, &placed.head))
    }

    /// How many chains there are.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// How many changes there were: what [`Self::moved_since`] is asked with later.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The chains that moved after a step, in the order in which they moved last.
    pub fn moved_since(&self, step: u64) -> impl DoubleEndedIterator<Item = &Chain> {
        self.moved.range(step.saturating_add(1)..).map(|(_, chain)| chain)
    }

    /// How many ops were held at a step of each chain that moved since. `None` when that is too long ago.
    pub fn held_at(&self, step: u64) -> Option<BTreeMap<Chain, u64>> {
        let since = usize::try_from(self.step.checked_sub(step)?).ok()?;
        let first = self.moves.len().checked_sub(since)?;
        let mut held = BTreeMap::new();
        for (chain, next) in self.moves.range(first..) {
            held.entry(*chain).or_insert(*next);
        }
        Some(held)
    }

    /// The chains whose short names lie in a range, both ends included, ascending by short name; none in a range
    /// that ends before it begins.
    pub fn shorts(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, &Chain, &Head)> {
        let chain = |fill: u8, incarnation| Chain {
            node: crate::id::NodeId([fill; 32]),
            incarnation,
        };
        let range = (from, chain(0, 0))..=(to, chain(u8::MAX, u64::MAX));
        // A peer may tell a range that ends before it begins.
        let found = (from <= to).then(|| self.shorts.range(range));
        found
            .into_iter()
            .flatten()
            .filter_map(|(short, chain)| Some((*short, chain, self.head(chain)?)))
    }

    /// The chains taken out last whose short names lie in a range, both ends included, with where they ended.
    pub fn gone(&self, from: u64, to: u64) -> impl Iterator<Item = (&Chain, &Head)> {
        let within = self
            .gone
            .iter()
            .filter(move |(short, ..)| (from..=to).contains(short));
        within.map(|(_, chain, head)| (chain, head))
    }

    /// The short name of a chain, computed if it is not in the vector.
    pub fn short(&self, chain: &Chain) -> u64 {
        self.heads
            .get(chain)
            .map_or_else(|| short(chain), |placed| placed.short)
    }

    /// A hash over the whole vector. Computed when first asked for after a change, from what changed.
    pub fn root(&self) -> [u8; 32] {
        *self.root.get_or_init(|| {
            let groups: Vec<u8> = (0..FAN).flat_map(|group| self.group(group)).collect();
            hash("formation 2026 vector v2", &[&groups])
        })
    }

    fn group(&self, group: usize) -> [u8; 32] {
        *self.groups[group].get_or_init(|| {
            let buckets = group * FAN..(group + 1) * FAN;
            let buckets: Vec<u8> = buckets.flat_map(|bucket| self.bucket(bucket)).collect();
            hash("formation 2026 vector group v1", &[&buckets])
        })
    }

    fn bucket(&self, bucket: usize) -> [u8; 32] {
        *self.buckets[bucket].get_or_init(|| {
            let (from, to) = part(bucket, 2 * FAN.ilog2());
            let mut bytes = Vec::new();
            for (_, chain, head) in self.shorts(from, to) {
                write(chain, head, &mut bytes);
            }
            hash("formation 2026 vector bucket v1", &[&bytes])
        })
    }

    /// For each of 2^`bits` equal parts of the short names, two bytes of a hash over `salt` and its chains.
    /// By chance two parts that differ have one tag in 65,536 cases, with another salt hardly again.
    pub fn tags(&self, salt: u64, bits: u32) -> Vec<u16> {
        let mut tags = vec![0; 1 << bits];
        let mut bytes = Vec::new();
        let mut rest = self.shorts(0, SHORT_MAX).peekable();
        while let Some((short, ..)) = rest.peek() {
            let part = part_of(*short, bits);
            bytes.clear();
            while let Some((_, chain, head)) = rest.next_if(|(short, ..)| part_of(*short, bits) == part) {
                write(chain, head, &mut bytes);
            }
            let [a, b, ..] = hash("formation 2026 vector tag v1", &[&salt.to_le_bytes(), &bytes]);
            tags[part] = u16::from_le_bytes([a, b]).max(1);
        }
        tags
    }

    /// Compares what is held, chain by chain: `None` when each has what the other lacks.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        let behind = |a: &Self, b: &Self| a.iter().any(|(chain, head)| head.next > b.next(chain));
        match (behind(self, other), behind(other, self)) {
            (false, false) => Some(Ordering::Equal),
            (true, false) => Some(Ordering::Greater),
            (false, true) => Some(Ordering::Less),
            (true, true) => None,
        }
    }
}

/// The least and the greatest short name of a part.
pub(crate) fn part(part: usize, bits: u32) -> (u64, u64) {
    let width = SHORT_BITS - bits;
    ((part as u64) << width, ((part as u64 + 1) << width) - 1)
}

fn write(chain: &Chain, head: &Head, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&chain.node.0);
    bytes.extend_from_slice(&chain.incarnation.to_le_bytes());
    bytes.extend_from_slice(&head.next.to_le_bytes());
    bytes.extend_from_slice(&head.id.0);
}
