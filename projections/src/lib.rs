//! What is so: pure folds of the ledger's ops, in their total order, into one immutable view, the
//! [`cloud::Cloud`]. No effect, no clock, no failure: the same ops give the same bytes of `Cloud` on every
//! node, and what an entry asks for that cannot be is `Void` with a reason.
//!
//! In reading order: [`cloud`] is all views at one position; [`outcome`] is what becomes of an entry;
//! [`fold`] keeps a `Cloud` up to date, rewinding for late ops; one file for each area says what its
//! entries do.

pub mod accounts;
pub mod agents;
pub mod cloud;
pub mod domains;
pub mod images;
pub mod instances;
pub mod nodes;
pub mod outcome;
