//! Forks: two ops in one place of one chain, and what proves them.
//!
//! An honest node writes one op in each place, so two with valid signatures are an offence that proves
//! itself. The chain is in quarantine from that place on: what stands there and is not final counts nowhere,
//! whichever branch it is of.
//!
//! ```text
//! proof  := node (32) ‖ incarnation (8 LE) ‖ seq (varint) ‖ id of the op before (32) ‖ length (varint)
//!           ‖ invitation ‖ branch ‖ branch                  the branches in ascending order of first bodies
//! branch := count (varint) ‖ that many {length (varint), body} ‖ signature (64)
//! ```
//! A branch gives the bodies from the fork to the next op whose signature is known. An id covers place, op
//! before and body, so the ids follow, and the signature over the last one vouches for the first. The
//! op before is the same for both: the proof is of the place where the branches part. The invitation shows
//! that the chain's node is a member: for a key out of nowhere nobody keeps a proof.
//!
//! **Size.** A stretch of ops without signatures is at most [`RUN_BYTES_MAX`] and one body long, since runs
//! are and admission lets no longer one in. Two of them fit into [`PROOF_BYTES_MAX`]: that is what bounds a
//! run.

use std::collections::BTreeMap;

use crate::admit::{self, Refusal, Verify};
use crate::codec::{DecodeError, Reader, Writer};
use crate::genesis::{INVITATION_BYTES_MAX, InvitationError, SignedInvitation};
use crate::id::{NetworkId, NodeId, OpId, hash};
use crate::key::{Check, SIGNATURE_BYTES, Signature, verify_all};
use crate::op::{BODY_BYTES_MAX, Chain, Op, Slot};
use crate::sync::{RUN_BYTES_MAX, RUN_OPS_MAX};

/// Bytes of a proof, at most.
pub const PROOF_BYTES_MAX: usize = 256 * 1024;

// 10 bytes are the smallest body, and the length of one that is shorter than 128 takes one byte.
const _: () =
    assert!(2 * (RUN_BYTES_MAX + BODY_BYTES_MAX) * 11 / 10 + INVITATION_BYTES_MAX + 512 <= PROOF_BYTES_MAX);

/// Proofs that are kept, at most: one for each chain. What comes beyond is not kept.
pub const FORKS_MAX: usize = 16_384;

/// Proofs against one node that are kept, at most. A node that forks more chains than this has to be
/// revoked: its further forks are not settled.
pub const FORKS_OF_NODE_MAX: usize = 256;

/// Successive ops of a chain and the signature of the last one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The ops' bodies, verbatim. At least one.
    pub bodies: Vec<Vec<u8>>,
    /// The last op's signature.
    pub signature: Signature,
}

