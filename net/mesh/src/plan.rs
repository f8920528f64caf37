//! From a table and what the kernel holds to the steps that make them match. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use net::address::{GUESTS_MAX, NETWORK_PREFIX_BITS, TAP_PREFIX};
use net::guests::GuestTable;

/// Longest name of an interface that the kernel takes.
pub const INTERFACE_CHARS_MAX: usize = 15;
/// Most instances on other nodes that are routed.
pub const REMOTE_MAX: usize = 65_536;

/// Why a table cannot be applied.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TableError {
    /// A name that the kernel or our own marks do not allow.
    #[error("{name:?} cannot be the name of {what}")]
    Name {
        /// The name.
        name: String,
        /// What it should name.
        what: &'static str,
    },
    /// Two guests claim the same thing.
    #[error("{what} {value} is in the table twice")]
    Twice {
        /// Tap, Ethernet address, IPv6 or IPv4 address.
        what: &'static str,
        /// The value.
        value: String,
    },
    /// More rows than this node handles.
    #[error("the table has {rows} {what}, {max} are the most")]
    TooMany {
        /// How many there are.
        rows: usize,
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
}

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Administratively up.
    pub up: bool,
    /// A tun or tap device.
    pub is_tap: bool,
    /// Somebody reads it: a machine is attached.
    pub in_use: bool,
}

/// An address on a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Name of the link.
    pub link: String,
    /// The address.
    pub address: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Straight onto a link.
    Link(String),
    /// To another node over a link.
    Via {
        /// The other node.
        gateway: IpAddr,
        /// The link.
        link: String,
    },
    /// Nowhere: answered at once instead of leaking to the default route.
    Unreachable,
}

/// A route of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Destination.
    pub to: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
    /// Where it leads.
    pub way: Way,
    /// The source that the host itself uses towards it.
    pub source: Option<IpAddr>,
}

/// Whether the host passed on packets of others before we came; what it did not do then, our filter forbids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RouterBefore {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// What the kernel holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// All links by name.
    pub links: BTreeMap<String, Link>,
    /// All addresses; true where the mark says that we set it.
    pub addresses: BTreeMap<Address, bool>,
    /// The routes with our mark.
    pub routes: BTreeSet<Route>,
    /// Version of our filter, when it is there.
    pub filter: Option<u64>,
    /// Whether the host forwards at all now.
    pub forwards: bool,
}

/// One change of the kernel's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Let the host forward: guests are behind it.
    Forward,
    /// Replace all our rules in one transaction.
    Filter,
    /// Take a route away.
    RemoveRoute(Route),
    /// Make a persistent tap.
    MakeTap(String),
    /// Set the per-link settings of a tap and bring it up.
    SetUp(String),
    /// Add an address with our mark.
    AddAddress(Address),
    /// Add a route with our mark.
    AddRoute(Route),
    /// Take an address of ours away.
    RemoveAddress(Address),
    /// Remove a tap that no guest needs and no machine uses.
    RemoveTap(String),
}

/// The steps, and the taps that stay although the table has them not because a machine uses them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order to be done.
    pub steps: Vec<Step>,
    /// Taps without a guest that are in use; the filter lets nothing through them.
    pub taps_in_use: Vec<String>,
}

/// Checks a table at the door.
pub fn check(table: &GuestTable) -> Result<(), TableError> {
    let max = GUESTS_MAX as usize;
    if table.taps.len() > max {
        return Err(TableError::TooMany {
            rows: table.taps.len(),
            what: "taps",
            max,
        });
    }
    if table.remote.len() > REMOTE_MAX {
        return Err(TableError::TooMany {
            rows: table.remote.len(),
            what: "remote guests",
            max: REMOTE_MAX,
        });
    }
    let plain = |name: &str| {
        (1..=INTERFACE_CHARS_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'@'))
            && name != "."
            && name != ".."
    };
    if let Some(node) = table.node.as_ref().filter(|node| !plain(&node.interface)) {
        return Err(TableError::Name {
            name: node.interface.clone(),
            what: "an interface",
        });
    }
    let (mut taps, mut macs, mut v6, mut v4) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for tap in &table.taps {
        if !plain(&tap.tap) || !tap.tap.starts_with(TAP_PREFIX) {
            return Err(TableError::Name {
                name: tap.tap.clone(),
                what: "a tap",
            });
        }
        let twice = |what, value| Err(TableError::Twice { what, value });
        if !taps.insert(&tap.tap) {
            return twice("tap", tap.tap.clone());
        }
        if !macs.insert(tap.mac) {
            return twice("Ethernet address", filter_mac(&tap.mac));
        }
        if !v6.insert(tap.ipv6) {
            return twice("address", tap.ipv6.to_string());
        }
        if !v4.insert(tap.ipv4) {
            return twice("address", tap.ipv4.to_string());
        }
    }
    Ok(())
}

