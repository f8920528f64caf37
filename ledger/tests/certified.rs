//! What a certificate covers stands, whatever branch was held before; a cut is causally closed.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use ledger::admit::Verify;
use ledger::certified::Covers;
use ledger::clock::Hlc;
use ledger::finality::checkpoint::Checkpoint;
use ledger::id::{CheckpointId, NodeId, OpId};
use ledger::op::{Chain, Dependency, Op};
use ledger::replica::Replica;
use ledger::vector::Head;
use scene::forker::{FORKER, apart, author, honest, together, twin};
use scene::{Author, live, node, report, run};

fn checkpoint(height: u64, heads: Vec<(Chain, Head)>) -> Checkpoint {
    let previous = CheckpointId([(height - 1) as u8; 32]);
    Checkpoint {
        height,
        previous,
        time_ms: scene::START_MS,
        order: [0; 32],
        state: [0; 32],
        forks: [0; 32],
        fold_version: 1,
        heads,
        next_witnesses: None,
    }
}

#[test]
fn a_certificate_puts_every_replica_onto_its_branch_and_final_ops_stand() {
    let (mut wire, nodes) = honest(4, 13, Verify::Real);
    let (a, b) = nodes.split_at(2);
    apart(&mut wire, a, b);
    let (mut left, first) = author();
    let mut right = twin(&left);
    let ours = [left.say("a1"), left.say("a2"), left.say("a3")];
    let theirs = [right.say("b1"), right.say("b2"), right.say("b3"), right.say("b4")];
    wire.give(node(FORKER), a[0], &run(&[&[first.clone()][..], &ours].concat()));
    wire.give(node(FORKER), b[0], &run(&[&[first][..], &theirs].concat()));
    wire.append(b[0], vec![report("after the branch")]);
    wire.settle_among(a, 5_000);
    wire.settle_among(b, 5_000);
    wire.pass(500);
    // The witnesses saw only the right branch, and take three of its four ops.
    let cut: Vec<(Chain, Head)> = wire.replicas[&b[0]]
        .proposal(wire.now_ms, 0)
        .into_iter()
        .filter(|(chain, _)| *chain == left.chain)
        .map(|(chain, _)| {
            let id = theirs[1].id();
            (chain, Head { next: 3, id })
        })
        .collect();
    assert_eq!(cut.len(), 1);
    assert_eq!(wire.replicas[&b[1]].covers(&cut), Covers::Yes);
    assert_eq!(wire.replicas[&a[0]].covers(&cut), Covers::Missing);
    let certificate = checkpoint(1, cut.clone());
    for at in b {
        let now_ms = wire.now_ms;
        let (added, outputs) = wire
            .replicas
            .get_mut(at)
            .unwrap()
            .certify(&certificate, now_ms)
            .unwrap();
        assert_eq!(added.len(), 3);
        assert!(outputs.is_empty());
    }
    for at in a {
        let now_ms = wire.now_ms;
        let lacking = wire
            .replicas
            .get_mut(at)
            .unwrap()
            .certify(&certificate, now_ms)
            .unwrap_err();
        assert_eq!(lacking.needs, vec![Dependency::from(theirs[1].id())]);
    }
    together(&mut wire, a, b);
    let start = wire.now_ms;
    let mut open: Vec<NodeId> = a.to_vec();
    while !open.is_empty() {
        assert!(wire.now_ms < start + 10_000, "{}", wire.describe());
        wire.pass(50);
        for at in open.clone() {
            let now_ms = wire.now_ms;
            if let Ok((added, outputs)) = wire.replicas.get_mut(&at).unwrap().certify(&certificate, now_ms) {
                assert_eq!(added.len(), 3);
                wire.take(at, outputs);
                open.retain(|other| *other != at);
            }
        }
    }
    wire.settle(20_000);
    wire.pass(3_000);
    for at in &nodes {
        let replica = &wire.replicas[at];
        assert_eq!(wire.ids(*at), wire.ids(nodes[0]));
        assert_eq!(replica.waiting(), (0, 0));
        assert_eq!(replica.forks().seq(&left.chain), Some(1));
        // The final ops stand, the rest is gone.
        assert_eq!(replica.log().next(&left.chain), 3);
        assert_eq!(replica.log().vector().next(&left.chain), 3);
        assert!(
            replica
                .log()
                .is_final(replica.log().get(&theirs[1].id()).unwrap())
        );
        // A later cut goes on without the chain, and nobody votes for the rest of it.
        let next = replica.proposal(wire.now_ms, 0);
        assert!(next.iter().all(|(chain, _)| *chain != left.chain));
        assert_eq!(replica.covers(&next), Covers::Yes);
        assert_eq!(replica.covers(&cut), Covers::Never);
    }
    // It all comes back from the disk.
    let mut disk = wire.disks[&a[0]].clone();
    disk.certified = cut.clone();
    let (again, _) = Replica::open(scene::setup(1, 90, Verify::Real), disk, wire.now_ms).unwrap();
    assert_eq!(again.log().next(&left.chain), 3);
    assert_eq!(again.log().certified().count(), 1);
    // A newcomer gets the final ops of the chain by the certificate.
    let late = wire.join(7, Verify::Real);
    wire.link(late, nodes[0]);
    let start = wire.now_ms;
    loop {
        assert!(wire.now_ms < start + 10_000, "{}", wire.describe());
        wire.pass(50);
        let now_ms = wire.now_ms;
        if let Ok((_, outputs)) = wire
            .replicas
            .get_mut(&late)
            .unwrap()
            .certify(&certificate, now_ms)
        {
            wire.take(late, outputs);
            break;
        }
    }
    wire.settle(20_000);
    assert_eq!(wire.replicas[&late].log().next(&left.chain), 3);
}

