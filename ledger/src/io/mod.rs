//! What touches the disk.

pub mod store;
