//! The door of a node: signed commands in, views and events out, over HTTP.
//!
//! In reading order: [`path`] says where things are; [`door`] is what the API needs of the node behind it;
//! [`views`] are the answers, one file a noun; [`problem`] is the one format of errors; [`signature`] makes
//! and checks signed requests; `routes` serve; [`openapi`] tells machines; [`figures`] are for Prometheus;
//! [`serve()`] listens; [`client`] is the other side, used by the CLI.

#![cfg_attr(
    test,
    allow(clippy::unwrap_used, reason = "a test that fails here should say where")
)]

pub mod client;
pub mod door;
pub mod figures;
pub mod openapi;
pub mod path;
pub mod problem;
#[allow(
    clippy::result_large_err,
    reason = "a refusal is made once a request, on its way out"
)]
mod routes;
mod serve;
pub mod signature;
pub mod views;

pub use routes::{LOG_ANSWER_BYTES_MAX, Limits};
pub use serve::{Server, serve, serve_with};

/// The header that says with which byte of a log an answer begins.
pub const LOG_FROM: &str = "form-log-from";

/// The kind of an event that only tells a consumer where it is.
pub const EVENT_POSITION: &str = "position";

/// The type of the event that tells of a certificate.
pub const EVENT_CHECKPOINT: &str = "Checkpoint";
