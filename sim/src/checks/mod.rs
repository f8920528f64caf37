//! What must hold: a file for each claim. A violated claim is a sentence, not a panic.

pub mod acknowledged;
pub mod convergence;
pub mod machines;

/// A claim that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which claim: the name of its file.
    pub claim: &'static str,
    /// What was seen instead.
    pub seen: String,
}
