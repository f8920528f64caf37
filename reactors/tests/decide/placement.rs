//! Where instances go.

use ledger::command::instances::Shape;
use ledger::report::nodes::{Capacity, Roles};
use projections::instances::Wanted;
use projections::outcome::{Outcome, Void};
use reactors::action::Action;
use reactors::observed::PRESENCE_TTL_MS;
use reactors::placement::{PLACEMENT_SILENCE_MS, REASON_NODES_MAX};
use reactors::sight::SYNC_PATIENCE_MS;

use crate::world::{ALL, CAPACITY, SHAPE, World};

fn placing(world: &World) -> Vec<String> {
    world
        .all_shown()
        .into_iter()
        .filter(|line| line.contains("place"))
        .collect()
}

fn place_actions(world: &World, index: usize) -> Vec<Action> {
    let actions = world.decide(index).into_iter();
    actions
        .filter(|action| matches!(action, Action::Report(_)))
        .collect()
}

#[test]
fn one_node_alone_places_a_new_instance() {
    let mut world = World::new(5);
    let build = world.built("hello", 0);
    world.launch("a", None, build);
    assert_eq!(placing(&world).len(), 1, "{:?}", placing(&world));
}

#[test]
fn nothing_is_placed_before_its_image_is_built() {
    let mut world = World::new(3);
    let build = world.ask_build("hello");
    world.launch("a", None, build);
    assert_eq!(placing(&world), Vec::<String>::new());
    world.finish(build, 0);
    assert_eq!(placing(&world).len(), 1);
}

#[test]
fn an_instance_that_shall_not_run_is_not_placed() {
    let mut world = World::new(3);
    let build = world.built("hello", 0);
    let instance = world.launch("a", None, build);
    world.stop(instance);
    assert_eq!(placing(&world), Vec::<String>::new());
}

#[test]
fn instances_of_one_agent_spread_over_the_nodes() {
    let mut world = World::new(3);
    let build = world.built("hello", 0);
    let agent = world.agent("hello", build);
    let instances: Vec<_> = (0..6)
        .map(|n| world.launch(&format!("a{n}"), Some(agent), build))
        .collect();
    world.settle();
    let mut counts = [0; 3];
    for instance in instances {
        counts[world.holder(instance).expect("placed")] += 1;
    }
    assert_eq!(counts, [2, 2, 2]);
}

#[test]
fn the_node_with_the_most_free_memory_is_taken() {
    let mut world = World::empty();
    for memory_mib in [2048, 8192, 4096] {
        world.join(
            ALL,
            Capacity {
                memory_mib,
                ..CAPACITY
            },
        );
    }
    world.command(ledger::command::accounts::OpenAccount { name: "ann".into() }.into());
    world.pass(60_000);
    let build = world.built("hello", 0);
    let instance = world.launch("a", None, build);
    world.settle();
    assert_eq!(world.holder(instance), Some(1));
}

#[test]
fn one_decision_does_not_fill_a_node_twice() {
    // Each node has room for one; both are placed by one scheduler in one go.
    let mut world = World::empty();
    for _ in 0..2 {
        world.join(
            ALL,
            Capacity {
                memory_mib: 600,
                ..CAPACITY
            },
        );
    }
    world.command(ledger::command::accounts::OpenAccount { name: "ann".into() }.into());
    world.pass(60_000);
    let build = world.built("hello", 0);
    let first = world.launch("a", None, build);
    let second = world.launch("b", None, build);
    world.nodes[1].up = false;
    world.pass(PRESENCE_TTL_MS + 1_000);
    world.nodes[1].up = true;
    // Node 0 alone knows itself responsible for both; it hears of node 1 again at the same time.
    world.settle();
    assert_ne!(world.holder(first), world.holder(second));
}

