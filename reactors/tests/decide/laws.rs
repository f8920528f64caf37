//! What holds whatever happens: random lives of small networks.

use ledger::id::{AgentId, BuildId, InstanceId};
use ledger::report::Report;
use ledger::report::nodes::Capacity;
use projections::instances::Wanted;
use proptest::prelude::*;
use reactors::action::Action;
use reactors::instances::UNKNOWN_GRACE_MS;
use reactors::placement::PLACEMENT_SILENCE_MS;
use reactors::sight::SYNC_PATIENCE_MS;
use vmm::machine::MachineState;

use crate::world::{ALL, Behaviour, CAPACITY, SHAPE, World};

/// Something happens.
#[derive(Clone, Debug)]
enum Event {
    Launch {
        of_agent: bool,
        large: bool,
        behaviour: Behaviour,
    },
    Stop(usize),
    Start(usize),
    Delete(usize),
    /// The machine of an instance ends in failure, wherever it runs.
    Crash(usize),
    /// A node falls silent, and its machines run on.
    Vanish(usize),
    /// It is heard again, its process started anew or not.
    Return {
        node: usize,
        restarted: bool,
    },
    /// A host starts anew: its machines are gone.
    Reboot(usize),
    /// Somebody places an instance without asking anyone.
    Rival {
        instance: usize,
        on: usize,
    },
    /// Every node decides and does once, all at the same time.
    Turn,
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let behaviour =
        prop_oneof![5 => Just(Behaviour::Serves), 1 => Just(Behaviour::Ends), 1 => Just(Behaviour::Fails)];
    prop_oneof![
        4 => (any::<bool>(), prop::bool::weighted(0.2), behaviour)
            .prop_map(|(of_agent, large, behaviour)| Event::Launch { of_agent, large, behaviour }),
        2 => (0..8usize).prop_map(Event::Stop),
        2 => (0..8usize).prop_map(Event::Start),
        2 => (0..8usize).prop_map(Event::Delete),
        1 => (0..8usize).prop_map(Event::Crash),
        2 => (0..4usize).prop_map(Event::Vanish),
        2 => (0..4usize, any::<bool>()).prop_map(|(node, restarted)| Event::Return { node, restarted }),
        1 => (0..4usize).prop_map(Event::Reboot),
        1 => (0..8usize, 0..4usize).prop_map(|(instance, on)| Event::Rival { instance, on }),
        4 => Just(Event::Turn),
        3 => prop_oneof![Just(1_000), Just(PLACEMENT_SILENCE_MS / 2), Just(PLACEMENT_SILENCE_MS + 1_000)]
            .prop_map(Event::Pass),
    ]
}

struct Life {
    world: World,
    build: BuildId,
    agent: AgentId,
    instances: Vec<InstanceId>,
}

impl Life {
    fn new() -> Self {
        let mut world = World::new(3);
        // A node that has room for little.
        world.join(
            ALL,
            Capacity {
                memory_mib: 600,
                ..CAPACITY
            },
        );
        world.pass(60_000);
        let build = world.built("hello", 1);
        world.hold(2, crate::world::image_of(build));
        let agent = world.agent("hello", build);
        Self {
            world,
            build,
            agent,
            instances: Vec::new(),
        }
    }

    fn instance(&self, index: usize) -> Option<InstanceId> {
        let id = *self.instances.get(index % self.instances.len().max(1))?;
        self.world.cloud().instances.contains_key(&id).then_some(id)
    }

    fn wanted(&self, instance: InstanceId) -> Wanted {
        self.world.cloud().instances[&instance].wanted
    }

