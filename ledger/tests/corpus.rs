//! What the fuzzer starts from and what it found once: every file of the committed corpus goes through the
//! function of its target (see `ledger/fuzz/src/lib.rs`), and every golden vector has a file.
//!
//! `FORMATION_WRITE_CORPUS=1 cargo test -p ledger --test corpus` writes the files that are missing.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use targets::{OTHERWISE, Script, UNTOLD};

/// Bytes of the whole corpus, at most: it is copied with every checkout.
const CORPUS_BYTES_MAX: u64 = 300 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn golden() -> Vec<(String, Vec<u8>)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/golden-v1.txt");
    let text = std::fs::read_to_string(file).unwrap();
    let line = |line: &str| {
        let (name, hex) = line.split_once(" = ").unwrap();
        (name.to_string(), HEXLOWER.decode(hex.as_bytes()).unwrap())
    };
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(line).collect()
}

/// The target of a golden vector, and the bytes that it takes. Hashes and signatures have none.
fn seed(name: &str, bytes: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    let words: Vec<&str> = name.split(' ').collect();
    let target = match words[..] {
        [.., "id" | "root" | "signature"] => return None,
        ["kind", kind, version, ..] => {
            let kind = u16::from_str_radix(kind.trim_start_matches("0x"), 16).unwrap();
            let version: u8 = version.trim_start_matches('v').parse().unwrap();
            let [low, high] = kind.to_le_bytes();
            return Some(("entry", [&[low, high, version], bytes].concat()));
        }
        ["frame", ..] => "frame",
        ["command", ..] => "command",
        ["invitation", ..] => "invitation",
        ["journal", ..] => "journal",
        ["op", "body"] => "op",
        ["checkpoint", ..] => "checkpoint",
        ["certificate", ..] => "certificate",
        ["message", ..] => "message",
        ["record", ..] => "record",
        ["recovery"] => "recovery",
        // The target makes head and end: magic and network's id, and the hash.
        ["export"] => return Some(("export", bytes[19 + 32..bytes.len() - 34].to_vec())),
        // Stands in the invitation.
        ["genesis"] => return None,
        _ => panic!("{name}: which target reads it? Say it here, or that none does"),
    };
    Some((target, bytes.to_vec()))
}

/// Talks to begin with.
fn scripts() -> Vec<(&'static str, Script)> {
    let frames = golden()
        .into_iter()
        .filter(|(name, _)| name.starts_with("frame "));
    let said = frames.fold(Script::default(), |script, (_, bytes)| {
        script.frame(1, &bytes).up(1)
    });
    let talk = Script::default()
        .deliver(0, 0, 0, 0, true)
        .write(0, 1, &[0, 1], 0x104, b"")
        .write(0, 1, &[], 0x7777, b"unknown")
        .deliver(0, 0, 1, 1, false)
        .hello(1, false, 2, 15)
        .lacks(1, &[1, 0, 2])
        .hello(1, true, 0, 0)
        .heads(1, [1, 0, 0, UNTOLD])
        .talk(1)
        .append(100)
        .pass(500)
        .pass(1000);
    // Four peers are no small network, so some links become lazy.
    let tree = Script::default()
        .write(0, 1, &[], 0x7777, b"one")
        .write(0, 1, &[], 0x7777, b"two")
        .write(1, 1, &[], 0x7777, b"three")
        .ops(0, true, &[(0, 0, 0, false), (1, 0, 0, false)])
        .ops(1, true, &[(0, 0, 0, false)])
        .ops(2, true, &[(0, 0, 1, false)])
        .prune(3)
        .append(10)
        .announce(3, [3, 2, UNTOLD, 4])
        .pass(300)
        .graft(3, [1, 0, OTHERWISE + 1, UNTOLD])
        .ops(0, true, &[(0, 2, 0, true), (1, 1, 0, true)])
        .ops(2, true, &[(2, 0, 0, true)])
        .unplaced(1, 1)
        .unplaced(1, 99)
        .pass(300);
    let compare = Script::default()
        .write(0, 1, &[], 0x7777, b"one")
        .deliver(0, 0, 0, 9, false)
        .pass(1000)
        .list(0, 1, &[], [1, UNTOLD, 1, 0])
        .list(1, 1, &[], [2, 1, OTHERWISE + 2, 0])
        .list(2, 3, &[], [0, 0, UNTOLD, UNTOLD])
        .ops(0, false, &[(2, 0, 0, false)])
        .append(10)
        .pass(1000)
        .list(0, 4, &[0, 1, 1], [2, 2, 2, 2])
        .list(1, 0, &[1], [2, UNTOLD, UNTOLD, UNTOLD])
        .hello_since(0, [2, 1, 0, UNTOLD])
        .hello_since(1, [UNTOLD; 4])
        .lacks(1, &[1, 1, 1, 1])
        .hello(3, false, 3, 0xff)
        .lacks(3, &[1, 2, 0, 200])
        .talk(3)
        .pass(5000);
    let gap = Script::default()
        .write(0, 1, &[], 0x7777, b"one")
        .write(0, 1, &[], 0x7777, b"two")
        .deliver(2, 0, 2, 0, true)
        .deliver(2, 0, 1, 0, true)
        .deliver(2, 0, 0, 1, false)
        .down(2)
        .up(2)
        .deliver(2, 0, 0, 9, false);
    let fork = Script::default()
        .write(0, 1, &[], 0x7777, b"one")
        .deliver(0, 0, 0, 9, false)
        .fork(0, 0)
        .write(0, 1, &[], 0x7777, b"other")
        .write(0, 1, &[], 0x7777, b"and on")
        .deliver(0, 0, 0, 9, false)
        .deliver(1, 0, 2, 0, true)
        .branch(2, 0, 1, 1)
        .forks(3, 0, [0; 4])
        .forks(3, 7, [0, UNTOLD, 4, UNTOLD])
        .forks(2, 5, [UNTOLD; 4]);
    let backwards = Script::default()
        .write(0, 200, &[], 0x7777, b"far ahead")
        .deliver(0, 0, 0, 9, true)
        .write(1, 0, &[0], 0x7777, b"not later")
        .deliver(1, 1, 0, 9, true)
        .write(2, 1, &[200], 0x7777, b"names what is not there")
        .write(2, 1, &[], 0x100, b"\x03abc")
        .deliver(2, 2, 0, 9, true)
        .pass(60_000);
    let proof = Script::default()
        .write(0, 1, &[], 0x7777, b"one")
        .write(0, 1, &[], 0x7777, b"two")
        .deliver(0, 0, 0, 2, false)
        .write(1, 1, &[3, 4], 0x7777, b"names them")
        .prove(1, 0, 0)
        .deliver(1, 1, 0, 9, true)
        .want(2, &[0, 1, 2, 3, 4])
        .certify(0)
        .pass(2000)
        .certify(1);
    vec![
        ("proof", proof),
        ("tree", tree),
        ("compare", compare),
        ("said", said),
        ("talk", talk),
        ("gap", gap),
        ("fork", fork),
        ("backwards", backwards),
    ]
}

