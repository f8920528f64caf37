//! Addresses without a coordinator: all of them follow from the network's id and the key or id of the holder.
//!
//! ```text
//! fd nn nnnnnnnn : 0000 : hhhhhhhh hhhhhhhh    a node      nn.. = first 40 bits of the network's id
//! fd nn nnnnnnnn : 0001 : hhhhhhhh hhhhhhhh    an instance hh.. = first 64 bits of the key or the id
//! fd nn nnnnnnnn : 0002 : hhhhhhhh hhhhhhhh    a person's device
//! ```
//! So an instance keeps its address when it moves. Ids are hashes and keys are points chosen by chance, so the
//! first bits spread evenly; two that meet in 64 bits are the fold's to settle. IPv4 is local to a node: each
//! tap has one address of 100.64.0.0/10 by its index, and every guest sees the same gateway.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Length of the prefix of a network.
pub const NETWORK_PREFIX_BITS: u8 = 48;
/// Length of the prefix of nodes, of instances and of devices.
pub const SUBNET_PREFIX_BITS: u8 = 64;
/// Link-local address of the host's end of every tap: a guest's IPv6 gateway.
pub const GATEWAY_IPV6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Address of the host's end of every tap: a guest's IPv4 gateway, on-link though in no prefix of its own.
pub const GATEWAY_IPV4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The guests' IPv4 addresses of a node; the same on every node, since they never leave it.
pub const GUESTS_IPV4: (Ipv4Addr, u8) = (Ipv4Addr::new(100, 64, 0, 0), 10);
/// How many guests a node has IPv4 addresses for: all of the prefix but its first and last address.
pub const GUESTS_MAX: u32 = (1 << 22) - 2;
/// What the name of every tap of ours begins with.
pub const TAP_PREFIX: &str = "ft";

/// The /64s of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subnet {
    /// Nodes.
    Nodes,
    /// Instances.
    Instances,
    /// People's devices.
    Devices,
}

impl Subnet {
    fn number(self) -> u16 {
        match self {
            Self::Nodes => 0,
            Self::Instances => 1,
            Self::Devices => 2,
        }
    }
}

/// The network's /48.
pub fn network_prefix(network_id: &[u8; 32]) -> Ipv6Addr {
    assemble(network_id, Subnet::Nodes, [0; 8])
}

/// The /64 of one kind of holder.
pub fn subnet_prefix(network_id: &[u8; 32], subnet: Subnet) -> Ipv6Addr {
    assemble(network_id, subnet, [0; 8])
}

/// The address of a node.
pub fn node_address(network_id: &[u8; 32], node_key: &[u8; 32]) -> Ipv6Addr {
    assemble(network_id, Subnet::Nodes, host_part(node_key))
}

/// The address of an instance, wherever it runs.
pub fn instance_address(network_id: &[u8; 32], instance_id: &[u8; 32]) -> Ipv6Addr {
    assemble(network_id, Subnet::Instances, host_part(instance_id))
}

/// The address of a person's device.
pub fn device_address(network_id: &[u8; 32], device_key: &[u8; 32]) -> Ipv6Addr {
    assemble(network_id, Subnet::Devices, host_part(device_key))
}

/// Ethernet address of an instance's network card: locally administered, one host.
pub fn mac_for(instance_id: &[u8; 32]) -> [u8; 6] {
    // The bits after those of the address, so that a clash in one is none in the other.
    let id = &instance_id[8..14];
    [(id[0] & 0b1111_1100) | 0b10, id[1], id[2], id[3], id[4], id[5]]
}

/// Name of an instance's tap: 15 characters, the most that the kernel takes.
pub fn tap_name(instance_id: &[u8; 32]) -> String {
    let digits: String = instance_id[..7]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{TAP_PREFIX}{}", &digits[..13])
}

/// The node-local IPv4 address of the guest behind the tap with this index; `None` past [`GUESTS_MAX`].
pub fn guest_ipv4(index: u32) -> Option<Ipv4Addr> {
    let (first, _) = GUESTS_IPV4;
    // The prefix's own address is left out, as some stacks take it for a broadcast.
    (index < GUESTS_MAX).then(|| Ipv4Addr::from(u32::from(first) + 1 + index))
}

