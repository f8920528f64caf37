//! `form ops`: the log of the network. Everything that is so follows from it; a void entry is shown with
//! its reason.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use api::client::{EventFilter, EventStart, OpsListQuery};
use api::views::PAGE_MAX;
use api::views::commands::{OutcomeView, OutcomeWord};
use api::views::events::EventView;
use api::views::ops::{EntryView, Noun, OpView};
use api::views::status::VerifyReport;
use clap::{Args, Subcommand};
use futures::StreamExt;
use ledger::id::{CommandId, OpId};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::node::folder::write_private;
use crate::output::{clean, size, span};
use crate::progress::Progress;

/// Ops among which the beginning of an id is looked for, from the newest back.
const SEARCH_MAX: usize = 20_000;

/// Events that may wait while the first page is read.
const WAITING_MAX: usize = 1024;

/// The network's log: read it, look at one op, verify it.
#[derive(Debug, Subcommand)]
pub enum OpsCommand {
    /// The newest ops, the newest last
    Log(LogArgs),
    /// Show one op
    Show(ShowArgs),
    /// Have the node check its whole log again: hashes, links, signatures
    Verify,
    /// Write the whole log of the node to a file
    Export(ExportArgs),
}

/// `form ops export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// `form ops log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Go on with what happens
    #[arg(short, long)]
    follow: bool,
    /// So many ops at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    limit: u32,
    /// Only what this node wrote: its name, id, or the beginning of the id
    #[arg(long, value_name = "NODE", conflicts_with = "follow")]
    node: Option<String>,
}

/// `form ops show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Id of an op or of a command that it carries, or the beginning of one
    #[arg(value_name = "ID")]
    id: String,
}

/// One entry of the log in one line.
#[derive(Serialize)]
struct Line<'a> {
    op: OpId,
    node: Option<&'a str>,
    at_ms: u64,
    seq: Option<u64>,
    turned: bool,
    entry: Option<&'a EntryView>,
}

impl OpsCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            OpsCommand::Log(args) if args.follow => follow(args, invocation).await,
            OpsCommand::Log(LogArgs { limit, node, .. }) => {
                let ops = newest(invocation, limit as usize, node).await?;
                if invocation.output.is_json() {
                    return invocation
                        .output
                        .list(&ops, &[], |_| Vec::new(), |_| String::new());
                }
                let lines: Vec<Line<'_>> = ops.iter().flat_map(lines_of).collect();
                invocation
                    .output
                    .list(&lines, &HEADER, Line::row, |line| line.op.to_string())
            }
            OpsCommand::Show(ShowArgs { id }) => show(&find(invocation, &id).await?, invocation),
            OpsCommand::Verify => verify(invocation).await,
            OpsCommand::Export(ExportArgs { file }) => export(&file, invocation).await,
        }
    }
}

const HEADER: [&str; 6] = ["TIME", "OP", "NODE", "ENTRY", "BY", "ABOUT"];

fn lines_of(op: &OpView) -> Vec<Line<'_>> {
    let line = |entry| Line {
        op: op.id,
        node: op.node_name.as_deref(),
        at_ms: op.at_ms,
        seq: Some(op.seq),
        turned: false,
        entry,
    };
    match op.entries.is_empty() {
        true => vec![line(None)],
        false => op.entries.iter().map(|entry| line(Some(entry))).collect(),
    }
}

impl Line<'_> {
    fn row(&self) -> Vec<String> {
        let node = self.node.map_or("-".into(), String::from);
        let entry = self.entry;
        let by = entry.and_then(|entry| entry.account_name.clone().or(entry.key.clone()));
        let kind = entry.map_or("-".into(), |entry| entry.kind.clone());
        let mut about = entry.map(about).unwrap_or_default();
        if let Some(OutcomeView {
            result: OutcomeWord::Void,
            why,
            ..
        }) = entry.and_then(|it| it.outcome.as_ref())
        {
            let why = why.clone().unwrap_or_else(|| "it does not count".into());
            about = format!("{about} VOID: {why}").trim_start().to_string();
        }
        if self.turned {
            about.push_str(" (turned by a late op)");
        }
        vec![
            time(self.at_ms),
            self.op.short(),
            node,
            kind,
            by.unwrap_or_else(|| "-".into()),
            about,
        ]
    }
}

