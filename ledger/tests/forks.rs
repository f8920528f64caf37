//! A member that writes two ops in one place splits nobody: all honest replicas end with the same log.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::admit::Verify;
use ledger::clock::Hlc;
use ledger::fork::{Branch, ForkProof, PROOF_BYTES_MAX};
use ledger::id::{NodeId, OpId};
use ledger::key::{SIGNATURE_BYTES, Signature};
use ledger::op::{Chain, Dependency, Op};
use ledger::replica::AppendError;
use ledger::sync::{Frame, RUN_BYTES_MAX};
use ledger::want::{ForksList, ForksTold, NAMES_MAX, Want};
use proptest::prelude::*;
use scene::forker::{FORKER, apart, author, honest, together, twin};
use scene::{Author, Weather, Wire, live, node, report, run};

/// All hold the same, nothing waits, nobody was blamed, and the chain ends before the fork.
#[track_caller]
fn assert_one(wire: &Wire, nodes: &[NodeId], chain: &Chain, seq: u64) {
    let first = &wire.replicas[&nodes[0]];
    for id in nodes {
        let replica = &wire.replicas[id];
        assert_eq!(wire.ids(*id), wire.ids(nodes[0]), "{}", wire.describe());
        assert_eq!(replica.log().vector(), first.log().vector());
        assert_eq!(replica.forks_root(), first.forks_root());
        assert_eq!(replica.waiting(), (0, 0), "{}", wire.describe());
        assert_eq!(replica.forks().seq(chain), Some(seq));
        assert_eq!(replica.log().next(chain), seq);
        assert_eq!(replica.log().vector().next(chain), seq, "what is left is proved");
    }
    assert_eq!(wire.disconnects, Vec::<String>::new());
}

#[test]
fn a_fork_told_to_two_halves_leaves_all_with_one_log() {
    let (mut wire, nodes) = honest(6, 1, Verify::Real);
    let (a, b) = nodes.split_at(3);
    let (mut left, first) = author();
    let base = left.say("both have this");
    let mut right = twin(&left);
    apart(&mut wire, a, b);
    let ops = [left.say("one"), left.say("two"), left.say("three")];
    let others = [right.say("eins"), right.say("zwei")];
    for at in a {
        wire.give(node(FORKER), *at, &run(&[first.clone(), base.clone()]));
        ops.iter().for_each(|op| wire.give(node(FORKER), *at, &live(op)));
    }
    for at in b {
        wire.give(node(FORKER), *at, &run(&[first.clone(), base.clone()]));
        others
            .iter()
            .for_each(|op| wire.give(node(FORKER), *at, &live(op)));
    }
    // Honest ops that depend on both branches.
    for (index, at) in nodes.iter().enumerate() {
        wire.append(*at, vec![report(&format!("after a branch {index}"))]);
        wire.pass(30);
    }
    wire.pass(1_000);
    assert_eq!(wire.replicas[&a[0]].log().next(&left.chain), 5);
    assert_eq!(wire.replicas[&b[0]].log().next(&left.chain), 4);
    together(&mut wire, a, b);
    let took = wire.settle(20_000);
    wire.pass(3_000);
    assert!(took < 5_000, "{took} ms");
    assert_one(&wire, &nodes, &left.chain, 2);
    for at in &nodes {
        assert_eq!(wire.quarantines[at], 1);
        let log = wire.replicas[at].log();
        assert!(ops.iter().all(|op| !log.contains(&op.id())));
    }
    // Who comes later learns it all.
    let late = wire.join(7, Verify::Real);
    wire.link(late, nodes[0]);
    wire.settle(10_000);
    wire.pass(3_000);
    let all: Vec<NodeId> = [nodes, vec![late]].concat();
    assert_one(&wire, &all, &left.chain, 2);
}

