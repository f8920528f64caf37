//! What becomes of an entry.

use ledger::clock::Hlc;
use ledger::command::Body;
use ledger::command::keys::Scope;
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
    /// The account has fewer credits.
    #[error("the account has {has} credits, {asked} were asked")]
    NotEnough {
        /// What it has.
        has: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The start of the node has rights to fewer credits of the account.
    #[error("the node has rights to {has} credits of the account, {asked} were asked")]
    NotEnoughRights {
        /// What it has.
        has: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The hold allows less.
    #[error("the hold has {left} credits left, {asked} were asked")]
    BeyondHold {
        /// What can still be charged.
        left: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The key, or one above it, may spend less.
    #[error("the key may spend {left} more credits, {asked} were asked")]
    BeyondAllowance {
        /// What is left of the smallest allowance.
        left: u64,
        /// What was asked for.
        asked: u64,
    },
    /// The node has told of no open account that is paid.
    #[error("the node has announced no payout account that is open")]
    NoPayout,
    /// The time of what it rests on is over.
    #[error("{0} has expired")]
    Lapsed(String),
    /// Two ops stand in one place of the chain, this one is neither before that place nor final.
    #[error("the chain of its op was forked: submit it through another node")]
    Quarantined,
    /// The op's node was revoked, and the op is not among what still counts of it.
    #[error("the node of its op was revoked, and the op is past the cut-off: submit it through another node")]
    CutOff,
    /// The key lacks what the command needs.
    #[error("the key has no scope `{0}`: sign with one that has, or have one added that has")]
    NoScope(Scope),
    /// The key was revoked.
    #[error("the key was revoked: sign with another key of the account")]
    KeyRevoked,
    /// The key's time is over.
    #[error("the key has expired: have a new one added")]
    KeyExpired,
    /// A key hands on what it has not.
    #[error("a key hands on no more than it has: this goes beyond {0}")]
    BeyondOwn(String),
    /// A key revokes what lies not below it.
    #[error("a key revokes only keys that it added, directly or through others")]
    NotBelow,
    /// The key that is added did not sign for it.
    #[error("the new key's own signature over the account does not hold: make it with the new key")]
    NoConsent,
    /// A bound is reached.
    #[error("there are {max} {what}, the most that there may be")]
    TooMany {
        /// Of what.
        what: String,
        /// The bound.
        max: u64,
    },
    /// What was asked for is so.
    #[error("it is so already: {0}")]
    AlreadySo(String),
    /// The key is no admin's.
    #[error("{0} is no admin of the network")]
    NotAdmin(PublicKey),
    /// The node that carries or says it was revoked.
    #[error("the node that carries it was revoked: submit it through another")]
    NodeRevoked,
    /// The node that carries or says it let its membership lapse.
    #[error("the membership of the node that carries it has expired: submit it through another")]
    MembershipExpired,
    /// The kind does not count yet.
    #[error("kind {kind} version {version} does not count in this network until its admins activate it")]
    NotActive {
        /// The kind.
        kind: u16,
        /// The version.
        version: u8,
    },
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
