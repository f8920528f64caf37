//! Comparison of two ledgers: greeting, list, what is lacking (drawn in [`crate::sync`]).
//!
//! Whoever lies in it harms its own talk only: it is pushed what it says it lacks, at a bounded rate, and asked
//! for what it says it has; every other peer is compared with by itself.
//!
//! **Memory.** After a talk each side keeps its number, the step of its own vector, and the chains that differed
//! in it. The chains that moved at neither side since and did not differ then are level, so the next talk lists
//! only the others; and of what moved here but not there it is known where it stands there. Tags of two bytes miss a chain now and then, and a peer may be wrong: where nothing differs
//! but the roots, and after [`REMEMBERED_TALKS_MAX`] talks in any case, both begin afresh with tags.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::id::NodeId;
use crate::log::Log;
use crate::op::Chain;
use crate::peers::send;
use crate::replica::{Misconduct, Output, Replica};
use crate::sync::{Frame, HEADS_MAX, Hello, Lacks, List, Mark, Parts, Summary, TAG_BITS_MAX, mark_of};
use crate::vector::{Vector, part};

/// Talks in a row that rest on the memory of one before, at most.
pub const REMEMBERED_TALKS_MAX: u32 = 32;

/// Chains that a greeting lists, at most; where more moved it has tags.
pub const REMEMBERED_CHAINS_MAX: usize = 512;

/// Peers that are remembered, at most; those connected earliest are forgotten first.
pub const REMEMBERED_PEERS_MAX: usize = 1024;

/// So few ops are fetched though others are being fetched from another peer, which may bring them as well.
pub const FEW_OPS: u64 = 256;

/// A greeting of ours.
#[derive(Debug)]
pub(crate) struct Greeting {
    pub(crate) ms: u64,
    talk: u64,
    step: u64,
    /// Whether it rests on an earlier talk.
    remembers: bool,
    /// What it listed.
    listed: Vec<(Chain, u64)>,
}

/// What we listed in an answer.
#[derive(Debug)]
pub(crate) struct Listed {
    talk: u64,
    chains: Vec<(Chain, u64)>,
    until: bool,
}

/// What is known of an earlier talk.
#[derive(Debug, Clone)]
struct Base {
    talk: u64,
    step: u64,
    differed: BTreeSet<Chain>,
}

#[derive(Debug, Default)]
struct Memory {
    /// The last two: the answer to the last may have been lost.
    bases: VecDeque<Base>,
    talks: u32,
}

/// What is known of each peer. It outlives a connection.
#[derive(Debug, Default)]
pub(crate) struct Memories {
    peers: BTreeMap<NodeId, Memory>,
    met: VecDeque<NodeId>,
}

impl Memories {
    fn last(&self, peer: &NodeId) -> Option<&Base> {
        let memory = self.peers.get(peer)?;
        let fresh = memory.talks < REMEMBERED_TALKS_MAX;
        memory.bases.back().filter(|_| fresh)
    }

    fn find(&self, peer: &NodeId, talk: u64) -> Option<&Base> {
        let mut bases = self.peers.get(peer)?.bases.iter();
        bases.find(|base| base.talk == talk)
    }

    fn forget(&mut self, peer: &NodeId) {
        if let Some(memory) = self.peers.get_mut(peer) {
            *memory = Memory::default();
        }
    }

    fn keep(&mut self, peer: NodeId, base: Base, afresh: bool) {
        if !self.peers.contains_key(&peer) {
            self.met.push_back(peer);
            if self.met.len() > REMEMBERED_PEERS_MAX
                && let Some(first) = self.met.pop_front()
            {
                self.peers.remove(&first);
            }
        }
        let memory = self.peers.entry(peer).or_default();
        memory.talks = if afresh { 0 } else { memory.talks + 1 };
        if base.differed.len() > REMEMBERED_CHAINS_MAX {
            // To list so many is no cheaper than to begin afresh.
            memory.bases.clear();
            return;
        }
        memory.bases.push_back(base);
        if memory.bases.len() > 2 {
            memory.bases.pop_front();
        }
    }
}

/// How a peer's chains stand to ours.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Where the peer lacks something: the place on from which.
    pub(crate) behind: Vec<(Chain, u64)>,
    /// How many ops we lack of each chain that the peer listed.
    pub(crate) lacks: Vec<u64>,
    /// Our chains that the peer listed.
    listed: BTreeSet<Chain>,
    /// Those of them that are not level.
    differ: BTreeSet<Chain>,
}

impl Standing {
    fn is_lacking(&self) -> bool {
        self.lacks.iter().any(|lack| *lack > 0)
    }
}

