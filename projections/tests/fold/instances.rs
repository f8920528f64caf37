//! Instances: launch and end, placement, status.

use ledger::id::{AgentId, BuildId, InstanceId, NodeId, OpId};
use ledger::report::instances::{Phase, PlaceInstance};
use projections::cloud::Cloud;
use projections::instances::{ACCOUNT_INSTANCES_MAX, Instance, PLACEMENTS_MAX, Wanted};
use projections::rendezvous;

use crate::script::{World, failed, launch};
use crate::{check, check_ops};

/// A world with one instance of alice, and the instance; the ops from the number on are the script's.
fn one_instance() -> (World, InstanceId, usize) {
    let mut world = World::new();
    let image = world.build("alice");
    let instance = world.launch("alice", "web", image);
    let from = world.ops.len();
    (world, instance, from)
}

fn phase(cloud: &Cloud, instance: InstanceId) -> Option<Phase> {
    cloud.instances[&instance]
        .status
        .as_ref()
        .map(|status| status.phase.clone())
}

#[test]
fn an_instance_has_its_name_within_its_account_till_it_is_deleted() {
    check(
        |world| {
            let (of_alice, of_bob) = (world.build("alice"), world.build("bob"));
            let first = world.launch("alice", "web", of_alice);
            world.launch("alice", "web", of_alice);
            world.launch("bob", "web", of_bob);
            world.delete("alice", first);
            world.launch("alice", "web", of_alice);
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "LaunchInstance: applied",
            "LaunchInstance: the name `web` is taken",
            "LaunchInstance: applied",
            "DeleteInstance: applied",
            "LaunchInstance: applied",
        ],
    );
}

#[test]
fn an_instance_is_made_of_what_its_account_owns() {
    check(
        |world| {
            let (of_alice, of_bob) = (world.build("alice"), world.build("bob"));
            let agent = world.register("bob", "b", of_bob);
            world.ask("alice", launch("web", of_bob, None));
            world.ask("alice", launch("web", BuildId([4; 32]), None));
            world.ask("alice", launch("web", of_alice, Some(agent)));
            world.ask("alice", launch("web", of_alice, Some(AgentId([4; 32]))));
            world.ask("bob", launch("web", of_bob, Some(agent)));
        },
        &[
            "BuildImage: applied",
            "BuildImage: applied",
            "RegisterAgent: applied",
            "LaunchInstance: it belongs to another account",
            "LaunchInstance: there is no such build: 0404",
            "LaunchInstance: it belongs to another account",
            "LaunchInstance: there is no such agent: 0404",
            "LaunchInstance: applied",
        ],
    );
}

#[test]
fn an_account_has_a_limit_of_live_instances() {
    let mut world = World::new();
    let (of_alice, of_bob) = (world.build("alice"), world.build("bob"));
    let first = world.launch("alice", "first", of_alice);
    for n in 1..ACCOUNT_INSTANCES_MAX {
        world.launch("alice", &format!("web-{n}"), of_alice);
    }
    let from = world.ops.len();
    world.launch("alice", "one-more", of_alice);
    world.launch("bob", "another-account", of_bob);
    world.delete("alice", first);
    world.launch("alice", "now", of_alice);
    let refused = "LaunchInstance: the account has 256 instances";
    let applied = "LaunchInstance: applied";
    check_ops(
        &world,
        from,
        &[refused, applied, "DeleteInstance: applied", applied],
    );
}

#[test]
fn only_its_owner_stops_starts_and_deletes_an_instance() {
    let (mut world, instance, from) = one_instance();
    world.stop("bob", instance);
    world.start("bob", instance);
    world.delete("bob", instance);
    world.stop("alice", InstanceId([4; 32]));
    world.stop("alice", instance);
    world.stop("alice", instance);
    let stopped = check_ops(
        &world,
        from,
        &[
            "StopInstance: it belongs to another account",
            "StartInstance: it belongs to another account",
            "DeleteInstance: it belongs to another account",
            "StopInstance: there is no such instance: 0404",
            "StopInstance: applied",
            "StopInstance: applied",
        ],
    );
    assert_eq!(stopped.instances[&instance].wanted, Wanted::Stopped);
    let from = world.ops.len();
    world.start("alice", instance);
    let started = check_ops(&world, from, &["StartInstance: applied"]);
    assert_eq!(started.instances[&instance].wanted, Wanted::Running);
    assert!(started.instances[&instance].wanted_at > stopped.instances[&instance].wanted_at);
}

