//! How the nodes and the guests reach each other: the peers to stay connected to, and the table of links
//! and routes of this host.

use net::address::{self, SUBNET_PREFIX_BITS};
use net::guests::{GuestTable, GuestTap, NodeLink, RemoteGuest};
use projections::instances::Wanted;

use crate::action::Action;
use crate::nic;
use crate::sight::Sight;

/// The peers and the guests of this node.
pub fn decide(sight: &Sight<'_>) -> Vec<Action> {
    let mut actions = vec![peers(sight)];
    // Before the hands have told what runs here, a table would take the taps of running guests away.
    if sight.observed.host_known {
        actions.push(Action::Guests(guests(sight)));
    }
    actions
}

fn peers(sight: &Sight<'_>) -> Action {
    let others = sight
        .announced()
        .filter(|(node, announced)| *node != sight.me.node && !announced.addresses.is_empty());
    Action::Peers(
        others
            .map(|(node, announced)| (node, announced.addresses.clone()))
            .collect(),
    )
}

fn guests(sight: &Sight<'_>) -> GuestTable {
    let network = &sight.cloud.network.0;
    let cards = nic::cards(sight);
    let node = sight.me.interface.as_ref().map(|interface| NodeLink {
        interface: interface.clone(),
        address: address::node_address(network, &sight.me.node.0),
        prefix: SUBNET_PREFIX_BITS,
    });
    // Without a link to the others there is no way to their guests.
    let elsewhere = sight.cloud.instances.values().filter(|_| node.is_some());
    let remote = elsewhere
        // While a machine of an instance still runs here its address leads to its tap.
        .filter(|instance| instance.wanted != Wanted::Deleted && !cards.contains_key(&instance.id))
        .filter_map(|instance| {
            let placed = instance
                .placement()
                .filter(|placed| placed.node != sight.me.node)?;
            Some(RemoteGuest {
                ipv6: address::instance_address(network, &instance.id.0),
                via: address::node_address(network, &placed.node.0),
            })
        })
        .collect();
    let taps = cards
        .into_values()
        .map(|card| GuestTap {
            tap: card.tap,
            mac: card.mac,
            ipv6: card.ipv6,
            gateway_v6: card.gateway_v6,
            ipv4: card.ipv4,
            gateway_v4: card.gateway_v4,
        })
        .collect();
    GuestTable { node, taps, remote }
}
