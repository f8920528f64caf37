//! An op: one signed link of a node's chain.
//!
//! ```text
//! body := hlc (8, little-endian) ‖ count (varint) ‖ that many dependencies (16 each)
//!         ‖ count (varint) ‖ that many entries {kind varint, version varint, length varint, bytes}
//! id   := BLAKE3-derive-key("formation 2026 op v1",
//!             network id ‖ node ‖ incarnation (8 LE) ‖ seq (8 LE) ‖ previous id (zeros for the first) ‖ body)
//! signature := by the node's key, over the id; not part of it
//! ```
//! A chain is (node, incarnation): every start of a node's process opens a new one, so a restored or cloned
//! disk forks nothing. The id covers the op before, so a valid signature on an op vouches for all before it.
//! A dependency is the first half of the id of an op that the node had admitted and that lies in the past of
//! no other op that it names; dependencies ascend, so that a set of them has one encoding.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use crate::clock::Hlc;
use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{CommandError, SignedCommand};
use crate::entry::{Entry, EntryError};
use crate::id::{NetworkId, NodeId, OpId, hash};
use crate::key::{Check, SecretKey, Signature};
use crate::report::Report;

/// Bytes of an op's body, at most.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// Dependencies of an op, at most. The oldest that do not fit are named by a later op.
pub const DEPENDENCIES_MAX: usize = 64;

/// Entries of an op, at most.
pub const ENTRIES_MAX: usize = 64;

/// A node's chain: one for each start of its process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Chain {
    /// Whose.
    pub node: NodeId,
    /// Random, chosen at the start.
    pub incarnation: u64,
}

/// The first half of an op's id: how one op names another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dependency(pub [u8; 16]);

impl From<OpId> for Dependency {
    fn from(id: OpId) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&id.0[..16]);
        Self(half)
    }
}

/// The place of an op in the tentative total order, which extends causality: an op's clock is greater than
/// that of all it depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OrderKey {
    /// Its clock.
    pub hlc: Hlc,
    /// Its chain.
    pub chain: Chain,
    /// Its place in the chain.
    pub seq: u64,
}

/// What an op says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// When, by the node's hybrid clock.
    pub hlc: Hlc,
    /// What it had seen, in ascending order.
    pub dependencies: Vec<Dependency>,
    /// What it carries.
    pub entries: Vec<Entry>,
}

impl Body {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer
            .raw(&self.hlc.0.to_le_bytes())
            .varint(self.dependencies.len() as u64);
        for dependency in &self.dependencies {
            writer.raw(&dependency.0);
        }
        writer.varint(self.entries.len() as u64);
        for entry in &self.entries {
            entry.write(&mut writer);
        }
        writer.into_bytes()
    }

    /// Reads canonical bytes. Entries of unknown kinds pass: what they mean is not the ledger's concern.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > BODY_BYTES_MAX {
            let (size, max) = (bytes.len() as u64, BODY_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "an op's body",
                size,
                max,
            });
        }
        let mut reader = Reader::new(bytes);
        let hlc = Hlc(u64::from_le_bytes(reader.array("an op's clock")?));
        let count = reader.varint(DEPENDENCIES_MAX as u64, "an op's dependencies")?;
        let dependencies = (0..count)
            .map(|_| reader.array("an op's dependencies").map(Dependency))
            .collect::<Result<Vec<_>, _>>()?;
        if !dependencies.is_sorted_by(|a, b| a < b) {
            return Err(DecodeError::NotCanonical("an op's dependencies"));
        }
        let count = reader.varint(ENTRIES_MAX as u64, "an op's entries")?;
        let entries = (0..count)
            .map(|_| Entry::read(&mut reader))
            .collect::<Result<Vec<_>, _>>()?;
        reader.end()?;
        Ok(Self {
            hlc,
            dependencies,
            entries,
        })
    }
}

/// Where an op stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Its chain.
    pub chain: Chain,
    /// Its place there, from 0.
    pub seq: u64,
    /// The op before; zeros for the first.
    pub previous: OpId,
}

impl Slot {
    /// The id of the op that stands here with this body.
    pub fn id(&self, network: NetworkId, body: &[u8]) -> OpId {
        OpId(hash(
            "formation 2026 op v1",
            &[
                &network.0,
                &self.chain.node.0,
                &self.chain.incarnation.to_le_bytes(),
                &self.seq.to_le_bytes(),
                &self.previous.0,
                body,
            ],
        ))
    }
}

