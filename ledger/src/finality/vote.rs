//! What witnesses say to each other, and what they write down before they say it.
//!
//! ```text
//! named    := 0 | 1 ‖ id (32)
//! vote     := 1 (prevote) | 2 (precommit) ‖ height (varint) ‖ round (varint) ‖ named recovery
//!             ‖ named checkpoint ‖ witness (32) ‖ signature (64) over vote_message (checkpoint.rs)
//! proposal := length (varint) ‖ checkpoint ‖ round (varint) ‖ 0 | valid round + 1 (varint)
//!             ‖ named recovery ‖ proposer (32) ‖ signature (64) over BLAKE3-derive-key(
//!                 "formation 2026 proposal v1", network id ‖ height (8 LE) ‖ round (4 LE)
//!                 ‖ 0 | valid round + 1 (8 LE) ‖ named recovery ‖ checkpoint id)
//! message  := 1 ‖ proposal  |  2 ‖ vote  |  3 ‖ signed recovery
//! record   := 1 ‖ proposal  |  2 ‖ vote  |  3 ‖ signed recovery
//!             |  4 ‖ round (varint) ‖ named recovery ‖ length (varint) ‖ checkpoint: the lock
//! ```

use super::checkpoint::{CHECKPOINT_BYTES_MAX, Checkpoint, VoteKind, vote_message};
use super::recovery::SignedRecovery;
use crate::admit::Verify;
use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{CheckpointId, NetworkId, NodeId, RecoveryId, hash};
use crate::key::{Check, SIGNATURE_BYTES, SecretKey, Signature};

/// Bytes of a message or a record, at most.
pub const MESSAGE_BYTES_MAX: usize = CHECKPOINT_BYTES_MAX + 256;

/// A vote of one witness in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Prevote or precommit.
    pub kind: VoteKind,
    /// At which height, from 1.
    pub height: u64,
    /// In which round, from 0.
    pub round: u32,
    /// The recovery that named the height's witnesses, if one did.
    pub recovery: Option<RecoveryId>,
    /// For which checkpoint; nothing votes for none in this round.
    pub checkpoint: Option<CheckpointId>,
    /// Who votes.
    pub witness: NodeId,
    /// The witness's signature over [`vote_message`].
    pub signature: Signature,
}

/// What one witness proposes to the others in its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// In which round, from 0.
    pub round: u32,
    /// The earlier round in which more than two thirds prevoted for it, if there was one.
    pub valid_round: Option<u32>,
    /// The recovery that named the height's witnesses, if one did.
    pub recovery: Option<RecoveryId>,
    /// What is proposed; it says for which height.
    pub checkpoint: Checkpoint,
    /// Whose turn it is.
    pub proposer: NodeId,
    /// The proposer's signature.
    pub signature: Signature,
}

fn sign(secret: &SecretKey, message: [u8; 32], verify: Verify) -> Signature {
    match verify {
        Verify::Real => secret.sign(&message),
        Verify::Trusting => Signature([0; SIGNATURE_BYTES]),
    }
}

fn write_named(writer: &mut Writer, id: Option<[u8; 32]>) {
    match id {
        None => writer.varint(0),
        Some(id) => writer.varint(1).raw(&id),
    };
}

fn read_named(reader: &mut Reader<'_>, what: &'static str) -> Result<Option<[u8; 32]>, DecodeError> {
    match reader.varint(1, what)? {
        0 => Ok(None),
        _ => Ok(Some(reader.array(what)?)),
    }
}

fn read_round(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    Ok(reader.varint(u64::from(u32::MAX), "a round")? as u32)
}

impl Vote {
    /// The bytes that are signed.
    pub fn message(&self, network: NetworkId) -> [u8; 32] {
        vote_message(
            network,
            self.kind,
            self.height,
            self.round,
            self.recovery,
            self.checkpoint,
        )
    }

    /// The vote with the signature of `secret`, or with an empty one where none are made.
    pub fn signed(mut self, network: NetworkId, secret: &SecretKey, verify: Verify) -> Self {
        self.signature = sign(secret, self.message(network), verify);
        self
    }

