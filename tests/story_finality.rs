//! Four witnesses, of which one after the other is killed in the middle of its votes: what was answered as final
//! stays so, nobody votes twice, and in the end all is final on all nodes.

mod writing;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ledger::id::NetworkId;
use tests::cluster::{Cluster, items};
use tests::demo::wait_for_final;
use tests::shell::is_root;
use writing::write;

const WITNESSES: usize = 4;

/// How many write at once; each waits for final.
const WRITERS: usize = 3;

/// How often a witness is killed: `./dev test --long` does it more often.
fn kills() -> usize {
    if std::env::var_os("FORMATION_LONG").is_some() {
        60
    } else {
        6
    }
}

#[test]
fn what_was_answered_as_final_stays_though_witnesses_are_killed_as_they_vote() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_finality needs root for namespaces");
        return Ok(());
    }
    let mut cluster = Cluster::start_witnessed(WITNESSES, WITNESSES)?;
    let status = cluster.form_json(0, &["status"])?;
    let network: NetworkId = status["network"].as_str().context("the network's id")?.parse()?;
    let (mut names, mut alone) = (Vec::new(), 0);
    for round in 0..kills() {
        // Who is asked dies as well now and then; the others go on without it.
        let (asked, killed) = (round % WITNESSES, (round * 3 + round / 4) % WITNESSES);
        let address = SocketAddr::from((cluster.address(asked), 3004));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| std::thread::spawn(move || write(address, network, round, writer, "final")))
            .collect();
        std::thread::sleep(Duration::from_millis(500 + (round as u64 * 177) % 400));
        cluster.kill_daemon(killed)?;
        std::thread::sleep(Duration::from_millis(700));
        if killed != asked {
            // The writers end with the node that they write to.
            cluster.kill_daemon(asked)?;
            alone += 1;
        }
        for writer in writers {
            let (answered, _) = writer
                .join()
                .map_err(|_| anyhow::anyhow!("a writer panicked"))??;
            names.extend(answered);
        }
        cluster.start_node(killed)?;
        if killed != asked {
            cluster.start_node(asked)?;
        }
        cluster.wait_for_members(WITNESSES)?;
    }
    let height = wait_for_final(&cluster)?;
    cluster.wait_for_one_state(Duration::from_secs(30))?;
    for node in 0..WITNESSES {
        let ledger = cluster.form_json(node, &["ledger", "status"])?;
        ensure!(
            ledger["alarm"].is_null(),
            "node {node} alarms: {}",
            ledger["alarm"]
        );
        for fault in ["evidence", "contradicted"] {
            ensure!(
                ledger["finality"]["counters"][fault] == 0,
                "node {node}: {ledger}"
            );
        }
        let accounts = cluster.form_json(node, &["account", "list"])?;
        for name in &names {
            let held = items(&accounts)
                .iter()
                .any(|account| account["name"] == name.as_str());
            ensure!(held, "{name} was answered as final; node {node} does not have it");
        }
    }
    eprintln!(
        "{} commands answered as final through {} kills, all there at height {height}",
        names.len(),
        kills() + alone
    );
    ensure!(!names.is_empty(), "nothing became final: the test shows nothing");
    Ok(())
}
