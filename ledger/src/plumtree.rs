//! Plumtree: who is sent live ops at once, and who is only told of them (Leitão, Pereira, Rodrigues:
//! Epidemic Broadcast Trees, 2007). Sans-IO: it keeps the links and says what to ask of whom.
//!
//! ```text
//!             it brings what was here already ── Prune ─▶
//!   eager ◀──────────────────────────────────────────────▶ lazy
//!             ◀─ Graft ── it told of what did not come in time
//!             ◀────────── it brings something new
//! ```
//! Eager peers are sent new ops whole. Among the others a few, drawn by chance, are told the ends of the chains
//! that moved. As ops are links of chains, one end stands for all before it.
//!
//! Unlike in the paper, a link is kept where a node would have fewer than [`EAGER_MIN`] left: many sources share
//! the tree, and two that prune one circle at two places would cut it till it is grafted. (Measured with 50
//! nodes: with two links kept 1.3 copies and the last node after 43 hops, with three 2.0 copies and 6 hops.) Trees in small networks are not worth
//! it: up to [`FLOOD_PEERS_MAX`] peers all are eager. What is lost all the same is found by anti-entropy.

use std::collections::{BTreeMap, VecDeque};

use crate::chance::Chance;
use crate::id::NodeId;

/// Up to so many peers all are sent everything.
pub const FLOOD_PEERS_MAX: usize = 3;

/// Eager peers that a node does not go below of its own accord.
pub const EAGER_MIN: usize = 3;

/// Lazy peers that are told of moved chains at a time.
pub const TOLD_PEERS: usize = 4;

/// Chains told of at a time, at most: those that moved last.
pub const TOLD_CHAINS_MAX: usize = 512;

/// What was announced is asked for when it did not come within this time.
pub const GRAFT_AFTER_MS: u64 = 250;

/// Announced chains that are waited for, at most. Further ones are left to anti-entropy.
pub const AWAITED_MAX: usize = 4096;

/// Peers that are remembered to have announced one chain, at most.
const ANNOUNCERS_MAX: usize = 4;

/// What is to be asked of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Graft {
    /// Whom.
    pub(crate) to: NodeId,
    /// The short names of the chains; none to be sent only what is new from now on.
    pub(crate) shorts: Vec<u64>,
}

/// A chain that was announced further than it is held.
#[derive(Debug)]
struct Awaited {
    next: u64,
    by: VecDeque<NodeId>,
    since_ms: u64,
}

/// The links.
#[derive(Debug, Default)]
pub(crate) struct Plumtree {
    /// Whether each peer is eager.
    links: BTreeMap<NodeId, bool>,
    awaited: BTreeMap<u64, Awaited>,
}

impl Plumtree {
    pub(crate) fn up(&mut self, peer: NodeId) {
        self.links.insert(peer, true);
    }

    pub(crate) fn down(&mut self, peer: &NodeId) {
        self.links.remove(peer);
    }

    fn is_small(&self) -> bool {
        self.links.len() <= FLOOD_PEERS_MAX
    }

    fn eager_count(&self) -> usize {
        self.links.values().filter(|eager| **eager).count()
    }

    /// Who is sent live ops.
    pub(crate) fn eager(&self) -> impl Iterator<Item = NodeId> {
        let all = self.is_small();
        let eager = self.links.iter().filter(move |(_, eager)| all || **eager);
        eager.map(|(peer, _)| *peer)
    }

    /// A peer brought a live op that is new, or wants to be sent them.
    pub(crate) fn keep(&mut self, peer: &NodeId) {
        if let Some(eager) = self.links.get_mut(peer) {
            *eager = true;
        }
    }

    /// A peer brought live ops of which none is new; whether to tell it that it need not.
    pub(crate) fn repeats(&mut self, peer: &NodeId) -> bool {
        if self.is_small() {
            return false;
        }
        let enough = self.eager_count() > EAGER_MIN;
        match self.links.get_mut(peer) {
            // It sends though the link was lazy: it has not heard so.
            Some(eager) if !*eager => true,
            Some(eager) if enough => {
                *eager = false;
                true
            }
            _ => false,
        }
    }

    /// A peer wants no more to be sent live ops.
    pub(crate) fn pruned_by(&mut self, peer: &NodeId) {
        if let Some(eager) = self.links.get_mut(peer) {
            *eager = false;
        }
    }

    /// A peer told of a chain further than it is held here.
    pub(crate) fn announced(&mut self, by: NodeId, short: u64, next: u64, now_ms: u64) {
        if self.awaited.len() >= AWAITED_MAX && !self.awaited.contains_key(&short) {
            return;
        }
        let awaited = self.awaited.entry(short).or_insert_with(|| Awaited {
            next,
            by: VecDeque::new(),
            since_ms: now_ms,
        });
        awaited.next = awaited.next.max(next);
        if awaited.by.len() < ANNOUNCERS_MAX && !awaited.by.contains(&by) {
            awaited.by.push_back(by);
        }
    }

