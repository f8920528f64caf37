//! Commands about agents.

use serde::{Deserialize, Serialize};

use super::accounts::{check_label, check_length};
use super::instances::Shape;
use crate::codec::DecodeError;
use crate::id::{AgentId, BuildId};

/// Bytes of an agent's description, at most.
pub const DESCRIPTION_MAX: usize = 4096;

/// Registers an agent. Its id is the command's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterAgent {
    /// Unique name: a DNS label. It makes the vanity name `<name>.fog`.
    pub name: String,
    /// What it is.
    pub release: Release,
}

/// Changes what an agent is; its instances stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateAgent {
    /// Which agent.
    pub agent: AgentId,
    /// What it is from now on.
    pub release: Release,
}

/// What an agent is: an image, the machine that it wants, and words for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// For people.
    pub description: String,
    /// Its image.
    pub build: BuildId,
    /// The machine that its instances want.
    pub shape: Shape,
    /// The port that its instances serve on.
    pub port: Option<u16>,
}

impl Release {
    fn check(&self) -> Result<(), DecodeError> {
        check_length(&self.description, DESCRIPTION_MAX, "an agent's description")?;
        if self.port == Some(0) {
            return Err(DecodeError::Meaningless("port 0"));
        }
        self.shape.check()
    }
}

impl RegisterAgent {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_label(&self.name)?;
        self.release.check()
    }
}

impl UpdateAgent {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        self.release.check()
    }
}
