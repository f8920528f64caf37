//! What the state tree costs: `cargo run --release -p projections --example state_tree [ENTRIES]`.
//!
//! Entries have keys of 32 bytes and 150 bytes in all. Each figure is the median of seven turns of
//! one thread, with the least and the most.

use std::hint::black_box;
use std::time::{Duration, Instant};

use projections::tree::assembly::Assembly;
use projections::tree::{Key, Tree};

const TURNS: usize = 7;
const ENTRY_BYTES: usize = 150;

fn key(n: u32) -> Key {
    let key = ledger::id::hash("state tree example", &[&n.to_le_bytes()]).to_vec();
    Key { table: 11, key }
}

fn value(n: u32) -> Vec<u8> {
    // An entry is table, two lengths, key, value.
    let bytes = ENTRY_BYTES - 32 - 3;
    n.to_le_bytes().into_iter().cycle().take(bytes).collect()
}

fn say(what: &str, mut turn: impl FnMut() -> Duration) {
    let mut turns: Vec<Duration> = (0..TURNS).map(|_| turn()).collect();
    turns.sort();
    let [least, median, most] = [0, TURNS / 2, TURNS - 1].map(|at| turns[at].as_secs_f64() * 1e3);
    println!("{what:<44} {median:>9.3} ms   ({least:.3} to {most:.3})");
}

/// Bytes that this process holds in memory; none where nobody tells.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096)
}

fn main() {
    let count: u32 = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(100_000);
    let before = resident_bytes();
    let mut grown = Tree::default();
    for n in 0..count {
        let Key { table, key } = key(n);
        grown.insert(table, &key, &value(n));
    }
    grown.root();
    if let (Some(before), Some(after)) = (before, resident_bytes()) {
        let per_entry = after.saturating_sub(before) as f64 / f64::from(count);
        println!(
            "{:<44} {per_entry:>9.1} bytes an entry, resident",
            "memory of one that grew"
        );
    }
    let entries: Vec<(Key, Option<Vec<u8>>)> = (0..count).map(|n| (key(n), Some(value(n)))).collect();
    let mut tree = Tree::default();
    println!("{count} entries of {ENTRY_BYTES} bytes");

    say("build in one call, with root", || {
        let entries = entries.clone();
        let begin = Instant::now();
        tree = Tree::default();
        tree.apply(entries);
        black_box(tree.root());
        begin.elapsed()
    });
    say("build one by one, with root", || {
        let begin = Instant::now();
        let mut tree = Tree::default();
        for (key, value) in &entries {
            tree.insert(key.table, &key.key, value.as_deref().unwrap_or_default());
        }
        black_box(tree.root());
        begin.elapsed()
    });
    drop(entries);

    let mut sizes: Vec<usize> = tree.chunks().map(|(_, bytes)| bytes.len()).collect();
    sizes.sort_unstable();
    let total: usize = sizes.iter().sum();
    println!(
        "{:<44} {:>9}      mean {}, least {}, most {} bytes",
        "chunks",
        sizes.len(),
        total / sizes.len(),
        sizes[0],
        sizes[sizes.len() - 1]
    );

    for changed in [1, 100, 1_000] {
        let mut round = 0;
        say(&format!("change {changed} and root"), || {
            round += 1;
            let changes: Vec<_> = (0..changed)
                .map(|n| (key(n * 7_919 % count), Some(value(round * count + n))))
                .collect();
            let mut next = tree.clone();
            let begin = Instant::now();
            next.apply(changes);
            black_box(next.root());
            begin.elapsed()
        });
    }
    let mut newer = tree.clone();
    newer.apply((0..100).map(|n| (key(n * 7_919 % count), Some(value(count + n)))));
    newer.root();
    println!(
        "{:<44} {:>9}",
        "chunks that 100 changes make new",
        newer.chunks_beyond(&tree).count()
    );
    say("difference of these two, in entries", || {
        let begin = Instant::now();
        assert_eq!(black_box(tree.diff(&newer)).len() as u32, 100.min(count));
        begin.elapsed()
    });
    say("get 1000", || {
        let keys: Vec<Key> = (0..1_000).map(|n| key(n % count)).collect();
        let begin = Instant::now();
        for key in &keys {
            black_box(tree.get(key.table, &key.key));
        }
        begin.elapsed()
    });

    let chunks: Vec<Vec<u8>> = tree.chunks().map(|(_, bytes)| bytes.into_owned()).collect();
    say("assemble and verify from chunks", || {
        let begin = Instant::now();
        let mut assembly = Assembly::new(tree.root());
        for bytes in &chunks {
            assembly.offer(bytes).expect("an honest chunk");
        }
        let made = assembly.tree().expect("all chunks are there");
        assert_eq!(made.root(), tree.root());
        begin.elapsed()
    });

    let Key { table, key } = key(5);
    let proof = tree.prove(table, &key);
    let bytes: usize = proof.chunks.iter().map(Vec::len).sum();
    println!(
        "{:<44} {bytes:>9} bytes in {} chunks",
        "proof of one entry",
        proof.chunks.len()
    );
    say("verify it", || {
        let begin = Instant::now();
        black_box(proof.verify(&tree.root(), table, &key)).expect("an honest proof");
        begin.elapsed()
    });
}
