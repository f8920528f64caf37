//! The machines of a node.

use std::net::Ipv4Addr;

use ledger::id::InstanceId;
use ledger::report::images::REASON_MAX;
use ledger::report::instances::Phase;
use reactors::action::Action;
use reactors::instances::UNKNOWN_GRACE_MS;
use reactors::observed::Ending;
use vmm::machine::MachineState;
use vmm::spec::{Health, MachineSpec};

use crate::world::{Behaviour, World, image_of};

const SERVES: MachineState = MachineState::Running { serving: true };

fn failed(reason: &str, exit_code: Option<i32>) -> MachineState {
    MachineState::Failed {
        reason: reason.into(),
        exit_code,
    }
}

fn spec_of(world: &World, index: usize) -> MachineSpec {
    let start = world.decide(index).into_iter().find_map(|action| match action {
        Action::Start { spec, .. } => Some(*spec),
        _ => None,
    });
    start.expect("a start is decided")
}

/// Restarts the node's process and waits until it has heard the others again.
fn restart(world: &mut World, index: usize) {
    world.restart(index);
    world.pass(10_000);
}

#[test]
fn a_placed_instance_is_started_with_all_that_its_boot_needs() {
    let mut world = World::new(2);
    let instance = world.placed("hello", 1);
    assert_eq!(world.shown(0), ["fetch image hello from n1"], "a copy, no start");
    assert_eq!(world.shown(1), ["start hello g1 s1"]);
    let spec = spec_of(&world, 1);
    let build = world.cloud().instances[&instance].request.build;
    assert_eq!((spec.id.0, spec.generation), (instance.0, 1));
    assert_eq!(spec.hostname, "hello");
    assert_eq!((spec.vcpus, spec.memory_mib, spec.disk_gib), (1, 512, 2));
    assert_eq!(spec.image, world.nodes[1].observed.images[&image_of(build)].path);
    let network = world.cloud().network;
    assert_eq!(
        spec.nic.ipv6,
        net::address::instance_address(&network.0, &instance.0)
    );
    assert_eq!(spec.nic.resolvers, world.nodes[1].me.resolvers);
    assert_eq!(
        spec.workload.health,
        Health::Tcp { port: 8080 },
        "the port says how to tell that it serves"
    );
}

#[test]
fn what_is_told_follows_the_machine() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    let actions = world.decide(0);
    world.perform(0, actions);
    let cases = [
        (MachineState::Starting, vec![]),
        (
            MachineState::Running { serving: false },
            vec!["tell a g1 s1 booted"],
        ),
        (MachineState::Running { serving: false }, vec![]),
        (SERVES, vec!["tell a g1 s1 serving"]),
        (MachineState::Running { serving: false }, vec![]),
        (SERVES, vec![]),
        (MachineState::Stopping, vec![]),
        (
            failed("exit status 3", Some(3)),
            vec!["tell a g1 s1 failed, exit status 3"],
        ),
        (failed("other words", Some(3)), vec![]),
    ];
    for (state, expected) in cases {
        world.machine(0, instance, state.clone());
        assert_eq!(world.shown(0), expected, "{state:?}");
        let actions = world.decide(0);
        world.perform(0, actions);
    }
}

#[test]
fn a_failed_machine_is_not_started_again_by_itself() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.behaviour.insert(instance, Behaviour::Fails);
    assert_eq!(
        world.settle(),
        ["n0: start a g1 s1", "n0: tell a g1 s1 failed, exit status 1"]
    );
    world.pass(60_000);
    assert_eq!(world.all_shown(), Vec::<String>::new());
    // Not by a restart of the node either.
    restart(&mut world, 0);
    assert_eq!(world.all_shown(), Vec::<String>::new());
    // Its owner starts it again, without a stop in between.
    world.start(instance);
    assert_eq!(
        world.settle(),
        ["n0: start a g1 s2", "n0: tell a g1 s2 failed, exit status 1"]
    );
}

#[test]
fn an_instance_whose_entrypoint_ends_is_stopped_and_stays_so() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.behaviour.insert(instance, Behaviour::Ends);
    assert_eq!(world.settle(), ["n0: start a g1 s1", "n0: tell a g1 s1 stopped"]);
    restart(&mut world, 0);
    assert_eq!(world.shown(0), Vec::<String>::new());
}

