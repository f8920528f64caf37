//! Who takes part.

use ledger::command::accounts::OpenAccount;
use ledger::command::admin::{Act, ApproveAct};
use ledger::command::images::BuildImage;
use ledger::genesis::Invitation;
use ledger::id::AccountId;
use ledger::id::Digest;
use ledger::report::Carry;
use ledger::report::Report;
use ledger::report::nodes::{AnnounceNode, Capacity, OpenChain, RenewMembership, Roles};
use ledger::report::upcast::AnnounceNodeV1;
use projections::fold::Fold;
use projections::nodes::{LEASE_MS, Membership, RENEWAL_MS_MIN};
use projections::outcome::{Outcome, Void};

use crate::finality::checkpoint;
use crate::script::{World, key};
use crate::{check, check_ops};

fn announcement(name: &str) -> AnnounceNode {
    AnnounceNode {
        name: name.into(),
        roles: Roles {
            gateway: true,
            compute: true,
            builder: true,
            edge: true,
            witness: true,
        },
        addresses: vec!["/ip4/10.0.0.1/udp/4001/quic-v1".into()],
        ipv4: vec![[10, 0, 0, 1].into()],
        payout: None,
        capacity: Capacity {
            vcpus: 4,
            memory_mib: 4096,
            disk_gib: 40,
        },
    }
}

#[test]
fn a_node_joins_once_and_its_newest_incarnation_counts() {
    let (world, cloud) = check(
        |world| {
            world.say(1, announcement("one"));
            world.restart(1);
            (world.node(1), world.ops.len())
        },
        &["AnnounceNode: applied", "OpenChain: applied"],
    );
    let node = &cloud.nodes[&world.0];
    assert_eq!(node.incarnation, 2);
    assert!(node.started > node.joined);
    assert_eq!(
        node.announced,
        Some(announcement("one")),
        "what it said before it started again still holds"
    );
}

#[test]
fn the_newest_announcement_of_a_node_counts() {
    let (node, cloud) = check(
        |world| {
            world.say(1, announcement("one"));
            world.say(1, announcement("uno"));
            world.node(1)
        },
        &["AnnounceNode: applied", "AnnounceNode: applied"],
    );
    assert_eq!(cloud.nodes[&node].announced, Some(announcement("uno")));
}

#[test]
fn a_chain_opens_once_at_its_beginning() {
    check(
        |world| {
            world.say(
                1,
                OpenChain {
                    invitation: Vec::new(),
                    before: None,
                },
            );
        },
        &["OpenChain: the node that says so has no right to"],
    );
}

#[test]
fn a_stranger_announces_nothing() {
    let mut world = World::new();
    let stranger = world.add_node();
    let from = world.ops.len();
    world.say(stranger, announcement("me"));
    let cloud = check_ops(
        &world,
        from,
        &["AnnounceNode: the node that says so has no right to"],
    );
    assert_eq!(cloud.nodes.len(), 3);
}

#[test]
fn only_the_first_entry_of_a_chain_opens_it() {
    let mut world = World::empty();
    let node = world.add_node();
    let open = ledger::report::Report::from(OpenChain {
        invitation: Vec::new(),
        before: None,
    })
    .to_entry();
    world.op(node, vec![open.clone(), open]);
    check_ops(
        &world,
        0,
        &[
            "OpenChain: applied",
            "OpenChain: the node that says so has no right to",
        ],
    );
}

