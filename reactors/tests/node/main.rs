//! Whole nodes in one thread: two or three of them, a clock that the test moves, frames that the test carries.
//! See `wire` for what stands in for the daemon.

mod activation;
mod copies;
mod durability;
mod finality;
mod host;
mod membership;
mod presence;
mod time;
mod wire;
