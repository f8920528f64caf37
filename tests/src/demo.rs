//! The whole loop, shown: three nodes, an account, an agent from its Formfile, its answer by its name.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, items};
use crate::shell::{project, wait_for};

/// What the demo measured.
#[derive(Debug)]
pub struct Shown {
    /// The name that was asked for.
    pub name: String,
    /// What the agent answered.
    pub answer: String,
    /// Steps, with seconds since the ship began.
    pub timeline: Vec<(String, f64)>,
    /// Number of the node that runs the machine.
    pub holder: usize,
    /// Number of the node whose DNS was asked.
    pub dns: usize,
    /// Address of the front door that proxied the request.
    pub door: Ipv4Addr,
}

/// Ships `examples/hello-agent` and fetches its answer by name, resolved by one node and proxied by another
/// than the one that runs it. `say` gets a line for each step.
pub fn show(cluster: &Cluster, say: &mut dyn FnMut(&str)) -> Result<Shown> {
    cluster.form(0, &["account", "open", "demo", "--until", "final"])?;
    say("account `demo` is open, and that is final");
    let example = project().join("examples/hello-agent");
    let example = example.to_string_lossy();
    say("shipping examples/hello-agent: build, register, deploy, wait");
    let start = Instant::now();
    let shipped = cluster.form_json(0, &["ship", &example, "--timeout", "15m"])?;
    let mut timeline = timeline(&shipped);
    for (step, seconds) in &timeline {
        say(&format!("  {seconds:7.1} s  {step}"));
    }

    let instance = shipped["instance"]["id"]
        .as_str()
        .context("`form ship` named no instance")?;
    let shown = cluster.form_json(0, &["instance", "show", instance])?;
    let holder = cluster.holder(&shown)?;
    let others: Vec<usize> = cluster
        .running()
        .into_iter()
        .filter(|index| *index != holder)
        .collect();
    ensure!(
        others.len() >= 2,
        "the demo needs two nodes besides the one that runs the machine"
    );
    let (dns, proxy) = (others[0], others[1]);
    let name = "hello-agent.fog".to_owned();

    let door = wait_for(
        "the name to resolve to the other node's front door",
        Duration::from_secs(30),
        || {
            let doors = cluster.resolve(dns, &name)?;
            Ok(doors.into_iter().find(|door| *door == cluster.address(proxy)))
        },
    )?;
    let answer = wait_for("the agent's answer", Duration::from_secs(30), || {
        cluster.fetch(&name, door, "/").map(Some)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    timeline.push(("first answer".to_owned(), seconds));
    say(&format!("  {seconds:7.1} s  first answer"));
    say(&format!(
        "{name} was resolved by node {}, proxied by node {} and answered by the machine on node {}:",
        dns + 1,
        proxy + 1,
        holder + 1
    ));
    for line in answer.lines() {
        say(&format!("  | {line}"));
    }
    Ok(Shown {
        name,
        answer,
        timeline,
        holder,
        dns,
        door,
    })
}

/// Waits till every node says that nothing is tentative, and that it is at one height with the others; gives the
/// height.
pub fn wait_for_final(cluster: &Cluster) -> Result<u64> {
    wait_for("everything to be final", Duration::from_secs(30), || {
        let mut heights = Vec::new();
        for index in cluster.running() {
            let ledger = cluster.form_json(index, &["ledger", "status"])?;
            if ledger["tentative"] != 0 {
                return Ok(None);
            }
            heights.extend(ledger["finality"]["height"].as_u64());
        }
        heights.dedup();
        Ok(if heights.len() == 1 { heights.pop() } else { None })
    })
}

/// The steps that `form ship` timed, in seconds and in order.
fn timeline(shipped: &Value) -> Vec<(String, f64)> {
    items(&shipped["timeline"])
        .iter()
        .filter_map(|step| Some((step["step"].as_str()?.to_owned(), step["ms"].as_f64()? / 1000.0)))
        .collect()
}