#[test]
fn stop_and_start_are_followed() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    assert_eq!(world.settle(), ["n0: start a g1 s1", "n0: tell a g1 s1 serving"]);
    world.stop(instance);
    assert_eq!(world.settle(), ["n0: stop a g1", "n0: tell a g1 s1 stopped"]);
    world.start(instance);
    assert_eq!(world.settle(), ["n0: start a g1 s2", "n0: tell a g1 s2 serving"]);
    assert_eq!(world.phase(instance), Some((2, Phase::Serving)));
}

#[test]
fn a_start_is_followed_after_a_restart_of_the_node_as_well() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.settle();
    world.stop(instance);
    world.settle();
    restart(&mut world, 0);
    assert_eq!(world.shown(0), Vec::<String>::new());
    world.start(instance);
    assert_eq!(world.settle(), ["n0: start a g1 s2", "n0: tell a g1 s2 serving"]);
}

#[test]
fn a_start_that_the_node_did_not_live_to_tell_of_is_told_by_the_next() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.settle();
    world.stop(instance);
    world.settle();
    world.start(instance);
    let actions = world.decide(0);
    world.perform(0, actions);
    restart(&mut world, 0);
    assert_eq!(world.settle(), ["n0: tell a g1 s2 serving"]);
    world.stop(instance);
    assert_eq!(world.settle(), ["n0: stop a g1", "n0: tell a g1 s2 stopped"]);
}

#[test]
fn a_start_that_comes_while_the_machine_still_stops_is_not_lost() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.settle();
    world.stop(instance);
    let actions = world.decide(0);
    world.perform(0, actions);
    world.machine(0, instance, MachineState::Stopping);
    world.start(instance);
    assert_eq!(world.shown(0), Vec::<String>::new());
    world.machine(0, instance, MachineState::Stopped);
    assert_eq!(world.settle(), ["n0: start a g1 s2", "n0: tell a g1 s2 serving"]);
}

#[test]
fn a_machine_is_stopped_only_once() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.settle();
    world.stop(instance);
    assert_eq!(world.shown(0), ["stop a g1"]);
    world.machine(0, instance, MachineState::Stopping);
    assert_eq!(world.shown(0), Vec::<String>::new());
}

#[test]
fn an_instance_that_never_ran_is_told_stopped_when_its_owner_stops_it() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.stop(instance);
    assert_eq!(world.settle(), ["n0: tell a g1 s0 stopped"]);
    world.start(instance);
    assert_eq!(world.settle(), ["n0: start a g1 s1", "n0: tell a g1 s1 serving"]);
}

#[test]
fn a_deleted_instance_leaves_nothing() {
    let mut world = World::new(2);
    let instance = world.placed("a", 0);
    world.settle();
    world.delete(instance);
    assert_eq!(world.settle(), ["n0: delete a g1", "n0: tell a g1 s1 deleted"]);
    assert!(world.nodes[0].observed.machines.is_empty());
    assert!(!world.cloud().instances.contains_key(&instance));
}

#[test]
fn an_instance_deleted_before_it_ran_goes_too() {
    let mut world = World::new(2);
    let instance = world.placed("a", 0);
    world.delete(instance);
    assert_eq!(world.settle(), ["n0: tell a g1 s0 deleted"]);
    assert!(!world.cloud().instances.contains_key(&instance));
}

#[test]
fn machines_that_run_are_left_alone_by_a_restart_of_the_node() {
    let mut world = World::new(1);
    world.placed("a", 0);
    world.settle();
    restart(&mut world, 0);
    assert_eq!(world.shown(0), Vec::<String>::new());
}

#[test]
fn machines_that_went_with_their_host_are_started_again() {
    let ends = [MachineState::Stopped, failed("the process is gone", None)];
    for end in ends {
        let mut world = World::new(1);
        let instance = world.placed("a", 0);
        world.settle();
        world.machine(0, instance, end);
        restart(&mut world, 0);
        assert_eq!(world.settle(), ["n0: start a g1 s2", "n0: tell a g1 s2 serving"]);
    }
    // Nor does it matter whether the hand still knows of it.
    let mut world = World::new(1);
    world.placed("a", 0);
    world.settle();
    world.nodes[0].observed.machines.clear();
    restart(&mut world, 0);
    assert_eq!(world.settle(), ["n0: start a g1 s2", "n0: tell a g1 s2 serving"]);
}

#[test]
fn a_machine_whose_entrypoint_failed_unwatched_is_told_failed() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.settle();
    world.machine(0, instance, failed("exit status 1", Some(1)));
    restart(&mut world, 0);
    assert_eq!(world.settle(), ["n0: tell a g1 s1 failed, exit status 1"]);
}

