//! What was said reaches everybody, and what was acknowledged survives `kill -9`.

mod writing;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ledger::id::NetworkId;
use tests::cluster::{Cluster, items};
use tests::shell::is_root;
use writing::write;

const SOON: Duration = Duration::from_secs(30);

/// How often a node is killed while it is written to.
const KILLS: usize = 10;

/// How often a node is killed that answered when others held what it was told: `./dev test --long` does it more
/// often.
fn kills_with_copies() -> usize {
    if std::env::var_os("FORMATION_LONG").is_some() {
        100
    } else {
        8
    }
}

/// How many write to it at once.
const WRITERS: usize = 4;

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
        cluster.form(
            number % 2,
            &["account", "open", &format!("away-{number}"), "--key", &key],
        )?;
    }
    cluster.start_node(2)?;
    let state = cluster.wait_for_one_state(SOON)?;
    ensure!(state.len() == 64, "a state hash: {state}");
    let accounts = cluster.form_json(2, &["account", "list"])?;
    ensure!(
        items(&accounts).len() == 21,
        "the node that was away knows all accounts: {accounts}"
    );

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
    let network: NetworkId = {
        let status = cluster.form_json(0, &["status"])?;
        status["network"].as_str().context("the network's id")?.parse()?
    };
    let mut acknowledged = 0;
    let mut cut_off = 0;
    let mut seed = u64::from(std::process::id());
    for round in 0..KILLS {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let life = Duration::from_millis(40 + (seed >> 33) % 400);
        let address = SocketAddr::from((cluster.address(0), 3004));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| std::thread::spawn(move || write(address, network, round, writer, "tentative")))
            .collect();
        // The node dies at a random moment of its writes: before, in the middle, after.
        std::thread::sleep(life);
        cluster.kill_daemon(0)?;
        let mut names = Vec::new();
        for writer in writers {
            let (answered, last) = writer
                .join()
                .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
            names.extend(answered);
            cut_off += usize::from(last);
        }
        cluster.start_node(0)?;
        let held = all_accounts(&cluster, 0)?;
        for name in &names {
            ensure!(
                held.contains(name),
                "{name} was acknowledged and is lost after {life:?} in round {round}"
            );
        }
        acknowledged += names.len();
        let verified = cluster.form_json(0, &["ops", "verify"])?;
        ensure!(verified["faults"] == 0, "nothing half done is there: {verified}");
    }
    eprintln!(
        "{KILLS} kills: {acknowledged} acknowledged commands, none lost; {cut_off} cut off in the middle"
    );
    ensure!(
        acknowledged > 0 && cut_off > 0,
        "the kills met no writes: the test shows nothing"
    );
    Ok(())
}

/// Corrosion, measured: one second after its writer was killed, the peers held every acknowledged row in 1 of 7
/// tries.
#[test]
fn what_was_answered_as_replicated_is_held_by_others_when_its_node_is_killed() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_replication needs root for namespaces");
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    let status = cluster.form_json(0, &["status"])?;
    let network: NetworkId = status["network"].as_str().context("the network's id")?.parse()?;
    let (mut acknowledged, mut cut_off) = (0, 0);
    let kills = kills_with_copies();
    for round in 0..kills {
        let life = Duration::from_millis(60 + (round as u64 * 137) % 300);
        let address = SocketAddr::from((cluster.address(0), 3004));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| std::thread::spawn(move || write(address, network, round, writer, "replicated:1")))
            .collect();
        std::thread::sleep(life);
        cluster.kill_daemon(0)?;
        // At once: nobody could tell them anything any more.
        let held: BTreeSet<String> = [1, 2]
            .into_iter()
            .map(|other| all_accounts(&cluster, other))
            .collect::<Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect();
        for writer in writers {
            let (answered, last) = writer
                .join()
                .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
            for name in &answered {
                ensure!(
                    held.contains(name),
                    "{name} was answered as replicated; no other node holds it"
                );
            }
            acknowledged += answered.len();
            cut_off += usize::from(last);
        }
        cluster.start_node(0)?;
        cluster.wait_for_members(3)?;
    }
    eprintln!("{kills} of {kills} kills: {acknowledged} commands answered as replicated, all held by others");
    ensure!(
        acknowledged > kills && cut_off > 0,
        "the kills met no writes: the test shows nothing"
    );
    Ok(())
}

fn all_accounts(cluster: &Cluster, node: usize) -> Result<BTreeSet<String>> {
    let accounts = cluster.form_json(node, &["account", "list"])?;
    Ok(items(&accounts)
        .iter()
        .filter_map(|account| account["name"].as_str().map(str::to_owned))
        .collect())
}
