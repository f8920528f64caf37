//! Names in multiaddresses (`/dns4/host/..`), resolved by the host's resolver before a dial.

use std::net::IpAddr;

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use crate::protocol;

/// Whether an address begins with a name.
pub(crate) fn is_name(address: &Multiaddr) -> bool {
    matches!(
        address.iter().next(),
        Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
    )
}

/// The addresses with each name replaced by what it resolves to now; a name that does not resolve is left out.
pub(crate) async fn resolve(addresses: Vec<Multiaddr>) -> Vec<Multiaddr> {
    let mut out = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !is_name(&address) {
            out.push(address);
            continue;
        }
        let mut parts = address.iter();
        let (name, want) = match parts.next() {
            Some(Protocol::Dns4(name)) => (name.to_string(), Some(true)),
            Some(Protocol::Dns6(name)) => (name.to_string(), Some(false)),
            Some(Protocol::Dns(name)) => (name.to_string(), None),
            _ => continue,
        };
        let rest: Multiaddr = parts.collect();
        let look_up = tokio::net::lookup_host((name.as_str(), 0));
        match tokio::time::timeout(protocol::RESOLVE_WAIT, look_up).await {
            Ok(Ok(found)) => {
                for ip in found
                    .map(|socket| socket.ip())
                    .filter(|ip| want.is_none_or(|v4| ip.is_ipv4() == v4))
                {
                    let first = match ip {
                        IpAddr::V4(ip) => Protocol::Ip4(ip),
                        IpAddr::V6(ip) => Protocol::Ip6(ip),
                    };
                    out.push(std::iter::once(first).chain(rest.iter()).collect());
                }
            }
            Ok(Err(error)) => tracing::debug!(name, %error, "a peer's name does not resolve"),
            Err(_) => tracing::debug!(name, "resolving a peer's name took too long"),
        }
    }
    out.truncate(protocol::ADDRESSES_PER_PEER_MAX);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_becomes_its_addresses_and_the_rest_stays() {
        let addresses = vec!["/dns4/localhost/udp/4100/quic-v1".parse().unwrap()];
        let resolved = resolve(addresses).await;
        assert_eq!(
            resolved,
            vec!["/ip4/127.0.0.1/udp/4100/quic-v1".parse::<Multiaddr>().unwrap()]
        );
    }
}
