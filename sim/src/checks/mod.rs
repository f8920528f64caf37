//! What must hold: a file for each claim. A violated claim is a sentence, not a panic.
//!
//! Some claims hold at any time, the others once the faults have ended and the network has settled.

pub mod acknowledged;
pub mod builds;
pub mod convergence;
pub mod finality;
pub mod fold;
pub mod journal;
pub mod machines;
pub mod quiet;
pub mod tables;

use ledger::id::{Digest, NodeId};
use ledger::report::nodes::Roles;

use crate::host::Host;

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which claim: the name of its file.
    pub claim: &'static str,
    /// What was seen instead.
    pub seen: String,
}

/// Whether a claim holds.
pub type Holds = Result<(), Violation>;

/// A node that is up, as the claims about a settled network look at it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The number of the node.
    pub index: usize,
    /// Its key.
    pub id: NodeId,
    /// What runs there.
    pub roles: Roles,
    /// Its host.
    pub host: &'a Host,
}

/// Whether any of these nodes can give a blob.
fn held_somewhere(places: &[Place<'_>], digest: Digest) -> bool {
    places.iter().any(|place| place.host.holds(digest).is_some())
}
