//! What the state tree promises: one tree for one content, whatever happened before; chunks that only an
//! honest tree has; the bytes of v1 for ever.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod chunks;
mod golden;
mod hostile;
mod model;
mod plain;
mod proofs;

use std::collections::BTreeMap;

use projections::tree::{Key, Tree};

/// The plainest tree.
type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fn key(table: u8, key: &[u8]) -> Key {
    let key = key.to_vec();
    Key { table, key }
}

fn read(tree: &Tree) -> Model {
    let entries = tree.iter();
    entries
        .map(|entry| ((entry.table, entry.key.to_vec()), entry.value.to_vec()))
        .collect()
}

fn build(model: &Model) -> Tree {
    let mut tree = Tree::default();
    tree.apply(
        model
            .iter()
            .map(|((table, at), value)| (key(*table, at), Some(value.clone()))),
    );
    tree
}

/// `count` entries whose values are `bytes` long, the same each time.
fn regular(count: u32, bytes: usize) -> Model {
    (0..count)
        .map(|n| {
            let value = n.to_le_bytes().into_iter().cycle().take(bytes).collect();
            ((n as u8 % 7, n.to_be_bytes().to_vec()), value)
        })
        .collect()
}
