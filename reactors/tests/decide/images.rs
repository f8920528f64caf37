//! Builds, fetches, and what may go.

use ledger::id::{BuildId, Digest};
use ledger::report::nodes::Roles;
use projections::images::BuildState;
use reactors::images::{CONTEXT_KEPT_MS, IMAGE_COPIES};
use reactors::observed::PRESENCE_TTL_MS;
use reactors::placement::PLACEMENT_SILENCE_MS;

use crate::world::{ALL, CAPACITY, World, image_of};

fn builder(world: &World) -> Vec<usize> {
    let lines = world.all_shown();
    let building = lines
        .iter()
        .filter(|line| line.contains(": build ") || line.contains(": fetch context "));
    let index = |line: &String| {
        line[1..line.find(':').expect("a node first")]
            .parse()
            .expect("n0, n1, …")
    };
    building.map(index).collect()
}

fn build_by(world: &World, build: BuildId) -> Option<usize> {
    match world.cloud().builds[&build].state {
        BuildState::Built { by, .. } => Some(world.index(by)),
        _ => None,
    }
}

#[test]
fn one_node_builds_and_fetches_the_context_first() {
    let mut elsewhere = 0;
    for n in 0..8 {
        let mut world = World::new(3);
        let build = world.ask_build(&format!("b{n}"));
        let by = builder(&world);
        assert_eq!(by.len(), 1, "{by:?}");
        elsewhere += usize::from(by[0] != 0);
        let done = world.settle();
        assert_eq!(
            done.iter().filter(|line| line.contains(": build ")).count(),
            1,
            "{done:?}"
        );
        assert_eq!(build_by(&world, build), Some(by[0]));
    }
    assert!(
        elsewhere > 0,
        "the context is at node 0, and not all are built there"
    );
}

#[test]
fn a_node_without_the_role_does_not_build() {
    let mut world = World::empty();
    world.join(
        Roles {
            builder: false,
            ..ALL
        },
        CAPACITY,
    );
    world.join(ALL, CAPACITY);
    world.command(ledger::command::accounts::OpenAccount { name: "ann".into() }.into());
    world.pass(60_000);
    for n in 0..4 {
        world.ask_build(&format!("b{n}"));
    }
    assert!(builder(&world).iter().all(|by| *by == 1));
}

#[test]
fn another_builder_takes_over_from_one_that_falls_silent() {
    for n in 0..8 {
        let mut world = World::new(3);
        world.ask_build(&format!("b{n}"));
        let first = builder(&world)[0];
        if first == 0 {
            continue; // It has the only copy of the context.
        }
        world.nodes[first].up = false;
        world.pass(PRESENCE_TTL_MS + 1);
        let second = builder(&world);
        assert_eq!(second.len(), 1);
        assert_ne!(second[0], first);
        return;
    }
    panic!("no build of eight is another node's");
}

#[test]
fn builds_wait_for_each_other_in_the_order_in_which_they_were_asked_for() {
    let mut world = World::new(1);
    let first = world.ask_build("zz");
    world.ask_build("aa");
    assert_eq!(world.shown(0), ["build zz"]);
    world.nodes[0].observed.building.insert(first, ());
    assert_eq!(world.shown(0), Vec::<String>::new());
    world.nodes[0].observed.building.clear();
    world.finish(first, 0);
    assert_eq!(world.shown(0), ["build aa"]);
}

#[test]
fn a_build_whose_context_is_gone_keeps_no_other_waiting() {
    let mut world = World::new(2);
    world.nodes[1].up = false;
    world.pass(60_000);
    let first = world.ask_build("lost");
    let context = world.cloud().builds[&first].request.context;
    world.nodes[0].observed.contexts.remove(&context);
    world.ask_build("here");
    let shown = world.shown(0);
    assert!(shown.contains(&"build here".to_owned()), "{shown:?}");
}

#[test]
fn a_failed_build_is_not_tried_again() {
    let mut world = World::new(1);
    let build = world.ask_build("b");
    world.fail(build, 0, "no");
    assert_eq!(world.shown(0), Vec::<String>::new());
}

#[test]
fn a_holder_fetches_its_image_from_the_builder_and_starts_then() {
    let mut world = World::new(2);
    let build = world.built("a", 0);
    let instance = world.launch("a", None, build);
    world.place(instance, 1, 1);
    assert_eq!(world.shown(1), ["fetch image a from n0"]);
    let done = world.settle();
    assert_eq!(
        done,
        [
            "n1: fetch image a from n0",
            "n1: start a g1 s1",
            "n1: tell a g1 s1 serving"
        ]
    );
}

