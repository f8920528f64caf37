//! What nodes tell: entries that an op carries besides commands, a file for each area.

pub mod credits;
pub mod images;
pub mod instances;
pub mod nodes;
pub mod upcast;

use crate::entry::bodies;

bodies! {
    /// A node's own entry.
    pub enum Report {
        /// Carries a signed command into the log.
        Carry(Carry) = 0x100 v 1,
        /// Opens a chain.
        OpenChain(nodes::OpenChain) = 0x101 v 1,
        /// Tells what the node is and where.
        AnnounceNode(nodes::AnnounceNode) = 0x102 v 2 after {
            1: upcast::AnnounceNodeV1 => upcast::announce_node_v1
        },
        /// An image was built.
        ImageBuilt(images::ImageBuilt) = 0x103 v 1,
        /// An image could not be built.
        ImageFailed(images::ImageFailed) = 0x104 v 1,
        /// An instance is placed on a node.
        PlaceInstance(instances::PlaceInstance) = 0x105 v 1,
        /// An instance cannot be placed.
        CannotPlace(instances::CannotPlace) = 0x106 v 1,
        /// What became of an instance on the node that holds it.
        InstanceChanged(instances::InstanceChanged) = 0x107 v 1,
        /// The node charges an account against a hold.
        Charge(credits::Charge) = 0x110 v 1,
        /// The node needs a hold no longer.
        EndHold(credits::EndHold) = 0x111 v 1,
        /// The node gives rights back that it does not need.
        ReturnRights(credits::ReturnRights) = 0x112 v 1,
        /// The node stays a member.
        RenewMembership(nodes::RenewMembership) = 0x108 v 1,
    }
}

/// A signed command, verbatim.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Carry {
    /// See [`crate::command`].
    pub command: Vec<u8>,
}

impl Carry {
    pub(crate) fn check(&self) -> Result<(), crate::codec::DecodeError> {
        let (size, max) = (
            self.command.len() as u64,
            crate::command::COMMAND_BYTES_MAX as u64,
        );
        if size > max {
            return Err(crate::codec::DecodeError::TooLarge {
                what: "a carried command",
                size,
                max,
            });
        }
        Ok(())
    }
}
