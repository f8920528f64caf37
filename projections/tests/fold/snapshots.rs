//! A view as a state tree, and back: nothing is lost, nothing that the fold would not have written is read,
//! and a tree that is kept up to date is the tree that is made anew.

use std::collections::BTreeSet;

use ledger::codec::{DecodeError, encode};
use ledger::id::{AccountId, NetworkId};
use proptest::prelude::*;

use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::state::{self, LoadError, Table};
use projections::tree::assembly::Assembly;
use projections::tree::{Key, Tree};

use crate::orders::History;
use crate::script::World;

/// What may have changed between two views: all that either has anything at, or only what differs.
fn changed(before: &Tree, after: &Tree, all: bool) -> BTreeSet<Key> {
    let key = |table, key: &[u8]| Key {
        table,
        key: key.to_vec(),
    };
    if all {
        let entries = before.iter().chain(after.iter());
        return entries.map(|entry| key(entry.table, entry.key)).collect();
    }
    let differences = before.diff(after);
    differences
        .iter()
        .map(|it| key(it.table, it.key))
        .filter(|key| key.table != 0)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_view_comes_back_from_its_tree_and_the_tree_follows_it(seed: u64, batch in 1usize..40, all: bool) {
        let world = History::write(seed, 80);
        let mut fold = Fold::new(world.genesis.clone());
        let mut followed = state::tree(&fold.cloud());
        for ops in world.ops.chunks(batch) {
            fold.apply(ops.to_vec());
            let cloud = fold.cloud();
            let anew = state::tree(&cloud);
            let changed = changed(&followed, &anew, all);
            state::update(&mut followed, &cloud, changed);
            prop_assert_eq!(followed.root(), anew.root());

            let mut assembly = Assembly::new(anew.root());
            for (_, bytes) in anew.chunks() {
                assembly.offer(&bytes).expect("an honest chunk");
            }
            let sent = assembly.tree().expect("all chunks were offered");
            let loaded = state::load(&sent, cloud.network).expect("a tree of this network");
            prop_assert_eq!(&loaded, &*cloud);
            prop_assert_eq!(encode(&loaded), encode(&*cloud));
        }
    }
}

/// The view of a small script, and its tree.
fn small() -> (Cloud, Tree) {
    let world = World::new();
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops.clone());
    let tree = state::tree(&fold.cloud());
    ((*fold.cloud()).clone(), tree)
}

#[track_caller]
fn check(change: impl FnOnce(&Cloud, &mut Tree), expect: LoadError) {
    let (cloud, mut tree) = small();
    change(&cloud, &mut tree);
    assert_eq!(state::load(&tree, cloud.network), Err(expect));
}

#[test]
fn what_the_fold_would_not_have_written_is_not_read() {
    let entry = |table, source| LoadError::Entry { table, source };
    let name = |name: &str| Table::AccountNames.key(&name.to_owned());
    check(
        |_, tree| tree.insert(99, b"", b""),
        LoadError::Unknown { table: 99 },
    );
    check(
        |_, tree| tree.insert(0, &[200], b""),
        LoadError::Unknown { table: 0 },
    );
    check(|_, tree| tree.remove(0, &[1]), LoadError::Missing("position"));
    check(
        |_, tree| tree.insert(2, &name("x").key, &[1; 33]),
        entry(2, DecodeError::Trailing(1)),
    );
    check(
        |_, tree| tree.insert(2, &name("x").key, &[1; 31]),
        entry(2, DecodeError::Truncated("a value")),
    );
    check(
        |_, tree| tree.insert(2, &[0x81, 0, b'x'], &[1; 32]),
        entry(2, DecodeError::NotCanonical("a key")),
    );
    check(
        |_, tree| tree.insert(2, &[1, 0xff], &[1; 32]),
        entry(2, DecodeError::Meaningless("a key")),
    );
    let (cloud, tree) = small();
    let other = NetworkId([1; 32]);
    assert_eq!(
        state::load(&tree, other),
        Err(LoadError::OtherNetwork(cloud.network))
    );
}

#[test]
fn a_changed_key_that_names_nothing_changes_nothing() {
    let (cloud, tree) = small();
    let mut same = tree.clone();
    let junk = Key {
        table: 1,
        key: vec![1, 2, 3],
    };
    let gone = Table::Accounts.key(&AccountId([1; 32]));
    state::update(&mut same, &cloud, [junk, gone]);
    assert_eq!(same.root(), tree.root());
}

#[test]
fn what_left_the_view_leaves_the_tree() {
    let (mut cloud, mut tree) = small();
    let (name, _) = cloud.account_names.iter().next().expect("there are accounts");
    let name = name.clone();
    cloud.account_names.remove(&name);
    state::update(&mut tree, &cloud, [Table::AccountNames.key(&name)]);
    assert_eq!(state::load(&tree, cloud.network), Ok(cloud));
}

/// Part of every certified root.
#[test]
fn the_numbers_of_the_tables_stay() {
    let numbers = [
        (Table::Accounts, 1),
        (Table::AccountNames, 2),
        (Table::Keys, 3),
        (Table::Nodes, 4),
        (Table::Agents, 5),
        (Table::AgentNames, 6),
        (Table::Builds, 7),
        (Table::Instances, 8),
        (Table::InstanceNames, 9),
        (Table::Domains, 10),
        (Table::Commands, 11),
        (Table::Nonces, 12),
    ];
    for (table, number) in numbers {
        assert_eq!(table as u8, number);
    }
}
