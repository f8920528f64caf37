//! What replicas say to each other: frames, canonical and bounded, decoded totally.
//!
//! **Live ops** go along a tree (see [`crate::plumtree`]), several in one frame when they come together.
//!
//! ```text
//! A ── Ops (live) ───────────────▶ B           a neighbour in the tree
//! A ── Announce(ends of chains) ─▶ C           some of the others
//! A ◀─ Graft(where C stands) ───── C           what was announced did not come: now A is C's neighbour
//! A ◀─ Prune ───────────────────── B           B had it all: no longer neighbours
//! A ◀─ Unplaced(op before) ─────── B           B does not hold the op that A took as known
//! A ── Run ──────────────────────▶ B           then with its chain's name and all
//! ```
//! **Comparison** finds what was lost, and all that a newcomer lacks.
//!
//! ```text
//! A ── Hello(root, tags) ────────▶ B           2 bytes for each part of the chains; salted
//! A ◀─ Level ───────────────────── B           the roots are equal: that was all
//! A ◀─ List(ends of chains) ────── B           else what B holds in the parts whose tags differ
//! A ── Ops … Ops, More ──────────▶ B           what B lacks, a window at a time
//! A ── Lacks(how many of each) ──▶ B           what A lacks of what is listed
//! A ◀─ Ops … Ops ───────────────── B
//! A ── Next ─────────────────────▶ B           A grants the next window
//! ```
//! Two that compared before remember it, each for itself: the number of that talk, its own step then, and the
//! chains that differed. All others were level, so it is enough to list what has moved:
//!
//! ```text
//! A ── Hello(root, since, ends of the chains that moved here) ─▶ B
//! A ◀─ List(how many of each of those B lacks; ends of chains of which B cannot tell what A holds) ── B
//! A ◀─ Ops … Ops ──────────────── B            what moved there, from where it stood in the earlier talk
//! A ── Ops … Ops ────────────────▶ B           and Lacks, if something was listed
//! ```
//! The frames of a comparison leave no promise behind: whatever is lost, a later comparison finds again.
//!
//! ```text
//! frame := 0 version network (32) root (32) talk (8) summary                       Hello
//!        | 1 groups                                                               Heads
//!        | 2 live node (32) incarnation (8) first previous (32) bodies signature   Run
//!        | 3                                                                      More
//!        | 4                                                                      Next
//!        | 5 talk (8)                                                             Level
//!        | 6 proof                                                                Fork, see fork.rs
//!        | 7 flags names                                                          Want, see want.rs
//!        | 8 as 2                                                                 Branch, see want.rs
//!        | 9 flags …                                                              Forks, see want.rs
//!        | 10 live stretch…                                                       Ops, to the end of the frame
//!        | 11 talk (8) lacks sent parts until marks                               List
//!        | 12 talk (8) lacks                                                      Lacks
//!        | 13 marks                                                               Announce
//!        | 14 marks                                                               Graft
//!        | 15 0 | 15 1 op before (16)                                             Prune, Unplaced
//! summary := 0 bits, 2^bits tags of 2 bytes | 1 since (8) marks
//! parts   := 0 | 1 bits, a bit for each part, the lowest of a byte first
//! until   := 0 | 1 short (6)                         what lies after it is not told
//! marks   := count, each: short (6) next, mark (4) if next > 0
//! lacks   := count, each a number
//! groups  := count, each node (32) count, that many of incarnation (8) next, first 8 bytes of the last id if next > 0
//! stretch := 2 × ops, op before (16), bodies, signature (64)
//!          | 2 × ops + 1, node (32) incarnation (8) first previous (32), bodies, signature (64)
//! bodies  := count (in a Run), each length and bytes
//! ```
//! Numbers without a width are varints, ids and short names are as they are, other numbers little-endian. A
//! mark is four bytes of the last op's id, in a comparison those from talk mod 29 on, so that two ops that
//! look alike in one talk do not in the next.

use crate::codec::{DecodeError, Reader, Writer};
use crate::fork::ForkProof;
use crate::id::{NetworkId, NodeId, OpId};
use crate::key::{SIGNATURE_BYTES, Signature};
use crate::op::{BODY_BYTES_MAX, Chain, Dependency};
use crate::vector::Head;
use crate::want::{ForksTold, Want};

