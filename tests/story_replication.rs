//! What was said reaches everybody, and what was acknowledged survives `kill -9`.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, items};
use tests::shell::is_root;

const SOON: Duration = Duration::from_secs(30);

/// How often a node is killed while it is written to.
const KILLS: usize = 10;

/// How many write to it at once.
const WRITERS: usize = 6;

#[test]
fn a_node_that_was_away_catches_up_and_all_hold_one_state() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_replication needs root for namespaces");
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    cluster.form(0, &["account", "open", "before"])?;
    cluster.wait_for_one_state(SOON)?;
    cluster.stop_daemon(2)?;
    for number in 0..20 {
        let key = format!("key-{number}");
        cluster.form(0, &["key", "new", &key])?;
        cluster.form(number % 2, &["account", "open", &format!("away-{number}"), "--key", &key])?;
    }
    cluster.start_node(2)?;
    let state = cluster.wait_for_one_state(SOON)?;
    ensure!(state.len() == 64, "a state hash: {state}");
    let accounts = cluster.form_json(2, &["account", "list"])?;
    ensure!(items(&accounts).len() == 21, "the node that was away knows all accounts: {accounts}");

    // A cable that is pulled and put back changes nothing in the end.
    cluster.segment().set_link(1, false)?;
    cluster.form(0, &["key", "new", "split"])?;
    cluster.form(0, &["account", "open", "split", "--key", "split"])?;
    cluster.segment().set_link(1, true)?;
    cluster.wait_for_one_state(Duration::from_secs(60))?;
    Ok(())
}

#[test]
fn an_acknowledged_op_survives_the_kill_of_its_node() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_replication needs root for namespaces");
        return Ok(());
    }
    let mut cluster = Cluster::start(1)?;
    let mut acknowledged = Vec::new();
    let mut seed = u64::from(std::process::id());
    for round in 0..KILLS {
        let names: Vec<String> = (0..WRITERS).map(|writer| format!("r{round}-w{writer}")).collect();
        for name in &names {
            cluster.form(0, &["key", "new", name])?;
        }
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(15 + (seed >> 33) % 150);
        let begin = Instant::now();
        let mut writers = Vec::new();
        for name in names {
            let mut command = cluster.form_command(Some(0), &["account", "open", &name, "--key", &name]);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            writers.push((name, command.spawn().context("starting form")?));
        }
        // The node dies at a random moment of its writes: before, in the middle, after.
        std::thread::sleep(life.saturating_sub(begin.elapsed()));
        cluster.kill_daemon(0)?;
        for (name, mut writer) in writers {
            if writer.wait().context("waiting for form")?.success() {
                acknowledged.push(name);
            }
        }
        cluster.start_node(0)?;
        let accounts = cluster.form_json(0, &["account", "list"])?;
        for name in &acknowledged {
            ensure!(
                items(&accounts).iter().any(|account| account["name"] == name.as_str()),
                "{name} was acknowledged and is lost after {life:?} in round {round}"
            );
        }
        let verified = cluster.form_json(0, &["ops", "verify"])?;
        ensure!(verified["faults"] == 0, "nothing half done is there: {verified}");
    }
    let asked = KILLS * WRITERS;
    eprintln!("{} of {asked} commands were acknowledged before a kill, none was lost", acknowledged.len());
    ensure!(!acknowledged.is_empty(), "no command was acknowledged in time: the test shows nothing");
    Ok(())
}
