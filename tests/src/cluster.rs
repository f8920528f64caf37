//! Real nodes, one in each namespace of a [`Segment`], spoken to through the `form` command line.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::segment::Segment;
use crate::shell::{programs, run, text_of, wait_for};

/// Port of every node's API.
const API_PORT: u16 = 3004;

/// How long a node may take to answer after its start.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A network of nodes. Dropping it ends them, their machines and their namespaces.
#[derive(Debug)]
pub struct Cluster {
    daemons: Vec<Option<Child>>,
    segment: Segment,
    folder: TempDir,
    programs: PathBuf,
}

impl Cluster {
    /// Makes a network of `nodes`, of which the first certifies, and starts them all; returns when each knows
    /// all the others.
    pub fn start(nodes: usize) -> Result<Self> {
        Self::start_witnessed(nodes, 1)
    }

    /// As [`Self::start`]; the first `witnesses` of the nodes certify.
    pub fn start_witnessed(nodes: usize, witnesses: usize) -> Result<Self> {
        let mut cluster = Self {
            daemons: (0..nodes).map(|_| None).collect(),
            segment: Segment::new(nodes)?,
            folder: tempfile::Builder::new()
                .prefix("formation-")
                .tempdir()
                .context("making a folder")?,
            programs: programs()?,
        };
        cluster.form_offline(&["key", "new"])?;
        for index in 0..nodes {
            cluster.init(index, witnesses)?;
            cluster.start_node(index)?;
        }
        cluster.wait_for_members(nodes)?;
        Ok(cluster)
    }

    /// Gives a node its key, its settings and its invitation.
    fn init(&self, index: usize, witnesses: usize) -> Result<()> {
        let folder = self.node_folder(index);
        let (folder, address) = (folder.to_string_lossy().into_owned(), self.address(index));
        let name = format!("node{}", index + 1);
        let (udp, tcp) = (
            format!("/ip4/{address}/udp/53333/quic-v1"),
            format!("/ip4/{address}/tcp/53333"),
        );
        let (api, dns, proxy) = (
            format!("{address}:{API_PORT}"),
            format!("{address}:53"),
            format!("{address}:80"),
        );
        let address = address.to_string();
        let settings = [
            "node",
            "init",
            "--dir",
            &folder,
            "--name",
            &name,
            "--listen",
            &udp,
            "--listen",
            &tcp,
            "--api",
            &api,
            "--dns",
            &dns,
            "--proxy",
            &proxy,
            "--public-ipv4",
            &address,
            "--interface",
            "eth0",
            "--vcpus",
            "4",
            "--memory",
            "4096",
            "--disk",
            "64",
        ];
        let last: Vec<String> = if index == 0 {
            let mut begin = vec!["--network".into(), "demo".into()];
            for witness in 0..witnesses {
                let folder = self.node_folder(witness).to_string_lossy().into_owned();
                let key = self.form_offline(&["node", "key", "--dir", &folder])?;
                begin.extend(["--witness".into(), key.trim().to_owned()]);
            }
            begin
        } else {
            let key = self.form_offline(&["node", "key", "--dir", &folder])?;
            let first = self.node_folder(0);
            let peer = format!("/ip4/{}/udp/53333/quic-v1", self.address(0));
            let peer_tcp = format!("/ip4/{}/tcp/53333", self.address(0));
            let invitation = self.form_offline(&[
                "node",
                "invite",
                key.trim(),
                "--peer",
                &peer,
                "--peer",
                &peer_tcp,
                "--dir",
                &first.to_string_lossy(),
            ])?;
            vec!["--invitation".into(), invitation.trim().to_owned()]
        };
        let arguments: Vec<&str> = settings
            .into_iter()
            .chain(last.iter().map(String::as_str))
            .collect();
        self.form_offline(&arguments).map(drop)
    }

