//! The tables: peers, guests, names, fronts.

use std::collections::BTreeMap;

use ledger::command::accounts::OpenAccount;
use ledger::command::domains::ClaimDomain;
use ledger::report::nodes::Roles;
use net::fronts::FrontTable;
use net::guests::GuestTable;
use net::names::{NameRecords, NameTable};
use reactors::action::Action;
use reactors::names::NAME_TTL_S;
use reactors::observed::PRESENCE_TTL_MS;
use vmm::machine::MachineState;

use crate::world::{ALL, CAPACITY, World};

fn names(world: &World, index: usize) -> NameTable {
    let found = world.decide(index).into_iter().find_map(|action| match action {
        Action::Names(table) => Some(table),
        _ => None,
    });
    found.expect("a names table is decided")
}

fn fronts(world: &World, index: usize) -> FrontTable {
    let found = world.decide(index).into_iter().find_map(|action| match action {
        Action::Fronts(table) => Some(table),
        _ => None,
    });
    found.expect("a front-door table is decided")
}

fn guests(world: &World, index: usize) -> GuestTable {
    let found = world.decide(index).into_iter().find_map(|action| match action {
        Action::Guests(table) => Some(table),
        _ => None,
    });
    found.expect("a table of guests is decided")
}

/// The addresses of a name as text; none when there is no such name.
fn resolve(world: &World, name: &str) -> Option<Vec<String>> {
    let NameRecords {
        ipv4,
        ipv6,
        txt,
        ttl_s,
    } = names(world, 0).names.get(name)?.clone();
    assert_eq!((ttl_s, txt.len()), (NAME_TTL_S, 0));
    Some(
        ipv4.iter()
            .map(ToString::to_string)
            .chain(ipv6.iter().map(ToString::to_string))
            .collect(),
    )
}

fn node_ipv6(world: &World, index: usize) -> String {
    net::address::node_address(&world.cloud().network.0, &world.id(index).0).to_string()
}

/// An agent `hello` with the claimed name `greet.fog` and one instance `one`, which serves on node 1.
fn served() -> (World, ledger::id::InstanceId) {
    let mut world = World::new(3);
    let build = world.built("hello", 1);
    let agent = world.agent("hello", build);
    world.command(
        ClaimDomain {
            name: "greet.fog".into(),
            agent,
        }
        .into(),
    );
    let instance = world.launch("one", Some(agent), build);
    world.place(instance, 1, 1);
    world.settle();
    (world, instance)
}

#[test]
fn names_lead_to_what_is_healthy() {
    let (world, instance) = served();
    let ipv6 = net::address::instance_address(&world.cloud().network.0, &instance.0).to_string();
    let mut edge: Vec<String> = (1..=3).map(|n| format!("10.0.0.{n}")).collect();
    let mut addresses: Vec<std::net::Ipv6Addr> = (0..3)
        .map(|n| node_ipv6(&world, n).parse().expect("an address"))
        .collect();
    addresses.sort_unstable();
    edge.extend(addresses.iter().map(ToString::to_string));
    assert_eq!(resolve(&world, "hello.fog"), Some(edge.clone()));
    assert_eq!(resolve(&world, "greet.fog"), Some(edge));
    assert_eq!(resolve(&world, "one.ann.form.internal"), Some(vec![ipv6.clone()]));
    assert_eq!(resolve(&world, "hello.agent.form.internal"), Some(vec![ipv6]));
    assert_eq!(
        resolve(&world, "n2.node.form.internal"),
        Some(vec!["10.0.0.3".to_owned(), node_ipv6(&world, 2)])
    );
    assert_eq!(resolve(&world, "two.ann.form.internal"), None);
    assert_eq!(names(&world, 0).zones, ["form.internal", "fog"]);
}

#[test]
fn a_name_without_a_healthy_instance_exists_without_addresses() {
    let (mut world, instance) = served();
    world.machine(1, instance, MachineState::Running { serving: false });
    world.hear();
    for name in [
        "hello.fog",
        "greet.fog",
        "one.ann.form.internal",
        "hello.agent.form.internal",
    ] {
        assert_eq!(resolve(&world, name), Some(vec![]), "{name}");
        assert_eq!(fronts(&world, 0).hosts.get(name), Some(&vec![]), "{name}");
    }
}

