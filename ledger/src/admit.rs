//! Admission: whether an op may enter the log. It asks form only.
//!
//! Every node must come to the same answer about an op, so the rules read the op, the ops it names and the
//! genesis, never a view: size, canonical bytes, the link to the op before, a clock greater than that of the
//! op before and of each dependency, the invitation in a chain's first op, signatures. Whether what an op
//! says has any effect is for the fold.
//!
//! **Commands carried by an op are checked here too**, in one batch with the op's own signature, and an op
//! with a command that is malformed or forged is refused whole: an honest node never appends one. So the
//! fold, which may run over an op many times, need not look at signatures.
//!
//! What is right but early waits in [`crate::limbo`]: an op whose predecessor or dependency is missing, and
//! one whose clock is too far ahead of ours.

use serde::{Deserialize, Serialize};

use crate::codec::DecodeError;
use crate::command;
use crate::genesis::{InvitationError, SignedInvitation};
use crate::id::{NetworkId, OpId};
use crate::key::Check;
use crate::limbo::Missing;
use crate::log::{LinkError, Log};
use crate::op::Op;
use crate::report::Report;
use crate::report::nodes::OpenChain;
use crate::sync::{RUN_BYTES_MAX, RUN_OPS_MAX};

/// Whether signatures are checked and made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// They are.
    Real,
    /// Every signature on an op or a command passes and own ops carry an empty one: for the simulator, where
    /// signatures would take most of the time. Invitations are checked all the same.
    Trusting,
}

/// Why an op is refused for ever.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its bytes are not an op's.
    #[error("not an op: {0}")]
    Malformed(#[from] DecodeError),
    /// It is the first of its chain and names an op before, or it is not and names none.
    #[error("its place in the chain and the op before disagree")]
    BrokenLink,
    /// Another op stands in its place, or before it.
    #[error("another op of the same chain stands in its place, or before it")]
    Forked,
    /// Its clock is not greater than that of an op that it depends on.
    #[error("its clock is not greater than that of an op that it depends on")]
    ClockBackwards,
    /// Neither its own signature nor one that vouches for it holds.
    #[error("its signature does not hold")]
    BadSignature,
    /// It carries what is not a command.
    #[error("it carries a malformed command: {0}")]
    MalformedCommand(DecodeError),
    /// It carries a command whose signature does not hold.
    #[error("it carries a command whose signature does not hold")]
    ForgedCommand,
    /// It is the first of its chain and does not open it.
    #[error("it is the first of its chain and does not begin with OpenChain")]
    NotOpened,
    /// It opens a chain with an invitation that does not let its node in.
    #[error("it opens a chain without being invited: {0}")]
    NotInvited(#[from] InvitationError),
}

impl Refusal {
    /// Whether an honest peer would never have sent it. A fork's two sides both reach honest peers: not the
    /// peer is to blame but the chain's node, by a proof.
    pub fn blames_the_sender(&self) -> bool {
        !matches!(self, Refusal::Forked)
    }
}

/// What happened at the door, counted since the replica was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Ops of this node that were appended.
    pub appended: u64,
    /// Ops of others that were admitted.
    pub admitted: u64,
    /// Ops that were here already.
    pub duplicate: u64,
    /// Ops that had to wait for another op.
    pub waited: u64,
    /// Ops that had to wait because their clock was too far ahead.
    pub held: u64,
    /// Ops that waited and were thrown out at a bound.
    pub evicted: u64,
    /// Ops refused: not an op.
    pub malformed: u64,
    /// Ops refused: place and predecessor disagree.
    pub broken_link: u64,
    /// Ops refused: another op stands there.
    pub forked: u64,
    /// Ops refused: clock not greater than that of an op they depend on.
    pub clock_backwards: u64,
    /// Runs refused: the signature of the last op does not hold.
    pub bad_signature: u64,
    /// Ops refused: a carried command is malformed.
    pub malformed_command: u64,
    /// Ops refused: a carried command is forged.
    pub forged_command: u64,
    /// Ops refused: first of a chain without opening it.
    pub not_opened: u64,
    /// Ops refused: chain opened without an invitation that holds.
    pub not_invited: u64,
    /// Ops not let in: of a forked chain, from the fork on.
    pub void: u64,
    /// Chains that were put into quarantine, or earlier than before.
    pub quarantined: u64,
    /// Ops that left the log with a quarantine.
    pub left: u64,
    /// Proofs of forks that peers brought and that said nothing new.
    pub stale_proof: u64,
    /// Proofs of forks refused: they prove nothing.
    pub bad_proof: u64,
    /// Ops asked for by name.
    pub wanted: u64,
    /// Frames refused: not a frame, or larger than a frame may be.
    pub bad_frame: u64,
    /// Frames ignored: from a peer that is not connected.
    pub stranger: u64,
    /// Frames ignored or held back: the peer asked for more than its share.
    pub throttled: u64,
}

