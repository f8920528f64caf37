//! What becomes of an entry.

use ledger::clock::Hlc;
use ledger::command::Body;
use ledger::id::{CommandId, OpId};
use ledger::key::PublicKey;
use serde::{Deserialize, Serialize};

/// The kind's name of an entry that is not understood.
pub const UNKNOWN_KIND: &str = "Unknown";

/// What became of one entry of an op, as of a position: an op that arrives late may turn it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It changed the view as it asked.
    Applied,
    /// It changed nothing.
    Void(Void),
}

/// Why an entry changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Void {
    /// Its bytes do not decode, or are of a kind this build does not know.
    #[error("the entry is not understood: {0}")]
    NotUnderstood(String),
    /// The command's signature does not hold.
    #[error("the command's signature does not hold")]
    Forged,
    /// The command was in the log before.
    #[error("this command is in the log already")]
    Replayed,
    /// The key has used the nonce for another command.
    #[error("the nonce was used for another command of this key")]
    NonceUsed,
    /// The command came after its time.
    #[error("the command expired before it entered the log")]
    Expired,
    /// The command asks to count for too long.
    #[error("the command's `not_after` is more than 24 hours ahead")]
    TooFarAhead,
    /// A command that must come first is not in its past.
    #[error("the command {0} that must come first is not in the log before this one")]
    OutOfOrder(CommandId),
    /// The key signs for no account.
    #[error("the key signs for no account: open one with `form account open NAME`")]
    NoAccount,
    /// The key signs for an account already.
    #[error("the key signs for an account already")]
    HasAccount,
    /// The name is taken.
    #[error("the name `{0}` is taken")]
    NameTaken(String),
    /// There is no such thing.
    #[error("there is no such {0}")]
    NotFound(String),
    /// It belongs to another account.
    #[error("it belongs to another account")]
    NotOwner,
    /// It is gone, or on its way.
    #[error("it was deleted")]
    Deleted,
    /// Something of the account's still needs it, or a limit is reached.
    #[error("{0}")]
    Refused(String),
    /// A placement that does not continue one that counts, or a report of one that does not.
    #[error("the report is not about a placement that counts")]
    StalePlacement,
    /// Only the first report counts.
    #[error("it was reported before")]
    AlreadyReported,
    /// The author has no right to say so.
    #[error("the node that says so has no right to")]
    NotItsPlace,
    /// Two ops stand in one place of the chain, this one is neither before that place nor final.
    #[error("the chain of its op was forked: submit it through another node")]
    Quarantined,
    /// The op's node was revoked, and the op is not among what still counts of it.
    #[error("the node of its op was revoked, and the op is past the cut-off: submit it through another node")]
    CutOff,
}

/// A command and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    /// Who signed.
    pub key: PublicKey,
    /// The op that carried it first.
    pub op: OpId,
    /// Its kind.
    pub kind: u16,
    /// When it entered the log.
    pub at: Hlc,
    /// What became of it.
    pub outcome: Outcome,
}

impl CommandRecord {
    /// The name of its kind, as people see it.
    pub fn kind_name(&self) -> &'static str {
        Body::name_of(self.kind).unwrap_or(UNKNOWN_KIND)
    }
}
