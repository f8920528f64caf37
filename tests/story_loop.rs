//! The whole loop on three real nodes: an agent ships, answers by its name, stops, starts, gets a new
//! release, goes; and every node can tell the same of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::cluster::{Cluster, items};
use tests::demo;
use tests::shell::{is_root, project, run, wait_for};

const SOON: Duration = Duration::from_secs(30);
const BOOT: Duration = Duration::from_secs(180);

#[test]
fn an_agent_ships_answers_by_name_and_follows_its_owner() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_loop needs root for namespaces and taps");
        return Ok(());
    }
    let cluster = Cluster::start(3)?;
    let shown = demo::show(&cluster, &mut |line| eprintln!("{line}"))?;
    ensure!(
        shown.answer.contains("hello-agent"),
        "the agent answered: {}",
        shown.answer
    );
    cluster.wait_for_one_state(SOON)?;

    every_node_tells_the_same(&cluster)?;
    names_follow_dns_rules(&cluster, &shown)?;
    tasks_reach_the_agent(&shown)?;
    stop_and_start(&cluster, &shown)?;
    a_new_release_replaces_the_old_one(&cluster)?;
    delete_leaves_nothing(&cluster, &shown)?;
    a_formfile_of_the_earlier_system_ships_unchanged(&cluster)?;
    cluster.wait_for_one_state(SOON)?;
    Ok(())
}

/// Its agent listens on IPv4 only, as most did.
fn a_formfile_of_the_earlier_system_ships_unchanged(cluster: &Cluster) -> Result<()> {
    let example = project().join("examples/earlier-system");
    let shipped = cluster.form_json(2, &["ship", &example.to_string_lossy(), "--timeout", "10m"])?;
    let name = format!(
        "{}.fog",
        shipped["agent"]["name"].as_str().context("an agent's name")?
    );
    let holder = cluster.holder(&shipped["instance"])?;
    let door = cluster.address((holder + 1) % 3);
    wait_for("the agent to answer at another node's front door", SOON, || {
        ensure!(
            cluster.resolve(0, &name)?.contains(&door),
            "{name} does not lead to {door} yet"
        );
        cluster.fetch(&name, door, "/").map(Some)
    })?;
    Ok(())
}

fn every_node_tells_the_same(cluster: &Cluster) -> Result<()> {
    for node in cluster.running() {
        let instances = cluster.form_json(node, &["instance", "list"])?;
        ensure!(
            items(&instances).len() == 1,
            "node {} lists {instances}",
            node + 1
        );
        let log = cluster.form(
            node,
            &[
                "instance",
                "logs",
                items(&instances)[0]["name"].as_str().context("a name")?,
            ],
        )?;
        ensure!(!log.trim().is_empty(), "node {} shows an empty log", node + 1);
        let verified = cluster.form_json(node, &["ops", "verify"])?;
        ensure!(verified["faults"] == 0, "node {}: {verified}", node + 1);
        ensure!(
            verified["ops"].as_u64() > Some(10),
            "node {}: {verified}",
            node + 1
        );
    }
    let ops = cluster.form_json(1, &["ops", "log"])?;
    let first = items(&ops).first().context("an op")?["id"]
        .as_str()
        .context("its id")?
        .to_owned();
    let op = cluster.form_json(2, &["ops", "show", &first])?;
    ensure!(op["id"] == first.as_str(), "asked for {first}, got {op}");
    let domains = cluster.form_json(2, &["domain", "list"])?;
    ensure!(
        items(&domains).iter().any(|domain| domain["name"] == "hello.fog"),
        "DOMAINS of the Formfile is claimed: {domains}"
    );
    let status = cluster.form_json(0, &["node", "status"])?;
    ensure!(
        status.to_string().contains("accelerator"),
        "a node says what executes guests: {status}"
    );
    Ok(())
}

fn names_follow_dns_rules(cluster: &Cluster, shown: &demo::Shown) -> Result<()> {
    let server = format!("@{}", cluster.address(shown.dns));
    let dig = |arguments: &[&str]| {
        let mut all = vec![server.as_str(), "+time=2", "+tries=1"];
        all.extend(arguments);
        run("dig", &all)
    };
    ensure!(
        dig(&["nothing-here.fog", "A"])?.contains("NXDOMAIN"),
        "an unknown name does not exist"
    );
    ensure!(
        dig(&["+tcp", "+short", &shown.name, "A"])?.contains("10.91."),
        "TCP answers as UDP does"
    );
    ensure!(
        dig(&["+short", "hello.fog", "A"])?.contains("10.91."),
        "a claimed name leads to the front doors"
    );
    let six = dig(&["+short", "hello-agent.agent.form.internal", "AAAA"])?;
    ensure!(
        six.trim().starts_with("fd"),
        "instances have their own IPv6 addresses: {six}"
    );
    let node = dig(&["+short", "node2.node.form.internal", "A"])?;
    ensure!(
        node.trim() == cluster.address(1).to_string(),
        "nodes have names: {node}"
    );
    Ok(())
}