impl Counters {
    pub(crate) fn count(&mut self, refusal: &Refusal) {
        let counter = match refusal {
            Refusal::Malformed(_) => &mut self.malformed,
            Refusal::BrokenLink => &mut self.broken_link,
            Refusal::Forked => &mut self.forked,
            Refusal::ClockBackwards => &mut self.clock_backwards,
            Refusal::BadSignature => &mut self.bad_signature,
            Refusal::MalformedCommand(_) => &mut self.malformed_command,
            Refusal::ForgedCommand => &mut self.forged_command,
            Refusal::NotOpened => &mut self.not_opened,
            Refusal::NotInvited(_) => &mut self.not_invited,
        };
        *counter += 1;
    }
}

/// What admission says about an authentic op.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may enter the log.
    Admit,
    /// It is in the log.
    Duplicate,
    /// It may enter later.
    Wait(Missing),
    /// It is of a forked chain, from the fork on, and not final: it counts nowhere.
    Void,
    /// It never may.
    Refuse(Refusal),
}

impl From<Refusal> for Verdict {
    fn from(refusal: Refusal) -> Self {
        Verdict::Refuse(refusal)
    }
}

/// The signatures of the commands that an op carries. Commands of unknown kinds are checked as well; an
/// entry of a later version of [`crate::report::Carry`] is not known to be a command and passes.
pub fn command_checks(network: NetworkId, op: &Op) -> Result<Vec<Check>, Refusal> {
    let mut checks = Vec::new();
    for entry in &op.body().entries {
        if !entry.is_carry() {
            continue;
        }
        let command = entry.carried().map_err(Refusal::MalformedCommand)?;
        checks.push(command::check_of(network, &command).map_err(Refusal::MalformedCommand)?);
    }
    Ok(checks)
}

/// Judges an authentic op against the log. `op` is what [`command_checks`] and its signature let pass.
pub fn judge(network: NetworkId, log: &Log, op: &Op, now_ms: u64) -> Verdict {
    let slot = op.slot();
    if log.fork_seq(&slot.chain).is_some_and(|seq| slot.seq >= seq) {
        return if log.contains(&op.id()) {
            Verdict::Duplicate
        } else {
            Verdict::Void
        };
    }
    if (slot.seq == 0) != (slot.previous == OpId([0; 32])) {
        return Refusal::BrokenLink.into();
    }
    match log.link(op) {
        Ok(()) => {}
        Err(LinkError::Duplicate) => return Verdict::Duplicate,
        Err(LinkError::Forked) => return Refusal::Forked.into(),
        // The id of an op covers its place, so the op before cannot stand anywhere else.
        Err(LinkError::Gap) if log.contains(&slot.previous) => return Refusal::BrokenLink.into(),
        Err(LinkError::Gap) => return Verdict::Wait(Missing::Op(slot.previous.into())),
    }
    let hlc = op.body().hlc;
    if log
        .head(&slot.chain)
        .is_some_and(|before| before.body().hlc >= hlc)
    {
        return Refusal::ClockBackwards.into();
    }
    if slot.seq == 0
        && let Err(refusal) = judge_opening(network, op)
    {
        return refusal.into();
    }
    if hlc.is_ahead_of(now_ms) {
        return Verdict::Wait(Missing::Time(hlc));
    }
    for dependency in &op.body().dependencies {
        match log.named(dependency) {
            // What it saw before it knew of the fork. Whether its clock is greater is not asked: not every
            // node knows more of a void op than its id, and all have to judge alike.
            None if log.is_void(dependency) => {}
            None => return Verdict::Wait(Missing::Op(*dependency)),
            Some(named) if named.body().hlc >= hlc => return Refusal::ClockBackwards.into(),
            Some(_) => {}
        }
    }
    // An op without a signature waits where the end of its chain that nothing vouches for is already as
    // long as a run may be: every admitted op must fit into a run that proves it to others.
    if op.signature().is_none() {
        let ops = log.next(&slot.chain) - log.proven_next(&slot.chain);
        let bytes = log.unproven_bytes(&slot.chain) + op.bytes().len();
        if ops + 1 >= RUN_OPS_MAX as u64 || bytes > RUN_BYTES_MAX {
            return Verdict::Wait(Missing::Op(slot.previous.into()));
        }
    }
    Verdict::Admit
}

fn judge_opening(network: NetworkId, op: &Op) -> Result<(), Refusal> {
    let opening = op.body().entries.first().map(Report::from_entry);
    let Some(Ok(Report::OpenChain(OpenChain { invitation, .. }))) = opening else {
        return Err(Refusal::NotOpened);
    };
    let invitation = SignedInvitation::decode(&invitation).map_err(InvitationError::from)?;
    Ok(invitation.verify(network, op.node())?)
}
