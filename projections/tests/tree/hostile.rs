//! Chunks that no honest tree has. Each is the one that its parent, or the root, asks for: the hash is right
//! and the shape is wrong.

use ledger::codec::{DecodeError, Writer};
use ledger::id::hash;
use proptest::prelude::*;

use projections::tree::assembly::{Assembly, OfferError};
use projections::tree::{CHUNK_BYTES_MAX, Hash, Malformed};

use crate::{build, regular};

fn node_hash(bytes: &[u8]) -> Hash {
    hash("formation 2026 state node v1", &[bytes])
}

fn position(table: u8, key: &[u8]) -> Hash {
    hash("formation 2026 state position v1", &[&[table], key])
}

fn leaf(entries: &[(u8, &[u8], &[u8])]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.raw(&[0]);
    for (table, key, value) in entries {
        writer.raw(&[*table]).sized(key).sized(value);
    }
    writer.into_bytes()
}

/// The bytes of an inner chunk, put together by hand.
struct Inner(Writer);

impl Inner {
    fn new() -> Self {
        let mut writer = Writer::new();
        writer.raw(&[1]);
        Self(writer)
    }

    fn empty(mut self) -> Self {
        self.0.raw(&[0]);
        self
    }

    fn child(mut self, weight: u64, count: u64, hash: Hash) -> Self {
        self.0.raw(&[1]).varint(weight).varint(count).raw(&hash);
        self
    }

