//! What a command says. Results go to standard output: a table for people or JSON for programs, nothing
//! else. Remarks go to standard error. What came from the network is shown without its control characters,
//! so that nobody's name or log can drive a person's terminal.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::{Exit, Failure};

const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// How results are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables and sentences, for people.
    Table,
    /// JSON, for programs.
    Json,
}

/// Where a command's words go, and how they look.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    quiet: bool,
    colour: bool,
}

impl Output {
    /// Colour only where a person can see it and has not refused it (<https://no-color.org>).
    pub fn new(format: Format, quiet: bool, no_colour: bool) -> Self {
        let refused = no_colour || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            format,
            quiet,
            colour: !refused && io::stdout().is_terminal(),
        }
    }

    /// Whether results are JSON.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether remarks are unwanted.
    pub fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Whether colours are wanted.
    pub fn is_coloured(self) -> bool {
        self.colour
    }

    /// A list: one row for each item; with `--quiet` only what names it.
    pub fn list<T: Serialize>(
        self,
        items: &[T],
        header: &[&str],
        row: impl Fn(&T) -> Vec<String>,
        name: impl Fn(&T) -> String,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(items);
        }
        if self.quiet {
            return items.iter().try_for_each(|item| self.line(&clean(&name(item))));
        }
        let mut table = self.table();
        table.set_header(header.to_vec());
        for item in items {
            table.add_row(row(item).iter().map(|text| clean(text)));
        }
        let text = trimmed(&table);
        // Not the table's own bold: its blanks would count as letters.
        match text.split_once('\n').unwrap_or((&text, "")) {
            (header, rows) if self.colour && rows.is_empty() => self.line(&format!("{BOLD}{header}{PLAIN}")),
            (header, rows) if self.colour => self.line(&format!("{BOLD}{header}{PLAIN}\n{rows}")),
            _ => self.line(&text),
        }
    }

    /// One thing: a field a line; with `--quiet` only what names it.
    pub fn one<T: Serialize>(
        self,
        item: &T,
        fields: impl FnOnce(&T) -> Vec<(&'static str, String)>,
        name: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        if self.is_json() {
            return self.json(item);
        }
        if self.quiet {
            return self.line(&clean(&name(item)));
        }
        let mut table = self.table();
        for (field, value) in fields(item) {
            table.add_row([field.to_string(), clean(&value)]);
        }
        self.line(&trimmed(&table))
    }

    /// A value for programs, and the same in words for people.
    pub fn value<T: Serialize>(self, item: &T, words: impl FnOnce(&T) -> String) -> Result<(), Failure> {
        if self.is_json() {
            self.json(item)
        } else {
            self.line(&words(item))
        }
    }

    /// One JSON value in one line: for streams.
    pub fn json_line<T: Serialize + ?Sized>(self, item: &T) -> Result<(), Failure> {
        let text = serde_json::to_string(item).map_err(|error| unwritable(&error))?;
        self.line(&text)
    }

    fn json<T: Serialize + ?Sized>(self, item: &T) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(item).map_err(|error| unwritable(&error))?;
        self.line(&text)
    }

    /// One line of the result.
    pub fn line(self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// Bytes of the result as they are.
    pub fn bytes(self, bytes: &[u8]) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => Ok(()),
            // Whoever read has seen enough, as `head` does: that is no failure.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
            Err(error) => Err(Failure::io("writing to standard output", &error)),
        }
    }

    /// What a person must see even with `--quiet`, such as mistakes in their file.
    pub fn tell(self, text: &str) {
        say(text);
    }

    /// A remark for the person at the terminal.
    pub fn note(self, text: &str) {
        if !self.quiet {
            say(text);
        }
    }

    /// Why it ends.
    pub fn failure(self, failure: &Failure) {
        if self.is_json() {
            say(&failure.to_json());
            return;
        }
        let mark = |word: &str| match self.colour && io::stderr().is_terminal() {
            true => format!("\x1b[1;31m{word}\x1b[0m"),
            false => word.to_string(),
        };
        say(&format!("{} {}", mark("error:"), clean_text(&failure.message)));
        if let Some(hint) = &failure.hint {
            say(&format!("hint: {}", clean_text(hint)));
        }
        if let Some(request) = &failure.request_id {
            say(&format!("request: {}", clean(request)));
        }
    }

    fn table(self) -> Table {
        let mut table = Table::new();
        // Rows are never broken to fit: an id that is broken cannot be copied.
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        table
    }
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::new(Exit::Failed, format!("writing the result as JSON: {error}"))
}

/// A table without the blanks that its cells end in.
fn trimmed(table: &Table) -> String {
    let text = table.to_string();
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    lines.join("\n")
}

/// One line to standard error. Nothing is left to tell of its failure.
fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// `text` in one line, without control characters.
pub fn clean(text: &str) -> String {
    text.chars()
        .map(|character| if is_unsafe(character) { ' ' } else { character })
        .collect()
}

/// `text` with its lines and tabs, without other control characters.
pub fn clean_text(text: &str) -> String {
    let keep = |character: char| matches!(character, '\n' | '\t') || !is_unsafe(character);
    text.chars()
        .map(|character| if keep(character) { character } else { ' ' })
        .collect()
}

/// Control characters, and those that turn the direction of writing.
fn is_unsafe(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `2 GiB`, `1.5 MiB`, `17 B`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// `850 ms`, `3.2 s`, `4 min 10 s`, `5 h 2 min`, `3 d 4 h`.
pub fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 => format!("{ms} ms"),
        1..60 => format!("{}.{} s", seconds, ms % 1000 / 100),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// How long ago `at_ms` was, both in milliseconds since 1970.
pub fn ago(at_ms: u64, now_ms: u64) -> String {
    match now_ms.saturating_sub(at_ms) {
        0..1000 => "now".into(),
        past => format!("{} ago", span(past / 1000 * 1000).replace(".0 s", " s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_drive_a_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d"), "a [2Jb c d");
        assert_eq!(clean_text("a\n\tb\x1b]0;x\x07"), "a\n\tb ]0;x ");
    }

    #[test]
    fn sizes_and_spans_read_as_people_say_them() {
        assert_eq!(size(17), "17 B");
        assert_eq!(size(1536), "1.5 KiB");
        assert_eq!(size(1 << 20), "1.0 MiB");
        assert_eq!(size(3 << 30), "3.0 GiB");
        assert_eq!(span(850), "850 ms");
        assert_eq!(span(3_250), "3.2 s");
        assert_eq!(span(250_000), "4 min 10 s");
        assert_eq!(ago(1_000, 61_500), "1 min 0 s ago");
        assert_eq!(ago(5_000, 1_000), "now");
    }
}
