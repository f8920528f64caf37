//! What becomes of an instance when its daemon is killed, and when its whole node is lost.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cluster::Cluster;
use tests::demo;
use tests::shell::{is_root, run, wait_for};

const BOOT: Duration = Duration::from_secs(240);

#[test]
fn a_killed_daemon_finds_its_machine_again_and_a_lost_node_is_replaced() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_loss needs root for namespaces and taps");
        return Ok(());
    }
    let mut cluster = Cluster::start(3)?;
    let shown = demo::show(&cluster, &mut |line| eprintln!("{line}"))?;

    // The daemon dies; the machine does not notice.
    let before = monitors(&cluster, shown.holder)?;
    ensure!(
        before.len() == 1,
        "one machine's monitor runs on the holder: {before:?}"
    );
    cluster.kill_daemon(shown.holder)?;
    cluster
        .fetch(&shown.name, shown.door, "/health")
        .context("the machine serves without its daemon")?;
    cluster.start_node(shown.holder)?;
    wait_for(
        "the daemon to know its machine again",
        Duration::from_secs(30),
        || {
            let list = cluster.form_json(shown.holder, &["instance", "list"])?;
            Ok(list.to_string().contains("\"running\"").then_some(()))
        },
    )?;
    wait_for("the agent to answer", Duration::from_secs(30), || {
        cluster.fetch(&shown.name, shown.door, "/health").map(Some)
    })?;
    ensure!(
        monitors(&cluster, shown.holder)? == before,
        "it is the same machine as before"
    );
    let log = cluster.form(
        shown.dns,
        &["instance", "logs", &instance_of(&cluster, shown.dns)?],
    )?;
    ensure!(!log.trim().is_empty(), "its log goes on");

    // What must outlive the node: another one holds a copy of the image, made ahead of need.
    let image = cluster.form_json(
        shown.dns,
        &["instance", "show", &instance_of(&cluster, shown.dns)?],
    )?["image"]
        .as_str()
        .context("the instance's image")?
        .to_owned();
    wait_for("another node to hold the image", BOOT, || {
        let mut others = cluster.running().into_iter().filter(|node| *node != shown.holder);
        Ok(others
            .any(|node| {
                cluster
                    .node_folder(node)
                    .join("blobs/blobs")
                    .join(&image)
                    .exists()
            })
            .then_some(()))
    })?;

    // The node is lost with all that ran there; another takes over under the same name and address.
    let address = instance_address(&cluster, shown.dns)?;
    cluster.lose_node(shown.holder)?;
    let holder = wait_for("the instance to be placed on another node", BOOT, || {
        let instance = instance_of(&cluster, shown.dns)?;
        let now = cluster.form_json(shown.dns, &["instance", "show", &instance])?;
        let holder = cluster.holder(&now)?;
        Ok((holder != shown.holder).then_some(holder))
    })?;
    ensure!(holder != shown.holder, "it moved");
    let answer = wait_for("the agent to answer under the same name", BOOT, || {
        let doors = cluster.resolve(shown.dns, &shown.name)?;
        let door = doors
            .into_iter()
            .find(|door| *door != cluster.address(shown.holder))
            .context("no front door is left")?;
        cluster.fetch(&shown.name, door, "/").map(Some)
    })?;
    ensure!(answer.contains("hello-agent"), "the agent answered: {answer}");
    ensure!(
        instance_address(&cluster, shown.dns)? == address,
        "it keeps its address"
    );

    // The lost node comes back: it gives up what is no longer its own, and holds the same state.
    cluster.start_node(shown.holder)?;
    cluster.wait_for_one_state(Duration::from_secs(60))?;
    wait_for("one machine to run in all", Duration::from_secs(60), || {
        let mut count = 0;
        for node in cluster.running() {
            count += monitors(&cluster, node)?.len();
        }
        Ok((count == 1).then_some(()))
    })?;
    Ok(())
}

/// Process ids of the monitors in a node's namespace.
fn monitors(cluster: &Cluster, node: usize) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for pid in run("ip", &["netns", "pids", &cluster.segment().namespace(node)])?.split_whitespace() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.starts_with("qemu") {
            found.push(pid.parse().context("a process id")?);
        }
    }
    Ok(found)
}

fn instance_of(cluster: &Cluster, node: usize) -> Result<String> {
    let list = cluster.form_json(node, &["instance", "list"])?;
    let first = tests::cluster::items(&list).first().context("an instance")?;
    Ok(first["id"].as_str().context("its id")?.to_owned())
}

fn instance_address(cluster: &Cluster, node: usize) -> Result<String> {
    let shown = cluster.form_json(node, &["instance", "show", &instance_of(cluster, node)?])?;
    Ok(shown["address"].as_str().context("its address")?.to_owned())
}
