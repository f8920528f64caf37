//! What accounts ask for: signed commands, a file for each area.
//!
//! ```text
//! command   := unsigned ‖ signature (64 bytes)
//! unsigned  := algorithm (varint, 0 = Ed25519) ‖ key (32) ‖ nonce (16) ‖ not_after_ms (varint)
//!              ‖ count (varint) ‖ that many ids of own commands that must come first (32 each) ‖ entry
//! id        := BLAKE3-derive-key("formation 2026 command v1", network id ‖ unsigned)
//! signature := over the id
//! ```
//! The network's id is in the hash, not in the bytes. Bytes are kept and relayed verbatim.

pub mod accounts;
pub mod admin;
pub mod agents;
pub mod credits;
pub mod domains;
pub mod images;
pub mod instances;
pub mod keys;

use crate::codec::{DecodeError, Reader, Writer};
use crate::entry::{Entry, EntryError, bodies};
use crate::id::{CommandId, NetworkId, hash};
use crate::key::{Check, PublicKey, SIGNATURE_BYTES, SecretKey, Signature};

/// A command may ask to count for at most this long after it was signed.
pub const LIFETIME_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// Commands that one command may name as coming first.
pub const AFTER_MAX: usize = 16;

/// Bytes of a whole command, at most: what fits, with its length, into the entry that carries it.
pub const COMMAND_BYTES_MAX: usize = crate::entry::ENTRY_BYTES_MAX - 8;

bodies! {
    /// The body of a command.
    pub enum Body {
        /// Opens an account.
        OpenAccount(accounts::OpenAccount) = 1 v 1,
        /// Asks for an image.
        BuildImage(images::BuildImage) = 2 v 1,
        /// Registers an agent.
        RegisterAgent(agents::RegisterAgent) = 3 v 1,
        /// Changes an agent's release.
        UpdateAgent(agents::UpdateAgent) = 4 v 1,
        /// Launches an instance.
        LaunchInstance(instances::LaunchInstance) = 5 v 1,
        /// Stops an instance.
        StopInstance(instances::StopInstance) = 6 v 1,
        /// Starts a stopped instance.
        StartInstance(instances::StartInstance) = 7 v 1,
        /// Deletes an instance.
        DeleteInstance(instances::DeleteInstance) = 8 v 1,
        /// Claims a name for an agent.
        ClaimDomain(domains::ClaimDomain) = 9 v 1,
        /// Gives a name back.
        ReleaseDomain(domains::ReleaseDomain) = 10 v 1,
        /// Gives credits to another account.
        TransferCredits(credits::TransferCredits) = 20 v 1,
        /// Moves credits into the rights of one start of a node.
        GrantRights(credits::GrantRights) = 21 v 1,
        /// Allows a node to charge up to an amount.
        PlaceHold(credits::PlaceHold) = 22 v 1,
        /// Clears away a hold that has expired.
        ReleaseHold(credits::ReleaseHold) = 23 v 1,
        /// Lets another key sign for the account.
        AddKey(keys::AddKey) = 11 v 1,
        /// Ends a key and all that it added.
        RevokeKey(keys::RevokeKey) = 12 v 1,
        /// Approves an act of the network's admins.
        ApproveAct(admin::ApproveAct) = 13 v 1,
    }
}

/// What a person signs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Who signs.
    pub key: PublicKey,
    /// Makes the command one of its kind: a key uses each nonce once. 128 random bits.
    pub nonce: [u8; 16],
    /// After this time, in milliseconds since 1970, the command no longer counts.
    pub not_after_ms: u64,
    /// Own commands that must have come first.
    pub after: Vec<CommandId>,
    /// What is asked for.
    pub body: Body,
}

impl Command {
    /// The canonical bytes and their id under a network.
    fn to_unsigned(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        let PublicKey::Ed25519(key) = self.key;
        writer
            .varint(0)
            .raw(&key)
            .raw(&self.nonce)
            .varint(self.not_after_ms);
        writer.varint(self.after.len() as u64);
        for id in &self.after {
            writer.raw(&id.0);
        }
        self.body.to_entry().write(&mut writer);
        writer.into_bytes()
    }

    /// Signs the command for a network. `secret` must be the secret half of `self.key`.
    pub fn sign(self, network: NetworkId, secret: &SecretKey) -> SignedCommand {
        let mut bytes = self.to_unsigned();
        let id = command_id(network, &bytes);
        let signature = secret.sign(&id.0);
        bytes.extend_from_slice(&signature.0);
        SignedCommand {
            id,
            kind: self.body.kind(),
            command: self,
            bytes,
            signature,
        }
    }
}