#[test]
fn a_proposal_is_causally_closed_and_takes_what_has_settled() {
    let (mut wire, nodes) = honest(3, 14, Verify::Real);
    for index in 0..12 {
        wire.append(nodes[index % 3], vec![report(&index.to_string())]);
        wire.pass(100);
    }
    let replica = &wire.replicas[&nodes[0]];
    let all = replica.proposal(wire.now_ms, 0);
    assert_eq!(all.iter().map(|(_, head)| head.next).sum::<u64>(), 15);
    let some = replica.proposal(wire.now_ms, 550);
    let covered: u64 = some.iter().map(|(_, head)| head.next).sum();
    assert!((8..13).contains(&covered), "{covered}");
    assert_eq!(replica.covers(&some), Covers::Yes);
    // Without one chain it is not closed; beyond what is held it is missing.
    assert_eq!(replica.covers(&all[1..]), Covers::Never);
    let mut beyond = all.clone();
    beyond[0].1.next += 1;
    assert_eq!(replica.covers(&beyond), Covers::Missing);
    let root = replica.order_root([0; 32], &some);
    assert_eq!(root, wire.replicas[&nodes[1]].order_root([0; 32], &some));
    let now_ms = wire.now_ms;
    let replica = wire.replicas.get_mut(&nodes[0]).unwrap();
    let (added, _) = replica.certify(&checkpoint(1, some.clone()), now_ms).unwrap();
    let order: Vec<OpId> = replica.log().iter().take(added.len()).map(Op::id).collect();
    assert_eq!(added, order);
    assert_eq!(replica.covers(&some), Covers::Never);
    let (rest, _) = replica.certify(&checkpoint(2, all), now_ms).unwrap();
    assert_eq!(rest.len() + added.len(), 15);
    assert!(replica.proposal(now_ms, 0).is_empty());
}

#[test]
fn what_names_an_op_that_nobody_can_show_is_not_proposed() {
    let (mut wire, nodes) = honest(1, 20, Verify::Real);
    let (mut forker, first) = author();
    let (_, unseen) = Author::opened(7);
    forker.hlc = Hlc(forker.hlc.0 + 10);
    let early = forker.say("early");
    let late = forker.write(vec![unseen.id().into()], vec![]);
    wire.give(node(FORKER), nodes[0], &run(&[first, early.clone(), late]));
    let (mut member, opened) = Author::opened(8);
    member.hlc = Hlc(forker.hlc.0 + 10);
    let names = member.write(vec![early.id().into()], vec![]);
    wire.link_ghost(node(8), nodes[0]);
    wire.give(node(8), nodes[0], &run(&[opened, names.clone()]));
    let replica = &wire.replicas[&nodes[0]];
    assert!(replica.log().contains(&names.id()));
    let next = |replica: &Replica, chain: Chain| {
        let cut = replica.proposal(wire.now_ms + 60_000, 0);
        cut.iter()
            .find(|(it, _)| *it == chain)
            .map_or(0, |(_, head)| head.next)
    };
    assert_eq!((next(replica, forker.chain), next(replica, member.chain)), (0, 1));
    let head = Head {
        next: 2,
        id: names.id(),
    };
    assert_eq!(replica.covers(&[(member.chain, head)]), Covers::Never);
    // An own op does not name it either.
    let id = wire.append(nodes[0], vec![report("own")]);
    let own = wire.replicas[&nodes[0]].log().get(&id).unwrap().clone();
    assert!(!own.body().dependencies.contains(&early.id().into()));
    wire.give(node(8), nodes[0], &live(&unseen));
    let replica = &wire.replicas[&nodes[0]];
    let next = |chain: Chain| {
        let cut = replica.proposal(wire.now_ms + 60_000, 0);
        cut.iter()
            .find(|(it, _)| *it == chain)
            .map_or(0, |(_, head)| head.next)
    };
    assert_eq!((next(forker.chain), next(member.chain)), (3, 2));
}

#[test]
fn a_chain_whose_end_a_final_opening_names_is_closed() {
    let (mut wire, nodes) = honest(2, 15, Verify::Real);
    wire.append(nodes[0], vec![report("before")]);
    wire.settle(1_000);
    let old = wire.replicas[&nodes[0]].chain();
    let disk = wire.disks[&nodes[0]].clone();
    wire.cut(nodes[0], nodes[1]);
    wire.open(scene::setup(1, 2, Verify::Real), disk);
    wire.link(nodes[0], nodes[1]);
    wire.settle(2_000);
    for at in &nodes {
        let now_ms = wire.now_ms;
        let replica = wire.replicas.get_mut(at).unwrap();
        assert!(replica.retire().is_empty(), "nothing is final");
        let cut = replica.proposal(now_ms, 0);
        replica.certify(&checkpoint(1, cut), now_ms).unwrap();
        assert_eq!(replica.retire(), vec![old]);
        assert!(replica.log().vector().head(&old).is_none());
        assert_eq!(replica.log().next(&old), 2, "its ops stay");
    }
    wire.append(nodes[1], vec![report("after")]);
    wire.settle(2_000);
    assert_eq!(wire.disconnects, Vec::<String>::new());
    assert!(wire.twins.is_empty(), "a start after a stop is no second life");
}
