//! A scripted network: nodes with keys that sign real ops, people with keys that sign real commands.
//! Time moves only when an op is made. Everything follows from the script: no chance, no clock.

use ledger::clock::Hlc;
use ledger::command::accounts::OpenAccount;
use ledger::command::admin::{Act, ApproveAct};
use ledger::command::agents::{RegisterAgent, Release};
use ledger::command::domains::{ClaimDomain, ReleaseDomain};
use ledger::command::images::BuildImage;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape, StartInstance, StopInstance};
use ledger::command::keys::{AddKey, Consent, Scopes};
use ledger::command::{self, Command, SignedCommand};
use ledger::entry::Entry;
use ledger::genesis::{Genesis, Invitation};
use ledger::id::{AgentId, BuildId, CommandId, Digest, InstanceId, NodeId, OpId};
use ledger::key::{PublicKey, SecretKey};
use ledger::op::{Body, Chain, Dependency, Op, Slot};
use ledger::report::images::{ImageBuilt, ImageFailed};
use ledger::report::instances::{CannotPlace, InstanceChanged, Phase, PlaceInstance};
use ledger::report::nodes::OpenChain;
use ledger::report::{Carry, Report};

/// When the script begins, in milliseconds since 1970.
pub(crate) const BEGIN_MS: u64 = 1_800_000_000_000;

/// The machine that instances of the script want.
pub(crate) const SHAPE: Shape = Shape {
    vcpus: 2,
    memory_mib: 512,
    disk_gib: 4,
};

/// A node of the script.
struct ScriptNode {
    secret: SecretKey,
    chain: Chain,
    seq: u64,
    previous: OpId,
}

/// A network that is written down step by step; every step adds an op.
pub(crate) struct World {
    /// Its beginning.
    pub(crate) genesis: Genesis,
    /// Every op made, in the order of making.
    pub(crate) ops: Vec<Op>,
    /// What the next op's clock shows, in milliseconds.
    pub(crate) now_ms: u64,
    /// Whether the next ops name the last op of every other chain as seen.
    pub(crate) sees_all: bool,
    nodes: Vec<ScriptNode>,
    nonce: u64,
}

fn secret(kind: u8, name: &str) -> SecretKey {
    SecretKey::from_seed(ledger::id::hash(
        "projections test key",
        &[&[kind], name.as_bytes()],
    ))
}

/// The key that signs for a person.
#[allow(dead_code, reason = "not every test that shares this file asks for it")]
/// A person's key.
pub(crate) fn key(who: &str) -> PublicKey {
    secret(2, who).public()
}

impl World {
    /// A network without nodes.
    pub(crate) fn empty() -> Self {
        Self::with_admins(&["admin"], 1)
    }

    /// A network without nodes, with these admins, of whom so many have to agree.
    pub(crate) fn with_admins(admins: &[&str], admins_needed: u8) -> Self {
        let genesis = Genesis {
            name: "test".into(),
            admins: admins.iter().map(|who| key(who)).collect(),
            admins_needed,
            witnesses: Default::default(),
            created_ms: BEGIN_MS,
            salt: [7; 16],
        };
        Self {
            genesis,
            ops: Vec::new(),
            now_ms: BEGIN_MS,
            sees_all: false,
            nodes: Vec::new(),
            nonce: 0,
        }
    }

    /// A network of three nodes, where alice and bob have accounts.
    pub(crate) fn new() -> Self {
        let mut world = Self::empty();
        for _ in 0..3 {
            world.join();
        }
        world.open("alice");
        world.open("bob");
        world
    }

    /// Adds a key for a node that has said nothing yet.
    pub(crate) fn add_node(&mut self) -> usize {
        let secret = secret(1, &self.nodes.len().to_string());
        let chain = Chain {
            node: secret.node_id(),
            incarnation: 1,
        };
        self.nodes.push(ScriptNode {
            secret,
            chain,
            seq: 0,
            previous: OpId([0; 32]),
        });
        self.nodes.len() - 1
    }

    /// A new node opens its first chain.
    pub(crate) fn join(&mut self) -> usize {
        let node = self.add_node();
        self.say(
            node,
            OpenChain {
                invitation: Vec::new(),
                before: None,
            },
        );
        node
    }

    /// A node's next op is the first of a new chain.
    pub(crate) fn begin_again(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.chain.incarnation += 1;
        it.seq = 0;
        it.previous = OpId([0; 32]);
    }

    /// The bytes of an invitation, signed by a person.
    pub(crate) fn invite(&self, who: &str, invitation: Invitation) -> Vec<u8> {
        invitation.sign(&secret(2, who)).bytes().to_vec()
    }

