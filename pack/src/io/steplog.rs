//! What a build prints: all of it, within a bound, in the log file; the last lines at hand for an error; each
//! line to whoever watches.
//!
//! Output is a stranger's text: control characters are dropped before anyone's terminal sees them.

use super::build::BuildEvent;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;

/// Most bytes of one build's log.
pub const LOG_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Lines that an error shows.
pub const TAIL_LINES: usize = 20;
/// Most bytes of one line.
const LINE_BYTES_MAX: usize = 2048;

pub(super) struct StepLog<'a> {
    file: File,
    watch: &'a mut (dyn FnMut(BuildEvent) + Send),
    written: usize,
    tail: VecDeque<String>,
    open: Vec<u8>,
}

impl<'a> StepLog<'a> {
    pub(super) fn new(file: File, watch: &'a mut (dyn FnMut(BuildEvent) + Send)) -> Self {
        StepLog {
            file,
            watch,
            written: 0,
            tail: VecDeque::new(),
            open: Vec::new(),
        }
    }

    /// A step begins; what an error shows begins with it.
    pub(super) fn begin(&mut self, event: BuildEvent, text: &str) {
        self.flush();
        self.tail.clear();
        self.write(&format!("==> {text}"));
        (self.watch)(event);
    }

    /// Something that is not a program's output.
    pub(super) fn note(&mut self, text: &str) {
        self.flush();
        self.line(text.to_string());
    }

    pub(super) fn event(&mut self, event: BuildEvent) {
        (self.watch)(event);
    }

    /// Bytes as a program printed them.
    pub(super) fn output(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' => self.flush(),
                // A carriage return is a progress bar: only its last state is worth a line.
                b'\r' => self.open.clear(),
                _ if self.open.len() < LINE_BYTES_MAX => self.open.push(*byte),
                _ => {}
            }
        }
    }

    fn flush(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&std::mem::take(&mut self.open)).into_owned();
        self.line(text.chars().filter(|c| !c.is_control() || *c == '\t').collect());
    }

    fn line(&mut self, text: String) {
        self.write(&text);
        (self.watch)(BuildEvent::Output(text.clone()));
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(text);
    }

    fn write(&mut self, text: &str) {
        if self.written > LOG_BYTES_MAX {
            return;
        }
        self.written += text.len() + 1;
        let cut = self.written > LOG_BYTES_MAX;
        let text = if cut {
            "(the log is full; what follows is not kept)"
        } else {
            text
        };
        // A full disk must not fail a step that succeeds; the tail still tells.
        let _ = writeln!(self.file, "{text}");
    }

    /// The last lines of the step.
    pub(super) fn tail(&mut self) -> Vec<String> {
        self.flush();
        self.tail.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_output_is_bounded_and_plain() {
        let mut lines = Vec::new();
        let mut watch = |event| {
            if let BuildEvent::Output(line) = event {
                lines.push(line);
            }
        };
        let mut log = StepLog::new(tempfile::tempfile().expect("a file"), &mut watch);
        log.output(b"10%\r20%\r100%\n\x1b[31mred\x07\n");
        log.output(&vec![b'x'; 10_000]);
        for _ in 0..50 {
            log.output(b"\nmore\xff");
        }
        assert_eq!(log.tail().len(), TAIL_LINES);
        assert_eq!(lines[..2], ["100%", "[31mred"]);
        assert_eq!(lines[2].len(), LINE_BYTES_MAX);
        assert_eq!(lines[3], "more\u{fffd}");
    }
}
