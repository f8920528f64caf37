//! From a tree to chunks and back, and how the chunks are cut.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use projections::tree::assembly::{Assembly, OfferError};
use projections::tree::{CHUNK_BYTES_MAX, Hash, LEAF_BYTES_MAX, Tree};

use crate::{build, key, read, regular};

/// Fetches what is wanted from `from`, in rounds; returns how many chunks that took.
fn fetch(assembly: &mut Assembly, from: &Tree) -> usize {
    let mut fetched = 0;
    loop {
        let wanted: Vec<_> = assembly.wanted().collect();
        if wanted.is_empty() {
            return fetched;
        }
        for want in wanted {
            let bytes = from.chunk(&want.place, &want.hash).unwrap();
            assembly.offer(&bytes).unwrap();
            fetched += 1;
        }
    }
}

fn check_round_trip(tree: &Tree) {
    let mut by_chunks = Assembly::new(tree.root());
    for (_, bytes) in tree.chunks() {
        assert!(by_chunks.tree().is_none());
        by_chunks.offer(&bytes).unwrap();
        assert_eq!(by_chunks.offer(&bytes), Err(OfferError::NotWanted));
    }
    let mut by_wants = Assembly::new(tree.root());
    assert_eq!(fetch(&mut by_wants, tree), tree.chunks().count());
    for assembly in [by_chunks, by_wants] {
        let made = assembly.tree().unwrap();
        assert_eq!(made.root(), tree.root());
        assert_eq!(read(&made), read(tree));
        assert_eq!((made.len(), made.weight()), (tree.len(), tree.weight()));
        assert!(made.chunks().eq(tree.chunks()));
        // It changes like one that grew here.
        let (mut made, mut tree) = (made, tree.clone());
        made.insert(3, b"more", &[1; 5_000]);
        tree.insert(3, b"more", &[1; 5_000]);
        assert_eq!(made.root(), tree.root());
    }
}

#[test]
fn a_tree_comes_back_from_its_chunks() {
    let empty = Assembly::new(Tree::default().root());
    assert!(empty.tree().unwrap().is_empty());
    check_round_trip(&build(&regular(1, 10)));
    check_round_trip(&build(&regular(1, 60_000)));
    check_round_trip(&build(&regular(30, 100)));
    check_round_trip(&build(&regular(5_000, 100)));
    check_round_trip(&build(&regular(40, 9_000)));
}

#[test]
fn chunks_are_bounded_and_neither_tiny_nor_large_on_the_mean() {
    for count in [1_000u32, 3_000, 10_000, 30_000] {
        let tree = build(&regular(count, 150));
        let sizes: Vec<usize> = tree.chunks().map(|(_, bytes)| bytes.len()).collect();
        assert!(
            sizes.iter().all(|size| *size as u64 <= LEAF_BYTES_MAX + 1),
            "{count}"
        );
        let mean = tree.weight() as usize / sizes.len();
        assert!((3_400..8_192).contains(&mean), "{count} entries: mean {mean}");
    }
}

/// Keys that an attacker tries out until they share their first 12 bits: the tree forks deeper there, and no
/// chunk grows.
#[test]
fn keys_tried_out_for_one_place_make_no_large_chunk() {
    let mut tree = Tree::default();
    let mut tried = 0u32;
    let mut taken = 0;
    while taken < 300 {
        tried += 1;
        let position = ledger::id::hash("formation 2026 state position v1", &[&[1], &tried.to_le_bytes()]);
        if position[0] == 7 && position[1] < 16 {
            tree.insert(1, &tried.to_le_bytes(), &[0; 100]);
            taken += 1;
        }
    }
    let before = tree.clone();
    tree.insert(1, b"one more", &[0; 100]);
    assert!(
        tree.chunks()
            .all(|(_, bytes)| bytes.len() as u64 <= LEAF_BYTES_MAX + 1)
    );
    // Each inner chunk but the last three is a way with one child.
    assert!(tree.chunks().count() < 20);
    assert!(tree.chunks_beyond(&before).count() <= 3);
}

#[test]
fn the_largest_entry_is_a_chunk_by_itself_and_one_larger_is_refused_by_a_joiner() {
    let mut tree = build(&regular(500, 100));
    let longest = vec![7; projections::tree::KEY_BYTES_MAX];
    tree.insert(1, &longest, &vec![1; projections::tree::VALUE_BYTES_MAX]);
    let largest = tree.chunks().map(|(_, bytes)| bytes.len()).max().unwrap();
    assert!(largest <= CHUNK_BYTES_MAX && largest > projections::tree::VALUE_BYTES_MAX);
    check_round_trip(&tree);

    tree.insert(1, &longest, &vec![1; projections::tree::VALUE_BYTES_MAX + 1]);
    assert_eq!(
        tree.get(1, &longest).unwrap().len(),
        projections::tree::VALUE_BYTES_MAX + 1
    );
    let mut assembly = Assembly::new(tree.root());
    let refused = tree
        .chunks()
        .filter(|(_, bytes)| assembly.offer(bytes).is_err())
        .count();
    assert_eq!(refused, 1);
    assert!(assembly.tree().is_none());
}

#[test]
fn what_is_at_hand_is_not_fetched_and_what_only_looks_alike_is() {
    let old = build(&regular(3_000, 100));
    let mut new = old.clone();
    // As many bytes and entries everywhere as before.
    new.insert(0, &0u32.to_be_bytes(), &[1; 100]);
    let mut assembly = Assembly::beyond(new.root(), old.clone());
    assert_eq!(fetch(&mut assembly, &new), new.chunks_beyond(&old).count());
    assert_eq!(read(&assembly.tree().unwrap()), read(&new));
    let same = Assembly::beyond(old.root(), build(&regular(3_000, 100)));
    assert_eq!(same.wanted().count(), 0);
    assert_eq!(read(&same.tree().unwrap()), read(&old));
}

type Stored = BTreeMap<Hash, Vec<u8>>;

fn stored(tree: &Tree) -> Stored {
    tree.chunks()
        .map(|(hash, bytes)| (hash, bytes.into_owned()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    /// A store that writes and deletes the differences always has just the chunks of the newest tree.
    #[test]
    fn the_difference_in_chunks_is_exact(
        count in 0u32..400,
        rounds in proptest::collection::vec(
            proptest::collection::vec((0u32..500, proptest::option::of(0usize..9_000)), 1..30),
            1..6,
        ),
        shared: bool,
    ) {
        let mut tree = build(&regular(count, 100));
        let mut store = stored(&tree);
        for round in rounds {
            let old = if shared { tree.clone() } else { build(&read(&tree)) };
            tree.apply(round.iter().map(|(n, bytes)| {
                (key(*n as u8 % 7, &n.to_be_bytes()), bytes.map(|bytes| vec![1; bytes]))
            }));
            let come: BTreeSet<Hash> = tree.chunks_beyond(&old).map(|(hash, bytes)| {
                store.insert(hash, bytes.into_owned());
                hash
            }).collect();
            for (hash, _) in old.chunks_beyond(&tree) {
                prop_assert!(store.remove(&hash).is_some());
                prop_assert!(!come.contains(&hash));
            }
            prop_assert_eq!(&store, &stored(&tree));

            // A leaf that only came to lie higher or lower may be fetched again.
            let mut assembly = Assembly::beyond(tree.root(), old);
            prop_assert!(fetch(&mut assembly, &tree) <= come.len() + round.len());
            prop_assert_eq!(read(&assembly.tree().unwrap()), read(&tree));
        }
    }
}
