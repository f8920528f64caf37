//! Ways through a tree: all entries, all chunks, and what differs between two trees. What two trees share is
//! stepped over.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::chunk::{self, Entry};
use super::place::Position;
use super::vertex::{Leaf, Vertex};
use super::{FORKS, Hash};

/// All entries below some vertices.
pub struct Iter<'a> {
    open: Vec<&'a Vertex>,
    leaf: Box<dyn Iterator<Item = Entry<'a>> + 'a>,
}

impl<'a> Iter<'a> {
    /// The last vertex comes first.
    pub(super) fn new(vertices: &[&'a Vertex]) -> Self {
        Self {
            open: vertices.to_vec(),
            leaf: Box::new(std::iter::empty()),
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entry) = self.leaf.next() {
                return Some(entry);
            }
            match self.open.pop()? {
                Vertex::Empty => {}
                Vertex::Leaf(leaf) => self.leaf = Box::new(leaf.entries()),
                Vertex::Fork(fork) => self.open.extend(fork.below.iter().rev()),
            }
        }
    }
}

/// All chunks of a tree, or those that another has not; parents first.
pub struct Chunks<'a> {
    /// With the forks above each, and what the other tree has at its place.
    open: Vec<(&'a Vertex, usize, Option<&'a Vertex>)>,
}

impl<'a> Chunks<'a> {
    pub(super) fn new(top: &'a Vertex, other: Option<&'a Vertex>) -> Self {
        Self {
            open: vec![(top, 0, other)],
        }
    }
}

impl<'a> Iterator for Chunks<'a> {
    type Item = (Hash, Cow<'a, [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (vertex, depth, other) = self.open.pop()?;
            // A leaf may lie higher or lower in the other tree: what was beside it came or went.
            let other = match (vertex, other) {
                (Vertex::Leaf(leaf), Some(other)) => leaf_on_the_way(leaf, depth, other),
                _ => other,
            };
            if other.is_some_and(|other| vertex.is_known_same(other)) {
                continue;
            }
            if let Vertex::Fork(fork) = vertex {
                for side in [1, 0] {
                    let other = match other {
                        Some(Vertex::Fork(other)) => Some(&other.below[side]),
                        other => other,
                    };
                    self.open.push((&fork.below[side], depth + 1, other));
                }
            }
            let is_chunk = match vertex {
                Vertex::Empty => depth == 0,
                Vertex::Leaf(_) => true,
                Vertex::Fork(_) => depth.is_multiple_of(FORKS),
            };
            if !is_chunk {
                continue;
            }
            let hash = vertex.hash();
            let has_it = other.is_some_and(|other| match (vertex, other) {
                (Vertex::Fork(_), Vertex::Fork(_)) => other.hash() == hash,
                _ => false,
            });
            if has_it {
                // All below is the same too: it was pushed last.
                self.open.truncate(self.open.len() - 2);
                continue;
            }
            return Some((hash, chunk::bytes(vertex)));
        }
    }
}

/// Where the entries of a leaf are in another tree, of which `other` lies `depth` forks deep on the way.
fn leaf_on_the_way<'a>(leaf: &Leaf, mut depth: usize, mut other: &'a Vertex) -> Option<&'a Vertex> {
    let first = leaf.entries().next()?;
    let position = Position::of(first.table, first.key);
    while let Vertex::Fork(fork) = other {
        other = &fork.below[position.bit(depth)];
        depth += 1;
    }
    Some(other)
}

/// A key at which two trees differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The number of its table.
    pub table: u8,
    /// The key there.
    pub key: &'a [u8],
    /// What stands there in the older tree.
    pub old: Option<&'a [u8]>,
    /// What stands there in the newer one.
    pub new: Option<&'a [u8]>,
}

/// Where two trees differ, in no order that tells anything.
pub(super) fn diff<'a>(old: &'a Vertex, new: &'a Vertex) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    let mut open = vec![(old, new)];
    while let Some((old, new)) = open.pop() {
        if old.is_known_same(new) {
            continue;
        }
        match (old, new) {
            (Vertex::Fork(old), Vertex::Fork(new)) => {
                open.extend([1, 0].map(|side| (&old.below[side], &new.below[side])));
            }
            _ => compare(&sorted(old), &sorted(new), &mut found),
        }
    }
    found
}

fn sorted(vertex: &Vertex) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Iter::new(&[vertex]).collect();
    entries.sort_unstable_by(|one, two| one.at().cmp(&two.at()));
    entries
}

fn compare<'a>(mut old: &[Entry<'a>], mut new: &[Entry<'a>], found: &mut Vec<Difference<'a>>) {
    loop {
        let order = match (old.first(), new.first()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => old.at().cmp(&new.at()),
        };
        let gone = if order.is_le() {
            old.split_off_first()
        } else {
            None
        };
        let come = if order.is_ge() {
            new.split_off_first()
        } else {
            None
        };
        let Some(entry) = gone.or(come) else { return };
        if gone.map(|entry| entry.value) != come.map(|entry| entry.value) {
            found.push(Difference {
                table: entry.table,
                key: entry.key,
                old: gone.map(|entry| entry.value),
                new: come.map(|entry| entry.value),
            });
        }
    }
}
