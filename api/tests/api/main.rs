//! The API over real sockets on loopback, before a small node in memory that folds with the real ledger and
//! projections.

#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod commands;
mod connections;
mod events;
mod node;
mod openapi;
mod people;
mod private;
mod views;
