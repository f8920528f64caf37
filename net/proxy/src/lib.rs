//! The front door of a node: HTTP/1.1 by host name to a healthy instance, on this node or another.
//!
//! It routes by the table of fronts and nothing else, holds no body (both ways stream), and trusts nothing
//! that a stranger says of itself. It speaks no TLS and no HTTP/2, keeps no cache and checks no health: who
//! stands in the table is healthy, and who fails to answer is tried last for a while.
//!
//! ```text
//! connection ─▶ gate (framing) ─▶ hyper ─▶ exchange: host ─▶ target ─▶ pool ─▶ instance
//!                                             │ refused, unknown, none, failed
//!                                             └─▶ problem+json
//! ```
//! Modules: [`host`], [`headers`], [`framing`], [`choice`] and [`problem`] are pure; `io/` has the sockets.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod choice;
pub mod config;
pub mod counters;
pub mod framing;
pub mod headers;
pub mod host;
mod io;
pub mod problem;

pub use config::ProxyConfig;
pub use counters::{Counters, HostCounters};
pub use io::server::{Proxy, ProxyServer, StartError};
