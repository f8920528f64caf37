//! docs/ledger.md and docs/gossip.md are true of the code: their tables of kinds, layouts and bounds are made
//! from the source, and every hash context and frame has its row.
//!
//! `FORMATION_WRITE_DOCS=1 cargo test -p ledger --test docs` writes the tables that are made.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use ledger::command;
use ledger::report::Report;

/// Modules whose bounds concern the talk between replicas.
const GOSSIP: [&str; 9] = [
    "compare", "limbo", "peers", "plumtree", "push", "receive", "spread", "sync", "want",
];

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The sources in a fixed order, each by its module's name.
fn sources() -> Vec<(String, String)> {
    let root = project().join("ledger/src");
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            let name = name.to_str().unwrap().replace('/', "::");
            let name = name.trim_end_matches("::mod").to_string();
            found.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
    found.sort();
    found
}

/// The first sentence of the doc comment that ends before a line.
fn sentence(lines: &[&str], at: usize) -> String {
    let is_doc = |line: &str| line.trim_start().starts_with("///");
    let is_above = |line: &str| is_doc(line) || line.trim_start().starts_with("#[");
    let begin = (0..at)
        .rev()
        .take_while(|index| is_above(lines[*index]))
        .last()
        .unwrap_or(at);
    let doc: Vec<&str> = lines[begin..at]
        .iter()
        .filter(|line| is_doc(line))
        .map(|line| line.trim_start().trim_start_matches("///").trim())
        .collect();
    let doc = doc.join(" ");
    let end = doc.find(". ").map_or(doc.len(), |at| at + 1);
    let plain = doc[..end].replace("[`", "`").replace("`]", "`");
    plain.trim_end_matches('.').replace("crate::", "")
}

/// Reads an expression of whole numbers: `(a + b) * 2 << 10`, in which names stand for what is known.
struct Sum<'a> {
    words: Vec<&'a str>,
    at: usize,
    known: &'a BTreeMap<String, u64>,
}

impl Sum<'_> {
    fn of(text: &str, known: &BTreeMap<String, u64>) -> Option<u64> {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let words = spaced.split_whitespace().collect();
        Sum { words, at: 0, known }.shifted()
    }

    fn is(&mut self, word: &str) -> bool {
        let is = self.words.get(self.at) == Some(&word);
        self.at += usize::from(is);
        is
    }

    fn shifted(&mut self) -> Option<u64> {
        let mut value = self.sum()?;
        while self.is("<<") {
            value <<= self.sum()?;
        }
        Some(value)
    }

    fn sum(&mut self) -> Option<u64> {
        let mut value = self.product()?;
        loop {
            if self.is("+") {
                value += self.product()?;
            } else if self.is("-") {
                value -= self.product()?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<u64> {
        let mut value = self.atom()?;
        while self.is("*") {
            value *= self.atom()?;
        }
        Some(value)
    }

    fn atom(&mut self) -> Option<u64> {
        if self.is("(") {
            let value = self.shifted()?;
            return self.is(")").then_some(value);
        }
        let word = *self.words.get(self.at)?;
        self.at += 1;
        let name = word.rsplit("::").next()?;
        if word == "u32::MAX" {
            return Some(u64::from(u32::MAX));
        }
        word.replace('_', "")
            .parse()
            .ok()
            .or_else(|| self.known.get(name).copied())
    }
}

/// Named numbers: module, name, what it is bounded to, and its meaning.
fn bounds() -> Vec<(String, String, u64, String)> {
    let mut open = Vec::new();
    for (module, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some((name, rest)) = line.strip_prefix("pub const ").and_then(|it| it.split_once(": "))
            else {
                continue;
            };
            let Some((kind, value)) = rest.split_once(" = ") else {
                continue;
            };
            if ["u8", "u16", "u32", "u64", "usize"].contains(&kind) {
                let value = value.trim_end_matches(';').to_string();
                open.push((module.clone(), name.to_string(), value, sentence(&lines, at)));
            }
        }
    }
    let mut known = BTreeMap::new();
    let mut bounds = Vec::new();
    // Some are made of others.
    for _ in 0..open.len() {
        let (done, rest): (Vec<_>, Vec<_>) = open
            .into_iter()
            .partition(|(_, _, value, _)| Sum::of(value, &known).is_some());
        for (module, name, value, meaning) in done {
            let value = Sum::of(&value, &known).unwrap();
            known.insert(name.clone(), value);
            bounds.push((module, name, value, meaning));
        }
        open = rest;
    }
    assert!(open.is_empty(), "these are no sums of numbers: {open:?}");
    bounds.sort();
    bounds
}

fn bounds_table(gossip: bool) -> String {
    let mut table = String::from("| name | value | meaning |\n|---|---|---|\n");
    for (module, name, value, meaning) in bounds() {
        if GOSSIP.contains(&&module[..]) == gossip {
            writeln!(table, "| `{module}::{name}` | {value} | {meaning} |").unwrap();
        }
    }
    table
}

/// The kinds of an area: number, version, name and meaning.
fn kinds(module: &str) -> Vec<(u16, u8, String, String)> {
    let (_, text) = sources().into_iter().find(|(name, _)| name == module).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut kinds = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, rest)) = line.trim().split_once('(') else {
            continue;
        };
        let Some((_, rest)) = rest.split_once(") = ") else {
            continue;
        };
        let Some((kind, version)) = rest.trim_end_matches(',').split_once(" v ") else {
            continue;
        };
        let number = match kind.strip_prefix("0x") {
            Some(digits) => u16::from_str_radix(digits, 16),
            None => kind.parse(),
        };
        let (number, meaning) = (number.unwrap(), sentence(&lines, at));
        let newest = version.trim_end_matches(" after {");
        if newest != version {
            let former = lines[at + 1..].iter().take_while(|line| line.trim() != "},");
            for (old, content) in former.filter_map(|line| line.trim().split_once(": ")) {
                let content = content.split([' ', ',']).next().unwrap();
                let content = content.rsplit("::").next().unwrap();
                kinds.push((number, old.parse().unwrap(), content.to_string(), meaning.clone()));
            }
        }
        kinds.push((number, newest.parse().unwrap(), name.to_string(), meaning));
    }
    kinds
}

