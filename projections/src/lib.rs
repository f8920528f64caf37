//! What is so: pure folds of the ledger's ops, in their total order, into one immutable view, the
//! [`cloud::Cloud`]. No effect, no clock, no failure: the same ops give the same bytes of `Cloud` on every
//! node, and what an entry asks for that cannot be is `Void` with a reason.
//!
//! In reading order: [`cloud`] is all views at one position; [`outcome`] is what becomes of an entry;
//! [`fold`] keeps a `Cloud` up to date, rewinding for late ops; [`entries`] and `commands` say whether an entry
//! counts at all, then one file for each area what it does, through the writer of `undo`; [`queries`] are
//! the questions that several readers of a `Cloud` ask.

pub mod accounts;
pub mod agents;
pub mod cloud;
mod commands;
pub mod domains;
pub mod entries;
pub mod fold;
pub mod images;
pub mod instances;
pub mod nodes;
pub mod outcome;
pub mod queries;
pub mod rendezvous;
mod undo;