#[test]
fn an_image_is_fetched_from_all_that_tell_they_have_it_and_not_twice_at_once() {
    let mut world = World::new(4);
    let build = world.built("a", 0);
    world.hold(1, image_of(build));
    world.hold(2, image_of(build));
    world.hear();
    let instance = world.launch("a", None, build);
    world.place(instance, 1, 3);
    let shown = world.shown(3);
    let mut from: Vec<&str> = shown[0].split(' ').skip(4).collect();
    from.sort_unstable();
    assert_eq!(from, ["n0", "n1", "n2"]);
    // The builder falls silent: the others come first, it is the last straw.
    world.nodes[0].up = false;
    world.pass(PRESENCE_TTL_MS + 1);
    assert!(world.shown(3)[0].ends_with(" n0"), "{:?}", world.shown(3));
    world.nodes[3].observed.fetching.insert(image_of(build), ());
    assert_eq!(world.shown(3), Vec::<String>::new());
}

#[test]
fn nodes_do_not_all_ask_the_same_one_first() {
    let mut world = World::new(12);
    let build = world.built("a", 0);
    for index in 0..6 {
        world.hold(index, image_of(build));
    }
    world.hear();
    let mut first = std::collections::BTreeSet::new();
    for index in 6..12 {
        let instance = world.launch(&format!("a{index}"), None, build);
        world.place(instance, 1, index);
        first.insert(world.shown(index)[0].split(' ').nth(4).map(str::to_owned));
    }
    assert!(first.len() > 1, "{first:?}");
}

#[test]
fn nothing_is_fetched_for_an_instance_that_shall_not_run() {
    let mut world = World::new(2);
    let build = world.built("a", 0);
    let instance = world.launch("a", None, build);
    world.place(instance, 1, 1);
    world.stop(instance);
    assert!(world.shown(1).iter().all(|line| !line.contains("fetch")));
}

#[test]
fn a_running_image_has_a_second_copy_and_survives_its_builder() {
    let mut world = World::new(4);
    let instance = world.placed("a", 0);
    world.settle();
    let build = world.cloud().instances[&instance].request.build;
    let copies = |world: &World| {
        let holds = |node: &&crate::world::WorldNode| node.observed.images.contains_key(&image_of(build));
        world.nodes.iter().filter(|node| node.up).filter(holds).count()
    };
    assert_eq!(copies(&world), IMAGE_COPIES);
    world.nodes[0].up = false;
    world.pass(PLACEMENT_SILENCE_MS + 1);
    world.settle();
    let holder = world.holder(instance).expect("placed");
    assert_ne!(holder, 0);
    assert!(world.nodes[holder].observed.machines[&instance].state.is_alive());
    assert!(copies(&world) >= IMAGE_COPIES);
}

#[test]
fn a_context_goes_a_while_after_its_builds_have_ended() {
    let mut world = World::new(1);
    let build = world.ask_build("b");
    world.nodes[0].observed.contexts.insert(Digest([1; 32]));
    world.pass(2 * CONTEXT_KEPT_MS);
    assert_eq!(world.shown(0), ["build b"], "it is needed");
    world.finish(build, 0);
    world.pass(CONTEXT_KEPT_MS);
    assert_eq!(world.shown(0), Vec::<String>::new(), "not at once");
    world.pass(1_000);
    assert_eq!(world.shown(0), ["forget context b"], "and no other");
}

#[test]
fn a_build_that_runs_here_is_not_begun_again_though_there_is_room_for_another() {
    let mut world = World::new(1);
    world.nodes[0].me.builds_max = 2;
    let first = world.ask_build("aa");
    world.ask_build("bb");
    world.ask_build("cc");
    assert_eq!(world.shown(0), ["build aa", "build bb"]);
    world.nodes[0].observed.building.insert(first, ());
    assert_eq!(world.shown(0), ["build bb"]);
}

#[test]
fn a_node_does_not_ask_itself() {
    let mut world = World::new(2);
    let instance = world.placed("a", 0);
    let build = world.cloud().instances[&instance].request.build;
    world.nodes[0].observed.images.clear();
    assert_eq!(
        world.shown(0),
        Vec::<String>::new(),
        "it built the image and lost it; nobody else has it"
    );
    world.hold(1, image_of(build));
    world.hear();
    assert_eq!(world.shown(0), ["fetch image a from n1"]);
}
