//! Chunks as bytes: how they are written, and which are refused. The layout is drawn in [`super`].

use std::borrow::Cow;

use ledger::codec::{DecodeError, Reader, Writer};

use super::place::{POSITION_BITS, Place, Position};
use super::vertex::Vertex;
use super::{FORKS, Hash, KEY_BYTES_MAX, VALUE_BYTES_MAX, is_leaf};

const CONTEXT: &str = "formation 2026 state node v1";

const LEAF: u8 = 0;
const INNER: u8 = 1;

const EMPTY: u8 = 0;
const CHILD: u8 = 1;
const FORK: u8 = 2;

/// An entry of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The number of its table.
    pub table: u8,
    /// Its key there.
    pub key: &'a [u8],
    /// What stands there.
    pub value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// What a leaf is sorted by.
    pub(super) fn at(&self) -> (u8, &'a [u8]) {
        (self.table, self.key)
    }

    /// Bytes of the entry in a leaf.
    pub(super) fn weight(&self) -> u64 {
        let sized = |bytes: &[u8]| varint_bytes(bytes.len()) + bytes.len();
        (1 + sized(self.key) + sized(self.value)) as u64
    }
}

fn varint_bytes(value: usize) -> usize {
    (usize::BITS - value.leading_zeros()).div_ceil(7).max(1) as usize
}

pub(super) fn hash(bytes: &[u8]) -> Hash {
    ledger::id::hash(CONTEXT, &[bytes])
}

/// The chunk of a leaf; `entries` are sorted.
pub(super) fn write_leaf(entries: &[Entry<'_>]) -> Vec<u8> {
    let weight: u64 = entries.iter().map(Entry::weight).sum();
    let mut bytes = Vec::with_capacity(1 + weight as usize);
    bytes.push(LEAF);
    for entry in entries {
        bytes.push(entry.table);
        for part in [entry.key, entry.value] {
            push_varint(&mut bytes, part.len());
            bytes.extend_from_slice(part);
        }
    }
    bytes
}

fn push_varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// The chunk that begins at a vertex. A fork must be at a place where one does.
pub(super) fn bytes(vertex: &Vertex) -> Cow<'_, [u8]> {
    match vertex {
        Vertex::Empty => Cow::Borrowed(&[LEAF]),
        Vertex::Leaf(leaf) => Cow::Borrowed(leaf.bytes()),
        Vertex::Fork(_) => {
            let mut writer = Writer::new();
            writer.raw(&[INNER]);
            write_vertex(&mut writer, vertex, 0);
            Cow::Owned(writer.into_bytes())
        }
    }
}

fn write_vertex(writer: &mut Writer, vertex: &Vertex, depth: usize) {
    match vertex {
        Vertex::Empty => {
            writer.raw(&[EMPTY]);
        }
        Vertex::Fork(fork) if depth < FORKS => {
            writer.raw(&[FORK]);
            for below in &fork.below {
                write_vertex(writer, below, depth + 1);
            }
        }
        Vertex::Leaf(_) | Vertex::Fork(_) => {
            writer
                .raw(&[CHILD])
                .varint(vertex.weight())
                .varint(vertex.count())
                .raw(&vertex.hash());
        }
    }
}

/// The entries of a leaf that was checked or made here.
pub(super) fn leaf_entries(bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut reader = Reader::new(&bytes[1..]);
    std::iter::from_fn(move || {
        let more = !reader.rest().is_empty();
        // Without the bounds: a tree takes what no joiner would.
        more.then(|| {
            read_entry(&mut reader, usize::MAX, usize::MAX).expect("a leaf in memory is a chunk that reads")
        })
    })
}

fn read_entry<'a>(
    reader: &mut Reader<'a>,
    key_bytes_max: usize,
    value_bytes_max: usize,
) -> Result<Entry<'a>, DecodeError> {
    let [table] = reader.array("an entry's table")?;
    let key = reader.sized(key_bytes_max, "an entry's key")?;
    let value = reader.sized(value_bytes_max, "an entry's value")?;
    Ok(Entry { table, key, value })
}

