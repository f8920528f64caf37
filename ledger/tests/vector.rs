//! The version vector agrees with the vector clock of the `crdts` crate, and its root tells vectors apart.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

use crdts::{CmRDT, Dot, VClock};
use ledger::id::{NodeId, OpId};
use ledger::op::Chain;
use ledger::vector::{Head, SHORT_MAX, Vector};
use proptest::collection::vec;
use proptest::prelude::*;

fn of(steps: &[(u8, u8)]) -> (Vector, VClock<Chain>) {
    let (mut vector, mut clock) = (Vector::default(), VClock::new());
    for (node, length) in steps {
        let chain = Chain {
            node: NodeId([*node; 32]),
            incarnation: 1,
        };
        for _ in 0..*length {
            let seq = vector.next(&chain);
            vector.advance(
                chain,
                Head {
                    next: seq + 1,
                    id: OpId([seq as u8; 32]),
                },
            );
            clock.apply(Dot {
                actor: chain,
                counter: seq + 1,
            });
        }
    }
    (vector, clock)
}

proptest! {
    #[test]
    fn it_compares_as_a_vector_clock_does(
        a in vec((0u8..5, 0u8..4), 0..8),
        b in vec((0u8..5, 0u8..4), 0..8),
    ) {
        let ((a, clock_a), (b, clock_b)) = (of(&a), of(&b));
        for (chain, head) in a.iter() {
            prop_assert_eq!(head.next, clock_a.get(chain));
        }
        prop_assert_eq!(a.len(), clock_a.iter().count());
        prop_assert_eq!(a.compare(&b), clock_a.partial_cmp(&clock_b));
        prop_assert_eq!(a.root() == b.root(), clock_a == clock_b);
    }
}

#[test]
fn the_root_covers_the_last_op_and_follows_each_step() {
    let chain = Chain {
        node: NodeId([1; 32]),
        incarnation: 1,
    };
    let (mut one, mut other) = (Vector::default(), Vector::default());
    one.advance(
        chain,
        Head {
            next: 1,
            id: OpId([1; 32]),
        },
    );
    other.advance(
        chain,
        Head {
            next: 1,
            id: OpId([2; 32]),
        },
    );
    assert_ne!(one.root(), other.root());
    let before = one.root();
    one.advance(
        chain,
        Head {
            next: 2,
            id: OpId([3; 32]),
        },
    );
    assert_ne!(one.root(), before);
}

#[test]
fn a_chain_that_is_taken_out_is_in_no_root_and_is_known_until_it_comes_back() {
    let chain = |node| Chain {
        node: NodeId([node; 32]),
        incarnation: 1,
    };
    let head = |next| Head {
        next,
        id: OpId([next as u8; 32]),
    };
    let (mut one, mut other) = (Vector::default(), Vector::default());
    one.advance(chain(1), head(3));
    other.advance(chain(1), head(3));
    other.advance(chain(2), head(4));
    other.advance(chain(2), head(5));
    assert_ne!(one.root(), other.root());
    let step = other.step();
    other.remove(&chain(2));
    assert_eq!(one.root(), other.root());
    assert_eq!(other.held_at(step), Some([(chain(2), 5)].into()));
    let gone: Vec<_> = other.gone(0, SHORT_MAX).collect();
    assert_eq!(gone, vec![(&chain(2), &head(5))]);
    other.advance(chain(2), head(6));
    assert_eq!(other.gone(0, SHORT_MAX).count(), 0);
    assert_eq!(other.moved_since(step).collect::<Vec<_>>(), vec![&chain(2)]);
}

proptest! {
    /// However a vector came to be, its root and tags are those of what it holds.
    #[test]
    fn the_root_is_that_of_what_is_held_however_it_came_to_be(
        steps in vec((0u8..40, any::<bool>()), 0..120),
        bits in 0u32..6,
    ) {
        let mut vector = Vector::default();
        for (node, take_out) in steps {
            let chain = Chain { node: NodeId([node; 32]), incarnation: 1 };
            if take_out {
                vector.remove(&chain);
            } else {
                let next = vector.next(&chain) + 1;
                vector.advance(chain, Head { next, id: OpId([next as u8; 32]) });
            }
            vector.root();
        }
        let mut afresh = Vector::default();
        for (chain, head) in vector.iter() {
            afresh.advance(*chain, *head);
        }
        prop_assert_eq!(vector.root(), afresh.root());
        prop_assert_eq!(vector.tags(9, bits), afresh.tags(9, bits));
    }
}

#[test]
fn a_range_that_ends_before_it_begins_has_no_chains() {
    let mut vector = Vector::default();
    let chain = Chain {
        node: NodeId([1; 32]),
        incarnation: 1,
    };
    let head = Head {
        next: 1,
        id: OpId([2; 32]),
    };
    vector.advance(chain, head);
    assert_eq!(vector.shorts(0, u64::MAX).count(), 1);
    assert_eq!(vector.shorts(2, 1).count(), 0);
}
