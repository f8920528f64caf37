//! Kinds that came after the network began.

use ledger::codec::Writer;
use ledger::command::admin::Act;
use ledger::entry::Entry;
use ledger::id::hash;
use ledger::key::SecretKey;
use ledger::report::{Carry, Report};
use projections::fold::Fold;
use projections::kinds::{self, Standing};

use crate::check_ops;
use crate::finality::checkpoint;
use crate::script::World;

const REPORT: u16 = 0x1ff;
const COMMAND: u16 = 0xff;

fn entry(kind: u16) -> Entry {
    Entry {
        kind,
        version: 1,
        bytes: vec![1, 2, 3],
    }
}

/// A signed command of a kind that no build knows.
fn command(world: &World) -> Vec<u8> {
    let secret = SecretKey::from_seed([1; 32]);
    let ledger::key::PublicKey::Ed25519(key) = secret.public();
    let mut writer = Writer::new();
    writer
        .varint(0)
        .raw(&key)
        .raw(&[2; 16])
        .varint(world.now_ms + 1000)
        .varint(0);
    entry(COMMAND).write(&mut writer);
    let mut bytes = writer.into_bytes();
    let id = hash("formation 2026 command v1", &[&world.genesis.network().0, &bytes]);
    bytes.extend(secret.sign(&id).0);
    bytes
}

#[test]
fn a_kind_is_void_till_the_admins_activate_it_and_then_a_node_without_it_has_to_stop() {
    let mut world = World::new();
    let from = world.ops.len();
    let carry = |world: &World| {
        let command = command(world);
        Report::from(Carry { command }).to_entry()
    };
    let entries = vec![entry(REPORT), carry(&world)];
    world.op(1, entries);
    for kind in [REPORT, COMMAND, 0x100] {
        world.approve("admin", Act::Activate { kind, version: 1 });
    }
    let cloud = check_ops(
        &world,
        from,
        &[
            "Unknown: kind 511 version 1 does not count in this network until its admins",
            "Carry: kind 255 version 1 does not count",
            "ApproveAct: applied",
            "ApproveAct: applied",
            "ApproveAct: it is so already: kind 256 version 1 is activated",
        ],
    );
    assert!(
        cloud.nonces.keys().all(|(_, nonce)| *nonce != [2; 16]),
        "nothing is used up"
    );
    assert_eq!(kinds::standing(&cloud, REPORT, 1), Standing::NotYet, "not final");
    let certified = checkpoint(&world, None, world.now_ms, world.ops.clone());
    let mut fold = Fold::new(world.genesis.clone());
    fold.finalize(&certified.checkpoint, certified.covered);
    let last = fold.cloud();
    assert_eq!(kinds::standing(&last, REPORT, 1), Standing::Lacking);
    assert_eq!(kinds::standing(&last, REPORT, 2), Standing::NotYet);
    assert_eq!(kinds::standing(&last, 0x100, 1), Standing::Active);
    for (what, kind) in [(entry(REPORT), REPORT), (carry(&world), COMMAND)] {
        world.op(1, vec![what]);
        let op = world.ops.last().expect("just made");
        assert_eq!(kinds::lacking(&last, op), Some((kind, 1)));
        assert_eq!(kinds::lacking(&cloud, op), None, "it is void there");
    }
    assert!(
        world.ops[..from]
            .iter()
            .all(|op| kinds::lacking(&last, op).is_none())
    );
}
