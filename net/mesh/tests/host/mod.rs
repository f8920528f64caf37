//! A host of its own for a test: a network namespace, and a guest that speaks on a tap from userspace.

#![allow(dead_code, unreachable_pub)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use net::address;
use net::guests::{GuestTable, GuestTap, NodeLink, RemoteGuest};

pub const LIMIT: Duration = Duration::from_secs(20);
pub const NETWORK: [u8; 32] = [0xaa; 32];

/// Says by name on stderr when a test cannot run here.
pub fn can_run(test: &str) -> bool {
    let tools = ["ip", "nft", "ping"].iter().all(|tool| {
        Command::new("sh")
            .args(["-c", &format!("command -v {tool}")])
            .output()
            .is_ok_and(|o| o.status.success())
    });
    let can = rustix::process::geteuid().is_root() && std::path::Path::new("/dev/net/tun").exists() && tools;
    if !can {
        eprintln!("SKIPPED {test}: needs root, /dev/net/tun, ip, nft and ping");
    }
    can
}

pub struct Host {
    pub name: String,
}

impl Host {
    pub fn new(test: &str, which: &str) -> Self {
        let name = format!("fm-{}-{test}-{which}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let host = Self { name };
        host.ip(&["link", "set", "lo", "up"]);
        // No router, whatever the machine below is; and addresses are usable without the usual second's wait.
        for setting in [
            "net.ipv4.ip_forward=0",
            "net.ipv6.conf.all.forwarding=0",
            "net.ipv6.conf.default.accept_dad=0",
        ] {
            run(
                "ip",
                &["netns", "exec", &host.name, "sysctl", "-q", "-w", setting],
            );
        }
        host
    }

    /// Runs an `ip` command in the namespace and returns what it prints.
    pub fn ip(&self, arguments: &[&str]) -> String {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Runs any command in the namespace.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Runs code on a thread inside the namespace, with a runtime of its own.
    pub fn inside<T: Send, F: Future<Output = T>>(&self, code: impl FnOnce() -> F + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.name)).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(move || {
                rustix::thread::move_into_link_name_space(space.as_fd(), None).unwrap();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async { tokio::time::timeout(LIMIT * 3, code()).await.unwrap() })
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    pub fn ping(&self, to: IpAddr) -> bool {
        let to = to.to_string();
        let output = self
            .command("ping")
            .args(["-c", "1", "-W", "3", &to])
            .output()
            .unwrap();
        output.status.success()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Joins two hosts by a cable; the ends are called `eth0` and have 192.0.2.`n`/24.
pub fn join(a: &Host, b: &Host) {
    run(
        "ip",
        &[
            "-n", &a.name, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", &b.name,
        ],
    );
    for (host, address) in [(a, "192.0.2.1/24"), (b, "192.0.2.2/24")] {
        host.ip(&["addr", "add", address, "dev", "eth0"]);
        host.ip(&["link", "set", "eth0", "up"]);
    }
    // The kernel sees the other end, and gives each its link-local address, a moment later.
    let start = Instant::now();
    while [a, b].iter().any(|host| {
        !host
            .ip(&["addr", "show", "dev", "eth0", "up"])
            .contains("inet6 fe80")
    }) {
        assert!(start.elapsed() < LIMIT, "the cable does not come up");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn guest_tap(index: u8) -> GuestTap {
    let id = [index; 32];
    GuestTap {
        tap: address::tap_name(&id),
        mac: address::mac_for(&id),
        ipv6: address::instance_address(&NETWORK, &id),
        gateway_v6: address::GATEWAY_IPV6,
        ipv4: address::guest_ipv4(u32::from(index)).unwrap(),
        gateway_v4: address::GATEWAY_IPV4,
    }
}

pub fn node_address(node: u8) -> Ipv6Addr {
    address::node_address(&NETWORK, &[node; 32])
}

/// The table of a node with guests of its own and guests on another node.
pub fn table(node: u8, taps: &[u8], remote: &[(u8, u8)]) -> GuestTable {
    GuestTable {
        node: Some(NodeLink {
            interface: "eth0".to_owned(),
            address: node_address(node),
            prefix: 64,
        }),
        taps: taps.iter().map(|index| guest_tap(*index)).collect(),
        remote: remote
            .iter()
            .map(|(index, via)| RemoteGuest {
                ipv6: address::instance_address(&NETWORK, &[*index; 32]),
                via: node_address(*via),
            })
            .collect(),
    }
}

/// A packet that reached a guest, without its Ethernet header.
pub type Packet = Vec<u8>;

/// A guest: answers neighbour solicitations, ARP and pings for its own addresses, hands everything else over.
pub struct Guest {
    pub row: GuestTap,
    file: File,
    pub packets: mpsc::Receiver<Packet>,
    gateway_mac: mpsc::Receiver<[u8; 6]>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

const HEADER: usize = 10;

impl Guest {
    /// Attaches to the tap of a row; to be called inside the host.
    pub fn attach(row: &GuestTap) -> Self {
        let fd: OwnedFd = net_mesh::tap::attach(&row.tap).unwrap();
        let file = File::from(fd);
        let (packets_in, packets) = mpsc::channel();
        let (gateway_in, gateway_mac) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let reader = Reader {
            row: row.clone(),
            file: file.try_clone().unwrap(),
            packets: packets_in,
            gateway_mac: gateway_in,
        };
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || reader.run(&stopped));
        Self {
            row: row.clone(),
            file,
            packets,
            gateway_mac,
            stop,
            thread: Some(thread),
        }
    }

    /// The Ethernet address of the host's end, asked for by a neighbour solicitation.
    pub fn gateway(&mut self) -> [u8; 6] {
        let start = Instant::now();
        loop {
            let link_local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x99);
            let mut body = vec![135, 0, 0, 0, 0, 0, 0, 0];
            body.extend(self.row.gateway_v6.octets());
            body.extend([1, 1]);
            body.extend(self.row.mac);
            let solicited = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 1);
            let packet = ipv6(
                link_local,
                solicited,
                58,
                255,
                &icmpv6(link_local, solicited, body),
            );
            self.send_as(self.row.mac, [0x33, 0x33, 0xff, 0, 0, 1], &packet);
            if let Ok(mac) = self.gateway_mac.recv_timeout(Duration::from_millis(300)) {
                return mac;
            }
            assert!(start.elapsed() < LIMIT, "the gateway does not answer");
        }
    }

    pub fn send_as(&mut self, from: [u8; 6], to: [u8; 6], packet: &[u8]) {
        let kind: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&[0; HEADER], &to[..], &from, &kind, packet].concat();
        self.file.write_all(&frame).unwrap();
    }

    pub fn send(&mut self, packet: &[u8]) {
        let gateway = self.gateway();
        self.send_as(self.row.mac, gateway, packet);
    }

    /// Waits for a packet that satisfies a condition.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Packet {
        let start = Instant::now();
        loop {
            let left = LIMIT.saturating_sub(start.elapsed());
            match self.packets.recv_timeout(left) {
                Ok(packet) if wanted(&packet) => return packet,
                Ok(_) => {}
                Err(_) => panic!("no {what} within {LIMIT:?}"),
            }
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Reader {
    row: GuestTap,
    file: File,
    packets: mpsc::Sender<Packet>,
    gateway_mac: mpsc::Sender<[u8; 6]>,
}

impl Reader {
    fn run(mut self, stop: &AtomicBool) {
        let mut frame = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            let mut fds = [rustix::event::PollFd::new(
                &self.file,
                rustix::event::PollFlags::IN,
            )];
            let wait = rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 50_000_000,
            };
            if rustix::event::poll(&mut fds, Some(&wait)) == Ok(0) {
                continue;
            }
            let Ok(length) = self.file.read(&mut frame) else {
                return;
            };
            if length > HEADER + 14 {
                self.on_frame(&frame[HEADER..length]);
            }
        }
    }

    fn on_frame(&mut self, frame: &[u8]) {
        let (header, packet) = frame.split_at(14);
        let from: [u8; 6] = header[6..12].try_into().unwrap();
        match [header[12], header[13]] {
            [8, 6] if packet[7] == 1 && packet[24..28] == self.row.ipv4.octets() => {
                let mut answer = packet[..28].to_vec();
                answer[7] = 2;
                answer[8..14].copy_from_slice(&self.row.mac);
                answer[14..18].copy_from_slice(&self.row.ipv4.octets());
                answer[18..28].copy_from_slice(&packet[8..18]);
                self.answer(from, [8, 6], &answer);
            }
            [0x86, 0xdd] if packet.len() >= 48 => self.on_ipv6(from, packet),
            [8, 0] => {
                let _ = self.packets.send(packet.to_vec());
            }
            _ => {}
        }
    }

    fn on_ipv6(&mut self, from: [u8; 6], packet: &[u8]) {
        let address = |at: usize| {
            let octets: [u8; 16] = packet[at..at + 16].try_into().unwrap();
            Ipv6Addr::from(octets)
        };
        let (source, to, body) = (address(8), address(24), &packet[40..]);
        match (packet[6], body[0]) {
            (58, 136) => {
                let _ = self.gateway_mac.send(from);
            }
            (58, 135) if body.len() >= 24 && body[8..24] == self.row.ipv6.octets() => {
                let mut answer = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
                answer.extend(self.row.ipv6.octets());
                answer.extend([2, 1]);
                answer.extend(self.row.mac);
                let body = icmpv6(self.row.ipv6, source, answer);
                self.answer(from, [0x86, 0xdd], &ipv6(self.row.ipv6, source, 58, 255, &body));
            }
            (58, 128) if to == self.row.ipv6 => {
                let mut answer = body.to_vec();
                answer[0] = 129;
                let body = icmpv6(to, source, answer);
                self.answer(from, [0x86, 0xdd], &ipv6(to, source, 58, 64, &body));
            }
            _ => {
                let _ = self.packets.send(packet.to_vec());
            }
        }
    }

    fn answer(&mut self, to: [u8; 6], kind: [u8; 2], body: &[u8]) {
        let frame = [&[0; HEADER], &to[..], &self.row.mac, &kind, body].concat();
        let _ = self.file.write_all(&frame);
    }
}

fn sum(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |low| u32::from(*low)))
        .sum()
}

fn checksum(mut total: u32) -> [u8; 2] {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    (!(total as u16)).to_be_bytes()
}

fn checked(from: &[u8], to: &[u8], protocol: u8, at: usize, mut body: Vec<u8>) -> Vec<u8> {
    body[at..at + 2].fill(0);
    let total = sum(from) + sum(to) + u32::from(protocol) + body.len() as u32 + sum(&body);
    body[at..at + 2].copy_from_slice(&checksum(total));
    body
}

/// An ICMPv6 message with its checksum.
pub fn icmpv6(from: Ipv6Addr, to: Ipv6Addr, body: Vec<u8>) -> Vec<u8> {
    checked(&from.octets(), &to.octets(), 58, 2, body)
}

pub fn ipv6(from: Ipv6Addr, to: Ipv6Addr, next: u8, hops: u8, body: &[u8]) -> Packet {
    let length = (body.len() as u16).to_be_bytes();
    [
        &[0x60, 0, 0, 0],
        &length[..],
        &[next, hops],
        &from.octets(),
        &to.octets(),
        body,
    ]
    .concat()
}

/// A ping.
pub fn echo_request(from: Ipv6Addr, to: Ipv6Addr) -> Packet {
    ipv6(
        from,
        to,
        58,
        64,
        &icmpv6(from, to, vec![128, 0, 0, 0, 0, 7, 0, 1, b'h', b'i']),
    )
}

fn udp_body(port: u16, text: &[u8]) -> Vec<u8> {
    let length = (8 + text.len() as u16).to_be_bytes();
    [
        &4000u16.to_be_bytes()[..],
        &port.to_be_bytes(),
        &length,
        &[0, 0],
        text,
    ]
    .concat()
}

/// A UDP datagram over IPv6.
pub fn udp6(from: Ipv6Addr, to: Ipv6Addr, port: u16, text: &[u8]) -> Packet {
    ipv6(
        from,
        to,
        17,
        64,
        &checked(&from.octets(), &to.octets(), 17, 6, udp_body(port, text)),
    )
}

/// A UDP datagram over IPv4.
pub fn udp4(from: Ipv4Addr, to: Ipv4Addr, port: u16, text: &[u8]) -> Packet {
    let body = checked(&from.octets(), &to.octets(), 17, 6, udp_body(port, text));
    let length = (20 + body.len() as u16).to_be_bytes();
    let mut header = [
        &[0x45, 0],
        &length[..],
        &[0, 0, 0, 0, 64, 17, 0, 0],
        &from.octets(),
        &to.octets(),
    ]
    .concat();
    let check = checksum(sum(&header));
    header[10..12].copy_from_slice(&check);
    [header, body].concat()
}
