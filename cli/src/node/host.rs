//! What this machine has to offer: processors, memory, disk, name servers.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use api::views::nodes::Role;
use ledger::report::nodes::{Capacity, Roles};

use super::config::NodeConfig;

/// What the node offers to machines: as told, else a cautious share of what there is.
pub fn capacity(config: &NodeConfig, data: &Path) -> Result<Capacity> {
    let vcpus = match config.vcpus {
        Some(vcpus) => vcpus,
        None => std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
    };
    let memory_mib = match config.memory_mib {
        Some(memory) => memory,
        None => memory_total_mib()? * 3 / 4,
    };
    let disk_gib = match config.disk_gib {
        Some(disk) => disk,
        None => disk_free_gib(data)? / 2,
    };
    Ok(Capacity {
        vcpus,
        memory_mib,
        disk_gib,
    })
}

fn memory_total_mib() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    Ok(kib.context("/proc/meminfo names no MemTotal: set `memory_mib` in node.json")? / 1024)
}

fn disk_free_gib(path: &Path) -> Result<u64> {
    let stat = rustix::fs::statvfs(path)
        .with_context(|| format!("asking for the free space at {}", path.display()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize) >> 30)
}

/// The parts that shall run here.
pub fn roles(names: &[String]) -> Result<(Roles, Vec<Role>)> {
    let mut roles = Roles {
        gateway: false,
        compute: false,
        builder: false,
        edge: false,
        witness: false,
    };
    let mut list = Vec::new();
    for name in names {
        let (part, role) = match name.as_str() {
            "gateway" => (&mut roles.gateway, Role::Gateway),
            "compute" => (&mut roles.compute, Role::Compute),
            "builder" => (&mut roles.builder, Role::Builder),
            "edge" => (&mut roles.edge, Role::Edge),
            "witness" => (&mut roles.witness, Role::Witness),
            other => bail!("`{other}` is no role: gateway, compute, builder, edge and witness are"),
        };
        if !*part {
            list.push(role);
        }
        *part = true;
    }
    Ok((roles, list))
}

/// Name servers for what is not ours: as told, else the host's.
pub fn upstreams(config: &NodeConfig) -> Vec<IpAddr> {
    if !config.resolvers.is_empty() {
        return config.resolvers.clone();
    }
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.trim().parse().ok())
        .collect()
}

/// IPv4 addresses at which clients reach this node: as told, else those that its doors listen at.
pub fn public_ipv4(config: &NodeConfig) -> Vec<Ipv4Addr> {
    if !config.public_ipv4.is_empty() {
        return config.public_ipv4.clone();
    }
    let mut addresses: Vec<Ipv4Addr> = config
        .proxy
        .iter()
        .filter_map(|listen| match listen.ip() {
            IpAddr::V4(address) if !address.is_unspecified() => Some(address),
            _ => None,
        })
        .collect();
    addresses.dedup();
    addresses
}
