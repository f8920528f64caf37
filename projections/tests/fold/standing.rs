//! Names that are provisional and names that are final. The final view is here that of the first ops, as it
//! is once a certificate covers them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ledger::clock::Hlc;
use ledger::command::accounts::OpenAccount;
use ledger::finality::checkpoint::{Checkpoint, FOLD_VERSION};
use ledger::id::{AccountId, CheckpointId};
use ledger::op::Op;
use ledger::report::{Carry, Report};
use ledger::vector::Head;
use projections::cloud::Cloud;
use projections::fold::Fold;
use projections::names::{Holder, Kind, Standing, Target, holder, standing};

use crate::script::{BEGIN_MS, World};

fn view(world: &World, ops: usize) -> Arc<Cloud> {
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops[..ops].to_vec());
    fold.cloud()
}

/// How a name stands when the first `finals` of the ops are final.
fn stands(world: &World, finals: usize, kind: Kind, name: &str) -> Standing {
    let (all, finals) = (view(world, world.ops.len()), view(world, finals));
    let stands = standing(&all, &finals, kind, name);
    assert_eq!(stands.holder(), holder(&all, kind, name));
    stands
}

fn account(world: &World, name: &str) -> AccountId {
    let cloud = view(world, world.ops.len());
    cloud.account_named(name).expect("the account is open").id
}

#[test]
fn a_name_is_provisional_until_its_claim_is_final() {
    let mut world = World::new();
    let build = world.build("alice");
    let before = world.ops.len();
    let alice = account(&world, "alice");
    let agent = world.register("alice", "hello", build);
    world.claim("alice", "shop.fog", agent);
    let instance = world.launch("alice", "web", build);
    let (after, owner) = (world.ops.len(), alice);
    let of_agent = Holder {
        owner,
        target: Target::Agent(agent),
    };
    let of_instance = Holder {
        owner,
        target: Target::Instance(instance),
    };
    for (kind, name, holder) in [
        (Kind::Agent, "hello", of_agent),
        (Kind::Domain, "hello.fog", of_agent),
        (Kind::Domain, "shop.fog", of_agent),
        (Kind::Agent, "shop", of_agent),
        (Kind::Instance(alice), "web", of_instance),
    ] {
        let stands = |finals| stands(&world, finals, kind, name);
        assert_eq!(stands(before), Standing::Provisional(holder), "{name}");
        assert_eq!(stands(after), Standing::Final(holder), "{name}");
    }
    for kind in [Kind::Account, Kind::Agent, Kind::Domain, Kind::Instance(alice)] {
        assert_eq!(stands(&world, after, kind, "nobodys"), Standing::Free);
    }
    let (owner, target) = (alice, Target::Account);
    let of_account = Holder { owner, target };
    assert_eq!(
        stands(&world, after, Kind::Account, "alice"),
        Standing::Final(of_account)
    );
    let bob = account(&world, "bob");
    assert_eq!(stands(&world, after, Kind::Instance(bob), "web"), Standing::Free);
}

#[test]
fn a_name_given_back_is_its_holders_until_that_is_final_whoever_claims_it() {
    let mut world = World::new();
    let (of_alice, of_bob) = (world.build("alice"), world.build("bob"));
    let of_alice = world.register("alice", "a", of_alice);
    let of_bob = world.register("bob", "b", of_bob);
    world.claim("alice", "shop.fog", of_alice);
    let claimed = world.ops.len();
    world.release("alice", "shop.fog");
    let from = Holder {
        owner: account(&world, "alice"),
        target: Target::Agent(of_alice),
    };
    let stands = |world: &World, finals| stands(world, finals, Kind::Domain, "shop.fog");
    assert_eq!(stands(&world, claimed), Standing::GivenBack(from));
    assert_eq!(stands(&world, claimed + 1), Standing::Free);
    world.claim("bob", "shop.fog", of_bob);
    let to = Holder {
        owner: account(&world, "bob"),
        target: Target::Agent(of_bob),
    };
    assert_eq!(stands(&world, claimed), Standing::Passing { from, to });
    assert_eq!(stands(&world, claimed + 1), Standing::Provisional(to));
    assert_eq!(stands(&world, claimed + 2), Standing::Final(to));
}

fn certify(fold: &mut Fold, height: u64, time_ms: u64, covered: Vec<Op>) {
    let checkpoint = Checkpoint {
        height,
        previous: CheckpointId([height as u8 - 1; 32]),
        time_ms,
        order: [0; 32],
        state: [0; 32],
        forks: [0; 32],
        fold_version: FOLD_VERSION,
        heads: covered
            .iter()
            .map(|op| {
                let (slot, id) = (op.slot(), op.id());
                let next = slot.seq + 1;
                (slot.chain, Head { next, id })
            })
            .collect::<BTreeMap<_, _>>()
            .into_iter()
            .collect(),
        next_witnesses: None,
    };
    fold.finalize(&checkpoint, covered);
}

#[test]
fn nobody_wins_a_name_by_a_clock_set_back() {
    let mut world = World::new();
    let late = world.sign("dave", OpenAccount { name: "shop".into() });
    let early_ms = world.now_ms;
    world.now_ms += 10;
    let carol = world.ask("carol", OpenAccount { name: "shop".into() });
    let holder = Holder {
        owner: carol.into(),
        target: Target::Account,
    };
    let mut fold = Fold::new(world.genesis.clone());
    fold.apply(world.ops.clone());
    let stands = |fold: &Fold| standing(&fold.cloud(), &fold.final_cloud(), Kind::Account, "shop");
    assert_eq!(stands(&fold), Standing::Provisional(holder));
    certify(&mut fold, 1, world.now_ms, world.ops.clone());
    assert_eq!(stands(&fold), Standing::Final(holder));

    let command = late.bytes().to_vec();
    let entry = Report::from(Carry { command }).to_entry();
    world.op_at(1, Hlc::at_ms(early_ms), vec![entry]);
    let backdated = world.ops.last().expect("was just made").clone();
    fold.apply(vec![backdated.clone()]);
    assert_eq!(stands(&fold), Standing::Final(holder));
    certify(&mut fold, 2, world.now_ms + 1, vec![backdated]);
    assert_eq!(stands(&fold), Standing::Final(holder));
}

#[test]
fn a_provisional_name_turns_when_an_earlier_claim_arrives() {
    let mut world = World::new();
    let before = world.ops.len();
    let late = world.sign("dave", OpenAccount { name: "shop".into() });
    let early_ms = world.now_ms;
    world.now_ms += 10;
    let carol = world.ask("carol", OpenAccount { name: "shop".into() });
    let held_by = |id| Holder {
        owner: AccountId::from(id),
        target: Target::Account,
    };
    let stands = |world: &World| stands(world, before, Kind::Account, "shop");
    assert_eq!(stands(&world), Standing::Provisional(held_by(carol)));
    let command = late.bytes().to_vec();
    let entry = Report::from(Carry { command }).to_entry();
    world.op_at(1, Hlc::at_ms(early_ms), vec![entry]);
    assert_eq!(stands(&world), Standing::Provisional(held_by(late.id())));
    assert!(early_ms > BEGIN_MS);
}
