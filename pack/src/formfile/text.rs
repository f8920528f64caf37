//! From text to directives: physical lines joined by `\`, comments dropped, words split, places kept.
//!
//! Not here: what a directive means. Rules of words: blanks and tabs separate, single and double quotes
//! protect them, quotes may open inside a word, a backslash means itself. What needs more than that is written
//! as a JSON array.

use super::complaint::{Complaint, Span, Warning};
use super::{COMPLAINTS_MAX, LINE_BYTES_MAX};
use std::ops::Range;

/// What a parse has found so far.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) complaints: Vec<Complaint>,
    pub(super) warnings: Vec<Warning>,
}

impl Findings {
    pub(super) fn complain(&mut self, span: Span, message: impl Into<String>) -> &mut Complaint {
        // The bound is applied at the end, so that the caller may still add its hint.
        self.complaints.push(Complaint {
            span,
            message: message.into(),
            expected: None,
            hint: None,
        });
        self.complaints
            .last_mut()
            .expect("one was pushed on the line above")
    }

    pub(super) fn warn(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) {
        if self.warnings.len() < COMPLAINTS_MAX {
            self.warnings.push(Warning {
                span,
                message: message.into(),
                hint: Some(hint.into()),
            });
        }
    }
}

impl Complaint {
    pub(super) fn expected(&mut self, expected: impl Into<String>) -> &mut Self {
        self.expected = Some(expected.into());
        self
    }

    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}

/// One directive with its continuation lines joined.
pub(super) struct Line {
    /// The joined text, without blanks at either end.
    pub(super) text: String,
    /// Where each joined piece came from: offset in `text`, line, column of its first character.
    marks: Vec<(usize, u32, u32)>,
}

/// A word without its quotes, and where it stands in the line.
#[derive(Clone, Debug)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) range: Range<usize>,
}

impl Line {
    /// The place of a range of bytes of `text`.
    pub(super) fn span(&self, range: Range<usize>) -> Span {
        let at = self.marks.partition_point(|mark| mark.0 <= range.start).max(1) - 1;
        let (offset, line, column) = self.marks[at];
        let end = self
            .marks
            .get(at + 1)
            .map_or(self.text.len(), |next| next.0)
            .min(range.end);
        let chars = |from: usize, to: usize| self.text.get(from..to).map_or(0, |s| s.chars().count() as u32);
        Span {
            line,
            column: column + chars(offset, range.start),
            length: chars(range.start, end).max(1),
        }
    }

    /// The place of all of it.
    pub(super) fn whole(&self) -> Span {
        self.span(0..self.text.len())
    }

    /// The keyword, and the range of what follows it.
    pub(super) fn keyword(&self) -> (&str, Range<usize>) {
        let end = self.text.find(is_blank).unwrap_or(self.text.len());
        let rest = &self.text[end..];
        let start = end + (rest.len() - rest.trim_start_matches(is_blank).len());
        (&self.text[..end], start..self.text.len())
    }

    /// The words from `from` on; the range of the opening quote when one is not closed.
    pub(super) fn words(&self, from: usize) -> Result<Vec<Word>, Range<usize>> {
        let mut words = Vec::new();
        let mut word: Option<Word> = None;
        let mut quote: Option<(char, usize)> = None;
        for (offset, character) in self.text[from..].char_indices() {
            let offset = from + offset;
            if quote.is_none() && is_blank(character) {
                words.extend(word.take());
                continue;
            }
            let current = word.get_or_insert_with(|| Word {
                text: String::new(),
                range: offset..offset,
            });
            current.range.end = offset + character.len_utf8();
            match quote {
                Some((open, _)) if character == open => quote = None,
                None if matches!(character, '\'' | '"') => quote = Some((character, offset)),
                _ => current.text.push(character),
            }
        }
        if let Some((_, offset)) = quote {
            return Err(offset..self.text.len());
        }
        words.extend(word);
        Ok(words)
    }
}

/// Blanks and tabs separate words.
pub(super) fn is_blank(character: char) -> bool {
    character == ' ' || character == '\t'
}

/// The directives of `text`.
pub(super) fn lines(text: &str, findings: &mut Findings) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Line> = None;
    let mut overlong = false;
    let mut last = Span {
        line: 1,
        column: 1,
        length: 1,
    };
    // What follows the last line end is no line.
    for (index, raw) in text.strip_suffix('\n').unwrap_or(text).split('\n').enumerate() {
        let number = index as u32 + 1;
        let raw = raw.strip_suffix('\r').unwrap_or(raw);
        let clean = without_controls(raw, number, findings);
        let body = clean.trim_matches(is_blank);
        if body.starts_with('#') || (body.is_empty() && open.is_none()) {
            continue;
        }
        let indent = (clean.len() - clean.trim_start_matches(is_blank).len()) as u32;
        let slashes = body.len() - body.trim_end_matches('\\').len();
        // An even run is the shell's own escaped backslash.
        let goes_on = slashes % 2 == 1;
        let kept = if goes_on { &body[..body.len() - 1] } else { body };
        last = Span {
            line: number,
            column: indent + body.chars().count().max(1) as u32,
            length: 1,
        };
        let line = open.get_or_insert_with(|| Line {
            text: String::new(),
            marks: Vec::new(),
        });
        if !overlong {
            // The blanks before a continued piece stay: RUN's shell would see them too.
            let (piece, column) = if line.text.is_empty() {
                (kept, indent + 1)
            } else {
                (clean.get(..indent as usize + kept.len()).unwrap_or(kept), 1)
            };
            line.marks.push((line.text.len(), number, column));
            line.text.push_str(piece);
        }
        if line.text.len() > LINE_BYTES_MAX {
            overlong = true;
            let span = line.span(0..line.keyword().0.len().min(LINE_BYTES_MAX));
            findings
                .complain(
                    span,
                    format!("this directive has more than {LINE_BYTES_MAX} bytes"),
                )
                .hint("put long commands into a script and COPY it");
            line.text.clear();
        }
        if !goes_on {
            overlong = false;
            lines.extend(open.take().filter(|line| !line.text.is_empty()));
        }
    }
    if let Some(line) = open {
        findings
            .complain(last, "the file ends in the middle of a directive")
            .expected("another line after the `\\`")
            .hint("remove the `\\` at the end of this line");
        lines.extend(Some(line).filter(|line| !line.text.is_empty()));
    }
    for line in &mut lines {
        let trimmed = line.text.trim_end_matches(is_blank).len();
        line.text.truncate(trimmed);
    }
    lines.retain(|line| !line.text.trim_matches(is_blank).is_empty());
    lines
}

/// Complains of the first control character and makes blanks of all, so that the line can still be read.
fn without_controls(raw: &str, number: u32, findings: &mut Findings) -> String {
    let bad = |character: char| character.is_control() && character != '\t';
    if let Some(index) = raw.chars().position(bad) {
        let code = raw.chars().nth(index).map_or(0, u32::from);
        let span = Span {
            line: number,
            column: index as u32 + 1,
            length: 1,
        };
        findings
            .complain(span, format!("a control character (U+{code:04X}) stands here"))
            .expected("printable text, blanks and tabs")
            .hint("remove it; line ends are LF or CR LF");
    }
    raw.chars()
        .map(|character| if bad(character) { ' ' } else { character })
        .collect()
}
