//! The tables that the reactors make and the network hands apply: plain values, no effect.
//!
//! [`address`] derives every address, tap and Ethernet address; [`names`] is what the DNS answers from,
//! [`fronts`] what the proxy routes by, [`guests`] what the host's taps, routes and filters are set from,
//! [`prefix`] reads the prefixes of a configuration. The
//! hands are crates of their own beside this one: `gossip` (transport between nodes), `mesh` (links, routes,
//! filters), `dns`, `proxy`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod address;
pub mod fronts;
pub mod guests;
pub mod names;
pub mod prefix;
