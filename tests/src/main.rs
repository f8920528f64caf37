//! `form-demo`, started by `./dev demo`: a network of three nodes on this machine and an agent on it.
//!
//! With `--nodes N` there are more; from four on each of them certifies, otherwise the first alone does. With
//! `--check` it ends by itself after the agent's answer, with status 0 only if the answer came.
//! Everything that it made goes when it ends, also when it is interrupted or fails.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::cluster::Cluster;
use tests::{demo, shell};

/// Nodes, unless told otherwise.
const NODES: usize = 3;

/// Nodes, at most: they share one machine.
const NODES_MAX: usize = 8;

/// From so many nodes on all certify: three of four are a quorum, so any one may fail.
const WITNESSES_MIN: usize = 4;

fn main() -> ExitCode {
    let (mut check, mut nodes) = (false, Some(NODES));
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--check" => check = true,
            "--nodes" => nodes = arguments.next().and_then(|count| count.parse().ok()),
            _ => nodes = None,
        }
    }
    let Some(nodes) = nodes.filter(|nodes| (NODES..=NODES_MAX).contains(nodes)) else {
        eprintln!("usage: form-demo [--check] [--nodes {NODES}..{NODES_MAX}]");
        return ExitCode::from(2);
    };
    match run(check, nodes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Set by Ctrl-C or a request to end. The work runs in a thread of its own, so that an interrupt in the
/// middle of a build still leads to the clean-up.
fn interrupted() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [
        signal_hook::consts::SIGINT,
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGHUP,
    ] {
        signal_hook::flag::register(signal, Arc::clone(&flag)).context("listening for Ctrl-C")?;
    }
    Ok(flag)
}

fn run(check: bool, nodes: usize) -> Result<()> {
    if !shell::is_root() {
        bail!("the demo makes network namespaces and taps: run it as root");
    }
    let flag = interrupted()?;
    let begin = Instant::now();
    println!("starting {nodes} nodes, each in a network namespace of its own");
    let witnesses = if nodes >= WITNESSES_MIN { nodes } else { 1 };
    let cluster = Arc::new(Cluster::start_witnessed(nodes, witnesses)?);
    let ready = begin.elapsed().as_secs_f64();
    println!("{nodes} nodes know one another after {ready:.1} s");

    let worker = Arc::clone(&cluster);
    let work = std::thread::spawn(move || demo::show(&worker, &mut |line| println!("{line}")));
    while !work.is_finished() {
        if flag.load(Ordering::Relaxed) {
            // The worker's command fails once the nodes are gone; dropping the cluster ends them.
            cluster.end_everything();
            let _ = work.join();
            bail!("interrupted; everything was cleaned up");
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let shown = work.join().map_err(|_| anyhow::anyhow!("the demo panicked"))??;
    let state = cluster.wait_for_one_state(Duration::from_secs(30))?;
    println!("all nodes hold one state: {}", &state[..16.min(state.len())]);
    let height = demo::wait_for_final(&cluster)?;
    println!(
        "all that was said is final, at height {height}, certified by {}",
        if witnesses == 1 {
            "one witness".to_owned()
        } else {
            format!("more than two thirds of {witnesses} witnesses")
        }
    );
    if !check {
        look_around(&cluster, &shown);
        while !flag.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("cleaning up");
    }
    let steps: Vec<String> = shown
        .timeline
        .iter()
        .map(|(step, seconds)| format!("{step} {seconds:.1}s"))
        .collect();
    let total = begin.elapsed().as_secs_f64();
    drop(cluster);
    println!("demo: nodes {ready:.1}s, {}, all {total:.1}s", steps.join(", "));
    Ok(())
}

fn look_around(cluster: &Cluster, shown: &demo::Shown) {
    let form = format!(
        "XDG_CONFIG_HOME={} FORM_API={} {}",
        cluster.config_home().display(),
        cluster.api(0),
        cluster.programs().join("form").display()
    );
    println!("\nthe network runs; look around from another terminal:");
    for command in [
        "instance list",
        "instance logs hello-agent",
        "ops log",
        "ledger status",
        "node list",
        "status",
    ] {
        println!("  {form} {command}");
    }
    println!("  dig @{} {}", cluster.address(shown.dns), shown.name);
    println!("  curl --resolve {0}:80:{1} http://{0}/", shown.name, shown.door);
    println!("Ctrl-C ends it and cleans up.");
}
