//! What replicas say to each other: six frames, canonical and bounded, decoded totally.
//!
//! ```text
//! A ── Hello(root of A's vector) ─▶ B
//! A ◀─ Level ────────────────────── B           the roots are equal: that was all
//! A ◀─ Heads(B's vector, ask) ───── B           else B tells what it holds
//! A ── Heads(where A is behind) ──▶ B
//! A ── Run … Run, More ───────────▶ B           what B lacks, a window at a time
//! A ◀─ Next ─────────────────────── B           B grants the next window
//! A ◀─ Run … Run ────────────────── B           and the same the other way
//! ```
//! A new op is a [`Run`] of one, marked live, pushed to every peer. The frames of a comparison leave no
//! promise behind: whatever is lost, a later comparison finds again.
//!
//! ```text
//! frame := 0 version root…           Hello: version varint, network id (32), root (32)
//!        | 1 flags after? groups     Heads: groups varint, each node (32) ‖ count varint ‖ that many of
//!                                    incarnation (8 LE) ‖ next varint ‖ first 8 bytes of the last id, if next > 0
//!        | 2 flags node incarnation first previous count bodies signature     Run
//!        | 3                         More
//!        | 4                         Next
//!        | 5                         Level
//!        | 6 proof                   Fork: see fork.rs
//!        | 7 flags count names       Want: see want.rs
//!        | 8 run as in 2             Branch: see want.rs
//!        | 9 flags …                 Forks: see want.rs
//! ```

use crate::codec::{DecodeError, Reader, Writer};
use crate::fork::ForkProof;
use crate::id::{NetworkId, NodeId, OpId};
use crate::key::{SIGNATURE_BYTES, Signature};
use crate::op::{BODY_BYTES_MAX, Chain};
use crate::vector::{Head, Vector};
use crate::want::{ForksTold, Want};

/// Version of this protocol.
pub const VERSION: u16 = 1;

/// Bytes of a frame, at most.
pub const FRAME_BYTES_MAX: usize = 512 * 1024;

/// Bytes of the bodies of a run, at most; a run whose last op had to be reached for its signature may have
/// one body more. Two such have to fit into the proof of a fork (see [`crate::fork`]).
pub const RUN_BYTES_MAX: usize = 48 * 1024;

/// Bytes of the bodies of a [`Frame::Branch`], at most: up to a fork, and from there to the next signature.
pub const BRANCH_BYTES_MAX: usize = 2 * (RUN_BYTES_MAX + BODY_BYTES_MAX);

/// Ops of a run, at most.
pub const RUN_OPS_MAX: usize = 8192;

/// Chains in one frame of heads, at most; a longer vector takes several.
pub const HEADS_MAX: usize = 8192;

/// Begins a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's network.
    pub network: NetworkId,
    /// The root of its vector.
    pub root: [u8; 32],
}

/// What a chain that a frame of heads does not list means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// The sender has nothing of it.
    Unknown,
    /// The sender has all that the receiver has of it.
    Level,
}

/// A chain's end as told to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadMark {
    /// How many ops of the chain are held.
    pub next: u64,
    /// The first bytes of the last one's id; zeros when there is none.
    pub mark: [u8; 8],
}

impl From<&Head> for HeadMark {
    fn from(head: &Head) -> Self {
        let mut mark = [0; 8];
        mark.copy_from_slice(&head.id.0[..8]);
        Self {
            next: head.next,
            mark,
        }
    }
}

impl HeadMark {
    /// Nothing is held.
    pub const NOTHING: Self = Self {
        next: 0,
        mark: [0; 8],
    };
}

/// A part of a vector, and a request for what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// What it means that a chain is not listed.
    pub unlisted: Unlisted,
    /// Whether the sender wants heads in return.
    pub ask: bool,
    /// The last chain of the frame before this one, when the vector takes several.
    pub after: Option<Chain>,
    /// Whether this is the last frame of the vector.
    pub last: bool,
    /// In ascending order of chains.
    pub heads: Vec<(Chain, HeadMark)>,
}