#[test]
fn a_node_without_room_says_why_and_says_it_once() {
    let mut world = World::new(2);
    let without = Roles {
        compute: false,
        ..ALL
    };
    world.join(without, CAPACITY);
    world.pass(60_000);
    let build = world.built("hello", 0);
    let instance = world.launch_shaped(
        "big",
        None,
        build,
        Shape {
            memory_mib: 9000,
            ..SHAPE
        },
    );
    let done = world.settle();
    let why = "no node can hold 1 vCPUs, 9000 MiB of memory and 2 GiB of disk: n0: 4096 of 4096 MiB of memory \
               free; n1: 4096 of 4096 MiB of memory free; n2: runs no machines";
    let told: Vec<_> = done.iter().filter(|line| line.contains("cannot place")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].ends_with(&format!("cannot place big g1: {why}")),
        "{told:?}"
    );
    assert_eq!(
        world.cloud().instances[&instance].cannot_place.as_deref(),
        Some(why)
    );
    assert_eq!(placing(&world), Vec::<String>::new());
    // A node that can hold it comes: it is placed after all.
    let large = world.join(
        ALL,
        Capacity {
            memory_mib: 16_000,
            ..CAPACITY
        },
    );
    world.pass(10_000);
    world.settle();
    assert_eq!(world.holder(instance), Some(large));
    assert_eq!(world.cloud().instances[&instance].cannot_place, None);
}

#[test]
fn each_shortage_is_named() {
    let cases = [
        (Shape { vcpus: 9, ..SHAPE }, "n0: 4 of 4 vCPUs free"),
        (
            Shape {
                memory_mib: 9000,
                ..SHAPE
            },
            "n0: 4096 of 4096 MiB of memory free",
        ),
        (
            Shape {
                disk_gib: 101,
                ..SHAPE
            },
            "n0: 100 of 100 GiB of disk free",
        ),
    ];
    for (shape, why) in cases {
        let mut world = World::new(1);
        let build = world.built("hello", 0);
        world.launch_shaped("big", None, build, shape);
        let placing = placing(&world);
        assert!(
            placing.len() == 1 && placing[0].ends_with(why),
            "{placing:?} lacks {why}"
        );
    }
}

#[test]
fn a_reason_names_some_nodes_and_counts_the_others() {
    let mut world = World::new(REASON_NODES_MAX + 3);
    let build = world.built("hello", 0);
    world.launch_shaped("big", None, build, Shape { vcpus: 9, ..SHAPE });
    let placing = placing(&world);
    assert!(placing[0].ends_with("; and 3 more nodes"), "{placing:?}");
}

#[test]
fn an_instance_of_a_failed_build_says_so() {
    let mut world = World::new(1);
    let build = world.ask_build("hello");
    world.fail(
        build,
        0,
        "Get:1 http://deb\nE: Unable to locate package pythn3\n\n",
    );
    world.launch("a", None, build);
    let why = "its image could not be built: E: Unable to locate package pythn3";
    assert_eq!(placing(&world), [format!("n0: cannot place a g1: {why}")]);
}

#[test]
fn a_silent_holder_loses_its_instance_once() {
    let mut world = World::new(3);
    let instance = world.placed("a", 1);
    world.settle();
    world.nodes[1].up = false;
    world.pass(PLACEMENT_SILENCE_MS);
    assert_eq!(
        placing(&world),
        Vec::<String>::new(),
        "not before the silence is over"
    );
    world.pass(1);
    let done = world.settle();
    let placed: Vec<_> = done
        .iter()
        .filter(|line| line.contains("place a g2 on"))
        .collect();
    assert_eq!(placed.len(), 1, "{done:?}");
    let holder = world.holder(instance).expect("placed");
    assert_ne!(holder, 1);
    assert!(world.nodes[holder].observed.machines.contains_key(&instance));
    world.pass(60_000);
    assert_eq!(placing(&world), Vec::<String>::new());
}

#[test]
fn a_node_that_comes_back_in_time_keeps_its_instance() {
    let mut world = World::new(3);
    let instance = world.placed("a", 1);
    world.settle();
    world.nodes[1].up = false;
    world.pass(PLACEMENT_SILENCE_MS - 1_000);
    world.nodes[1].up = true;
    world.pass(60_000);
    assert_eq!(placing(&world), Vec::<String>::new());
    assert_eq!(world.holder(instance), Some(1));
}

