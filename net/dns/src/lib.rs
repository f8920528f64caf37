//! The DNS of a node: answers from the names table, over UDP and TCP.
//!
//! It is the authority of the table's zones, for A, AAAA, TXT, SOA and NS. Other names it passes on to
//! configured servers, for its own clients only, and it keeps no cache. It learns nothing by itself: when the
//! table is swapped, the next answer is from the new one.
//!
//! The message format is hickory-proto's; the sockets are ours, because hickory-server has no bound on its
//! connections and tasks. Modules: [`clients`] (who may have names passed on: pure), [`answer`] (one query to
//! one outcome: pure), `io/` (sockets, passing on).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod answer;
pub mod clients;
pub mod counters;
mod io;

pub use counters::Counters;
pub use io::server::{Dns, DnsConfig, DnsServer, StartError, system_upstreams};
