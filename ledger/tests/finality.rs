//! The witnesses agree, whatever the network and one liar do, and go on once it is calm.

mod finality_net;

use finality_net::{CALM, Faults, Net, secret, time_to_final};
use ledger::admit::Verify;
use ledger::finality::chain::{CertifiedChain, ChainError};
use ledger::finality::checkpoint::CertificateError;
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
    let goal = before.map_or(0, |height| height + 5);
    let until_ms = net.now_ms + 60_000;
    let honest: Vec<usize> = (0..net.nodes.len())
        .filter(|node| net.liar != Some(*node))
        .collect();
    while honest.iter().any(|node| net.height(*node) < goal) {
        let heights: Vec<u64> = honest.iter().map(|node| net.height(*node)).collect();
        assert!(
            net.now_ms < until_ms,
            "heights {heights:?} long after calm, {goal} is due"
        );
        net.run_until(net.now_ms + 100);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn they_agree_through_loss_delay_reorder_and_crashes(
        seed: u64, count in 1usize..8, jitter_ms in 0u64..300, lost in 0u64..300, crash in 0u64..40,
    ) {
        let mut net = Net::new(seed, count, count, Verify::Trusting);
        chaos_then_calm(&mut net, Faults { delay_ms: 1, jitter_ms, lost, crash }, 3_000);
    }

    #[test]
    fn one_liar_of_four_changes_nothing(
        seed: u64, liar in 0usize..4, jitter_ms in 0u64..200, lost in 0u64..200, crash in 0u64..20,
    ) {
        let mut net = Net::new(seed, 4, 4, Verify::Trusting);
        net.liar = Some(liar);
        chaos_then_calm(&mut net, Faults { delay_ms: 1, jitter_ms, lost, crash }, 3_000);
    }

    #[test]
    fn the_set_changes_under_way(seed: u64, liar in 0usize..4, jitter_ms in 0u64..100, lost in 0u64..100) {
        let mut net = Net::new(seed, 6, 4, Verify::Trusting);
        net.liar = Some(liar);
        let honest: Vec<usize> = (0..4).filter(|node| *node != liar).collect();
        net.changes.insert(1, set_of(&[liar, honest[0], honest[1], 4]));
        net.changes.insert(2, set_of(&[liar, honest[2], 4, 5]));
        net.changes.insert(4, set_of(&[honest[0], honest[1], honest[2], 4, 5]));
        chaos_then_calm(&mut net, Faults { delay_ms: 1, jitter_ms, lost, crash: 5 }, 3_000);
    }
}

#[test]
fn with_two_of_seven_down_ops_are_final_within_the_bounds() {
    for down in [[0, 1], [0, 3], [2, 5]] {
        let mut net = Net::new(7, 7, 7, Verify::Trusting);
        let times = time_to_final(&mut net, &down, 200, 200);
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{down:?} down: p50 {p50} ms, p99 {p99} ms");
        assert!(
            p50 <= 300 && p99 <= 2000,
            "{down:?} down: p50 {p50} ms, p99 {p99} ms"
        );
    }
}

#[test]
fn an_idle_network_is_silent() {
    let mut net = Net::new(1, 4, 4, Verify::Trusting);
    net.busy = false;
    net.start();
    net.run_until(60_000);
    assert_eq!(net.messages, 0);
    net.begin(0);
    net.run_until(net.now_ms + 2000);
    let after = net.messages;
    assert!(
        (0..4).all(|node| net.height(node) == 2),
        "one who begins wakes the others"
    );
    net.run_until(net.now_ms + 60_000);
    assert_eq!(net.messages, after);
}

#[test]
fn one_witness_decides_at_once_and_by_itself() {
    let mut net = Net::new(1, 1, 1, Verify::Real);
    net.busy = false;
    net.start();
    net.begin(0);
    assert_eq!(net.height(0), 2);
    assert_eq!(net.now_ms, 1000);
}

#[test]
fn nobody_certifies_nothing() {
    let mut net = Net::new(1, 3, 0, Verify::Real);
    net.start();
    net.run_until(60_000);
    assert_eq!(net.messages, 0);
    assert!((0..3).all(|node| net.height(node) == 1));
}

#[test]
fn two_of_four_decide_nothing() {
    let mut net = Net::new(1, 4, 4, Verify::Trusting);
    net.nodes[0].up = false;
    net.nodes[1].up = false;
    net.start();
    net.run_until(60_000);
    assert!((0..4).all(|node| net.height(node) == 1));
}

fn recovery(net: &Net, height: u64, attempt: u32, nodes: &[usize], admins: &[usize]) -> SignedRecovery {
    let after = net.nodes[0].chain.last();
    let recovery = Recovery {
        after,
        height,
        attempt,
        witnesses: set_of(nodes),
    };
    let network = net.genesis.network();
    let sign = |admin: &usize| (*admin as u8, recovery.sign(network, &secret(100 + admin)));
    let signatures = admins.iter().map(sign).collect();
    SignedRecovery { recovery, signatures }
}