#[test]
fn announcements_of_both_versions_fold_in_one_log_and_the_newest_word_counts() {
    let payout = Some(AccountId([4; 32]));
    let paid = AnnounceNode {
        payout,
        ..announcement("paid")
    };
    let unpaid = AnnounceNode {
        payout: None,
        ..paid.clone()
    };
    let (old, new) = (
        AnnounceNodeV1::of(&paid).to_entry(),
        Report::from(paid.clone()).to_entry(),
    );
    assert_eq!((old.version, new.version), (1, 2));
    for (entries, expect) in [
        ([&old, &new], &paid),
        ([&new, &old], &unpaid),
        ([&old, &old], &unpaid),
    ] {
        let (world, cloud) = check(
            |world| {
                for entry in entries {
                    world.op(1, vec![entry.clone()]);
                }
                (world.node(1), world.genesis.clone(), world.ops.clone())
            },
            &["AnnounceNode: applied", "AnnounceNode: applied"],
        );
        let (node, genesis, ops) = world;
        assert_eq!(cloud.nodes[&node].announced.as_ref(), Some(expect));
        let mut fold = Fold::new(genesis);
        let ids: Vec<_> = ops.iter().map(|op| op.id()).collect();
        ops.into_iter().rev().for_each(|op| drop(fold.apply(vec![op])));
        assert_eq!(fold.cloud(), cloud, "in the other order of arrival");
        let kept: Vec<_> = fold.ops().iter().map(|folded| folded.op.id()).collect();
        assert_eq!(kept, ids, "an old op keeps its id");
        let entry = fold.ops().iter().find_map(|folded| {
            let entry = folded.op.body().entries.first()?;
            (entry.kind == 0x102).then_some(entry)
        });
        assert_eq!(entry, Some(entries[0]), "and its bytes");
    }
}

fn revoke(world: &mut World, node: usize) {
    let node = world.node(node);
    world.sees_all = true;
    world.approve("admin", Act::RevokeNode { node, cutoff: None });
    world.sees_all = false;
}

#[test]
fn nothing_counts_that_a_revoked_node_says() {
    let ((), cloud) = check(
        |world| {
            world.say(1, announcement("one"));
            revoke(world, 1);
            world.say(1, announcement("uno"));
            world.say(1, RenewMembership {});
            world.restart(1);
            revoke(world, 1);
            world.say(2, announcement("two"));
        },
        &[
            "AnnounceNode: applied",
            "ApproveAct: applied",
            "AnnounceNode: the node of its op was revoked",
            "RenewMembership: the node of its op was revoked",
            "OpenChain: the node of its op was revoked",
            "ApproveAct: it is so already: the act took effect",
            "AnnounceNode: applied",
        ],
    );
    assert_eq!(cloud.members(None).count(), 2);
    let revoked = cloud.revocations.keys().next().expect("one is revoked");
    assert_eq!(cloud.membership(*revoked, None), Some(Membership::Revoked));
    assert_eq!(cloud.nodes[revoked].announced, Some(announcement("one")));
}

#[test]
fn what_a_revoked_node_carried_another_may_carry() {
    let mut world = World::new();
    let from = world.ops.len();
    revoke(&mut world, 1);
    let command = world.sign("carol", OpenAccount { name: "carol".into() });
    let carry = || Carry {
        command: command.bytes().to_vec(),
    };
    world.say(1, carry());
    let before = check_ops(
        &world,
        from,
        &[
            "ApproveAct: applied",
            "OpenAccount: the node of its op was revoked",
        ],
    );
    assert!(!before.commands.contains_key(&command.id()));
    assert!(
        !before
            .nonces
            .contains_key(&(key("carol"), command.command().nonce))
    );
    world.say(2, carry());
    check_ops(
        &world,
        from,
        &[
            "ApproveAct: applied",
            "OpenAccount: the node of its op was revoked",
            "OpenAccount: applied",
        ],
    );
}

#[test]
fn a_reinstated_node_counts_from_then_on_and_what_was_void_stays_so() {
    let ((), cloud) = check(
        |world| {
            let reinstate = Act::ReinstateNode(world.node(1));
            world.approve("admin", reinstate.clone());
            revoke(world, 1);
            world.say(1, announcement("one"));
            world.approve("admin", reinstate);
            world.restart(1);
            world.say(2, RenewMembership {});
        },
        &[
            "ApproveAct: it is so already: the node is a member",
            "ApproveAct: applied",
            "AnnounceNode: the node of its op was revoked",
            "ApproveAct: applied",
            "OpenChain: applied",
            "RenewMembership: it is so already: the membership was renewed less than a day before",
        ],
    );
    let (node, revocation) = cloud.revocations.iter().next().expect("it is remembered");
    assert!(revocation.reinstated.is_some());
    assert_eq!(cloud.membership(*node, None), Some(Membership::Member));
    assert_eq!(cloud.nodes[node].announced, None);
}

