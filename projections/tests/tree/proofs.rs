//! One entry shown to who has only the root.

use projections::tree::Tree;
use projections::tree::proof::{Proof, ProofError};

use crate::{build, regular};

#[test]
fn what_is_there_and_what_is_not_is_proved() {
    let small = regular(3, 10);
    for model in [regular(0, 0), small, regular(3_000, 100), regular(20, 9_000)] {
        let tree = build(&model);
        let root = tree.root();
        for ((table, key), value) in model.iter().step_by(1 + model.len() / 50) {
            let proof = tree.prove(*table, key);
            assert_eq!(proof.verify(&root, *table, key), Ok(Some(&value[..])));
        }
        for n in 0u32..50 {
            let proof = tree.prove(100, &n.to_le_bytes());
            assert_eq!(proof.verify(&root, 100, &n.to_le_bytes()), Ok(None));
        }
    }
}

#[test]
fn a_proof_of_another_key_root_or_content_shows_nothing() {
    let mut tree = build(&regular(3_000, 100));
    let root = tree.root();
    let (mine, other) = (5u32.to_be_bytes(), 6u32.to_be_bytes());
    let proof = tree.prove(5, &mine);
    assert_eq!(proof.verify(&root, 5, &mine).unwrap(), tree.get(5, &mine));
    // Of a key elsewhere in the tree.
    assert!(matches!(
        proof.verify(&root, 6, &other),
        Err(ProofError::OffTheWay)
    ));
    assert_eq!(
        proof.verify(&Tree::default().root(), 5, &mine),
        Err(ProofError::OffTheWay)
    );
    let with = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut chunks = proof.chunks.clone();
        change(&mut chunks);
        Proof { chunks }.verify(&root, 5, &mine).map(|_| ())
    };
    let off = Err(ProofError::OffTheWay);
    assert_eq!(with(&|chunks| chunks.truncate(1)), off);
    assert_eq!(with(&|chunks| chunks.clear()), off);
    assert_eq!(with(&|chunks| chunks.push(vec![0])), off);
    assert_eq!(
        with(&|chunks| *chunks.last_mut().unwrap().last_mut().unwrap() ^= 1),
        off
    );

    tree.insert(5, &mine, b"new");
    assert_eq!(proof.verify(&tree.root(), 5, &mine), Err(ProofError::OffTheWay));
}