#[test]
fn health_of_another_generation_or_another_node_counts_for_nothing() {
    let (mut world, instance) = served();
    world.place(instance, 2, 2);
    world.hear();
    assert_eq!(resolve(&world, "one.ann.form.internal"), Some(vec![]));
    world.place(instance, 3, 1);
    world.hear();
    assert_eq!(
        resolve(&world, "one.ann.form.internal"),
        Some(vec![]),
        "the machine is of generation 1"
    );
}

#[test]
fn names_stop_leading_to_a_silent_node() {
    let (mut world, _) = served();
    world.nodes[1].up = false;
    world.pass(PRESENCE_TTL_MS + 1);
    assert_eq!(resolve(&world, "hello.fog"), Some(vec![]));
    assert_eq!(resolve(&world, "n1.node.form.internal"), Some(vec![]));
    assert_eq!(fronts(&world, 0).hosts["hello.fog"], vec![]);
}

#[test]
fn a_stopped_or_deleted_instance_has_no_address() {
    let (mut world, instance) = served();
    world.stop(instance);
    assert_eq!(
        resolve(&world, "one.ann.form.internal"),
        Some(vec![]),
        "before its machine has ended"
    );
    world.delete(instance);
    assert_eq!(resolve(&world, "one.ann.form.internal"), None);
    assert!(!fronts(&world, 0).hosts.contains_key("one.ann.form.internal"));
}

#[test]
fn only_edge_nodes_stand_behind_an_agent_and_have_its_tables() {
    let mut world = World::empty();
    world.join(ALL, CAPACITY);
    world.join(Roles { edge: false, ..ALL }, CAPACITY);
    world.command(OpenAccount { name: "ann".into() }.into());
    world.pass(60_000);
    let build = world.built("hello", 1);
    let agent = world.agent("hello", build);
    let instance = world.launch("one", Some(agent), build);
    world.place(instance, 1, 1);
    world.settle();
    assert_eq!(
        resolve(&world, "hello.fog"),
        Some(vec!["10.0.0.1".to_owned(), node_ipv6(&world, 0)])
    );
    let tables = |action: &Action| matches!(action, Action::Names(_) | Action::Fronts(_));
    assert_eq!(world.decide(1).iter().filter(|action| tables(action)).count(), 0);
}

#[test]
fn requests_go_to_the_port_of_the_instance() {
    let (world, instance) = served();
    let ipv6 = net::address::instance_address(&world.cloud().network.0, &instance.0);
    let hosts = fronts(&world, 2).hosts;
    let shown: BTreeMap<&str, Vec<String>> = hosts
        .iter()
        .map(|(host, targets)| {
            (
                host.as_str(),
                targets.iter().map(|it| it.address.to_string()).collect(),
            )
        })
        .collect();
    let there = vec![format!("[{ipv6}]:8080")];
    let expected = [
        "greet.fog",
        "hello.agent.form.internal",
        "hello.fog",
        "one.ann.form.internal",
    ];
    assert_eq!(shown, expected.map(|host| (host, there.clone())).into());
    assert_eq!(hosts["hello.fog"][0].instance, instance.to_string());
}

#[test]
fn a_node_that_tells_health_of_what_is_placed_elsewhere_is_not_believed() {
    let (mut world, instance) = served();
    world.machine(1, instance, MachineState::Running { serving: false });
    world.held(2, instance, 1, MachineState::Running { serving: true });
    world.hear();
    assert_eq!(resolve(&world, "one.ann.form.internal"), Some(vec![]));
}

#[test]
fn of_two_nodes_of_one_name_the_live_one_that_started_last_has_it() {
    let mut world = World::new(3);
    world.nodes[2].name = "n1".into();
    world.announce(2);
    world.hear();
    let name = "n1.node.form.internal";
    assert_eq!(
        resolve(&world, name),
        Some(vec!["10.0.0.3".to_owned(), node_ipv6(&world, 2)])
    );
    world.nodes[2].up = false;
    world.pass(PRESENCE_TTL_MS + 1);
    assert_eq!(
        resolve(&world, name),
        Some(vec!["10.0.0.2".to_owned(), node_ipv6(&world, 1)])
    );
}