#[test]
fn branches_of_one_length_are_found_by_their_last_ops() {
    let (mut wire, nodes) = honest(2, 2, Verify::Real);
    apart(&mut wire, &nodes[..1], &nodes[1..]);
    let (mut left, first) = author();
    let mut right = twin(&left);
    for (author, at) in [(&mut left, nodes[0]), (&mut right, nodes[1])] {
        wire.give(node(FORKER), at, &live(&first));
        for index in 0..500 {
            let op = author.say(&format!("{index}"));
            wire.give(node(FORKER), at, &live(&op));
        }
    }
    together(&mut wire, &nodes[..1], &nodes[1..]);
    wire.settle(20_000);
    wire.pass(2_000);
    assert_one(&wire, &nodes, &left.chain, 1);
}

#[test]
fn a_fork_under_the_signature_of_a_run_leaves_what_stands_before_it_proved() {
    let (mut wire, nodes) = honest(4, 3, Verify::Real);
    let (a, b) = nodes.split_at(2);
    apart(&mut wire, a, b);
    let (mut left, first) = author();
    let base: Vec<Op> = (0..5).map(|index| left.say(&format!("base {index}"))).collect();
    let mut right = twin(&left);
    let ours: Vec<Op> = (0..4).map(|index| left.say(&format!("left {index}"))).collect();
    let theirs: Vec<Op> = (0..7).map(|index| right.say(&format!("right {index}"))).collect();
    // No op before the fork has a signature of its own.
    let prefix = [vec![first], base].concat();
    wire.give(node(FORKER), a[0], &run(&[prefix.clone(), ours].concat()));
    wire.give(node(FORKER), b[0], &run(&[prefix, theirs].concat()));
    wire.append(a[0], vec![report("on the left")]);
    wire.append(b[0], vec![report("on the right")]);
    wire.settle_among(a, 5_000);
    wire.settle_among(b, 5_000);
    together(&mut wire, a, b);
    wire.settle(20_000);
    wire.pass(2_000);
    assert_one(&wire, &nodes, &left.chain, 6);
    // Nothing but the void branch vouches for the six that are left: a newcomer gets them all the same.
    let late = wire.join(7, Verify::Real);
    wire.link(late, nodes[3]);
    wire.settle(10_000);
    wire.pass(2_000);
    assert_one(&wire, &[nodes, vec![late]].concat(), &left.chain, 6);
}

#[test]
fn a_fork_at_the_first_op_leaves_nothing_of_the_chain() {
    let (mut wire, nodes) = honest(2, 4, Verify::Real);
    let (left, first) = author();
    let mut other = Author::new(FORKER);
    other.hlc = Hlc(other.hlc.0 + 5);
    let second = other.write(vec![], vec![scene::opening(FORKER)]);
    wire.give(node(FORKER), nodes[0], &live(&first));
    wire.append(nodes[0], vec![report("after it")]);
    wire.give(node(FORKER), nodes[1], &live(&second));
    wire.settle(10_000);
    wire.pass(2_000);
    assert_one(&wire, &nodes, &left.chain, 0);
    assert!(
        wire.replicas[&nodes[0]]
            .log()
            .vector()
            .head(&left.chain)
            .is_none()
    );
}

#[test]
fn of_three_branches_the_earliest_parting_counts() {
    let (mut wire, nodes) = honest(3, 5, Verify::Real);
    for (index, one) in nodes.iter().enumerate() {
        for other in &nodes[index + 1..] {
            wire.cut(*one, *other);
        }
    }
    let (mut one, first) = author();
    let base = one.say("base");
    let mut three = twin(&one);
    let middle = one.say("middle");
    let mut two = twin(&one);
    let ends = [
        vec![
            first.clone(),
            base.clone(),
            middle.clone(),
            one.say("a"),
            one.say("b"),
        ],
        vec![first.clone(), base.clone(), middle, two.say("c")],
        vec![first, base, three.say("d"), three.say("e"), three.say("f")],
    ];
    for (at, ops) in nodes.iter().zip(&ends) {
        ops.iter().for_each(|op| wire.give(node(FORKER), *at, &live(op)));
        wire.append(*at, vec![report("after mine")]);
    }
    // First those of whom the later parting is found, then the third.
    wire.link(nodes[0], nodes[1]);
    wire.settle_among(&nodes[..2], 10_000);
    assert_eq!(wire.replicas[&nodes[0]].forks().seq(&one.chain), Some(3));
    wire.link(nodes[1], nodes[2]);
    wire.settle(20_000);
    wire.pass(2_000);
    assert_one(&wire, &nodes, &one.chain, 2);
}

