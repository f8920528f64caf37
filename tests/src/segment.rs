//! Network namespaces joined by a bridge, with a way out by NAT; all of it goes when the value is dropped.
//!
//! ```text
//!   host ── 10.91.T.1 ─┐
//!                      ├─ bridge (in a namespace of its own) ─┬─ n1: 10.91.T.11
//!                      │                                      ├─ n2: 10.91.T.12
//! ```
//! The host's end gives the namespaces a way to the package mirror, which building an image needs. T is
//! chosen free, so that several segments stand beside each other.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::shell::{run, wait_for};

/// A set of joined namespaces.
#[derive(Debug)]
pub struct Segment {
    tag: u8,
    hosts: usize,
    forwarding: String,
}

impl Segment {
    /// Makes `hosts` namespaces on one bridge. Needs root.
    pub fn new(hosts: usize) -> Result<Self> {
        let tag = claim_tag()?;
        let forwarding = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").context("reading ip_forward")?;
        let segment = Self {
            tag,
            hosts,
            forwarding: forwarding.trim().to_owned(),
        };
        segment
            .build()
            .context("making the namespaces of a test network")?;
        Ok(segment)
    }

    fn build(&self) -> Result<()> {
        let switch = self.switch();
        let uplink = self.uplink();
        let ip = |arguments: &str| run("ip", &arguments.split_whitespace().collect::<Vec<_>>());
        ip(&format!("-n {switch} link set lo up"))?;
        ip(&format!("-n {switch} link add br0 type bridge"))?;
        ip(&format!("-n {switch} link set br0 up"))?;
        ip(&format!(
            "link add {uplink} type veth peer name uplink netns {switch}"
        ))?;
        ip(&format!("-n {switch} link set dev uplink master br0 up"))?;
        ip(&format!("addr add {}/24 dev {uplink}", self.host_address()))?;
        ip(&format!("link set {uplink} up"))?;
        for index in 0..self.hosts {
            let host = self.namespace(index);
            ip(&format!("netns add {host}"))?;
            ip(&format!("-n {host} link set lo up"))?;
            ip(&format!(
                "link add eth0 netns {host} type veth peer name p{index} netns {switch}"
            ))?;
            ip(&format!("-n {switch} link set p{index} master br0 up"))?;
            ip(&format!("-n {host} addr add {}/24 dev eth0", self.address(index)))?;
            ip(&format!("-n {host} link set eth0 up"))?;
            ip(&format!(
                "-n {host} route add default via {}",
                self.host_address()
            ))?;
        }
        fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("letting the namespaces out")?;
        let rules = format!(
            "table ip {table} {{\n chain out {{\n type nat hook postrouting priority 100;\n \
             ip saddr 10.91.{tag}.0/24 ip daddr != 10.91.{tag}.0/24 masquerade;\n }}\n}}\n",
            table = self.table(),
            tag = self.tag,
        );
        let file = tempfile::NamedTempFile::new().context("making a temporary file")?;
        fs::write(file.path(), rules).context("writing the NAT rules")?;
        run("nft", &["-f", &file.path().to_string_lossy()])?;
        self.write_resolvers()
    }

    /// Namespaces cannot reach a name server on the host's loopback: they get the one behind it.
    fn write_resolvers(&self) -> Result<()> {
        let host = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        if !host
            .lines()
            .any(|line| line.trim().starts_with("nameserver 127."))
        {
            return Ok(());
        }
        let behind = fs::read_to_string("/run/systemd/resolve/resolv.conf")
            .context("the host resolves through its loopback, and the servers behind it are not known")?;
        for index in 0..self.hosts {
            let folder = format!("/etc/netns/{}", self.namespace(index));
            fs::create_dir_all(&folder).with_context(|| format!("making {folder}"))?;
            fs::write(format!("{folder}/resolv.conf"), &behind)
                .with_context(|| format!("writing {folder}/resolv.conf"))?;
        }
        Ok(())
    }

    fn switch(&self) -> String {
        format!("form{}sw", self.tag)
    }

    fn uplink(&self) -> String {
        format!("form{}up", self.tag)
    }

    fn table(&self) -> String {
        format!("form{}", self.tag)
    }

    /// The name of a namespace.
    pub fn namespace(&self, index: usize) -> String {
        format!("form{}n{}", self.tag, index + 1)
    }

    /// The address of a namespace.
    pub fn address(&self, index: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 91, self.tag, 11 + index as u8)
    }

    /// The host's address on the segment.
    pub fn host_address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 91, self.tag, 1)
    }

    /// How many namespaces there are.
    pub fn hosts(&self) -> usize {
        self.hosts
    }

    /// Takes a namespace's cable out of the bridge, or puts it back.
    pub fn set_link(&self, index: usize, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        run(
            "ip",
            &["-n", &self.switch(), "link", "set", &format!("p{index}"), state],
        )
        .map(drop)
    }

    /// Ends every process that is in one of the namespaces: machines outlive their daemon by design.
    pub fn end_processes(&self, index: usize) -> Result<()> {
        let host = self.namespace(index);
        if !Path::new("/run/netns").join(&host).exists() {
            return Ok(());
        }
        wait_for(
            "the processes of a namespace to end",
            Duration::from_secs(20),
            || {
                let pids = run("ip", &["netns", "pids", &host])?;
                let pids: Vec<i32> = pids
                    .split_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .collect();
                for pid in &pids {
                    if let Some(pid) = rustix::process::Pid::from_raw(*pid) {
                        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                    }
                }
                Ok(pids.is_empty().then_some(()))
            },
        )
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let mut faults = Vec::new();
        for index in 0..self.hosts {
            let host = self.namespace(index);
            faults.extend(self.end_processes(index).err());
            let _ = run("ip", &["netns", "del", &host]);
            let _ = fs::remove_dir_all(format!("/etc/netns/{host}"));
        }
        let _ = run("ip", &["link", "del", &self.uplink()]);
        faults.extend(run("ip", &["netns", "del", &self.switch()]).err());
        let _ = run("nft", &["delete", "table", "ip", &self.table()]);
        let others = run("ip", &["netns", "list"]).unwrap_or_default();
        if !others
            .lines()
            .any(|line| line.starts_with("form") && line.contains("sw"))
        {
            let _ = fs::write("/proc/sys/net/ipv4/ip_forward", &self.forwarding);
        }
        for fault in faults {
            eprintln!("cleaning up the test network: {fault:#}");
        }
    }
}

/// A free number for a segment: making the switch's namespace claims it.
fn claim_tag() -> Result<u8> {
    let start = std::process::id() as u8;
    for step in 0..200u8 {
        let tag = 20 + start.wrapping_add(step) % 200;
        if run("ip", &["netns", "add", &format!("form{tag}sw")]).is_ok() {
            return Ok(tag);
        }
    }
    bail!("no network namespace can be made: this needs root, and fewer than 200 test networks")
}
