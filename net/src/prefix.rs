//! Prefixes of addresses, such as those of clients that are trusted with more.
//!
//! They are read once, at the door, and then only asked whether an address lies in them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A prefix of addresses such as `fd12:3456:789a::/48`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

/// Why a text or a pair is no prefix.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no prefix such as 100.64.0.0/10 or fd12:3456:789a::/48")]
pub struct PrefixError(pub String);

impl Prefix {
    /// A prefix of an address and a length.
    pub fn new(address: IpAddr, bits: u8) -> Result<Self, PrefixError> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most {
            Err(PrefixError(format!("{address}/{bits}")))
        } else {
            Ok(Self { address, bits })
        }
    }

    /// Whether an address lies in it. IPv4 addresses that arrived on an IPv6 socket count as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let wide = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
            IpAddr::V6(address) => u128::from(address),
        };
        let address = address.to_canonical();
        if address.is_ipv4() != self.address.is_ipv4() {
            return false;
        }
        let differing = wide(address) ^ wide(self.address);
        self.bits == 0 || differing.leading_zeros() >= u32::from(self.bits)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let wrong = || PrefixError(text.chars().take(64).collect());
        let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
        let address = address.parse().map_err(|_| wrong())?;
        Self::new(address, bits.parse().map_err(|_| wrong())?).map_err(|_| wrong())
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_holds_what_lies_in_it_and_nothing_else() {
        for (prefix, address, holds) in [
            ("100.64.0.0/10", "100.127.255.255", true),
            ("100.64.0.0/10", "100.128.0.0", false),
            ("100.64.0.0/10", "::ffff:100.64.0.1", true),
            ("fd12:3456:789a::/48", "fd12:3456:789a:1::5", true),
            ("fd12:3456:789a::/48", "fd12:3456:789b::", false),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "fd00::1", false),
            ("192.0.2.1/32", "192.0.2.1", true),
        ] {
            let parsed: Prefix = prefix.parse().unwrap();
            assert_eq!(
                parsed.contains(address.parse().unwrap()),
                holds,
                "{address} in {prefix}"
            );
            assert_eq!(parsed.to_string(), prefix);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let _ = text.parse::<Prefix>();
        }
    }
}