/// What an entry is about, in a few words.
fn about(entry: &EntryView) -> String {
    let text = |name: &str| {
        entry
            .content
            .get(name)
            .and_then(|value| value.as_str())
            .map(String::from)
    };
    let called = text("name").or_else(|| text("reason"));
    let phase = entry.content.get("phase").map(|phase| match phase {
        serde_json::Value::String(word) => word.to_lowercase(),
        other => other.to_string(),
    });
    let subject = entry.subject.as_ref().map(|subject| {
        let noun = match subject.noun {
            Noun::Account => "account",
            Noun::Node => "node",
            Noun::Agent => "agent",
            Noun::Build => "build",
            Noun::Instance => "instance",
            Noun::Domain => "domain",
        };
        let id: String = match subject.noun {
            Noun::Domain => subject.id.clone(),
            _ => subject.id.chars().take(12).collect(),
        };
        format!("{noun} {id}")
    });
    let generation = entry
        .content
        .get("generation")
        .map(|number| format!("generation {number}"));
    [subject, called, generation, phase]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The newest ops, the newest last.
async fn newest(invocation: &Invocation, limit: usize, node: Option<String>) -> Result<Vec<OpView>, Failure> {
    let client = invocation.client()?;
    let mut ops: Vec<OpView> = Vec::new();
    let mut query = OpsListQuery {
        newest_first: true,
        node,
        ..OpsListQuery::default()
    };
    while ops.len() < limit {
        query.limit = Some((limit - ops.len()).min(PAGE_MAX));
        let page = client.ops(&query).await?;
        query.after = page.items.last().map(|op| op.id);
        let ended = page.items.is_empty() || page.next.is_none();
        ops.extend(page.items);
        if ended {
            break;
        }
    }
    ops.truncate(limit);
    ops.reverse();
    Ok(ops)
}

async fn follow(args: LogArgs, invocation: &Invocation) -> Result<(), Failure> {
    let mut events = invocation
        .client()?
        .events(EventFilter::default(), EventStart::Now);
    let (sender, mut receiver) = mpsc::channel(WAITING_MAX);
    // The stream is opened before the page is read, so that nothing falls between the two.
    let reading = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if sender.send(event).await.is_err() {
                return;
            }
        }
    });
    let ops = newest(invocation, args.limit as usize, None).await?;
    let shown: HashSet<OpId> = ops.iter().map(|op| op.id).collect();
    for line in ops.iter().flat_map(lines_of) {
        print(&line, invocation)?;
    }
    let names: std::collections::HashMap<_, _> = invocation
        .nodes()
        .await?
        .into_iter()
        .filter_map(|node| Some((node.id, node.name?)))
        .collect();
    while let Some(event) = receiver.recv().await {
        let EventView {
            op,
            node,
            at_ms,
            turned,
            entry,
            ..
        } = event?;
        if shown.contains(&op) && !turned {
            continue;
        }
        let node = names.get(&node).map(String::as_str);
        print(
            &Line {
                op,
                node,
                at_ms,
                seq: None,
                turned,
                entry: Some(&entry),
            },
            invocation,
        )?;
    }
    reading.abort();
    Err(Failure::new(
        Exit::Unavailable,
        "the node ended the stream of events",
    ))
}

fn print(line: &Line<'_>, invocation: &Invocation) -> Result<(), Failure> {
    if invocation.output.is_json() {
        return invocation.output.json_line(line);
    }
    if invocation.output.is_quiet() {
        return invocation.output.line(&line.op.to_string());
    }
    invocation.output.line(&clean(&line.row().join("  ")))
}

/// An op by its id, by the id of a command that it carries, or by the beginning of one of these.
async fn find(invocation: &Invocation, id: &str) -> Result<OpView, Failure> {
    let client = invocation.client()?;
    let unknown = || {
        Failure::new(
            Exit::NotFound,
            format!("there is no op or command `{}`", clean(id)),
        )
        .hint("`form ops log` lists ops")
    };
    if let Ok(op) = id.parse::<OpId>() {
        match client.op(op).await.map_err(Failure::from) {
            Ok(op) => return Ok(op.item),
            Err(failure) if failure.exit != Exit::NotFound => return Err(failure),
            Err(_) => {}
        }
        let command = client.command(CommandId(op.0)).await.map_err(Failure::from);
        let carrier = match command {
            Ok(command) => command.item.op,
            Err(failure) if failure.exit == Exit::NotFound => return Err(unknown()),
            Err(failure) => return Err(failure),
        };
        return Ok(client.op(carrier).await?.item);
    }
    const DIGITS_MIN: usize = 4;
    let digits = id
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !digits || id.len() < DIGITS_MIN {
        let failure = format!(
            "`{}` is no id: {DIGITS_MIN} to 64 hexadecimal digits are expected",
            clean(id)
        );
        return Err(Failure::new(Exit::Usage, failure));
    }
    let begins = |op: &OpView| {
        let commands = op.entries.iter().filter_map(|entry| entry.command);
        op.id.to_string().starts_with(id) || commands.into_iter().any(|it| it.to_string().starts_with(id))
    };
    let mut found = newest(invocation, SEARCH_MAX, None)
        .await?
        .into_iter()
        .filter(begins);
    match (found.next(), found.next()) {
        (Some(op), None) => Ok(op),
        (Some(_), Some(_)) => {
            let failure = Failure::new(Exit::Conflict, format!("more than one id begins with `{id}`"));
            Err(failure.hint("say more of its digits"))
        }
        (None, _) => Err(unknown()),
    }
}

