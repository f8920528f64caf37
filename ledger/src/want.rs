//! What is asked for by name, and what is told of forks.
//!
//! A comparison of vectors finds what a peer holds and we do not. It does not find an op of a forked chain
//! that an honest op names: no vector has it. So a replica asks for what its waiting ops wait for, by name,
//! and gets a run that shows the op, in the log or void. The same fills any other gap.
//!
//! ```text
//! want   := 7 flags count names       flags: 1 with as much of what stands before as a run takes
//! branch := 8 run                     its ops may be refused or void: nobody is blamed for that
//! forks  := 9 0 root                  what forks the sender has proofs of, in one hash; before a greeting
//!         | 9 flags after? count {node (32) incarnation (8 LE) place (varint)}…
//!                                     flags: 1 a list, 2 the sender asks for one, 4 the last page, 8 after
//! ```
//! Who hears another root answers with its list; who hears a list answers with the proofs that it shows to
//! be lacking, and with its own list if it lacks some itself and was asked.

use crate::codec::{DecodeError, Reader, Writer};
use crate::id::NodeId;
use crate::log::Log;
use crate::op::{Chain, Dependency, Op};
use crate::replica::{Output, Replica};
use crate::sync::{Frame, RUN_BYTES_MAX};

/// Names in one frame, at most.
pub const NAMES_MAX: usize = 256;

/// Forks in one frame, at most; a longer list takes several.
pub const LISTED_MAX: usize = 8192;

/// An op waits this long before what it waits for is asked for: it may be on its way.
pub const WANT_AFTER_MS: u64 = 500;

/// How often is asked.
pub const WANT_EVERY_MS: u64 = 400;

/// Waiting ops of one peer about which is asked at once.
pub const WANT_OPS: usize = 64;

/// Bytes of what stands before an op that are shown with it, unless more is asked for.
pub const BACK_BYTES: usize = 4096;

/// Bytes of bodies that answer one frame, at most: the rest is asked for again.
pub const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Asks for ops by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Want {
    /// Whether to show as much of what stands before as a run takes.
    pub back: bool,
    /// At least one.
    pub names: Vec<Dependency>,
}

/// Of which forks the sender has proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForksTold {
    /// In one hash.
    Root([u8; 32]),
    /// One by one.
    List(ForksList),
}

/// A part of the list of forks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForksList {
    /// Whether the sender wants a list in return, if it has what the receiver lacks.
    pub ask: bool,
    /// The last chain of the frame before this one, when the list takes several.
    pub after: Option<Chain>,
    /// Whether nothing follows.
    pub last: bool,
    /// Chains and the places from which they are forked, in ascending order.
    pub forks: Vec<(Chain, u64)>,
}

impl Want {
    pub(crate) fn write(&self, writer: &mut Writer) {
        writer
            .varint(u64::from(self.back))
            .varint(self.names.len() as u64);
        for name in &self.names {
            writer.raw(&name.0);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let back = reader.varint(1, "the flags of a want")? == 1;
        let count = reader.varint(NAMES_MAX as u64, "the names of a want")?;
        if count == 0 {
            return Err(DecodeError::Meaningless("a want of nothing"));
        }
        let names = (0..count)
            .map(|_| reader.array("a name").map(Dependency))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self { back, names })
    }
}

const LIST: u64 = 1;
const ASK: u64 = 2;
const LAST: u64 = 4;
const AFTER: u64 = 8;

fn write_chain(writer: &mut Writer, chain: &Chain) {
    writer.raw(&chain.node.0).raw(&chain.incarnation.to_le_bytes());
}

fn read_chain(reader: &mut Reader<'_>) -> Result<Chain, DecodeError> {
    Ok(Chain {
        node: NodeId(reader.array("a chain's node")?),
        incarnation: u64::from_le_bytes(reader.array("an incarnation")?),
    })
}

