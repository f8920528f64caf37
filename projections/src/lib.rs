//! What is so: pure folds of the ledger's ops, in their total order, into one immutable view, the
//! [`cloud::Cloud`]. No effect, no clock, no failure: the same ops give the same bytes of `Cloud` on every
//! node, and what an entry asks for that cannot be is `Void` with a reason.
//!
//! In reading order: [`cloud`] is all views at one position; [`outcome`] is what becomes of an entry;
//! [`fold`] keeps a `Cloud` up to date, rewinding for late ops; [`finality`] is how far it stands for ever,
//! [`revocations`] and `denials` what does not count though it is in the log; `entries` and `commands` say whether an
//! entry counts at all, then one file for each area what it does, through the writer of `undo`;
//! [`rendezvous`] chooses between rivals; [`names`] tells whose a name is for good; [`queries`] are what several
//! readers of a `Cloud` ask. [`state`] is a `Cloud` as entries of a [`tree`], whose root is certified and whose
//! chunks are a snapshot.
//!
//! ```
//! use ledger::clock::Hlc;
//! use ledger::genesis::Genesis;
//! use ledger::id::OpId;
//! use ledger::key::SecretKey;
//! use ledger::op::{Body, Chain, Op, Slot};
//! use ledger::report::{Report, nodes::OpenChain};
//! use projections::fold::Fold;
//!
//! let key = SecretKey::from_seed([1; 32]);
//! let genesis =
//!     Genesis { name: "home".into(), admins: vec![key.public()], admins_needed: 1, witnesses: Default::default(), created_ms: 0, salt: [0; 16] };
//! let chain = Chain { node: key.node_id(), incarnation: 1 };
//! let slot = Slot { chain, seq: 0, previous: OpId([0; 32]) };
//! let open = Report::from(OpenChain { invitation: Vec::new(), before: None });
//! let body = Body { hlc: Hlc::at_ms(1), dependencies: Vec::new(), entries: vec![open.to_entry()] };
//! let op = Op::sign(genesis.network(), slot, body, &key);
//!
//! let mut fold = Fold::new(genesis);
//! let changes = fold.apply(vec![op]);
//! assert_eq!(changes[0].kind, "OpenChain");
//! assert!(fold.cloud().nodes.contains_key(&key.node_id()));
//! ```

pub mod accounts;
pub mod admin;
pub mod agents;
pub mod cloud;
mod commands;
pub mod credits;
mod denials;
pub mod domains;
mod entries;
pub mod finality;
pub mod fold;
pub mod images;
pub mod instances;
pub mod keys;
pub mod kinds;
pub mod names;
pub mod nodes;
pub mod outcome;
pub mod queries;
pub mod rendezvous;
pub mod revocations;
pub mod state;
pub mod tree;
pub mod undo;

// Some files of tests/fold are shared by tests inside the crate.
#[cfg(test)]
extern crate self as projections;
