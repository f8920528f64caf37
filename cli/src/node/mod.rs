//! The composition root: the daemon that owns the core of a node and the hands that act for it.
//!
//! In reading order: [`config`] is what a node is told at its start, [`folder`] where its key, its invitation
//! and its data lie; [`run`] puts the parts together; [`core`] is the thread that owns the state machine and
//! its store; [`hands`] do what it decides; [`blobs`] and [`logs`] are what nodes ask of one another;
//! [`door`] answers the API; [`host`] is what this machine has to offer.

pub mod blobs;
pub mod config;
pub mod core;
pub mod door;
pub mod folder;
pub mod hands;
pub mod host;
pub mod logs;
mod run;

pub use run::run;
