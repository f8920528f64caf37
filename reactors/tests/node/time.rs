//! What the clock does to a node: restarts, sleep, a clock set back.

use ledger::id::{BuildId, InstanceId, NodeId};
use projections::images::BuildState;
use projections::outcome::Outcome;
use reactors::node::{DEAF_MS, HostEvent, Input};
use reactors::placement::PLACEMENT_SILENCE_MS;
use reactors::sight::SYNC_PATIENCE_MS;

use crate::wire::{IMAGE, Net, command, id};

/// Two nodes, and an instance that stands on the second; the first is the one that would place it again.
fn placed_elsewhere() -> (Net, InstanceId) {
    for count in 0..64u8 {
        let mut net = Net::of(2);
        net.connect(1, 2);
        net.pass(8_000);
        let instance = net.launch_as(3 + count);
        net.pass(3_000);
        if placed(&mut net, 1, instance).map(|(node, _)| node) == Some(id(2)) {
            return (net, instance);
        }
    }
    panic!("no instance came to node 2");
}

fn placed(net: &mut Net, at: u8, instance: InstanceId) -> Option<(NodeId, u64)> {
    let cloud = net.at(at).node.cloud();
    let placement = cloud.instances.get(&instance)?.placement()?;
    Some((placement.node, placement.generation))
}

#[test]
fn an_instance_whose_holder_falls_silent_is_placed_again() {
    let (mut net, instance) = placed_elsewhere();
    net.cut(1, 2);
    net.pass(PLACEMENT_SILENCE_MS - 2_000);
    assert_eq!(placed(&mut net, 1, instance), Some((id(2), 1)));
    net.pass(5_000);
    assert_eq!(placed(&mut net, 1, instance), Some((id(1), 2)));
}

#[test]
fn a_node_that_was_restarted_does_not_take_everyone_for_dead() {
    let (mut net, instance) = placed_elsewhere();
    net.now_ms += 3 * PLACEMENT_SILENCE_MS;
    net.restart(1, 2);
    net.give(1, Input::Host(HostEvent::Known));
    // It hears nobody yet, but for less long than silence takes to count.
    net.pass(PLACEMENT_SILENCE_MS - 1_000);
    assert_eq!(placed(&mut net, 1, instance), Some((id(2), 1)));
    net.connect(1, 2);
    net.pass(2 * SYNC_PATIENCE_MS);
    assert_eq!(placed(&mut net, 1, instance), Some((id(2), 1)));
}

#[test]
fn a_node_that_slept_does_not_take_everyone_for_dead() {
    let (mut net, instance) = placed_elsewhere();
    for slept_ms in [DEAF_MS, PLACEMENT_SILENCE_MS + 1_000, 3_600_000] {
        let started_ms = net.at(1).node.observed().started_ms;
        net.now_ms += slept_ms;
        net.give(1, Input::Tick);
        assert_eq!(
            placed(&mut net, 1, instance),
            Some((id(2), 1)),
            "after {slept_ms} ms"
        );
        let anew = net.at(1).node.observed().started_ms != started_ms;
        assert_eq!(anew, slept_ms > DEAF_MS, "a short pause is none");
        net.pass(3_000);
        assert_eq!(placed(&mut net, 1, instance), Some((id(2), 1)));
    }
    // One that stays silent is dead after all.
    net.cut(1, 2);
    net.pass(PLACEMENT_SILENCE_MS + 8_000);
    assert_eq!(placed(&mut net, 1, instance), Some((id(1), 2)));
}

#[test]
fn a_node_whose_clock_is_set_back_tells_its_presence_all_the_same() {
    let mut net = Net::of(1);
    net.pass(10_000);
    let said = |net: &mut Net| net.at(1).node.observed().presences[&id(1)].presence.seq;
    let before = said(&mut net);
    net.now_ms -= 8_000;
    net.pass(3_000);
    assert!(said(&mut net) >= before + 3);
    let now_ms = net.now_ms;
    let observed = net.at(1).node.observed_shared();
    assert!(observed.presences.values().all(|seen| seen.arrived_ms <= now_ms));
}

#[test]
fn what_could_not_be_appended_is_said_when_it_can_be() {
    let mut net = Net::of(1);
    let instance = net.launch();
    net.pass(10_000);
    let second = ledger::command::images::BuildImage {
        name: "other".into(),
        context: ledger::id::Digest([6; 32]),
        context_bytes: 9,
        held_by: id(1),
    };
    let second = command(100, 7, second.into());
    let now_ms = net.now_ms;
    assert_eq!(net.at(1).submit(9, &second, now_ms).outcome, Outcome::Applied);
    let build = BuildId::from(second.id());
    // Its ops are ahead of the clock now: the log takes nothing.
    net.now_ms -= 5_000;
    let before = net.at(1).appended();
    net.give(
        1,
        Input::Host(HostEvent::Built {
            build,
            result: Ok((IMAGE, 9)),
            took_ms: 1,
        }),
    );
    // A report that is decided, beside the one that is told once.
    let state = vmm::machine::MachineState::Running { serving: true };
    let generation = net.at(1).node.cloud().instances[&instance]
        .placement()
        .map_or(1, |placed| placed.generation);
    net.give(
        1,
        Input::Host(HostEvent::Machine {
            instance,
            generation,
            spec: None,
            state,
        }),
    );
    assert_eq!(net.at(1).appended(), before);
    assert!(matches!(
        net.at(1).node.cloud().builds[&build].state,
        BuildState::Asked
    ));
    // The clock has caught up after 5 s; what passed counts as told for 10 s, unless it is known to have failed.
    net.pass(9_000);
    assert!(matches!(
        net.at(1).node.cloud().builds[&build].state,
        BuildState::Built { .. }
    ));
    let status = net.at(1).node.cloud().instances[&instance].status.clone();
    assert!(format!("{status:?}").contains("Serving"), "{status:?}");
}
