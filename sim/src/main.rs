//! `form-sim`, started by `./dev sim`: runs whole networks from seeds.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use sim::options::Options;
use sim::world::{Summary, World};

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
        /// How many nodes.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=64))]
        nodes: u64,
        /// Check every signature.
        #[arg(long)]
        real_signatures: bool,
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
        /// How many nodes.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=64))]
        nodes: u64,
    },
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
        Command::Run { seed, nodes, real_signatures, trace } => {
            let mut options = Options::draw(seed, nodes as usize);
            options.real_signatures = real_signatures;
            println!("{}", serde_json::to_string_pretty(&options).context("printing the options")?);
            let begin = Instant::now();
            let summary = World::new(options, trace).run()?;
            for line in &summary.lines {
                println!("{line}");
            }
            print_summary(&summary, begin.elapsed().as_secs_f64());
            Ok(summary.violation.is_none())
        }
        Command::Swarm { from, seeds, nodes } => {
            let begin = Instant::now();
            for seed in from..from.saturating_add(seeds) {
                let summary = World::new(Options::draw(seed, nodes as usize), false).run()?;
                if let Some(violation) = &summary.violation {
                    println!("seed {seed}: {} does not hold: {}", violation.claim, violation.seen);
                    println!("repeat: ./dev sim run --seed {seed} --nodes {nodes} --trace");
                    return Ok(false);
                }
            }
            let seconds = begin.elapsed().as_secs_f64();
            println!("{seeds} seeds with {nodes} nodes, every claim held, {:.1} seeds/s", seeds as f64 / seconds);
            Ok(true)
        }
    }
}

fn print_summary(summary: &Summary, seconds: f64) {
    let (sent, lost) = summary.frames;
    println!("commands    {} asked, {} acknowledged", summary.asked, summary.acknowledged);
    println!("log         {} ops", summary.ops);
    println!("instances   {} in the view, {} machines run", summary.instances, summary.machines);
    println!("frames      {sent} sent, {lost} lost");
    let faults: Vec<String> = summary.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    println!("faults      {}", if faults.is_empty() { "none".into() } else { faults.join(", ") });
    println!("settled     {:.1} s after the faults ended", summary.settled_ms as f64 / 1000.0);
    println!("state       {}", summary.state);
    println!("trace       {} ({} events)", summary.trace, summary.events);
    println!("took        {seconds:.2} s");
    match &summary.violation {
        None => println!("every claim held"),
        Some(violation) => println!("VIOLATED    {}: {}", violation.claim, violation.seen),
    }
}