/// Compares what a peer listed with what is held. A short name may stand for several chains: each mark is tried
/// with all of them, first for one that holds just that op.
fn stand(log: &Log, talk: u64, marks: &[Mark]) -> Standing {
    let vector = log.vector();
    let mut standing = Standing::default();
    for marks in marks.chunk_by(|a, b| a.short == b.short) {
        let mut own: Vec<Chain> = vector
            .shorts(marks[0].short, marks[0].short)
            .map(|(_, chain, _)| *chain)
            .collect();
        standing.listed.extend(&own);
        let first = standing.lacks.len();
        standing.lacks.resize(first + marks.len(), 0);
        let mut others = Vec::new();
        for (index, mark) in marks.iter().enumerate() {
            let holds = |chain: &Chain| match mark.next.checked_sub(1) {
                None => true,
                Some(last) => {
                    let op = log.at(chain, last).filter(|_| mark.next <= vector.next(chain));
                    op.is_some_and(|op| mark_of(&op.id(), talk) == mark.mark)
                }
            };
            let Some(found) = own.iter().position(holds) else {
                // A chain that was taken out here is told of by whoever has not done so yet.
                let mut gone = vector.gone(mark.short, mark.short);
                if !gone.any(|(_, head)| Mark::new(mark.short, Some(head), talk) == *mark) {
                    others.push(index);
                }
                continue;
            };
            let chain = own.swap_remove(found);
            if vector.next(&chain) > mark.next {
                standing.behind.push((chain, mark.next));
                standing.differ.insert(chain);
            }
        }
        for index in others {
            let next = marks[index].next;
            standing.lacks[first + index] = own.pop().map_or(next, |chain| {
                standing.differ.insert(chain);
                // Not ahead and yet another op: a fork, or two chains of one short name. Its last op shows which.
                next.saturating_sub(vector.next(&chain)).max(1)
            });
        }
    }
    standing
}

/// The ends of some chains, as they are listed in a talk, and what is remembered of that.
fn list(
    vector: &Vector,
    talk: u64,
    chains: impl IntoIterator<Item = Chain>,
) -> (Vec<Mark>, Vec<(Chain, u64)>) {
    let mut both: Vec<(Mark, Chain)> = chains
        .into_iter()
        .map(|chain| (Mark::new(vector.short(&chain), vector.head(&chain), talk), chain))
        .collect();
    both.sort_unstable();
    both.into_iter()
        .map(|(mark, chain)| (mark, (chain, mark.next)))
        .unzip()
}

/// Into how many parts a vector of so many chains is hashed: about one chain in each.
fn tag_bits(chains: usize) -> u32 {
    chains.max(1).next_power_of_two().ilog2().min(TAG_BITS_MAX)
}

impl Replica {
    pub(crate) fn stand(&self, talk: u64, marks: &[Mark]) -> Standing {
        stand(&self.log, talk, marks)
    }

    /// Begins a comparison with a peer.
    pub(crate) fn greet(&mut self, to: NodeId, now_ms: u64, outputs: &mut Vec<Output>) {
        if !self.peers.is_up(&to) {
            return;
        }
        self.tell_forks(to, outputs);
        let talk = u64::from_le_bytes(self.chance.bytes()[..8].try_into().expect("32 are more than 8"));
        let vector = self.log.vector();
        let since = self.peers.memories.last(&to).and_then(|base| {
            let moved: BTreeSet<Chain> = vector
                .moved_since(base.step)
                .chain(&base.differed)
                .copied()
                .collect();
            (moved.len() <= REMEMBERED_CHAINS_MAX).then(|| (base.talk, list(vector, talk, moved)))
        });
        let remembers = since.is_some();
        let (summary, listed) = match since {
            Some((since, (marks, listed))) => (Summary::Since { talk: since, marks }, listed),
            None => (
                Summary::Tags(vector.tags(talk, tag_bits(vector.len()))),
                Vec::new(),
            ),
        };
        let hello = Hello {
            network: self.network,
            root: self.compared_root(),
            talk,
            summary,
        };
        let step = vector.step();
        if let Some(peer) = self.peers.peers.get_mut(&to) {
            peer.met_ms = None;
            peer.greeting = Some(Greeting {
                ms: now_ms,
                talk,
                step,
                remembers,
                listed,
            });
            send(to, Frame::Hello(hello), outputs);
        }
    }