    fn happen(&mut self, event: Event) {
        let world = &mut self.world;
        match event {
            Event::Launch {
                of_agent,
                large,
                behaviour,
            } => {
                let name = format!("i{}", self.instances.len());
                let shape = ledger::command::instances::Shape {
                    memory_mib: if large { 3000 } else { 512 },
                    ..SHAPE
                };
                let id = world.launch_shaped(&name, of_agent.then_some(self.agent), self.build, shape);
                world.behaviour.insert(id, behaviour);
                self.instances.push(id);
            }
            Event::Stop(index) => {
                let id = self
                    .instance(index)
                    .filter(|id| self.wanted(*id) != Wanted::Deleted);
                id.into_iter().for_each(|id| self.world.stop(id));
            }
            Event::Start(index) => {
                let id = self
                    .instance(index)
                    .filter(|id| self.wanted(*id) != Wanted::Deleted);
                id.into_iter().for_each(|id| self.world.start(id));
            }
            Event::Delete(index) => {
                let id = self
                    .instance(index)
                    .filter(|id| self.wanted(*id) != Wanted::Deleted);
                id.into_iter().for_each(|id| self.world.delete(id));
            }
            Event::Crash(index) => {
                let Some(id) = self.instance(index) else { return };
                for node in &mut self.world.nodes {
                    if let Some(machine) = node.observed.machines.get_mut(&id)
                        && machine.state.is_alive()
                    {
                        machine.state = MachineState::Failed {
                            reason: "killed".into(),
                            exit_code: None,
                        };
                    }
                }
            }
            // Commands enter at node 0: it stays up.
            Event::Vanish(node) => world.nodes[node].up &= node == 0,
            Event::Return { node, restarted } if !world.nodes[node].up => {
                if restarted {
                    world.restart(node);
                }
                world.nodes[node].up = true;
            }
            Event::Return { .. } => {}
            Event::Reboot(node) => {
                for machine in world.nodes[node].observed.machines.values_mut() {
                    if machine.state.is_alive() {
                        machine.state = MachineState::Stopped;
                    }
                }
                world.restart(node);
            }
            Event::Rival { instance, on } => {
                let Some(id) = self.instance(instance) else { return };
                let generation = self.world.cloud().instances[&id]
                    .placement()
                    .map_or(1, |placed| placed.generation + 1);
                self.world.place(id, generation, on);
            }
            Event::Turn => {
                let up = (0..4).filter(|index| self.world.nodes[*index].up);
                let decided: Vec<_> = up.map(|index| (index, self.world.decide(index))).collect();
                decided
                    .iter()
                    .for_each(|(index, actions)| self.check(*index, actions));
                for (index, actions) in decided {
                    self.world.perform(index, actions);
                }
                self.world.hear();
            }
            Event::Pass(ms) => world.pass(ms),
        }
    }

    /// What each decision keeps to.
    fn check(&self, index: usize, actions: &[Action]) {
        let (cloud, node) = (self.world.cloud(), &self.world.nodes[index]);
        let mut seen = std::collections::BTreeSet::new();
        for action in actions {
            assert!(seen.insert(action.key()), "one action twice: {action:?}");
            match action {
                Action::Start { spec, .. } => {
                    let instance = &cloud.instances[&InstanceId(spec.id.0)];
                    let placed = instance.placement().expect("only what is placed is started");
                    assert_eq!((placed.node, placed.generation), (node.me.node, spec.generation));
                    assert_eq!(instance.wanted, Wanted::Running);
                    let machine = node.observed.machines.get(&instance.id);
                    assert!(
                        machine.is_none_or(|it| { !it.state.is_alive() && it.generation == spec.generation })
                    );
                    assert!(
                        node.observed
                            .images
                            .values()
                            .any(|image| image.path == spec.image)
                    );
                }
                Action::Report(report @ (Report::PlaceInstance(_) | Report::CannotPlace(_))) => {
                    assert!(report.to_entry().bytes.len() <= ledger::entry::ENTRY_BYTES_MAX);
                    assert!(Report::from_entry(&report.to_entry()).is_ok());
                }
                Action::Report(Report::InstanceChanged(changed)) => {
                    let placed = cloud.instances[&changed.instance]
                        .placement()
                        .expect("it is placed");
                    assert_eq!(
                        (placed.node, placed.generation),
                        (node.me.node, changed.generation)
                    );
                }
                Action::Delete { instance, .. } => {
                    let here = cloud
                        .instances
                        .get(instance)
                        .filter(|it| it.wanted != Wanted::Deleted);
                    let current = here.and_then(|it| it.placement()).is_some_and(|placed| {
                        placed.node == node.me.node
                            && placed.generation == node.observed.machines[instance].generation
                    });
                    assert!(!current, "the machine of a placement that counts is deleted");
                }
                _ => {}
            }
        }
    }

