//! What passes and what does not: two nodes, a guest, and packets made by hand.

#![allow(clippy::unwrap_used)]

mod host;

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use host::{Guest, Host, can_run, echo_request, guest_tap, join, node_address, table, udp4, udp6};
use net_mesh::{Mesh, MeshConfig};

async fn mesh() -> Mesh {
    Mesh::open(MeshConfig::default()).await.unwrap()
}

/// Two nodes; guests 1 and 2 are on the first, 3 on the second.
fn nodes(test: &str) -> (Host, Host) {
    let (a, b) = (Host::new(test, "a"), Host::new(test, "b"));
    join(&a, &b);
    a.inside(async || {
        mesh()
            .await
            .apply(&table(1, &[1, 2], &[(3, 2)]))
            .await
            .map(|_| ())
    })
    .unwrap();
    b.inside(async || {
        mesh()
            .await
            .apply(&table(2, &[3], &[(1, 1), (2, 1)]))
            .await
            .map(|_| ())
    })
    .unwrap();
    (a, b)
}

fn attach(host: &Host, index: u8) -> Guest {
    host.inside(async || Guest::attach(&guest_tap(index)))
}

/// A socket inside a host that gives up soon.
fn socket(host: &Host, at: SocketAddr) -> UdpSocket {
    let socket = host.inside(async || UdpSocket::bind(at)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> Option<(Vec<u8>, SocketAddr)> {
    let mut bytes = [0; 100];
    socket
        .recv_from(&mut bytes)
        .ok()
        .map(|(length, from)| (bytes[..length].to_vec(), from))
}

fn is_echo_reply(from: Ipv6Addr) -> impl Fn(&[u8]) -> bool {
    move |packet| {
        packet[0] >> 4 == 6 && packet[6] == 58 && packet[8..24] == from.octets() && packet[40] == 129
    }
}

#[test]
fn every_node_reaches_every_guest() {
    if !can_run("every_node_reaches_every_guest") {
        return;
    }
    let (a, b) = nodes("reach");
    let (one, mut three) = (attach(&a, 1), attach(&b, 3));
    assert!(a.ping(one.row.ipv6.into()), "its own node reaches the guest");
    assert!(b.ping(one.row.ipv6.into()), "another node reaches the guest");
    assert!(a.ping(three.row.ipv6.into()));
    // From guest to guest over two nodes.
    three.send(&echo_request(three.row.ipv6, one.row.ipv6));
    three.wait_for("answer of the other guest", is_echo_reply(one.row.ipv6));
    // And on one node.
    let mut two = attach(&a, 2);
    two.send(&echo_request(two.row.ipv6, one.row.ipv6));
    two.wait_for("answer of the neighbour", is_echo_reply(one.row.ipv6));
    // An instance that is nowhere is refused at once, not after a time-out.
    let nobody = guest_tap(9).ipv6.to_string();
    let output = a
        .command("ping")
        .args(["-c", "1", "-W", "9", &nobody])
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert!(
        said.to_lowercase().contains("no route") || said.contains("nreachable"),
        "{said}"
    );
}

#[test]
fn a_guest_speaks_only_as_itself() {
    if !can_run("a_guest_speaks_only_as_itself") {
        return;
    }
    let (a, b) = nodes("spoof");
    let mut one = attach(&a, 1);
    let (own, gateway) = (one.row.clone(), one.gateway());
    let port = 7000;
    let heard = socket(&b, (Ipv6Addr::UNSPECIFIED, port).into());
    let heard4 = socket(&b, (Ipv4Addr::UNSPECIFIED, port + 1).into());
    let to = node_address(2);
    let other = guest_tap(2);
    one.send_as(
        own.mac,
        gateway,
        &udp6(other.ipv6, to, port, b"another guest's address"),
    );
    one.send_as(
        own.mac,
        gateway,
        &udp6(node_address(1), to, port, b"the node's address"),
    );
    one.send_as(
        other.mac,
        gateway,
        &udp6(own.ipv6, to, port, b"another guest's card"),
    );
    one.send_as(own.mac, gateway, &udp6(own.ipv6, to, port, b"itself"));
    assert_eq!(
        receive(&heard),
        Some((b"itself".to_vec(), (own.ipv6, 4000).into()))
    );
    let to = Ipv4Addr::new(192, 0, 2, 2);
    one.send_as(
        own.mac,
        gateway,
        &udp4(other.ipv4, to, port + 1, b"another guest's address"),
    );
    one.send_as(
        own.mac,
        gateway,
        &udp4(Ipv4Addr::new(192, 0, 2, 1), to, port + 1, b"the host's address"),
    );
    one.send_as(own.mac, gateway, &udp4(own.ipv4, to, port + 1, b"itself"));
    let (text, from) = receive(&heard4).unwrap();
    assert_eq!(text, b"itself");
    assert_eq!(
        from.ip(),
        Ipv4Addr::new(192, 0, 2, 1),
        "IPv4 leaves under the node's address"
    );
}

#[test]
fn a_guest_reaches_the_nodes_dns_and_nothing_else_of_the_host() {
    if !can_run("a_guest_reaches_the_nodes_dns_and_nothing_else_of_the_host") {
        return;
    }
    let (a, _b) = nodes("host");
    let mut one = attach(&a, 1);
    let (own, gateway) = (one.row.clone(), one.gateway());
    let (dns, api) = (
        socket(&a, (Ipv6Addr::UNSPECIFIED, 53).into()),
        socket(&a, (Ipv6Addr::UNSPECIFIED, 8080).into()),
    );
    for to in [node_address(1), own.gateway_v6] {
        one.send_as(own.mac, gateway, &udp6(own.ipv6, to, 8080, b"let me in"));
        one.send_as(own.mac, gateway, &udp6(own.ipv6, to, 53, b"who is it"));
        assert_eq!(receive(&dns).unwrap().0, b"who is it");
    }
    one.send_as(
        own.mac,
        gateway,
        &udp4(own.ipv4, own.gateway_v4, 8080, b"let me in"),
    );
    one.send_as(
        own.mac,
        gateway,
        &udp4(own.ipv4, own.gateway_v4, 53, b"who is it"),
    );
    assert_eq!(receive(&dns).unwrap().0, b"who is it");
    one.send_as(own.mac, gateway, &echo_request(own.ipv6, node_address(1)));
    one.wait_for("the node's echo", is_echo_reply(node_address(1)));
    // All of these came before what was heard, on the same tap, so they would be here by now.
    api.set_nonblocking(true).unwrap();
    assert_eq!(receive(&api), None);
}

#[test]
fn a_host_that_was_no_router_passes_nothing_of_others() {
    if !can_run("a_host_that_was_no_router_passes_nothing_of_others") {
        return;
    }
    let (a, b) = nodes("router");
    // A third host on another link of the first.
    let c = Host::new("router", "c");
    host::run(
        "ip",
        &[
            "-n", &a.name, "link", "add", "lan0", "type", "veth", "peer", "name", "lan0", "netns", &c.name,
        ],
    );
    a.ip(&["addr", "add", "198.51.100.1/24", "dev", "lan0"]);
    a.ip(&["link", "set", "lan0", "up"]);
    c.ip(&["addr", "add", "198.51.100.2/24", "dev", "lan0"]);
    c.ip(&["link", "set", "lan0", "up"]);
    c.ip(&["route", "add", "192.0.2.0/24", "via", "198.51.100.1"]);
    c.ip(&["-6", "addr", "add", "2001:db8::2/64", "dev", "lan0", "nodad"]);
    a.ip(&["-6", "addr", "add", "2001:db8::1/64", "dev", "lan0", "nodad"]);
    c.ip(&["-6", "route", "add", "fdaa::/16", "via", "2001:db8::1"]);
    b.ip(&["route", "add", "198.51.100.0/24", "via", "192.0.2.1"]);
    b.ip(&[
        "-6",
        "route",
        "add",
        "2001:db8::/64",
        "via",
        &node_address(1).to_string(),
    ]);
    let one = attach(&a, 1);
    assert!(
        c.ping("198.51.100.1".parse().unwrap()),
        "the third host reaches the first"
    );
    let heard = socket(&b, (Ipv4Addr::UNSPECIFIED, 7000).into());
    let stranger = socket(&c, (Ipv4Addr::UNSPECIFIED, 0).into());
    stranger
        .send_to(b"through", (Ipv4Addr::new(192, 0, 2, 2), 7000))
        .unwrap();
    let stranger = socket(&c, (Ipv6Addr::UNSPECIFIED, 0).into());
    stranger.send_to(b"in", (one.row.ipv6, 7000)).unwrap();
    // A guest's own packet goes last and arrives.
    let mut one = one;
    let own = one.row.clone();
    one.send(&udp4(own.ipv4, Ipv4Addr::new(192, 0, 2, 2), 7000, b"a guest"));
    assert_eq!(receive(&heard).unwrap().0, b"a guest");
    let ours = one.packets.try_iter().any(|packet| packet.ends_with(b"in"));
    assert!(!ours, "a stranger reached the guest");
}