/// A fork of two ops, each signed, and the proof of it that a replica made.
fn proven() -> (Wire, Vec<NodeId>, ForkProof) {
    let (mut wire, nodes) = honest(1, 6, Verify::Real);
    let (mut left, first) = author();
    let mut right = twin(&left);
    wire.give(node(FORKER), nodes[0], &live(&first));
    wire.give(node(FORKER), nodes[0], &live(&left.say("one")));
    wire.give(node(FORKER), nodes[0], &live(&right.say("two")));
    let proof = wire.replicas[&nodes[0]].forks().iter().next().unwrap().clone();
    (wire, nodes, proof)
}

#[test]
fn a_proof_is_canonical_and_told_once() {
    let (_, _, proof) = proven();
    let bytes = proof.encode();
    assert_eq!(ForkProof::decode(&bytes), Ok(proof.clone()));
    let mut swapped = proof.clone();
    swapped.branches.swap(0, 1);
    assert!(ForkProof::decode(&swapped.encode()).is_err());
    let mut same = proof.clone();
    same.branches[1] = same.branches[0].clone();
    assert!(ForkProof::decode(&same.encode()).is_err());
    for cut in 0..bytes.len() {
        assert!(ForkProof::decode(&bytes[..cut]).is_err());
    }
    assert!(ForkProof::decode(&[bytes, vec![0]].concat()).is_err());

    // A replay says nothing new and blames nobody.
    let mut wire = Wire::new(7);
    let at = wire.join(1, Verify::Real);
    wire.link_ghost(node(2), at);
    let frame = Frame::Fork(proof).encode();
    wire.give(node(2), at, &frame);
    wire.give(node(2), at, &frame);
    let replica = &wire.replicas[&at];
    assert_eq!((replica.forks().len(), replica.counters().stale_proof), (1, 1));
    assert_eq!(wire.disconnects, Vec::<String>::new());
}

#[test]
fn who_brings_a_proof_that_proves_nothing_is_blamed() {
    let (_, _, proof) = proven();
    let forged = |change: fn(&mut ForkProof)| {
        let mut proof = proof.clone();
        change(&mut proof);
        let mut wire = Wire::new(8);
        let at = wire.join(1, Verify::Real);
        wire.link_ghost(node(2), at);
        wire.give(node(2), at, &Frame::Fork(proof).encode());
        assert!(wire.replicas[&at].forks().is_empty());
        wire.disconnects.join("")
    };
    let words = forged(|proof| proof.branches[0].signature = Signature([1; SIGNATURE_BYTES]));
    assert!(words.contains("a signature in it does not hold"), "{words}");
    let words = forged(|proof| {
        let last = proof.branches[1].bodies[0].len() - 1;
        proof.branches[1].bodies[0][last] ^= 1;
    });
    assert!(words.contains("does not hold"), "{words}");
    // An honest chain of another member, and a key that nobody invited.
    let words = forged(|proof| proof.chain.node = node(3));
    assert!(words.contains("not shown to be a member"), "{words}");
    let words = forged(|proof| proof.previous = OpId([3; 32]));
    assert!(words.contains("does not hold"), "{words}");
}

