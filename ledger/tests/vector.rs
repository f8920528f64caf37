//! The version vector agrees with the vector clock of the `crdts` crate, and its root tells vectors apart.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

use crdts::{CmRDT, Dot, VClock};
use ledger::id::{NodeId, OpId};
use ledger::op::Chain;
use ledger::vector::{Head, Vector};
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
