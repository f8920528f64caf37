//! What a reviewer would otherwise have to look for: who imports whom, effects outside `io/`, rooms that
//! grew too large, words that do not belong here.

use std::fs;
use std::path::{Path, PathBuf};

use tests::shell::project;

/// Lines that a source file has at most.
const LINES_MAX: usize = 800;

/// Each crate and those of ours that it may import, in data-flow order; see ARCHITECTURE.md.
const MAY_IMPORT: [(&str, &[&str]); 16] = [
    ("ledger", &[]),
    ("projections", &["ledger"]),
    ("reactors", &["ledger", "projections", "vmm", "net", "pack"]),
    ("vmm", &[]),
    ("vmm/machine", &["vmm"]),
    ("vmm/init", &["vmm"]),
    ("net", &[]),
    ("net/gossip", &["net"]),
    ("net/mesh", &["net"]),
    ("net/dns", &["net"]),
    ("net/proxy", &["net"]),
    ("pack", &[]),
    ("api", &["ledger", "projections"]),
    (
        "cli",
        &[
            "ledger",
            "projections",
            "reactors",
            "vmm",
            "net",
            "net-gossip",
            "net-mesh",
            "net-dns",
            "net-proxy",
            "pack",
            "api",
        ],
    ),
    (
        "sim",
        &["ledger", "projections", "reactors", "vmm", "net", "pack"],
    ),
    ("tests", &[]),
];

const OURS: [&str; 16] = [
    "ledger",
    "projections",
    "reactors",
    "vmm",
    "form-machine",
    "form-init",
    "net",
    "net-gossip",
    "net-mesh",
    "net-dns",
    "net-proxy",
    "pack",
    "api",
    "cli",
    "sim",
    "tests",
];

/// Crates in which effects live only in a folder named `io/`.
const PURE_OUTSIDE_IO: [&str; 5] = [
    "ledger/src",
    "projections/src",
    "reactors/src",
    "net/src",
    "pack/src",
];

/// What an effect looks like.
const EFFECTS: [&str; 12] = [
    "tokio::",
    "std::fs",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::process::Command",
    "std::thread::spawn",
    "SystemTime::now",
    "Instant::now",
    "getrandom::",
    "rand::rng()",
    "std::env::var",
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()))
}

#[test]
fn no_import_runs_back_up_the_order_of_crates() {
    let mut faults = Vec::new();
    for (member, allowed) in MAY_IMPORT {
        let manifest = read(&project().join(member).join("Cargo.toml"));
        let mut section = "";
        for line in manifest.lines() {
            if line.starts_with('[') {
                section = line;
                continue;
            }
            if section != "[dependencies]" {
                continue;
            }
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            if OURS.contains(&name) && !allowed.contains(&name) {
                faults.push(format!("{member} may not import {name}"));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_member_of_the_workspace_stands_in_the_order() {
    let manifest = read(&project().join("Cargo.toml"));
    let members = manifest
        .split_once("members = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(list, _)| list);
    for member in members
        .expect("a list of members")
        .split(',')
        .map(|member| member.trim().trim_matches('"'))
    {
        let known = member.is_empty() || MAY_IMPORT.iter().any(|(name, _)| *name == member);
        assert!(
            known,
            "{member} is new: give it a place in the order of crates here and in ARCHITECTURE.md"
        );
    }
}

/// Tests may do what they like; they stand at the end of a file, or are the whole of it.
fn without_tests(text: &str) -> &str {
    let code = text.split("#![cfg(test)]").next().unwrap_or_default();
    code.split("#[cfg(test)]").next().unwrap_or_default()
}

#[test]
fn effects_live_in_io() {
    let mut faults = Vec::new();
    for folder in PURE_OUTSIDE_IO {
        for path in sources(&project().join(folder)) {
            if path.components().any(|part| part.as_os_str() == "io") || path.ends_with("io.rs") {
                continue;
            }
            let text = read(&path);
            let code = without_tests(&text);
            for (number, line) in code.lines().enumerate() {
                let line = line.split("//").next().unwrap_or_default();
                if let Some(effect) = EFFECTS.iter().find(|effect| line.contains(**effect)) {
                    faults.push(format!(
                        "{}:{}: `{effect}` outside `io/`",
                        path.display(),
                        number + 1
                    ));
                }
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn no_room_is_too_large() {
    let large: Vec<String> = sources(project())
        .into_iter()
        .filter_map(|path| {
            let lines = read(&path).lines().count();
            (lines > LINES_MAX).then(|| {
                format!(
                    "{} has {lines} lines: which second subject is in it?",
                    path.display()
                )
            })
        })
        .collect();
    assert!(large.is_empty(), "{}", large.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    let silent: Vec<String> = sources(project())
        .into_iter()
        .filter(|path| {
            !read(path).trim_start().starts_with("//!")
                && !path.components().any(|part| part.as_os_str() == "fuzz_targets")
        })
        .map(|path| format!("{} does not begin with what it is (`//!`)", path.display()))
        .collect();
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

#[test]
fn names_tell_what_is_in_it() {
    let vague: Vec<String> = sources(project())
        .into_iter()
        .filter(|path| {
            ["utils", "util", "common", "helpers", "helper", "types", "misc"]
                .iter()
                .any(|word| {
                    path.components().any(|part| {
                        Path::new(part.as_os_str())
                            .file_stem()
                            .is_some_and(|stem| stem == *word)
                    })
                })
        })
        .map(|path| path.display().to_string())
        .collect();
    assert!(vague.is_empty(), "what do these do? {}", vague.join(", "));
}

#[test]
fn secrets_are_read_in_two_places() {
    let readers: Vec<String> = sources(project())
        .into_iter()
        .filter(|path| !path.starts_with(project().join("tests")) && !path.starts_with(project().join("sim")))
        .filter(|path| {
            let text = read(path);
            let mut lines = without_tests(&text)
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            lines.any(|line| line.contains("SecretKey::from_seed("))
        })
        .filter(|path| {
            let proof = ["tests", "tests.rs", "examples", "benches", "fuzz"];
            !path
                .components()
                .any(|part| proof.iter().any(|name| part.as_os_str() == *name))
        })
        .map(|path| {
            path.strip_prefix(project())
                .unwrap_or(&path)
                .display()
                .to_string()
        })
        .collect();
    assert_eq!(
        readers,
        ["cli/src/keys.rs", "cli/src/node/folder.rs"],
        "a private key is made from its bytes elsewhere"
    );
}
