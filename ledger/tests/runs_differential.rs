//! Runs against ops: a replica that gets runs, of which only the last op is signed, admits the same ops as one
//! that gets every op by itself with a signature of its own, and both admit what a plain reference says.
//!
//! A signature on an op vouches for all before it, since the id covers the op before. So the reference takes
//! from each run the ops that it vouches for (all of them or none: an honest peer sends no run with a bad op
//! in it), and admits, until nothing changes, whatever keeps the rules. It is written by the rules of
//! docs/ledger.md, shares no code with the replica beyond the decoders, and knows no limbo, no order of
//! arrival and no doubles. Of a forked chain nothing counts from the fork on, and what names it is let in.
#![allow(clippy::unwrap_used, reason = "a test that fails here should say where")]

mod scene;

use std::collections::{BTreeMap, BTreeSet};

use ledger::admit::Verify;
use ledger::clock::Hlc;
use ledger::command::check_of;
use ledger::entry::Entry;
use ledger::genesis::SignedInvitation;
use ledger::id::OpId;
use ledger::key::{Check, Signature, verify};
use ledger::op::{Chain, Dependency, Op, Slot};
use ledger::replica::Replica;
use ledger::report::{Carry, Report};
use ledger::sync::{Frame, Run};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use scene::{Author, START_MS, carry, disconnected, network, node, opening, report, run_of, secret};

/// By then every op's time has come.
const END_MS: u64 = START_MS + 60_000;

/// The ops of a run as they are linked, whoever signed them; none when one is not an op.
fn linked(run: &Run) -> Option<Vec<Op>> {
    let mut ops: Vec<Op> = Vec::new();
    for body in &run.bodies {
        let slot = Slot {
            chain: run.chain,
            seq: run.first + ops.len() as u64,
            previous: ops.last().map_or(run.previous, Op::id),
        };
        ops.push(Op::decode(network(), slot, body.clone(), None).ok()?);
    }
    Some(ops)
}

fn commands_hold(op: &Op) -> bool {
    let carries = op
        .body()
        .entries
        .iter()
        .filter(|entry| (entry.kind, entry.version) == (0x100, 1));
    let holds = |entry: &Entry| match Report::from_entry(entry) {
        Ok(Report::Carry(Carry { command })) => {
            check_of(network(), &command).is_ok_and(|check| verify(&check))
        }
        _ => false,
    };
    carries.into_iter().all(holds)
}

/// The ops that a run vouches for.
fn vouched(run: &Run) -> Option<Vec<Op>> {
    let ops = linked(run)?;
    let signed = Check {
        key: run.chain.node.into(),
        message: ops.last()?.id().0,
        signature: run.signature,
    };
    (verify(&signed) && ops.iter().all(commands_hold)).then_some(ops)
}

/// The reference.
#[derive(Default)]
struct Reference {
    authentic: BTreeMap<OpId, Op>,
    /// Ops with a signature of their own.
    signed: BTreeSet<OpId>,
    admitted: BTreeMap<OpId, Op>,
    /// From where on a chain is forked.
    forks: BTreeMap<Chain, u64>,
}

impl Reference {
    fn of(runs: &[Run]) -> Self {
        let mut reference = Self::default();
        for ops in runs.iter().filter_map(vouched) {
            reference.signed.extend(ops.last().map(Op::id));
            reference
                .authentic
                .extend(ops.into_iter().map(|op| (op.id(), op)));
        }
        loop {
            reference.admit();
            let Some((chain, seq)) = reference.fork() else {
                return reference;
            };
            reference.forks.insert(chain, seq);
            reference.admitted.clear();
        }
    }

    fn admit(&mut self) {
        loop {
            let fits = |op: &&Op| !self.admitted.contains_key(&op.id()) && self.keeps_the_rules(op);
            let more: Vec<Op> = self.authentic.values().filter(fits).cloned().collect();
            if more.is_empty() {
                return;
            }
            self.admitted.extend(more.into_iter().map(|op| (op.id(), op)));
        }
    }

    /// An admitted op and another authentic one with the same op before it: where branches part.
    fn fork(&self) -> Option<(Chain, u64)> {
        let mut places: BTreeMap<(Chain, u64, OpId), usize> = BTreeMap::new();
        for op in self.authentic.values() {
            let Slot { chain, seq, previous } = *op.slot();
            *places.entry((chain, seq, previous)).or_default() += 1;
        }
        let slots = self.admitted.values().map(Op::slot);
        let mut forked = slots.filter(|it| places[&(it.chain, it.seq, it.previous)] > 1);
        forked.next().map(|it| (it.chain, it.seq))
    }