/// Files that have to be there: target and name, and what is in them.
fn seeds() -> BTreeMap<(String, String), Vec<u8>> {
    let golden = golden();
    let vectors = golden.iter().filter_map(|(name, bytes)| {
        let (target, bytes) = seed(name, bytes)?;
        Some(((target.to_string(), name.replace(' ', "-")), bytes))
    });
    let scripts = scripts()
        .into_iter()
        .map(|(name, script)| (("receive".to_string(), name.to_string()), script.into_bytes()));
    vectors.chain(scripts).collect()
}

fn files() -> Vec<(String, PathBuf)> {
    let mut files = Vec::new();
    for target in std::fs::read_dir(folder()).unwrap() {
        let target = target.unwrap();
        let name = target.file_name().into_string().unwrap();
        for file in std::fs::read_dir(target.path()).unwrap() {
            files.push((name.clone(), file.unwrap().path()));
        }
    }
    files.sort();
    files
}

#[test]
fn every_golden_vector_has_a_file() {
    for ((target, name), bytes) in seeds() {
        let path = folder().join(&target).join(&name);
        if std::env::var_os("FORMATION_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let held = std::fs::read(&path).unwrap_or_default();
        assert!(held == bytes, "{}: write the corpus anew", path.display());
    }
}

#[test]
fn every_file_of_the_corpus_passes_its_target() {
    let files = files();
    let mut size = 0;
    for (name, path) in &files {
        let target = targets::TARGETS.iter().find(|(target, _)| target == name);
        let (_, run) = target.unwrap_or_else(|| panic!("{name} is no target"));
        let bytes = std::fs::read(path).unwrap();
        size += bytes.len() as u64;
        println!("{}", path.display());
        run(&bytes);
    }
    assert!(size <= CORPUS_BYTES_MAX, "the corpus has {size} bytes");
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let held: BTreeSet<String> = files().into_iter().map(|(target, _)| target).collect();
    let manifest = std::fs::read_to_string(folder().with_file_name("Cargo.toml")).unwrap();
    for (target, _) in targets::TARGETS {
        assert!(held.contains(*target), "{target} has no corpus");
        let program = format!("fuzz_targets/{target}.rs");
        assert!(manifest.contains(&program), "{target} has no program");
        let text = std::fs::read_to_string(folder().with_file_name(&program)).unwrap();
        assert!(
            text.contains(&format!("ledger_fuzz::{target}(bytes)")),
            "{program}"
        );
    }
}