#[test]
fn the_longest_branches_fit_into_a_proof_and_longer_ones_do_not_decode() {
    let (mut left, first) = author();
    let mut right = twin(&left);
    let write = |author: &mut Author| -> Vec<Op> {
        // The smallest ops, which cost most beside their bodies, and one of the largest at the end.
        let mut ops: Vec<Op> = (0..RUN_BYTES_MAX / 10)
            .map(|_| author.write(vec![], vec![]))
            .collect();
        let entry = ledger::entry::Entry {
            kind: 999,
            version: 1,
            bytes: vec![0; 32_000],
        };
        ops.push(author.write(vec![], vec![entry.clone(), entry]));
        ops
    };
    let (ours, theirs) = (write(&mut left), write(&mut right));
    let (mut wire, nodes) = honest(1, 9, Verify::Real);
    wire.give(node(FORKER), nodes[0], &live(&first));
    wire.give(node(FORKER), nodes[0], &run(&ours));
    wire.give(node(FORKER), nodes[0], &run(&theirs));
    let proof = wire.replicas[&nodes[0]].forks().iter().next().unwrap();
    let size = proof.encode().len();
    assert!(
        size > PROOF_BYTES_MAX * 3 / 4 && size <= PROOF_BYTES_MAX,
        "{size}"
    );
    let mut larger = proof.clone();
    for branch in &mut larger.branches {
        let body = branch.bodies.last().unwrap().clone();
        branch.bodies.push(body);
    }
    assert!(ForkProof::decode(&larger.encode()).is_err());
    assert!(Frame::decode(&Frame::Fork(larger).encode()).is_err());
}

#[test]
fn a_quarantine_survives_a_new_start() {
    let (mut wire, nodes) = honest(3, 10, Verify::Real);
    let (a, b) = nodes.split_at(1);
    apart(&mut wire, a, b);
    let (mut left, first) = author();
    let mut right = twin(&left);
    let (one, two) = (left.say("one"), right.say("two"));
    wire.give(node(FORKER), a[0], &run(&[first.clone(), one.clone()]));
    wire.give(node(FORKER), b[0], &run(&[first, two.clone()]));
    wire.append(a[0], vec![report("after one")]);
    wire.append(b[0], vec![report("after two")]);
    together(&mut wire, a, b);
    wire.settle(10_000);
    wire.pass(2_000);
    assert_one(&wire, &nodes, &left.chain, 1);
    // One after the other starts again, and then shows a newcomer all that is needed.
    for (index, at) in nodes.iter().enumerate() {
        let disk = wire.disks[at].clone();
        for other in nodes.iter().filter(|other| *other != at) {
            wire.cut(*at, *other);
        }
        wire.open(scene::setup(index as u8 + 1, 50, Verify::Real), disk);
        let replica = &wire.replicas[at];
        assert_eq!(replica.forks().seq(&left.chain), Some(1));
        assert_eq!(replica.log().next(&left.chain), 1);
        assert!(
            [&one, &two]
                .iter()
                .all(|op| replica.log().is_void(&op.id().into()))
        );
        wire.link_ghost(node(FORKER), *at);
        wire.give(node(FORKER), *at, &live(&one));
        assert!(!wire.replicas[at].log().contains(&one.id()));
        for other in nodes.iter().filter(|other| *other != at) {
            wire.link(*at, *other);
        }
    }
    let late = wire.join(7, Verify::Real);
    wire.link(late, nodes[2]);
    wire.settle(10_000);
    wire.pass(3_000);
    assert_one(&wire, &[nodes, vec![late]].concat(), &left.chain, 1);
}