#[test]
fn the_admins_name_other_witnesses_when_a_quorum_is_lost() {
    let mut net = Net::new(3, 6, 4, Verify::Real);
    net.start();
    net.run_until(1500);
    // Two of four are gone for good; two nodes that only followed stand by.
    net.nodes[2].up = false;
    net.nodes[3].up = false;
    net.run_until(6000);
    let height = net.height(0);
    net.run_until(10_000);
    assert_eq!(net.height(0), height, "no quorum, no certificate");

    let one = recovery(&net, height, 1, &[0, 1, 4, 5], &[0]);
    let needed = RecoveryError::TooFew { signed: 1, needed: 2 };
    let admins = (&net.genesis).into();
    assert_eq!(one.verify(net.genesis.network(), &admins), Err(needed));
    net.recover(0, one);
    net.run_until(12_000);
    assert_eq!(net.height(0), height, "one admin of two");

    let signed = recovery(&net, height, 1, &[0, 1, 4, 5], &[0, 2]);
    assert_eq!(SignedRecovery::decode(&signed.encode()).as_ref(), Ok(&signed));
    net.recover(0, signed.clone());
    net.run_until(16_000);
    for node in [0, 1, 4, 5] {
        assert!(net.height(node) > height + 5, "node {node} goes on");
    }

    // Who follows from the genesis follows across the recovery, with the recovery alone.
    let certificates: Vec<_> = net.nodes[4]
        .certificates
        .iter()
        .map(|(_, it)| it.clone())
        .collect();
    let mut chain = CertifiedChain::from_genesis(&net.genesis);
    for certificate in &certificates {
        chain.follow(certificate, [1; 32]).expect("it holds");
    }
    assert_eq!(chain, net.nodes[4].chain);
    let (place, recovered) = certificates
        .iter()
        .enumerate()
        .find(|(_, it)| it.recovery.is_some())
        .expect("one was");
    let mut chain = CertifiedChain::from_genesis(&net.genesis);
    for certificate in &certificates[..place] {
        chain.follow(certificate, [1; 32]).expect("it holds");
    }
    let check = |change: &dyn Fn(&mut ledger::finality::checkpoint::Certificate)| {
        let mut changed = recovered.clone();
        change(&mut changed);
        match chain.clone().follow(&changed, [1; 32]) {
            Err(ChainError::Unproven { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    };
    let too_few = RecoveryError::TooFew { signed: 1, needed: 2 };
    let change_signer = |it: &mut ledger::finality::checkpoint::Certificate| {
        it.recovery.as_mut().expect("it has one").signatures.truncate(1);
    };
    assert_eq!(check(&change_signer), CertificateError::Recovery(too_few));
    assert_eq!(check(&|it| it.recovery = None), CertificateError::Forged);
    assert!(matches!(
        check(&|it| it.recovery.as_mut().expect("it has one").recovery.height += 1),
        CertificateError::Recovery(RecoveryError::Elsewhere { .. })
    ));
    assert_eq!(
        check(&|it| it.recovery.as_mut().expect("it has one").recovery.witnesses = set_of(&[0, 1, 4])),
        CertificateError::NoSuchWitness(3)
    );
    assert_eq!(
        check(&|it| it.recovery.as_mut().expect("it has one").recovery.attempt += 1),
        CertificateError::Forged
    );
}

#[test]
fn a_second_recovery_takes_the_place_of_the_first_and_a_restart_keeps_it() {
    let mut net = Net::new(4, 6, 4, Verify::Real);
    for node in 1..6 {
        net.nodes[node].up = false;
    }
    net.start();
    net.run_until(2000);
    net.recover(0, recovery(&net, 1, 1, &[0, 1, 2, 3], &[0, 1]));
    net.recover(0, recovery(&net, 1, 2, &[0, 4], &[0, 1]));
    // The first one again changes nothing.
    net.recover(0, recovery(&net, 1, 1, &[0, 1, 2, 3], &[0, 1]));
    net.restart(0);
    net.restart(4);
    net.run_until(8000);
    assert!(net.height(0) > 3 && net.height(4) > 3);
    let (_, first) = &net.nodes[4].certificates[0];
    let recovery = first.recovery.as_ref().expect("it was recovered");
    assert_eq!(recovery.recovery.attempt, 2);
}

#[test]
fn a_chain_refuses_what_does_not_continue_it() {
    let mut net = Net::new(5, 4, 4, Verify::Real);
    net.start();
    net.run_until(3000);
    let certificates: Vec<_> = net.nodes[0]
        .certificates
        .iter()
        .map(|(_, it)| it.clone())
        .collect();
    let mut chain = CertifiedChain::from_genesis(&net.genesis);
    assert!(matches!(
        chain.follow(&certificates[1], [0; 32]),
        Err(ChainError::Height {
            height: 2,
            expected: 1
        })
    ));
    chain.follow(&certificates[0], [0; 32]).expect("it holds");
    let fails = |change: &dyn Fn(&mut ledger::finality::checkpoint::Certificate)| {
        let mut changed = certificates[1].clone();
        change(&mut changed);
        chain
            .clone()
            .follow(&changed, [0; 32])
            .expect_err("it was changed")
    };
    assert!(matches!(
        fails(&|it| it.checkpoint.previous.0[0] ^= 1),
        ChainError::Forked { .. }
    ));
    assert!(matches!(
        fails(&|it| it.checkpoint.time_ms = 1),
        ChainError::TimeBackwards { .. }
    ));
    let unproven = |source| ChainError::Unproven { height: 2, source };
    assert_eq!(
        fails(&|it| it.checkpoint.state[0] ^= 1),
        unproven(CertificateError::Forged)
    );
    assert_eq!(fails(&|it| it.round += 1), unproven(CertificateError::Forged));
    let (weight, total) = (2, 4);
    assert_eq!(
        fails(&|it| it.precommits.truncate(2)),
        unproven(CertificateError::NoQuorum { weight, total })
    );
    assert_eq!(
        fails(&|it| it.precommits[2].0 = 9),
        unproven(CertificateError::NoSuchWitness(9))
    );

    let trusted = CertifiedChain::from_trusted(&net.genesis, &certificates[0], net.genesis.witnesses.clone());
    assert_eq!(trusted, chain);
}