    /// A node starts again.
    pub(crate) fn restart(&mut self, node: usize) -> OpId {
        self.begin_again(node);
        self.say(
            node,
            OpenChain {
                invitation: Vec::new(),
                before: None,
            },
        )
    }

    /// The node's next op comes right after `last` of its ops, whatever it has said since: a fork.
    #[allow(dead_code, reason = "not every test that shares this file forks")]
    pub(crate) fn fork(&mut self, node: usize, last: OpId) {
        let slot = self.ops.iter().find(|op| op.id() == last).map(|op| *op.slot());
        let slot = slot.expect("the op is one of the script");
        let it = &mut self.nodes[node];
        (it.chain, it.seq, it.previous) = (slot.chain, slot.seq + 1, last);
    }

    /// A node's id.
    pub(crate) fn node(&self, node: usize) -> NodeId {
        self.nodes[node].chain.node
    }

    /// The node's next op, with these entries.
    pub(crate) fn op(&mut self, node: usize, entries: Vec<Entry>) -> OpId {
        let hlc = Hlc::at_ms(self.now_ms);
        self.now_ms += 10;
        self.op_at(node, hlc, entries)
    }

    /// The node's next op, with a clock that the caller answers for.
    pub(crate) fn op_at(&mut self, node: usize, hlc: Hlc, entries: Vec<Entry>) -> OpId {
        let network = self.genesis.network();
        let others = self.nodes.iter().enumerate();
        let mut dependencies: Vec<Dependency> = others
            .filter(|(index, it)| self.sees_all && *index != node && it.seq > 0)
            .map(|(_, it)| it.previous.into())
            .collect();
        dependencies.sort();
        let it = &mut self.nodes[node];
        let slot = Slot {
            chain: it.chain,
            seq: it.seq,
            previous: it.previous,
        };
        let op = Op::sign(
            network,
            slot,
            Body {
                hlc,
                dependencies,
                entries,
            },
            &it.secret,
        );
        it.seq += 1;
        it.previous = op.id();
        let id = op.id();
        self.ops.push(op);
        id
    }

    /// Takes back what was said after the first `ops` ops, all of it by one node.
    pub(crate) fn take_back(&mut self, node: usize, ops: usize) {
        let it = &mut self.nodes[node];
        for op in self.ops.drain(ops..).rev() {
            assert_eq!(op.slot().chain, it.chain, "only this node spoke since");
            (it.seq, it.previous) = (op.slot().seq, op.slot().previous);
        }
    }

    /// A node tells something.
    pub(crate) fn say(&mut self, node: usize, report: impl Into<Report>) -> OpId {
        self.op(node, vec![report.into().to_entry()])
    }

    /// Node 0 carries a command.
    pub(crate) fn carry(&mut self, command: &SignedCommand) -> CommandId {
        self.say(
            0,
            Carry {
                command: command.bytes().to_vec(),
            },
        );
        command.id()
    }

    /// A command of a person, valid for a minute, not carried yet.
    pub(crate) fn sign(&mut self, who: &str, body: impl Into<command::Body>) -> SignedCommand {
        self.sign_with(who, body, |_| {})
    }