    fn is_void(&self, slot: &Slot) -> bool {
        self.forks.get(&slot.chain).is_some_and(|from| *from <= slot.seq)
    }

    fn keeps_the_rules(&self, op: &Op) -> bool {
        let Slot { chain, seq, previous } = *op.slot();
        let hlc = op.body().hlc;
        let earlier = |named: &Op| named.body().hlc < hlc;
        let linked = if seq == 0 {
            previous == OpId([0; 32]) && opens(op)
        } else {
            let before = self.admitted.get(&previous);
            before.is_some_and(|it| (it.slot().chain, it.slot().seq + 1) == (chain, seq) && earlier(it))
        };
        let named = |name: &Dependency| self.authentic.values().find(|it| it.id().0.starts_with(&name.0));
        let seen =
            |it: &Op| self.is_void(it.slot()) || self.admitted.contains_key(&it.id()) && it.body().hlc < hlc;
        let seen = op
            .body()
            .dependencies
            .iter()
            .all(|name| named(name).is_some_and(seen));
        linked && seen && hlc.ms() <= END_MS + 2000 && !self.is_void(op.slot())
    }

    fn ids(&self) -> BTreeSet<OpId> {
        self.admitted.keys().copied().collect()
    }

    /// How far each chain can be proved: to its last admitted op that has a signature of its own.
    fn proven(&self) -> BTreeMap<Chain, u64> {
        let mut proven = BTreeMap::new();
        for op in self.admitted.values().filter(|op| self.signed.contains(&op.id())) {
            let next = proven.entry(op.slot().chain).or_insert(0);
            *next = (*next).max(op.slot().seq + 1);
        }
        // What stands before a fork is shown by the proof.
        let places = self
            .admitted
            .values()
            .map(|op| (op.slot().chain, op.slot().seq + 1));
        proven.extend(places.filter(|(chain, next)| self.forks.get(chain) == Some(next)));
        proven
    }
}

fn opens(op: &Op) -> bool {
    match op.body().entries.first().map(Report::from_entry) {
        Some(Ok(Report::OpenChain(opening))) => SignedInvitation::decode(&opening.invitation)
            .is_ok_and(|invitation| invitation.verify(network(), op.node()).is_ok()),
        _ => false,
    }
}

/// A replica that was given frames, all of them and then all of them again. A peer that is dropped comes back.
struct Taker {
    replica: Replica,
    blamed: usize,
}

impl Taker {
    fn new() -> Self {
        let (mut replica, _) = Replica::open(scene::setup(1, 1, Verify::Real), vec![], START_MS).unwrap();
        replica.peer_up(node(20), START_MS);
        Self { replica, blamed: 0 }
    }

    fn take(&mut self, runs: &[Run], now_ms: u64) {
        for run in runs {
            let frame = Frame::Run(run.clone()).encode();
            if disconnected(&self.replica.receive(node(20), &frame, now_ms)).is_some() {
                self.blamed += 1;
                self.replica.peer_up(node(20), now_ms);
            }
        }
    }

    fn of(runs: &[Run]) -> Self {
        let mut taker = Self::new();
        taker.take(runs, START_MS);
        taker.replica.tick(END_MS);
        // What a fork made void is known by then.
        for _ in 0..2 {
            taker.take(runs, END_MS);
        }
        taker
    }

    /// What it admitted of others, and how far it can prove each chain.
    fn ids(&self) -> BTreeSet<OpId> {
        let others = self
            .replica
            .log()
            .iter()
            .filter(|op| op.node() != self.replica.node());
        others.map(Op::id).collect()
    }

    fn proven(&self) -> BTreeMap<Chain, u64> {
        let own = self.replica.node();
        let chains = self
            .replica
            .log()
            .vector()
            .iter()
            .filter(|(chain, _)| chain.node != own);
        chains.map(|(chain, head)| (*chain, head.next)).collect()
    }

