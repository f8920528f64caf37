//! What people do with an account and a network: keys, acts of the admins, credits, memberships.

use api::client::ListQuery;
use api::problem::ErrorCode;
use api::views::Credits;
use api::views::acts::ActWord;
use api::views::keys::{KeyWord, ScopeWord};
use api::views::nodes::MembershipWord;
use ledger::codec;
use ledger::command::accounts::OpenAccount;
use ledger::command::admin::{Act, ApproveAct};
use ledger::command::credits::{GrantRights, PlaceHold, TransferCredits};
use ledger::command::keys::{AddKey, Consent, RevokeKey, Scopes};
use ledger::entry::ENTRY_BYTES_MAX;
use ledger::id::AccountId;

use crate::node::{INCARNATION, World, code, key, now_ms};

/// The seed of the network's admin.
const ADMIN: u8 = 201;

impl World {
    async fn opened(&self, seed: u8, name: &str) -> AccountId {
        let body = OpenAccount { name: name.into() };
        self.submit(seed, 1, body).await.unwrap().id.into()
    }

    fn added(&self, account: AccountId, seed: u8, scopes: Scopes) -> AddKey {
        AddKey {
            key: key(seed).public(),
            scopes,
            expires_ms: None,
            label: "laptop".into(),
            consent: Consent::sign(self.node.network, account, &key(seed)),
        }
    }
}

fn approve(act: Act) -> ApproveAct {
    ApproveAct {
        act,
        salt: [7; 16],
        expires_ms: now_ms() + 60_000,
    }
}

#[tokio::test]
async fn an_accounts_keys_are_shown_with_what_they_may_sign_for() {
    let world = World::new().await;
    let alice = world.opened(1, "alice").await;
    let scopes = Scopes {
        deploy: true,
        credits: Some(u64::MAX),
        ..Scopes::READ
    };
    world.submit(1, 2, world.added(alice, 2, scopes)).await.unwrap();
    let query = ListQuery {
        key: Some(key(2).public().to_string()),
        ..ListQuery::default()
    };
    let found = world.client.accounts(&query).await.unwrap().items;
    assert_eq!(found.len(), 1, "a key leads to its account");
    let claim = ledger::command::domains::ReleaseDomain { name: "a.fog".into() };
    assert_eq!(
        code(world.submit(2, 1, claim).await),
        (ErrorCode::NotAllowed, 403)
    );
    let shown = async || {
        let keys = world.client.account_keys("alice").await.unwrap().items;
        assert_eq!(keys.len(), 2);
        keys.into_iter().find(|view| view.label == "laptop").unwrap()
    };
    let view = shown().await;
    assert_eq!(
        (view.key, view.state, view.depth),
        (key(2).public(), KeyWord::Active, 1)
    );
    let words = [ScopeWord::Deploy, ScopeWord::Credits, ScopeWord::Read];
    assert_eq!(view.scopes, words);
    assert_eq!(view.allowance, Some(Credits(u64::MAX)));
    assert_eq!(
        view.added_by.as_deref(),
        Some(key(1).public().to_string().as_str())
    );

    let revoke = RevokeKey { key: key(2).public() };
    world.submit(1, 3, revoke.clone()).await.unwrap();
    assert_eq!(
        code(world.submit(1, 4, revoke).await),
        (ErrorCode::AlreadySo, 409)
    );
    let view = shown().await;
    assert_eq!(view.state, KeyWord::Revoked);
    assert!(view.revoked_ms.is_some());
    assert_eq!(
        code(world.client.account_keys("bob").await),
        (ErrorCode::NotFound, 404)
    );
}

