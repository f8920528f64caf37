//! The DNS of a node: answers from the names table, over UDP and TCP.
//!
//! It is the authority of the table's zones, for A, AAAA, TXT, SOA and NS. Other names it passes on to
//! configured servers, for its own clients only, and it keeps no cache. It learns nothing by itself: when the
//! table is swapped, the next answer is from the new one.
//!
//! It is built on hickory-server: that decodes requests, builds and encodes responses, and our `Authority` is
//! its `RequestHandler`. The sockets are ours, because its `Server` has no bound on connections and tasks.
//! Modules: [`clients`] (who may have names passed on), `answer` (one request to one answer), `reply` (an
//! answer to bytes, cut to the client's room: the `ResponseHandler`), `authority` (any bytes to what becomes of
//! them: the `RequestHandler`), all without effects; `io/` (sockets, passing on).

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod answer;
mod authority;
pub mod clients;
pub mod counters;
mod io;
mod reply;

pub use counters::Counters;
pub use io::server::{Dns, DnsConfig, DnsServer, StartError, system_upstreams};