impl ForksTold {
    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            ForksTold::Root(root) => {
                writer.varint(0).raw(root);
            }
            ForksTold::List(list) => {
                let flag = |set: bool, bit: u64| if set { bit } else { 0 };
                writer.varint(
                    LIST | flag(list.ask, ASK) | flag(list.last, LAST) | flag(list.after.is_some(), AFTER),
                );
                if let Some(after) = &list.after {
                    write_chain(writer, after);
                }
                writer.varint(list.forks.len() as u64);
                for (chain, seq) in &list.forks {
                    write_chain(writer, chain);
                    writer.varint(*seq);
                }
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let flags = reader.varint(LIST | ASK | LAST | AFTER, "the flags of forks")?;
        let set = |bit: u64| flags & bit != 0;
        if flags == 0 {
            return Ok(ForksTold::Root(reader.array("a root of forks")?));
        }
        if !set(LIST) {
            return Err(DecodeError::Meaningless("flags of forks without a list"));
        }
        let after = if set(AFTER) {
            Some(read_chain(reader)?)
        } else {
            None
        };
        let mut last = after;
        let mut forks = Vec::new();
        for _ in 0..reader.varint(LISTED_MAX as u64, "a list of forks")? {
            let chain = read_chain(reader)?;
            if last.replace(chain).is_some_and(|before| before >= chain) {
                return Err(DecodeError::NotCanonical("the order of forks"));
            }
            forks.push((chain, reader.varint(u64::MAX, "a fork's place")?));
        }
        Ok(ForksTold::List(ForksList {
            ask: set(ASK),
            after,
            last: set(LAST),
            forks,
        }))
    }
}

/// What an op names that is nowhere.
fn missing<'a>(log: &'a Log, op: &'a Op) -> impl Iterator<Item = Dependency> + 'a {
    let slot = op.slot();
    let before = (slot.seq > log.next(&slot.chain)).then(|| slot.previous.into());
    let named = op.body().dependencies.iter().copied();
    before
        .into_iter()
        .chain(named)
        .filter(|name| log.named(name).is_none() && !log.is_void(name))
}

impl Replica {
    /// Asks for what has been waited for too long, and for what a certificate covers and is not held.
    pub(crate) fn keep_wanting(&mut self, now_ms: u64, outputs: &mut Vec<Output>) {
        let passed = now_ms.checked_sub(self.wanted_ms);
        if passed.is_some_and(|ms| ms < WANT_EVERY_MS) {
            return;
        }
        self.wanted_ms = now_ms;
        let needs = self.needs();
        if !needs.is_empty()
            && let Some(peer) = self.draw_peer()
        {
            self.want(peer, true, needs, outputs);
        }
        let before_ms = now_ms.saturating_sub(WANT_AFTER_MS);
        for (brought, ops) in self.limbo.overdue(before_ms, WANT_OPS) {
            let mut names: Vec<Dependency> = ops.iter().flat_map(|op| missing(&self.log, op)).collect();
            names.retain(|name| !self.limbo.holds(name));
            names.sort();
            names.dedup();
            // Who brought the op may be gone, or not know better.
            let other = self.draw_peer();
            let peer = if self.peers.is_up(&brought) && self.chance.below(2) == 0 {
                Some(brought)
            } else {
                other
            };
            if let Some(peer) = peer {
                self.want(peer, false, names, outputs);
            }
        }
    }

    fn draw_peer(&mut self) -> Option<NodeId> {
        let peers: Vec<NodeId> = self.peers.iter().collect();
        peers.get(self.chance.below(peers.len() as u64) as usize).copied()
    }

    /// Asks a peer for ops by name.
    pub(crate) fn want(
        &mut self,
        peer: NodeId,
        back: bool,
        mut names: Vec<Dependency>,
        outputs: &mut Vec<Output>,
    ) {
        names.truncate(NAMES_MAX);
        if names.is_empty() || !self.peers.is_up(&peer) {
            return;
        }
        self.counters.wanted += names.len() as u64;
        outputs.push(Output::Send {
            to: peer,
            frame: Frame::Want(Want { back, names }).encode(),
        });
    }