#[test]
fn an_op_that_names_a_void_op_is_let_in_once_that_is_shown() {
    let (mut wire, nodes) = honest(1, 11, Verify::Real);
    let (mut left, first) = author();
    let mut right = twin(&left);
    let unseen = [left.say("unseen 1"), left.say("unseen 2"), left.say("unseen 3")];
    let other = right.say("seen");
    wire.give(node(FORKER), nodes[0], &run(&[first, other.clone()]));
    // A member that saw the branch names its second op; another one waits for that.
    let (mut member, opened) = Author::opened(8);
    member.hlc = Hlc(member.hlc.0 + 1000);
    let names = member.write(vec![unseen[1].id().into()], vec![report("names it").to_entry()]);
    let chained = member.say("and goes on");
    wire.link_ghost(node(8), nodes[0]);
    wire.give(node(8), nodes[0], &live(&opened));
    wire.give(node(8), nodes[0], &live(&names));
    wire.give(node(8), nodes[0], &live(&chained));
    assert_eq!(wire.replicas[&nodes[0]].waiting().0, 2);
    // What forks the chain is beside the branch: the op that is named comes in a run of its own.
    wire.give(
        node(8),
        nodes[0],
        &Frame::Branch(scene::run_of(&unseen[..1], false)).encode(),
    );
    assert_eq!(wire.replicas[&nodes[0]].forks().seq(&left.chain), Some(1));
    assert_eq!(
        wire.replicas[&nodes[0]].waiting().0,
        2,
        "it is not known yet to be of the branch"
    );
    wire.give(
        node(8),
        nodes[0],
        &Frame::Branch(scene::run_of(&unseen[1..], false)).encode(),
    );
    let replica = &wire.replicas[&nodes[0]];
    assert_eq!(replica.waiting().0, 0);
    assert!(replica.log().contains(&chained.id()));
    assert!(!replica.log().is_void(&unseen[0].id().into()) || replica.log().void_size().0 >= 3);
    assert_eq!(wire.disconnects, Vec::<String>::new());
}

#[test]
fn a_lost_op_is_asked_for_by_name() {
    let (mut wire, nodes) = honest(2, 12, Verify::Real);
    let (mut member, opened) = Author::opened(8);
    member.hlc = Hlc(member.hlc.0 + 10);
    let ops: Vec<Op> = (0..20).map(|index| member.say(&format!("{index}"))).collect();
    wire.link_ghost(node(8), nodes[0]);
    wire.give(node(8), nodes[0], &run(&[vec![opened], ops.clone()].concat()));
    wire.link_ghost(node(8), nodes[1]);
    wire.give(node(8), nodes[1], &live(&ops[19]));
    wire.settle(10_000);
    assert_eq!(wire.replicas[&nodes[1]].log().next(&member.chain), 21);
}

#[test]
fn a_cloned_disk_forks_nothing_and_both_lives_are_told() {
    let mut wire = Wire::new(16);
    let bystander = wire.join(2, Verify::Real);
    let original = wire.join(1, Verify::Real);
    wire.link(original, bystander);
    wire.append(original, vec![report("before the copy")]);
    wire.settle(2_000);
    let disk = wire.disks[&original].clone();
    // The machine is cloned: both copies start.
    wire.cut(original, bystander);
    wire.pass(10);
    wire.open(scene::setup(1, 21, Verify::Real), disk.clone());
    wire.pass(10);
    let mut other = Wire::new(17);
    other.now_ms = wire.now_ms;
    other.open(scene::setup(1, 22, Verify::Real), disk);
    assert!(wire.twins.is_empty() && other.twins.is_empty());
    // Each writes, and hears what the other wrote by way of a third.
    wire.link(original, bystander);
    wire.pass(1_000);
    other.now_ms = wire.now_ms;
    wire.append(original, vec![report("by the first")]);
    other.append(original, vec![report("by the second")]);
    wire.link_ghost(node(3), original);
    other.link_ghost(node(3), original);
    let told = |wire: &Wire| {
        let chain = wire.replicas[&original].chain();
        wire.replicas[&original].log().chain(&chain).to_vec()
    };
    let all = |wire: &Wire| -> Vec<Op> { wire.replicas[&original].log().iter().cloned().collect() };
    let (first, second) = (told(&wire), told(&other));
    for op in all(&wire) {
        other.give(node(3), original, &live(&op));
    }
    second
        .iter()
        .for_each(|op| wire.give(node(3), original, &live(op)));
    let (one, two) = (first[0].slot().chain, second[0].slot().chain);
    assert_eq!(wire.twins, vec![(original, two)]);
    assert_eq!(other.twins, vec![(original, one)]);
    wire.settle(2_000);
    for replica in [
        &wire.replicas[&original],
        &other.replicas[&original],
        &wire.replicas[&bystander],
    ] {
        assert!(replica.forks().is_empty(), "two chains, no fork");
        assert_eq!(replica.counters().forked, 0);
        assert!(replica.log().next(&one) >= 2 && replica.log().next(&two) >= 2);
    }
    assert!(wire.twins.len() == 1, "told once");
}