    /// When all nodes are up and have come to rest, everything is as it should be.
    fn check_rest(&mut self) {
        for index in 0..4 {
            self.world.nodes[index].up = true;
        }
        self.world
            .pass(PLACEMENT_SILENCE_MS + SYNC_PATIENCE_MS + UNKNOWN_GRACE_MS);
        self.world.settle();
        let cloud = self.world.cloud();
        for (id, instance) in &cloud.instances {
            assert_ne!(
                instance.wanted,
                Wanted::Deleted,
                "nothing of a deleted instance is left"
            );
            let alive: Vec<usize> = (0..4)
                .filter(|index| {
                    let machine = self.world.nodes[*index].observed.machines.get(id);
                    machine.is_some_and(|machine| machine.state.is_alive())
                })
                .collect();
            let Some(holder) = self.world.holder(*id) else {
                assert!(instance.wanted == Wanted::Stopped || instance.cannot_place.is_some());
                assert_eq!(alive, Vec::<usize>::new());
                continue;
            };
            let rests =
                instance.has_ended() || (instance.status.is_none() && instance.cannot_place.is_some());
            if instance.wanted == Wanted::Running && !rests {
                assert_eq!(alive, [holder], "it runs where it is placed, and nowhere else");
            } else {
                assert_eq!(alive, Vec::<usize>::new());
            }
            for (index, node) in self.world.nodes.iter().enumerate() {
                let left = node.observed.machines.contains_key(id) && index != holder;
                // A superseded disk waits until its successor has begun.
                assert!(!left || instance.status.is_none(), "{id:?} is left on n{index}");
            }
        }
        let known = |id: &InstanceId| cloud.instances.contains_key(id);
        assert!(
            self.world
                .nodes
                .iter()
                .all(|node| node.observed.machines.keys().all(known))
        );
        // Time alone changes nothing any more but blobs.
        self.world.pass(20_000);
        let more = self.world.all_shown();
        assert!(more.iter().all(|line| line.contains(": forget ")), "{more:?}");
    }
}

proptest! {
    #[test]
    fn whatever_happens_the_network_comes_to_rest_as_it_should(
        events in prop::collection::vec(event(), 1..40)
    ) {
        let mut life = Life::new();
        for event in events {
            life.happen(event);
        }
        life.check_rest();
    }

    #[test]
    fn what_was_done_is_not_decided_again(events in prop::collection::vec(event(), 1..30)) {
        let mut life = Life::new();
        for event in events {
            life.happen(event);
        }
        life.world.hear();
        for index in 0..4 {
            // Only its own actions: what others do may well call for more.
            if !life.world.nodes[index].up {
                continue;
            }
            let before = life.world.shown(index);
            let actions = life.world.decide(index);
            life.check(index, &actions);
            life.world.perform(index, actions);
            let after = life.world.shown(index);
            for line in after.iter().filter(|line| !line.starts_with("fetch ")) {
                prop_assert!(!before.contains(line), "n{index} decides again: {line}");
            }
        }
    }

    #[test]
    fn the_same_facts_give_the_same_decision(events in prop::collection::vec(event(), 1..20)) {
        let mut life = Life::new();
        for event in events {
            life.happen(event);
        }
        for index in 0..4 {
            prop_assert_eq!(life.world.decide(index), life.world.decide(index));
        }
    }
}