    /// Which of two branches is met first is chance, and so is whether a fork is met that hides behind
    /// another. But a fork is proved only where there is one, and nothing of it counts.
    fn forks_are_real(&self, reference: &Reference) {
        let authentic = |chain: Chain, seq: u64| {
            let here = move |op: &&Op| (op.slot().chain, op.slot().seq) == (chain, seq);
            reference.authentic.values().filter(here).count()
        };
        for proof in self.replica.forks().iter() {
            assert!(
                authentic(proof.chain, proof.seq) > 1,
                "an honest chain is in quarantine"
            );
            assert!(self.replica.log().next(&proof.chain) <= proof.seq);
        }
        assert!(self.ids().iter().all(|id| reference.authentic.contains_key(id)));
    }
}

fn secret_of(chain: &Chain) -> ledger::key::SecretKey {
    let number = (1..10).find(|number| node(*number) == chain.node);
    secret(number.expect("the chains belong to nodes 1 to 9"))
}

/// Each op by itself, with a signature of its own: by its author where the run vouches for it, else one that
/// does not hold.
fn one_by_one(run: &Run) -> Vec<Run> {
    let holds = vouched(run).is_some();
    let single = |op: &Op| {
        let signature = if holds {
            secret_of(&run.chain).sign(&op.id().0)
        } else {
            Signature([7; 64])
        };
        run_of(&[op.clone().with_signature(signature)], run.live)
    };
    linked(run).unwrap_or_default().iter().map(single).collect()
}

/// Gives the runs to a replica, their ops one by one to another, and both to the reference; tells what was
/// admitted.
fn admitted_by_all(runs: &[Run]) -> BTreeSet<OpId> {
    let by_runs = Taker::of(runs);
    let reference = Reference::of(runs);
    let single: Vec<Run> = runs.iter().flat_map(one_by_one).collect();
    let by_ops = Taker::of(&single);
    if reference.forks.is_empty() {
        assert_eq!(
            by_runs.ids(),
            reference.ids(),
            "the run verifier and the reference differ"
        );
        assert_eq!(by_runs.proven(), reference.proven(), "what can be proved differs");
        assert_eq!(by_ops.ids(), by_runs.ids(), "the two verifiers differ");
    }
    for taker in [&by_runs, &by_ops] {
        taker.forks_are_real(&reference);
    }
    by_runs.ids()
}

fn chain_of(number: u8, length: usize) -> Vec<Op> {
    let (mut author, first) = Author::opened(number);
    let mut ops = vec![first];
    ops.extend((1..length).map(|index| author.say(&format!("op {index} of {number}"))));
    ops
}

/// A chain that leaves another at a place.
fn branch_of(ops: &[Op], at: usize, length: usize) -> Vec<Op> {
    let number = (1..10).find(|number| node(*number) == ops[0].node()).unwrap();
    let mut author = Author::new(number);
    author.seq = at as u64;
    author.previous = ops[at - 1].id();
    author.hlc = Hlc(ops[at - 1].body().hlc.0 + 1);
    let mut branch = ops[..at].to_vec();
    branch.extend((at..length).map(|index| author.say(&format!("other {index}"))));
    branch
}

/// The run's last op signed anew, as it now stands.
fn resigned(mut run: Run) -> Run {
    if let Some(ops) = linked(&run) {
        run.signature = secret_of(&run.chain).sign(&ops.last().unwrap().id().0);
    }
    run
}

fn whole(ops: &[Op]) -> Run {
    run_of(ops, false)
}

fn ids(ops: &[Op]) -> BTreeSet<OpId> {
    ops.iter().map(Op::id).collect()
}

#[test]
fn a_bad_signature_in_the_middle_is_covered_by_a_good_one_after_it() {
    let ops = chain_of(2, 6);
    let mut bad = whole(&ops[..3]);
    bad.signature.0[0] ^= 1;
    assert_eq!(admitted_by_all(&[bad.clone()]), ids(&[]));
    assert_eq!(admitted_by_all(&[bad.clone(), whole(&ops)]), ids(&ops));
    assert_eq!(
        admitted_by_all(&[whole(&ops[..2]), bad, whole(&ops[3..])]),
        ids(&ops[..2])
    );
}