/// Version of this protocol.
pub const VERSION: u16 = 2;

/// Bytes of a frame, at most.
pub const FRAME_BYTES_MAX: usize = 512 * 1024;

/// Bytes of the bodies of a run, at most; a run whose last op had to be reached for its signature may have
/// one body more. Two such have to fit into the proof of a fork (see [`crate::fork`]).
pub const RUN_BYTES_MAX: usize = 48 * 1024;

/// Bytes of the bodies of a [`Frame::Branch`], at most: up to a fork, and from there to the next signature.
pub const BRANCH_BYTES_MAX: usize = 2 * (RUN_BYTES_MAX + BODY_BYTES_MAX);

/// Ops of a run, at most, and of a frame.
pub const RUN_OPS_MAX: usize = 8192;

/// Chains in one frame, at most. A comparison that would take more tells the first of them, and the next
/// comparison the rest.
pub const HEADS_MAX: usize = 8192;

/// Parts of the chains of which a greeting has tags: two to this power, at most.
pub const TAG_BITS_MAX: u32 = 12;

/// Begins a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The sender's network.
    pub network: NetworkId,
    /// The root of its vector.
    pub root: [u8; 32],
    /// The number of this talk, drawn by chance.
    pub talk: u64,
    /// What it holds.
    pub summary: Summary,
}

/// What is held, in short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Summary {
    /// A hash of each of 2^`n` parts of the chains ([`crate::vector::Vector::tags`], salted by the talk).
    Tags(Vec<u16>),
    /// What moved since an earlier talk.
    Since {
        /// The number of that talk.
        talk: u64,
        /// The ends of the chains.
        marks: Vec<Mark>,
    },
}

/// A chain's end by its short name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// See [`crate::vector::short`].
    pub short: u64,
    /// How many ops of the chain are held.
    pub next: u64,
    /// Four bytes of the last one's id; zeros when there is none.
    pub mark: [u8; 4],
}

/// The bytes of an id that stand for it in a talk.
pub fn mark_of(id: &OpId, talk: u64) -> [u8; 4] {
    let at = (talk % 29) as usize;
    id.0[at..at + 4].try_into().expect("28 + 4 are 32")
}

impl Mark {
    /// A chain's end as it is told in a talk; 0 outside of one.
    pub fn new(short: u64, head: Option<&Head>, talk: u64) -> Self {
        Self {
            short,
            next: head.map_or(0, |head| head.next),
            mark: head.map_or([0; 4], |head| mark_of(&head.id, talk)),
        }
    }
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

/// Where the sender stands in some chains, by their whole names: it wants what follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heads {
    /// In ascending order of chains; at most [`HEADS_MAX`].
    pub heads: Vec<(Chain, HeadMark)>,
}

/// Some of 2^`n` parts of the chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// `n`.
    pub bits: u32,
    /// A bit for each part.
    pub set: Vec<u8>,
}

impl Parts {
    /// None of them.
    pub fn none(bits: u32) -> Self {
        Self {
            bits,
            set: vec![0; (1usize << bits).div_ceil(8)],
        }
    }

    /// Adds one.
    pub fn insert(&mut self, part: usize) {
        self.set[part / 8] |= 1 << (part % 8);
    }

    /// Those that are in.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        (0..1usize << self.bits).filter(|part| self.set[part / 8] >> (part % 8) & 1 == 1)
    }
}

/// Answers a greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// The greeting's.
    pub talk: u64,
    /// How many ops the sender lacks of each chain that the greeting listed.
    pub lacks: Vec<u64>,
    /// How many further chains moved at the sender, of which it sends at once what it knows to be lacking.
    pub sent: u64,
    /// The parts of the chains of which all is told; in them a chain that is not listed is not held.
    pub parts: Option<Parts>,
    /// The short name after which nothing is told, when the list was too long.
    pub until: Option<u64>,
    /// The ends of chains.
    pub marks: Vec<Mark>,
}

/// Answers a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacks {
    /// The list's.
    pub talk: u64,
    /// How many ops the sender lacks of each chain that was listed.
    pub lacks: Vec<u64>,
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

