//! What stands in the kernel after an apply: links, addresses, routes, rules. In namespaces of its own.

#![allow(clippy::unwrap_used)]

mod host;

use host::{Guest, Host, can_run, guest_tap, join, table};
use net::guests::GuestTable;
use net_mesh::{ApplyError, Changes, Mesh, MeshConfig};

async fn mesh() -> Mesh {
    Mesh::open(MeshConfig::default()).await.unwrap()
}

fn pair(test: &str) -> (Host, Host) {
    let (a, b) = (Host::new(test, "a"), Host::new(test, "b"));
    join(&a, &b);
    (a, b)
}

#[test]
fn a_table_becomes_taps_routes_and_rules_and_a_second_time_nothing_changes() {
    if !can_run("a_table_becomes_taps_routes_and_rules_and_a_second_time_nothing_changes") {
        return;
    }
    let (a, _b) = pair("twice");
    let rows = table(1, &[1, 2], &[(3, 2)]);
    a.inside(async || {
        let mesh = mesh().await;
        let done = mesh.apply(&rows).await.unwrap();
        assert_eq!(done.taps_made, vec![guest_tap(1).tap, guest_tap(2).tap]);
        assert!(done.filter);
        assert_eq!(mesh.apply(&rows).await.unwrap(), Changes::default());
        // A new process knows as much as the old one did.
        drop(mesh);
        let mesh = kernel_mesh().await;
        assert_eq!(mesh.apply(&rows).await.unwrap(), Changes::default());
    });
    let links = a.ip(&["-d", "link", "show", "dev", &guest_tap(1).tap]);
    assert!(
        links.contains("tun type tap") && links.contains("persist on"),
        "{links}"
    );
    let addresses = a.ip(&["addr", "show", "dev", &guest_tap(1).tap]);
    assert!(
        addresses.contains("fe80::1/64") && addresses.contains("169.254.1.1/32"),
        "{addresses}"
    );
    assert_eq!(
        addresses.matches("inet6").count(),
        1,
        "no address that the kernel invents: {addresses}"
    );
    let routes = a.ip(&["-6", "route"]);
    for line in [
        "fdaa:aaaa:aaaa:1:101:101:101:101 dev ft0101010101010 proto 240 src fdaa:aaaa:aaaa:0:101:101:101:101",
        "fdaa:aaaa:aaaa:1:303:303:303:303 via fdaa:aaaa:aaaa:0:202:202:202:202 dev eth0 proto 240",
        "unreachable fdaa:aaaa:aaaa::/48",
    ] {
        assert!(routes.contains(line), "{line} is not in\n{routes}");
    }
    let routes = a.ip(&["route"]);
    assert!(
        routes.contains("100.64.0.2 dev ft0101010101010 proto 240 scope link src 169.254.1.1"),
        "{routes}"
    );
    let rules = String::from_utf8(
        a.command("nft")
            .args(["list", "ruleset"])
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    assert!(
        rules.contains("table inet form") && rules.contains("masquerade"),
        "{rules}"
    );
}

/// A mesh opened anew, as after a restart.
async fn kernel_mesh() -> Mesh {
    mesh().await
}

#[test]
fn rows_that_go_take_their_taps_and_routes_along_but_not_from_under_a_machine() {
    if !can_run("rows_that_go_take_their_taps_and_routes_along_but_not_from_under_a_machine") {
        return;
    }
    let (a, _b) = pair("gone");
    a.inside(async || {
        let mesh = mesh().await;
        mesh.apply(&table(1, &[1, 2], &[(3, 2)])).await.unwrap();
        let guest = Guest::attach(&guest_tap(1));
        // As a daemon does that starts anew and does not know its guests yet.
        let done = mesh.apply(&table(1, &[], &[])).await.unwrap();
        assert_eq!(done.taps_removed, vec![guest_tap(2).tap]);
        assert_eq!(done.taps_in_use, vec![guest_tap(1).tap]);
        let routes = a.ip(&["-6", "route"]);
        assert!(
            !routes.contains("303:303") && !routes.contains("101:101:101:101 dev ft"),
            "{routes}"
        );
        // Its row is back: the tap was never gone.
        let done = mesh.apply(&table(1, &[1], &[])).await.unwrap();
        assert!(done.taps_made.is_empty() && done.routes > 0, "{done:?}");
        drop(guest);
        // A child that another test is just starting may hold our descriptors for a moment.
        let start = std::time::Instant::now();
        let mut done = mesh.apply(&table(1, &[], &[])).await.unwrap();
        while done.taps_removed.is_empty() && start.elapsed() < host::LIMIT {
            done = mesh.apply(&table(1, &[], &[])).await.unwrap();
        }
        assert_eq!(done.taps_removed, vec![guest_tap(1).tap]);
        assert!(!a.ip(&["link"]).contains(": ft"));
    });
}

#[test]
fn what_somebody_undid_is_mended_and_clear_leaves_nothing() {
    if !can_run("what_somebody_undid_is_mended_and_clear_leaves_nothing") {
        return;
    }
    let (a, _b) = pair("mend");
    let before = (a.ip(&["addr"]), a.ip(&["-6", "route"]), a.ip(&["route"]));
    let rows = table(1, &[1], &[(3, 2)]);
    a.inside(async || {
        let mesh = mesh().await;
        mesh.apply(&rows).await.unwrap();
        let tap = guest_tap(1).tap;
        a.ip(&["-6", "route", "del", &guest_tap(1).ipv6.to_string()]);
        a.ip(&["addr", "del", "169.254.1.1/32", "dev", &tap]);
        a.command("nft").args(["flush", "ruleset"]).status().unwrap();
        let done = mesh.apply(&rows).await.unwrap();
        assert!(done.filter && done.routes >= 2 && done.addresses == 1, "{done:?}");
        a.ip(&["link", "set", &tap, "down"]);
        mesh.apply(&rows).await.unwrap();
        assert_eq!(mesh.apply(&rows).await.unwrap(), Changes::default());

        let _guest = Guest::attach(&guest_tap(1));
        mesh.clear().await.unwrap();
        mesh.clear().await.unwrap();
    });
    let steady = |text: &str| {
        // The lifetimes of the kernel's own addresses go down by themselves.
        text.lines()
            .filter(|line| !line.contains("valid_lft"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let after = (a.ip(&["addr"]), a.ip(&["-6", "route"]), a.ip(&["route"]));
    assert_eq!(steady(&before.0), steady(&after.0));
    assert_eq!((before.1, before.2), (after.1, after.2));
    let rules = a
        .command("nft")
        .args(["list", "ruleset"])
        .output()
        .unwrap()
        .stdout;
    assert!(rules.is_empty());
    let forwards = a
        .command("sysctl")
        .args(["-n", "net.ipv4.ip_forward"])
        .output()
        .unwrap()
        .stdout;
    assert_eq!(forwards, b"0\n");
}

#[test]
fn a_missing_interface_is_named_and_the_rest_is_done() {
    if !can_run("a_missing_interface_is_named_and_the_rest_is_done") {
        return;
    }
    let a = Host::new("missing", "a");
    a.inside(async || {
        let mesh = mesh().await;
        let error = mesh.apply(&table(1, &[1], &[])).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("there is no interface eth0"), "{text}");
        let ApplyError::Steps { done, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(done.taps_made, vec![guest_tap(1).tap]);
        let mut twice = table(1, &[1, 1], &[]);
        assert!(matches!(mesh.apply(&twice).await, Err(ApplyError::Table(_))));
        twice = GuestTable::default();
        mesh.apply(&twice).await.unwrap();
    });
}

#[test]
fn a_host_without_nft_is_told_what_to_install() {
    if !can_run("a_host_without_nft_is_told_what_to_install") {
        return;
    }
    let a = Host::new("nonft", "a");
    a.inside(async || {
        let config = MeshConfig {
            nft: "/nonexistent/nft".into(),
            ..MeshConfig::default()
        };
        let error = Mesh::open(config).await.err().unwrap().to_string();
        assert!(error.contains("apt-get install nftables"), "{error}");
    });
}