    /// Whom to ask for what was announced and did not come in time, and for a further link where there are too
    /// few. `held` says how much of a chain is held.
    pub(crate) fn due(&mut self, now_ms: u64, chance: &mut Chance, held: impl Fn(u64) -> u64) -> Vec<Graft> {
        let mut grafts: BTreeMap<NodeId, Vec<u64>> = BTreeMap::new();
        let links = &mut self.links;
        self.awaited.retain(|short, awaited| {
            if held(*short) >= awaited.next {
                return false;
            }
            // A wall clock that was set back delays nothing.
            let waited_ms = now_ms.checked_sub(awaited.since_ms).unwrap_or(GRAFT_AFTER_MS);
            if waited_ms < GRAFT_AFTER_MS {
                return true;
            }
            awaited.since_ms = now_ms;
            while let Some(peer) = awaited.by.pop_front() {
                if let Some(eager) = links.get_mut(&peer) {
                    *eager = true;
                    grafts.entry(peer).or_default().push(*short);
                    return true;
                }
            }
            false
        });
        let few = EAGER_MIN.min(self.links.len()).saturating_sub(self.eager_count());
        for peer in self.draw(few, chance) {
            self.keep(&peer);
            grafts.entry(peer).or_default();
        }
        let graft = |(to, shorts)| Graft { to, shorts };
        grafts.into_iter().map(graft).collect()
    }

    /// The lazy peers that are told this time of what moved.
    pub(crate) fn told(&self, chance: &mut Chance) -> Vec<NodeId> {
        self.draw(TOLD_PEERS, chance)
    }

    /// Some of the lazy peers.
    fn draw(&self, count: usize, chance: &mut Chance) -> Vec<NodeId> {
        if self.is_small() || count == 0 {
            return Vec::new();
        }
        let lazy = self.links.iter().filter(|(_, eager)| !**eager);
        let mut lazy: Vec<NodeId> = lazy.map(|(peer, _)| *peer).collect();
        for index in 0..count.min(lazy.len()) {
            let other = index + chance.below((lazy.len() - index) as u64) as usize;
            lazy.swap(index, other);
        }
        lazy.truncate(count);
        lazy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u8) -> NodeId {
        NodeId([number; 32])
    }

    fn of(peers: u8) -> Plumtree {
        let mut tree = Plumtree::default();
        (0..peers).for_each(|number| tree.up(node(number)));
        tree
    }

    #[test]
    fn a_small_network_is_flooded() {
        let mut tree = of(FLOOD_PEERS_MAX as u8);
        assert!(!tree.repeats(&node(0)));
        tree.pruned_by(&node(1));
        assert_eq!(tree.eager().count(), FLOOD_PEERS_MAX);
        assert_eq!(tree.told(&mut Chance::new([1; 32])), vec![]);
    }

    #[test]
    fn who_repeats_is_pruned_while_enough_are_left() {
        let mut tree = of(10);
        let pruned = (0..10).filter(|number| tree.repeats(&node(*number))).count();
        assert_eq!(pruned, 10 - EAGER_MIN);
        assert_eq!(tree.eager().count(), EAGER_MIN);
        tree.keep(&node(0));
        assert_eq!(tree.eager().count(), EAGER_MIN + 1);
    }

    #[test]
    fn what_was_announced_and_does_not_come_is_asked_of_one_after_the_other() {
        let mut tree = of(10);
        (0..10 - EAGER_MIN as u8).for_each(|number| tree.pruned_by(&node(number)));
        let mut chance = Chance::new([1; 32]);
        tree.announced(node(0), 77, 3, 1000);
        tree.announced(node(1), 77, 4, 1000);
        assert_eq!(tree.due(1000 + GRAFT_AFTER_MS - 1, &mut chance, |_| 2), vec![]);
        for number in 0..2 {
            let now_ms = 1000 + (u64::from(number) + 1) * GRAFT_AFTER_MS;
            let graft = Graft {
                to: node(number),
                shorts: vec![77],
            };
            assert_eq!(tree.due(now_ms, &mut chance, |_| 3), vec![graft]);
        }
        assert_eq!(
            tree.due(9000, &mut chance, |_| 3),
            vec![],
            "nobody is left to ask"
        );
        tree.announced(node(0), 77, 3, 9000);
        assert_eq!(tree.due(99_000, &mut chance, |_| 3), vec![], "it has come");
    }

    #[test]
    fn a_node_that_all_pruned_looks_for_links() {
        let mut tree = of(10);
        (0..10).for_each(|number| tree.pruned_by(&node(number)));
        let grafts = tree.due(1000, &mut Chance::new([1; 32]), |_| 0);
        assert_eq!(grafts.len(), EAGER_MIN);
        assert_eq!(tree.eager().count(), EAGER_MIN);
    }

    #[test]
    fn a_flood_of_announcements_is_bounded() {
        let mut tree = of(10);
        (0..2 * AWAITED_MAX as u64).for_each(|short| tree.announced(node(0), short, 1, 1000));
        assert_eq!(tree.awaited.len(), AWAITED_MAX);
    }
}
