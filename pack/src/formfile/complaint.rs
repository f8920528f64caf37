//! What is wrong in a text, where, and how to mend it; and how a person sees it.
//!
//! Not here: what is right and wrong.

use serde::Serialize;
use std::fmt::Write;

/// A place in the text, in characters, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Span {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Characters marked, at least 1, never past the end of the line.
    pub length: u32,
}

/// Something that must be changed before the Formfile means anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Complaint {
    /// Where.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What could stand there instead.
    pub expected: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
}

/// Something that is legal and probably not meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Warning {
    /// Where.
    pub span: Span,
    /// What looks wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

impl std::fmt::Display for Complaint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.span.line, self.span.column, self.message)
    }
}

impl std::error::Error for Complaint {}

/// All complaints and warnings in the order of their lines, each with its line and a caret under it.
/// `file` is the name to print.
pub fn render(text: &str, file: &str, complaints: &[Complaint], warnings: &[Warning]) -> String {
    let lines: Vec<&str> = text.split('\n').map(|line| line.trim_end_matches('\r')).collect();
    let mut out = String::new();
    for complaint in complaints {
        paint(
            &mut out,
            "error",
            &lines,
            file,
            complaint.span,
            &complaint.message,
        );
        remark(
            &mut out,
            complaint.span,
            "expected",
            complaint.expected.as_deref(),
        );
        remark(&mut out, complaint.span, "help", complaint.hint.as_deref());
        out.push('\n');
    }
    for warning in warnings {
        paint(&mut out, "warning", &lines, file, warning.span, &warning.message);
        remark(&mut out, warning.span, "help", warning.hint.as_deref());
        out.push('\n');
    }
    if !complaints.is_empty() {
        let plural = if complaints.len() == 1 { "" } else { "s" };
        let _ = writeln!(out, "error: {} mistake{plural} in {file}", complaints.len());
    }
    out
}

fn gutter(span: Span) -> usize {
    span.line.to_string().len()
}

fn paint(out: &mut String, kind: &str, lines: &[&str], file: &str, span: Span, message: &str) {
    /// A longer line is shown from a little before the mark.
    const SHOWN_MAX: usize = 120;
    let line = lines.get(span.line as usize - 1).copied().unwrap_or("");
    let start = span.column as usize - 1;
    let skip = if start > SHOWN_MAX / 2 {
        start - SHOWN_MAX / 4
    } else {
        0
    };
    // Tabs and control characters become one blank each, so that the caret stands under its character.
    let shown: String = line
        .chars()
        .skip(skip)
        .take(SHOWN_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let width = gutter(span);
    let blank = " ".repeat(width);
    let carets = "^".repeat((span.length as usize).clamp(1, SHOWN_MAX.saturating_sub(start - skip).max(1)));
    let _ = writeln!(out, "{kind}: {message}");
    let _ = writeln!(out, "{blank}--> {file}:{}:{}", span.line, span.column);
    let _ = writeln!(out, "{blank} |");
    let _ = writeln!(out, "{} | {shown}", span.line);
    let _ = writeln!(out, "{blank} | {}{carets}", " ".repeat(start - skip));
}

fn remark(out: &mut String, span: Span, label: &str, remark: Option<&str>) {
    if let Some(remark) = remark {
        let _ = writeln!(out, "{} = {label}: {remark}", " ".repeat(gutter(span)));
    }
}
