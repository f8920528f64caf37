//! What was said: signed commands inside signed, chained ops, their order and their spread.
//!
//! In reading order: [`id`] and [`key`] name things and people; [`codec`] is the canonical encoding;
//! [`clock`] orders; [`entry`] frames what an op carries; [`command`] is what accounts ask for, [`report`]
//! what nodes tell; [`genesis`] begins a network and [`genesis::Invitation`] lets a node in; [`op`] is the
//! signed link of a chain. [`admit`] is the door, [`limbo`] where early ops wait, [`log`] what was let in,
//! [`vector`] its summary. [`sync`] is what replicas say to each other: [`compare`] finds what differs, [`push`]
//! sends it, [`plumtree`] and [`spread`] bring what is new, [`peers`] keeps what each is owed, [`receive`] is how
//! frames come in. [`fork`] proves that a node wrote two ops in one place, [`quarantine`] is what follows,
//! [`void`] what is left of it, [`want`] asks for ops by name. [`finality`] says what stands for ever,
//! [`certified`] what of the log that is. [`replica`] is all of that together. [`journal`] numbers what was
//! folded; `io` (feature `store`) keeps ops and journal on disk.

pub mod admit;
pub mod certified;
mod chance;
pub mod clock;
pub mod codec;
pub mod command;
pub mod compare;
pub mod entry;
pub mod export;
pub mod finality;
pub mod fork;
pub mod genesis;
pub mod id;
#[cfg(feature = "store")]
pub mod io;
pub mod journal;
pub mod key;
pub mod limbo;
pub mod log;
pub mod op;
pub mod peers;
pub mod plumtree;
pub mod push;
pub mod quarantine;
pub mod receive;
pub mod replica;
pub mod report;
pub mod spread;
pub mod sync;
pub mod vector;
pub mod void;
pub mod want;