/// Where a stretch of ops stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// After an op that the receiver is taken to hold.
    After(Dependency),
    /// Told in full.
    At {
        /// The chain.
        chain: Chain,
        /// The place of the first op.
        first: u64,
        /// The op before the first one; zeros for the first of a chain.
        previous: OpId,
    },
}

/// Successive ops of a chain in a frame with others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Where.
    pub anchor: Anchor,
    /// The ops' bodies, verbatim. At least one.
    pub bodies: Vec<Vec<u8>>,
    /// The last op's signature.
    pub signature: Signature,
}

/// Stretches of ops of several chains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ops {
    /// Whether the receiver hands them on to its other peers.
    pub live: bool,
    /// At least one.
    pub stretches: Vec<Stretch>,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Begins a comparison.
    Hello(Hello),
    /// Wants what follows in some chains.
    Heads(Heads),
    /// Brings ops of one chain, its name in full.
    Run(Run),
    /// The window is full; there is more.
    More,
    /// Grants a further window.
    Next,
    /// The greeting's root is the sender's as well; with its talk.
    Level(u64),
    /// Brings ops.
    Ops(Ops),
    /// Tells what is held where the vectors differ.
    List(List),
    /// Tells what is lacking of what was listed.
    Lacks(Lacks),
    /// Chains moved; at most [`HEADS_MAX`].
    Announce(Vec<Mark>),
    /// Wants what follows, and to be sent what is new from now on.
    Graft(Vec<Mark>),
    /// Wants no more to be sent what is new, only announcements.
    Prune,
    /// Does not hold the op after which others were sent.
    Unplaced(Dependency),
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

fn write_chain(writer: &mut Writer, chain: &Chain) {
    writer.raw(&chain.node.0).raw(&chain.incarnation.to_le_bytes());
}

fn read_u64(reader: &mut Reader<'_>, what: &'static str) -> Result<u64, DecodeError> {
    Ok(u64::from_le_bytes(reader.array(what)?))
}

fn read_chain(reader: &mut Reader<'_>) -> Result<Chain, DecodeError> {
    Ok(Chain {
        node: NodeId(reader.array("a chain's node")?),
        incarnation: read_u64(reader, "an incarnation")?,
    })
}

fn write_short(writer: &mut Writer, short: u64) {
    writer.raw(&short.to_be_bytes()[2..]);
}

