//! Questions to a `Cloud`.

use ledger::id::InstanceId;
use ledger::report::instances::Phase;
use ledger::report::nodes::Capacity;
use projections::cloud::Cloud;
use projections::queries::FindError;

use crate::check_ops;
use crate::script::{SHAPE, World, failed, launch};

fn cloud_of(world: &World) -> std::sync::Arc<Cloud> {
    check_ops(world, world.ops.len(), &[])
}

#[test]
fn an_instance_is_found_by_its_name_or_the_beginning_of_its_id() {
    let mut world = World::new();
    let image = world.build("alice");
    let ids: Vec<InstanceId> = (0..200)
        .map(|n| world.launch("alice", &format!("web-{n}"), image))
        .collect();
    let cloud = cloud_of(&world);
    let alice = cloud.account_named("alice").expect("opened").id;
    let bob = cloud.account_named("bob").expect("opened").id;
    let id_of = |found: Result<&projections::instances::Instance, FindError>| found.map(|it| it.id);
    for (n, id) in ids.iter().enumerate() {
        let (name, text) = (format!("web-{n}"), id.to_string());
        assert_eq!(id_of(cloud.find_instance(Some(alice), &name)), Ok(*id));
        assert!(cloud.find_instance(Some(bob), &name).is_err());
        assert!(cloud.find_instance(None, &name).is_err());
        assert_eq!(id_of(cloud.find_instance(None, &text)), Ok(*id));
        assert_eq!(id_of(cloud.find_instance(Some(bob), &text[..11])), Ok(*id));
        assert_eq!(
            id_of(cloud.find_instance(None, &text[..12].to_uppercase())),
            Ok(*id)
        );
    }
    assert_eq!(cloud.instances_with_prefix("").count(), 200);
    assert_eq!(cloud.instances_with_prefix(&"f".repeat(65)).count(), 0);
    assert_eq!(cloud.find_instance(None, "ab"), Err(FindError::None("ab".into())));
    let beginning = &ids[0].to_string()[..3];
    assert_eq!(
        cloud.find_instance(None, beginning),
        Err(FindError::None(beginning.into())),
        "too short"
    );
    for digit in ["0", "7", "f"] {
        let expect = ids.iter().filter(|id| id.to_string().starts_with(digit)).count();
        assert_eq!(cloud.instances_with_prefix(digit).count(), expect);
    }
}

#[test]
fn an_id_that_two_instances_begin_with_names_neither() {
    let mut world = World::new();
    let image = world.build("alice");
    world.launch("alice", "web", image);
    let mut cloud = Cloud::clone(&cloud_of(&world));
    let instance = cloud.instances.values().next().expect("launched").clone();
    let mut twin = instance.id;
    twin.0[31] ^= 1;
    cloud.instances.insert(
        twin,
        projections::instances::Instance {
            id: twin,
            ..instance.clone()
        },
    );
    let text = instance.id.to_string();
    assert_eq!(
        cloud.find_instance(None, &text[..20]),
        Err(FindError::Many(text[..20].into()))
    );
    assert_eq!(cloud.find_instance(None, &text).map(|it| it.id), Ok(instance.id));
}

#[test]
fn the_instances_of_an_agent_are_those_that_are_not_deleted() {
    let mut world = World::new();
    let image = world.build("alice");
    let agent = world.register("alice", "hello", image);
    let one: InstanceId = world.ask("alice", launch("one", image, Some(agent))).into();
    let two: InstanceId = world.ask("alice", launch("two", image, Some(agent))).into();
    world.launch("alice", "three", image);
    world.place(0, two, 1, None, 1);
    world.delete("alice", two);
    let cloud = cloud_of(&world);
    assert_eq!(
        cloud.instances_of(agent).map(|it| it.id).collect::<Vec<_>>(),
        [one]
    );
    let alice = cloud.account_named("alice").expect("opened").id;
    let names: Vec<&str> = cloud.instances_named_by(alice).map(|(name, _)| name).collect();
    assert_eq!(names, ["one", "three"]);
}

#[test]
fn a_node_holds_what_is_placed_there_and_its_machines_take_room_until_they_end() {
    let mut world = World::new();
    let image = world.build("alice");
    let ids: Vec<InstanceId> = (0..6)
        .map(|n| world.launch("alice", &format!("i{n}"), image))
        .collect();
    for id in &ids[..5] {
        world.place(0, *id, 1, None, 1);
        world.changed(1, *id, 1, 1, Phase::Serving);
    }
    let machines = |world: &World| {
        let cloud = cloud_of(world);
        let node = world.node(1);
        assert_eq!(
            cloud.used_capacities().get(&node).copied().unwrap_or_default(),
            cloud.used_by(node)
        );
        assert_eq!(cloud.used_by(world.node(2)), Capacity::default());
        assert_eq!(cloud.held_by(world.node(2)).count(), 0);
        let machines = cloud.used_by(node).vcpus / u32::from(SHAPE.vcpus);
        assert_eq!(
            cloud.used_by(node).memory_mib,
            u64::from(machines * SHAPE.memory_mib)
        );
        assert_eq!(
            cloud.used_by(node).disk_gib,
            u64::from(machines) * u64::from(SHAPE.disk_gib)
        );
        (cloud.held_by(node).count(), machines)
    };
    assert_eq!(machines(&world), (5, 5));
    world.stop("alice", ids[0]);
    world.delete("alice", ids[1]);
    assert_eq!(machines(&world), (5, 5), "they run till they are stopped");
    world.changed(1, ids[0], 1, 1, Phase::Stopped);
    world.changed(1, ids[1], 1, 1, Phase::Stopped);
    world.changed(1, ids[2], 1, 1, failed());
    assert_eq!(machines(&world), (5, 2));
    world.start("alice", ids[0]);
    assert_eq!(machines(&world), (5, 3), "what shall start needs its room");
    world.changed(1, ids[1], 1, 1, Phase::Deleted);
    assert_eq!(machines(&world), (4, 3));
    world.place(0, ids[5], 1, None, 1);
    assert_eq!(machines(&world), (5, 4), "what is placed is about to boot");
    world.stop("alice", ids[5]);
    assert_eq!(machines(&world), (5, 3), "it never booted, and shall not");
}