#[test]
fn a_fork_under_a_covered_prefix_leaves_the_prefix() {
    let ops = chain_of(2, 6);
    let other = branch_of(&ops, 3, 8);
    for runs in [
        vec![whole(&ops), whole(&other)],
        vec![whole(&other), whole(&ops)],
        vec![whole(&ops[..4]), whole(&other), whole(&ops[4..])],
        vec![whole(&ops[..3]), whole(&other[3..]), whole(&ops[3..])],
    ] {
        assert_eq!(admitted_by_all(&runs), ids(&ops[..3]));
    }
    // An op of one branch among those of the other: the head does not vouch for it.
    let mut swapped = whole(&ops);
    swapped.bodies[3] = other[3].bytes().to_vec();
    assert_eq!(admitted_by_all(&[swapped.clone()]), ids(&[]));
    // Signed as it stands, it is a third branch.
    assert_eq!(admitted_by_all(&[whole(&ops), resigned(swapped)]), ids(&ops[..3]));
}

#[test]
fn a_truncated_run_is_vouched_for_by_nothing() {
    let ops = chain_of(2, 6);
    let mut short = whole(&ops);
    short.bodies.pop();
    assert_eq!(admitted_by_all(&[short.clone()]), ids(&[]));
    assert_eq!(admitted_by_all(&[resigned(short)]), ids(&ops[..5]));
    let mut headless = whole(&ops);
    headless.bodies.remove(0);
    assert_eq!(admitted_by_all(&[headless.clone()]), ids(&[]));
    assert_eq!(
        admitted_by_all(&[resigned(headless)]),
        ids(&[]),
        "it does not open its chain"
    );
}

#[test]
fn a_run_that_does_not_link_waits_or_is_refused() {
    let ops = chain_of(2, 6);
    assert_eq!(admitted_by_all(&[whole(&ops[3..])]), ids(&[]), "it waits");
    assert_eq!(admitted_by_all(&[whole(&ops[3..]), whole(&ops[..3])]), ids(&ops));
    let mut elsewhere = whole(&ops[3..]);
    elsewhere.previous = OpId([9; 32]);
    assert_eq!(
        admitted_by_all(&[whole(&ops[..3]), elsewhere.clone()]),
        ids(&ops[..3])
    );
    assert_eq!(
        admitted_by_all(&[whole(&ops[..3]), resigned(elsewhere)]),
        ids(&ops[..3])
    );
    let mut nothing = whole(&ops[3..]);
    nothing.previous = OpId([0; 32]);
    assert_eq!(
        admitted_by_all(&[whole(&ops[..3]), resigned(nothing.clone())]),
        ids(&ops[..3])
    );
    // Another op stands in its place: what does not link there forks nothing, and is refused once.
    assert_eq!(admitted_by_all(&[whole(&ops), resigned(nothing)]), ids(&ops));
    let mut later = whole(&ops[3..]);
    later.first = 0;
    assert_eq!(admitted_by_all(&[whole(&ops), resigned(later)]), ids(&ops));
}

#[test]
fn reordered_and_repeated_bodies_are_not_the_chain() {
    let ops = chain_of(2, 6);
    let mut reordered = whole(&ops);
    reordered.bodies.swap(2, 3);
    assert_eq!(admitted_by_all(&[reordered.clone()]), ids(&[]));
    // Signed so by its author, the clock runs backwards in it: what stands before that is admitted.
    assert_eq!(admitted_by_all(&[resigned(reordered)]).len(), 3);
    let mut repeated = whole(&ops);
    repeated.bodies.insert(2, ops[2].bytes().to_vec());
    assert_eq!(admitted_by_all(&[repeated.clone()]), ids(&[]));
    assert_eq!(admitted_by_all(&[resigned(repeated)]), ids(&ops[..3]));
}

#[test]
fn an_op_of_another_chain_and_a_signature_of_another_op_do_not_count() {
    let (ops, others) = (chain_of(2, 5), chain_of(3, 5));
    let mut foreign = whole(&ops);
    foreign.bodies[2] = others[2].bytes().to_vec();
    assert_eq!(admitted_by_all(&[foreign]), ids(&[]));
    let mut moved = whole(&ops);
    moved.chain = others[0].slot().chain;
    assert_eq!(admitted_by_all(&[moved.clone()]), ids(&[]));
    assert_eq!(
        admitted_by_all(&[resigned(moved)]),
        ids(&[]),
        "its invitation is another node's"
    );
    for signer in [&ops[2], &others[4]] {
        let mut run = whole(&ops);
        run.signature = signer.signature().unwrap();
        assert_eq!(admitted_by_all(&[run]), ids(&[]));
    }
}