pub(crate) fn filter_mac(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The prefix of the network that an address of it lies in.
pub fn network_of(address: Ipv6Addr) -> Ipv6Addr {
    let kept = u128::MAX << (128 - u32::from(NETWORK_PREFIX_BITS));
    Ipv6Addr::from(u128::from(address) & kept)
}

/// The addresses that a table asks for.
fn wanted_addresses(table: &GuestTable) -> BTreeSet<Address> {
    let node = table.node.iter().map(|node| Address {
        link: node.interface.clone(),
        address: node.address.into(),
        prefix: node.prefix,
    });
    let taps = table.taps.iter().flat_map(|tap| {
        let on = |address, prefix| Address {
            link: tap.tap.clone(),
            address,
            prefix,
        };
        [on(tap.gateway_v6.into(), 64), on(tap.gateway_v4.into(), 32)]
    });
    node.chain(taps).collect()
}

/// The routes that a table asks for: one for each destination.
fn wanted_routes(table: &GuestTable) -> BTreeSet<Route> {
    let source: Option<IpAddr> = table.node.as_ref().map(|node| node.address.into());
    let mut routes = BTreeMap::new();
    if let Some(node) = &table.node {
        for remote in &table.remote {
            let to: IpAddr = remote.ipv6.into();
            let way = Way::Via {
                gateway: remote.via.into(),
                link: node.interface.clone(),
            };
            routes.insert(
                to,
                Route {
                    to,
                    prefix: 128,
                    way,
                    source,
                },
            );
        }
        // What is in our network but nowhere known fails at once and does not leave by the default route.
        let to: IpAddr = network_of(node.address).into();
        let way = Way::Unreachable;
        routes.insert(
            to,
            Route {
                to,
                prefix: NETWORK_PREFIX_BITS,
                way,
                source: None,
            },
        );
    }
    // A guest here wins over a word of it elsewhere: it is seen, not heard of.
    for tap in &table.taps {
        let way = Way::Link(tap.tap.clone());
        let to: IpAddr = tap.ipv6.into();
        routes.insert(
            to,
            Route {
                to,
                prefix: 128,
                way: way.clone(),
                source,
            },
        );
        let (to, gateway): (IpAddr, IpAddr) = (tap.ipv4.into(), tap.gateway_v4.into());
        routes.insert(
            to,
            Route {
                to,
                prefix: 32,
                way,
                source: Some(gateway),
            },
        );
    }
    routes.into_values().collect()
}

/// The steps from what is found to what a checked table wants. `filter` is the version of the wanted rules.
pub fn plan(table: &GuestTable, filter: u64, found: &Found) -> Plan {
    let mut steps = Vec::new();
    let mut taps_in_use = Vec::new();
    if found.filter != Some(filter) {
        // Rules first: a tap never carries a packet that they do not know.
        steps.push(Step::Filter);
    }
    if !table.taps.is_empty() && !found.forwards {
        steps.push(Step::Forward);
    }
    let routes = wanted_routes(table);
    steps.extend(found.routes.difference(&routes).cloned().map(Step::RemoveRoute));
    for tap in &table.taps {
        match found.links.get(&tap.tap) {
            None => steps.extend([Step::MakeTap(tap.tap.clone()), Step::SetUp(tap.tap.clone())]),
            Some(link) if !link.up => steps.push(Step::SetUp(tap.tap.clone())),
            Some(_) => {}
        }
    }
    let addresses = wanted_addresses(table);
    let missing = addresses
        .iter()
        .filter(|address| !found.addresses.contains_key(address));
    steps.extend(missing.cloned().map(Step::AddAddress));
    // A link that goes down takes its routes with it: what is found is what counts.
    steps.extend(routes.difference(&found.routes).cloned().map(Step::AddRoute));
    let ours = found
        .addresses
        .iter()
        .filter(|(address, ours)| **ours && !addresses.contains(address));
    let wanted_taps: BTreeSet<_> = table.taps.iter().map(|tap| tap.tap.as_str()).collect();
    let (mut idle, mut left) = (Vec::new(), BTreeSet::new());
    for (name, link) in &found.links {
        if link.is_tap && name.starts_with(TAP_PREFIX) && !wanted_taps.contains(name.as_str()) {
            left.insert(name.as_str());
            if link.in_use {
                taps_in_use.push(name.clone())
            } else {
                idle.push(Step::RemoveTap(name.clone()))
            }
        }
    }
    // Addresses of taps that go, go with them.
    let gone = ours.filter(|(address, _)| !left.contains(address.link.as_str()));
    steps.extend(gone.map(|(address, _)| Step::RemoveAddress(address.clone())));
    steps.extend(idle);
    Plan { steps, taps_in_use }
}

/// The steps that take away everything of ours but the filter.
pub fn plan_clear(found: &Found) -> Vec<Step> {
    let mut steps: Vec<_> = found.routes.iter().cloned().map(Step::RemoveRoute).collect();
    let taps =
        |name: &str| name.starts_with(TAP_PREFIX) && found.links.get(name).is_some_and(|link| link.is_tap);
    let addresses = found
        .addresses
        .iter()
        .filter(|(address, ours)| **ours && !taps(&address.link));
    steps.extend(addresses.map(|(address, _)| Step::RemoveAddress(address.clone())));
    steps.extend(
        found
            .links
            .keys()
            .filter(|name| taps(name))
            .cloned()
            .map(Step::RemoveTap),
    );
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::address;
    use net::guests::{GuestTap, NodeLink, RemoteGuest};
    use proptest::prelude::*;

    const NETWORK: [u8; 32] = [0xaa; 32];

    fn tap(index: u8) -> GuestTap {
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

    fn table(taps: &[u8], remote: &[u8]) -> GuestTable {
        GuestTable {
            node: Some(NodeLink {
                interface: "eth0".to_owned(),
                address: address::node_address(&NETWORK, &[1; 32]),
                prefix: 64,
            }),
            taps: taps.iter().map(|index| tap(*index)).collect(),
            remote: remote
                .iter()
                .map(|index| RemoteGuest {
                    ipv6: address::instance_address(&NETWORK, &[*index; 32]),
                    via: address::node_address(&NETWORK, &[2; 32]),
                })
                .collect(),
        }
    }

    /// What the kernel would hold after the steps.
    fn done(mut found: Found, filter: u64, plan: &Plan) -> Found {
        for step in &plan.steps {
            match step.clone() {
                Step::Forward => found.forwards = true,
                Step::Filter => found.filter = Some(filter),
                Step::RemoveRoute(route) => assert!(found.routes.remove(&route), "{route:?}"),
                Step::AddRoute(route) => {
                    assert!(
                        found.routes.iter().all(|other| other.to != route.to),
                        "two ways: {route:?}"
                    );
                    if let Way::Link(link) = &route.way {
                        assert!(found.links[link].up);
                    }
                    found.routes.insert(route);
                }
                Step::MakeTap(name) => {
                    let link = Link {
                        up: false,
                        is_tap: true,
                        in_use: false,
                    };
                    assert_eq!(found.links.insert(name, link), None);
                }
                Step::SetUp(name) => found.links.get_mut(&name).unwrap().up = true,
                Step::AddAddress(address) => assert_eq!(found.addresses.insert(address, true), None),
                Step::RemoveAddress(address) => assert_eq!(found.addresses.remove(&address), Some(true)),
                Step::RemoveTap(name) => {
                    assert!(found.links.remove(&name).is_some());
                    found.addresses.retain(|address, _| address.link != name);
                }
            }
        }
        found
    }

    fn bare() -> Found {
        let link = Link {
            up: true,
            is_tap: false,
            in_use: false,
        };
        Found {
            links: [("eth0".to_owned(), link)].into(),
            ..Found::default()
        }
    }

    proptest! {
        #[test]
        fn from_any_table_to_any_other_one_plan_is_enough(
            before in proptest::collection::btree_set(1u8..20, 0..8),
            after in proptest::collection::btree_set(1u8..20, 0..8),
            remote_before in proptest::collection::btree_set(1u8..20, 0..8),
            remote_after in proptest::collection::btree_set(1u8..20, 0..8),
        ) {
            let list = |set: &std::collections::BTreeSet<u8>| set.iter().copied().collect::<Vec<_>>();
            let first = table(&list(&before), &list(&remote_before));
            let second = table(&list(&after), &list(&remote_after));
            let found = done(bare(), 1, &plan(&first, 1, &bare()));
            prop_assert_eq!(plan(&first, 1, &found), Plan::default(), "a second time there is nothing to do");
            let found = done(found.clone(), 2, &plan(&second, 2, &found));
            prop_assert_eq!(plan(&second, 2, &found), Plan::default());
            for step in plan_clear(&found) {
                prop_assert!(!matches!(step, Step::AddAddress(_) | Step::AddRoute(_)));
            }
        }
    }

    #[test]
    fn a_tap_that_a_machine_uses_outlives_its_row() {
        let mut found = done(bare(), 1, &plan(&table(&[1, 2], &[]), 1, &bare()));
        found.links.get_mut(&tap(1).tap).unwrap().in_use = true;
        let plan = plan(&table(&[], &[]), 2, &found);
        assert_eq!(plan.taps_in_use, vec![tap(1).tap]);
        assert!(plan.steps.contains(&Step::RemoveTap(tap(2).tap)));
        assert!(!plan.steps.contains(&Step::RemoveTap(tap(1).tap)));
        assert!(plan_clear(&found).contains(&Step::RemoveTap(tap(1).tap)));
    }

    #[test]
    fn what_others_made_is_not_touched() {
        let mut found = bare();
        let foreign = Link {
            up: true,
            is_tap: true,
            in_use: false,
        };
        found.links.insert("tap0".to_owned(), foreign);
        let address = Address {
            link: "eth0".to_owned(),
            address: "192.0.2.1".parse().unwrap(),
            prefix: 24,
        };
        found.addresses.insert(address, false);
        assert_eq!(plan(&GuestTable::default(), 1, &found).steps, vec![Step::Filter]);
        assert!(plan_clear(&found).is_empty());
    }

    #[test]
    fn a_guest_here_wins_over_a_word_of_it_elsewhere() {
        let routes = wanted_routes(&table(&[3], &[3]));
        let to: IpAddr = tap(3).ipv6.into();
        let ways: Vec<_> = routes
            .iter()
            .filter(|route| route.to == to)
            .map(|route| &route.way)
            .collect();
        assert_eq!(ways, vec![&Way::Link(tap(3).tap)]);
    }

    #[test]
    fn a_table_with_a_bad_row_is_refused_with_the_row() {
        let check_with = |change: fn(&mut GuestTable)| {
            let mut table = table(&[1, 2], &[]);
            change(&mut table);
            check(&table).map_err(|error| error.to_string())
        };
        assert_eq!(check_with(|_| ()), Ok(()));
        assert_eq!(
            check_with(|t| t.taps[0].tap = "eth0".to_owned()).unwrap_err(),
            "\"eth0\" cannot be the name of a tap"
        );
        assert_eq!(
            check_with(|t| t.taps[0].tap = "ft/../../x".to_owned()).unwrap_err(),
            "\"ft/../../x\" cannot be the name of a tap"
        );
        assert!(
            check_with(|t| t.node.as_mut().unwrap().interface = "a-name-far-too-long".to_owned()).is_err()
        );
        assert_eq!(
            check_with(|t| t.taps[0].ipv4 = t.taps[1].ipv4).unwrap_err(),
            "address 100.64.0.3 is in the table twice"
        );
        assert!(check_with(|t| t.taps[0].mac = t.taps[1].mac).is_err());
    }
}