#[test]
fn a_restored_disk_that_lost_a_chain_is_no_second_life() {
    let mut wire = Wire::new(18);
    let bystander = wire.join(2, Verify::Real);
    let node = wire.join(1, Verify::Real);
    wire.link(node, bystander);
    wire.settle(2_000);
    let backup = wire.disks[&node].clone();
    wire.append(node, vec![report("not in the backup")]);
    wire.settle(2_000);
    wire.cut(node, bystander);
    wire.pass(1_000);
    wire.open(scene::setup(1, 31, Verify::Real), backup);
    wire.link(node, bystander);
    wire.settle(5_000);
    wire.append(node, vec![report("goes on")]);
    wire.settle(2_000);
    assert_eq!(wire.twins, vec![]);
    assert!(wire.replicas[&bystander].forks().is_empty());
}

#[test]
fn nothing_is_appended_to_an_own_chain_that_is_forked() {
    let (mut wire, nodes) = honest(1, 19, Verify::Real);
    let replica = &wire.replicas[&nodes[0]];
    let own = replica.log().chain(&replica.chain())[0].clone();
    let mut author = Author::new(1);
    author.chain = replica.chain();
    author.hlc = Hlc(own.body().hlc.0 + 1);
    let other = author.write(vec![], vec![scene::opening(1)]);
    wire.give(node(FORKER), nodes[0], &live(&other));
    let now_ms = wire.now_ms;
    let error = wire
        .replicas
        .get_mut(&nodes[0])
        .unwrap()
        .append(vec![report("x")], now_ms);
    assert_eq!(error.unwrap_err(), AppendError::Forked);
}

#[test]
fn the_frames_about_forks_have_one_encoding_and_keep_their_bounds() {
    let chain = |number| Chain {
        node: node(number),
        incarnation: 7,
    };
    let mut forks = vec![(chain(1), 0), (chain(2), 3), (chain(3), 1 << 40)];
    forks.sort();
    let list = |after, forks| {
        Frame::Forks(ForksTold::List(ForksList {
            ask: true,
            after,
            last: false,
            forks,
        }))
    };
    let (_, _, proof) = proven();
    let (mut author, first) = author();
    let ops = [first, author.say("x")];
    let names = vec![Dependency([7; 16]); NAMES_MAX];
    let frames = [
        Frame::Fork(proof),
        Frame::Want(Want {
            back: true,
            names: names.clone(),
        }),
        Frame::Branch(scene::run_of(&ops, false)),
        Frame::Forks(ForksTold::Root([5; 32])),
        list(None, vec![]),
        list(Some(forks[0].0), forks[1..].to_vec()),
    ];
    for frame in frames {
        let bytes = frame.encode();
        assert_eq!(Frame::decode(&bytes), Ok(frame));
        for cut in 0..bytes.len() {
            assert!(Frame::decode(&bytes[..cut]).is_err());
        }
        assert!(Frame::decode(&[bytes, vec![0]].concat()).is_err());
    }
    let wrong = [
        Frame::Want(Want {
            back: false,
            names: vec![],
        }),
        Frame::Want(Want {
            back: false,
            names: [names, vec![Dependency([8; 16])]].concat(),
        }),
        list(None, forks.iter().rev().copied().collect()),
        list(Some(forks[1].0), forks.clone()),
    ];
    for frame in wrong {
        assert!(Frame::decode(&frame.encode()).is_err());
    }
}

