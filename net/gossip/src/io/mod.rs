//! Everything with effects: the swarm and the tasks around it.

pub(crate) mod exchange;
pub(crate) mod handle;
pub(crate) mod peer;
pub(crate) mod reason;
pub(crate) mod resolve;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod start;
pub(crate) mod streams;
pub(crate) mod wire;
