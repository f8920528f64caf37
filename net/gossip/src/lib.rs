//! Transport between nodes: opaque, bounded frames in order, and requests with an answer.
//!
//! This crate knows no ledger. It joins nodes of one network over QUIC and TCP, says which are up, and
//! carries what they send. It does not choose peers (the caller says whom to keep), does not repeat what was
//! lost (the ledger's synchronisation does) and never lets another network's nodes in.
//!
//! ```text
//! caller ──Handle::send/request/keep──▶ io::exchange (owns the swarm) ──▶ io::session, one task a peer up
//! caller ◀──Event────────────────────── PeerUp, Frame.., PeerDown of one peer come from one task, in order
//! ```
//! Modules in reading order: [`config`], [`event`], [`protocol`] (names and bounds of the wire), [`redial`]
//! (when to try again: pure), [`counters`], and `io/` (everything with effects).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod counters;
pub mod event;
mod io;
pub mod protocol;
pub mod redial;

pub use config::Config;
pub use counters::Counters;
pub use event::{Event, PeerInfo};
pub use io::handle::{DialError, Handle, RequestError};
pub use io::start::{StartError, node_id, start};
