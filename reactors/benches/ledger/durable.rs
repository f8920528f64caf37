//! A node whose 64 clients each wait till their command is on the disk: as the daemon's core does, the inputs
//! that have come share one write.

use std::net::Ipv4Addr;

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use ledger::command::accounts::OpenAccount;
use ledger::command::{Command, SignedCommand};
use ledger::io::store::{Batch, Store};
use ledger::key::verify;
use ledger::op::Op;
use ledger::report::nodes::{AnnounceNode, Capacity, Roles};
use reactors::me::Me;
use reactors::node::{Durable, Held, Input, Node, Output, Setup, Wait};

use crate::history::{NOW_MS, genesis, network, secret, setup};
use crate::row::{Reach, Row};
use crate::turns::{TURNS, folder, median, timed};

const CLIENTS: usize = 64;

/// How often each of them asks.
const ROUNDS: usize = 60;

fn node() -> (Node, Vec<Output>) {
    let capacity = Capacity {
        vcpus: 4,
        memory_mib: 4096,
        disk_gib: 100,
    };
    let roles = Roles {
        gateway: true,
        compute: false,
        builder: false,
        edge: false,
        witness: false,
    };
    let setup = Setup {
        replica: setup(&genesis(), 1),
        stored: Held::default(),
        journal_next: 0,
        me: Me {
            node: secret(1).node_id(),
            roles,
            interface: None,
            resolvers: Vec::new(),
            capacity,
            builds_max: 1,
        },
        announce: AnnounceNode {
            name: "node-1".into(),
            roles,
            addresses: vec!["/ip4/10.0.0.1/udp/1/quic-v1".into()],
            ipv4: vec![Ipv4Addr::new(10, 0, 0, 1)],
            capacity,
            payout: None,
        },
    };
    Node::open(setup, NOW_MS).expect("an empty store opens")
}

fn commands() -> Vec<SignedCommand> {
    let network = network();
    (0..(CLIENTS * ROUNDS) as u64)
        .map(|number| {
            let key = secret(5_000_000 + number);
            let name = format!("client-{number}");
            let command = Command {
                key: key.public(),
                nonce: [7; 16],
                not_after_ms: NOW_MS + 3_600_000,
                after: Vec::new(),
                body: OpenAccount { name }.into(),
            };
            command.sign(network, &key)
        })
        .collect()
}

/// Makes what is to be kept durable; gives how many were answered well, and what was written.
fn perform(store: &Store, outputs: Vec<Output>) -> (usize, Durable) {
    let (mut durable, mut answered) = (Durable::default(), 0);
    for output in outputs {
        match output {
            Output::Persist(more) => durable.extend(more),
            Output::Reply { reply, .. } => answered += usize::from(reply.is_ok()),
            _ => {}
        }
    }
    let written = store.write(&Batch {
        ops: &durable.ops,
        journal: &durable.journal,
        certificates: &durable.certificates,
        votes: &durable.votes,
        forks: &[],
    });
    written.expect("the disk takes it");
    (answered, durable)
}

/// The rounds of one node, from the bytes that the clients send; what each round wrote.
fn rounds(commands: &[SignedCommand], node: &mut Node, store: &Store) -> Vec<Durable> {
    let network = network();
    let rounds = commands.chunks(CLIENTS).map(|round| {
        let inputs = round.iter().zip(0..).map(|(command, token)| {
            // As the interface for people does, before it hands the command on.
            let command = SignedCommand::decode(network, command.bytes()).expect("it was written well");
            assert!(verify(&command.check()), "it was signed well");
            Input::Submit {
                token,
                command: command.bytes().to_vec(),
                id: command.id(),
                wait: Wait::Tentative,
            }
        });
        let inputs: Vec<Input> = inputs.collect();
        let (answered, durable) = perform(store, node.handle_all(inputs, NOW_MS));
        assert_eq!(answered, round.len(), "all are answered");
        durable
    });
    rounds.collect()
}

/// Fjall's own commit of the same bytes, in the same batches.
fn commit(database: &Database, rounds: &[Durable]) {
    let keyspace = |name| {
        database
            .keyspace(name, KeyspaceCreateOptions::default)
            .expect("a keyspace")
    };
    let (bodies, records) = (keyspace("ops"), keyspace("journal"));
    for durable in rounds {
        let mut write = database.batch().durability(Some(PersistMode::SyncData));
        for op in &durable.ops {
            write.insert(&bodies, key(op), value(op));
        }
        for record in &durable.journal {
            write.insert(&records, record.offset.to_be_bytes(), record.encode());
        }
        write.commit().expect("the disk takes it");
    }
}

fn key(op: &Op) -> Vec<u8> {
    let slot = op.slot();
    [
        &slot.chain.node.0[..],
        &slot.chain.incarnation.to_be_bytes(),
        &slot.seq.to_be_bytes(),
    ]
    .concat()
}

/// As many bytes as the store writes of an op: version, sum, flag, signature, body.
fn value(op: &Op) -> Vec<u8> {
    let signature = op.signature().map_or([0; 64], |signature| signature.0);
    [&[1][..], &[0; 16], &[1], &signature, op.bytes()].concat()
}

/// Commands acknowledged durable.
pub(crate) fn append() -> Row {
    let commands = commands();
    let (mut ours, mut commits, mut signing) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        let folder = folder();
        let store = Store::open(&folder.path().join("ours")).expect("the store opens");
        let (mut node, first) = node();
        perform(&store, first);
        let mut written = Vec::new();
        ours.push(timed(|| written = rounds(&commands, &mut node, &store)));
        let bare = Database::builder(folder.path().join("bare")).open();
        let bare = bare.expect("fjall opens");
        commits.push(timed(|| commit(&bare, &written)));
        let key = secret(1);
        signing.push(timed(|| {
            for command in &commands {
                let check = command.check();
                assert!(verify(&check), "it was signed well");
                std::hint::black_box(key.sign(&check.message));
            }
        }));
    }
    let count = commands.len() as f64;
    let [ours, commits, signing] = [ours, commits, signing].map(|took| count / median(took));
    Row::new(
        format!("append acknowledged durable, {CLIENTS} clients at once"),
        "ops/s",
        ours,
        Reach::Ratio(0.7),
    )
    .against(commits.min(signing))
    .why(format!(
        "by the clock, one thread; reference: the lower of fjall's commit of the same bytes in the same batches ({commits:.0}) and bare verify + sign ({signing:.0})"
    ))
}
