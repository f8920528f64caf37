//! `form-sim`, started by `./dev sim`: runs whole networks from seeds.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use sim::options::{NODES_MAX, Options};
use sim::world::World;

/// Bytes of a file of options, at most.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Simulated networks of real nodes, each from one seed.
#[derive(Parser)]
#[command(name = "form-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run one seed and print what it came to.
    Run {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        how: How,
        /// Print the trace.
        #[arg(long)]
        trace: bool,
    },
    /// Print the options of a seed as JSON, for `replay`.
    Options {
        /// The seed.
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        how: How,
    },
    /// Run the options in a file: those of a seed, or others.
    Replay {
        /// The file, as `options` prints it.
        file: PathBuf,
        /// Print the trace.
        #[arg(long)]
        trace: bool,
    },
    /// Run many seeds; ends at the first violated claim.
    Swarm {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        from: u64,
        /// How many seeds.
        #[arg(long, default_value_t = 100)]
        seeds: u64,
        #[command(flatten)]
        how: How,
        /// Go on after a violated claim.
        #[arg(long)]
        keep_going: bool,
    },
}

#[derive(Args, Clone, Copy)]
struct How {
    /// How many nodes.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=NODES_MAX as u64))]
    nodes: u64,
    /// Make and check every signature.
    #[arg(long)]
    real_signatures: bool,
    /// No faults: what is left is delay.
    #[arg(long)]
    calm: bool,
}

impl How {
    fn options(self, seed: u64) -> Options {
        let mut options = Options::draw(seed, self.nodes as usize);
        options.real_signatures = self.real_signatures;
        if self.calm {
            options.without_faults()
        } else {
            options
        }
    }

    /// The arguments that give these options again.
    fn arguments(self, seed: u64) -> String {
        let mut text = format!("--seed {seed} --nodes {}", self.nodes);
        for (set, name) in [
            (self.real_signatures, " --real-signatures"),
            (self.calm, " --calm"),
        ] {
            text.push_str(if set { name } else { "" });
        }
        text
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether every claim held.
fn run(command: Command) -> Result<bool> {
    match command {
        Command::Run { seed, how, trace } => {
            let options = how.options(seed);
            println!(
                "options     {}",
                serde_json::to_string(&options).context("printing the options")?
            );
            one(options, trace)
        }
        Command::Options { seed, how } => {
            println!(
                "{}",
                serde_json::to_string_pretty(&how.options(seed)).context("printing the options")?
            );
            Ok(true)
        }
        Command::Replay { file, trace } => one(read(&file)?, trace),
        Command::Swarm {
            from,
            seeds,
            how,
            keep_going,
        } => swarm(from, seeds, how, keep_going),
    }
}

fn read(file: &Path) -> Result<Options> {
    let opened = File::open(file).with_context(|| format!("opening {}", file.display()))?;
    let mut text = String::new();
    opened
        .take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("reading {}", file.display()))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!(
            "{} is larger than {FILE_BYTES_MAX} bytes: it holds no options",
            file.display()
        );
    }
    let options = serde_json::from_str(&text);
    options.with_context(|| format!("{} is not what `form-sim options` prints", file.display()))
}

fn one(options: Options, trace: bool) -> Result<bool> {
    let begin = Instant::now();
    let summary = World::new(options, trace)?.run()?;
    for line in &summary.lines {
        println!("{line}");
    }
    println!("took        {:.2} s", begin.elapsed().as_secs_f64());
    println!("{summary}");
    Ok(summary.violation.is_none())
}

fn swarm(from: u64, seeds: u64, how: How, keep_going: bool) -> Result<bool> {
    let begin = Instant::now();
    let (mut ran, mut violated, mut slowest) = (0u64, 0u64, (0, from));
    for seed in from..from.saturating_add(seeds) {
        let summary = World::new(how.options(seed), false)?
            .run()
            .with_context(|| format!("running seed {seed}"))?;
        ran += 1;
        if let Some(settled_ms) = summary.settled_ms {
            slowest = slowest.max((settled_ms, seed));
        }
        if let Some(violation) = &summary.violation {
            violated += 1;
            println!(
                "seed {seed}: {} does not hold: {}",
                violation.claim, violation.seen
            );
            println!("repeat: ./dev sim run {} --trace", how.arguments(seed));
            if !keep_going {
                break;
            }
        }
    }
    let rate = ran as f64 / begin.elapsed().as_secs_f64();
    let held = if violated == 0 {
        "every claim held".to_owned()
    } else {
        format!("claims violated in {violated}")
    };
    let (slowest_ms, seed) = slowest;
    println!(
        "{ran} seeds with {} nodes, {held}; slowest to settle: {:.1} s (seed {seed}); {rate:.1} seeds/s",
        how.nodes,
        slowest_ms as f64 / 1000.0
    );
    Ok(violated == 0)
}