    /// The signature to check.
    pub fn checks(&self, network: NetworkId) -> Check {
        Check {
            key: self.witness.into(),
            message: self.message(network),
            signature: self.signature,
        }
    }

    /// Appends the canonical bytes.
    pub fn write(&self, writer: &mut Writer) {
        writer
            .varint(match self.kind {
                VoteKind::Prevote => 1,
                VoteKind::Precommit => 2,
            })
            .varint(self.height)
            .varint(u64::from(self.round));
        write_named(writer, self.recovery.map(|id| id.0));
        write_named(writer, self.checkpoint.map(|id| id.0));
        writer.raw(&self.witness.0).raw(&self.signature.0);
    }

    /// Reads canonical bytes.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = match reader.varint(2, "a kind of vote")? {
            1 => VoteKind::Prevote,
            2 => VoteKind::Precommit,
            _ => return Err(DecodeError::Meaningless("a kind of vote")),
        };
        let height = reader.varint(u64::MAX, "a vote's height")?;
        if height == 0 {
            return Err(DecodeError::Meaningless("a vote's height"));
        }
        Ok(Self {
            kind,
            height,
            round: read_round(reader)?,
            recovery: read_named(reader, "a vote's recovery")?.map(RecoveryId),
            checkpoint: read_named(reader, "a vote's checkpoint")?.map(CheckpointId),
            witness: NodeId(reader.array("a witness")?),
            signature: Signature(reader.array("a vote's signature")?),
        })
    }
}

impl Proposal {
    /// The height that it is for.
    pub fn height(&self) -> u64 {
        self.checkpoint.height
    }

    /// The bytes that are signed.
    pub fn message(&self, network: NetworkId) -> [u8; 32] {
        let valid_round = self.valid_round.map_or(0, |round| u64::from(round) + 1);
        let mut recovery = Writer::new();
        write_named(&mut recovery, self.recovery.map(|id| id.0));
        hash(
            "formation 2026 proposal v1",
            &[
                &network.0,
                &self.height().to_le_bytes(),
                &self.round.to_le_bytes(),
                &valid_round.to_le_bytes(),
                &recovery.into_bytes(),
                &self.checkpoint.id(network).0,
            ],
        )
    }

    /// The proposal with the signature of `secret`, or with an empty one where none are made.
    pub fn signed(mut self, network: NetworkId, secret: &SecretKey, verify: Verify) -> Self {
        self.signature = sign(secret, self.message(network), verify);
        self
    }

    /// The signature to check.
    pub fn checks(&self, network: NetworkId) -> Check {
        Check {
            key: self.proposer.into(),
            message: self.message(network),
            signature: self.signature,
        }
    }

    /// Appends the canonical bytes.
    pub fn write(&self, writer: &mut Writer) {
        writer
            .sized(&self.checkpoint.encode())
            .varint(u64::from(self.round))
            .varint(self.valid_round.map_or(0, |round| u64::from(round) + 1));
        write_named(writer, self.recovery.map(|id| id.0));
        writer.raw(&self.proposer.0).raw(&self.signature.0);
    }

    /// Reads canonical bytes.
    pub fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let checkpoint = Checkpoint::decode(reader.sized(CHECKPOINT_BYTES_MAX, "a checkpoint")?)?;
        let round = read_round(reader)?;
        // A valid round is an earlier one, so that it plus 1 is at most this round.
        let valid_round = reader.varint(u64::from(round), "a valid round")?.checked_sub(1);
        Ok(Self {
            round,
            valid_round: valid_round.map(|round| round as u32),
            recovery: read_named(reader, "a proposal's recovery")?.map(RecoveryId),
            checkpoint,
            proposer: NodeId(reader.array("a proposer")?),
            signature: Signature(reader.array("a proposal's signature")?),
        })
    }
}

/// What is told to the other witnesses, and told again to those who lag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A proposal.
    Proposal(Proposal),
    /// A vote.
    Vote(Vote),
    /// Other witnesses for this height.
    Recovery(SignedRecovery),
}

