//! Everything with effects: sockets, and passing questions on.

pub(crate) mod forward;
pub(crate) mod server;