/// Two ops in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForkProof {
    /// The chain.
    pub chain: Chain,
    /// The place.
    pub seq: u64,
    /// The op before, the same for both; zeros for the first place.
    pub previous: OpId,
    /// The invitation of the chain's node, as it travels.
    pub invitation: Vec<u8>,
    /// What shows each of the two; in ascending order of first bodies.
    pub branches: [Branch; 2],
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// It does not decode, or an op in it does not.
    #[error("not a proof: {0}")]
    Malformed(#[from] DecodeError),
    /// The chain's node is no member.
    #[error("the node is not shown to be a member: {0}")]
    NotInvited(#[from] InvitationError),
    /// An op in it carries what is not a command, or a forged one.
    #[error("an op in it would be refused: {0}")]
    Refused(Refusal),
    /// A signature does not hold.
    #[error("a signature in it does not hold")]
    Forged,
}

impl Branch {
    fn write(&self, writer: &mut Writer) {
        writer.varint(self.bodies.len() as u64);
        for body in &self.bodies {
            writer.sized(body);
        }
        writer.raw(&self.signature.0);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = reader.varint(RUN_OPS_MAX as u64 + 1, "the ops of a branch")?;
        if count == 0 {
            return Err(DecodeError::Meaningless("a branch without ops"));
        }
        let bodies = (0..count)
            .map(|_| Ok(reader.sized(BODY_BYTES_MAX, "an op's body")?.to_vec()))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        let signature = Signature(reader.array::<SIGNATURE_BYTES>("a branch's signature")?);
        Ok(Self { bodies, signature })
    }

    /// The ops, of which the last one has the signature.
    fn ops(&self, network: NetworkId, mut slot: Slot) -> Result<Vec<Op>, DecodeError> {
        let last = self.bodies.len() - 1;
        let mut ops = Vec::with_capacity(self.bodies.len());
        for (index, body) in self.bodies.iter().enumerate() {
            let signature = (index == last).then_some(self.signature);
            let op = Op::decode(network, slot, body.clone(), signature)?;
            slot.seq += 1;
            slot.previous = op.id();
            ops.push(op);
        }
        Ok(ops)
    }
}

impl ForkProof {
    /// A proof from the two branches in the order in which they are at hand; `None` if they begin with the
    /// same op or are too large.
    pub fn new(slot: Slot, invitation: Vec<u8>, a: Branch, b: Branch) -> Option<Self> {
        let branches = match a.bodies.first().cmp(&b.bodies.first()) {
            std::cmp::Ordering::Less => [a, b],
            std::cmp::Ordering::Greater => [b, a],
            std::cmp::Ordering::Equal => return None,
        };
        let proof = Self {
            chain: slot.chain,
            seq: slot.seq,
            previous: slot.previous,
            invitation,
            branches,
        };
        (proof.encode().len() <= PROOF_BYTES_MAX).then_some(proof)
    }

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.into_bytes()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .raw(&self.chain.node.0)
            .raw(&self.chain.incarnation.to_le_bytes())
            .varint(self.seq)
            .raw(&self.previous.0)
            .sized(&self.invitation);
        for branch in &self.branches {
            branch.write(writer);
        }
    }

    /// Reads canonical bytes; [`Self::verify`] tells whether it proves anything.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let proof = Self::read(&mut reader)?;
        reader.end()?;
        Ok(proof)
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (size, max) = (reader.rest().len() as u64, PROOF_BYTES_MAX as u64);
        if size > max {
            let what = "a fork's proof";
            return Err(DecodeError::TooLarge { what, size, max });
        }
        let chain = Chain {
            node: NodeId(reader.array("a chain's node")?),
            incarnation: u64::from_le_bytes(reader.array("an incarnation")?),
        };
        let seq = reader.varint(u64::MAX - 2 * RUN_OPS_MAX as u64, "a fork's place")?;
        let previous = OpId(reader.array("the op before a fork")?);
        if (seq == 0) != (previous == OpId([0; 32])) {
            return Err(DecodeError::Meaningless("a fork's place and the op before"));
        }
        let invitation = reader.sized(INVITATION_BYTES_MAX, "an invitation")?.to_vec();
        let branches = [Branch::read(reader)?, Branch::read(reader)?];
        if branches[0].bodies[0] >= branches[1].bodies[0] {
            return Err(DecodeError::NotCanonical("the branches of a fork"));
        }
        Ok(Self {
            chain,
            seq,
            previous,
            invitation,
            branches,
        })
    }

    /// Where the two ops stand.
    pub fn slot(&self) -> Slot {
        Slot {
            chain: self.chain,
            seq: self.seq,
            previous: self.previous,
        }
    }

    /// The ops of both branches.
    pub fn ops(&self, network: NetworkId) -> Result<Vec<Op>, DecodeError> {
        let [a, b] = &self.branches;
        let mut ops = a.ops(network, self.slot())?;
        ops.extend(b.ops(network, self.slot())?);
        Ok(ops)
    }

    /// Whether it proves the fork. `seed` blinds the batch, see [`verify_all`].
    pub fn verify(&self, network: NetworkId, verify: Verify, seed: [u8; 32]) -> Result<(), ProofError> {
        let invitation = SignedInvitation::decode(&self.invitation)?;
        invitation.verify(network, self.chain.node)?;
        let ops = self.ops(network)?;
        let mut checks: Vec<Check> = ops.iter().filter_map(Op::check).collect();
        for op in &ops {
            // So that an op that only stands in a proof can be handed on in a run as any other.
            checks.extend(admit::command_checks(network, op).map_err(ProofError::Refused)?);
        }
        match verify {
            Verify::Trusting => Ok(()),
            Verify::Real if verify_all(&checks, seed).into_iter().all(|holds| holds) => Ok(()),
            Verify::Real => Err(ProofError::Forged),
        }
    }
}

/// The proofs that are kept: for each chain that of the earliest fork.
#[derive(Clone, Debug, Default)]
pub struct Forks {
    proofs: BTreeMap<Chain, ForkProof>,
}

impl Forks {
    /// The place from which a chain is forked.
    pub fn seq(&self, chain: &Chain) -> Option<u64> {
        self.proofs.get(chain).map(|proof| proof.seq)
    }

    /// The proof against a chain.
    pub fn get(&self, chain: &Chain) -> Option<&ForkProof> {
        self.proofs.get(chain)
    }

    /// All proofs, in ascending order of chains.
    pub fn iter(&self) -> impl Iterator<Item = &ForkProof> {
        self.proofs.values()
    }

    /// How many chains are forked.
    pub fn len(&self) -> usize {
        self.proofs.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.proofs.is_empty()
    }

    /// Whether a proof says more than those that are kept, and there is room for it.
    pub fn wants(&self, chain: &Chain, seq: u64) -> bool {
        match self.seq(chain) {
            Some(known) => seq < known,
            None => {
                let of_node = |incarnation| Chain {
                    node: chain.node,
                    incarnation,
                };
                self.proofs.len() < FORKS_MAX
                    && self.proofs.range(of_node(0)..=of_node(u64::MAX)).count() < FORKS_OF_NODE_MAX
            }
        }
    }

    /// Keeps a verified proof; whether it said anything new.
    pub(crate) fn keep(&mut self, proof: ForkProof) -> bool {
        let news = self.wants(&proof.chain, proof.seq);
        if news {
            self.proofs.insert(proof.chain, proof);
        }
        news
    }

    /// A hash over chains and places, in order: what a checkpoint names, and what peers compare.
    pub fn root(&self) -> [u8; 32] {
        let mut bytes = Vec::with_capacity(self.proofs.len() * 48);
        for proof in self.proofs.values() {
            bytes.extend_from_slice(&proof.chain.node.0);
            bytes.extend_from_slice(&proof.chain.incarnation.to_le_bytes());
            bytes.extend_from_slice(&proof.seq.to_le_bytes());
        }
        hash("formation 2026 forks v1", &[&bytes])
    }
}
