//! Everything with effects: accepting, one exchange, the connections to instances, tunnels.

mod body;
mod exchange;
mod gate;
mod pool;
pub(crate) mod server;
mod tunnel;