#[test]
fn a_node_that_comes_back_too_late_gives_up_its_machine() {
    let mut world = World::new(3);
    let instance = world.placed("a", 1);
    world.settle();
    world.nodes[1].up = false;
    world.pass(PLACEMENT_SILENCE_MS + 1);
    world.settle();
    world.nodes[1].up = true;
    let done = world.settle();
    assert_eq!(done, ["n1: stop a g2", "n1: delete a g2"]);
    assert!(world.nodes[1].observed.machines.is_empty());
    assert_ne!(world.holder(instance), Some(1));
}

#[test]
fn a_stopped_or_deleted_instance_stays_with_its_lost_holder() {
    for wanted in [Wanted::Stopped, Wanted::Deleted] {
        let mut world = World::new(3);
        let instance = world.placed("a", 1);
        world.settle();
        if wanted == Wanted::Stopped {
            world.stop(instance)
        } else {
            world.delete(instance)
        }
        world.nodes[1].up = false;
        world.pass(10 * PLACEMENT_SILENCE_MS);
        assert_eq!(placing(&world), Vec::<String>::new(), "{wanted:?}");
    }
}

#[test]
fn a_holder_that_comes_back_without_the_role_loses_its_instances() {
    let mut world = World::new(3);
    let instance = world.placed("a", 1);
    world.settle();
    world.nodes[1].me.roles.compute = false;
    world.announce(1);
    world.settle();
    assert_ne!(world.holder(instance), Some(1));
    assert!(world.nodes[1].observed.machines.is_empty());
}

#[test]
fn a_node_that_has_just_started_declares_nobody_dead() {
    let mut world = World::new(2);
    let instance = world.placed("a", 1);
    world.settle();
    world.nodes[1].up = false;
    // Node 0 starts again and has never heard node 1.
    world.restart(0);
    world.pass(PLACEMENT_SILENCE_MS);
    assert_eq!(placing(&world), Vec::<String>::new());
    world.pass(1_000);
    assert_eq!(placing(&world), ["n0: place a g2 on n0"]);
    assert_eq!(world.holder(instance), Some(1));
}

#[test]
fn a_node_that_has_just_started_places_nothing_before_it_has_heard_the_others() {
    let mut world = World::new(1);
    let build = world.built("hello", 0);
    world.launch("a", None, build);
    world.restart(0);
    world.pass(PRESENCE_TTL_MS - 1);
    assert_eq!(placing(&world), Vec::<String>::new());
    world.pass(1);
    assert_eq!(placing(&world).len(), 1);
}

#[test]
fn a_node_that_has_not_caught_up_places_nothing_for_a_while() {
    let mut world = World::new(1);
    let build = world.built("hello", 0);
    world.launch("a", None, build);
    world.restart(0);
    world.nodes[0].observed.synced = false;
    world.pass(SYNC_PATIENCE_MS - 1);
    assert_eq!(placing(&world), Vec::<String>::new());
    world.pass(1);
    assert_eq!(placing(&world).len(), 1);
}

#[test]
fn two_schedulers_that_do_not_hear_each_other_settle_through_the_fold() {
    // Some instance ids make the two choose alike; among many, both kinds of case come up.
    let mut rivals = 0;
    for round in 0..12 {
        let mut world = World::new(2);
        let build = world.built("hello", 0);
        world.hold(1, crate::world::image_of(build));
        let instance = world.launch(&format!("a{round}"), None, build);
        // Neither hears the other: each takes itself for the only one that is live.
        for index in 0..2 {
            let other = world.id(1 - index);
            world.nodes[index].observed.presences.remove(&other);
        }
        let decided: Vec<_> = (0..2).map(|index| place_actions(&world, index)).collect();
        assert_eq!((decided[0].len(), decided[1].len()), (1, 1));
        for (index, actions) in decided.into_iter().enumerate() {
            world.perform(index, actions);
        }
        assert_eq!(world.cloud().instances[&instance].placements.len(), 2);
        rivals += 1;
        // They hear each other again: one machine runs, where the fold says.
        world.settle();
        let holder = world.holder(instance).expect("placed");
        for (index, node) in world.nodes.iter().enumerate() {
            assert_eq!(node.observed.machines.contains_key(&instance), index == holder);
        }
    }
    assert_eq!(rivals, 12);
}