    fn fork(mut self) -> Self {
        self.0.raw(&[2]);
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// The last of the chunks is refused as `expect` says; those before it are taken.
#[track_caller]
fn check(chunks: &[Vec<u8>], expect: Malformed) {
    let (last, before) = chunks.split_last().unwrap();
    let first = before.first().unwrap_or(last);
    let mut assembly = Assembly::new(node_hash(first));
    for bytes in before {
        assert_eq!(assembly.offer(bytes), Ok(()));
    }
    assert_eq!(assembly.offer(last), Err(OfferError::Broken(expect)));
    assert!(assembly.tree().is_none());
}

/// A key of table 1 whose position begins with these bits.
fn key_at(bits: &str) -> Vec<u8> {
    let fits = |key: &Hash| {
        bits.bytes()
            .enumerate()
            .all(|(depth, bit)| key[depth / 8] >> (7 - depth % 8) & 1 == bit - b'0')
    };
    (0u32..)
        .map(|n| n.to_le_bytes().to_vec())
        .find(|key| fits(&position(1, key)))
        .unwrap()
}

const H: Hash = [9; 32];

#[test]
fn what_does_not_read_is_refused() {
    let framing = |error| Malformed::Framing(error);
    check(&[vec![]], framing(DecodeError::Truncated("a chunk's kind")));
    check(&[vec![2]], framing(DecodeError::Meaningless("a chunk's kind")));
    check(&[vec![1]], framing(DecodeError::Truncated("a vertex")));
    check(&[vec![1, 3]], framing(DecodeError::Meaningless("a vertex")));
    check(&[vec![0, 1]], framing(DecodeError::Truncated("an entry's key")));
    check(
        &[vec![0, 1, 0x81, 0, 5, 0]],
        framing(DecodeError::NotCanonical("an entry's key")),
    );
    let tail = Inner::new()
        .fork()
        .child(5_000, 2, H)
        .child(5_000, 2, [8; 32])
        .empty()
        .bytes();
    check(&[tail], framing(DecodeError::Trailing(1)));
    let endless = Inner::new()
        .fork()
        .child(u64::MAX, 1, H)
        .child(u64::MAX, 1, [8; 32])
        .bytes();
    check(
        &[endless],
        framing(DecodeError::Meaningless("a size that no tree has")),
    );
}

#[test]
fn entries_out_of_order_or_twice_are_refused() {
    let entry = |key| (1u8, key, &b"v"[..]);
    check(&[leaf(&[entry(&b"b"[..]), entry(b"a")])], Malformed::Unsorted);
    check(&[leaf(&[entry(&b"a"[..]), entry(b"a")])], Malformed::Unsorted);
    check(&[leaf(&[(2, b"a", b"v"), (1, b"b", b"v")])], Malformed::Unsorted);
}

#[test]
fn a_leaf_too_large_is_refused() {
    let value = vec![1; 5_000];
    check(
        &[leaf(&[(1, b"a", &value), (1, b"b", &value)])],
        Malformed::WrongKind,
    );
    // A wanted one too large for any chunk is not even hashed.
    let large = leaf(&[(1, b"a", &vec![1; CHUNK_BYTES_MAX])]);
    let mut assembly = Assembly::new(node_hash(&large));
    assert_eq!(assembly.offer(&large), Err(OfferError::NotWanted));
}

#[test]
fn a_tree_cut_otherwise_is_refused() {
    // A fork of what would be one leaf.
    check(
        &[Inner::new()
            .fork()
            .child(4_000, 2, H)
            .child(4_000, 2, [8; 32])
            .bytes()],
        Malformed::WrongCut,
    );
    check(
        &[Inner::new().fork().child(9_000, 1, H).empty().bytes()],
        Malformed::WrongCut,
    );
    // An inner chunk without a fork, or of nothing.
    check(&[Inner::new().child(9_000, 9, H).bytes()], Malformed::WrongCut);
    check(&[Inner::new().empty().bytes()], Malformed::WrongKind);
    // A child of nothing.
    let two = Inner::new()
        .fork()
        .fork()
        .child(5_000, 2, H)
        .child(5_000, 2, [8; 32]);
    check(&[two.child(0, 0, [7; 32]).bytes()], Malformed::WrongCut);
    // An inner chunk one fork down; a fifth fork.
    check(
        &[Inner::new()
            .fork()
            .child(9_000, 9, H)
            .child(5_000, 2, [8; 32])
            .bytes()],
        Malformed::WrongCut,
    );
    let deep = Inner::new().fork().fork().fork().fork().fork();
    let deep = deep.child(5_000, 2, H).child(5_000, 2, [8; 32]);
    check(
        &[deep.empty().empty().empty().empty().bytes()],
        Malformed::WrongCut,
    );
}

/// One large entry on the side 0, one on the side 1; `low` and `high` are their keys.
fn pair(low: &[u8], high: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let value = vec![1; 5_000];
    let (low, high) = (leaf(&[(1, low, &value)]), leaf(&[(1, high, &value)]));
    let sizes = [low.len() as u64 - 1, high.len() as u64 - 1];
    let top = Inner::new()
        .fork()
        .child(sizes[0], 1, node_hash(&low))
        .child(sizes[1], 1, node_hash(&high));
    (top.bytes(), low, high)
}

#[test]
fn an_entry_at_another_place_is_refused() {
    let (top, low, high) = pair(&key_at("0"), &key_at("1"));
    let mut assembly = Assembly::new(node_hash(&top));
    assert_eq!(assembly.offer(&low), Err(OfferError::NotWanted));
    for bytes in [&top, &high, &low] {
        assert_eq!(assembly.offer(bytes), Ok(()));
    }
    assert_eq!(assembly.tree().unwrap().len(), 2);

    let (top, low, _) = pair(&key_at("1"), &key_at("0"));
    check(&[top, low], Malformed::Misplaced);
}

#[test]
fn one_chunk_at_two_places_is_refused() {
    let (top, ..) = pair(&key_at("0"), &key_at("0"));
    check(&[top], Malformed::Misplaced);
    // A child that is its own parent's sibling.
    let inner = Inner::new()
        .fork()
        .child(5_000, 2, H)
        .child(5_000, 2, [8; 32])
        .bytes();
    let top = Inner::new()
        .fork()
        .fork()
        .fork()
        .fork()
        .child(10_000, 4, node_hash(&inner))
        .child(5_000, 2, H)
        .empty()
        .empty()
        .empty()
        .bytes();
    check(&[top, inner], Malformed::Misplaced);
}

#[test]
fn a_size_other_than_announced_is_refused() {
    let value = vec![1; 5_000];
    let low = leaf(&[(1, &key_at("0"), &value)]);
    let weight = low.len() as u64 - 1;
    for (told_weight, told_count) in [(weight + 1, 1), (weight - 1, 1), (weight, 2)] {
        let top = Inner::new()
            .fork()
            .child(told_weight, told_count, node_hash(&low))
            .child(8_000, 2, H)
            .bytes();
        check(&[top, low.clone()], Malformed::WrongSize { weight, count: 1 });
    }
}

#[test]
fn a_leaf_where_an_inner_chunk_belongs_is_refused() {
    let value = vec![1; 5_000];
    let (one, two) = (key_at("00000"), key_at("00001"));
    let mut entries = [(1u8, &one[..], &value[..]), (1, &two[..], &value[..])];
    entries.sort();
    let low = leaf(&entries);
    let top = Inner::new()
        .fork()
        .fork()
        .fork()
        .fork()
        .child(low.len() as u64 - 1, 2, node_hash(&low))
        .empty()
        .empty()
        .empty()
        .child(5_000, 1, H)
        .bytes();
    check(&[top, low], Malformed::WrongKind);
}

#[test]
fn the_chunks_of_another_tree_are_not_taken() {
    let (ours, other) = (build(&regular(1_000, 100)), build(&regular(1_001, 100)));
    let mut assembly = Assembly::new(ours.root());
    let root = other.chunks().next().unwrap().1;
    assert_eq!(assembly.offer(&root), Err(OfferError::NotWanted));
    // And those it shares only below their parents.
    for (hash, bytes) in other.chunks() {
        let wanted = assembly.wanted().any(|want| want.hash == hash);
        assert_eq!(assembly.offer(&bytes).is_ok(), wanted);
    }
    assert!(assembly.tree().is_none());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever bytes a root names, taking them panics never, and what is taken is a tree with that root.
    #[test]
    fn any_bytes_are_a_tree_or_refused(
        count in 0u32..300,
        which: prop::sample::Index,
        at: prop::sample::Index,
        by: u8,
        cut: Option<prop::sample::Index>,
    ) {
        let tree = build(&regular(count, 100));
        let chunks: Vec<Vec<u8>> = tree.chunks().map(|(_, bytes)| bytes.into_owned()).collect();
        let mut bytes = chunks[which.index(chunks.len())].clone();
        let place = at.index(bytes.len());
        bytes[place] ^= by;
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let root = node_hash(&bytes);
        let mut assembly = Assembly::new(root);
        if assembly.offer(&bytes).is_ok()
            && let Some(made) = assembly.tree()
        {
            prop_assert_eq!(made.chunks().next().unwrap().0, root);
            prop_assert_eq!(build(&crate::read(&made)).root(), root);
        }
    }
}
