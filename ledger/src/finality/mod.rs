//! Finality: what the witnesses certified stands for ever.
//!
//! A small set of witnesses agrees, height by height, on a [`checkpoint::Checkpoint`]: how far each chain
//! is final, in which order, at what time, and what state came of the checkpoint before it. A
//! [`checkpoint::Certificate`] proves a checkpoint to everybody by the precommits of more than two thirds of
//! the [`witness::WitnessSet`]'s weight. Without a quorum everything goes on, tentative.
//!
//! In reading order: [`witness`] says who votes, [`checkpoint`] what is voted on and what proves it,
//! [`recovery`] who votes when a quorum is lost for good. [`vote`] is what witnesses say to each other and
//! write down before they do, [`consensus`] the rule by which one of them says it. [`chain`] follows
//! certificates from the genesis: all that a light client or a joiner needs.

pub mod chain;
pub mod checkpoint;
pub mod consensus;
pub mod recovery;
pub mod vote;
pub mod witness;
