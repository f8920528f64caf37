//! What is voted on, and what proves it.
//!
//! ```text
//! checkpoint  := height (varint) ‖ id of the one before (32, zeros for the first) ‖ time_ms (varint)
//!                ‖ order root (32) ‖ state root (32) ‖ forks root (32) ‖ fold version (varint)
//!                ‖ count (varint) ‖ that many heads, in ascending order of chains:
//!                    node (32) ‖ incarnation (8 LE) ‖ next (varint) ‖ last id (32)
//!                ‖ 0 | 1 ‖ witnesses of the next height, where they differ from those of this one
//! id          := BLAKE3-derive-key("formation 2026 checkpoint v1", network id ‖ checkpoint)
//! certificate := length (varint) ‖ checkpoint ‖ round (varint)
//!                ‖ 0 | 1 ‖ length (varint) ‖ recovery that named the height's witnesses (recovery.rs)
//!                ‖ count (varint)
//!                ‖ that many precommits: place in the witness set (varint, ascending) ‖ signature (64)
//! ```
//! The heads are what the checkpoint adds: the chains that go further in it than in the one before. Together
//! with those of all checkpoints before they make the **certified vector**, which is causally closed. The ops
//! that a checkpoint adds come after those of the checkpoint before it, in their own total order; what is in
//! no checkpoint comes after all. The **order root** is a hash over the order root before and the ids of the
//! added ops in that order.
//!
//! The **state root** is that of the state at the end of the checkpoint *before* this one: witnesses never
//! have to fold a proposal in order to vote on it (as in CometBFT, whose header carries the application hash
//! of the block before).

use serde::{Deserialize, Serialize};

use super::recovery::{Admins, RECOVERY_BYTES_MAX, RecoveryError, SignedRecovery};
use super::witness::{WITNESSES_MAX, WitnessSet};
use crate::codec::{DecodeError, Reader, Writer};
use crate::id::{CheckpointId, NetworkId, NodeId, OpId, RecoveryId, hash};
use crate::key::{Check, SIGNATURE_BYTES, Signature};
use crate::op::Chain;
use crate::vector::Head;

/// Chains that one checkpoint moves on, at most; the rest waits for the next one.
pub const HEADS_MAX: usize = 4096;

/// Bytes of a checkpoint, at most.
pub const CHECKPOINT_BYTES_MAX: usize = 384 * 1024;

/// Bytes of a certificate, at most.
pub const CERTIFICATE_BYTES_MAX: usize =
    CHECKPOINT_BYTES_MAX + RECOVERY_BYTES_MAX + 16 + WITNESSES_MAX * (SIGNATURE_BYTES + 2);

/// Version of the rules by which ops are folded: nodes of different versions do not vote together.
pub const FOLD_VERSION: u32 = 1;

/// What the witnesses of a height agree on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// 1 for the first.
    pub height: u64,
    /// The checkpoint before; zeros for the first.
    pub previous: CheckpointId,
    /// Certified time in milliseconds since 1970, greater than that of the checkpoint before. Proposed by
    /// one witness and accepted by the others within a bound of their own clocks.
    pub time_ms: u64,
    /// Root over the ids of all final ops, in their order, up to the end of this checkpoint.
    pub order: [u8; 32],
    /// Root of the state at the end of the checkpoint before.
    pub state: [u8; 32],
    /// Root over the forks known, the chains in quarantine.
    pub forks: [u8; 32],
    /// See [`FOLD_VERSION`].
    pub fold_version: u32,
    /// Chains that go further than in the checkpoint before, in ascending order, with their new ends.
    pub heads: Vec<(Chain, Head)>,
    /// Who votes at the next height, where that changes. Never nobody: only a recovery could end that.
    pub next_witnesses: Option<WitnessSet>,
}