/// An op with its verbatim bytes. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Op {
    inner: Arc<Inner>,
}

/// What an entry says, as this build understands it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A node's report.
    Report(Report),
    /// A person's command, or why it is none.
    Carried(Box<Result<SignedCommand, CommandError>>),
    /// Nothing that this build knows.
    NotUnderstood(EntryError),
}

#[derive(Clone, Debug)]
struct Inner {
    id: OpId,
    slot: Slot,
    body: Body,
    bytes: Vec<u8>,
    signature: Option<Signature>,
    /// Read when first asked for: an op is folded more than once when others come late.
    said: OnceLock<Box<[Said]>>,
}

impl PartialEq for Inner {
    fn eq(&self, other: &Self) -> bool {
        // The slot is in the id, and the body in the bytes.
        (self.id, &self.bytes, self.signature) == (other.id, &other.bytes, other.signature)
    }
}

impl Eq for Inner {}

impl Op {
    /// Reads the body of an op whose place is known, and computes its id. The signature, when the op came
    /// with one of its own, is checked by whoever asks for [`Self::check`].
    pub fn decode(
        network: NetworkId,
        slot: Slot,
        body: Vec<u8>,
        signature: Option<Signature>,
    ) -> Result<Self, DecodeError> {
        let id = slot.id(network, &body);
        let decoded = Body::decode(&body)?;
        Ok(Self {
            inner: Arc::new(Inner {
                id,
                slot,
                body: decoded,
                bytes: body,
                signature,
                said: OnceLock::new(),
            }),
        })
    }

    /// Makes and signs an op of one's own. `body` must be within the bounds of this module.
    pub fn sign(network: NetworkId, slot: Slot, body: Body, secret: &SecretKey) -> Self {
        let bytes = body.encode();
        let id = slot.id(network, &bytes);
        let signature = Some(secret.sign(&id.0));
        Self {
            inner: Arc::new(Inner {
                id,
                slot,
                body,
                bytes,
                signature,
                said: OnceLock::new(),
            }),
        }
    }

    /// The same op with a signature of its own, for one that came in a run without. The caller has checked
    /// the signature.
    pub fn with_signature(self, signature: Signature) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.inner);
        inner.signature = Some(signature);
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Its id.
    pub fn id(&self) -> OpId {
        self.inner.id
    }

    /// Where it stands.
    pub fn slot(&self) -> &Slot {
        &self.inner.slot
    }

    /// Whose chain it is in.
    pub fn node(&self) -> NodeId {
        self.inner.slot.chain.node
    }

    /// What it says.
    pub fn body(&self) -> &Body {
        &self.inner.body
    }

    /// What each entry says. Reads them, and computes the ids of the commands that they carry, when first
    /// asked; `network` is the one whose op this is.
    pub fn said(&self, network: NetworkId) -> &[Said] {
        let read = |entry: &Entry| match Report::from_entry(entry) {
            Ok(Report::Carry(carry)) => Said::Carried(Box::new(SignedCommand::read(network, carry.command))),
            Ok(report) => Said::Report(report),
            Err(error) => Said::NotUnderstood(error),
        };
        let entries = &self.inner.body.entries;
        self.inner.said.get_or_init(|| entries.iter().map(read).collect())
    }

    /// The body's bytes, verbatim.
    pub fn bytes(&self) -> &[u8] {
        &self.inner.bytes
    }

    /// The bytes that it takes in memory for what it says, as it came and as it was read: an entry of three
    /// bytes takes some forty.
    pub(crate) fn held_bytes(&self) -> usize {
        let Body {
            dependencies,
            entries,
            ..
        } = &self.inner.body;
        let said: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
        self.inner.bytes.len() + size_of_val(&dependencies[..]) + size_of_val(&entries[..]) + said
    }

    /// Its own signature, unless it came in a run that only the head signed for.
    pub fn signature(&self) -> Option<Signature> {
        self.inner.signature
    }

    /// Its place in the total order.
    pub fn order(&self) -> OrderKey {
        let slot = &self.inner.slot;
        OrderKey {
            hlc: self.inner.body.hlc,
            chain: slot.chain,
            seq: slot.seq,
        }
    }

    /// Its signature to check, if it has one of its own.
    pub fn check(&self) -> Option<Check> {
        let signature = self.inner.signature?;
        Some(Check {
            key: self.node().into(),
            message: self.inner.id.0,
            signature,
        })
    }
}
