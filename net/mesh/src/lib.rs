//! The host's links, routes and filters for the guests, made to match a [`net::guests::GuestTable`].
//!
//! Level-triggered: [`Mesh::apply`] reads what the kernel holds, works out the differences and makes only
//! those, so it is safe twice, it mends what somebody else undid, and a restarted daemon goes on where it was.
//! What is ours is known by mark, not by memory: taps by the prefix of their name, routes and addresses by
//! their protocol number, filters by their table. It decides nothing: every address is in the table.
//!
//! Modules: [`plan`] (what is wanted and found, and the steps between: pure), [`filter`] (the rules: pure),
//! [`tap`] (attaching to a tap), `io/` (netlink, `nft`, sysctl).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod filter;
mod io;
pub mod plan;

pub use io::mesh::{ApplyError, Changes, ClearError, FailedStep, Mesh, MeshConfig, OpenError};
pub use io::tap;
