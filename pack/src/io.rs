//! What touches this host: contexts on disk, the store of blobs, the builder.
//!
//! Nothing here is asynchronous; a caller with a reactor runs it on a blocking thread.

pub mod base;
pub mod build;
mod confine;
pub mod context;
pub mod disk;
mod edits;
mod install;
mod layers;
pub mod sandbox;
pub mod steplog;
pub mod store;