/// First 64 bits, but never all zero: that is the subnet-router anycast address.
fn host_part(id: &[u8; 32]) -> [u8; 8] {
    let mut host = [0; 8];
    host.copy_from_slice(&id[..8]);
    if host == [0; 8] {
        host[7] = 1;
    }
    host
}

fn assemble(network_id: &[u8; 32], subnet: Subnet, host: [u8; 8]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    octets[1..6].copy_from_slice(&network_id[..5]);
    octets[6..8].copy_from_slice(&subnet.number().to_be_bytes());
    octets[8..].copy_from_slice(&host);
    Ipv6Addr::from(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_addresses_of_a_known_network_stay_what_they_are() {
        let network = [0xab; 32];
        let mut id = [0x11; 32];
        id[8..14].copy_from_slice(&[0xff, 1, 2, 3, 4, 5]);
        assert_eq!(network_prefix(&network).to_string(), "fdab:abab:abab::");
        assert_eq!(
            node_address(&network, &id).to_string(),
            "fdab:abab:abab:0:1111:1111:1111:1111"
        );
        assert_eq!(
            instance_address(&network, &id).to_string(),
            "fdab:abab:abab:1:1111:1111:1111:1111"
        );
        assert_eq!(
            device_address(&network, &id).to_string(),
            "fdab:abab:abab:2:1111:1111:1111:1111"
        );
        assert_eq!(
            subnet_prefix(&network, Subnet::Instances).to_string(),
            "fdab:abab:abab:1::"
        );
        assert_eq!(mac_for(&id), [0xfe, 1, 2, 3, 4, 5]);
        assert_eq!(tap_name(&id), "ft1111111111111");
        assert_eq!(
            guest_ipv4(0).map(|ip| ip.to_string()).as_deref(),
            Some("100.64.0.1")
        );
        assert_eq!(
            guest_ipv4(GUESTS_MAX - 1).map(|ip| ip.to_string()).as_deref(),
            Some("100.127.255.254")
        );
        assert_eq!(guest_ipv4(GUESTS_MAX), None);
    }

    proptest! {
        #[test]
        fn no_holder_has_the_anycast_address_of_its_subnet(network: [u8; 32], id: [u8; 32]) {
            let mut zero = id;
            zero[..8].fill(0);
            for id in [id, zero] {
                for (address, subnet) in [
                    (node_address(&network, &id), Subnet::Nodes),
                    (instance_address(&network, &id), Subnet::Instances),
                    (device_address(&network, &id), Subnet::Devices),
                ] {
                    let prefix = subnet_prefix(&network, subnet);
                    prop_assert_ne!(address, prefix);
                    prop_assert_eq!(address.segments()[..4].to_vec(), prefix.segments()[..4].to_vec());
                    prop_assert!(address.is_unique_local());
                }
            }
        }

        #[test]
        fn ids_that_differ_early_have_addresses_and_taps_that_differ(
            network: [u8; 32], a: [u8; 32], b: [u8; 32]
        ) {
            prop_assume!(a[..6] != b[..6]);
            prop_assume!(a[..8] != [0; 8] && b[..8] != [0; 8]);
            prop_assert_ne!(instance_address(&network, &a), instance_address(&network, &b));
            prop_assert_ne!(tap_name(&a), tap_name(&b));
        }

        #[test]
        fn a_mac_is_local_and_of_one_host_and_a_tap_name_fits(id: [u8; 32]) {
            prop_assert_eq!(mac_for(&id)[0] & 0b11, 0b10);
            prop_assert_eq!(tap_name(&id).len(), 15);
        }

        #[test]
        fn guests_of_one_node_never_share_an_ipv4_address(a in 0..GUESTS_MAX, b in 0..GUESTS_MAX) {
            prop_assume!(a != b);
            prop_assert_ne!(guest_ipv4(a), guest_ipv4(b));
        }
    }
}
