//! What the hands tell, and what is done about what they could not do.

use ledger::id::{BuildId, InstanceId};
use ledger::report::nodes::Capacity;
use projections::images::BuildState;
use reactors::action::{Action, ActionKey};
use reactors::node::{HostEvent, Input};
use reactors::observed::HeldMachine;
use vmm::machine::MachineState;

use crate::wire::{IMAGE, Net, held_image, id};

const RUNNING: MachineState = MachineState::Running { serving: true };

fn machine(instance: InstanceId, generation: u64, state: MachineState) -> Input {
    Input::Host(HostEvent::Machine {
        instance,
        generation,
        spec: None,
        state,
    })
}

fn held(net: &mut Net, instance: InstanceId) -> Option<HeldMachine> {
    net.at(1).node.observed().machines.get(&instance).cloned()
}

fn state(net: &mut Net, instance: InstanceId) -> Option<(u64, MachineState)> {
    held(net, instance).map(|machine| (machine.generation, machine.state))
}

/// The start that the node has asked for, taken from its actions.
fn start(net: &mut Net) -> ActionKey {
    let actions = std::mem::take(&mut net.at(1).actions);
    let starts: Vec<_> = actions
        .iter()
        .filter(|action| matches!(action, Action::Start { .. }))
        .map(Action::key)
        .collect();
    assert_eq!(starts.len(), 1, "{starts:?}");
    starts[0]
}

/// One node with an instance whose start is under way.
fn starting() -> (Net, InstanceId, ActionKey) {
    let mut net = Net::of(1);
    let instance = net.launch();
    net.pass(8_000);
    let start = start(&mut net);
    assert_eq!(state(&mut net, instance), Some((1, MachineState::Starting)));
    (net, instance, start)
}

#[test]
fn a_start_that_fails_leaves_nothing_where_nothing_was() {
    let (mut net, instance, start) = starting();
    net.give(
        1,
        Input::Host(HostEvent::Done {
            key: start,
            ok: false,
        }),
    );
    assert_eq!(state(&mut net, instance), None);
    net.pass(10_000);
    assert_eq!(
        net.at(1)
            .actions
            .iter()
            .filter(|action| action.key() == start)
            .count(),
        1,
        "it is tried again"
    );
}

/// The same with a machine that went with its host before, and is being started again.
fn starting_again() -> (Net, InstanceId, ActionKey, HeldMachine) {
    let (mut net, instance, first) = starting();
    net.give(1, Input::Host(HostEvent::Done { key: first, ok: true }));
    net.give(1, machine(instance, 1, RUNNING));
    net.restart(1, 2);
    net.give(1, machine(instance, 1, MachineState::Stopped));
    net.give(
        1,
        Input::Host(HostEvent::Image {
            digest: IMAGE,
            image: held_image(),
        }),
    );
    let before = held(&mut net, instance).expect("it was told of");
    net.give(1, Input::Host(HostEvent::Known));
    net.pass(8_000);
    let again = start(&mut net);
    assert_ne!(again, first);
    assert_eq!(state(&mut net, instance), Some((1, MachineState::Starting)));
    (net, instance, again, before)
}

#[test]
fn a_start_that_fails_restores_what_was_known_of_the_machine() {
    let (mut net, instance, start, before) = starting_again();
    net.give(
        1,
        Input::Host(HostEvent::Done {
            key: start,
            ok: false,
        }),
    );
    assert_eq!(held(&mut net, instance), Some(before));
}

#[test]
fn a_start_that_fails_does_not_bring_back_a_machine_that_went_meanwhile() {
    let (mut net, instance, start, _) = starting_again();
    net.give(1, Input::Host(HostEvent::MachineGone { instance }));
    net.give(1, machine(instance, 1, MachineState::Starting));
    net.give(
        1,
        Input::Host(HostEvent::Done {
            key: start,
            ok: false,
        }),
    );
    assert_eq!(state(&mut net, instance), None);
}

#[test]
fn a_start_whose_failure_the_hand_has_told_stays_failed() {
    let (mut net, instance, start) = starting();
    let failed = MachineState::Failed {
        reason: "no kernel".into(),
        exit_code: None,
    };
    net.give(1, machine(instance, 1, failed.clone()));
    net.give(
        1,
        Input::Host(HostEvent::Done {
            key: start,
            ok: false,
        }),
    );
    assert_eq!(state(&mut net, instance), Some((1, failed)));
}

#[test]
fn news_of_an_older_generation_is_no_news() {
    let mut net = Net::of(1);
    let instance = InstanceId([5; 32]);
    net.give(1, machine(instance, 2, RUNNING));
    net.give(1, machine(instance, 1, MachineState::Stopped));
    assert_eq!(state(&mut net, instance), Some((2, RUNNING)));
    net.give(1, machine(instance, 2, MachineState::Stopping));
    assert_eq!(state(&mut net, instance), Some((2, MachineState::Stopping)));
    net.give(1, machine(instance, 3, MachineState::Starting));
    assert_eq!(state(&mut net, instance), Some((3, MachineState::Starting)));
}

#[test]
fn an_instance_that_serves_is_told_to_all_at_the_next_tick() {
    let (mut net, instance, start) = starting();
    net.give(1, Input::Host(HostEvent::Done { key: start, ok: true }));
    // Between two rounds of presences.
    net.pass(1_400);
    net.give(1, machine(instance, 1, RUNNING));
    net.pass(200);
    let observed = net.at(1).node.observed_shared();
    let presence = &observed.presences[&id(1)].presence;
    assert_eq!(presence.instances.len(), 1);
    assert!(presence.instances[0].healthy);
    assert_eq!(
        presence.used,
        Capacity {
            vcpus: 1,
            memory_mib: 512,
            disk_gib: 2
        }
    );
    let status = net.at(1).node.cloud().instances[&instance].status.clone();
    assert!(format!("{status:?}").contains("Serving"), "{status:?}");
}

#[test]
fn what_was_looked_at_does_not_change_under_the_one_who_looks() {
    let mut net = Net::of(1);
    let instance = InstanceId([5; 32]);
    net.give(1, machine(instance, 2, RUNNING));
    let looked = net.at(1).node.observed_shared();
    net.give(1, Input::Host(HostEvent::MachineGone { instance }));
    assert!(looked.machines.contains_key(&instance));
    assert_eq!(state(&mut net, instance), None);
}

#[test]
fn the_end_of_a_long_reason_is_what_is_reported() {
    let mut net = Net::of(1);
    net.launch();
    let build = net
        .at(1)
        .node
        .cloud()
        .builds
        .keys()
        .next()
        .copied()
        .expect("launched from one");
    let second = BuildId([9; 32]);
    // One that no log knows: its report is void, and nothing else comes of it.
    let reason = format!("{}\u{e4}the end", "\u{e4}".repeat(100_000));
    net.give(
        1,
        Input::Host(HostEvent::Built {
            build: second,
            result: Err(reason),
            took_ms: 1,
        }),
    );
    assert!(matches!(
        net.at(1).node.cloud().builds[&build].state,
        BuildState::Built { .. }
    ));
    let told = net
        .at(1)
        .ops
        .last()
        .map(|op| op.bytes().to_vec())
        .expect("it was appended");
    assert!(String::from_utf8_lossy(&told).contains("the end"));
}
