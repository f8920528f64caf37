//! The witnesses agree, whatever the network and one liar do, and go on once it is calm.

mod finality_net;

use finality_net::{CALM, Faults, Net, secret};
use ledger::admit::Verify;
use ledger::finality::chain::{CertifiedChain, ChainError};
use ledger::finality::checkpoint::CertificateError;
use ledger::finality::consensus::PROPOSE_MS;
use ledger::finality::recovery::{Recovery, RecoveryError, SignedRecovery};
use ledger::finality::witness::WitnessSet;
use proptest::prelude::*;

fn set_of(nodes: &[usize]) -> WitnessSet {
    WitnessSet::of_equals(nodes.iter().map(|node| secret(*node).node_id())).expect("few")
}

/// Lets chaos reign, then calm: every honest node goes on by some heights.
fn chaos_then_calm(net: &mut Net, faults: Faults, chaos_ms: u64) {
    net.faults = faults;
    net.start();
    net.run_until(net.now_ms + chaos_ms);
    net.faults = CALM;
    // Rounds have become long in the chaos: one of them may have to pass.
    let before = (0..net.nodes.len()).map(|node| net.height(node)).max();
    net.run_until(net.now_ms + 30_000);
    for node in (0..net.nodes.len()).filter(|node| net.liar != Some(*node)) {
        assert!(
            Some(net.height(node)) > before.map(|height| height + 5),
            "node {node} is at height {} after calm, {before:?} before it",
            net.height(node)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn they_agree_through_loss_delay_reorder_and_crashes(
        seed: u64, count in 1usize..8, jitter_ms in 0u64..300, lost in 0u64..300, crash in 0u64..40,
    ) {
        let mut net = Net::new(seed, count, count, Verify::Trusting);
        chaos_then_calm(&mut net, Faults { delay_ms: 1, jitter_ms, lost, crash }, 10_000);
    }

    #[test]
    fn one_liar_of_four_changes_nothing(
        seed: u64, liar in 0usize..4, jitter_ms in 0u64..200, lost in 0u64..200, crash in 0u64..20,
    ) {
        let mut net = Net::new(seed, 4, 4, Verify::Trusting);
        net.liar = Some(liar);
        chaos_then_calm(&mut net, Faults { delay_ms: 1, jitter_ms, lost, crash }, 10_000);
    }

    #[test]
    fn the_set_changes_under_way(seed: u64, liar in 0usize..4, jitter_ms in 0u64..100, lost in 0u64..100) {
        let mut net = Net::new(seed, 6, 4, Verify::Trusting);
        net.liar = Some(liar);
        let honest: Vec<usize> = (0..4).filter(|node| *node != liar).collect();
        net.changes.insert(1, set_of(&[liar, honest[0], honest[1], 4]));
        net.changes.insert(2, set_of(&[liar, honest[2], 4, 5]));
        net.changes.insert(4, set_of(&[honest[0], honest[1], honest[2], 4, 5]));
        chaos_then_calm(&mut net, Faults { delay_ms: 1, jitter_ms, lost, crash: 5 }, 5_000);
    }
}