/// Successive ops of a chain; the signature of the last one vouches for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether the receiver hands it on to its other peers.
    pub live: bool,
    /// The chain.
    pub chain: Chain,
    /// The place of the first op.
    pub first: u64,
    /// The op before the first one; zeros for the first of a chain.
    pub previous: OpId,
    /// The ops' bodies, verbatim. At least one.
    pub bodies: Vec<Vec<u8>>,
    /// The last op's signature.
    pub signature: Signature,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Begins a comparison.
    Hello(Hello),
    /// Tells what is held.
    Heads(Heads),
    /// Brings ops.
    Run(Run),
    /// The window is full; there is more.
    More,
    /// Grants a further window.
    Next,
    /// The greeting's root is the sender's as well.
    Level,
    /// Proves that a chain is forked.
    Fork(ForkProof),
    /// Asks for ops by name.
    Want(Want),
    /// Brings ops that were asked for by name, from whatever branch.
    Branch(Run),
    /// Tells of which forks the sender has proofs.
    Forks(ForksTold),
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The peer speaks another version.
    #[error("the peer speaks version {0} of the protocol, this node version {VERSION}: update the older one")]
    OtherVersion(u64),
    /// They do not decode.
    #[error("not a frame: {0}")]
    Malformed(#[from] DecodeError),
}

const UNLISTED_LEVEL: u64 = 1;
const ASK: u64 = 2;
const LAST: u64 = 4;
const AFTER: u64 = 8;

fn write_chain(writer: &mut Writer, chain: &Chain) {
    writer.raw(&chain.node.0).raw(&chain.incarnation.to_le_bytes());
}

fn read_incarnation(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    Ok(u64::from_le_bytes(reader.array("an incarnation")?))
}

fn read_chain(reader: &mut Reader<'_>) -> Result<Chain, DecodeError> {
    Ok(Chain {
        node: NodeId(reader.array("a chain's node")?),
        incarnation: read_incarnation(reader)?,
    })
}

impl Heads {
    /// A vector in as many frames as it takes.
    pub fn pages(unlisted: Unlisted, ask: bool, heads: &[(Chain, HeadMark)]) -> Vec<Heads> {
        let mut pages = Vec::new();
        let mut after = None;
        let mut rest = heads;
        loop {
            let (page, tail) = rest.split_at(rest.len().min(HEADS_MAX));
            let last = tail.is_empty();
            pages.push(Heads {
                unlisted,
                ask,
                after,
                last,
                heads: page.to_vec(),
            });
            if last {
                return pages;
            }
            after = page.last().map(|(chain, _)| *chain);
            rest = tail;
        }
    }

    /// A whole vector.
    pub fn of(vector: &Vector) -> Vec<(Chain, HeadMark)> {
        vector.iter().map(|(chain, head)| (*chain, head.into())).collect()
    }