#[test]
fn deleted_is_final_and_an_instance_without_a_place_goes_at_once() {
    let (mut world, instance, from) = one_instance();
    world.delete("alice", instance);
    world.start("alice", instance);
    world.delete("alice", instance);
    world.place(0, instance, 1, None, 0);
    let cloud = check_ops(
        &world,
        from,
        &[
            "DeleteInstance: applied",
            "StartInstance: there is no such instance",
            "DeleteInstance: there is no such instance",
            "PlaceInstance: there is no such instance",
        ],
    );
    assert!(cloud.instances.is_empty() && cloud.instance_names.is_empty());
}

#[test]
fn a_placed_instance_that_is_deleted_stays_until_its_holder_has_nothing_left() {
    let (mut world, instance, from) = one_instance();
    let placed = world.place(0, instance, 1, None, 1);
    world.delete("alice", instance);
    world.start("alice", instance);
    world.stop("alice", instance);
    world.delete("alice", instance);
    world.place(0, instance, 2, Some(placed), 2);
    world.cannot_place(0, instance, 2);
    world.changed(2, instance, 1, 1, Phase::Deleted);
    world.changed(1, instance, 1, 1, Phase::Stopped);
    let cloud = check_ops(
        &world,
        from,
        &[
            "PlaceInstance: applied",
            "DeleteInstance: applied",
            "StartInstance: it was deleted",
            "StopInstance: it was deleted",
            "DeleteInstance: it was deleted",
            "PlaceInstance: it was deleted",
            "CannotPlace: it was deleted",
            "InstanceChanged: the node that says so has no right to",
            "InstanceChanged: applied",
        ],
    );
    assert_eq!(cloud.instances[&instance].wanted, Wanted::Deleted);
    assert!(cloud.instance_names.is_empty(), "its name is free");
    let from = world.ops.len();
    world.changed(1, instance, 1, 1, Phase::Deleted);
    world.changed(1, instance, 1, 1, Phase::Deleted);
    let cloud = check_ops(
        &world,
        from,
        &[
            "InstanceChanged: applied",
            "InstanceChanged: there is no such instance",
        ],
    );
    assert!(cloud.instances.is_empty());
}

#[test]
fn an_instance_whose_holder_has_nothing_left_already_goes_when_it_is_deleted() {
    let (mut world, instance, from) = one_instance();
    world.place(0, instance, 1, None, 1);
    world.changed(1, instance, 1, 1, Phase::Deleted);
    world.delete("alice", instance);
    let applied = [
        "PlaceInstance: applied",
        "InstanceChanged: applied",
        "DeleteInstance: applied",
    ];
    assert!(check_ops(&world, from, &applied).instances.is_empty());
}

#[test]
fn a_placement_builds_on_one_of_the_generation_before() {
    let (mut world, instance, from) = one_instance();
    let other_build = world.build("alice");
    let other = world.launch("alice", "other", other_build);
    let first = world.place(0, instance, 1, None, 1);
    let second = world.place(1, instance, 2, Some(first), 2);
    world.place(1, instance, 9, Some(second), 0);
    world.place(1, instance, 4, Some(second), 0);
    world.place(1, instance, 2, Some(OpId([4; 32])), 0);
    world.place(1, other, 2, Some(first), 0);
    world.say(
        0,
        PlaceInstance {
            instance,
            generation: 3,
            previous: Some(second),
            node: NodeId([4; 32]),
        },
    );
    world.place(1, InstanceId([4; 32]), 1, None, 0);
    world.place(1, instance, 3, None, 0);
    let third = world.place(1, instance, 3, Some(second), 0);
    let cloud = check_ops(
        &world,
        from,
        &[
            "BuildImage: applied",
            "LaunchInstance: applied",
            "PlaceInstance: applied",
            "PlaceInstance: applied",
            "PlaceInstance: the report is not about a placement that counts",
            "PlaceInstance: the report is not about a placement that counts",
            "PlaceInstance: the report is not about a placement that counts",
            "PlaceInstance: the report is not about a placement that counts",
            "PlaceInstance: there is no such node: 0404",
            "PlaceInstance: there is no such instance: 0404",
            "Unknown: the entry is not understood",
            "PlaceInstance: applied",
        ],
    );
    assert_eq!(cloud.instances[&instance].placed, Some(third));
}

