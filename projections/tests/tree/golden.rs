//! The bytes of format v1, for ever. A vector once in `fixtures/golden-v1.txt` never changes: a change means
//! that certified roots no longer mean what they meant. `FORMATION_WRITE_GOLDEN=1` writes the file, and the
//! diff must show added lines only.

use std::path::PathBuf;

use data_encoding::HEXLOWER;

use projections::tree::Tree;

use crate::{build, regular};

fn line(name: &str, bytes: &[u8]) -> String {
    format!("{name} {}\n", HEXLOWER.encode(bytes))
}

fn whole(name: &str, tree: &Tree) -> String {
    let mut text = line(&format!("{name} root"), &tree.root());
    for (n, (hash, bytes)) in tree.chunks().enumerate() {
        text += &line(&format!("{name} chunk {n} hash"), &hash);
        text += &line(&format!("{name} chunk {n}"), &bytes);
    }
    text
}

fn vectors() -> String {
    let mut few = Tree::default();
    few.insert(1, b"", b"");
    few.insert(1, b"key", b"value");
    few.insert(0, b"key", b"before table 1");
    few.insert(255, &[0, 255], &[9; 130]);
    let mut large = Tree::default();
    for n in 0..3u8 {
        large.insert(2, &[n], &[n; 4_100]);
    }
    let mut text = whole("empty", &Tree::default()) + &whole("few", &few);
    text += &line("large root", &large.root());
    text += &line("large chunk 0", &large.chunks().next().unwrap().1);
    for count in [100, 1_000, 10_000] {
        let tree = build(&regular(count, 150));
        text += &line(&format!("{count} root"), &tree.root());
        let hashes: Vec<u8> = tree.chunks().flat_map(|(hash, _)| hash).collect();
        let all = ledger::id::hash("projections test chunks", &[&hashes]);
        text += &line(&format!("{count} chunks {} all", tree.chunks().count()), &all);
    }
    let deep = build(&regular(10_000, 150));
    let (hash, bytes) = deep.chunks().nth(1).unwrap();
    text + &line("10000 chunk 1 hash", &hash) + &line("10000 chunk 1", &bytes)
}

#[test]
fn the_bytes_are_those_of_v1() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tree/fixtures/golden-v1.txt");
    let found = vectors();
    if std::env::var_os("FORMATION_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (golden, found) in golden.lines().zip(found.lines()) {
        assert_eq!(golden, found);
    }
    assert_eq!(golden.lines().count(), found.lines().count());
}