    /// Starts a node's daemon and waits until it answers.
    pub fn start_node(&mut self, index: usize) -> Result<()> {
        ensure!(self.daemons[index].is_none(), "node {} runs already", index + 1);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(index))
            .context("opening a node's log")?;
        let child = Command::new("ip")
            .args(["netns", "exec", &self.segment.namespace(index)])
            .arg(self.programs.join("form"))
            .args(["node", "run", "--dir"])
            .arg(self.node_folder(index))
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("sharing a node's log")?)
            .stderr(log)
            // Ctrl-C at the terminal is for us: we end the daemons in order.
            .process_group(0)
            .spawn()
            .context("starting a node")?;
        self.daemons[index] = Some(child);
        wait_for(&format!("node {} to answer", index + 1), START_LIMIT, || {
            let child = self.daemons[index].as_mut().expect("started above");
            if let Some(status) = child.try_wait().context("looking after a node")? {
                anyhow::bail!(
                    "node {} ended with {status}:\n{}",
                    index + 1,
                    tail(&self.log(index))
                );
            }
            self.form_json(index, &["status"]).map(Some)
        })
        .map(drop)
        .with_context(|| format!("log of node {}:\n{}", index + 1, tail(&self.log(index))))
    }

    /// Kills a node's daemon as `kill -9` does. Its machines go on.
    pub fn kill_daemon(&mut self, index: usize) -> Result<()> {
        let mut child = self.daemons[index]
            .take()
            .with_context(|| format!("node {} does not run", index + 1))?;
        // `ip netns exec` replaces itself by the daemon, so this is the daemon.
        child.kill().context("killing a node")?;
        child.wait().context("reaping a node")?;
        Ok(())
    }

    /// Asks a node's daemon to end, and waits for it. Its machines go on.
    pub fn stop_daemon(&mut self, index: usize) -> Result<()> {
        let mut child = self.daemons[index]
            .take()
            .with_context(|| format!("node {} does not run", index + 1))?;
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("asking a node to end")?;
        let ended = wait_for("a node to end", Duration::from_secs(20), || {
            child.try_wait().context("looking after a node")
        });
        if ended.is_err() {
            child.kill().context("killing a node")?;
            child.wait().context("reaping a node")?;
        }
        ended.map(drop)
    }

    /// Ends a node with all that runs on it, as a power cut does.
    pub fn lose_node(&mut self, index: usize) -> Result<()> {
        if self.daemons[index].is_some() {
            self.kill_daemon(index)?;
        }
        self.segment.end_processes(index)
    }

    /// Ends every process of the network, from outside of the thread that uses it.
    pub fn end_everything(&self) {
        for index in 0..self.segment.hosts() {
            if let Err(error) = self.segment.end_processes(index) {
                eprintln!("cleaning up: {error:#}");
            }
        }
    }

    /// Waits until every running node sees `count` nodes.
    pub fn wait_for_members(&self, count: usize) -> Result<()> {
        for index in self.running() {
            wait_for(
                &format!("node {} to see {count} nodes", index + 1),
                START_LIMIT,
                || {
                    let nodes = self.form_json(index, &["node", "list"])?;
                    let announced = items(&nodes)
                        .iter()
                        .filter(|node| node["name"].is_string())
                        .count();
                    Ok((announced >= count).then_some(()))
                },
            )
            .with_context(|| format!("log of node {}:\n{}", index + 1, tail(&self.log(index))))?;
        }
        Ok(())
    }

    /// Waits until the running nodes have folded the same state; returns its hash.
    pub fn wait_for_one_state(&self, limit: Duration) -> Result<String> {
        wait_for("the nodes to agree on one state", limit, || {
            let mut hashes = Vec::new();
            for index in self.running() {
                let status = self.form_json(index, &["status"])?;
                hashes.push(
                    status["state_hash"]
                        .as_str()
                        .context("a status without a state hash")?
                        .to_owned(),
                );
            }
            hashes.dedup();
            Ok(if hashes.len() == 1 { hashes.pop() } else { None })
        })
        .with_context(|| self.ledgers())
    }

    /// What each running node says of its ledger, for the words of a failure.
    fn ledgers(&self) -> String {
        let of = |index: usize| {
            let said = self.form(index, &["ledger", "status"]);
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            format!("node {}:\n{said}\n{}", index + 1, tail(&self.log(index)))
        };
        self.running().into_iter().map(of).collect::<Vec<_>>().join("\n")
    }

    /// Numbers of the nodes whose daemon runs.
    pub fn running(&self) -> Vec<usize> {
        (0..self.daemons.len())
            .filter(|index| self.daemons[*index].is_some())
            .collect()
    }

    /// Runs `form` against a node and returns what it printed.
    pub fn form(&self, node: usize, arguments: &[&str]) -> Result<String> {
        let output = self
            .form_command(Some(node), arguments)
            .output()
            .context("starting form")?;
        text_of(&output, &format!("form {}", arguments.join(" ")))
    }

    /// The same with `--output json`, read back.
    pub fn form_json(&self, node: usize, arguments: &[&str]) -> Result<Value> {
        let mut all = arguments.to_vec();
        all.extend(["--output", "json"]);
        let text = self.form(node, &all)?;
        serde_json::from_str(&text)
            .with_context(|| format!("`form {}` printed no JSON: {text}", all.join(" ")))
    }

    fn form_offline(&self, arguments: &[&str]) -> Result<String> {
        let output = self
            .form_command(None, arguments)
            .output()
            .context("starting form")?;
        text_of(&output, &format!("form {}", arguments.join(" ")))
    }

    /// A `form` command with this network's keys, against a node's API if one is given.
    pub fn form_command(&self, node: Option<usize>, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("form"));
        command
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("NO_COLOR", "1");
        if let Some(node) = node {
            command.env("FORM_API", self.api(node));
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Where a node's API is.
    pub fn api(&self, index: usize) -> String {
        format!("http://{}:{API_PORT}", self.address(index))
    }

    /// A node's address.
    pub fn address(&self, index: usize) -> Ipv4Addr {
        self.segment.address(index)
    }

    /// The namespaces.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// A node's folder.
    pub fn node_folder(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("n{}", index + 1))
    }

    /// Where the user's keys are: the value of `XDG_CONFIG_HOME`.
    pub fn config_home(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    /// The log of a node's daemon.
    pub fn log(&self, index: usize) -> PathBuf {
        self.folder.path().join(format!("n{}.log", index + 1))
    }

    /// The built programs.
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// The number of the node that an instance is placed on, from what `form instance show` says.
    pub fn holder(&self, instance: &Value) -> Result<usize> {
        let name = instance["node_name"]
            .as_str()
            .context("the instance names no node")?;
        let number: Option<usize> = name.strip_prefix("node").and_then(|number| number.parse().ok());
        number
            .and_then(|number| number.checked_sub(1))
            .with_context(|| format!("`{name}` is no node of this network"))
    }

    /// IPv4 addresses of a name, as a node's DNS gives them.
    pub fn resolve(&self, node: usize, name: &str) -> Result<Vec<Ipv4Addr>> {
        let server = format!("@{}", self.address(node));
        let answer = run("dig", &["+short", "+time=2", "+tries=1", &server, name, "A"])?;
        Ok(answer
            .lines()
            .filter_map(|line| line.trim().parse().ok())
            .collect())
    }

    /// `GET` by host name through the front door at an address.
    pub fn fetch(&self, name: &str, door: Ipv4Addr, path: &str) -> Result<String> {
        let (resolve, url) = (format!("{name}:80:{door}"), format!("http://{name}{path}"));
        run(
            "curl",
            &["-sS", "--fail-with-body", "-m", "10", "--resolve", &resolve, &url],
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for index in 0..self.daemons.len() {
            if self.daemons[index].is_some() {
                let _ = self.kill_daemon(index);
            }
        }
        if std::thread::panicking() || std::env::var_os("FORM_KEEP").is_some() {
            for index in 0..self.daemons.len() {
                eprintln!("--- log of node {} ---\n{}", index + 1, tail(&self.log(index)));
            }
        }
        // The segment ends the machines; what they had open goes with the folder.
    }
}

/// The last lines of a log.
pub fn tail(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// The list in a JSON answer: the answer itself, or its `items`.
pub fn items(answer: &Value) -> &[Value] {
    answer
        .as_array()
        .or_else(|| answer["items"].as_array())
        .map_or(&[], Vec::as_slice)
}