#[test]
fn of_one_generation_the_node_that_ranks_highest_counts_then_the_smallest_id() {
    for first in 0..3 {
        for second in 0..3 {
            let (mut world, instance, from) = one_instance();
            let (a, b) = (
                world.place(0, instance, 1, None, first),
                world.place(1, instance, 1, None, second),
            );
            let cloud = check_ops(
                &world,
                from,
                &["PlaceInstance: applied", "PlaceInstance: applied"],
            );
            let (node_a, node_b) = (world.node(first), world.node(second));
            let a_wins = if first == second {
                a < b
            } else {
                rendezvous::order([node_a, node_b], &instance.0)[0] == node_a
            };
            assert_eq!(
                cloud.instances[&instance].placed,
                Some(if a_wins { a } else { b })
            );
        }
    }
}

#[test]
fn a_higher_generation_counts_even_where_it_builds_on_a_loser() {
    let (mut world, instance, from) = one_instance();
    let mut by_rank = rendezvous::order((0..3).map(|node| world.node(node)), &instance.0);
    let index = |id: NodeId, world: &World| (0..3).find(|node| world.node(*node) == id).expect("is one");
    let (last, first) = (by_rank.pop().expect("three"), by_rank[0]);
    let (last, first) = (index(last, &world), index(first, &world));
    let loser = world.place(0, instance, 1, None, last);
    world.place(1, instance, 1, None, first);
    let next = world.place(0, instance, 2, Some(loser), last);
    let cloud = check_ops(&world, from, &["PlaceInstance: applied"; 3]);
    let instance = &cloud.instances[&instance];
    assert_eq!((instance.placed, instance.placements.len()), (Some(next), 3));
}

#[test]
fn one_op_places_an_instance_once() {
    let (mut world, instance, from) = one_instance();
    let place = |node| {
        let report = PlaceInstance {
            instance,
            generation: 1,
            previous: None,
            node,
        };
        ledger::report::Report::from(report).to_entry()
    };
    let entries = vec![place(world.node(0)), place(world.node(1))];
    world.op(0, entries);
    check_ops(
        &world,
        from,
        &["PlaceInstance: applied", "PlaceInstance: it was reported before"],
    );
}

#[test]
fn the_placements_of_an_instance_are_bounded_and_the_one_that_counts_is_kept() {
    let (mut world, instance, from) = one_instance();
    let first = world.place(0, instance, 1, None, 0);
    let mut last = first;
    for generation in 2..PLACEMENTS_MAX as u64 + 20 {
        last = world.place(0, instance, generation, Some(last), (generation % 3) as usize);
    }
    world.place(1, instance, 2, Some(first), 1);
    let mut expect = vec!["PlaceInstance: applied"; PLACEMENTS_MAX + 19];
    expect.push("PlaceInstance: the report is not about a placement that counts");
    let cloud = check_ops(&world, from, &expect);
    let instance = &cloud.instances[&instance];
    assert_eq!(
        (instance.placed, instance.placements.len()),
        (Some(last), PLACEMENTS_MAX)
    );
}

#[test]
fn a_refusal_to_place_stands_until_a_placement() {
    let (mut world, instance, from) = one_instance();
    world.cannot_place(0, instance, 1);
    world.cannot_place(0, instance, 2);
    world.cannot_place(0, InstanceId([4; 32]), 1);
    let cloud = check_ops(
        &world,
        from,
        &[
            "CannotPlace: applied",
            "CannotPlace: the report is not about a placement that counts",
            "CannotPlace: there is no such instance",
        ],
    );
    assert_eq!(
        cloud.instances[&instance].cannot_place.as_deref(),
        Some("too small")
    );
    let from = world.ops.len();
    world.place(0, instance, 1, None, 0);
    world.cannot_place(1, instance, 1);
    let cloud = check_ops(
        &world,
        from,
        &[
            "PlaceInstance: applied",
            "CannotPlace: the report is not about a placement that counts",
        ],
    );
    assert_eq!(cloud.instances[&instance].cannot_place, None);
}

