//! Bad input gets a clear refusal and harms nothing, through the running programs.

use std::fs;
use std::path::Path;
use std::process::Command as Process;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ledger::command::accounts::OpenAccount;
use ledger::command::{Body, Command, SignedCommand};
use ledger::id::NetworkId;
use ledger::key::SecretKey;
use serde_json::Value;
use tests::cluster::{Cluster, items};
use tests::shell::{is_root, wait_for};

#[test]
fn what_is_wrong_is_refused_and_said_so() -> Result<()> {
    if !is_root() {
        eprintln!("skipped: story_refusals needs root for namespaces and taps");
        return Ok(());
    }
    let cluster = Cluster::start(1)?;
    cluster.form(0, &["account", "open", "owner"])?;
    commands(&cluster)?;
    formfiles(&cluster)?;
    names(&cluster)?;
    instances(&cluster)?;
    cluster
        .form(0, &["status"])
        .context("the node serves as before")?;
    Ok(())
}

/// What an API answered to posted bytes: status and body.
fn post(cluster: &Cluster, bytes: &[u8]) -> Result<(u16, Value)> {
    let file = tempfile::NamedTempFile::new().context("a file for the body")?;
    fs::write(file.path(), bytes).context("writing the body")?;
    let output = Process::new("curl")
        .args([
            "-sS",
            "-m",
            "20",
            "-w",
            "\n%{http_code}",
            "-H",
            "content-type: application/octet-stream",
            "--data-binary",
        ])
        .arg(format!("@{}", file.path().display()))
        .arg(format!("{}/v1/commands", cluster.api(0)))
        .output()
        .context("starting curl")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text
        .rsplit_once('\n')
        .with_context(|| format!("curl printed `{text}`"))?;
    Ok((
        status.trim().parse()?,
        serde_json::from_str(body).unwrap_or(Value::Null),
    ))
}

fn network(cluster: &Cluster) -> Result<NetworkId> {
    let status = cluster.form_json(0, &["status"])?;
    Ok(status["network"].as_str().context("the network's id")?.parse()?)
}

fn open(network: NetworkId, secret: &SecretKey, nonce: u8, not_after_ms: u64, name: &str) -> SignedCommand {
    let body = Body::OpenAccount(OpenAccount { name: name.into() });
    let command = Command {
        key: secret.public(),
        nonce: [nonce; 16],
        not_after_ms,
        after: Vec::new(),
        body,
    };
    command.sign(network, secret)
}

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_millis() as u64
}

fn commands(cluster: &Cluster) -> Result<()> {
    let network = network(cluster)?;
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| anyhow::anyhow!("{error}"))?;
    let secret = SecretKey::from_seed(seed);
    let soon = now_ms() + 60_000;
    let refused = |what: &str, bytes: &[u8]| -> Result<()> {
        let (status, problem) = post(cluster, bytes)?;
        ensure!((400..500).contains(&status), "{what}: {status} {problem}");
        ensure!(
            problem["title"].is_string() && problem["status"] == status,
            "{what} is a problem: {problem}"
        );
        Ok(())
    };
    let good = open(network, &secret, 1, soon, "hostile");

    let mut forged = good.bytes().to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    refused("a forged signature", &forged)?;
    for length in [0, 1, 40, good.bytes().len() - 1] {
        refused("a truncated command", &good.bytes()[..length])?;
    }
    refused("a command with a tail", &[good.bytes(), &[0]].concat())?;
    refused("an oversize body", &vec![7; 4 << 20])?;
    refused(
        "an expired command",
        open(network, &secret, 2, now_ms() - 1_000, "late").bytes(),
    )?;
    refused(
        "a command for too long",
        open(network, &secret, 3, soon + 48 * 3_600_000, "long").bytes(),
    )?;
    refused(
        "another network's command",
        open(NetworkId([7; 32]), &secret, 4, soon, "other").bytes(),
    )?;

    // Posted twice, a command counts once and answers the same.
    let (status, first) = post(cluster, good.bytes())?;
    ensure!((200..300).contains(&status), "a good command: {status} {first}");
    let (status, again) = post(cluster, good.bytes())?;
    ensure!(
        (200..300).contains(&status) && first["op"] == again["op"],
        "the same again: {status} {again}"
    );
    // Another command with the same nonce does not.
    refused(
        "a replayed nonce",
        open(network, &secret, 1, soon, "second").bytes(),
    )?;
    let accounts = cluster.form_json(0, &["account", "list"])?;
    let names: Vec<&str> = items(&accounts)
        .iter()
        .filter_map(|account| account["name"].as_str())
        .collect();
    ensure!(
        names.len() == 2 && names.contains(&"hostile"),
        "only the good command counts: {names:?}"
    );
    Ok(())
}

