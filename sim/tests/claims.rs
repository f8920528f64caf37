//! Each claim fails where it should: a settled network is taken, one thing in it is broken, and the claim
//! says so.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use ledger::codec;
use ledger::id::{InstanceId, NodeId};
use ledger::journal::JournalRecord;
use ledger::report::instances::Phase;
use ledger::report::nodes::Roles;
use net::fronts::FrontTable;
use net::guests::GuestTable;
use net::names::NameTable;
use projections::cloud::Cloud;
use projections::images::BuildState;
use projections::instances::{Instance, Wanted};
use projections::outcome::{Outcome, Void};
use reactors::action::Action;
use sim::chance::Chance;
use sim::checks::convergence::View;
use sim::checks::quiet::Activity;
use sim::checks::{Holds, Place, acknowledged, builds, convergence, fold, journal, machines, quiet, tables};
use sim::host::{Host, Mishaps, Work};
use sim::options::Options;
use sim::world::World;
use vmm::machine::MachineState;
use vmm::spec::{Health, MachineId, MachineSpec, Nic, Restart, Workload};

/// A settled network of three nodes in which instances run.
fn world() -> World {
    let options = Options {
        nodes: 3,
        witnesses: 0,
        busy_ms: 30_000,
        calm_ms: 0,
        commands: 45,
        vcpus: 16,
        mixed_roles: false,
        ..Options::draw(11, 3)
    };
    let mut world = World::new(options.without_faults(), false).unwrap();
    world.run_to_the_end().unwrap();
    assert_eq!(world.violation(), None);
    world
}

/// What the claims look at, to be broken.
struct Scene {
    cloud: Cloud,
    hosts: Vec<(NodeId, Host)>,
}

const ALL: Roles = Roles {
    gateway: true,
    compute: true,
    builder: true,
    edge: true,
    witness: true,
};

impl Scene {
    fn new() -> Self {
        let world = world();
        let cloud = Cloud::clone(&world.nodes().next().unwrap().1.cloud());
        let hosts = world
            .stations()
            .iter()
            .map(|station| (station.id, station.host.clone()))
            .collect();
        let scene = Self { cloud, hosts };
        scene.machines().unwrap();
        scene.tables().unwrap();
        scene.builds().unwrap();
        scene
    }

    fn places(&self) -> Vec<Place<'_>> {
        let numbered = self.hosts.iter().enumerate();
        numbered
            .map(|(index, (id, host))| Place {
                index,
                id: *id,
                roles: ALL,
                host,
            })
            .collect()
    }

    fn machines(&self) -> Holds {
        machines::as_wanted(&self.cloud, &self.places())
    }

    fn tables(&self) -> Holds {
        tables::lead_to_what_serves(&self.cloud, &self.places())
    }

    fn builds(&self) -> Holds {
        builds::all_ended(&self.cloud, &self.places())
    }

    /// An instance that runs, and the number of its host.
    fn running(&self) -> (InstanceId, usize) {
        let runs = |(index, (_, host)): (usize, &(NodeId, Host))| {
            let running = host
                .machines()
                .iter()
                .find(|(_, machine)| machine.state.is_alive());
            running.map(|(id, _)| (*id, index))
        };
        self.hosts
            .iter()
            .enumerate()
            .find_map(runs)
            .expect("something runs")
    }

    fn change(&mut self, id: InstanceId, change: impl FnOnce(&mut Instance)) {
        change(self.cloud.instances.get_mut(&id).unwrap());
    }

    /// A machine is started on a host, whatever the log says.
    fn start(&mut self, host: usize, id: InstanceId, generation: u64) {
        let start = Action::Start {
            spec: Box::new(spec(id, generation)),
            start: 1,
        };
        let (_, effects) = self.hosts[host].1.begin(start, |_, _| None);
        for effect in effects {
            self.hosts[host].1.settle(effect.work, true);
        }
    }
}

fn spec(id: InstanceId, generation: u64) -> MachineSpec {
    MachineSpec {
        id: MachineId(id.0),
        generation,
        hostname: "web".into(),
        vcpus: 1,
        memory_mib: 256,
        image: PathBuf::from("/image"),
        disk_gib: 1,
        nic: Nic {
            tap: "ft".into(),
            mac: [2; 6],
            ipv6: "fd00::1".parse().unwrap(),
            gateway_v6: "fe80::1".parse().unwrap(),
            ipv4: "100.64.0.1".parse().unwrap(),
            gateway_v4: "169.254.1.1".parse().unwrap(),
            resolvers: Vec::new(),
        },
        workload: Workload {
            entrypoint: vec!["/agent".into()],
            env: Vec::new(),
            workdir: "/".into(),
            restart: Restart {
                attempts: 0,
                backoff_ms: 0,
            },
            health: Health::Process,
        },
    }
}