#[test]
fn what_two_schedulers_put_into_one_gap_goes_on_to_another_node() {
    let mut world = World::empty();
    for memory_mib in [600, 0, 600] {
        world.join(
            ALL,
            Capacity {
                memory_mib,
                ..CAPACITY
            },
        );
    }
    world.command(ledger::command::accounts::OpenAccount { name: "ann".into() }.into());
    world.pass(60_000);
    let build = world.built("hello", 0);
    let first = world.launch("a", None, build);
    let second = world.launch("b", None, build);
    world.place(first, 1, 0);
    world.place(second, 1, 0);
    let done = world.settle();
    assert!(!done.contains(&"n0: start b g1 s1".to_owned()), "{done:?}");
    assert_eq!(
        (world.holder(first), world.holder(second)),
        (Some(0), Some(2)),
        "{done:?}"
    );
    // A third finds no room anywhere: it waits where it is, and the log says why, until one goes.
    let third = world.launch("c", None, build);
    world.place(third, 1, 0);
    world.settle();
    assert!(
        world
            .nodes
            .iter()
            .all(|node| !node.observed.machines.contains_key(&third))
    );
    let why = world.cloud().instances[&third].cannot_place.clone();
    assert!(why.is_some_and(|why| why.contains("n0: 0 of 600 MiB of memory free")));
    world.delete(first);
    world.settle();
    assert!(world.nodes[0].observed.machines[&third].state.is_alive());
}

#[test]
fn what_has_begun_is_not_crowded_out_when_its_node_shrinks() {
    let mut world = World::new(3);
    let instance = world.placed("a", 1);
    world.settle();
    world.nodes[1].me.capacity.memory_mib = 100;
    world.announce(1);
    assert_eq!(world.settle(), Vec::<String>::new());
    assert_eq!(world.holder(instance), Some(1));
}

#[test]
fn a_placement_on_a_stale_predecessor_is_void() {
    let mut world = World::new(3);
    let instance = world.placed("a", 1);
    let first = world.cloud().instances[&instance].placed;
    world.place(instance, 2, 2);
    let node = world.id(0);
    let stale = ledger::report::instances::PlaceInstance {
        instance,
        generation: 3,
        previous: first,
        node,
    };
    let op = world.report(0, stale);
    assert_eq!(world.outcome(op), Outcome::Void(Void::StalePlacement));
}

#[test]
fn a_node_knows_that_it_lives_before_it_has_told_anyone() {
    let mut world = World::new(1);
    let build = world.built("hello", 0);
    world.launch("a", None, build);
    world.nodes[0].observed.presences.clear();
    assert_eq!(placing(&world), ["n0: place a g1 on n0"]);
}

#[test]
fn the_spread_of_an_agent_goes_before_free_memory() {
    let mut world = World::empty();
    for memory_mib in [16_000, 2_000] {
        world.join(
            ALL,
            Capacity {
                memory_mib,
                ..CAPACITY
            },
        );
    }
    world.command(ledger::command::accounts::OpenAccount { name: "ann".into() }.into());
    world.pass(60_000);
    let build = world.built("hello", 0);
    let agent = world.agent("hello", build);
    let first = world.launch("a", Some(agent), build);
    world.settle();
    let second = world.launch("b", Some(agent), build);
    world.settle();
    assert_eq!((world.holder(first), world.holder(second)), (Some(0), Some(1)));
}

#[test]
fn nothing_is_placed_on_a_silent_node() {
    let mut world = World::empty();
    for memory_mib in [2_000, 16_000] {
        world.join(
            ALL,
            Capacity {
                memory_mib,
                ..CAPACITY
            },
        );
    }
    world.command(ledger::command::accounts::OpenAccount { name: "ann".into() }.into());
    world.pass(60_000);
    let build = world.built("hello", 0);
    world.nodes[1].up = false;
    world.pass(PRESENCE_TTL_MS + 1);
    let instance = world.launch("a", None, build);
    world.settle();
    assert_eq!(world.holder(instance), Some(0));
    world.launch_shaped(
        "big",
        None,
        build,
        Shape {
            memory_mib: 9000,
            ..SHAPE
        },
    );
    assert!(
        placing(&world)[0].ends_with("n1: is silent"),
        "{:?}",
        placing(&world)
    );
}
