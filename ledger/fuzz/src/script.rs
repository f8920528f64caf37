//! The bytes that [`crate::receive()`] takes, written step by step.

/// Peers, each of which writes a chain.
pub(crate) const PEERS: usize = 4;

pub(crate) const FRAME: u8 = 0;
pub(crate) const WRITE: u8 = 1;
pub(crate) const DELIVER: u8 = 2;
pub(crate) const FORK: u8 = 3;
pub(crate) const PASS: u8 = 4;
pub(crate) const UP: u8 = 5;
pub(crate) const DOWN: u8 = 6;
pub(crate) const APPEND: u8 = 7;
pub(crate) const HEADS: u8 = 8;
pub(crate) const HELLO: u8 = 9;
pub(crate) const MORE: u8 = 10;
pub(crate) const NEXT: u8 = 11;
pub(crate) const LEVEL: u8 = 12;
pub(crate) const PROVE: u8 = 13;
pub(crate) const WANT: u8 = 14;
pub(crate) const CERTIFY: u8 = 15;
pub(crate) const LIST: u8 = 16;
pub(crate) const LACKS: u8 = 17;
pub(crate) const ANNOUNCE: u8 = 18;
pub(crate) const GRAFT: u8 = 19;
pub(crate) const PRUNE: u8 = 20;
pub(crate) const UNPLACED: u8 = 21;
pub(crate) const OPS: u8 = 22;
pub(crate) const BRANCH: u8 = 23;
pub(crate) const FORKS: u8 = 24;

/// In a step's byte: the step's number is greater by 16.
pub(crate) const FURTHER: u8 = 1 << 6;

/// In the place of how far a peer holds a chain: it does not tell.
pub const UNTOLD: u8 = 255;

/// From here on: so much further, with another last op than the one that was written.
pub const OTHERWISE: u8 = 128;

/// A script to begin with.
#[derive(Debug, Default)]
pub struct Script(Vec<u8>);

impl Script {
    fn step(mut self, what: u8, peer: u8, rest: &[u8]) -> Self {
        let further = if what > 15 { FURTHER } else { 0 };
        self.0.push(what & 15 | peer << 4 | further);
        self.0.extend_from_slice(rest);
        self
    }

    /// A peer sends these bytes.
    pub fn frame(self, peer: u8, frame: &[u8]) -> Self {
        let length = (frame.len() as u16).to_le_bytes();
        self.step(FRAME, peer, &[&length[..], frame].concat())
    }

    /// A peer's chain grows by an op, this much later than the one before, that names these ops of the
    /// replica's log.
    pub fn write(self, peer: u8, later: u8, names: &[u8], kind: u16, content: &[u8]) -> Self {
        let head = [&[later, names.len() as u8], names].concat();
        let entry = [&kind.to_le_bytes()[..], &[1, content.len() as u8], content].concat();
        self.step(WRITE, peer, &[head, entry].concat())
    }

    /// A peer sends so many ops of a peer's chain from a place on; live or not.
    pub fn deliver(self, peer: u8, of: u8, first: u8, count: u8, live: bool) -> Self {
        self.step(DELIVER, peer, &[of | u8::from(live) << 7, first, count])
    }

    /// A peer takes its chain back to so many ops.
    pub fn fork(self, peer: u8, keep: u8) -> Self {
        self.step(FORK, peer, &[keep])
    }

    /// Time passes.
    pub fn pass(self, ms: u16) -> Self {
        self.step(PASS, 0, &ms.to_le_bytes())
    }

    /// The connection to a peer is made anew.
    pub fn up(self, peer: u8) -> Self {
        self.step(UP, peer, &[])
    }

    /// The connection to a peer is lost.
    pub fn down(self, peer: u8) -> Self {
        self.step(DOWN, peer, &[])
    }

    /// The replica appends a report of so many bytes.
    pub fn append(self, size: u8) -> Self {
        self.step(APPEND, 0, &[size])
    }

