//! `form instance`: what runs. An instance is called by its name in your account, by `account/name`, or by
//! the beginning of its id.

use std::io::IsTerminal;
use std::time::Duration;

use api::client::{LogStart, LogStream};
use api::views::instances::{InstanceView, InstanceWord};
use clap::{Args, Subcommand};
use futures::StreamExt;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape, StartInstance, StopInstance};
use ledger::id::InstanceId;

use crate::commands::node::label;
use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{Output, ago, clean, clean_text};
use crate::patience::{Patience, duration};
use crate::progress::Progress;
use crate::submit::{now_ms, submit};

/// Bytes of a log that are held at once, at most: nodes give far less.
const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Between two tries to go on with a log, in milliseconds.
const RETRY_MS: u64 = 500;

/// Instances: launch, list, show, stop, start, delete, logs.
#[derive(Debug, Subcommand)]
pub enum InstanceCommand {
    /// Launch an instance of an agent's release, beside those that run
    Launch(LaunchArgs),
    /// List the network's instances
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show an instance
    Show(InstanceArg),
    /// Stop an instance; its disk stays
    Stop(ChangeArgs),
    /// Start a stopped instance
    Start(ChangeArgs),
    /// Delete an instance and its disk
    #[command(visible_alias = "rm")]
    Delete(ChangeArgs),
    /// What an instance wrote
    Logs(LogsArgs),
}

/// `form instance list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only your account's
    #[arg(long)]
    mine: bool,
}

/// Which instance.
#[derive(Debug, Args)]
pub struct InstanceArg {
    /// Name, ACCOUNT/NAME, or the beginning of the id
    #[arg(value_name = "INSTANCE")]
    instance: String,
}

/// `form instance launch`.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// Which agent: name, id, or the beginning of the id
    #[arg(value_name = "AGENT")]
    agent: String,
    /// Its name, unique in your account [default: the agent's name]
    #[arg(long, value_name = "NAME", value_parser = label)]
    name: Option<String>,
    /// Wait until it serves
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, requires = "wait")]
    timeout: Duration,
}

/// `form instance stop`, `start` and `delete`.
#[derive(Debug, Args)]
pub struct ChangeArgs {
    /// Name, ACCOUNT/NAME, or the beginning of the id
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// Wait until it is so
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration, requires = "wait")]
    timeout: Duration,
}

/// `form instance logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name, ACCOUNT/NAME, or the beginning of the id
    #[arg(value_name = "INSTANCE")]
    instance: String,
    /// Go on as more is written
    #[arg(short, long)]
    follow: bool,
    /// Begin with so many of the last lines [default: all that one answer holds]
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    tail: Option<u32>,
}

/// What is wanted of an instance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wish {
    Stop,
    Start,
    Delete,
}

impl InstanceCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            InstanceCommand::Launch(args) => launch(args, invocation).await,
            InstanceCommand::List(args) => list(args, invocation).await,
            InstanceCommand::Show(InstanceArg { instance }) => {
                show(invocation, &invocation.instance(&instance).await?)
            }
            InstanceCommand::Stop(args) => change(args, Wish::Stop, invocation).await,
            InstanceCommand::Start(args) => change(args, Wish::Start, invocation).await,
            InstanceCommand::Delete(args) => change(args, Wish::Delete, invocation).await,
            InstanceCommand::Logs(args) => logs(args, invocation).await,
        }
    }
}

async fn launch(args: LaunchArgs, invocation: &Invocation) -> Result<(), Failure> {
    let LaunchArgs {
        agent,
        name,
        wait,
        timeout,
    } = args;
    let patience = Patience::new(timeout);
    let agent = invocation.agent(&agent).await?;
    let body = LaunchInstance {
        name: name.unwrap_or_else(|| agent.name.clone()),
        agent: Some(agent.id),
        build: agent.build,
        shape: Shape {
            vcpus: agent.shape.vcpus,
            memory_mib: agent.shape.memory_mib,
            disk_gib: agent.shape.disk_gib,
        },
        port: agent.port,
    };
    let launched = submit(invocation, body)
        .await
        .map_err(|failure| match failure.exit {
            Exit::Conflict => failure.hint("choose another name with --name"),
            _ => failure,
        })?;
    let instance = invocation.instance_by_id(launched.into()).await?;
    if wait {
        return follow(&instance, Wish::Start, patience, invocation).await;
    }
    show(invocation, &instance)?;
    invocation
        .output
        .note(&format!("Next: form instance show {}", called(&instance)));
    Ok(())
}

