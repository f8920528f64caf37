//! What people hold of Formation: the command `form`, which is a client of any node's API, and the daemon
//! `form node run`.
//!
//! In reading order: [`commands`] is the tree of words, a file for each noun; [`invocation`] is what all of
//! them share; [`submit`] signs and sends a command; [`keys`] holds the person's keys; [`output`],
//! [`progress`] and [`exit`] are how it answers; [`patience`] is how it waits; [`node`] is the daemon.

pub mod commands;
pub mod exit;
pub mod invocation;
pub mod keys;
pub mod node;
pub mod output;
pub mod patience;
pub mod progress;
pub mod submit;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::commands::{Cli, Noun};
use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{Format, Output};

/// Parses the command line, does what it says, and answers with the exit code.
pub fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .is_err()
    {
        // Somebody in this process was first, which is as good.
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    log_to_stderr(&cli);
    let output = Output::new(cli.global.output, cli.global.quiet, cli.global.no_color);
    match run(cli, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::from(failure.exit.code())
        }
    }
}

fn run(cli: Cli, output: Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("starting the runtime", &error))?;
    let done = runtime.block_on(async {
        let invocation = Invocation::new(cli.global, output);
        cli.noun.run(&invocation).await
    });
    // A read that waits for standard input or a name server would hold the end up otherwise.
    runtime.shutdown_background();
    done
}

/// Help and version are answers; anything else that clap says is wrong usage, also in JSON if asked for.
fn refuse(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let answered = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let wants_json = std::env::args().any(|word| word == "--output=json" || word == "-ojson")
        || std::env::args()
            .zip(std::env::args().skip(1))
            .any(|(flag, value)| (flag == "--output" || flag == "-o") && value == "json");
    if !answered && wants_json {
        let text = error.render().to_string();
        let mut lines = text.trim().lines();
        let message = lines
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_string();
        let hint = lines
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        Output::new(Format::Json, false, true).failure(&Failure::new(Exit::Usage, message).hint(hint));
    } else {
        // Nothing is left to tell if even this cannot be written.
        let _ = error.print();
    }
    if answered {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(Exit::Usage.code())
    }
}

/// Logs go to standard error: what `RUST_LOG` asks for, else a node's news and a client's warnings.
fn log_to_stderr(cli: &Cli) {
    let default = match &cli.noun {
        Noun::Node(commands::node::NodeCommand::Run(_)) => {
            "info,fjall=warn,lsm_tree=warn,libp2p=warn,hyper=warn"
        }
        _ => "warn",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colour = std::io::stderr().is_terminal()
        && !cli.global.no_color
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour);
    if log.try_init().is_err() {
        // A test in this process has set its own.
    }
}
