//! Shows to who has only a root what stands at one key, or that nothing does: the chunks on the way there.

use super::chunk::{self, Checked, Child, Malformed, Shape, leaf_entries};
use super::place::{Place, Position};
use super::vertex::Vertex;
use super::{CHUNK_BYTES_MAX, FORKS, Hash, Tree};

/// The chunks from the root to where an entry is or would be: mostly one leaf and a few hundred bytes for
/// each inner chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The bytes of each, the root's first.
    pub chunks: Vec<Vec<u8>>,
}

/// Why a proof shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// A chunk is not the one that the root or its parent names, or there are too few or too many.
    #[error("the proof does not lead from the root to the key")]
    OffTheWay,
    /// A chunk is none.
    #[error("the proof does not hold: {0}")]
    Broken(#[from] Malformed),
}

impl Tree {
    /// The proof of what stands at a key.
    pub fn prove(&self, table: u8, key: &[u8]) -> Proof {
        let position = Position::of(table, key);
        let mut chunks = vec![chunk::bytes(&self.top).into_owned()];
        let mut vertex = &self.top;
        let mut depth = 0;
        while let Vertex::Fork(fork) = vertex {
            vertex = &fork.below[position.bit(depth)];
            depth += 1;
            match vertex {
                Vertex::Leaf(_) => chunks.push(chunk::bytes(vertex).into_owned()),
                Vertex::Fork(_) if depth.is_multiple_of(FORKS) => {
                    chunks.push(chunk::bytes(vertex).into_owned())
                }
                Vertex::Fork(_) | Vertex::Empty => {}
            }
        }
        Proof { chunks }
    }
}

impl Proof {
    /// What stands at a key in the tree with this root; `None`: nothing does, and that is proved.
    pub fn verify(&self, root: &Hash, table: u8, key: &[u8]) -> Result<Option<&[u8]>, ProofError> {
        let position = Position::of(table, key);
        let (mut hash, mut place, mut size) = (*root, Place::ROOT, None);
        let mut chunks = self.chunks.iter();
        loop {
            let bytes = chunks.next().ok_or(ProofError::OffTheWay)?;
            if bytes.len() > CHUNK_BYTES_MAX || chunk::hash(bytes) != hash {
                return Err(ProofError::OffTheWay);
            }
            let found = match chunk::check(bytes, place, size)? {
                Checked::Leaf(_) => leaf_entries(bytes)
                    .find(|entry| entry.at() == (table, key))
                    .map(|entry| entry.value),
                Checked::Inner(shape) => match towards(shape, place.bits(), &position) {
                    Some(child) => {
                        (hash, place, size) = (child.hash, child.place, Some(child.size));
                        continue;
                    }
                    None => None,
                },
            };
            return chunks.next().map_or(Ok(found), |_| Err(ProofError::OffTheWay));
        }
    }
}

/// The child of an inner chunk on the way to a position.
fn towards(mut shape: Shape, mut depth: usize, position: &Position) -> Option<Child> {
    loop {
        match shape {
            Shape::Empty => return None,
            Shape::Child(child) => return Some(child),
            Shape::Fork(below) => {
                let [left, right] = *below;
                shape = if position.bit(depth) == 0 { left } else { right };
                depth += 1;
            }
        }
    }
}