#[test]
fn a_branch_has_at_least_one_op() {
    let (_, _, mut proof) = proven();
    proof.branches[0] = Branch {
        bodies: vec![],
        signature: Signature([0; SIGNATURE_BYTES]),
    };
    assert!(ForkProof::decode(&proof.encode()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever two forkers write and to whom they tell it, whatever the wire loses and whoever is cut off
    /// or starts again: when it is calm again all honest replicas hold the same ops, the same forks, and nothing waits.
    #[test]
    fn forkers_split_nobody(
        seed: u64,
        count in 2u8..5,
        weather in (0u64..40, 0u64..20, 0u64..50),
        steps in proptest::collection::vec((0usize..8, 0usize..6, 0u64..150, 0u8..12), 1..50),
    ) {
        let (mut wire, nodes) = honest(count, seed, Verify::Real);
        let forkers = [9u8, 10];
        for at in &nodes {
            wire.link_ghost(node(10), *at);
        }
        // For each forker its branches: each the ops so far and who writes on.
        let mut branches: Vec<Vec<(Author, Vec<Op>)>> = forkers
            .iter()
            .map(|number| {
                let (author, first) = Author::opened(*number);
                vec![(author, vec![first])]
            })
            .collect();
        let (lose, repeat, late) = weather;
        wire.weather = Weather { lose, repeat, late };
        let mut incarnation = 100;
        for (who, which, wait_ms, what) in steps {
            let (a, b) = (nodes[who % nodes.len()], nodes[(who + 1) % nodes.len()]);
            let forker = which % 2;
            let of = &mut branches[forker];
            let index = which % of.len();
            match what {
                0 => wire.cut(a, b),
                1 => wire.link(a, b),
                // An honest replica starts again.
                8 => {
                    let linked: Vec<NodeId> = nodes.iter().copied().filter(|other| *other != a).collect();
                    linked.iter().for_each(|other| wire.cut(a, *other));
                    incarnation += 1;
                    let number = (1..=count).find(|number| node(*number) == a).unwrap();
                    let disk = wire.disks[&a].clone();
                    wire.open(scene::setup(number, incarnation, Verify::Real), disk);
                    forkers.iter().for_each(|number| wire.link_ghost(node(*number), a));
                    linked.iter().for_each(|other| wire.link(a, *other));
                }
                // A new branch, which parts anywhere.
                2 | 3 => {
                    let (author, ops) = &of[index];
                    let at = who % ops.len();
                    let other = Author {
                        secret: author.secret.clone(),
                        chain: author.chain,
                        seq: ops[at].slot().seq + 1,
                        previous: ops[at].id(),
                        hlc: Hlc(ops[at].body().hlc.0 + 2 + wait_ms),
                    };
                    let ops = ops[..=at].to_vec();
                    of.push((other, ops));
                }
                // Some ops on a branch, told in one run or each by itself.
                4..=7 => {
                    let (author, ops) = &mut of[index];
                    for round in 0..what {
                        let named = (round == 2).then(|| wire.replicas[&a].log().iter().last().unwrap());
                        let named: Vec<Dependency> = named
                            .filter(|op| op.body().hlc < author.hlc)
                            .map(|op| op.id().into())
                            .into_iter()
                            .collect();
                        let op = author.write(named, vec![report(&format!("{who} {round}")).to_entry()]);
                        ops.push(op);
                    }
                    let ops = ops.clone();
                    let from = node(forkers[forker]);
                    if what % 2 == 0 {
                        wire.give(from, a, &run(&ops));
                    } else {
                        ops.iter().for_each(|op| wire.give(from, a, &live(op)));
                    }
                }
                _ => {
                    wire.append(a, vec![report("honest")]);
                }
            }
            wire.pass(wait_ms);
        }
        wire.weather = scene::CALM;
        for (index, a) in nodes.iter().enumerate() {
            for b in &nodes[index + 1..] {
                wire.link(*a, *b);
            }
        }
        wire.settle(60_000);
        wire.pass(5_000);
        wire.settle(60_000);
        for id in &nodes {
            let replica = &wire.replicas[id];
            prop_assert_eq!(wire.ids(*id), wire.ids(nodes[0]), "{}", wire.describe());
            prop_assert_eq!(replica.waiting(), (0, 0), "{}", wire.describe());
        }
        prop_assert_eq!(&wire.disconnects, &Vec::<String>::new());
        prop_assert!(wire.twins.is_empty());
    }
}