/// Why bytes are not the chunk that belongs at a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// They do not read.
    #[error("the bytes are no chunk of a state tree: {0}")]
    Framing(#[from] DecodeError),
    /// An inner chunk stands where a leaf belongs, or the reverse.
    #[error("it is a leaf where an inner chunk belongs, or the reverse")]
    WrongKind,
    /// Entries are not in ascending order, or one is there twice.
    #[error("the entries are not in ascending order")]
    Unsorted,
    /// An entry or a chunk belongs at another place.
    #[error("it has what belongs at another place of the tree")]
    Misplaced,
    /// It is not what its parent says in bytes or entries.
    #[error("it has {weight} bytes and {count} entries, which is not what was announced")]
    WrongSize {
        /// Bytes of the entries.
        weight: u64,
        /// Entries.
        count: u64,
    },
    /// The tree is not cut here as it has to be.
    #[error("the tree is cut where it has to be whole, or whole where it has to be cut")]
    WrongCut,
}

/// How much is below a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) weight: u64,
    pub(super) count: u64,
}

impl Size {
    fn is_leaf(self) -> bool {
        is_leaf(self.weight, self.count)
    }
}

/// What an inner chunk says of a chunk below.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) place: Place,
    pub(super) size: Size,
    pub(super) hash: Hash,
}

/// An inner chunk that was checked.
#[derive(Debug)]
pub(super) enum Shape {
    Empty,
    Child(Child),
    Fork(Box<[Shape; 2]>),
}

/// A chunk that was checked.
pub(super) enum Checked {
    /// With the number of its entries.
    Leaf(usize),
    Inner(Shape),
}

/// Checks the chunk at `place`, which its parent says has `size`; for the root nobody says it.
pub(super) fn check(bytes: &[u8], place: Place, size: Option<Size>) -> Result<Checked, Malformed> {
    let mut reader = Reader::new(bytes);
    let [kind] = reader.array("a chunk's kind")?;
    let (found, checked) = match kind {
        LEAF => {
            let size = check_leaf(&mut reader, place)?;
            (size, Checked::Leaf(size.count as usize))
        }
        INNER => {
            let (size, shape) = read_vertex(&mut reader, place, 0)?;
            reader.end()?;
            (size, Checked::Inner(shape))
        }
        _ => return Err(DecodeError::Meaningless("a chunk's kind").into()),
    };
    let Size { weight, count } = found;
    if size.is_some_and(|size| size != found) {
        return Err(Malformed::WrongSize { weight, count });
    }
    if found.is_leaf() != (kind == LEAF) {
        return Err(Malformed::WrongKind);
    }
    Ok(checked)
}

fn check_leaf(reader: &mut Reader<'_>, place: Place) -> Result<Size, Malformed> {
    let weight = reader.rest().len() as u64;
    let mut count = 0;
    let mut last = None;
    while !reader.rest().is_empty() {
        let entry = read_entry(reader, KEY_BYTES_MAX, VALUE_BYTES_MAX)?;
        if last.is_some_and(|last| last >= entry.at()) {
            return Err(Malformed::Unsorted);
        }
        last = Some(entry.at());
        if !place.holds(&Position::of(entry.table, entry.key)) {
            return Err(Malformed::Misplaced);
        }
        count += 1;
    }
    Ok(Size { weight, count })
}

fn read_vertex(reader: &mut Reader<'_>, place: Place, depth: usize) -> Result<(Size, Shape), Malformed> {
    match reader.array("a vertex")? {
        [EMPTY] => Ok((Size { weight: 0, count: 0 }, Shape::Empty)),
        [CHILD] => {
            let weight = reader.varint(u64::MAX, "a weight")?;
            let count = reader.varint(u64::MAX, "a count")?;
            let hash = reader.array("a hash")?;
            let size = Size { weight, count };
            if count == 0 || !size.is_leaf() && depth != FORKS {
                return Err(Malformed::WrongCut);
            }
            Ok((size, Shape::Child(Child { place, size, hash })))
        }
        [FORK] => {
            if depth == FORKS || place.bits() == POSITION_BITS {
                return Err(Malformed::WrongCut);
            }
            let (left, left_shape) = read_vertex(reader, place.below(0), depth + 1)?;
            let (right, right_shape) = read_vertex(reader, place.below(1), depth + 1)?;
            let sum = |left: u64, right: u64| {
                left.checked_add(right)
                    .ok_or(DecodeError::Meaningless("a size that no tree has"))
            };
            let size = Size {
                weight: sum(left.weight, right.weight)?,
                count: sum(left.count, right.count)?,
            };
            if size.is_leaf() {
                return Err(Malformed::WrongCut);
            }
            Ok((size, Shape::Fork(Box::new([left_shape, right_shape]))))
        }
        _ => Err(DecodeError::Meaningless("a vertex").into()),
    }
}