#[test]
fn a_forged_command_condemns_the_run_and_not_the_chain_before_it() {
    let (mut author, first) = Author::opened(2);
    let second = author.write(vec![], vec![Report::from(carry(1)).to_entry()]);
    let third = author.write(vec![], vec![forged()]);
    let ops = [first, second, third, author.say("after")];
    assert_eq!(admitted_by_all(&[whole(&ops)]), ids(&[]));
    assert_eq!(admitted_by_all(&[whole(&ops[..2]), whole(&ops)]), ids(&ops[..2]));
    assert_eq!(
        admitted_by_all(&[whole(&ops), whole(&ops[2..]), whole(&ops[..2])]),
        ids(&ops[..2])
    );
}

fn forged() -> Entry {
    let mut forged = carry(2);
    let last = forged.command.len() - 1;
    forged.command[last] ^= 1;
    Report::from(forged).to_entry()
}

/// What an author writes next.
#[derive(Clone, Debug)]
enum What {
    Say,
    Depend(Index),
    Command(u64),
    Forged,
    Garbage,
    /// Not later than the op before it.
    Backwards,
    /// Not later than an op that it names.
    Sooner(Index),
    Ahead,
    /// Leaves its chain some ops before its end.
    Fork(Index),
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        6 => Just(What::Say),
        6 => any::<Index>().prop_map(What::Depend),
        2 => (0u64..1000).prop_map(What::Command),
        1 => Just(What::Forged),
        1 => Just(What::Garbage),
        1 => Just(What::Backwards),
        1 => any::<Index>().prop_map(What::Sooner),
        1 => Just(What::Ahead),
        1 => any::<Index>().prop_map(What::Fork),
    ]
}

const AUTHORS: u8 = 3;

/// The chains of three authors; an author who forks has several, each from its first op.
fn chains(script: &[(u8, What)]) -> Vec<Vec<Op>> {
    let mut authors: Vec<(Author, usize)> = Vec::new();
    let mut chains: Vec<Vec<Op>> = Vec::new();
    let mut all: Vec<Op> = Vec::new();
    for number in 0..AUTHORS {
        let mut author = Author::new(number + 2);
        let first = author.write(vec![], vec![opening(number + 2)]);
        chains.push(vec![first.clone()]);
        all.push(first);
        authors.push((author, usize::from(number)));
    }
    for (step, (number, what)) in script.iter().enumerate() {
        let (author, chain) = &mut authors[usize::from(number % AUTHORS)];
        author.hlc = author.hlc.max(Hlc(Hlc::at_ms(START_MS).0 + 100 + step as u64));
        let mut dependencies = vec![];
        let mut entry = report(&step.to_string()).to_entry();
        match what {
            What::Say => {}
            What::Depend(index) => dependencies.push(index.get(&all).id().into()),
            What::Command(nonce) => entry = Report::from(carry(*nonce)).to_entry(),
            What::Forged => entry = forged(),
            What::Garbage => entry = Report::from(Carry { command: vec![1; 70] }).to_entry(),
            What::Backwards => author.hlc = chains[*chain].last().unwrap().body().hlc,
            What::Sooner(index) => {
                let named = index.get(&all);
                dependencies.push(named.id().into());
                author.hlc = named.body().hlc;
            }
            What::Ahead => author.hlc = Hlc::at_ms(START_MS + 3_000 + step as u64),
            What::Fork(index) => {
                let at = 1 + index.index(chains[*chain].len());
                let branch = chains[*chain][..at].to_vec();
                let last = &branch[at - 1];
                (author.seq, author.previous) = (at as u64, last.id());
                author.hlc = author.hlc.max(Hlc(last.body().hlc.0 + 1));
                *chain = chains.len();
                chains.push(branch);
            }
        }
        let op = author.write(dependencies, vec![entry]);
        chains[*chain].push(op.clone());
        all.push(op);
    }
    chains
}

/// What is done to a run on its way; then perhaps its author signs what came of it.
#[derive(Clone, Debug)]
enum Harm {
    None,
    Signature(usize),
    SignatureOf(Index),
    Body(Index, Index, u8),
    Truncate,
    Swap(Index, Index),
    Repeat(Index),
    Previous(u8),
    Move(u8),
    Shift(u64),
    Foreign(Index, Index),
}

