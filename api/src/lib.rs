//! The door of a node: signed commands in, views and events out, over HTTP.
//!
//! In reading order: [`path`] says where things are; [`door`] is what the API needs of the node behind it;
//! [`views`] are the answers, one file a noun; [`problem`] is the one format of errors.

pub mod door;
pub mod path;
pub mod problem;
pub mod views;