impl Checkpoint {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .varint(self.height)
            .raw(&self.previous.0)
            .varint(self.time_ms)
            .raw(&self.order)
            .raw(&self.state)
            .raw(&self.forks)
            .varint(u64::from(self.fold_version))
            .varint(self.heads.len() as u64);
        for (chain, head) in &self.heads {
            writer
                .raw(&chain.node.0)
                .raw(&chain.incarnation.to_le_bytes())
                .varint(head.next)
                .raw(&head.id.0);
        }
        match &self.next_witnesses {
            None => writer.varint(0),
            Some(set) => {
                set.write(writer.varint(1));
                &mut writer
            }
        };
        writer.into_bytes()
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (size, max) = (bytes.len() as u64, CHECKPOINT_BYTES_MAX as u64);
        if size > max {
            return Err(DecodeError::TooLarge {
                what: "a checkpoint",
                size,
                max,
            });
        }
        let mut reader = Reader::new(bytes);
        let height = reader.varint(u64::MAX, "a checkpoint's height")?;
        let previous = CheckpointId(reader.array("the checkpoint before")?);
        if height == 0 || (height == 1) != (previous.0 == [0; 32]) {
            return Err(DecodeError::Meaningless(
                "a checkpoint's height and the one before",
            ));
        }
        let time_ms = reader.varint(u64::MAX, "a checkpoint's time")?;
        let order = reader.array("an order root")?;
        let state = reader.array("a state root")?;
        let forks = reader.array("a forks root")?;
        let fold_version = reader.varint(u64::from(u32::MAX), "a fold version")? as u32;
        let count = reader.varint(HEADS_MAX as u64, "a checkpoint's heads")?;
        let heads = (0..count)
            .map(|_| {
                let chain = Chain {
                    node: NodeId(reader.array("a chain's node")?),
                    incarnation: u64::from_le_bytes(reader.array("an incarnation")?),
                };
                let next = reader.varint(u64::MAX, "a chain's next place")?;
                let id = OpId(reader.array("a chain's last op")?);
                if next == 0 {
                    return Err(DecodeError::Meaningless("a head of nothing"));
                }
                Ok((chain, Head { next, id }))
            })
            .collect::<Result<Vec<_>, _>>()?;
        if !heads.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(DecodeError::NotCanonical("a checkpoint's heads"));
        }
        let next_witnesses = match reader.varint(1, "a change of witnesses")? {
            0 => None,
            _ => Some(WitnessSet::read(&mut reader)?),
        };
        if next_witnesses.as_ref().is_some_and(WitnessSet::is_empty) {
            return Err(DecodeError::Meaningless("a change to no witnesses at all"));
        }
        reader.end()?;
        Ok(Self {
            height,
            previous,
            time_ms,
            order,
            state,
            forks,
            fold_version,
            heads,
            next_witnesses,
        })
    }

    /// Its id.
    pub fn id(&self, network: NetworkId) -> CheckpointId {
        CheckpointId(hash(
            "formation 2026 checkpoint v1",
            &[&network.0, &self.encode()],
        ))
    }
}

/// The order root after the ops with these ids, in this order, were added to what `before` stands for.
pub fn order_root(before: [u8; 32], added: impl IntoIterator<Item = OpId>) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("formation 2026 order root v1");
    hasher.update(&before);
    for id in added {
        hasher.update(&id.0);
    }
    *hasher.finalize().as_bytes()
}

/// What a vote is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VoteKind {
    /// The proposal was found good.
    Prevote,
    /// More than two thirds found it good.
    Precommit,
}

/// The bytes that a witness signs for a vote; no checkpoint votes for none in this round. The recovery that
/// named the witnesses, if one did, is part of them: votes of different sets at one height never mix.
pub fn vote_message(
    network: NetworkId,
    kind: VoteKind,
    height: u64,
    round: u32,
    recovery: Option<RecoveryId>,
    checkpoint: Option<CheckpointId>,
) -> [u8; 32] {
    let kind = match kind {
        VoteKind::Prevote => [1],
        VoteKind::Precommit => [2],
    };
    let (recovered, recovery) = recovery.map_or(([0], [0; 32]), |id| ([1], id.0));
    let (about, checkpoint) = checkpoint.map_or(([0], [0; 32]), |id| ([1], id.0));
    hash(
        "formation 2026 vote v1",
        &[
            &network.0,
            &kind,
            &height.to_le_bytes(),
            &round.to_le_bytes(),
            &recovered,
            &recovery,
            &about,
            &checkpoint,
        ],
    )
}

