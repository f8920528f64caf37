//! Credits that the admins mint, spent by keys with an allowance.

use ledger::command::admin::Act;
use ledger::command::credits::{GrantRights, PlaceHold, TransferCredits};
use ledger::command::keys::Scopes;
use ledger::id::{AccountId, CommandId};

use crate::script::World;
use crate::{check_ops, purses};

fn account(world: &World, name: &str) -> AccountId {
    let mut fold = projections::fold::Fold::new(world.genesis.clone());
    fold.apply(world.ops.clone());
    let cloud = fold.cloud();
    cloud.account_named(name).expect("the account is open").id
}

#[test]
fn a_key_and_all_below_it_spend_no_more_than_its_allowance() {
    let mut world = World::new();
    let (alice, bob) = (account(&world, "alice"), account(&world, "bob"));
    let scopes = |credits| Scopes {
        account: false,
        deploy: false,
        domains: false,
        credits,
    };
    let pay = |amount| TransferCredits {
        to: bob,
        amount,
        memo: String::new(),
    };
    let from = world.ops.len();
    let mint = Act::Mint {
        account: alice,
        amount: 100,
    };
    world.approve("admin", mint);
    for (by, who, scopes) in [
        ("alice", "shop", scopes(Some(10))),
        ("shop", "till", scopes(Some(10))),
        ("alice", "watcher", scopes(None)),
    ] {
        let add = world.key_of(who, CommandId(alice.0), scopes);
        world.ask(by, add);
    }
    world.ask("till", pay(6));
    world.ask("shop", pay(5));
    let (node, expires_ms) = (world.node(0), world.now_ms + 50_000);
    let grant = GrantRights {
        node,
        incarnation: 1,
        amount: 3,
        expires_ms,
    };
    world.ask("shop", grant);
    let hold = |amount| PlaceHold {
        node,
        amount,
        expires_ms,
        purpose: String::new(),
    };
    world.ask("till", hold(2));
    world.ask("till", hold(1));
    world.ask("watcher", pay(1));
    world.ask("alice", pay(92));
    world.ask("alice", pay(91));
    let cloud = check_ops(
        &world,
        from,
        &[
            "ApproveAct: applied",
            "AddKey: applied",
            "AddKey: applied",
            "AddKey: applied",
            "TransferCredits: applied",
            "TransferCredits: the key may spend 4 more credits, 5 were asked",
            "GrantRights: applied",
            "PlaceHold: the key may spend 1 more credits, 2 were asked",
            "PlaceHold: applied",
            "TransferCredits: the key has no scope `credits`",
            "TransferCredits: the account has 91 credits, 92 were asked",
            "TransferCredits: applied",
        ],
    );
    assert_eq!((cloud.balance(alice), cloud.balance(bob)), (0, 97));
    purses::assert_sums(&cloud);
}