fn show(op: &OpView, invocation: &Invocation) -> Result<(), Failure> {
    let fields = |op: &OpView| {
        let node = op.node_name.clone().unwrap_or_else(|| "?".into());
        let mut fields = vec![
            ("op", op.id.to_string()),
            ("node", format!("{node} ({})", op.node)),
            (
                "place",
                format!("incarnation {}, number {}", op.incarnation, op.seq),
            ),
            ("previous", op.previous.to_string()),
            ("clock", format!("{} ({})", op.hlc, time(op.at_ms))),
            (
                "has seen",
                if op.dependencies.is_empty() {
                    "-".into()
                } else {
                    op.dependencies.join(" ")
                },
            ),
            ("size", size(op.bytes)),
        ];
        for entry in &op.entries {
            let command = entry.command.map(|id| format!(" {id}")).unwrap_or_default();
            fields.push(("entry", format!("{}{command}", entry.kind)));
            fields.extend(
                entry
                    .account_name
                    .clone()
                    .or(entry.key.clone())
                    .map(|by| ("  by", by)),
            );
            fields.push(("  says", entry.content.to_string()));
            let outcome = entry.outcome.as_ref().map(|outcome| match outcome.result {
                OutcomeWord::Applied => "applied".to_string(),
                OutcomeWord::Void => format!("void: {}", outcome.why.clone().unwrap_or_default()),
            });
            fields.push(("  outcome", outcome.unwrap_or_else(|| "not folded yet".into())));
        }
        fields
    };
    invocation.output.one(op, fields, |op| op.id.to_string())
}

async fn verify(invocation: &Invocation) -> Result<(), Failure> {
    let mut progress = Progress::new(invocation.output);
    progress.now("the node checks its whole log");
    let report = invocation.client()?.verify_ops().await?;
    drop(progress);
    let fields = |report: &VerifyReport| {
        let mut fields = vec![
            ("ops", report.ops.to_string()),
            ("chains", report.chains.to_string()),
            ("commands", report.commands.to_string()),
            ("signatures", report.signatures.to_string()),
            ("took", span(report.took_ms)),
            ("faults", report.faults.to_string()),
        ];
        for fault in &report.first_faults {
            let op = fault.op.map_or("-".into(), |op| op.to_string());
            fields.push(("fault", format!("{op}: {}", fault.what)));
        }
        fields
    };
    invocation
        .output
        .one(&report, fields, |report| report.faults.to_string())?;
    match report.faults {
        0 => Ok(()),
        faults => Err(
            Failure::new(Exit::Failed, format!("the node's log has {faults} faults")).hint(
                "this node's disk or program is not to be trusted: compare `form status` of other nodes",
            ),
        ),
    }
}

/// Milliseconds since 1970 as a time of day in UTC, with its date.
fn time(ms: u64) -> String {
    // Howard Hinnant, "chrono-compatible low-level date algorithms", civil_from_days; years up to 2^48 ms fit.
    let (days, second) = (ms / 86_400_000, ms / 1000 % 86_400);
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!(
        "{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{:02}.{:03}Z",
        second % 60,
        ms % 1000
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc() {
        assert_eq!(time(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(time(951_782_400_000), "2000-02-29 00:00:00.000Z");
        assert_eq!(time(1_709_251_199_999), "2024-02-29 23:59:59.999Z");
        assert_eq!(time(1_795_319_123_045), "2026-11-22 03:45:23.045Z");
    }
}

#[derive(Serialize)]
struct Exported {
    ops: usize,
    certificates: usize,
    bytes: u64,
}

/// Writes the log to a file, once it has been read back and every signature in it holds.
async fn export(file: &Path, invocation: &Invocation) -> Result<(), Failure> {
    let network = invocation.network().await?;
    let mut progress = Progress::new(invocation.output);
    progress.now("reading the whole log");
    let bytes = invocation.client()?.export_ops().await?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("asking the system for random bytes: {error}"),
        )
    })?;
    let held = ledger::export::decode(network, &bytes, seed)
        .map_err(|error| Failure::new(Exit::Failed, format!("what the node gave is no ledger: {error}")))?;
    write_private(file, &bytes).map_err(|error| Failure::new(Exit::Failed, format!("{error:#}")))?;
    drop(progress);
    let exported = Exported {
        ops: held.ops.len(),
        certificates: held.certificates.len(),
        bytes: bytes.len() as u64,
    };
    invocation.output.value(&exported, |it| {
        format!("{} ops, {} in {}", it.ops, size(it.bytes), file.display())
    })
}
