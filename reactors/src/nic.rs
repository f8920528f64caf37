//! The network cards of this node's machines: for each machine that is to run or still does, its tap and
//! its addresses. The spec of a start and the table of taps are both made from here, so they agree.
//!
//! All but the IPv4 address follows from ids. That one is local to the node: its index is drawn from the
//! instance's id, so that a node that was restarted draws the same again, and the next free one is taken in
//! the rare case that two machines draw alike.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ledger::id::InstanceId;
use net::address;
use projections::instances::Wanted;
use vmm::spec::Nic;

use crate::sight::Sight;

/// The card of each machine that is alive here or placed here to run.
pub fn cards(sight: &Sight<'_>) -> BTreeMap<InstanceId, Nic> {
    let mut cards = BTreeMap::new();
    let mut drawn = BTreeSet::new();
    // What runs keeps what it was started with, whatever is drawn today.
    for (id, machine) in &sight.observed.machines {
        if let Some(spec) = machine.spec.as_ref().filter(|_| machine.state.is_alive()) {
            drawn.insert(spec.nic.ipv4);
            cards.insert(*id, spec.nic.clone());
        }
    }
    // In the order of placement, so that a newcomer does not take what another was just started with.
    let mut others: Vec<_> = sight
        .cloud
        .instances
        .values()
        .filter(|instance| !cards.contains_key(&instance.id))
        .filter_map(|instance| {
            let runs = sight
                .observed
                .machines
                .get(&instance.id)
                .is_some_and(|it| it.state.is_alive());
            let placed = sight
                .placed_here(instance)
                .filter(|_| instance.wanted == Wanted::Running);
            (runs || placed.is_some()).then(|| (placed.map(|it| it.at), instance.id))
        })
        .collect();
    others.sort_unstable();
    for (_, id) in others {
        let Some(ipv4) = draw(&id, &drawn) else { continue };
        drawn.insert(ipv4);
        cards.insert(id, card(sight, &id, ipv4));
    }
    cards
}

fn card(sight: &Sight<'_>, id: &InstanceId, ipv4: Ipv4Addr) -> Nic {
    Nic {
        tap: address::tap_name(&id.0),
        mac: address::mac_for(&id.0),
        ipv6: address::instance_address(&sight.cloud.network.0, &id.0),
        gateway_v6: address::GATEWAY_IPV6,
        ipv4,
        gateway_v4: address::GATEWAY_IPV4,
        resolvers: sight.me.resolvers.clone(),
    }
}

/// None when every address is taken.
fn draw(id: &InstanceId, drawn: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    // Bytes that neither the tap's name nor the Ethernet address is made of.
    let wish = u32::from_le_bytes([id.0[14], id.0[15], id.0[16], id.0[17]]) % address::GUESTS_MAX;
    let tries = u32::try_from(drawn.len())
        .ok()?
        .saturating_add(1)
        .min(address::GUESTS_MAX);
    (0..tries)
        .filter_map(|step| address::guest_ipv4((wish + step) % address::GUESTS_MAX))
        .find(|ipv4| !drawn.contains(ipv4))
}