fn violates(holds: Holds, claim: &str, words: &str) {
    let violation = holds.expect_err("the claim holds of what was broken");
    assert_eq!(violation.claim, claim);
    assert!(
        violation.seen.contains(words),
        "{words:?} is not in {:?}",
        violation.seen
    );
}

#[test]
fn a_lost_acknowledgement_is_seen() {
    let world = world();
    let (_, node) = world.nodes().next().unwrap();
    let mut cloud = Cloud::clone(&node.cloud());
    let all = || world.acknowledged().iter();
    acknowledged::nothing_is_lost(0, &cloud, all()).unwrap();
    let (lost, by) = all().next().unwrap();
    cloud.commands.remove(lost);
    violates(
        acknowledged::nothing_is_lost(0, &cloud, all()),
        "acknowledged",
        &lost.short(),
    );
    let others = acknowledged::by_one_of(world.acknowledged(), |node| node != *by);
    acknowledged::nothing_is_lost(0, &cloud, others).unwrap();
}

#[test]
fn a_command_without_an_answer_is_seen() {
    let command = *world().acknowledged().keys().next().unwrap();
    acknowledged::answered(0, command, Some(&Ok(()))).unwrap();
    violates(
        acknowledged::answered(0, command, None),
        "acknowledged",
        "no answer",
    );
    let refused = Err("the disk is full".to_owned());
    violates(
        acknowledged::answered(0, command, Some(&refused)),
        "acknowledged",
        "the disk is full",
    );
}

#[test]
fn nodes_that_differ_are_seen() {
    let world = world();
    let views: Vec<View> = world.nodes().map(|(index, node)| View::of(index, node)).collect();
    convergence::same_ops_same_view(&views).unwrap();
    convergence::all_hold_the_same(&views).unwrap();
    let broken = |change: fn(&mut View)| {
        let mut views = views.clone();
        change(&mut views[1]);
        views
    };
    let other_bytes = broken(|view| view.cloud[40] ^= 1);
    violates(
        convergence::same_ops_same_view(&other_bytes),
        "convergence",
        "nodes 0 and 1",
    );
    let other_log = broken(|view| view.log = [0; 32]);
    violates(
        convergence::all_hold_the_same(&other_log),
        "convergence",
        "one log",
    );
    let unproven = broken(|view| view.vector = [0; 32]);
    violates(convergence::all_hold_the_same(&unproven), "convergence", "prove");
    let stuck = broken(|view| view.waiting = 3);
    let words = "3 ops wait for others at node 1";
    violates(convergence::nothing_waits(&stuck), "convergence", words);
    convergence::nothing_waits(&views).unwrap();
}

#[test]
fn a_view_that_its_ops_do_not_give_is_seen() {
    let world = world();
    let (_, node) = world.nodes().next().unwrap();
    let log = || node.replica().log().iter();
    let check = |cloud: &Cloud, skip: usize| {
        fold::is_the_fold_of_its_ops(0, world.genesis(), log().skip(skip), &[], cloud, |op| {
            node.outcomes(op)
        })
    };
    let cloud = node.cloud();
    check(&cloud, 0).unwrap();
    let mut broken = Cloud::clone(&cloud);
    let first = *broken.accounts.keys().next().unwrap();
    broken.accounts.remove(&first);
    violates(check(&broken, 0), "fold", "not what its ops give");
    violates(check(&cloud, 1), "fold", "not what its ops give");
    let told = |_| Some(&[][..]);
    let wrong = fold::is_the_fold_of_its_ops(0, world.genesis(), log(), &[], &cloud, told);
    violates(wrong, "fold", "from the beginning it is");
}

#[test]
fn a_journal_that_leaves_something_out_is_seen() {
    let world = world();
    let (_, node) = world.nodes().next().unwrap();
    let disk = &world.stations()[0].disk;
    let check =
        |records: &[JournalRecord]| journal::tells_everything(0, disk.ops(), records, |op| node.outcomes(op));
    check(disk.journal()).unwrap();
    let broken = |change: fn(&mut Vec<JournalRecord>)| {
        let mut records = disk.journal().to_vec();
        change(&mut records);
        check(&records)
    };
    violates(
        broken(|records| drop(records.remove(3))),
        "journal",
        "has the number 4",
    );
    violates(broken(|records| drop(records.pop())), "journal", "never tells of");
    let other = |records: &mut Vec<JournalRecord>| {
        records[2].outcome = codec::encode(&Outcome::Void(Void::Forged));
    };
    violates(broken(other), "journal", "tells another end");
    violates(
        broken(|records| records[2].turned = true),
        "journal",
        "not told before",
    );
    let twice = |records: &mut Vec<JournalRecord>| {
        let mut again = records[0].clone();
        again.offset = records.len() as u64;
        records.push(again);
    };
    violates(broken(twice), "journal", "told as new twice");
    let silent = journal::tells_everything(0, disk.ops(), &[], |_| None);
    violates(silent, "journal", "does not say what became");
}