    /// A command of a person, changed before it is signed.
    pub(crate) fn sign_with(
        &mut self,
        who: &str,
        body: impl Into<command::Body>,
        change: impl FnOnce(&mut Command),
    ) -> SignedCommand {
        self.nonce += 1;
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&self.nonce.to_le_bytes());
        let secret = secret(2, who);
        let mut command = Command {
            key: secret.public(),
            nonce,
            not_after_ms: self.now_ms + 60_000,
            after: Vec::new(),
            body: body.into(),
        };
        change(&mut command);
        command.sign(self.genesis.network(), &secret)
    }

    /// A person asks for something, through node 0.
    pub(crate) fn ask(&mut self, who: &str, body: impl Into<command::Body>) -> CommandId {
        let command = self.sign(who, body);
        self.carry(&command)
    }

    /// An admin approves an act that ends in an hour.
    pub(crate) fn approve(&mut self, who: &str, act: Act) -> CommandId {
        let expires_ms = BEGIN_MS + 60 * 60 * 1000;
        self.ask(
            who,
            ApproveAct {
                act,
                salt: [0; 16],
                expires_ms,
            },
        )
    }

    /// What lets `who` sign for an account.
    pub(crate) fn key_of(&self, who: &str, account: CommandId, scopes: Scopes) -> AddKey {
        AddKey {
            key: key(who),
            scopes,
            expires_ms: None,
            label: who.into(),
            consent: Consent::sign(self.genesis.network(), account.into(), &secret(2, who)),
        }
    }

    /// A person opens an account of their own name.
    pub(crate) fn open(&mut self, who: &str) -> CommandId {
        self.ask(who, OpenAccount { name: who.into() })
    }

    /// Asks for an image whose context is on node 0.
    pub(crate) fn build(&mut self, who: &str) -> BuildId {
        let held_by = self.node(0);
        let (context, context_bytes) = (Digest([5; 32]), 1000);
        self.ask(
            who,
            BuildImage {
                name: "image".into(),
                context,
                context_bytes,
                held_by,
            },
        )
        .into()
    }

    /// Registers an agent.
    pub(crate) fn register(&mut self, who: &str, name: &str, build: BuildId) -> AgentId {
        self.ask(
            who,
            RegisterAgent {
                name: name.into(),
                release: release(build),
            },
        )
        .into()
    }

    /// Launches an instance without an agent.
    pub(crate) fn launch(&mut self, who: &str, name: &str, build: BuildId) -> InstanceId {
        self.ask(who, launch(name, build, None)).into()
    }

    /// Stops an instance.
    pub(crate) fn stop(&mut self, who: &str, instance: InstanceId) {
        self.ask(who, StopInstance { instance });
    }

    /// Starts an instance.
    pub(crate) fn start(&mut self, who: &str, instance: InstanceId) {
        self.ask(who, StartInstance { instance });
    }

    /// Deletes an instance.
    pub(crate) fn delete(&mut self, who: &str, instance: InstanceId) {
        self.ask(who, DeleteInstance { instance });
    }

    /// Claims a domain.
    pub(crate) fn claim(&mut self, who: &str, name: &str, agent: AgentId) {
        self.ask(
            who,
            ClaimDomain {
                name: name.into(),
                agent,
            },
        );
    }

    /// Gives a domain back.
    pub(crate) fn release(&mut self, who: &str, name: &str) {
        self.ask(who, ReleaseDomain { name: name.into() });
    }

    /// A node says that an image is built.
    pub(crate) fn built(&mut self, node: usize, build: BuildId) {
        self.say(
            node,
            ImageBuilt {
                build,
                image: Digest([6; 32]),
                bytes: 5,
                took_ms: 6,
            },
        );
    }

    /// A node says that an image cannot be built.
    pub(crate) fn failed(&mut self, node: usize, build: BuildId) {
        self.say(
            node,
            ImageFailed {
                build,
                reason: "no such package".into(),
            },
        );
    }

    /// Node `by` places an instance on node `on`.
    pub(crate) fn place(
        &mut self,
        by: usize,
        instance: InstanceId,
        generation: u64,
        previous: Option<OpId>,
        on: usize,
    ) -> OpId {
        let node = self.node(on);
        self.say(
            by,
            PlaceInstance {
                instance,
                generation,
                previous,
                node,
            },
        )
    }

    /// Node `by` finds no place for an instance.
    pub(crate) fn cannot_place(&mut self, by: usize, instance: InstanceId, generation: u64) {
        self.say(
            by,
            CannotPlace {
                instance,
                generation,
                reason: "too small".into(),
            },
        );
    }

    /// A node says how an instance stands there.
    pub(crate) fn changed(
        &mut self,
        node: usize,
        instance: InstanceId,
        generation: u64,
        start: u32,
        phase: Phase,
    ) {
        self.say(
            node,
            InstanceChanged {
                instance,
                generation,
                start,
                phase,
            },
        );
    }
}

/// An agent's release.
pub(crate) fn release(build: BuildId) -> Release {
    Release {
        description: "for tests".into(),
        build,
        shape: SHAPE,
        port: Some(8080),
    }
}

/// A launch.
pub(crate) fn launch(name: &str, build: BuildId, agent: Option<AgentId>) -> LaunchInstance {
    LaunchInstance {
        name: name.into(),
        agent,
        build,
        shape: SHAPE,
        port: Some(8080),
    }
}

/// A failure of the entrypoint.
pub(crate) fn failed() -> Phase {
    Phase::Failed {
        reason: "exited".into(),
        exit_code: Some(1),
    }
}

/// Numbers that look like chance and follow from a seed (splitmix64).
pub(crate) struct Dice(pub u64);

impl Dice {
    /// A number below `bound`.
    pub(crate) fn roll(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    /// One of `items`.
    pub(crate) fn pick<T: Copy>(&mut self, items: &[T]) -> Option<T> {
        if items.is_empty() {
            None
        } else {
            Some(items[self.roll(items.len())])
        }
    }
}