async fn list(args: ListArgs, invocation: &Invocation) -> Result<(), Failure> {
    let mut instances = invocation.instances().await?;
    if args.mine {
        let me = invocation.me().await?.id;
        instances.retain(|instance| instance.owner == me);
    }
    let row = |instance: &InstanceView| {
        vec![
            called(instance),
            instance.id.short(),
            instance.agent_name.clone().unwrap_or_else(|| "-".into()),
            instance.state.to_string(),
            instance.node_name.clone().unwrap_or_else(|| "-".into()),
            instance.address.map_or("-".into(), |address| address.to_string()),
            ago(instance.launched_ms, now_ms()),
        ]
    };
    let header = ["NAME", "ID", "AGENT", "STATE", "NODE", "ADDRESS", "LAUNCHED"];
    invocation.output.list(&instances, &header, row, called)
}

/// What it can be called by at any node.
pub(crate) fn called(instance: &InstanceView) -> String {
    let owner = instance
        .owner_name
        .clone()
        .unwrap_or_else(|| instance.owner.short());
    format!("{owner}/{}", instance.name)
}

fn show(invocation: &Invocation, instance: &InstanceView) -> Result<(), Failure> {
    let fields = |instance: &InstanceView| {
        let shape = instance.shape;
        let or_none = |text: Option<String>| text.unwrap_or_else(|| "none".into());
        let mut fields = vec![
            ("name", called(instance)),
            ("id", instance.id.to_string()),
            ("state", instance.state.to_string()),
        ];
        fields.extend(instance.why.clone().map(|why| ("why", why)));
        fields.extend(instance.exit_code.map(|code| ("exit code", code.to_string())));
        fields.extend([
            ("agent", or_none(instance.agent_name.clone())),
            ("build", instance.build.to_string()),
            (
                "image",
                instance
                    .image
                    .map_or("not built yet".into(), |image| image.to_string()),
            ),
            (
                "machine",
                format!(
                    "{} vCPU, {} MiB memory, {} GiB disk",
                    shape.vcpus, shape.memory_mib, shape.disk_gib
                ),
            ),
            ("port", or_none(instance.port.map(|port| port.to_string()))),
            ("node", or_none(instance.node_name.clone())),
            (
                "placed",
                format!(
                    "{}, started there {}",
                    times(instance.generation),
                    times(instance.starts.into())
                ),
            ),
            (
                "address",
                or_none(instance.address.map(|address| address.to_string())),
            ),
            (
                "names",
                if instance.names.is_empty() {
                    "none".into()
                } else {
                    instance.names.join(" ")
                },
            ),
            ("launched", ago(instance.launched_ms, now_ms())),
        ]);
        fields
    };
    invocation
        .output
        .one(instance, fields, |instance| instance.id.to_string())
}

fn times(count: u64) -> String {
    match count {
        0 => "never".into(),
        1 => "once".into(),
        more => format!("{more} times"),
    }
}

async fn change(args: ChangeArgs, wish: Wish, invocation: &Invocation) -> Result<(), Failure> {
    let ChangeArgs {
        instance,
        wait,
        timeout,
    } = args;
    let patience = Patience::new(timeout);
    let instance = invocation.instance(&instance).await?;
    let id = instance.id;
    match wish {
        Wish::Stop => submit(invocation, StopInstance { instance: id }).await?,
        Wish::Start => submit(invocation, StartInstance { instance: id }).await?,
        Wish::Delete => submit(invocation, DeleteInstance { instance: id }).await?,
    };
    if !wait {
        let wanted = match wish {
            Wish::Stop => "stop",
            Wish::Start => "start",
            Wish::Delete => "be deleted",
        };
        let done = serde_json::json!({ "id": id, "name": instance.name, "wanted": wanted });
        return invocation
            .output
            .value(&done, |_| format!("{} shall {wanted}", clean(&called(&instance))));
    }
    follow(&instance, wish, patience, invocation).await
}

/// Waits until what was wished is so, and shows what came of it.
async fn follow(
    instance: &InstanceView,
    wish: Wish,
    patience: Patience,
    invocation: &Invocation,
) -> Result<(), Failure> {
    let id: InstanceId = instance.id;
    let mut progress = Progress::new(invocation.output);
    let ended = patience
        .until(&called(instance), async || {
            let now = match invocation.instance_by_id(id).await {
                Ok(now) => now,
                Err(failure) if failure.exit == Exit::NotFound && wish == Wish::Delete => {
                    return Ok(Some(None));
                }
                Err(failure) => return Err(failure),
            };
            progress.now(&format!("{}: {}", called(&now), now.state));
            let so = match wish {
                Wish::Stop => matches!(now.state, InstanceWord::Stopped | InstanceWord::Failed),
                Wish::Start => matches!(now.state, InstanceWord::Running | InstanceWord::Failed),
                Wish::Delete => false,
            };
            Ok(so.then_some(Some(now)))
        })
        .await?;
    drop(progress);
    match ended {
        None => {
            let done = serde_json::json!({ "id": id, "name": instance.name, "deleted": true });
            invocation
                .output
                .value(&done, |_| format!("{} is gone", clean(&called(instance))))
        }
        Some(now) if wish == Wish::Start && now.state == InstanceWord::Failed => Err(failed(&now)),
        Some(now) => show(invocation, &now),
    }
}