fn read_short(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let [a, b, c, d, e, f] = reader.array("a chain's short name")?;
    Ok(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

fn write_marks(writer: &mut Writer, marks: &[Mark]) {
    writer.varint(marks.len() as u64);
    for mark in marks {
        write_short(writer, mark.short);
        writer.varint(mark.next);
        if mark.next > 0 {
            writer.raw(&mark.mark);
        }
    }
}

fn read_marks(reader: &mut Reader<'_>) -> Result<Vec<Mark>, DecodeError> {
    let count = reader.varint(HEADS_MAX as u64, "the ends of chains")?;
    let mut marks = Vec::new();
    for _ in 0..count {
        let short = read_short(reader)?;
        let next = reader.varint(u64::MAX, "a chain's next place")?;
        let mark = if next > 0 {
            reader.array("a chain's last op")?
        } else {
            [0; 4]
        };
        marks.push(Mark { short, next, mark });
    }
    if !marks.is_sorted() {
        return Err(DecodeError::NotCanonical("the order of the ends of chains"));
    }
    Ok(marks)
}

fn write_lacks(writer: &mut Writer, lacks: &[u64]) {
    writer.varint(lacks.len() as u64);
    for lack in lacks {
        writer.varint(*lack);
    }
}

fn read_lacks(reader: &mut Reader<'_>) -> Result<Vec<u64>, DecodeError> {
    let count = reader.varint(HEADS_MAX as u64, "what is lacking")?;
    (0..count)
        .map(|_| reader.varint(u64::MAX, "how many ops are lacking"))
        .collect()
}

impl Hello {
    fn write(&self, writer: &mut Writer) {
        writer
            .varint(u64::from(VERSION))
            .raw(&self.network.0)
            .raw(&self.root)
            .raw(&self.talk.to_le_bytes());
        match &self.summary {
            Summary::Tags(tags) => {
                writer.varint(0).varint(u64::from(tags.len().ilog2()));
                for tag in tags {
                    writer.raw(&tag.to_le_bytes());
                }
            }
            Summary::Since { talk, marks } => {
                write_marks(writer.varint(1).raw(&talk.to_le_bytes()), marks);
            }
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, FrameError> {
        // Read first and by itself: what follows may differ in another version.
        let version = reader.varint(u64::MAX, "a protocol version")?;
        if version != u64::from(VERSION) {
            return Err(FrameError::OtherVersion(version));
        }
        Ok(Self {
            network: NetworkId(reader.array("a network's id")?),
            root: reader.array("a vector's root")?,
            talk: read_u64(reader, "a talk")?,
            summary: match reader.varint(1, "a greeting's summary")? {
                0 => {
                    let bits = reader.varint(u64::from(TAG_BITS_MAX), "the parts of a vector")?;
                    let tags = reader.raw(2 << bits, "the tags of a vector")?;
                    let tag = |pair: &[u8]| u16::from_le_bytes([pair[0], pair[1]]);
                    Summary::Tags(tags.chunks_exact(2).map(tag).collect())
                }
                _ => Summary::Since {
                    talk: read_u64(reader, "an earlier talk")?,
                    marks: read_marks(reader)?,
                },
            },
        })
    }
}

impl List {
    fn write(&self, writer: &mut Writer) {
        write_lacks(writer.raw(&self.talk.to_le_bytes()), &self.lacks);
        writer.varint(self.sent);
        match &self.parts {
            None => writer.varint(0),
            Some(parts) => writer.varint(1).varint(u64::from(parts.bits)).raw(&parts.set),
        };
        match self.until {
            None => {
                writer.varint(0);
            }
            Some(until) => write_short(writer.varint(1), until),
        }
        write_marks(writer, &self.marks);
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let talk = read_u64(reader, "a talk")?;
        let lacks = read_lacks(reader)?;
        let sent = reader.varint(u64::MAX, "the chains of which ops are sent")?;
        let parts = match reader.varint(1, "whether parts are told")? {
            0 => None,
            _ => {
                let bits = reader.varint(u64::from(TAG_BITS_MAX), "the parts of a vector")? as u32;
                let set = reader.raw((1usize << bits).div_ceil(8), "the parts that differ")?;
                if bits < 3 && set[0] >> (1 << bits) != 0 {
                    return Err(DecodeError::NotCanonical("the parts that differ"));
                }
                let set = set.to_vec();
                Some(Parts { bits, set })
            }
        };
        let until = match reader.varint(1, "whether the list ends early")? {
            0 => None,
            _ => Some(read_short(reader)?),
        };
        Ok(Self {
            talk,
            lacks,
            sent,
            parts,
            until,
            marks: read_marks(reader)?,
        })
    }
}

impl Heads {
    fn write(&self, writer: &mut Writer) {
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
                let incarnation = read_u64(reader, "an incarnation")?;
                let chain = Chain { node, incarnation };
                if heads.last().is_some_and(|(before, _)| *before >= chain) {
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
        Ok(Self { heads })
    }
}

fn write_bodies(writer: &mut Writer, bodies: &[Vec<u8>], signature: &Signature) {
    for body in bodies {
        writer.sized(body);
    }
    writer.raw(&signature.0);
}

fn read_bodies(
    reader: &mut Reader<'_>,
    count: u64,
    bytes_max: usize,
) -> Result<(Vec<Vec<u8>>, Signature), DecodeError> {
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
    Ok((bodies, signature))
}

fn read_first(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    reader.varint(u64::MAX - RUN_OPS_MAX as u64, "a run's first place")
}

impl Run {
    fn write(&self, writer: &mut Writer) {
        writer.varint(u64::from(self.live));
        write_chain(writer, &self.chain);
        writer
            .varint(self.first)
            .raw(&self.previous.0)
            .varint(self.bodies.len() as u64);
        write_bodies(writer, &self.bodies, &self.signature);
    }

    fn read(reader: &mut Reader<'_>, bytes_max: usize) -> Result<Self, DecodeError> {
        let live = reader.varint(1, "the flags of a run")? == 1;
        let chain = read_chain(reader)?;
        let first = read_first(reader)?;
        let previous = OpId(reader.array("the op before a run")?);
        let count = reader.varint(RUN_OPS_MAX as u64, "the ops of a run")?;
        let (bodies, signature) = read_bodies(reader, count, bytes_max)?;
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

impl Ops {
    fn write(&self, writer: &mut Writer) {
        writer.varint(u64::from(self.live));
        for stretch in &self.stretches {
            let ops = 2 * stretch.bodies.len() as u64;
            match &stretch.anchor {
                Anchor::After(before) => {
                    writer.varint(ops).raw(&before.0);
                }
                Anchor::At {
                    chain,
                    first,
                    previous,
                } => {
                    write_chain(writer.varint(ops + 1), chain);
                    writer.varint(*first).raw(&previous.0);
                }
            }
            write_bodies(writer, &stretch.bodies, &stretch.signature);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let live = reader.varint(1, "the flags of ops")? == 1;
        let mut stretches = Vec::new();
        let mut left = RUN_OPS_MAX as u64;
        while stretches.is_empty() || !reader.rest().is_empty() {
            let ops = reader.varint(2 * left + 1, "the ops of a stretch")?;
            let count = ops / 2;
            left -= count;
            let anchor = if ops % 2 == 0 {
                Anchor::After(Dependency(reader.array("the op before a stretch")?))
            } else {
                Anchor::At {
                    chain: read_chain(reader)?,
                    first: read_first(reader)?,
                    previous: OpId(reader.array("the op before a stretch")?),
                }
            };
            let (bodies, signature) = read_bodies(reader, count, RUN_BYTES_MAX + BODY_BYTES_MAX)?;
            stretches.push(Stretch {
                anchor,
                bodies,
                signature,
            });
        }
        Ok(Self { live, stretches })
    }
}

impl Frame {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Frame::Hello(hello) => hello.write(writer.varint(0)),
            Frame::Heads(heads) => heads.write(writer.varint(1)),
            Frame::Run(run) => run.write(writer.varint(2)),
            Frame::More => {
                writer.varint(3);
            }
            Frame::Next => {
                writer.varint(4);
            }
            Frame::Level(talk) => {
                writer.varint(5).raw(&talk.to_le_bytes());
            }
            Frame::Ops(ops) => ops.write(writer.varint(10)),
            Frame::List(list) => list.write(writer.varint(11)),
            Frame::Lacks(lacks) => {
                write_lacks(writer.varint(12).raw(&lacks.talk.to_le_bytes()), &lacks.lacks);
            }
            Frame::Announce(marks) => write_marks(writer.varint(13), marks),
            Frame::Graft(marks) => write_marks(writer.varint(14), marks),
            Frame::Prune => {
                writer.varint(15).varint(0);
            }
            Frame::Unplaced(before) => {
                writer.varint(15).varint(1).raw(&before.0);
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
        let frame = match reader.varint(15, "a frame's kind")? {
            0 => Frame::Hello(Hello::read(&mut reader)?),
            1 => Frame::Heads(Heads::read(&mut reader)?),
            2 => Frame::Run(Run::read(&mut reader, RUN_BYTES_MAX + BODY_BYTES_MAX)?),
            3 => Frame::More,
            4 => Frame::Next,
            5 => Frame::Level(read_u64(&mut reader, "a talk")?),
            6 => Frame::Fork(ForkProof::read(&mut reader)?),
            7 => Frame::Want(Want::read(&mut reader)?),
            8 => Frame::Branch(Run::read(&mut reader, BRANCH_BYTES_MAX)?),
            9 => Frame::Forks(ForksTold::read(&mut reader)?),
            10 => Frame::Ops(Ops::read(&mut reader)?),
            11 => Frame::List(List::read(&mut reader)?),
            12 => Frame::Lacks(Lacks {
                talk: read_u64(&mut reader, "a talk")?,
                lacks: read_lacks(&mut reader)?,
            }),
            13 => Frame::Announce(read_marks(&mut reader)?),
            14 => Frame::Graft(read_marks(&mut reader)?),
            15 => match reader.varint(1, "a frame's kind")? {
                0 => Frame::Prune,
                _ => Frame::Unplaced(Dependency(reader.array("the op before a stretch")?)),
            },
            _ => return Err(DecodeError::Meaningless("a frame of this kind").into()),
        };
        reader.end()?;
        Ok(frame)
    }
}
