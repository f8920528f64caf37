//! Puts a tree together from chunks that others send, in any order in which a parent comes before its
//! children. Nothing is taken that the root does not vouch for; what was taken stays taken, so it may be
//! interrupted, and resumed by offering again what was kept, in the order in which it was taken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::chunk::{self, Checked, Child, Malformed, Shape, Size};
use super::place::Place;
use super::vertex::{Leaf, Vertex};
use super::{CHUNK_BYTES_MAX, Hash, Tree};

/// A chunk that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Want {
    /// Its hash.
    pub hash: Hash,
    /// Where it belongs: with this who has the tree finds it, see [`Tree::chunk`].
    pub place: Place,
}

/// Why a chunk was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// It is not missing: it was taken already, its parent was not, or it is not of this tree.
    #[error("no chunk with these bytes is missing")]
    NotWanted,
    /// It is the chunk that is missing and still cannot be part of a state tree: no other will come, the
    /// root is not that of a state.
    #[error("the root is not that of a state tree: {0}")]
    Broken(#[from] Malformed),
}

/// What was taken.
enum Taken {
    Whole(Vertex),
    Inner(Shape),
}

/// A tree that is being put together.
pub struct Assembly {
    root: Hash,
    /// What is missing, with what its parent says of it.
    wanted: BTreeMap<Hash, (Place, Option<Size>)>,
    taken: BTreeMap<Hash, Taken>,
    /// What is at hand already.
    base: Tree,
}

impl Assembly {
    /// The tree with this root, from nothing.
    pub fn new(root: Hash) -> Self {
        Self::beyond(root, Tree::default())
    }

    /// The tree with this root; what it shares with `base`, an older one, is not fetched again.
    pub fn beyond(root: Hash, base: Tree) -> Self {
        let mut assembly = Self {
            root,
            wanted: BTreeMap::new(),
            taken: BTreeMap::new(),
            base,
        };
        if assembly.base.root() == root {
            let whole = Taken::Whole(assembly.base.top.clone());
            assembly.taken.insert(root, whole);
        } else {
            assembly.wanted.insert(root, (Place::ROOT, None));
        }
        assembly
    }

    /// What is missing now, as far as is known; more as parents come. Empty when the tree is whole.
    pub fn wanted(&self) -> impl Iterator<Item = Want> {
        let want = |(hash, (place, _)): (&Hash, &(Place, _))| Want {
            hash: *hash,
            place: *place,
        };
        self.wanted.iter().map(want)
    }

    /// Takes a chunk. Costs no more than its size, whatever it is.
    pub fn offer(&mut self, bytes: &[u8]) -> Result<(), OfferError> {
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(OfferError::NotWanted);
        }
        let hash = chunk::hash(bytes);
        let (place, size) = *self.wanted.get(&hash).ok_or(OfferError::NotWanted)?;
        let taken = match chunk::check(bytes, place, size)? {
            Checked::Leaf(0) => Taken::Whole(Vertex::Empty),
            Checked::Leaf(count) => {
                let leaf = Leaf::new(bytes.to_vec(), count, Some(hash));
                Taken::Whole(Vertex::Leaf(Arc::new(leaf)))
            }
            Checked::Inner(shape) => {
                let mut children = Vec::new();
                shape.children(&mut children);
                let hashes: BTreeSet<&Hash> = children.iter().map(|child| &child.hash).collect();
                let twice = |hash| self.wanted.contains_key(hash) || self.taken.contains_key(hash);
                // A chunk has its place in its entries: nothing can be right in two places.
                if hashes.len() < children.len() || hashes.into_iter().any(twice) {
                    return Err(Malformed::Misplaced.into());
                }
                for child in children {
                    self.want(child);
                }
                Taken::Inner(shape)
            }
        };
        self.wanted.remove(&hash);
        self.taken.insert(hash, taken);
        Ok(())
    }

    fn want(&mut self, child: Child) {
        let at_hand = self.base.top.at(&child.place).filter(|vertex| {
            // The size tells a chunk from a fork within one, and spares most of the hashing.
            vertex.weight() == child.size.weight
                && vertex.count() == child.size.count
                && vertex.hash() == child.hash
        });
        match at_hand {
            Some(vertex) => {
                self.taken.insert(child.hash, Taken::Whole(vertex.clone()));
            }
            None => {
                self.wanted.insert(child.hash, (child.place, Some(child.size)));
            }
        }
    }

    /// The tree, when nothing is missing any more.
    pub fn tree(&self) -> Option<Tree> {
        self.wanted.is_empty().then(|| Tree {
            top: self.vertex(&self.root),
        })
    }

    fn vertex(&self, hash: &Hash) -> Vertex {
        match self
            .taken
            .get(hash)
            .expect("what is not wanted any more was taken")
        {
            Taken::Whole(vertex) => vertex.clone(),
            Taken::Inner(shape) => self.grow(shape, Some(*hash)),
        }
    }

    fn grow(&self, shape: &Shape, hash: Option<Hash>) -> Vertex {
        match shape {
            Shape::Empty => Vertex::Empty,
            Shape::Child(child) => self.vertex(&child.hash),
            Shape::Fork(below) => {
                let below = [self.grow(&below[0], None), self.grow(&below[1], None)];
                Vertex::join(below, hash)
            }
        }
    }
}

impl Shape {
    fn children(&self, found: &mut Vec<Child>) {
        match self {
            Shape::Empty => {}
            Shape::Child(child) => found.push(*child),
            Shape::Fork(below) => below.iter().for_each(|shape| shape.children(found)),
        }
    }
}