fn harm() -> impl Strategy<Value = Harm> {
    let index = any::<Index>;
    prop_oneof![
        12 => Just(Harm::None),
        1 => (0usize..64).prop_map(Harm::Signature),
        1 => index().prop_map(Harm::SignatureOf),
        1 => (index(), index(), any::<u8>()).prop_map(|(body, at, with)| Harm::Body(body, at, with)),
        1 => Just(Harm::Truncate),
        1 => (index(), index()).prop_map(|(one, other)| Harm::Swap(one, other)),
        1 => index().prop_map(Harm::Repeat),
        1 => (0u8..2).prop_map(Harm::Previous),
        1 => (0..AUTHORS).prop_map(Harm::Move),
        1 => (0u64..9).prop_map(Harm::Shift),
        1 => (index(), index()).prop_map(|(body, of)| Harm::Foreign(body, of)),
    ]
}

fn harmed(mut run: Run, harm: &Harm, all: &[Op]) -> Run {
    let count = run.bodies.len();
    match harm {
        Harm::None => {}
        Harm::Signature(at) => run.signature.0[*at] ^= 1,
        Harm::SignatureOf(op) => run.signature = op.get(all).signature().unwrap_or(Signature([0; 64])),
        Harm::Body(body, at, with) => {
            let body = &mut run.bodies[body.index(count)];
            let at = at.index(body.len());
            body[at] = *with;
        }
        Harm::Truncate if count > 1 => run.bodies.truncate(count - 1),
        Harm::Truncate => {}
        Harm::Swap(one, other) => run.bodies.swap(one.index(count), other.index(count)),
        Harm::Repeat(which) => {
            let which = which.index(count);
            run.bodies.insert(which, run.bodies[which].clone());
        }
        Harm::Previous(with) => run.previous = OpId([*with; 32]),
        Harm::Move(number) => run.chain.node = node(number + 2),
        Harm::Shift(first) => run.first = *first,
        Harm::Foreign(body, of) => run.bodies[body.index(count)] = of.get(all).bytes().to_vec(),
    }
    run
}

/// A run on its way: of which chain, from where, how long, live, what is done to it, and whether signed anew.
type Delivery = (Index, Index, usize, bool, Harm, bool);

fn runs(chains: &[Vec<Op>], deliveries: &[Delivery]) -> Vec<Run> {
    let all: Vec<Op> = chains.iter().flatten().cloned().collect();
    let run = |(chain, from, count, live, harm, sign): &Delivery| {
        let ops = chain.get(chains);
        let from = from.index(ops.len());
        let run = run_of(&ops[from..ops.len().min(from + count)], *live);
        let run = harmed(run, harm, &all);
        if *sign { resigned(run) } else { run }
    };
    deliveries.iter().map(run).collect()
}

fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
    let index = any::<Index>;
    vec(
        (index(), index(), 1usize..8, any::<bool>(), harm(), any::<bool>()),
        0..25,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn runs_and_ops_reach_the_same_set(
        script in vec((0..AUTHORS, what()), 0..25),
        before in deliveries(),
        all in any::<bool>(),
    ) {
        let chains = chains(&script);
        let mut runs = runs(&chains, &before);
        if all {
            // In the end an honest peer brings all that it has.
            runs.extend(chains.iter().map(|ops| whole(ops)));
        }
        admitted_by_all(&runs);
    }

    /// Without forks, what is admitted does not depend on the order in which the runs come.
    #[test]
    fn the_order_of_runs_does_not_matter(
        script in vec((0..AUTHORS, what()), 0..20),
        deliveries in deliveries(),
        swaps in vec((any::<Index>(), any::<Index>()), 0..25),
    ) {
        let chains = chains(&script);
        let runs = runs(&chains, &deliveries);
        let mut shuffled = runs.clone();
        for (one, other) in swaps {
            if !runs.is_empty() {
                shuffled.swap(one.index(runs.len()), other.index(runs.len()));
            }
        }
        if Reference::of(&runs).forks.is_empty() {
            prop_assert_eq!(Taker::of(&runs).ids(), Taker::of(&shuffled).ids());
        }
    }
}

#[test]
fn only_who_sends_what_is_wrong_is_dropped() {
    let ops = chain_of(2, 3);
    let mut bad = whole(&ops);
    bad.signature.0[9] ^= 1;
    assert_eq!(Taker::of(&[bad]).blamed, 3, "it sent it three times");
    assert_eq!(Taker::of(&[whole(&ops), whole(&ops[1..])]).blamed, 0);
}