#[test]
fn nothing_is_decided_about_machines_before_the_host_is_known() {
    let mut world = World::new(1);
    world.placed("a", 0);
    world.nodes[0].observed.host_known = false;
    assert_eq!(world.shown(0), Vec::<String>::new());
}

#[test]
fn a_machine_stops_before_one_of_a_newer_generation_starts_here() {
    let mut world = World::new(2);
    let instance = world.placed("a", 0);
    world.settle();
    // While node 0 did not listen, the instance went to node 1 and came back.
    world.place(instance, 2, 1);
    world.place(instance, 3, 0);
    let done = world.settle();
    let expected = [
        "n0: stop a g3",
        "n0: delete a g3",
        "n0: start a g3 s1",
        "n0: tell a g3 s1 serving",
    ];
    assert_eq!(done, expected);
}

#[test]
fn the_disk_of_a_superseded_machine_is_kept_until_its_successor_has_told_something() {
    let mut world = World::new(2);
    let instance = world.placed("a", 0);
    world.settle();
    world.place(instance, 2, 1);
    world.nodes[1].up = false;
    assert_eq!(world.settle(), ["n0: stop a g2"]);
    assert_eq!(world.shown(0), Vec::<String>::new());
    world.nodes[1].up = true;
    let done = world.settle();
    let told = done
        .iter()
        .position(|line| line == "n1: tell a g2 s1 serving")
        .expect("it is told");
    let deleted = done
        .iter()
        .position(|line| line == "n0: delete a g2")
        .expect("it is deleted");
    assert!(told < deleted, "{done:?}");
}

#[test]
fn an_unknown_machine_is_deleted_after_a_grace_and_only_by_a_node_that_has_caught_up() {
    let mut world = World::new(1);
    world.restart(0);
    let id = InstanceId([9; 32]);
    world.held(0, id, 4, SERVES);
    world.pass(UNKNOWN_GRACE_MS - 1);
    assert_eq!(world.shown(0), Vec::<String>::new());
    world.pass(1);
    assert_eq!(world.shown(0), [format!("delete {} g4", id.short())]);
    world.nodes[0].observed.synced = false;
    world.pass(10 * UNKNOWN_GRACE_MS);
    assert_eq!(world.shown(0), Vec::<String>::new());
}

#[test]
fn a_long_reason_is_told_by_its_end() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.settle();
    world.machine(
        0,
        instance,
        failed(&format!("{}the cause", "ä".repeat(REASON_MAX)), Some(1)),
    );
    world.settle();
    let Some((1, Phase::Failed { reason, .. })) = world.phase(instance) else {
        panic!("it failed")
    };
    assert!(reason.len() <= REASON_MAX && reason.ends_with("äthe cause"));
}

#[test]
fn two_machines_that_draw_one_ipv4_address_get_two() {
    let mut world = World::new(1);
    let first = world.placed("a", 0);
    let wish = spec_of(&world, 0).nic.ipv4;
    world.settle();
    // A machine that runs has taken what another one draws.
    let second = world.placed("b", 0);
    let drawn = spec_of(&world, 0).nic.ipv4;
    assert_ne!(drawn, wish);
    let machine = world.nodes[0].observed.machines.get_mut(&first).expect("it runs");
    machine.spec.as_mut().expect("it has a spec").nic.ipv4 = drawn;
    let next = spec_of(&world, 0).nic.ipv4;
    assert_eq!(u32::from(next), u32::from(drawn) + 1);
    assert_ne!(first, second);
    assert_ne!(next, Ipv4Addr::UNSPECIFIED);
}

#[test]
fn a_machine_that_was_asked_to_stop_and_is_wanted_again_starts_although_its_end_was_told() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    world.settle();
    world.stop(instance);
    world.settle();
    world.start(instance);
    let machine = &world.nodes[0].observed.machines[&instance];
    assert_eq!(machine.ending, Ending::Asked);
    assert_eq!(world.shown(0), ["start a g1 s2"]);
}

#[test]
fn a_machine_that_could_not_boot_unwatched_is_told_failed() {
    let mut world = World::new(1);
    let instance = world.placed("a", 0);
    let actions = world.decide(0);
    world.perform(0, actions);
    world.machine(0, instance, failed("no kernel", None));
    restart(&mut world, 0);
    assert_eq!(world.settle(), ["n0: tell a g1 s1 failed, no kernel"]);
}
