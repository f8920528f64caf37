//! Agents and domains: names, and whose they are.

use ledger::command::agents::UpdateAgent;
use ledger::id::{AgentId, BuildId};

use crate::check;
use crate::script::release;

#[test]
fn an_agent_has_a_name_of_its_own() {
    check(
        |world| {
            let (of_alice, of_bob) = (world.build("alice"), world.build("bob"));
            world.register("alice", "hello", of_alice);
            world.register("bob", "hello", of_bob);
            world.register("alice", "hello", of_alice);
            world.register("bob", "good-day", of_bob);
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "RegisterAgent: applied",
            "RegisterAgent: the name `hello` is taken",
            "RegisterAgent: the name `hello` is taken",
            "RegisterAgent: applied",
        ],
    );
}

#[test]
fn an_agent_is_made_of_an_image_of_its_account() {
    check(
        |world| {
            let of_bob = world.build("bob");
            world.register("alice", "hello", of_bob);
            world.register("alice", "hello", BuildId([4; 32]));
        },
        &[
            "BuildImage: applied",
            "RegisterAgent: it belongs to another account",
            "RegisterAgent: there is no such build: 0404",
        ],
    );
}

#[test]
fn only_its_owner_updates_an_agent_and_only_with_an_own_image() {
    let (agent, cloud) = check(
        |world| {
            let (one, two, of_bob) = (world.build("alice"), world.build("alice"), world.build("bob"));
            let agent = world.register("alice", "hello", one);
            world.ask(
                "bob",
                UpdateAgent {
                    agent,
                    release: release(of_bob),
                },
            );
            world.ask(
                "alice",
                UpdateAgent {
                    agent,
                    release: release(of_bob),
                },
            );
            world.ask(
                "alice",
                UpdateAgent {
                    agent: AgentId([4; 32]),
                    release: release(two),
                },
            );
            world.ask(
                "alice",
                UpdateAgent {
                    agent,
                    release: release(two),
                },
            );
            (agent, two)
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "BuildImage: applied",
            "RegisterAgent: applied",
            "UpdateAgent: it belongs to another account",
            "UpdateAgent: it belongs to another account",
            "UpdateAgent: there is no such agent: 0404",
            "UpdateAgent: applied",
        ],
    );
    let (agent, build) = (&cloud.agents[&agent.0], agent.1);
    assert_eq!((agent.version, agent.release.build), (2, build));
    assert!(agent.updated > agent.registered);
}

#[test]
fn the_first_claim_of_a_domain_counts_until_it_is_given_back() {
    let (of_bob, cloud) = check(
        |world| {
            let (image_a, image_b) = (world.build("alice"), world.build("bob"));
            let of_alice = world.register("alice", "a", image_a);
            let of_bob = world.register("bob", "b", image_b);
            world.claim("alice", "shop.fog", of_alice);
            world.claim("bob", "shop.fog", of_bob);
            world.claim("alice", "shop.fog", of_alice);
            world.release("bob", "shop.fog");
            world.release("alice", "shop.fog");
            world.release("alice", "shop.fog");
            world.claim("bob", "shop.fog", of_bob);
            of_bob
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "RegisterAgent: applied",
            "RegisterAgent: applied",
            "ClaimDomain: applied",
            "ClaimDomain: the name `shop.fog` is taken",
            "ClaimDomain: the name `shop.fog` is taken",
            "ReleaseDomain: it belongs to another account",
            "ReleaseDomain: applied",
            "ReleaseDomain: there is no such domain: shop.fog",
            "ClaimDomain: applied",
        ],
    );
    assert_eq!(cloud.agent_at("shop.fog").map(|agent| agent.id), Some(of_bob));
}

#[test]
fn a_domain_leads_to_an_agent_of_who_claims_it() {
    check(
        |world| {
            let image = world.build("alice");
            let agent = world.register("alice", "a", image);
            world.claim("bob", "shop.fog", agent);
            world.claim("bob", "shop.fog", AgentId([4; 32]));
        },
        &[
            "BuildImage: applied",
            "RegisterAgent: applied",
            "ClaimDomain: it belongs to another account",
            "ClaimDomain: there is no such agent: 0404",
        ],
    );
}

#[test]
fn the_vanity_name_of_an_agent_is_its_owners() {
    let ((one, two), cloud) = check(
        |world| {
            let (image_a, image_b) = (world.build("alice"), world.build("bob"));
            let one = world.register("alice", "one", image_a);
            let two = world.register("alice", "two", image_a);
            let of_bob = world.register("bob", "bobs", image_b);
            world.claim("bob", "one.fog", of_bob);
            world.claim("alice", "one.fog", two);
            (one, two)
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "RegisterAgent: applied",
            "RegisterAgent: applied",
            "RegisterAgent: applied",
            "ClaimDomain: the name `one.fog` is taken",
            "ClaimDomain: applied",
        ],
    );
    assert_eq!(
        cloud.agent_at("one.fog").map(|agent| agent.id),
        Some(two),
        "a claim goes before"
    );
    assert_eq!(cloud.agent_at("two.fog").map(|agent| agent.id), Some(two));
    assert_eq!(cloud.vanity_agent("one.fog").map(|agent| agent.id), Some(one));
    assert_eq!(cloud.agent_at("three.fog"), None);
}

#[test]
fn no_agent_is_named_after_a_domain_of_somebody_else() {
    check(
        |world| {
            let (image_a, image_b) = (world.build("alice"), world.build("bob"));
            let of_alice = world.register("alice", "a", image_a);
            world.claim("alice", "shop.fog", of_alice);
            world.register("bob", "shop", image_b);
            world.register("alice", "shop", image_a);
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "RegisterAgent: applied",
            "ClaimDomain: applied",
            "RegisterAgent: the name `shop` is taken",
            "RegisterAgent: applied",
        ],
    );
}