    /// Shows a peer what it asks for.
    pub(crate) fn hear_want(&mut self, from: NodeId, want: Want, now_ms: u64, outputs: &mut Vec<Output>) {
        let back = if want.back { RUN_BYTES_MAX } else { BACK_BYTES };
        let mut bytes = 0;
        for name in &want.names {
            let Some(run) = self.log.run_to(name, back) else {
                continue;
            };
            bytes += run.bodies.iter().map(Vec::len).sum::<usize>();
            if !self.peers.serve(from, Frame::Branch(run), now_ms, outputs) {
                self.counters.throttled += 1;
                return;
            }
            if bytes > ANSWER_BYTES_MAX {
                return;
            }
        }
    }

    /// What greets a peer: the root of all that is compared.
    pub(crate) fn compared_root(&self) -> [u8; 32] {
        let root = self.log.vector().root();
        if self.forks.is_empty() {
            root
        } else {
            crate::id::hash("formation 2026 vector and forks v1", &[&root, &self.forks.root()])
        }
    }

    /// Tells a peer of the forks known, before it is greeted.
    pub(crate) fn tell_forks(&mut self, to: NodeId, outputs: &mut Vec<Output>) {
        if !self.forks.is_empty() {
            let told = ForksTold::Root(self.forks.root());
            let frame = Frame::Forks(told).encode();
            outputs.push(Output::Send { to, frame });
        }
    }

    pub(crate) fn hear_forks(
        &mut self,
        from: NodeId,
        told: ForksTold,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) {
        match told {
            ForksTold::Root(root) if root != self.forks.root() => {
                self.list_forks(from, true, now_ms, outputs);
            }
            ForksTold::Root(_) => {}
            ForksTold::List(list) => self.hear_forks_list(from, &list, now_ms, outputs),
        }
    }

    fn list_forks(&mut self, to: NodeId, ask: bool, now_ms: u64, outputs: &mut Vec<Output>) {
        let all: Vec<(Chain, u64)> = self.forks.iter().map(|it| (it.chain, it.seq)).collect();
        let mut pages: Vec<&[(Chain, u64)]> = all.chunks(LISTED_MAX).collect();
        if pages.is_empty() {
            pages.push(&[]);
        }
        let mut after = None;
        for (index, page) in pages.iter().enumerate() {
            let list = ForksList {
                ask,
                after,
                last: index + 1 == pages.len(),
                forks: page.to_vec(),
            };
            after = page.last().map(|(chain, _)| *chain);
            let frame = Frame::Forks(ForksTold::List(list));
            if !self.peers.serve(to, frame, now_ms, outputs) {
                self.counters.throttled += 1;
                return;
            }
        }
    }

    fn hear_forks_list(&mut self, from: NodeId, list: &ForksList, now_ms: u64, outputs: &mut Vec<Output>) {
        let end = list.forks.last().map(|(chain, _)| *chain).filter(|_| !list.last);
        let told = |chain: &Chain| {
            let found = list.forks.binary_search_by_key(chain, |(chain, _)| *chain);
            found.ok().map(|index| list.forks[index].1)
        };
        let lacking: Vec<Chain> = self
            .forks
            .iter()
            .filter(|it| list.after.is_none_or(|after| it.chain > after))
            .filter(|it| end.is_none_or(|end| it.chain <= end))
            .filter(|it| told(&it.chain).is_none_or(|seq| it.seq < seq))
            .map(|it| it.chain)
            .collect();
        for chain in lacking {
            let Some(proof) = self.forks.get(&chain).cloned() else {
                continue;
            };
            if !self.peers.serve(from, Frame::Fork(proof), now_ms, outputs) {
                self.counters.throttled += 1;
                return;
            }
        }
        if list.ask
            && list
                .forks
                .iter()
                .any(|(chain, seq)| self.forks.wants(chain, *seq))
        {
            self.list_forks(from, false, now_ms, outputs);
        }
    }
}
