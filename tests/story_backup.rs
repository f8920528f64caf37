//! The drill: a node is backed up, its disk is lost, it comes back from the file.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, items};
use tests::shell::is_root;

const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_node_whose_disk_is_lost_comes_back_from_its_backup() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_backup needs root for namespaces");
        return Ok(());
    }
    let mut cluster = Cluster::start(2)?;
    cluster.form(0, &["account", "open", "before"])?;
    cluster.wait_for_one_state(SOON)?;
    let folder = cluster.node_folder(1);
    let dir = folder.to_str().context("a path in UTF-8")?;
    let file = folder.with_extension("backup");
    let name = file.to_str().context("a path in UTF-8")?;

    // While it runs, and what is there is not written over.
    cluster.form(1, &["backup", name, "--dir", dir])?;
    ensure!(
        cluster.form(1, &["backup", name, "--dir", dir]).is_err(),
        "the file is there already"
    );
    let exported = folder.with_extension("export");
    let export = cluster.form_json(1, &["ops", "export", exported.to_str().context("a path")?])?;
    ensure!(export["ops"].as_u64().is_some_and(|ops| ops > 2), "{export}");
    cluster.form(1, &["key", "new", "after"])?;
    cluster.form(1, &["account", "open", "after", "--key", "after"])?;
    cluster.wait_for_one_state(SOON)?;
    let node = |cluster: &Cluster| -> Result<(String, String)> {
        let status = cluster.form_json(1, &["node", "status"])?;
        let field = |name: &str| status["node"][name].as_str().map(str::to_owned);
        Ok((
            field("id").context("an id")?,
            field("incarnation").context("an incarnation")?,
        ))
    };
    let (id, incarnation) = node(&cluster)?;

    cluster.kill_daemon(1)?;
    std::fs::remove_dir_all(&folder)?;
    let restored = cluster.form_json(1, &["restore", name, "--dir", dir])?;
    ensure!(restored["node"] == id.as_str(), "the same node: {restored}");
    ensure!(
        cluster.form(1, &["restore", name, "--dir", dir]).is_err(),
        "a node that is there is not written over"
    );
    cluster.start_node(1)?;
    cluster.wait_for_one_state(SOON)?;
    let (same, later) = node(&cluster)?;
    ensure!(
        same == id && later != incarnation,
        "another start of the same node"
    );
    let accounts = cluster.form_json(1, &["account", "list"])?;
    ensure!(
        items(&accounts).len() == 2,
        "what it missed came from its peer: {accounts}"
    );
    let verified = cluster.form_json(1, &["ops", "verify"])?;
    ensure!(verified["faults"] == 0, "{verified}");
    cluster.form(1, &["key", "new", "more"])?;
    cluster.form(1, &["account", "open", "more", "--key", "more"])?;
    cluster.wait_for_one_state(SOON)?;

    // A file that was damaged on its shelf is refused, and nothing is made of it.
    let mut bytes = std::fs::read(&file)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let damaged = folder.with_extension("damaged");
    std::fs::write(&damaged, bytes)?;
    let other = folder.with_extension("other");
    let refused = cluster.form(
        1,
        &[
            "restore",
            damaged.to_str().context("a path")?,
            "--dir",
            other.to_str().context("a path")?,
        ],
    );
    ensure!(refused.is_err() && !other.join("ledger").exists(), "{refused:?}");
    Ok(())
}