/// What a witness writes down before it says anything that rests on it. With its records back it never votes
/// otherwise than it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Its own proposal.
    Proposal(Proposal),
    /// Its own vote.
    Vote(Vote),
    /// Other witnesses for this height.
    Recovery(SignedRecovery),
    /// What it is locked on, written before the precommit.
    Lock {
        /// In which round.
        round: u32,
        /// Under which set of witnesses.
        recovery: Option<RecoveryId>,
        /// On what: it has to be able to propose it again.
        checkpoint: Checkpoint,
    },
}

fn bounded(bytes: &[u8], what: &'static str) -> Result<(), DecodeError> {
    let (size, max) = (bytes.len() as u64, MESSAGE_BYTES_MAX as u64);
    if size > max {
        return Err(DecodeError::TooLarge { what, size, max });
    }
    Ok(())
}

impl Message {
    /// The height that it is for.
    pub fn height(&self) -> u64 {
        match self {
            Message::Proposal(proposal) => proposal.height(),
            Message::Vote(vote) => vote.height,
            Message::Recovery(signed) => signed.recovery.height,
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Message::Proposal(proposal) => proposal.write(writer.varint(1)),
            Message::Vote(vote) => vote.write(writer.varint(2)),
            Message::Recovery(signed) => {
                writer.varint(3).raw(&signed.encode());
            }
        }
        writer.into_bytes()
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "a message of a witness";
        bounded(bytes, what)?;
        let mut reader = Reader::new(bytes);
        let message = match reader.varint(3, what)? {
            1 => Message::Proposal(Proposal::read(&mut reader)?),
            2 => Message::Vote(Vote::read(&mut reader)?),
            3 => return Ok(Message::Recovery(SignedRecovery::decode(reader.rest())?)),
            _ => return Err(DecodeError::Meaningless(what)),
        };
        reader.end()?;
        Ok(message)
    }
}

impl Record {
    /// The height that it is for: records of certified heights can go.
    pub fn height(&self) -> u64 {
        match self {
            Record::Proposal(proposal) => proposal.height(),
            Record::Vote(vote) => vote.height,
            Record::Recovery(signed) => signed.recovery.height,
            Record::Lock { checkpoint, .. } => checkpoint.height,
        }
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Record::Proposal(proposal) => proposal.write(writer.varint(1)),
            Record::Vote(vote) => vote.write(writer.varint(2)),
            Record::Recovery(signed) => {
                writer.varint(3).raw(&signed.encode());
            }
            Record::Lock {
                round,
                recovery,
                checkpoint,
            } => {
                writer.varint(4).varint(u64::from(*round));
                write_named(&mut writer, recovery.map(|id| id.0));
                writer.sized(&checkpoint.encode());
            }
        }
        writer.into_bytes()
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "a witness's record";
        bounded(bytes, what)?;
        let mut reader = Reader::new(bytes);
        let record = match reader.varint(4, what)? {
            1 => Record::Proposal(Proposal::read(&mut reader)?),
            2 => Record::Vote(Vote::read(&mut reader)?),
            3 => return Ok(Record::Recovery(SignedRecovery::decode(reader.rest())?)),
            4 => Record::Lock {
                round: read_round(&mut reader)?,
                recovery: read_named(&mut reader, "a lock's recovery")?.map(RecoveryId),
                checkpoint: Checkpoint::decode(reader.sized(CHECKPOINT_BYTES_MAX, "a checkpoint")?)?,
            },
            _ => return Err(DecodeError::Meaningless(what)),
        };
        reader.end()?;
        Ok(record)
    }
}

/// Two things that a witness signed and may not both have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// Two votes of one kind in one round.
    Votes(Box<(Vote, Vote)>),
    /// Two proposals in one round.
    Proposals(Box<(Proposal, Proposal)>),
}

impl Evidence {
    /// Who lied.
    pub fn witness(&self) -> NodeId {
        match self {
            Evidence::Votes(both) => both.0.witness,
            Evidence::Proposals(both) => both.0.proposer,
        }
    }