#[test]
fn nothing_is_put_on_a_revoked_node() {
    check(
        |world| {
            let build = world.build("alice");
            let instance = world.launch("alice", "web", build);
            revoke(world, 1);
            world.place(0, instance, 1, None, 1);
            world.place(0, instance, 1, None, 2);
            revoke(world, 2);
            let on_revoked = BuildImage {
                name: "image".into(),
                context: Digest([1; 32]),
                context_bytes: 1,
                held_by: world.node(2),
            };
            world.ask("alice", on_revoked);
        },
        &[
            "BuildImage: applied",
            "LaunchInstance: applied",
            "ApproveAct: applied",
            "PlaceInstance: there is no such",
            "PlaceInstance: applied",
            "ApproveAct: applied",
            "BuildImage: there is no such",
        ],
    );
}

#[test]
fn a_node_that_is_not_known_is_neither_revoked_nor_reinstated() {
    check(
        |world| {
            let stranger = world.add_node();
            revoke(world, stranger);
            world.approve("admin", Act::ReinstateNode(world.node(stranger)));
        },
        &[
            "ApproveAct: there is no such node",
            "ApproveAct: there is no such node",
        ],
    );
}

#[test]
fn a_day_after_the_last_a_renewal_counts() {
    let (node, cloud) = check(
        |world| {
            world.now_ms += RENEWAL_MS_MIN;
            world.say(1, RenewMembership {});
            world.say(1, RenewMembership {});
            world.node(1)
        },
        &["RenewMembership: applied", "RenewMembership: it is so already"],
    );
    let node = &cloud.nodes[&node];
    assert!(node.renewed_ms >= node.joined.ms() + RENEWAL_MS_MIN);
}

/// Without a certificate no time is certified, however late the ops are.
#[test]
fn no_quorum_no_expiry() {
    check(
        |world| {
            world.now_ms += 400 * RENEWAL_MS_MIN;
            world.say(1, announcement("one"));
        },
        &["AnnounceNode: applied"],
    );
}

#[test]
fn an_invitation_counts_while_its_signer_is_an_admin() {
    let mut world = World::with_admins(&["ada", "ben"], 1);
    world.join();
    let (early, late) = (world.add_node(), world.add_node());
    let from = world.ops.len();
    let open = |world: &mut World, node: usize, incarnation: bool| {
        let invitation = Invitation {
            genesis: world.genesis.clone(),
            node: world.node(node),
            admin: key("ben"),
            peers: Vec::new(),
        };
        let invitation = world.invite("ben", invitation);
        let before = None;
        if incarnation {
            world.begin_again(node);
        }
        world.say(node, OpenChain { invitation, before });
    };
    open(&mut world, early, false);
    world.approve("ada", Act::RemoveAdmin(key("ben")));
    open(&mut world, late, false);
    open(&mut world, early, true);
    check_ops(
        &world,
        from,
        &[
            "OpenChain: applied",
            "ApproveAct: applied",
            "OpenChain: ed25519:",
            "OpenChain: applied",
        ],
    );
}

/// The certificate's time ends the lease of what comes after it, and nothing else does.
#[test]
fn a_lease_ends_with_a_certificate() {
    let mut world = World::new();
    world.now_ms += LEASE_MS / 2;
    world.say(1, RenewMembership {});
    world.now_ms += LEASE_MS / 2;
    let early = world.say(2, announcement("early"));
    let certified = checkpoint(&world, None, world.now_ms, world.ops.clone());
    let one = world.say(1, announcement("one"));
    let two = world.say(2, announcement("two"));
    let again = world.restart(2);
    let approval = ApproveAct {
        act: Act::ReinstateNode(world.node(2)),
        salt: [0; 16],
        expires_ms: world.now_ms + 1000,
    };
    let command = world.sign("admin", approval).bytes().to_vec();
    let reinstate = world.say(1, Carry { command });
    let back = world.say(2, announcement("back"));
    let mut fold = Fold::new(world.genesis.clone());
    fold.finalize(&certified.checkpoint, certified.covered);
    fold.apply(world.ops.clone());
    let outcome = |op| fold.outcomes(op).expect("folded")[0].clone();
    let (applied, expired) = (Outcome::Applied, Outcome::Void(Void::MembershipExpired));
    assert_eq!(outcome(early), applied);
    assert_eq!([two, again].map(outcome), [expired.clone(), expired]);
    for op in [one, reinstate, back] {
        assert_eq!(outcome(op), applied);
    }
}
