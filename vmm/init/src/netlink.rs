//! The few rtnetlink requests that a guest needs, as bytes. Pure; [`crate::network`] sends them.
//!
//! ```text
//! nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32
//! body of the type, then attributes: length u16, type u16, value, padded to four bytes
//! ```

use std::net::IpAddr;

/// What the kernel answers with: an error, zero for "done".
pub(crate) const MESSAGE_ERROR: u16 = 2;

const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const REPLACE: u16 = 0x100;
const CREATE: u16 = 0x400;

const LINK_UP: u32 = 1;
const ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_FLAGS: u16 = 8;
/// No duplicate is looked for: the address is this machine's by construction, and looking takes a second.
const FLAG_NO_DAD: u32 = 0x2;
const ROUTE_DEVICE: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_BOOT: u8 = 3;
const TYPE_UNICAST: u8 = 1;
/// The gateway is reached on the device itself, though no address of ours covers it.
const ROUTE_ON_LINK: u32 = 4;

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn message(kind: u16, flags: u16, body: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(REQUEST | ACKNOWLEDGE | flags).to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(body);
    for (kind, value) in attributes {
        let length = (4 + value.len()) as u16;
        bytes.extend_from_slice(&length.to_ne_bytes());
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = bytes.len() as u32;
    bytes[..4].copy_from_slice(&length.to_ne_bytes());
    bytes
}

/// Brings the device of this number up.
pub(crate) fn link_up(device: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend_from_slice(&device.to_ne_bytes());
    body.extend_from_slice(&LINK_UP.to_ne_bytes());
    body.extend_from_slice(&LINK_UP.to_ne_bytes());
    message(NEW_LINK, 0, &body, &[])
}

/// Gives the device an address that stands for itself alone (/32 or /128).
pub(crate) fn address(device: u32, address: IpAddr) -> Vec<u8> {
    let octets = octets(address);
    let mut body = vec![family(address), (octets.len() * 8) as u8, 0, 0];
    body.extend_from_slice(&device.to_ne_bytes());
    let attributes: [(u16, &[u8]); 3] = [
        (ADDRESS_LOCAL, &octets),
        (ADDRESS, &octets),
        (ADDRESS_FLAGS, &FLAG_NO_DAD.to_ne_bytes()),
    ];
    message(NEW_ADDRESS, CREATE | REPLACE, &body, &attributes)
}

/// Makes the gateway on the device the default route of its family.
pub(crate) fn default_route(device: u32, gateway: IpAddr) -> Vec<u8> {
    let mut body = vec![
        family(gateway),
        0,
        0,
        0,
        TABLE_MAIN,
        PROTOCOL_BOOT,
        0,
        TYPE_UNICAST,
    ];
    body.extend_from_slice(&ROUTE_ON_LINK.to_ne_bytes());
    let attributes: [(u16, &[u8]); 2] = [
        (ROUTE_GATEWAY, &octets(gateway)),
        (ROUTE_DEVICE, &device.to_ne_bytes()),
    ];
    message(NEW_ROUTE, CREATE | REPLACE, &body, &attributes)
}

/// The error number of an answer: 0 when it was done, `None` when the bytes are no answer.
pub(crate) fn answer(bytes: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(bytes.get(16..20)?.try_into().ok()?);
    (kind == MESSAGE_ERROR).then_some(-number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_carries_its_gateway_and_device() {
        let bytes = default_route(3, "10.0.0.1".parse().unwrap());
        assert_eq!(bytes.len(), 16 + 12 + 8 + 8);
        assert_eq!(bytes[..4], 44u32.to_ne_bytes());
        assert_eq!(bytes[28..36], [8, 0, 5, 0, 10, 0, 0, 1]);
        assert_eq!(bytes[36..44], [8, 0, 4, 0, 3, 0, 0, 0]);
    }

    #[test]
    fn an_address_stands_for_itself_alone() {
        let bytes = address(2, "fd00::2".parse().unwrap());
        assert_eq!((bytes[16], bytes[17]), (10, 128));
    }

    #[test]
    fn answers_are_read_and_other_bytes_are_not() {
        let mut bytes = [0; 20];
        bytes[4] = 2;
        bytes[16..20].copy_from_slice(&(-17i32).to_ne_bytes());
        assert_eq!(answer(&bytes), Some(17));
        assert_eq!(answer(&bytes[..19]), None);
        bytes[4] = 3;
        assert_eq!(answer(&bytes), None);
    }

    /// The kernel takes them: tried on the loopback device of an own network namespace.
    #[test]
    fn the_kernel_understands_these_requests() {
        std::thread::spawn(|| {
            #[allow(unsafe_code)]
            // SAFETY: only this thread moves to the new namespace, and it ends with the test.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                eprintln!(
                    "SKIPPED the_kernel_understands_these_requests: needs root for a network namespace"
                );
                return;
            }
            let mut link = crate::network::Netlink::open().unwrap();
            link.ask("up", &link_up(1)).unwrap();
            for (own, gateway) in [("10.1.0.2", "10.1.0.1"), ("fd00::2", "fe80::1")] {
                link.ask("address", &address(1, own.parse().unwrap())).unwrap();
                link.ask("address again", &address(1, own.parse().unwrap()))
                    .unwrap();
                let route = default_route(1, gateway.parse().unwrap());
                // The loopback device takes a gateway of IPv4; of IPv6 it may refuse, in words.
                let asked = link.ask("route", &route);
                assert!(asked.is_ok() || gateway.contains(':'), "{asked:?}");
            }
            assert!(link.ask("no such device", &link_up(4_000_000)).is_err());
        })
        .join()
        .unwrap();
    }
}