#[test]
fn guests_here_have_taps_and_guests_elsewhere_routes() {
    let (mut world, instance) = served();
    let network = world.cloud().network;
    let ipv6 = net::address::instance_address(&network.0, &instance.0);
    let here = guests(&world, 1);
    assert_eq!(here.taps.len(), 1);
    assert_eq!(
        (here.taps[0].tap.clone(), here.taps[0].ipv6),
        (net::address::tap_name(&instance.0), ipv6)
    );
    assert!(here.remote.is_empty());
    let there = guests(&world, 0);
    assert!(there.taps.is_empty());
    assert_eq!(there.remote.len(), 1);
    assert_eq!(there.remote[0].ipv6, ipv6);
    assert_eq!(there.remote[0].via.to_string(), node_ipv6(&world, 1));
    let link = there.node.expect("it has a link");
    assert_eq!((link.interface.as_str(), link.prefix), ("eth0", 64));
    assert_eq!(link.address.to_string(), node_ipv6(&world, 0));
    // Stopped: the tap goes when the machine has ended, not before.
    world.stop(instance);
    assert_eq!(guests(&world, 1).taps.len(), 1);
    world.settle();
    assert_eq!(guests(&world, 1).taps.len(), 0);
}

#[test]
fn the_tap_is_in_the_table_before_the_machine_starts_and_is_the_same() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    let before = guests(&world, 0);
    let start = world.decide(0).into_iter().find_map(|action| match action {
        Action::Start { spec, .. } => Some(spec),
        _ => None,
    });
    let nic = start.expect("it is started").nic;
    let tap = &before.taps[0];
    assert_eq!(
        (
            &tap.tap,
            tap.mac,
            tap.ipv6,
            tap.ipv4,
            tap.gateway_v4,
            tap.gateway_v6
        ),
        (
            &nic.tap,
            nic.mac,
            nic.ipv6,
            nic.ipv4,
            nic.gateway_v4,
            nic.gateway_v6
        )
    );
    world.settle();
    assert_eq!(guests(&world, 0), before);
    // A node that was restarted and only knows that the machine is there makes the same.
    world.restart(0);
    world.nodes[0]
        .observed
        .machines
        .get_mut(&instance)
        .expect("it runs")
        .spec = None;
    assert_eq!(guests(&world, 0), before);
}

#[test]
fn an_address_has_one_way_at_a_time() {
    let (mut world, instance) = served();
    world.place(instance, 2, 2);
    let leaving = guests(&world, 1);
    assert_eq!(
        (leaving.taps.len(), leaving.remote.len()),
        (1, 0),
        "its machine still runs here"
    );
    let machine = world.nodes[1].observed.machines.get_mut(&instance);
    machine.expect("it runs").spec = None;
    assert_eq!(
        guests(&world, 1).taps,
        leaving.taps,
        "also when no more is known of it"
    );
    world.settle();
    let left = guests(&world, 1);
    assert_eq!((left.taps.len(), left.remote.len()), (0, 1));
}

#[test]
fn no_table_of_guests_is_made_before_the_host_is_known() {
    let (mut world, _) = served();
    world.nodes[1].observed.host_known = false;
    assert!(
        world
            .decide(1)
            .iter()
            .all(|action| !matches!(action, Action::Guests(_)))
    );
}

#[test]
fn a_node_without_a_link_has_no_way_to_guests_elsewhere() {
    let (mut world, _) = served();
    world.nodes[0].me.interface = None;
    let table = guests(&world, 0);
    assert_eq!((table.node, table.remote), (None, vec![]));
}

#[test]
fn a_node_stays_connected_to_all_others() {
    let world = World::new(3);
    let peers = world.decide(1).into_iter().find_map(|action| match action {
        Action::Peers(peers) => Some(peers),
        _ => None,
    });
    let expected = [0, 2].map(|n| (world.id(n), vec![format!("/ip4/10.0.0.{}/tcp/9000", n + 1)]));
    assert_eq!(peers, Some(expected.into()));
}
