//! The tree against a plain sorted map, and against itself made another way.

use proptest::collection::vec;
use proptest::prelude::*;

use projections::tree::Tree;

use crate::{Model, build, key, read, regular};

type Step = ((u8, Vec<u8>), Option<Vec<u8>>);

/// A small stock of keys, so that steps meet, and values of all sizes up to several leaves.
fn step() -> impl Strategy<Value = Step> {
    let at = (0u8..3, vec(0u8..6, 0..4));
    let bytes = prop_oneof![
        6 => 0usize..200,
        3 => 200usize..3_000,
        1 => 3_000usize..20_000,
    ];
    let value = (bytes, any::<u8>()).prop_map(|(bytes, fill)| vec![fill; bytes]);
    (at, proptest::option::weighted(0.7, value))
}

fn step_once(tree: &mut Tree, ((table, at), value): &Step) {
    match value {
        Some(value) => tree.insert(*table, at, value),
        None => tree.remove(*table, at),
    }
}

fn step_model(model: &mut Model, (at, value): &Step) {
    match value {
        Some(value) => model.insert(at.clone(), value.clone()),
        None => model.remove(at),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn any_history_to_one_content_gives_one_tree(
        steps in vec(step(), 0..200),
        batch in 1usize..60,
        ask in 1usize..30,
    ) {
        let (mut model, mut single, mut batched) = (Model::new(), Tree::default(), Tree::default());
        for (index, one) in steps.iter().enumerate() {
            step_model(&mut model, one);
            step_once(&mut single, one);
            if index.is_multiple_of(ask) {
                // Hashes of before must not be taken for those of after.
                single.root();
            }
        }
        for some in steps.chunks(batch) {
            batched.apply(some.iter().map(|((table, at), value)| (key(*table, at), value.clone())));
        }
        let rebuilt = build(&model);
        prop_assert_eq!(read(&single), model.clone());
        prop_assert_eq!(single.len(), model.len() as u64);
        prop_assert_eq!(single.root(), rebuilt.root());
        prop_assert_eq!(batched.root(), rebuilt.root());
        let plain = crate::plain::chunks(&model);
        for tree in [&single, &batched, &rebuilt] {
            let chunks: Vec<_> = tree.chunks().map(|(hash, bytes)| (hash, bytes.into_owned())).collect();
            prop_assert_eq!(&chunks, &plain);
        }
        for ((table, at), _) in &steps {
            prop_assert_eq!(single.get(*table, at), model.get(&(*table, at.clone())).map(Vec::as_slice));
        }

        for (table, at) in model.keys() {
            single.remove(*table, at);
        }
        prop_assert!(single.is_empty());
        prop_assert_eq!(single.root(), Tree::default().root());
    }

    #[test]
    fn a_clone_stays_what_it_was_and_the_difference_is_told(
        before in vec(step(), 0..120),
        after in vec(step(), 0..20),
        hashed: bool,
    ) {
        let (mut model, mut tree) = (Model::new(), Tree::default());
        for one in &before {
            step_model(&mut model, one);
            step_once(&mut tree, one);
        }
        if hashed {
            tree.root();
        }
        let (old_model, old) = (model.clone(), tree.clone());
        for one in &after {
            step_model(&mut model, one);
            step_once(&mut tree, one);
        }
        prop_assert_eq!(read(&old), old_model.clone());
        prop_assert_eq!(old.root(), build(&old_model).root());

        let mut told = Model::new();
        let mut patched = old_model.clone();
        for one in old.diff(&tree) {
            let at = (one.table, one.key.to_vec());
            prop_assert_eq!(one.old, old_model.get(&at).map(Vec::as_slice));
            prop_assert_eq!(one.new, model.get(&at).map(Vec::as_slice));
            prop_assert_ne!(one.old, one.new);
            step_model(&mut patched, &(at.clone(), one.new.map(<[u8]>::to_vec)));
            prop_assert_eq!(told.insert(at, Vec::new()), None);
        }
        prop_assert_eq!(patched, model);
    }
}

#[test]
fn a_deep_tree_is_the_one_of_the_plain_rules() {
    let model = regular(20_000, 150);
    let chunks: Vec<_> = build(&model)
        .chunks()
        .map(|(hash, bytes)| (hash, bytes.into_owned()))
        .collect();
    assert!(chunks.len() > 500);
    assert!(chunks == crate::plain::chunks(&model));
}

#[test]
fn what_changes_nothing_makes_nothing_new() {
    let model = regular(2_000, 100);
    let mut tree = build(&model);
    let before = tree.clone();
    tree.remove(200, b"never there");
    tree.insert(0, &0u32.to_be_bytes(), &[0; 100]);
    assert_eq!(tree.chunks_beyond(&before).count(), 0);
    assert_eq!(tree.diff(&before), []);
}

#[test]
fn of_several_changes_at_one_key_the_last_counts() {
    let mut tree = Tree::default();
    tree.apply([
        (key(1, b"a"), Some(vec![1])),
        (key(1, b"b"), Some(vec![2])),
        (key(1, b"a"), Some(vec![3])),
        (key(1, b"b"), None),
    ]);
    assert_eq!(read(&tree), Model::from([((1, b"a".to_vec()), vec![3])]));
}
