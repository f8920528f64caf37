//! Who may have other names passed on. Pure.

use std::net::IpAddr;

use net::prefix::Prefix;

/// Whether a client may have names passed on: the host itself always.
pub fn may_forward(client: IpAddr, prefixes: &[Prefix]) -> bool {
    let client = client.to_canonical();
    client.is_loopback() || prefixes.iter().any(|p| p.contains(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_passed_on_for_the_host_itself_and_for_named_clients() {
        let prefixes = ["fd12:3456:789a::/48".parse().unwrap()];
        for (client, may) in [
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("::1", true),
            ("fd12:3456:789a:1::5", true),
            ("192.0.2.1", false),
        ] {
            assert_eq!(may_forward(client.parse().unwrap(), &prefixes), may, "{client}");
        }
    }
}