/// A checkpoint and the precommits that prove it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// What was agreed on.
    pub checkpoint: Checkpoint,
    /// In which round.
    pub round: u32,
    /// What named the height's witnesses, where that was the admins because a quorum was lost.
    pub recovery: Option<SignedRecovery>,
    /// By place in the height's witness set, ascending.
    pub precommits: Vec<(u8, Signature)>,
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Those who signed have not more than two thirds of the weight.
    #[error("the certificate is signed by {weight} of {total}: more than two thirds are needed")]
    NoQuorum {
        /// The weight of those who signed.
        weight: u64,
        /// The weight of all.
        total: u64,
    },
    /// A precommit names a place that the set does not have.
    #[error("the certificate is signed by witness {0}, whom the set does not have")]
    NoSuchWitness(u8),
    /// A signature does not hold.
    #[error("a signature of the certificate does not hold")]
    Forged,
    /// The recovery that it rests on does not name its witnesses.
    #[error("the certificate rests on a recovery that does not hold: {0}")]
    Recovery(#[from] RecoveryError),
}

impl Certificate {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .sized(&self.checkpoint.encode())
            .varint(u64::from(self.round));
        match &self.recovery {
            None => writer.varint(0),
            Some(recovery) => writer.varint(1).sized(&recovery.encode()),
        };
        writer.varint(self.precommits.len() as u64);
        for (index, signature) in &self.precommits {
            writer.varint(u64::from(*index)).raw(&signature.0);
        }
        writer.into_bytes()
    }

    /// Reads canonical bytes; [`Self::checks`] gives the signatures to check.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let checkpoint = Checkpoint::decode(reader.sized(CHECKPOINT_BYTES_MAX, "a checkpoint")?)?;
        let round = reader.varint(u64::from(u32::MAX), "a certificate's round")? as u32;
        let recovery = match reader.varint(1, "a certificate's recovery")? {
            0 => None,
            _ => Some(SignedRecovery::decode(
                reader.sized(RECOVERY_BYTES_MAX, "a recovery")?,
            )?),
        };
        let count = reader.varint(WITNESSES_MAX as u64, "a certificate's precommits")?;
        let precommits = (0..count)
            .map(|_| {
                let index = reader.varint(WITNESSES_MAX as u64 - 1, "a witness's place")? as u8;
                Ok((index, Signature(reader.array::<SIGNATURE_BYTES>("a precommit")?)))
            })
            .collect::<Result<Vec<_>, DecodeError>>()?;
        if !precommits.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err(DecodeError::NotCanonical("a certificate's precommits"));
        }
        reader.end()?;
        Ok(Self {
            checkpoint,
            round,
            recovery,
            precommits,
        })
    }

    /// Who voted on it: the set that its recovery named, or else the one that stood for its height.
    pub fn voters<'a>(&'a self, witnesses: &'a WitnessSet) -> &'a WitnessSet {
        self.recovery
            .as_ref()
            .map_or(witnesses, |signed| &signed.recovery.witnesses)
    }

    /// The signatures to check, once it is sure that they are enough. `witnesses` are those who stand for its
    /// height where no recovery named others.
    pub fn checks(
        &self,
        network: NetworkId,
        witnesses: &WitnessSet,
        admins: &Admins,
    ) -> Result<Vec<Check>, CertificateError> {
        let mut checks = Vec::new();
        if let Some(recovery) = &self.recovery {
            recovery.fits(self.checkpoint.height, self.checkpoint.previous)?;
            checks = recovery.checks(network, admins)?;
        }
        let witnesses = self.voters(witnesses);
        let id = self.checkpoint.id(network);
        let message = vote_message(
            network,
            VoteKind::Precommit,
            self.checkpoint.height,
            self.round,
            self.recovery.as_ref().map(|signed| signed.recovery.id(network)),
            Some(id),
        );
        let mut weight = 0;
        for (index, signature) in &self.precommits {
            let witness = witnesses
                .at(usize::from(*index))
                .ok_or(CertificateError::NoSuchWitness(*index))?;
            weight += u64::from(witness.weight);
            checks.push(Check {
                key: witness.node.into(),
                message,
                signature: *signature,
            });
        }
        if witnesses.is_quorum(weight) {
            Ok(checks)
        } else {
            let total = witnesses.total();
            Err(CertificateError::NoQuorum { weight, total })
        }
    }

    /// Whether it proves its checkpoint. `seed` blinds the batch, see [`crate::key::verify_all`].
    pub fn verify(
        &self,
        network: NetworkId,
        witnesses: &WitnessSet,
        admins: &Admins,
        seed: [u8; 32],
    ) -> Result<(), CertificateError> {
        let checks = self.checks(network, witnesses, admins)?;
        if crate::key::verify_all(&checks, seed)
            .into_iter()
            .all(|holds| holds)
        {
            Ok(())
        } else {
            Err(CertificateError::Forged)
        }
    }
}