#[test]
fn an_order_that_goes_back_is_seen() {
    let mut scene = Scene::new();
    let (id, at) = scene.running();
    machines::never_backward(at, &scene.hosts[at].1).unwrap();
    scene.start(at, id, 0);
    violates(
        machines::never_backward(at, &scene.hosts[at].1),
        "machines",
        "1 times",
    );
    let stale = Action::Delete {
        instance: id,
        generation: 0,
    };
    scene.hosts[at].1.begin(stale, |_, _| None);
    violates(
        machines::never_backward(at, &scene.hosts[at].1),
        "machines",
        "2 times",
    );
    assert!(
        scene.hosts[at].1.machines().contains_key(&id),
        "the hand refused it"
    );
}

#[test]
fn a_machine_that_should_run_and_does_not_is_seen() {
    let mut scene = Scene::new();
    let (id, at) = scene.running();
    scene.hosts[at].1.lose_power();
    violates(scene.machines(), "machines", "should run on");
    scene.hosts[at].1.settle(Work::Delete(id), true);
    violates(scene.machines(), "machines", "should run on");
}

#[test]
fn a_machine_that_runs_twice_is_seen() {
    let mut scene = Scene::new();
    let (id, at) = scene.running();
    scene.start((at + 1) % 3, id, 9);
    violates(scene.machines(), "machines", "is placed on");
}

#[test]
fn a_machine_of_another_generation_is_seen() {
    let mut scene = Scene::new();
    let (id, at) = scene.running();
    scene.start(at, id, 9);
    violates(scene.machines(), "machines", "is placed in generation");
}

#[test]
fn a_machine_of_nothing_is_seen() {
    let mut scene = Scene::new();
    scene.start(0, InstanceId([3; 32]), 1);
    violates(scene.machines(), "machines", "no log knows");
}

#[test]
fn a_machine_against_its_owners_will_is_seen() {
    let mut scene = Scene::new();
    let (id, _) = scene.running();
    scene.change(id, |instance| instance.wanted = Wanted::Stopped);
    violates(scene.machines(), "machines", "is stopped, but runs");
    scene.change(id, |instance| instance.wanted = Wanted::Deleted);
    violates(scene.machines(), "machines", "is deleted, but it is not gone");
}

#[test]
fn a_log_that_tells_otherwise_than_it_is_is_seen() {
    let mut scene = Scene::new();
    let (id, _) = scene.running();
    scene.change(id, |instance| {
        instance.status.as_mut().unwrap().phase = Phase::Booted
    });
    violates(scene.machines(), "machines", "the log says");
    scene.change(id, |instance| {
        instance.status.as_mut().unwrap().phase = Phase::Stopped
    });
    violates(scene.machines(), "machines", "has ended, but runs");
    scene.change(id, |instance| instance.status = None);
    violates(scene.machines(), "machines", "the log says None");
}

#[test]
fn an_instance_that_nobody_places_is_seen() {
    let mut scene = Scene::new();
    let (id, at) = scene.running();
    scene.change(id, |instance| instance.placed = None);
    violates(scene.machines(), "machines", "placed nowhere, but node");
    scene.hosts[at].1.settle(Work::Delete(id), true);
    violates(scene.machines(), "machines", "neither placed nor refused");
    scene.change(id, |instance| instance.cannot_place = Some("no room".into()));
    scene.machines().unwrap();
    scene.change(id, |instance| instance.wanted = Wanted::Deleted);
    violates(
        scene.machines(),
        "machines",
        "nothing is left, but it is not gone",
    );
}

#[test]
fn an_instance_left_on_a_node_that_is_gone_is_seen() {
    let mut scene = Scene::new();
    let (_, at) = scene.running();
    scene.hosts.remove(at);
    violates(scene.machines(), "machines", "which is gone");
}