    pub(crate) fn hear_hello(
        &mut self,
        from: NodeId,
        hello: Hello,
        now_ms: u64,
        outputs: &mut Vec<Output>,
    ) -> Result<(), Misconduct> {
        if hello.network != self.network {
            return Err(Misconduct::OtherNetwork(hello.network));
        }
        let own = self.node();
        let (root, step) = (self.compared_root(), self.log.vector().step());
        let afresh = matches!(hello.summary, Summary::Tags(_));
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return Ok(());
        };
        peer.met_ms = None;
        // A greeting with tags is also the answer to one that rests on what the other does not remember.
        let crossed =
            peer.greets(now_ms) && !(afresh && peer.greeting.as_ref().is_some_and(|own| own.remembers));
        let base = |differed| Base {
            talk: hello.talk,
            step,
            differed,
        };
        if hello.root == root {
            self.agreed = true;
            self.peers.memories.keep(from, base(BTreeSet::new()), afresh);
            send(from, Frame::Level(hello.talk), outputs);
            return Ok(());
        }
        if crossed && own < from {
            return Ok(());
        }
        peer.greeting = None;
        if !peer.may_be_served(now_ms) {
            self.counters.throttled += 1;
            return Ok(());
        }
        // Who hears what we hold sends what we lack.
        if !self.peers.may_fetch(from, now_ms) {
            return Ok(());
        }
        let (answer, standing, listed) = match &hello.summary {
            Summary::Tags(tags) => {
                let (answer, listed) = self.answer_tags(hello.talk, tags);
                (answer, Standing::default(), listed)
            }
            Summary::Since { talk, marks } => {
                let mut standing = stand(&self.log, hello.talk, marks);
                let answer = self.answer_since(from, *talk, hello.talk, &mut standing);
                let Some((answer, listed)) = answer else {
                    // Forgotten here, or wrong: afresh.
                    self.peers.memories.forget(&from);
                    self.greet(from, now_ms, outputs);
                    return Ok(());
                };
                (answer, standing, listed)
            }
        };
        let until = answer.until.is_some();
        if until {
            self.peers.memories.forget(&from);
        } else {
            let chains = listed.iter().map(|(chain, _)| *chain);
            let differed = standing.differ.iter().copied().chain(chains).collect();
            self.peers.memories.keep(from, base(differed), afresh);
        }
        if let Some(peer) = self.peers.peers.get_mut(&from) {
            peer.listed = Some(Listed {
                talk: hello.talk,
                chains: listed,
                until,
            });
            peer.serve(from, Frame::List(answer), outputs);
        }
        self.push_from(from, standing.behind, now_ms, outputs);
        Ok(())
    }

    /// Lists the chains of the parts whose tags differ.
    fn answer_tags(&self, talk: u64, tags: &[u16]) -> (List, Vec<(Chain, u64)>) {
        let vector = self.log.vector();
        let bits = tags.len().ilog2();
        let mut parts = Parts::none(bits);
        for (index, (ours, theirs)) in vector.tags(talk, bits).iter().zip(tags).enumerate() {
            if ours != theirs {
                parts.insert(index);
            }
        }
        let mut until = None;
        let mut gone = Vec::new();
        let mut chains: Vec<(u64, Chain)> = Vec::new();
        for index in parts.iter() {
            let (from, to) = part(index, bits);
            gone.extend(vector.gone(from, to).map(|(chain, head)| (*chain, *head)));
            chains.extend(vector.shorts(from, to).map(|(short, chain, _)| (short, *chain)));
            if chains.len() > HEADS_MAX {
                // Chains of one short name are told together or not at all; only an attacker has so many of them.
                let first_left = chains[HEADS_MAX].0;
                chains.truncate(HEADS_MAX);
                chains.retain(|(short, _)| *short < first_left);
                until = first_left.checked_sub(1);
                break;
            }
        }
        let (mut marks, mut listed) = list(vector, talk, chains.into_iter().map(|(_, chain)| chain));
        let told = |short: u64| until.is_none_or(|until| short <= until);
        for (chain, head) in gone {
            // Listed as well, so that a peer that has it still does not send it.
            let mark = Mark::new(vector.short(&chain), Some(&head), talk);
            if told(mark.short) && marks.len() < HEADS_MAX {
                let at = marks.partition_point(|other| *other < mark);
                marks.insert(at, mark);
                listed.insert(at, (chain, head.next));
            }
        }
        let answer = List {
            talk,
            lacks: Vec::new(),
            sent: 0,
            parts: Some(parts),
            until,
            marks,
        };
        (answer, listed)
    }

    /// Lists what moved here since an earlier talk. `None` when that is forgotten, or when nothing differs.
    fn answer_since(
        &self,
        peer: NodeId,
        since: u64,
        talk: u64,
        standing: &mut Standing,
    ) -> Option<(List, Vec<(Chain, u64)>)> {
        let vector = self.log.vector();
        let base = self.peers.memories.find(&peer, since)?;
        let moved = vector.moved_since(base.step).chain(&base.differed);
        let mut moved: BTreeSet<Chain> = moved
            .filter(|chain| !standing.listed.contains(chain))
            .copied()
            .collect();
        // What was level then and did not move there still stands there where it stood here.
        let mut held = vector.held_at(base.step).unwrap_or_default();
        held.retain(|chain, next| {
            moved.contains(chain) && !base.differed.contains(chain) && *next < vector.next(chain)
        });
        let few = held
            .iter()
            .map(|(chain, next)| vector.next(chain) - next)
            .sum::<u64>()
            <= FEW_OPS;
        if few {
            moved.retain(|chain| !held.contains_key(chain));
            standing.differ.extend(held.keys());
        } else {
            held.clear();
        }
        let sent = held.len() as u64;
        standing.behind.extend(held);
        let nothing = moved.is_empty() && standing.behind.is_empty() && !standing.is_lacking();
        if nothing || moved.len() > HEADS_MAX {
            return None;
        }
        let (marks, listed) = list(vector, talk, moved);
        let answer = List {
            talk,
            lacks: standing.lacks.clone(),
            sent,
            parts: None,
            until: None,
            marks,
        };
        Some((answer, listed))
    }

    pub(crate) fn hear_level(&mut self, from: NodeId, talk: u64) {
        // An answer to no question says nothing.
        if let Some(greeting) = self.answered(from, talk) {
            self.agreed = true;
            let afresh = self.peers.memories.last(&from).is_none();
            let base = Base {
                talk,
                step: greeting.step,
                differed: BTreeSet::new(),
            };
            self.peers.memories.keep(from, base, afresh);
        }
    }

    /// Takes the greeting of ours that a talk began with.
    fn answered(&mut self, from: NodeId, talk: u64) -> Option<Greeting> {
        let peer = self.peers.peers.get_mut(&from)?;
        peer.greeting.take_if(|greeting| greeting.talk == talk)
    }

    pub(crate) fn hear_list(&mut self, from: NodeId, list: &List, now_ms: u64, outputs: &mut Vec<Output>) {
        let Some(greeting) = self.answered(from, list.talk) else {
            return;
        };
        let vector = self.log.vector();
        let mut standing = stand(&self.log, list.talk, &list.marks);
        for ((chain, next), lack) in greeting.listed.iter().zip(&list.lacks) {
            if *lack > 0 {
                standing.differ.insert(*chain);
                standing.behind.push((*chain, next.saturating_sub(*lack)));
            }
        }
        let until = list.until.unwrap_or(u64::MAX);
        if let Some(parts) = &list.parts {
            for index in parts.iter() {
                let (first, last) = part(index, parts.bits);
                for (_, chain, _) in vector.shorts(first, last.min(until)) {
                    if !standing.listed.contains(chain) {
                        standing.behind.push((*chain, 0));
                        standing.differ.insert(*chain);
                    }
                }
            }
        }
        // Under constant traffic two vectors are hardly ever equal; to have all that the peer has is enough.
        self.agreed |= !standing.is_lacking() && list.sent == 0 && list.until.is_none();
        if list.until.is_none() {
            let base = Base {
                talk: list.talk,
                step: greeting.step,
                differed: std::mem::take(&mut standing.differ),
            };
            self.peers.memories.keep(from, base, list.parts.is_some());
        } else {
            self.peers.memories.forget(&from);
            self.peers.again = Some(from);
        }
        let lacking = standing
            .lacks
            .iter()
            .fold(0, |sum: u64, lack| sum.saturating_add(*lack));
        let may_ask = lacking > 0 && (lacking <= FEW_OPS || self.peers.may_fetch(from, now_ms));
        if let Some(peer) = self.peers.peers.get_mut(&from).filter(|_| may_ask) {
            let lacks = Lacks {
                talk: list.talk,
                lacks: standing.lacks,
            };
            peer.serve(from, Frame::Lacks(lacks), outputs);
        }
        self.push_from(from, standing.behind, now_ms, outputs);
    }

    pub(crate) fn hear_lacks(&mut self, from: NodeId, lacks: &Lacks, now_ms: u64, outputs: &mut Vec<Output>) {
        let Some(peer) = self.peers.peers.get_mut(&from) else {
            return;
        };
        let Some(listed) = peer.listed.take_if(|listed| listed.talk == lacks.talk) else {
            return;
        };
        if listed.until {
            self.peers.again = Some(from);
        }
        let places = listed.chains.iter().zip(&lacks.lacks);
        let places = places
            .filter(|(_, lack)| **lack > 0)
            .map(|((chain, next), lack)| (*chain, next.saturating_sub(*lack)))
            .collect();
        self.push_from(from, places, now_ms, outputs);
    }
}
