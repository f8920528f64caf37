//! The tree in memory: a binary trie whose vertices are shared between trees. A leaf is kept as the bytes of
//! its chunk. A vertex never changes; a change makes new ones from the place of the change up.

use std::sync::{Arc, OnceLock};

use super::chunk::{self, Entry, leaf_entries};
use super::place::{Place, Position};
use super::walk::Iter;
use super::{Hash, is_leaf};

/// What is below a place. Which kind it is follows from what is there: see [`is_leaf`].
#[derive(Clone, Default)]
pub(super) enum Vertex {
    #[default]
    Empty,
    Leaf(Arc<Leaf>),
    Fork(Arc<Fork>),
}

/// At least one entry.
pub(super) struct Leaf {
    /// The chunk.
    bytes: Box<[u8]>,
    count: u32,
    hash: OnceLock<Hash>,
}

/// More than one entry and more than fits a leaf.
pub(super) struct Fork {
    pub(super) below: [Vertex; 2],
    weight: u64,
    count: u64,
    /// Of the inner chunk that begins here; stays empty at the forks within one.
    hash: OnceLock<Hash>,
}

/// A value for a key, or none. A slice of changes is sorted by position, with none twice.
pub(super) struct Change<'a> {
    pub(super) position: Position,
    pub(super) table: u8,
    pub(super) key: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
}

impl Leaf {
    /// Of a chunk's bytes that were checked, or were just written.
    pub(super) fn new(bytes: Vec<u8>, count: usize, hash: Option<Hash>) -> Self {
        Self {
            bytes: bytes.into(),
            count: count as u32,
            hash: hash.map(OnceLock::from).unwrap_or_default(),
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        leaf_entries(&self.bytes)
    }
}

impl Vertex {
    pub(super) fn weight(&self) -> u64 {
        match self {
            Vertex::Empty => 0,
            Vertex::Leaf(leaf) => leaf.bytes.len() as u64 - 1,
            Vertex::Fork(fork) => fork.weight,
        }
    }

    pub(super) fn count(&self) -> u64 {
        match self {
            Vertex::Empty => 0,
            Vertex::Leaf(leaf) => u64::from(leaf.count),
            Vertex::Fork(fork) => fork.count,
        }
    }

    /// Of the chunk that begins here. A fork must be at a place where one does.
    pub(super) fn hash(&self) -> Hash {
        let make = || chunk::hash(&chunk::bytes(self));
        match self {
            Vertex::Empty => make(),
            Vertex::Leaf(leaf) => *leaf.hash.get_or_init(make),
            Vertex::Fork(fork) => *fork.hash.get_or_init(make),
        }
    }

