//! Commands about domain names.

use serde::{Deserialize, Serialize};

use super::accounts::check_label;
use crate::codec::DecodeError;
use crate::id::AgentId;

/// The zone of vanity names, of which anybody may claim one that is free.
pub const VANITY_ZONE: &str = "fog";

/// Claims a vanity name for an agent of the account. First come, first served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimDomain {
    /// The name in lower case without a trailing dot, such as `hello.fog`.
    pub name: String,
    /// Where it leads.
    pub agent: AgentId,
}

/// Gives a name back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseDomain {
    /// The name.
    pub name: String,
}

fn check_vanity(name: &str) -> Result<(), DecodeError> {
    let outside = DecodeError::Meaningless("a domain that is not <label>.fog");
    let (label, zone) = name.split_once('.').ok_or_else(|| outside.clone())?;
    if zone != VANITY_ZONE {
        return Err(outside);
    }
    check_label(label)
}

impl ClaimDomain {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_vanity(&self.name)
    }
}

impl ReleaseDomain {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_vanity(&self.name)
    }
}