fn fails(cluster: &Cluster, arguments: &[&str], code: i32, says: &[&str]) -> Result<()> {
    let output = cluster
        .form_command(Some(0), arguments)
        .output()
        .context("starting form")?;
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        output.status.code() == Some(code),
        "`form {}` ended with {}: {text}",
        arguments.join(" "),
        output.status
    );
    for word in says {
        ensure!(
            text.contains(word),
            "`form {}` should say `{word}`: {text}",
            arguments.join(" ")
        );
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    fs::write(folder.join(name), text).with_context(|| format!("writing {name}"))
}

const TEN_MISTAKES: &str = "\
NAME first
NAME second
VCPU many
MEM 12
DISK 1
WORKDIR relative/path
ENTRYPOINT [\"unclosed
FLAVOUR vanilla
ENV 1BAD=x
USER colour:blue
GPU ABACUS
";

fn formfiles(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder")?;
    write(folder.path(), "Formfile", TEN_MISTAKES)?;
    let path = folder.path().join("Formfile").to_string_lossy().into_owned();
    let lines = [
        ":2:", ":3:", ":4:", ":5:", ":6:", ":7:", ":8:", ":9:", ":10:", ":11:",
    ];
    fails(cluster, &["pack", "validate", &path], 1, &lines)?;

    write(
        folder.path(),
        "Formfile",
        "NAME escape\nCOPY ../../etc/passwd /stolen\nENTRYPOINT [\"/bin/true\"]\n",
    )?;
    let output = cluster
        .form_command(Some(0), &["pack", "build", &folder.path().to_string_lossy()])
        .output()?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success() && text.contains(".."),
        "COPY of ../../etc/passwd: {text}"
    );
    Ok(())
}

fn names(cluster: &Cluster) -> Result<()> {
    cluster.form(0, &["key", "new", "other"])?;
    fails(
        cluster,
        &["account", "open", "owner", "--key", "other"],
        4,
        &["taken"],
    )
}

fn instances(cluster: &Cluster) -> Result<()> {
    let folder = tempfile::tempdir().context("a folder")?;
    let context = folder.path().to_string_lossy().into_owned();
    write(folder.path(), "quit.sh", "#!/bin/sh\necho going down\nexit 3\n")?;

    // Larger than anything here.
    let huge =
        "NAME huge\nVCPU 64\nMEM 250000\nCOPY quit.sh /quit.sh\nENTRYPOINT [\"/bin/sh\", \"/quit.sh\"]\n";
    write(folder.path(), "Formfile", huge)?;
    fails(cluster, &["ship", &context, "--timeout", "10m"], 7, &["node1"])?;

    // Starts and ends at once.
    let quits =
        "NAME quits\nVCPU 1\nMEM 512\nCOPY quit.sh /quit.sh\nENTRYPOINT [\"/bin/sh\", \"/quit.sh\"]\n";
    write(folder.path(), "Formfile", quits)?;
    fails(cluster, &["ship", &context, "--timeout", "10m"], 1, &["3"])?;
    let shown = wait_for(
        "the failed instance to show itself",
        Duration::from_secs(30),
        || {
            let list = cluster.form_json(0, &["instance", "list"])?;
            let failed = items(&list)
                .iter()
                .find(|instance| instance["state"] == "failed")
                .cloned();
            Ok(failed)
        },
    )?;
    ensure!(shown["exit_code"] == 3, "its exit status is shown: {shown}");
    let log = cluster.form(0, &["instance", "logs", shown["id"].as_str().context("an id")?])?;
    ensure!(log.contains("going down"), "its log is there: {log}");
    Ok(())
}