    fn write(&self, writer: &mut Writer) {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        writer.varint(
            flag(self.unlisted == Unlisted::Level, UNLISTED_LEVEL)
                | flag(self.ask, ASK)
                | flag(self.last, LAST)
                | flag(self.after.is_some(), AFTER),
        );
        if let Some(after) = &self.after {
            write_chain(writer, after);
        }
        let groups: Vec<_> = self.heads.chunk_by(|(a, _), (b, _)| a.node == b.node).collect();
        writer.varint(groups.len() as u64);
        for group in groups {
            writer.raw(&group[0].0.node.0).varint(group.len() as u64);
            for (chain, head) in group {
                writer.raw(&chain.incarnation.to_le_bytes()).varint(head.next);
                if head.next > 0 {
                    writer.raw(&head.mark);
                }
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = reader.varint(UNLISTED_LEVEL | ASK | LAST | AFTER, "the flags of heads")?;
        let set = |bit: u64| flags & bit != 0;
        let after = if set(AFTER) {
            Some(read_chain(reader)?)
        } else {
            None
        };
        let mut heads: Vec<(Chain, HeadMark)> = Vec::new();
        let max = HEADS_MAX as u64;
        let mut last_node = None;
        for _ in 0..reader.varint(max, "the nodes of heads")? {
            let node = NodeId(reader.array("a chain's node")?);
            if last_node.replace(node) == Some(node) {
                return Err(DecodeError::NotCanonical("the nodes of heads"));
            }
            let count = reader.varint(max - heads.len() as u64, "the chains of heads")?;
            if count == 0 {
                return Err(DecodeError::NotCanonical("a node of heads without chains"));
            }
            for _ in 0..count {
                let chain = Chain {
                    node,
                    incarnation: read_incarnation(reader)?,
                };
                if heads
                    .last()
                    .map(|(before, _)| before)
                    .or(after.as_ref())
                    .is_some_and(|b| *b >= chain)
                {
                    return Err(DecodeError::NotCanonical("the order of heads"));
                }
                let next = reader.varint(u64::MAX, "a chain's next place")?;
                let mark = if next > 0 {
                    reader.array("a chain's last op")?
                } else {
                    [0; 8]
                };
                heads.push((chain, HeadMark { next, mark }));
            }
        }
        let unlisted = if set(UNLISTED_LEVEL) {
            Unlisted::Level
        } else {
            Unlisted::Unknown
        };
        Ok(Self {
            unlisted,
            ask: set(ASK),
            after,
            last: set(LAST),
            heads,
        })
    }
}

impl Run {
    fn write(&self, writer: &mut Writer) {
        writer.varint(u64::from(self.live));
        write_chain(writer, &self.chain);
        writer
            .varint(self.first)
            .raw(&self.previous.0)
            .varint(self.bodies.len() as u64);
        for body in &self.bodies {
            writer.sized(body);
        }
        writer.raw(&self.signature.0);
    }

    fn read(reader: &mut Reader<'_>, bytes_max: usize) -> Result<Self, DecodeError> {
        let live = reader.varint(1, "the flags of a run")? == 1;
        let chain = read_chain(reader)?;
        let first = reader.varint(u64::MAX - RUN_OPS_MAX as u64, "a run's first place")?;
        let previous = OpId(reader.array("the op before a run")?);
        let count = reader.varint(RUN_OPS_MAX as u64, "the ops of a run")?;
        if count == 0 {
            return Err(DecodeError::Meaningless("a run without ops"));
        }
        let mut bodies = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            let body = reader.sized(BODY_BYTES_MAX, "an op's body")?;
            bytes += body.len();
            if bytes > bytes_max {
                let (size, max) = (bytes as u64, bytes_max as u64);
                return Err(DecodeError::TooLarge {
                    what: "a run",
                    size,
                    max,
                });
            }
            bodies.push(body.to_vec());
        }
        let signature = Signature(reader.array::<SIGNATURE_BYTES>("a run's signature")?);
        Ok(Self {
            live,
            chain,
            first,
            previous,
            bodies,
            signature,
        })
    }
}

impl Frame {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Frame::Hello(hello) => {
                writer
                    .varint(0)
                    .varint(u64::from(VERSION))
                    .raw(&hello.network.0)
                    .raw(&hello.root);
            }
            Frame::Heads(heads) => heads.write(writer.varint(1)),
            Frame::Run(run) => run.write(writer.varint(2)),
            Frame::More => {
                writer.varint(3);
            }
            Frame::Next => {
                writer.varint(4);
            }
            Frame::Level => {
                writer.varint(5);
            }
            Frame::Fork(proof) => proof.write(writer.varint(6)),
            Frame::Want(want) => want.write(writer.varint(7)),
            Frame::Branch(run) => run.write(writer.varint(8)),
            Frame::Forks(told) => told.write(writer.varint(9)),
        }
        writer.into_bytes()
    }

    /// Reads canonical bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > FRAME_BYTES_MAX {
            let (size, max) = (bytes.len() as u64, FRAME_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge {
                what: "a frame",
                size,
                max,
            }
            .into());
        }
        let mut reader = Reader::new(bytes);
        let frame = match reader.varint(9, "a frame's kind")? {
            0 => {
                // Read first and by itself: what follows may differ in another version.
                let version = reader.varint(u64::MAX, "a protocol version")?;
                if version != u64::from(VERSION) {
                    return Err(FrameError::OtherVersion(version));
                }
                let network = NetworkId(reader.array("a network's id")?);
                Frame::Hello(Hello {
                    network,
                    root: reader.array("a vector's root")?,
                })
            }
            1 => Frame::Heads(Heads::read(&mut reader)?),
            2 => Frame::Run(Run::read(&mut reader, RUN_BYTES_MAX + BODY_BYTES_MAX)?),
            3 => Frame::More,
            4 => Frame::Next,
            5 => Frame::Level,
            6 => Frame::Fork(ForkProof::read(&mut reader)?),
            7 => Frame::Want(Want::read(&mut reader)?),
            8 => Frame::Branch(Run::read(&mut reader, BRANCH_BYTES_MAX)?),
            _ => Frame::Forks(ForksTold::read(&mut reader)?),
        };
        reader.end()?;
        Ok(frame)
    }
}
