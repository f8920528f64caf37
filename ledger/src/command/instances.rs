//! Commands about instances.

use serde::{Deserialize, Serialize};

use super::accounts::check_label;
use crate::codec::DecodeError;
use crate::id::{AgentId, BuildId, InstanceId};

/// The machine that an instance wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// Virtual processors, 1 to 128.
    pub vcpus: u8,
    /// Memory in MiB, 128 to 256,000.
    pub memory_mib: u32,
    /// Writable disk in GiB, 1 to 65,535.
    pub disk_gib: u16,
}

impl Shape {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        if !(1..=128).contains(&self.vcpus) {
            return Err(DecodeError::Meaningless(
                "a number of processors outside 1 to 128",
            ));
        }
        if !(128..=256_000).contains(&self.memory_mib) {
            return Err(DecodeError::Meaningless(
                "a memory size outside 128 to 256000 MiB",
            ));
        }
        if self.disk_gib == 0 {
            return Err(DecodeError::Meaningless("a disk size of 0 GiB"));
        }
        Ok(())
    }
}

/// Launches an instance. Its id is the command's. Image and shape never change: a new release is a new
/// instance beside the old one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchInstance {
    /// A DNS label, unique within the account.
    pub name: String,
    /// The agent that it serves, if any.
    pub agent: Option<AgentId>,
    /// Its image.
    pub build: BuildId,
    /// The machine that it wants.
    pub shape: Shape,
    /// The port that it serves on; the front door sends requests there.
    pub port: Option<u16>,
}

/// Stops an instance; its disk stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopInstance {
    /// Which.
    pub instance: InstanceId,
}

/// Starts a stopped instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartInstance {
    /// Which.
    pub instance: InstanceId,
}

/// Deletes an instance and its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteInstance {
    /// Which.
    pub instance: InstanceId,
}

impl LaunchInstance {
    pub(crate) fn check(&self) -> Result<(), DecodeError> {
        check_label(&self.name)?;
        if self.port == Some(0) {
            return Err(DecodeError::Meaningless("port 0"));
        }
        self.shape.check()
    }
}

macro_rules! nothing_to_check {
    ($($name:ident),*) => {$(
        impl $name {
            pub(crate) fn check(&self) -> Result<(), DecodeError> {
                Ok(())
            }
        }
    )*};
}

nothing_to_check!(StopInstance, StartInstance, DeleteInstance);