fn command_id(network: NetworkId, unsigned: &[u8]) -> CommandId {
    CommandId(hash("formation 2026 command v1", &[&network.0, unsigned]))
}

/// A command as it travels. Made by [`Command::sign`] or [`SignedCommand::decode`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCommand {
    id: CommandId,
    kind: (u16, u8),
    command: Command,
    bytes: Vec<u8>,
    signature: Signature,
}

/// Why bytes are not a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The framing is wrong.
    #[error("not a command: {0}")]
    Framing(#[from] DecodeError),
    /// Its entry is not known or not well formed.
    #[error("not a command that this node understands: {0}")]
    Entry(#[from] EntryError),
}

impl SignedCommand {
    /// Reads a command and computes its id; the signature is checked by whoever asks for [`Self::check`].
    pub fn decode(network: NetworkId, bytes: &[u8]) -> Result<Self, CommandError> {
        Self::read(network, bytes.to_vec())
    }

    /// As [`Self::decode`], of bytes that are given away.
    pub(crate) fn read(network: NetworkId, bytes: Vec<u8>) -> Result<Self, CommandError> {
        let frame = Frame::read(&bytes)?;
        let id = command_id(network, frame.unsigned);
        let Frame {
            key,
            nonce,
            not_after_ms,
            after,
            entry,
            signature,
            ..
        } = frame;
        let command = Command {
            key,
            nonce,
            not_after_ms,
            after,
            body: Body::from_entry(&entry)?,
        };
        Ok(Self {
            id,
            kind: (entry.kind, entry.version),
            command,
            bytes,
            signature,
        })
    }

    /// Its id.
    pub fn id(&self) -> CommandId {
        self.id
    }

    /// Its kind and the version in which it was written.
    pub fn kind(&self) -> (u16, u8) {
        self.kind
    }

    /// What was signed.
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The bytes as they were received.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The signature to check.
    pub fn check(&self) -> Check {
        Check {
            key: self.command.key,
            message: self.id.0,
            signature: self.signature,
        }
    }
}

/// The signature of a command to check, also when the command's kind is not known to this build.
pub fn check_of(network: NetworkId, bytes: &[u8]) -> Result<Check, DecodeError> {
    let frame = Frame::read(bytes)?;
    let message = command_id(network, frame.unsigned).0;
    Ok(Check {
        key: frame.key,
        message,
        signature: frame.signature,
    })
}

/// The kind and version of a command, also when this build does not know them.
pub fn kind_of(bytes: &[u8]) -> Result<(u16, u8), DecodeError> {
    let entry = Frame::read(bytes)?.entry;
    Ok((entry.kind, entry.version))
}

/// A command as it is framed; what its entry means is not known yet.
struct Frame<'a> {
    unsigned: &'a [u8],
    key: PublicKey,
    nonce: [u8; 16],
    not_after_ms: u64,
    after: Vec<CommandId>,
    entry: Entry,
    signature: Signature,
}

impl<'a> Frame<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let what = "a command";
        if bytes.len() > COMMAND_BYTES_MAX {
            let (size, max) = (bytes.len() as u64, COMMAND_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what, size, max });
        }
        let split = bytes
            .len()
            .checked_sub(SIGNATURE_BYTES)
            .ok_or(DecodeError::Truncated(what))?;
        let (unsigned, signature) = bytes.split_at(split);
        let mut reader = Reader::new(unsigned);
        reader.varint(0, "a key's algorithm")?;
        let key = PublicKey::Ed25519(reader.array("a command's key")?);
        let nonce = reader.array("a command's nonce")?;
        let not_after_ms = reader.varint(u64::MAX, "a command's not_after")?;
        let count = reader.varint(AFTER_MAX as u64, "a command's after")?;
        let after = (0..count)
            .map(|_| reader.array("a command's after").map(CommandId))
            .collect::<Result<Vec<_>, _>>()?;
        let entry = Entry::read(&mut reader)?;
        reader.end()?;
        let signature = Signature(signature.try_into().expect("split off at this length"));
        Ok(Self {
            unsigned,
            key,
            nonce,
            not_after_ms,
            after,
            entry,
            signature,
        })
    }
}