/// The failure of an instance as the failure of a command that waited for it.
pub(crate) fn failed(instance: &InstanceView) -> Failure {
    let why = instance
        .why
        .clone()
        .unwrap_or_else(|| "its node did not say why".into());
    // The reason often names the status already.
    let code = instance
        .exit_code
        .filter(|code| !why.contains(&format!("status {code}")));
    let code = code
        .map(|code| format!(" (exit status {code})"))
        .unwrap_or_default();
    Failure::new(Exit::Failed, format!("{} failed: {why}{code}", called(instance))).hint(format!(
        "read what it wrote: form instance logs {}",
        called(instance)
    ))
}

/// Prints what is there, then, if asked, what follows. A connection that breaks is taken up where it was.
async fn logs(args: LogsArgs, invocation: &Invocation) -> Result<(), Failure> {
    let id = invocation.instance(&args.instance).await?.id;
    let mut printer = Printer::new(invocation.output);
    let mut from = match invocation.instance_log(id, LogStart::default()).await {
        Ok(log) => {
            let begin = log.from;
            let there = read_all(log).await?;
            let shown = args.tail.map_or(0, |lines| start_of_tail(&there, lines as usize));
            printer.take(&there[shown..])?;
            begin + there.len() as u64
        }
        // It may not have written anything yet.
        Err(failure) if failure.exit == Exit::NotFound && args.follow => 0,
        Err(failure) => return Err(failure),
    };
    if !args.follow {
        return printer.end();
    }
    loop {
        let start = LogStart {
            from: Some(from),
            follow: true,
        };
        match invocation.instance_log(id, start).await {
            Ok(mut log) => {
                from = log.from;
                loop {
                    match log.bytes.next().await {
                        Some(Ok(bytes)) => {
                            from += bytes.len() as u64;
                            printer.take(&bytes)?;
                        }
                        // The end is the writer's: nothing will follow.
                        None => return printer.end(),
                        Some(Err(_)) => break,
                    }
                }
            }
            Err(failure) if failure.exit == Exit::NotFound => {
                // No log yet, or no instance any more: the latter is the end.
                invocation.instance_by_id(id).await?;
            }
            Err(failure) if failure.is_transient => {}
            Err(failure) => return Err(failure),
        }
        tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
    }
}

async fn read_all(mut log: LogStream) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = log.bytes.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > LOG_BYTES_MAX {
            return Err(Failure::new(
                Exit::Failed,
                format!("the node gave more than {LOG_BYTES_MAX} bytes of log"),
            ));
        }
    }
    Ok(bytes)
}

/// Where the last `lines` lines begin.
fn start_of_tail(bytes: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return bytes.len();
    }
    let body = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let ends = body.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(at, _)| at + 1).nth(lines - 1).unwrap_or(0)
}

/// Prints a log: as it is into a pipe, without control characters on a terminal, a JSON object a line.
struct Printer {
    output: Output,
    by_line: bool,
    rest: Vec<u8>,
}

impl Printer {
    /// A line longer than this is printed in parts.
    const LINE_BYTES_MAX: usize = 64 * 1024;

    fn new(output: Output) -> Self {
        Self {
            output,
            by_line: output.is_json() || std::io::stdout().is_terminal(),
            rest: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.by_line {
            return self.output.bytes(bytes);
        }
        self.rest.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(end) = self.rest[begin..].iter().position(|byte| *byte == b'\n') {
            self.line(&self.rest[begin..begin + end])?;
            begin += end + 1;
        }
        self.rest.drain(..begin);
        if self.rest.len() > Self::LINE_BYTES_MAX {
            self.end()
        } else {
            Ok(())
        }
    }

    fn end(&mut self) -> Result<(), Failure> {
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() { Ok(()) } else { self.line(&rest) }
    }

    fn line(&self, bytes: &[u8]) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(bytes);
        match self.output.is_json() {
            true => self.output.json_line(&serde_json::json!({ "line": text })),
            false => self.output.line(&clean_text(&text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_is_the_last_whole_lines() {
        let tail = |text: &'static str, lines| &text[start_of_tail(text.as_bytes(), lines)..];
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc\n");
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("a\nb\n", 9), "a\nb\n");
        assert_eq!(tail("a\n", 0), "");
        assert_eq!(tail("", 3), "");
    }
}