fn tasks_reach_the_agent(shown: &demo::Shown) -> Result<()> {
    let resolve = format!("{}:80:{}", shown.name, shown.door);
    let url = format!("http://{}/tasks", shown.name);
    let answer = run(
        "curl",
        &[
            "-sS",
            "--fail-with-body",
            "-m",
            "10",
            "--resolve",
            &resolve,
            "-H",
            "content-type: application/json",
            "-d",
            r#"{"task": "word-statistics", "text": "one two two"}"#,
            &url,
        ],
    )?;
    ensure!(
        serde_json::from_str::<serde_json::Value>(&answer).is_ok(),
        "a task is answered in JSON: {answer}"
    );
    let unknown = run(
        "curl",
        &[
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-m",
            "5",
            "-H",
            "host: nobody.fog",
            &format!("http://{}/", shown.door),
        ],
    )?;
    ensure!(unknown == "404", "an unknown host is 404: {unknown}");
    Ok(())
}

fn stop_and_start(cluster: &Cluster, shown: &demo::Shown) -> Result<()> {
    let instance = only_instance(cluster)?;
    cluster.form(0, &["instance", "stop", &instance, "--wait"])?;
    wait_for("the name to lose its target", SOON, || {
        Ok(cluster.resolve(shown.dns, &shown.name)?.is_empty().then_some(()))
    })?;
    let status = run(
        "curl",
        &[
            "-sS",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-m",
            "5",
            "-H",
            "host: hello-agent.fog",
            &format!("http://{}/", shown.door),
        ],
    )?;
    ensure!(
        status == "503",
        "a name without a healthy instance is 503: {status}"
    );
    cluster.form(1, &["instance", "start", &instance, "--wait", "--timeout", "3m"])?;
    wait_for("the agent to answer again", BOOT, || {
        cluster.fetch(&shown.name, shown.door, "/health").map(Some)
    })?;
    Ok(())
}

fn a_new_release_replaces_the_old_one(cluster: &Cluster) -> Result<()> {
    let before = only_instance(cluster)?;
    let example = project().join("examples/hello-agent");
    let shipped = cluster.form_json(1, &["ship", &example.to_string_lossy(), "--timeout", "10m"])?;
    ensure!(
        shipped["agent"]["version"].as_u64() >= Some(2),
        "it is another release of the same agent: {shipped}"
    );
    let after = shipped["instance"]["id"]
        .as_str()
        .context("an instance")?
        .to_owned();
    ensure!(before != after, "a release is a new instance");
    wait_for("the old instance to go", BOOT, || {
        let left = cluster.form_json(2, &["instance", "list"])?;
        Ok((items(&left).len() == 1).then_some(()))
    })?;
    Ok(())
}

fn delete_leaves_nothing(cluster: &Cluster, shown: &demo::Shown) -> Result<()> {
    let instance = only_instance(cluster)?;
    cluster.form(2, &["instance", "delete", &instance, "--wait"])?;
    wait_for("the machine's files to go", SOON, || {
        let mut left = 0;
        for node in cluster.running() {
            let machines = cluster.node_folder(node).join("machines");
            let entries =
                std::fs::read_dir(&machines).with_context(|| format!("listing {}", machines.display()))?;
            left += entries
                .flatten()
                .filter(|entry| entry.path().join("disk.ext4").exists())
                .count();
        }
        Ok((left == 0).then_some(()))
    })?;
    ensure!(
        cluster.resolve(shown.dns, &shown.name)?.is_empty(),
        "the name has no target any more"
    );
    Ok(())
}

fn only_instance(cluster: &Cluster) -> Result<String> {
    let list = cluster.form_json(0, &["instance", "list"])?;
    let [instance] = items(&list) else {
        anyhow::bail!("one instance is expected: {list}")
    };
    Ok(instance["id"].as_str().context("an id")?.to_owned())
}
