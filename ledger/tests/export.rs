//! A ledger that was written to a file reads back; a file that was changed does not.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::export::{self, ExportError};
use ledger::id::{NetworkId, OpId};
use ledger::op::Op;
use proptest::prelude::*;
use scene::network;

fn ledger() -> Vec<Op> {
    let mut ops = Vec::new();
    for number in 1..4 {
        let (mut author, first) = scene::Author::opened(number);
        ops.push(first);
        for index in 0..number * 7 {
            ops.push(author.say(&format!("{index} of {number}")));
        }
    }
    ops.sort_by_key(Op::order);
    ops
}

fn ids(ops: &[Op]) -> std::collections::BTreeSet<OpId> {
    ops.iter().map(Op::id).collect()
}

#[test]
fn a_ledger_reads_back_from_its_file() {
    let ops = ledger();
    let chain = ops[0].slot().chain;
    let forks = vec![(chain, b"a proof".to_vec())];
    let file = export::encode(network(), &ops, &[], &forks);
    let read = export::decode(network(), &file, [1; 32]).unwrap();
    assert_eq!(ids(&read.ops), ids(&ops));
    assert_eq!((read.ops.len(), read.forks), (ops.len(), forks));
    // It goes into a replica as it is.
    let (replica, _) = scene::open(9, 1, read.ops);
    assert_eq!(replica.log().len(), ops.len() + 1);
    let empty = export::encode(network(), &[], &[], &[]);
    assert_eq!(export::decode(network(), &empty, [1; 32]).unwrap().ops, vec![]);
}

#[test]
fn what_is_no_export_or_another_networks_is_told_apart() {
    assert_eq!(
        export::decode(network(), b"PK", [1; 32]),
        Err(ExportError::NotAnExport)
    );
    let other = NetworkId([7; 32]);
    let file = export::encode(other, &[], &[], &[]);
    assert_eq!(
        export::decode(network(), &file, [1; 32]),
        Err(ExportError::OtherNetwork(other))
    );
}

#[test]
fn an_op_that_its_node_did_not_sign_is_refused_though_the_file_is_whole() {
    let ops = ledger();
    let forged: Vec<Op> = ops
        .iter()
        .map(|op| {
            let other = ledger::key::Signature([3; 64]);
            if op.slot().seq == 7 {
                op.clone().with_signature(other)
            } else {
                op.clone()
            }
        })
        .collect();
    let file = export::encode(network(), &forged, &[], &[]);
    assert!(matches!(
        export::decode(network(), &file, [1; 32]),
        Err(ExportError::Forged { seq: 7, .. })
    ));
}

proptest! {
    #[test]
    fn a_file_that_was_cut_or_changed_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8, cut: bool) {
        let mut file = export::encode(network(), &ledger(), &[], &[]);
        let at = at.index(file.len());
        if cut {
            file.truncate(at);
        } else {
            file[at] ^= 1 << bit;
        }
        prop_assert!(export::decode(network(), &file, [1; 32]).is_err());
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let mut file = export::encode(network(), &[], &[], &[])[..51].to_vec();
        file.extend(bytes);
        let _ = export::decode(network(), &file, [1; 32]);
    }
}