    /// The same vertex, in memory: certainly the same content.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Vertex::Empty, Vertex::Empty) => true,
            (Vertex::Leaf(one), Vertex::Leaf(two)) => Arc::ptr_eq(one, two),
            (Vertex::Fork(one), Vertex::Fork(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }

    /// Certainly the same content, as far as that is known without hashing.
    pub(super) fn is_known_same(&self, other: &Self) -> bool {
        self.is(other)
            || match (self, other) {
                (Vertex::Leaf(one), Vertex::Leaf(two)) => one.bytes == two.bytes,
                (Vertex::Fork(one), Vertex::Fork(two)) => {
                    one.hash.get().is_some() && one.hash.get() == two.hash.get()
                }
                _ => false,
            }
    }

    /// The vertex at a place, if the tree goes that far.
    pub(super) fn at(&self, place: &Place) -> Option<&Self> {
        let mut vertex = self;
        for side in place.way()? {
            let Vertex::Fork(fork) = vertex else {
                return None;
            };
            vertex = &fork.below[side];
        }
        Some(vertex)
    }

    pub(super) fn get(&self, depth: usize, position: &Position, table: u8, key: &[u8]) -> Option<&[u8]> {
        match self {
            Vertex::Empty => None,
            Vertex::Fork(fork) => fork.below[position.bit(depth)].get(depth + 1, position, table, key),
            Vertex::Leaf(leaf) => leaf
                .entries()
                .find(|entry| entry.at() == (table, key))
                .map(|entry| entry.value),
        }
    }

    /// Both halves of what is below a place, each as it should be: one leaf if it fits, else a fork.
    pub(super) fn join(below: [Vertex; 2], hash: Option<Hash>) -> Self {
        let [left, right] = &below;
        let weight = left.weight() + right.weight();
        let count = left.count() + right.count();
        if !is_leaf(weight, count) {
            let hash = hash.map(OnceLock::from).unwrap_or_default();
            return Vertex::Fork(Arc::new(Fork {
                below,
                weight,
                count,
                hash,
            }));
        }
        match &below {
            [Vertex::Empty, only] | [only, Vertex::Empty] => only.clone(),
            [left, right] => {
                let mut entries: Vec<Entry<'_>> = Iter::new(&[right, left]).collect();
                write_leaf(&mut entries)
            }
        }
    }

    /// What it is after `changes`, all of which belong below it.
    pub(super) fn apply(&self, depth: usize, changes: &[Change<'_>]) -> Self {
        if changes.is_empty() {
            return self.clone();
        }
        if let Vertex::Fork(fork) = self {
            let middle = changes.partition_point(|change| change.position.bit(depth) == 0);
            let (left, right) = changes.split_at(middle);
            let below = [
                fork.below[0].apply(depth + 1, left),
                fork.below[1].apply(depth + 1, right),
            ];
            if below[0].is(&fork.below[0]) && below[1].is(&fork.below[1]) {
                return self.clone();
            }
            return Self::join(below, None);
        }
        let mut entries = self.merge(changes);
        let weight: u64 = entries.iter().map(|(_, entry)| entry.weight()).sum();
        let made = if is_leaf(weight, entries.len() as u64) {
            write_leaf(&mut entries.into_iter().map(|(_, entry)| entry).collect::<Vec<_>>())
        } else {
            let mut placed: Vec<(Position, Entry<'_>)> = entries
                .drain(..)
                .map(|(position, entry)| {
                    let position = position.unwrap_or_else(|| Position::of(entry.table, entry.key));
                    (position, entry)
                })
                .collect();
            placed.sort_unstable_by_key(|(position, _)| *position);
            build(depth, &placed, weight)
        };
        if made.is_known_same(self) {
            self.clone()
        } else {
            made
        }
    }

    /// The entries of a leaf, or of nothing, after `changes`; with the position of those that changed.
    fn merge<'a>(&'a self, changes: &[Change<'a>]) -> Vec<(Option<Position>, Entry<'a>)> {
        let new = |change: &Change<'a>| {
            let (table, key) = (change.table, change.key);
            let entry = change.value.map(|value| Entry { table, key, value });
            entry.map(|entry| (Some(change.position), entry))
        };
        let Vertex::Leaf(leaf) = self else {
            return changes.iter().filter_map(new).collect();
        };
        let mut by_key: Vec<&Change<'a>> = changes.iter().collect();
        by_key.sort_unstable_by_key(|change| (change.table, change.key));
        let mut by_key = by_key.into_iter().peekable();
        let mut merged = Vec::with_capacity(leaf.count as usize + changes.len());
        for entry in leaf.entries() {
            while let Some(change) = by_key.next_if(|change| (change.table, change.key) < entry.at()) {
                merged.extend(new(change));
            }
            match by_key.next_if(|change| (change.table, change.key) == entry.at()) {
                Some(change) => merged.extend(new(change)),
                None => merged.push((None, entry)),
            }
        }
        merged.extend(by_key.filter_map(new));
        merged
    }
}

/// The vertex of all `entries`, which are sorted by position and lie `depth` forks deep.
fn build(depth: usize, entries: &[(Position, Entry<'_>)], weight: u64) -> Vertex {
    if is_leaf(weight, entries.len() as u64) {
        let mut entries: Vec<Entry<'_>> = entries.iter().map(|(_, entry)| *entry).collect();
        return write_leaf(&mut entries);
    }
    let middle = entries.partition_point(|(position, _)| position.bit(depth) == 0);
    let (left, right) = entries.split_at(middle);
    let of_left: u64 = left.iter().map(|(_, entry)| entry.weight()).sum();
    let below = [
        build(depth + 1, left, of_left),
        build(depth + 1, right, weight - of_left),
    ];
    Vertex::join(below, None)
}

fn write_leaf(entries: &mut [Entry<'_>]) -> Vertex {
    if entries.is_empty() {
        return Vertex::Empty;
    }
    entries.sort_unstable_by(|one, two| one.at().cmp(&two.at()));
    Vertex::Leaf(Arc::new(Leaf::new(
        chunk::write_leaf(entries),
        entries.len(),
        None,
    )))
}
