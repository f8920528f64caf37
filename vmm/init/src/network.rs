//! Brings up the loopback device and the network card, with the addresses and routes that the host gave.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use vmm::spec::Nic;

use crate::netlink;

/// A socket that takes requests one after the other.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// Opens it.
    pub(crate) fn open() -> Result<Self, String> {
        // No protocol stands for number 0, which is that of routes, addresses and links.
        rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            None,
        )
        .map(Netlink)
        .map_err(|error| format!("no netlink socket: {error}"))
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn ask(&mut self, what: &str, request: &[u8]) -> Result<(), String> {
        rustix::net::send(&self.0, request, SendFlags::empty())
            .map_err(|error| format!("{what}: {error}"))?;
        let mut bytes = [0; 4096];
        let (length, _) = rustix::net::recv(&self.0, &mut bytes, RecvFlags::empty())
            .map_err(|error| format!("{what}: {error}"))?;
        match netlink::answer(&bytes[..length.min(bytes.len())]) {
            Some(0) => Ok(()),
            Some(number) => Err(format!("{what}: {}", std::io::Error::from_raw_os_error(number))),
            None => Err(format!("{what}: the kernel answers with something else")),
        }
    }
}

/// Brings the network up.
pub(crate) fn up(nic: &Nic) -> Result<(), String> {
    let mut netlink = Netlink::open()?;
    netlink.ask("loopback device", &netlink::link_up(index("lo")?))?;
    let card = card()?;
    // Addresses come from the host, none from the link; and none must wait for a duplicate to speak up.
    for (setting, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("dad_transmits", "0")] {
        let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{card}/{setting}"), value);
    }
    let device = index(&card)?;
    netlink.ask(&card, &netlink::link_up(device))?;
    for address in [nic.ipv6.into(), nic.ipv4.into()] {
        netlink.ask(&format!("address {address}"), &netlink::address(device, address))?;
    }
    for gateway in [nic.gateway_v6.into(), nic.gateway_v4.into()] {
        netlink.ask(
            &format!("route by {gateway}"),
            &netlink::default_route(device, gateway),
        )?;
    }
    Ok(())
}

/// The network card: the one device that is not the loopback.
fn card() -> Result<String, String> {
    let entries = fs::read_dir("/sys/class/net").map_err(|error| format!("/sys/class/net: {error}"))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.retain(|name| name.starts_with("eth"));
    names.sort();
    names
        .into_iter()
        .next()
        .ok_or_else(|| "there is no network card".to_owned())
}

fn index(device: &str) -> Result<u32, String> {
    let path = format!("/sys/class/net/{device}/ifindex");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{path} holds no number"))
}