    /// Whether it proves that.
    pub fn verify(&self, network: NetworkId) -> bool {
        let (conflict, checks) = match self {
            Evidence::Votes(both) => {
                let (a, b) = &**both;
                let place = |it: &Vote| (it.witness, it.kind, it.height, it.round, it.recovery);
                (
                    place(a) == place(b) && a.checkpoint != b.checkpoint,
                    [a.checks(network), b.checks(network)],
                )
            }
            Evidence::Proposals(both) => {
                let (a, b) = &**both;
                let place = |it: &Proposal| (it.proposer, it.height(), it.round, it.recovery);
                let (one, other) = (a.message(network), b.message(network));
                (
                    place(a) == place(b) && one != other,
                    [a.checks(network), b.checks(network)],
                )
            }
        };
        conflict && checks.iter().all(crate::key::verify)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::finality::checkpoint::FOLD_VERSION;

    fn vote() -> impl Strategy<Value = Vote> {
        let id = || proptest::option::of(any::<[u8; 32]>());
        (any::<bool>(), 1u64.., any::<u32>(), id(), id(), any::<[u8; 32]>()).prop_map(
            |(precommit, height, round, recovery, checkpoint, witness)| Vote {
                kind: [VoteKind::Prevote, VoteKind::Precommit][usize::from(precommit)],
                height,
                round,
                recovery: recovery.map(RecoveryId),
                checkpoint: checkpoint.map(CheckpointId),
                witness: NodeId(witness),
                signature: Signature([7; SIGNATURE_BYTES]),
            },
        )
    }

    fn proposal() -> impl Strategy<Value = Proposal> {
        (vote(), 2u64.., any::<bool>()).prop_map(|(vote, height, valid)| Proposal {
            round: vote.round,
            valid_round: vote.round.checked_sub(1).filter(|_| valid),
            recovery: vote.recovery,
            checkpoint: Checkpoint {
                height,
                previous: CheckpointId([3; 32]),
                time_ms: vote.height,
                order: vote.witness.0,
                state: [1; 32],
                forks: [2; 32],
                fold_version: FOLD_VERSION,
                heads: Vec::new(),
                next_witnesses: None,
            },
            proposer: vote.witness,
            signature: vote.signature,
        })
    }

    proptest! {
        #[test]
        fn what_is_said_and_written_reads_back(vote in vote(), proposal in proposal()) {
            let lock = Record::Lock {
                round: vote.round,
                recovery: vote.recovery,
                checkpoint: proposal.checkpoint.clone(),
            };
            for message in [Message::Vote(vote), Message::Proposal(proposal.clone())] {
                let mut bytes = message.encode();
                prop_assert_eq!(Message::decode(&bytes), Ok(message));
                bytes.push(0);
                prop_assert!(Message::decode(&bytes).is_err());
            }
            for record in [Record::Vote(vote), Record::Proposal(proposal), lock] {
                prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
            }
        }

        #[test]
        fn what_reads_has_one_encoding(
            vote in vote(), proposal in proposal(), which: bool, at: prop::sample::Index, byte: u8, end: prop::sample::Index,
        ) {
            let message = if which { Message::Vote(vote) } else { Message::Proposal(proposal) };
            let mut bytes = message.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Ok(message) = Message::decode(&bytes) {
                prop_assert_eq!(message.encode(), &bytes[..]);
            }
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), &bytes[..]);
            }
            prop_assert!(Message::decode(&bytes[..end.index(bytes.len())]).is_err());
        }

        #[test]
        fn each_field_of_a_vote_is_signed(vote in vote(), other in vote()) {
            let network = NetworkId([1; 32]);
            let same = Vote { witness: vote.witness, ..other } == vote;
            prop_assert_eq!(vote.message(network) == other.message(network), same);
            prop_assert_ne!(vote.message(network), vote.message(NetworkId([2; 32])));
        }
    }

    #[test]
    fn a_valid_round_is_an_earlier_one() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let tree = proposal().new_tree(&mut runner).expect("it makes one");
        let mut proposal = proptest::strategy::ValueTree::current(&tree);
        proposal.round = 5;
        for (valid_round, reads) in [(None, true), (Some(0), true), (Some(4), true), (Some(5), false)] {
            proposal.valid_round = valid_round;
            let bytes = Message::Proposal(proposal.clone()).encode();
            assert_eq!(Message::decode(&bytes).is_ok(), reads, "{valid_round:?}");
        }
    }
}