fn kinds_table() -> String {
    let (commands, reports) = (kinds("command"), kinds("report"));
    let numbers = |kinds: &[(u16, u8, String, String)]| -> Vec<(u16, u8)> {
        kinds
            .iter()
            .map(|(kind, version, ..)| (*kind, *version))
            .collect()
    };
    assert_eq!(numbers(&commands), command::Body::KINDS);
    assert_eq!(numbers(&reports), Report::KINDS);
    let mut all = [commands, reports].concat();
    all.sort();
    let mut table = String::from("| kind | version | name | meaning |\n|---|---|---|---|\n");
    for (kind, version, name, meaning) in all {
        writeln!(table, "| {kind:#05x} | {version} | {name} | {meaning} |").unwrap();
    }
    table
}

/// Whether what is declared at a line is encoded.
fn is_encoded(lines: &[&str], at: usize) -> bool {
    let above = (0..at)
        .rev()
        .take_while(|index| lines[*index].starts_with("#[") || lines[*index].starts_with("///"));
    above
        .into_iter()
        .any(|index| lines[index].starts_with("#[derive(") && lines[index].contains("Serialize"))
}

/// The fields or variants of what is encoded by postcard, in their order.
fn layouts() -> Vec<(String, String)> {
    let in_entries = |module: &str| {
        let area = module.split("::").next().unwrap();
        ["command", "report", "genesis", "journal"].contains(&area)
            || ["key", "finality::witness"].contains(&module)
    };
    let mut layouts = Vec::new();
    for (_, text) in sources().into_iter().filter(|(module, _)| in_entries(module)) {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let declared = line
                .strip_prefix("pub struct ")
                .or(line.strip_prefix("pub enum "));
            let Some(declared) = declared.filter(|_| is_encoded(&lines, at)) else {
                continue;
            };
            let name = declared.split([' ', '(', ';']).next().unwrap();
            let fields = match declared.split_once('(') {
                _ if declared.ends_with("{}") => String::new(),
                Some((_, inner)) => inner
                    .trim_end_matches(");")
                    .trim_start_matches("pub ")
                    .to_string(),
                None => {
                    let body = lines[at + 1..].iter().take_while(|line| **line != "}");
                    let code = body
                        .map(|line| line.trim())
                        .filter(|line| !line.starts_with("//"));
                    fields(&code.collect::<Vec<_>>().join(" "), line.starts_with("pub enum"))
                }
            };
            layouts.push((name.to_string(), fields));
        }
    }
    layouts.sort();
    layouts
}

