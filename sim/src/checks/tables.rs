//! Names, front doors and routes follow the machines: once the network has settled, every node leads to each
//! instance that serves, and to no other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::net::{IpAddr, Ipv6Addr};

use ledger::id::InstanceId;
use net::address::{self, Subnet};
use projections::cloud::Cloud;
use projections::instances::Wanted;
use vmm::machine::MachineState;

use super::{Holds, Place, Violation};

/// An instance that serves, by the machine itself.
struct Served<'a> {
    id: InstanceId,
    address: Ipv6Addr,
    port: Option<u16>,
    at: &'a Place<'a>,
}

fn violated(seen: String) -> Holds {
    Err(Violation {
        claim: "tables",
        seen,
    })
}

/// At the end.
pub fn lead_to_what_serves(cloud: &Cloud, places: &[Place<'_>]) -> Holds {
    let served = served(cloud, places);
    let edges: Vec<&Place<'_>> = places.iter().filter(|place| place.roles.edge).collect();
    for edge in &edges {
        names(cloud, edge, places, &served)?;
        fronts(edge, &served)?;
    }
    for pair in edges.windows(2) {
        let (left, right) = (pair[0].host.tables(), pair[1].host.tables());
        let names = differing(&left.names.names, &right.names.names);
        let hosts = differing(&left.fronts.hosts, &right.fronts.hosts);
        if let Some(what) = names.or(hosts) {
            let (left, right) = (pair[0].index, pair[1].index);
            return violated(format!("nodes {left} and {right} answer differently: {what}"));
        }
    }
    for place in places {
        routes(cloud, place, &served)?;
    }
    Ok(())
}

/// The first name that does not stand for the same in both.
fn differing<T: PartialEq + Debug>(
    left: &BTreeMap<String, T>,
    right: &BTreeMap<String, T>,
) -> Option<String> {
    let name = left
        .keys()
        .chain(right.keys())
        .find(|name| left.get(*name) != right.get(*name))?;
    Some(format!(
        "{name} stands for {:?} and {:?}",
        left.get(name),
        right.get(name)
    ))
}

fn served<'a>(cloud: &Cloud, places: &'a [Place<'a>]) -> Vec<Served<'a>> {
    let mut served = Vec::new();
    for place in places {
        for (id, machine) in place.host.machines() {
            let Some(instance) = cloud.instances.get(id).filter(|it| it.wanted == Wanted::Running) else {
                continue;
            };
            if machine.state == (MachineState::Running { serving: true }) {
                let address = address::instance_address(&cloud.network.0, &id.0);
                served.push(Served {
                    id: *id,
                    address,
                    port: instance.request.port,
                    at: place,
                });
            }
        }
    }
    served
}

fn names(cloud: &Cloud, edge: &Place<'_>, places: &[Place<'_>], served: &[Served<'_>]) -> Holds {
    let network = &cloud.network.0;
    let told = |subnet| -> BTreeSet<Ipv6Addr> {
        let prefix = address::subnet_prefix(network, subnet).octets();
        let names = edge.host.tables().names.names.values();
        let all = names.flat_map(|records| records.ipv6.iter().copied());
        all.filter(|it| it.octets()[..8] == prefix[..8]).collect()
    };
    let (serve, right) = (
        told(Subnet::Instances),
        served.iter().map(|it| it.address).collect(),
    );
    if serve != right {
        return violated(format!(
            "the names of node {} lead to {serve:?}, but {right:?} serve",
            edge.index
        ));
    }
    let live: BTreeSet<_> = places
        .iter()
        .map(|place| address::node_address(network, &place.id.0))
        .collect();
    let nodes = told(Subnet::Nodes);
    if nodes != live {
        return violated(format!(
            "the names of node {} lead to the nodes {nodes:?}, but {live:?} are up",
            edge.index
        ));
    }
    Ok(())
}

fn fronts(edge: &Place<'_>, served: &[Served<'_>]) -> Holds {
    let told: BTreeSet<_> = edge
        .host
        .tables()
        .fronts
        .hosts
        .values()
        .flatten()
        .map(|target| (target.instance.clone(), target.address))
        .collect();
    let right: BTreeSet<_> = served
        .iter()
        .filter_map(|it| Some((it.id.to_string(), (IpAddr::from(it.address), it.port?).into())))
        .collect();
    if told != right {
        return violated(format!(
            "the front door of node {} leads to {told:?}, but {right:?} serve",
            edge.index
        ));
    }
    Ok(())
}

fn routes(cloud: &Cloud, place: &Place<'_>, served: &[Served<'_>]) -> Holds {
    let guests = &place.host.tables().guests;
    for it in served {
        let (here, id) = (place.index, it.id.short());
        let taps = guests.taps.iter().filter(|tap| tap.ipv6 == it.address).count();
        let via: Vec<Ipv6Addr> = guests
            .remote
            .iter()
            .filter(|remote| remote.ipv6 == it.address)
            .map(|remote| remote.via)
            .collect();
        if it.at.index == here {
            if taps != 1 || !via.is_empty() {
                return violated(format!(
                    "node {here} runs {id}, but has {taps} taps and the routes {via:?} to it"
                ));
            }
        } else if taps != 0 || via != [address::node_address(&cloud.network.0, &it.at.id.0)] {
            return violated(format!(
                "instance {id} runs on node {}, but node {here} has {taps} taps and the routes {via:?} to it",
                it.at.index
            ));
        }
    }
    // Taps of nothing: a machine that does not run has none.
    let running = place
        .host
        .machines()
        .iter()
        .filter(|(_, machine)| machine.state.is_alive());
    let running: BTreeSet<Ipv6Addr> = running
        .map(|(id, _)| address::instance_address(&cloud.network.0, &id.0))
        .collect();
    let due = cloud.instances.values().filter(|it| it.wanted == Wanted::Running);
    let due = due.filter(|it| it.placement().is_some_and(|placed| placed.node == place.id));
    let due: BTreeSet<Ipv6Addr> = due
        .map(|it| address::instance_address(&cloud.network.0, &it.id.0))
        .collect();
    match guests
        .taps
        .iter()
        .find(|tap| !running.contains(&tap.ipv6) && !due.contains(&tap.ipv6))
    {
        Some(tap) => violated(format!(
            "node {} keeps a tap for {}, which is not there",
            place.index, tap.ipv6
        )),
        None => Ok(()),
    }
}