#[tokio::test]
async fn an_act_is_shown_with_its_approvals_and_the_bytes_to_sign() {
    let world = World::new().await;
    let charter = world.client.charter().await.unwrap().item;
    assert_eq!((charter.admins.len(), charter.admins_needed), (1, 1));
    assert_eq!(charter.admins[0].since_ms, None);
    world
        .submit(ADMIN, 1, approve(Act::AddAdmin(key(2).public())))
        .await
        .unwrap();
    world
        .submit(ADMIN, 2, approve(Act::SetAdminsNeeded(2)))
        .await
        .unwrap();
    let charter = world.client.charter().await.unwrap().item;
    assert_eq!((charter.admins.len(), charter.admins_needed), (2, 2));

    let node = world.node.secret.node_id();
    let revoke = approve(Act::RevokeNode {
        node,
        cutoff: Some(3),
    });
    let id = revoke.id(world.node.network);
    world.submit(ADMIN, 3, revoke.clone()).await.unwrap();
    let view = world.client.act(&id.to_string()[..8]).await.unwrap().item;
    assert_eq!(
        (view.id, view.state, view.approvals.len()),
        (id, ActWord::Waiting, 1)
    );
    assert_eq!((view.kind.as_str(), view.admins_needed), ("RevokeNode", 2));
    assert!(view.what.contains(&node.to_string()), "{}", view.what);
    let bytes = data_encoding::HEXLOWER.decode(view.approval.as_bytes()).unwrap();
    assert_eq!(
        codec::decode::<ApproveAct>(&bytes, ENTRY_BYTES_MAX, "an approval").unwrap(),
        revoke
    );
    let waiting = ListQuery {
        state: Some("waiting".into()),
        ..ListQuery::default()
    };
    let acts = world.client.acts(&waiting).await.unwrap().items;
    assert_eq!(acts.iter().map(|act| act.id).collect::<Vec<_>>(), [id]);
    assert_eq!(world.get("/v1/acts?state=open").await.status(), 400);
    assert_eq!(
        code(world.client.act("00000000").await),
        (ErrorCode::NotFound, 404)
    );
    world.opened(9, "bob").await;
    let stranger = world.submit(9, 2, revoke.clone()).await;
    assert_eq!(code(stranger), (ErrorCode::NotAllowed, 403));

    let member = world.client.node("one").await.unwrap().item;
    assert_eq!(member.membership, MembershipWord::Member);
    assert!(member.lease_ends_ms > now_ms());
    // The last op that it carries and that counts is its own revocation.
    world.submit(2, 1, revoke).await.unwrap();
    let view = world.client.act(&id.to_string()).await.unwrap().item;
    assert_eq!((view.state, view.approvals.len()), (ActWord::Done, 2));
    let revoked = world.client.node("one").await.unwrap().item;
    assert_eq!(
        (revoked.membership, revoked.cutoff),
        (MembershipWord::Revoked, Some(3))
    );
}

#[tokio::test]
async fn an_account_shows_its_balance_its_rights_and_its_holds() {
    let world = World::new().await;
    let alice = world.opened(1, "alice").await;
    let bob = world.opened(2, "bob").await;
    let mint = Act::Mint {
        account: alice,
        // More than a JavaScript reader can hold in a number.
        amount: u64::MAX,
    };
    world.submit(ADMIN, 1, approve(mint)).await.unwrap();
    let transfer = TransferCredits {
        to: bob,
        amount: 5,
        memo: "thanks".into(),
    };
    world.submit(1, 2, transfer.clone()).await.unwrap();
    let node = world.node.secret.node_id();
    let expires_ms = now_ms() + 60_000;
    let grant = GrantRights {
        node,
        incarnation: INCARNATION,
        amount: 7,
        expires_ms,
    };
    world.submit(1, 3, grant).await.unwrap();
    let hold = PlaceHold {
        node,
        amount: 6,
        expires_ms,
        purpose: "a day of web".into(),
    };
    let placed = world.submit(1, 4, hold).await.unwrap();

    let raw: serde_json::Value = world
        .get("/v1/accounts/alice/credits")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(raw["item"]["balance"], (u64::MAX - 12).to_string());
    let view = world.client.account_credits("alice").await.unwrap().item;
    assert_eq!((view.account, view.balance), (alice, Credits(u64::MAX - 12)));
    let right = &view.rights[0];
    assert_eq!(
        (right.node, right.amount, right.expires_ms),
        (node, Credits(7), expires_ms)
    );
    assert_eq!(
        (right.incarnation.as_str(), right.node_name.as_deref()),
        ("000000000000abcd", Some("one"))
    );
    let hold = &view.holds[0];
    assert_eq!((hold.id.0, hold.left), (placed.id.0, Credits(6)));
    assert_eq!(hold.purpose, "a day of web");
    let view = world.client.account_credits("bob").await.unwrap().item;
    assert_eq!((view.balance, view.rights.len()), (Credits(5), 0));
    assert_eq!(
        world.client.charter().await.unwrap().item.minted,
        Credits(u64::MAX)
    );
    let beyond = TransferCredits {
        to: alice,
        amount: 6,
        ..transfer
    };
    assert_eq!(code(world.submit(2, 2, beyond).await), (ErrorCode::Refused, 422));
}