fn fields(code: &str, numbered: bool) -> String {
    // A comma within braces or brackets does not end a field.
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for letter in code.chars() {
        match letter {
            '{' | '(' | '<' | '[' => depth += 1,
            '}' | ')' | '>' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().unwrap().push(letter);
    }
    let parts = parts
        .iter()
        .map(|part| part.trim().trim_start_matches("pub "))
        .filter(|part| !part.is_empty());
    let shown: Vec<String> = parts
        .enumerate()
        .map(|(index, part)| {
            let part = part.replace(", }", " }");
            if numbered { format!("{index} {part}") } else { part }
        })
        .collect();
    shown.join(if numbered { " · " } else { " ‖ " })
}

fn layouts_table() -> String {
    let mut table =
        String::from("| content | fields in order, or variants with their numbers |\n|---|---|\n");
    for (name, fields) in layouts() {
        let fields = if fields.is_empty() {
            "nothing".into()
        } else {
            format!("`{fields}`")
        };
        writeln!(table, "| {name} | {fields} |").unwrap();
    }
    table
}

/// Compares a table in a page with what it should be, or writes it.
fn made(page: &str, table: &str, expected: &str) {
    let path = project().join("docs").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let (begin, end) = (
        format!("<!-- made: {table} -->\n"),
        format!("<!-- end: {table} -->\n"),
    );
    let (head, rest) = text
        .split_once(&begin)
        .unwrap_or_else(|| panic!("{page} has no {begin}"));
    let (held, tail) = rest
        .split_once(&end)
        .unwrap_or_else(|| panic!("{page} has no {end}"));
    if std::env::var_os("FORMATION_WRITE_DOCS").is_some() {
        // Renamed into place, since the other tests read the page meanwhile.
        let draft = path.with_extension("draft");
        std::fs::write(&draft, format!("{head}{begin}{expected}{end}{tail}")).unwrap();
        std::fs::rename(draft, path).unwrap();
        return;
    }
    assert!(
        held == expected,
        "the table `{table}` in docs/{page} is not that of the code: write it anew with FORMATION_WRITE_DOCS=1.\nexpected:\n{expected}"
    );
}

/// One test for all, since each may write the page.
#[test]
fn the_tables_are_those_of_the_code() {
    made("ledger.md", "kinds", &kinds_table());
    made("ledger.md", "layouts", &layouts_table());
    made("ledger.md", "bounds", &bounds_table(false));
    made("gossip.md", "bounds", &bounds_table(true));
}

fn page(name: &str) -> String {
    std::fs::read_to_string(project().join("docs").join(name)).unwrap()
}

#[test]
fn every_hash_context_has_its_row() {
    let mut used = BTreeSet::new();
    for (_, text) in sources() {
        for line in text.lines().filter(|line| !line.trim_start().starts_with("//")) {
            let after = line.split("\"formation 2026 ").skip(1);
            used.extend(
                after
                    .filter_map(|rest| rest.split('"').next())
                    .map(str::to_string),
            );
        }
    }
    let page = page("ledger.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `formation 2026 "));
    let told: BTreeSet<String> = rows
        .filter_map(|rest| rest.split('`').next())
        .map(str::to_string)
        .collect();
    assert_eq!(told, used);
}

#[test]
fn every_frame_has_its_row() {
    let page = page("gossip.md");
    let golden = std::fs::read_to_string(project().join("ledger/fixtures/golden-v1.txt")).unwrap();
    let frames = golden
        .lines()
        .filter_map(|line| line.strip_prefix("frame ")?.split_once(" = "));
    for (name, bytes) in frames {
        let kind = u8::from_str_radix(&bytes[..2], 16).unwrap();
        let name = name.split(' ').next().unwrap();
        let row = format!("| {kind} | {name} |");
        assert!(
            page.to_lowercase().contains(&row),
            "docs/gossip.md has no row `{row}`"
        );
    }
}

#[test]
fn every_refusal_and_counter_is_named() {
    let page = page("ledger.md") + &page("gossip.md");
    for (module, name) in [
        ("admit", "Refusal"),
        ("replica", "Misconduct"),
        ("genesis", "InvitationError"),
    ] {
        let (_, text) = sources().into_iter().find(|(found, _)| found == module).unwrap();
        let (_, body) = text.split_once(&format!("pub enum {name} {{\n")).unwrap();
        let lines = body.lines().take_while(|line| *line != "}");
        let variants =
            lines.filter(|line| line.starts_with("    ") && line.as_bytes()[4].is_ascii_uppercase());
        for variant in variants {
            let variant = variant.trim().split(['(', ',', ' ']).next().unwrap();
            assert!(
                page.contains(&format!("`{variant}`")),
                "no page names {name}::{variant}"
            );
        }
    }
}
