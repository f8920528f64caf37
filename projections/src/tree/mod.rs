//! The state tree: all that is so as entries (table, key) → value, in a tree that depends on what is in it
//! and on nothing else. Its root is what checkpoints certify, its nodes are the chunks of a snapshot.
//!
//! ```text
//! position := BLAKE3-derive-key("formation 2026 state position v1", table (1) ‖ key)
//! entry    := table (1) ‖ length (varint) ‖ key ‖ length (varint) ‖ value        its weight: these bytes
//!
//! The tree is the binary trie over positions, the first bit of a byte being its highest. Below a prefix
//!   nothing                            is empty
//!   one entry, or weight ≤ 8192 bytes  is a leaf chunk
//!   more                               forks
//!
//!    bits 0-3       ╱──────┴──────╲              four levels of forks are one inner chunk,
//!                 ╱─┴─╲         leaf             so it has at most 16 children
//!    bits 4-7   leaf  inner
//!                    ╱──┴──╲
//!
//! chunk  := leaf | inner
//! leaf   := 0 ‖ entries, ascending by table, then key
//! inner  := 1 ‖ vertex
//! vertex := 0                                                         empty
//!         | 1 ‖ weight (varint) ‖ count (varint) ‖ hash (32)          a chunk: of one entry or ≤ 8192
//!                                                                     bytes a leaf, else inner
//!         | 2 ‖ vertex with bit 0 ‖ vertex with bit 1                 a fork; four deep at most
//! hash   := BLAKE3-derive-key("formation 2026 state node v1", chunk)
//! root   := hash of the chunk below the empty prefix; of an empty tree that is the leaf 0 without entries
//! ```
//! An inner chunk is there only where the subtree is no leaf, and only at the fourth fork below another one.
//! The reasons are in `docs/decisions/0005-state-tree.md`.
//!
//! In reading order: `place` is where an entry belongs, `vertex` the tree in memory and how it changes,
//! `chunk` its nodes as bytes and what is refused, `walk` the ways through it, [`assembly`] puts a tree
//! together from chunks that others send, [`proof`] shows one entry. How a `Cloud` becomes entries is in
//! [`crate::state`].

pub mod assembly;
mod chunk;
mod place;
pub mod proof;
mod vertex;
mod walk;

use std::fmt;

pub use chunk::{Entry, Malformed};
pub use place::Place;
pub use walk::{Chunks, Difference, Iter};

use place::Position;
use vertex::{Change, Vertex};

/// The hash of a chunk.
pub type Hash = [u8; 32];

/// Bytes of a leaf's entries, at most, unless it has only one.
pub const LEAF_BYTES_MAX: u64 = 8 * 1024;

/// Bytes of an entry's key, at most. A tree takes longer ones, but no joiner does.
pub const KEY_BYTES_MAX: usize = 1024;

/// Bytes of an entry's value, at most. A tree takes larger ones, so that the fold never fails for it, but
/// no joiner does: what an area lets grow it bounds below this.
pub const VALUE_BYTES_MAX: usize = 128 * 1024;

/// Bytes of a chunk, at most: a leaf of one entry.
pub const CHUNK_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + 16;

/// Forks, one below the other, that make one inner chunk.
const FORKS: usize = 4;

/// What an entry is looked up by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The number of its table.
    pub table: u8,
    /// Its key there.
    pub key: Vec<u8>,
}

/// A tree. A clone costs next to nothing and shares all that does not change.
#[derive(Clone, Default)]
pub struct Tree {
    top: Vertex,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Equal in content.
impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.root() == other.root()
    }
}

impl Eq for Tree {}

impl Tree {
    /// Puts `value` at a key, in place of what was there.
    pub fn insert(&mut self, table: u8, key: &[u8], value: &[u8]) {
        self.change(table, key, Some(value));
    }

    /// Leaves nothing at a key.
    pub fn remove(&mut self, table: u8, key: &[u8]) {
        self.change(table, key, None);
    }

    fn change(&mut self, table: u8, key: &[u8], value: Option<&[u8]>) {
        let position = Position::of(table, key);
        let change = Change {
            position,
            table,
            key,
            value,
        };
        self.top = self.top.apply(0, &[change]);
    }

    /// Many changes at once; `None` removes. Of several at one key the last counts. Every chunk concerned
    /// is written once, so this is cheaper than one by one, and it is also how to build a tree.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = (Key, Option<Vec<u8>>)>) {
        let mut owned: Vec<(Position, Key, Option<Vec<u8>>)> = changes
            .into_iter()
            .map(|(at, value)| (Position::of(at.table, &at.key), at, value))
            .collect();
        // Stable: of one position the last given stays last.
        owned.sort_by_key(|(position, ..)| *position);
        let mut changes: Vec<Change<'_>> = Vec::with_capacity(owned.len());
        for (position, at, value) in &owned {
            let change = Change {
                position: *position,
                table: at.table,
                key: &at.key,
                value: value.as_deref(),
            };
            match changes.last_mut() {
                Some(last) if last.position == *position => *last = change,
                _ => changes.push(change),
            }
        }
        self.top = self.top.apply(0, &changes);
    }

    /// The root. Only chunks that changed since it was last asked for, here or in a tree that this one is
    /// a clone of, are hashed.
    pub fn root(&self) -> Hash {
        self.top.hash()
    }

    /// Entries.
    pub fn len(&self) -> u64 {
        self.top.count()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all entries.
    pub fn weight(&self) -> u64 {
        self.top.weight()
    }

    /// What stands at a key.
    pub fn get(&self, table: u8, key: &[u8]) -> Option<&[u8]> {
        self.top.get(0, &Position::of(table, key), table, key)
    }

    /// All entries, in the order of the chunks, which tells nothing but is the same everywhere.
    pub fn iter(&self) -> Iter<'_> {
        Iter::new(&[&self.top])
    }

    /// What is not the same in `newer`. Costs what differs, not what there is.
    pub fn diff<'a>(&'a self, newer: &'a Tree) -> Vec<Difference<'a>> {
        walk::diff(&self.top, &newer.top)
    }

    /// All chunks, parents first: what [`assembly::Assembly::offer`] takes in this order.
    pub fn chunks(&self) -> Chunks<'_> {
        Chunks::new(&self.top, None)
    }

    /// The chunks that `older` has not, parents first: what to write to keep both. The other way round it
    /// is what may be deleted with the older one. Costs what differs.
    pub fn chunks_beyond<'a>(&'a self, older: &'a Tree) -> Chunks<'a> {
        Chunks::new(&self.top, Some(&older.top))
    }

    /// The bytes of the chunk with this hash at a place, for a joiner who asks for it.
    pub fn chunk(&self, place: &Place, hash: &Hash) -> Option<Vec<u8>> {
        let vertex = self.top.at(place)?;
        let is_chunk = match vertex {
            Vertex::Empty => place.bits() == 0,
            Vertex::Leaf(_) => true,
            Vertex::Fork(_) => place.bits().is_multiple_of(FORKS),
        };
        (is_chunk && vertex.hash() == *hash).then(|| chunk::bytes(vertex).into_owned())
    }
}

/// Whether what has this weight and this many entries is one leaf.
fn is_leaf(weight: u64, count: u64) -> bool {
    count <= 1 || weight <= LEAF_BYTES_MAX
}
