//! What was said: signed commands inside signed, chained ops, their order and their spread.
//!
//! In reading order: [`id`] and [`key`] name things and people; [`codec`] is the canonical encoding;
//! [`clock`] orders; [`entry`] frames what an op carries; [`command`] is what accounts ask for, [`report`]
//! what nodes tell; [`genesis`] begins a network and [`genesis::Invitation`] lets a node in; [`op`] is the
//! signed link of a chain.

pub mod clock;
pub mod codec;
pub mod command;
pub mod entry;
pub mod genesis;
pub mod id;
pub mod key;
pub mod op;
pub mod report;