#[test]
fn a_build_that_never_ends_is_seen() {
    let mut scene = Scene::new();
    let build = *scene.cloud.builds.keys().next().unwrap();
    scene.cloud.builds.get_mut(&build).unwrap().state = BuildState::Asked;
    violates(scene.builds(), "builds", &build.short());
    // Unless nobody has what it would be built from.
    for (_, host) in &mut scene.hosts {
        *host = Host::new(Mishaps::default(), Chance::new(0));
    }
    scene.builds().unwrap();
}

#[test]
fn a_network_that_never_rests_is_seen() {
    let before = Activity { ops: 7, starts: 2 };
    quiet::nothing_new(before, before, 30_000).unwrap();
    violates(
        quiet::nothing_new(before, Activity { ops: 9, ..before }, 30_000),
        "quiet",
        "2 new ops and 0 starts",
    );
    violates(
        quiet::nothing_new(before, Activity { starts: 3, ..before }, 30_000),
        "quiet",
        "0 new ops and 1 starts",
    );
}

/// Applies a table to a host, whatever is so.
fn apply(host: &mut Host, table: Action) {
    host.settle(Work::Table(Box::new(table)), true);
}

#[test]
fn names_that_lead_elsewhere_are_seen() {
    let mut scene = Scene::new();
    let right = scene.hosts[1].1.tables().names.clone();
    apply(&mut scene.hosts[1].1, Action::Names(NameTable::default()));
    violates(scene.tables(), "tables", "the names of node 1");
    let mut fewer = right.clone();
    let node = right.names.keys().find(|name| name.contains(".node.")).unwrap();
    fewer.names.remove(node);
    apply(&mut scene.hosts[1].1, Action::Names(fewer));
    violates(scene.tables(), "tables", "answer differently");
    let mut more = right.clone();
    let gone = net::address::node_address(&scene.cloud.network.0, &[9; 32]);
    more.names.get_mut(node).unwrap().ipv6.push(gone);
    apply(&mut scene.hosts[1].1, Action::Names(more));
    violates(scene.tables(), "tables", "are up");
    apply(&mut scene.hosts[1].1, Action::Names(right));
    scene.tables().unwrap();
}

#[test]
fn a_front_door_that_leads_elsewhere_is_seen() {
    let mut scene = Scene::new();
    apply(
        &mut scene.hosts[2].1,
        Action::Fronts(FrontTable {
            hosts: BTreeMap::new(),
        }),
    );
    violates(scene.tables(), "tables", "the front door of node 2");
}

#[test]
fn names_of_what_does_not_serve_are_seen() {
    let mut scene = Scene::new();
    let (_, at) = scene.running();
    scene.hosts[at].1.lose_power();
    violates(scene.tables(), "tables", "serve");
}

#[test]
fn a_missing_route_and_a_tap_of_nothing_are_seen() {
    let mut scene = Scene::new();
    let (id, at) = scene.running();
    let other = (at + 1) % 3;
    let (here, there) = (
        scene.hosts[at].1.tables().guests.clone(),
        scene.hosts[other].1.tables().guests.clone(),
    );
    apply(
        &mut scene.hosts[other].1,
        Action::Guests(GuestTable {
            remote: Vec::new(),
            ..there.clone()
        }),
    );
    violates(scene.tables(), "tables", "routes []");
    apply(&mut scene.hosts[other].1, Action::Guests(there));
    apply(
        &mut scene.hosts[at].1,
        Action::Guests(GuestTable {
            taps: Vec::new(),
            ..here.clone()
        }),
    );
    violates(scene.tables(), "tables", "has 0 taps");
    let mut more = here.clone();
    let mut tap = more.taps[0].clone();
    tap.ipv6 = "fd00::dead".parse().unwrap();
    more.taps.push(tap);
    apply(&mut scene.hosts[at].1, Action::Guests(more));
    violates(scene.tables(), "tables", "keeps a tap for fd00::dead");
    apply(&mut scene.hosts[at].1, Action::Guests(here));
    scene.tables().unwrap();
    assert!(scene.hosts[at].1.machines()[&id].state == MachineState::Running { serving: true });
}

/// A claim that looks at nothing holds of everything: the scene has something for each.
#[test]
fn the_scene_has_what_the_claims_are_about() {
    let scene = Scene::new();
    let cloud = Arc::new(scene.cloud.clone());
    let ports = cloud
        .instances
        .values()
        .filter(|it| it.request.port.is_some())
        .count();
    let fronts = scene.hosts[0].1.tables().fronts.hosts.values().flatten().count();
    assert!(cloud.instances.len() >= 2, "{} instances", cloud.instances.len());
    assert!(
        cloud.builds.len() >= 2 && ports >= 2 && fronts >= 2,
        "{ports} ports, {fronts} targets"
    );
}