    /// A peer sends stretches of peers' chains in one frame: of whom, from where, how many, and whether their
    /// place is told by the op before only.
    pub fn ops(self, peer: u8, live: bool, stretches: &[(u8, u8, u8, bool)]) -> Self {
        let mut rest = vec![u8::from(live) << 7 | stretches.len() as u8];
        for (of, first, count, anchored) in stretches {
            rest.extend([of | u8::from(*anchored) << 7, *first, *count]);
        }
        self.step(OPS, peer, &rest)
    }

    /// A peer shows ops that it was asked for by name.
    pub fn branch(self, peer: u8, of: u8, first: u8, count: u8) -> Self {
        self.step(BRANCH, peer, &[of, first, count])
    }

    /// A peer wants what follows in each peer's chain.
    pub fn heads(self, peer: u8, next: [u8; PEERS]) -> Self {
        self.step(HEADS, peer, &next)
    }

    /// A peer greets with the tags of its parts, of which there are two to the power of `bits` (up to 3): with
    /// the replica's own root and tags, but where `other` has a bit.
    pub fn hello(self, peer: u8, same: bool, bits: u8, other: u8) -> Self {
        self.step(HELLO, peer, &[u8::from(same) | bits << 2, other])
    }

    /// A peer greets with what moved since the last talk: how far it holds each peer's chain.
    pub fn hello_since(self, peer: u8, next: [u8; PEERS]) -> Self {
        self.step(HELLO, peer, &[&[2], &next[..]].concat())
    }

    /// A peer answers the replica's greeting with a list: 1 with all parts, 2 it ends early, 4 it sends more;
    /// how much it lacks of what the greeting listed, and how far it holds each peer's chain.
    pub fn list(self, peer: u8, flags: u8, lacks: &[u8], next: [u8; PEERS]) -> Self {
        let lacks = [&[flags, lacks.len() as u8], lacks].concat();
        self.step(LIST, peer, &[&lacks, &next[..]].concat())
    }

    /// A peer answers the replica's list with what it lacks of each chain.
    pub fn lacks(self, peer: u8, lacks: &[u8]) -> Self {
        self.step(LACKS, peer, &[&[lacks.len() as u8], lacks].concat())
    }

    /// A peer announces how far it holds each peer's chain.
    pub fn announce(self, peer: u8, next: [u8; PEERS]) -> Self {
        self.step(ANNOUNCE, peer, &next)
    }

    /// A peer grafts, and tells how far it holds each peer's chain.
    pub fn graft(self, peer: u8, next: [u8; PEERS]) -> Self {
        self.step(GRAFT, peer, &next)
    }

    /// A peer wants announcements only.
    pub fn prune(self, peer: u8) -> Self {
        self.step(PRUNE, peer, &[])
    }

    /// A peer does not hold this op of the replica's log.
    pub fn unplaced(self, peer: u8, name: u8) -> Self {
        self.step(UNPLACED, peer, &[1, name])
    }

    /// A peer tells of forks of peers' chains: 0 in a hash, 1 in a list, 2 with a list in return, 4 at its end.
    pub fn forks(self, peer: u8, flags: u8, seq: [u8; PEERS]) -> Self {
        self.step(FORKS, peer, &[&[flags], &seq[..]].concat())
    }

    /// A peer has more, grants a window, says that it is level.
    pub fn talk(self, peer: u8) -> Self {
        self.step(MORE, peer, &[])
            .step(NEXT, peer, &[])
            .step(LEVEL, peer, &[])
    }

    /// A peer proves that another's chain is forked after so many ops.
    pub fn prove(self, peer: u8, of: u8, keep: u8) -> Self {
        self.step(PROVE, peer, &[of, keep])
    }

    /// A peer asks for these ops of the replica's log.
    pub fn want(self, peer: u8, names: &[u8]) -> Self {
        self.step(WANT, peer, &[&[names.len() as u8], names].concat())
    }

    /// What the replica would propose is certified; or, with 1, what it holds of peers' chains as they are.
    pub fn certify(self, how: u8) -> Self {
        self.step(CERTIFY, 0, &[how])
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
