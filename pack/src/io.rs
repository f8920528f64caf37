//! What touches this host: contexts on disk, the store of blobs, the builder.
//!
//! Nothing here is asynchronous; a caller with a reactor runs it on a blocking thread.

pub mod context;
pub mod store;