#[test]
fn only_the_holder_says_how_an_instance_stands() {
    let (mut world, instance, from) = one_instance();
    world.changed(1, instance, 1, 1, Phase::Booted);
    world.place(0, instance, 1, None, 1);
    world.changed(0, instance, 1, 1, Phase::Booted);
    world.changed(1, instance, 2, 1, Phase::Booted);
    world.changed(1, InstanceId([4; 32]), 1, 1, Phase::Booted);
    world.changed(1, instance, 1, 1, Phase::Booted);
    let no_right = "InstanceChanged: the node that says so has no right to";
    let none = "InstanceChanged: there is no such instance";
    let cloud = check_ops(
        &world,
        from,
        &[
            no_right,
            "PlaceInstance: applied",
            no_right,
            no_right,
            none,
            "InstanceChanged: applied",
        ],
    );
    assert_eq!(phase(&cloud, instance), Some(Phase::Booted));
}

#[test]
fn reports_of_a_status_count_in_the_order_of_starts_and_phases() {
    let (mut world, instance, from) = one_instance();
    world.place(0, instance, 1, None, 1);
    world.changed(1, instance, 1, 1, Phase::Serving);
    world.changed(1, instance, 1, 1, Phase::Booted);
    world.changed(1, instance, 1, 1, failed());
    world.changed(1, instance, 1, 1, Phase::Stopped);
    world.changed(1, instance, 1, 2, Phase::Booted);
    world.changed(1, instance, 1, 1, Phase::Deleted);
    let before = "InstanceChanged: it was reported before";
    let applied = "InstanceChanged: applied";
    let cloud = check_ops(
        &world,
        from,
        &[
            "PlaceInstance: applied",
            applied,
            before,
            applied,
            before,
            applied,
            before,
        ],
    );
    let status = cloud.instances[&instance].status.clone().expect("was told");
    assert_eq!(
        (status.generation, status.start, status.phase),
        (1, 2, Phase::Booted)
    );
}

#[test]
fn a_new_placement_begins_without_a_status_and_the_old_holder_speaks_no_more() {
    let (mut world, instance, from) = one_instance();
    let first = world.place(0, instance, 1, None, 1);
    world.changed(1, instance, 1, 3, Phase::Serving);
    world.place(0, instance, 2, Some(first), 2);
    world.changed(1, instance, 1, 4, Phase::Booted);
    let cloud = check_ops(
        &world,
        from,
        &[
            "PlaceInstance: applied",
            "InstanceChanged: applied",
            "PlaceInstance: applied",
            "InstanceChanged: the report is not about a placement that counts",
        ],
    );
    assert_eq!(phase(&cloud, instance), None);
    world.changed(2, instance, 2, 1, Phase::Booted);
    let cloud = check_ops(&world, world.ops.len() - 1, &["InstanceChanged: applied"]);
    assert_eq!(phase(&cloud, instance), Some(Phase::Booted));
}

#[test]
fn an_instance_that_failed_and_is_asked_to_start_has_not_ended() {
    let (mut world, instance, _) = one_instance();
    world.place(0, instance, 1, None, 1);
    let ended = |world: &World| {
        check_ops(world, world.ops.len(), &[])
            .instances
            .get(&instance)
            .map(Instance::has_ended)
    };
    assert_eq!(ended(&world), Some(false));
    world.changed(1, instance, 1, 1, failed());
    assert_eq!(ended(&world), Some(true));
    world.start("alice", instance);
    assert_eq!(ended(&world), Some(false));
    world.changed(1, instance, 1, 2, failed());
    assert_eq!(ended(&world), Some(true));
}

#[test]
fn of_two_ends_of_one_start_the_first_that_is_told_counts() {
    for (first, second) in [(Phase::Stopped, failed()), (failed(), Phase::Stopped)] {
        let (mut world, instance, from) = one_instance();
        world.place(0, instance, 1, None, 1);
        world.changed(1, instance, 1, 1, first.clone());
        world.changed(1, instance, 1, 1, second);
        let expect = [
            "PlaceInstance: applied",
            "InstanceChanged: applied",
            "InstanceChanged: it was reported before",
        ];
        assert_eq!(phase(&check_ops(&world, from, &expect), instance), Some(first));
    }
}
