//! The law of the fold: the same ops give the same bytes, whatever the order of arrival and the batches.

use std::collections::BTreeMap;

use ledger::clock::Hlc;
use ledger::codec::encode;
use ledger::command::accounts::OpenAccount;
use ledger::command::admin::{Act, ApproveAct};
use ledger::command::agents::{RegisterAgent, UpdateAgent};
use ledger::command::credits::{GrantRights, PlaceHold, ReleaseHold, TransferCredits};
use ledger::command::domains::{ClaimDomain, ReleaseDomain};
use ledger::command::images::BuildImage;
use ledger::command::instances::{DeleteInstance, StartInstance, StopInstance};
use ledger::command::keys::{RevokeKey, Scopes};
use ledger::command::{Body, LIFETIME_MS_MAX, SignedCommand};
use ledger::entry::Entry;
use ledger::finality::witness::WitnessSet;
use ledger::id::{AccountId, AgentId, BuildId, CommandId, Digest, HoldId, InstanceId, OpId};
use ledger::op::{Chain, Op};
use ledger::report::credits::{Charge, EndHold, ReturnRights};
use ledger::report::images::{ImageBuilt, ImageFailed};
use ledger::report::instances::{CannotPlace, InstanceChanged, Phase, PlaceInstance};
use ledger::report::nodes::{AnnounceNode, Capacity, OpenChain, RenewMembership, Roles};
use ledger::report::upcast::AnnounceNodeV1;
use ledger::report::{Carry, Report};
use projections::cloud::Cloud;
use projections::fold::{Change, Fold};
use projections::outcome::Outcome;
use proptest::prelude::*;

use crate::agree::name_of;
use crate::finality::{Certified, checkpoint, covered_ids};
use crate::oracle::Oracle;
use crate::script::{BEGIN_MS, Dice, World, failed, key, launch, release};

const PEOPLE: [&str; 4] = ["alice", "bob", "carol", "dave"];
const NAMES: [&str; 4] = ["web", "shop", "mail", "alice"];
const NODES: usize = 4;
/// Keys that have no account of their own at first.
const KEYS: [&str; 6] = ["k0", "k1", "k2", "k3", "k4", "k5"];
const ADMINS: [&str; 4] = ["admin", "admin-two", "admin-three", "k0"];

/// A history: nodes with clocks that differ say things, sensible and not, about a small stock of names, so
/// that they often meet.
pub(crate) struct History {
    world: World,
    dice: Dice,
    clocks_ms: [u64; NODES],
    skews_ms: [u64; NODES],
    revocations: bool,
    carried: Vec<SignedCommand>,
    /// With who asked for it, as all below.
    accounts: Vec<(usize, CommandId)>,
    builds: Vec<(usize, BuildId)>,
    agents: Vec<(usize, AgentId)>,
    instances: Vec<(usize, InstanceId)>,
    /// op, instance, generation, node
    placements: Vec<(OpId, InstanceId, u64, usize)>,
    holds: Vec<(usize, HoldId)>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut world = World::with_admins(&["admin", "admin-two", "admin-three"], 2);
        let mut dice = Dice(seed);
        for _ in 0..NODES {
            world.add_node();
        }
        let skews_ms = std::array::from_fn(|_| 10 * dice.roll(40) as u64);
        Self {
            world,
            dice,
            clocks_ms: [0; NODES],
            skews_ms,
            revocations: false,
            carried: Vec::new(),
            builds: Vec::new(),
            agents: Vec::new(),
            instances: Vec::new(),
            placements: Vec::new(),
            accounts: Vec::new(),
            holds: Vec::new(),
        }
    }

    /// A history of at least `steps` ops.
    pub(crate) fn write(seed: u64, steps: usize) -> World {
        Self::write_with(seed, steps, false)
    }

    /// With or without revocations of nodes: what these deny is not for the plain rules.
    fn write_with(seed: u64, steps: usize, revocations: bool) -> World {
        let mut history = Self::new(seed);
        history.revocations = revocations;
        let open = || {
            vec![
                Report::from(OpenChain {
                    invitation: Vec::new(),
                    before: None,
                })
                .to_entry(),
            ]
        };
        for node in 0..NODES {
            history.op(node, open());
        }
        for who in 0..3 {
            let name = PEOPLE[who].to_owned();
            let held_by = history.world.node(who);
            history.ask(who, OpenAccount { name: name.clone() });
            let build = history.ask(
                who,
                BuildImage {
                    name,
                    context: Digest([1; 32]),
                    context_bytes: 1,
                    held_by,
                },
            );
            history.ask(
                who,
                RegisterAgent {
                    name: NAMES[who].into(),
                    release: release(build.into()),
                },
            );
            history.ask(who, launch(NAMES[who], build.into(), None));
        }
        for _ in 0..steps {
            let node = history.dice.roll(NODES);
            let entries: Vec<Entry> = (0..1 + history.dice.roll(3))
                .map(|_| history.entry(node))
                .collect();
            let op = history.op(node, entries.clone());
            for report in entries.iter().filter_map(|entry| Report::from_entry(entry).ok()) {
                if let Report::PlaceInstance(it) = report {
                    let on = (0..NODES)
                        .find(|node| history.world.node(*node) == it.node)
                        .unwrap_or(0);
                    history.placements.push((op, it.instance, it.generation, on));
                }
            }
        }
        history.world
    }

    /// A person asks for something sensible through the node of the same number.
    fn ask(&mut self, who: usize, body: impl Into<Body>) -> CommandId {
        let command = self.world.sign_with(PEOPLE[who], body, |_| {});
        self.note(who, &command);
        let entry = Report::from(Carry {
            command: command.bytes().to_vec(),
        })
        .to_entry();
        self.op(who, vec![entry]);
        command.id()
    }

    fn note(&mut self, who: usize, signed: &SignedCommand) {
        match signed.command().body {
            Body::BuildImage(_) => self.builds.push((who, signed.id().into())),
            Body::RegisterAgent(_) => self.agents.push((who, signed.id().into())),
            Body::LaunchInstance(_) => self.instances.push((who, signed.id().into())),
            Body::PlaceHold(_) => self.holds.push((who, signed.id().into())),
            Body::OpenAccount(_) => self.accounts.push((who, signed.id())),
            _ => {}
        }
    }

    /// Clocks run in steps of 10 ms, so that those of different nodes often show the same.
    fn op(&mut self, node: usize, entries: Vec<Entry>) -> OpId {
        let wall_ms = BEGIN_MS + 10 * self.world.ops.len() as u64 + self.skews_ms[node];
        self.clocks_ms[node] = wall_ms.max(self.clocks_ms[node] + 1);
        self.world.now_ms = self.clocks_ms[node];
        self.world.op_at(node, Hlc::at_ms(self.clocks_ms[node]), entries)
    }

    fn entry(&mut self, node: usize) -> Entry {
        let place = self.dice.pick(&self.placements);
        let build = self.dice.pick(&self.builds).map_or(BuildId([1; 32]), |it| it.1);
        let instance = self
            .dice
            .pick(&self.instances)
            .map_or(InstanceId([1; 32]), |it| it.1);
        let account = self.dice.pick(&self.accounts).map(|it| AccountId::from(it.1));
        let hold = self.dice.pick(&self.holds).map_or(HoldId([1; 32]), |it| it.1);
        let amount = 1 + self.dice.roll(9) as u64;
        let report: Report = match self.dice.roll(28) {
            0..12 => return self.command(node),
            12 => ImageBuilt {
                build,
                image: Digest([2; 32]),
                bytes: 3,
                took_ms: 4,
            }
            .into(),
            13 => ImageFailed {
                build,
                reason: "no".into(),
            }
            .into(),
            14..16 => {
                let node = self.world.node(self.dice.roll(NODES));
                PlaceInstance {
                    instance,
                    generation: 1,
                    previous: None,
                    node,
                }
                .into()
            }
            16..18 => {
                let Some((op, instance, generation, _)) = place else {
                    return self.command(node);
                };
                let generation = generation + 1 + u64::from(self.dice.roll(8) == 0);
                let node = self.world.node(self.dice.roll(NODES));
                PlaceInstance {
                    instance,
                    generation,
                    previous: Some(op),
                    node,
                }
                .into()
            }
            18..21 => {
                let Some((_, instance, generation, _)) = place else {
                    return self.command(node);
                };
                let phases = [
                    Phase::Booted,
                    Phase::Serving,
                    Phase::Stopped,
                    failed(),
                    Phase::Deleted,
                ];
                let phase = phases[self.dice.roll(phases.len())].clone();
                InstanceChanged {
                    instance,
                    generation,
                    start: self.dice.roll(3) as u32,
                    phase,
                }
                .into()
            }
            21 => {
                let generation = place.map_or(1, |place| place.2 + 1);
                CannotPlace {
                    instance,
                    generation,
                    reason: "full".into(),
                }
                .into()
            }
            22 => {
                let announce = AnnounceNode {
                    name: NAMES[self.dice.roll(4)].into(),
                    roles: Roles {
                        gateway: true,
                        compute: true,
                        builder: false,
                        edge: false,
                        witness: false,
                    },
                    addresses: Vec::new(),
                    ipv4: Vec::new(),
                    capacity: Capacity::default(),
                    payout: account,
                };
                if self.dice.roll(3) == 0 {
                    return AnnounceNodeV1::of(&announce).to_entry();
                }
                announce.into()
            }
            23 => Charge {
                hold,
                amount,
                number: self.dice.roll(4) as u64,
            }
            .into(),
            24 => EndHold { hold }.into(),
            25 => ReturnRights {
                account: account.unwrap_or(AccountId([1; 32])),
                incarnation: 1,
                amount,
            }
            .into(),
            26 => RenewMembership {}.into(),
            _ => {
                return Entry {
                    kind: [0x100 + self.dice.roll(9) as u16, 0x1ff][self.dice.roll(2)],
                    version: 1,
                    bytes: vec![7; 9],
                };
            }
        };
        report.to_entry()
    }

    fn command(&mut self, node: usize) -> Entry {
        let old = self.dice.roll(self.carried.len() * 8 + 1);
        let command = match self.carried.get(old) {
            Some(old) => old.clone(),
            None => self.new_command(node),
        };
        self.carried.push(command.clone());
        Report::from(Carry {
            command: command.bytes().to_vec(),
        })
        .to_entry()
    }

    fn act(&mut self) -> Act {
        let node = self.world.node(NODES - 1);
        let admin = key(ADMINS[2 + self.dice.roll(2)]);
        if self.revocations && self.dice.roll(2) == 0 {
            let cutoff = [None, Some(1)][usize::from(self.dice.roll(4) == 0)];
            let revoke = Act::RevokeNode { node, cutoff };
            return [revoke, Act::ReinstateNode(node)][usize::from(self.dice.roll(3) == 0)].clone();
        }
        match self.dice.roll(14) {
            0..2 => Act::AddAdmin(admin),
            2..4 => Act::RemoveAdmin(admin),
            4..6 => Act::SetAdminsNeeded(1 + self.dice.roll(4) as u8),
            6..8 => Act::AddAdmin(key("alice")),
            8..10 => Act::ReinstateNode(node),
            10..12 => Act::SetWitnesses(WitnessSet::of_equals([node]).expect("one node")),
            12 => Act::Activate {
                kind: [0x1ff, 0x100][self.dice.roll(2)],
                version: 1,
            },
            _ => Act::Mint {
                account: self
                    .dice
                    .pick(&self.accounts)
                    .map_or(AccountId([1; 32]), |it| it.1.into()),
                amount: 20,
            },
        }
    }

    fn new_command(&mut self, node: usize) -> SignedCommand {
        let dice = &mut self.dice;
        let name = NAMES[dice.roll(4)].to_owned();
        let domain = format!("{}.fog", NAMES[dice.roll(4)]);
        let who = dice.roll(PEOPLE.len());
        let mut signer = PEOPLE[who];
        if dice.roll(3) == 0 {
            signer = KEYS[dice.roll(6)];
        }
        let agent = own(dice, who, &self.agents).unwrap_or(AgentId([1; 32]));
        let build = own(dice, who, &self.builds).unwrap_or(BuildId([1; 32]));
        let instance = own(dice, who, &self.instances).unwrap_or(InstanceId([1; 32]));
        let held_by = self.world.node(node);
        let (to, amount) = (dice.pick(&self.accounts), 1 + dice.roll(9) as u64);
        let to = to.map_or(AccountId([1; 32]), |it| it.1.into());
        let hold = own(dice, who, &self.holds).unwrap_or(HoldId([1; 32]));
        let expires_ms = self.clocks_ms[node] + 10 * dice.roll(60) as u64;
        let body: Body = match dice.roll(28) {
            0..2 => OpenAccount { name }.into(),
            2..4 => BuildImage {
                name,
                context: Digest([1; 32]),
                context_bytes: 1,
                held_by,
            }
            .into(),
            4..6 => RegisterAgent {
                name,
                release: release(build),
            }
            .into(),
            6 => UpdateAgent {
                agent,
                release: release(build),
            }
            .into(),
            7..10 => launch(&name, build, if dice.roll(2) == 0 { Some(agent) } else { None }).into(),
            10 => StopInstance { instance }.into(),
            11 => StartInstance { instance }.into(),
            12 => DeleteInstance { instance }.into(),
            13..15 => ClaimDomain { name: domain, agent }.into(),
            15 => ReleaseDomain { name: domain }.into(),
            24 => TransferCredits {
                to,
                amount,
                memo: name,
            }
            .into(),
            25 => GrantRights {
                node: held_by,
                incarnation: 1,
                amount,
                expires_ms,
            }
            .into(),
            26 => PlaceHold {
                node: held_by,
                amount,
                expires_ms,
                purpose: name,
            }
            .into(),
            27 => ReleaseHold { hold }.into(),
            16..19 => {
                if dice.roll(3) > 0 {
                    signer = PEOPLE[who];
                }
                let account = own(dice, who, &self.accounts).unwrap_or(CommandId([1; 32]));
                let mut whole = self.world.key_of(KEYS[dice.roll(6)], account, Scopes::ALL);
                if dice.roll(3) > 0 {
                    whole.scopes = Scopes {
                        account: false,
                        deploy: dice.roll(3) > 0,
                        domains: dice.roll(2) > 0,
                        credits: [None, Some(dice.roll(3) as u64)][dice.roll(2)],
                    };
                }
                if dice.roll(3) == 0 {
                    whole.expires_ms = Some(self.clocks_ms[node] + dice.roll(500) as u64);
                }
                whole.into()
            }
            19..21 => {
                if dice.roll(3) > 0 {
                    signer = PEOPLE[who];
                }
                let key = key([KEYS[dice.roll(6)], PEOPLE[who]][usize::from(dice.roll(5) == 0)]);
                RevokeKey { key }.into()
            }
            _ => {
                signer = ADMINS[dice.roll(4)];
                let (act, salt) = (self.act(), [u8::from(self.dice.roll(4) == 0); 16]);
                let late = self.dice.roll(12) == 0;
                let expires_ms = BEGIN_MS + if late { 500 } else { 100_000 };
                ApproveAct {
                    act,
                    salt,
                    expires_ms,
                }
                .into()
            }
        };
        let dice = &mut self.dice;
        let (life_ms, after) = (50 + dice.roll(900) as u64, dice.roll(self.carried.len() * 4 + 1));
        let after: Vec<_> = self
            .carried
            .get(after)
            .map(SignedCommand::id)
            .into_iter()
            .collect();
        let nonce = self
            .carried
            .get(dice.roll(self.carried.len() * 8 + 1))
            .map(|it| it.command().nonce);
        let life_ms = if dice.roll(30) == 0 {
            LIFETIME_MS_MAX + life_ms
        } else {
            life_ms
        };
        let clock_ms = self.clocks_ms[node];
        let signed = self.world.sign_with(signer, body, |command| {
            command.not_after_ms = clock_ms + life_ms;
            command.after = after;
            command.nonce = nonce.unwrap_or(command.nonce);
        });
        self.note(who, &signed);
        signed
    }
}

/// Mostly something of one's own.
fn own<T: Copy>(dice: &mut Dice, who: usize, all: &[(usize, T)]) -> Option<T> {
    let own: Vec<_> = all.iter().filter(|(owner, _)| *owner == who).copied().collect();
    let from = if dice.roll(5) == 0 { all } else { &own };
    dice.pick(from).map(|it| it.1)
}

/// Each op comes up to `late` places later than it should; the batches are of any size.
fn arrivals(dice: &mut Dice, ops: &[Op], late: usize) -> Vec<Vec<Op>> {
    let mut order: Vec<(usize, &Op)> = ops
        .iter()
        .enumerate()
        .map(|(index, op)| (index + dice.roll(late + 1), op))
        .collect();
    order.sort_by_key(|(arrival, _)| *arrival);
    let mut batches = vec![Vec::new()];
    for (_, op) in order {
        if dice.roll(3) == 0 {
            batches.push(Vec::new());
        }
        batches.last_mut().expect("there is one").push(op.clone());
        if dice.roll(20) == 0 {
            batches.push(vec![op.clone()]);
        }
    }
    batches
}

/// What a fold is told, one call each.
#[derive(Clone, Debug)]
enum Call {
    Ops(Vec<Op>),
    Certificate(Certified),
    Fork(Chain, u64),
}

/// Certificates over growing prefixes of the chains, which fall behind the ops by some.
fn certificates(dice: &mut Dice, world: &World, count: usize) -> Vec<Certified> {
    let mut certificates: Vec<Certified> = Vec::new();
    let mut rest = world.ops.clone();
    for _ in 0..count {
        let upto = dice.roll(rest.len() + 1);
        let mut left_out: Vec<Chain> = Vec::new();
        let (mut covered, mut later) = (Vec::new(), Vec::new());
        for (at, op) in rest.into_iter().enumerate() {
            let chain = op.slot().chain;
            // Nothing of a chain is covered past what is left out of it.
            if at < upto && !left_out.contains(&chain) && dice.roll(12) != 0 {
                covered.push(op);
            } else {
                left_out.push(chain);
                later.push(op);
            }
        }
        rest = later;
        let clock = covered
            .iter()
            .map(|op| op.body().hlc.ms())
            .max()
            .unwrap_or(BEGIN_MS);
        let time_ms = clock - 200 + dice.roll(600) as u64;
        certificates.push(checkpoint(world, certificates.last(), time_ms, covered));
    }
    certificates
}

/// The calls of a fold that hears of all of it: certificates in their order, all else in any.
fn calls(
    dice: &mut Dice,
    world: &World,
    late: usize,
    certified: &[Certified],
    forked: &[(Chain, u64)],
) -> Vec<Call> {
    let mut calls: Vec<Call> = arrivals(dice, &world.ops, late)
        .into_iter()
        .map(Call::Ops)
        .collect();
    let mut at = 0;
    for certificate in certified {
        at += dice.roll(calls.len() + 1 - at);
        calls.insert(at, Call::Certificate(certificate.clone()));
        at += 1;
    }
    for (chain, from) in forked {
        calls.insert(dice.roll(calls.len() + 1), Call::Fork(*chain, *from));
    }
    calls
}

fn tell(fold: &mut Fold, call: Call) -> Vec<Change> {
    match call {
        Call::Ops(ops) => fold.apply(ops),
        Call::Certificate(it) => {
            let before = fold.final_cloud();
            let finalized = fold.finalize(&it.checkpoint, it.covered);
            crate::finality::check_touched(&before, &fold.final_cloud(), &finalized.touched);
            finalized.changes
        }
        Call::Fork(chain, from) => fold.exclude(chain, from),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_arrival_gives_the_bytes_of_the_plain_rules(
        seed: u64,
        steps in 1usize..100,
        window in 1usize..40,
        late in prop_oneof![Just(0), Just(3), Just(30), Just(1000)],
        certificates_count in 0usize..5,
        forks in 0usize..3,
    ) {
        let world = History::write(seed, steps);
        let mut dice = Dice(seed ^ 1);
        let certified = certificates(&mut dice, &world, certificates_count);
        let forked: Vec<_> = (0..forks)
            .map(|_| {
                let slot = *world.ops[dice.roll(world.ops.len())].slot();
                (slot.chain, slot.seq)
            })
            .collect();
        let oracle = Oracle::read(&world.genesis, &world.ops, &covered_ids(&certified), &forked);
        let mut whole = Fold::new(world.genesis.clone());
        for certificate in &certified {
            tell(&mut whole, Call::Certificate(certificate.clone()));
        }
        for (chain, from) in &forked {
            whole.exclude(*chain, *from);
        }
        let mut suffix = Fold::from_final(Cloud::clone(&whole.final_cloud()));
        whole.apply(world.ops.clone());
        oracle.compare(&whole.cloud());

        let mut fold = Fold::with_window(world.genesis.clone(), window);
        let mut told: BTreeMap<(OpId, usize), Outcome> = BTreeMap::new();
        for call in calls(&mut dice, &world, late, &certified, &forked) {
            for change in tell(&mut fold, call) {
                let earlier = told.insert((change.op, change.entry as usize), change.outcome.clone());
                prop_assert_eq!(earlier.is_some(), change.turned);
                prop_assert_ne!(earlier, Some(change.outcome));
            }
        }
        prop_assert_eq!(encode(&*fold.cloud()), encode(&*whole.cloud()));
        prop_assert_eq!(fold.cloud().state_hash(), whole.cloud().state_hash());
        prop_assert_eq!(encode(&*fold.final_cloud()), encode(&*whole.final_cloud()));
        prop_assert_eq!(fold.ops().len() + fold.final_ops().len(), world.ops.len());
        for (place, verdict) in &oracle.verdicts {
            let (op, index) = *place;
            prop_assert_eq!(name_of(&told[place]), *verdict);
            prop_assert_eq!(fold.outcomes(op).map(|outcomes| &outcomes[index]), Some(&told[place]));
        }

        for (chain, from) in &forked {
            suffix.exclude(*chain, *from);
        }
        suffix.apply(world.ops.clone());
        prop_assert_eq!(encode(&*suffix.cloud()), encode(&*whole.cloud()), "from a snapshot");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn every_order_of_arrival_gives_the_same_bytes_also_when_nodes_are_revoked(
        seed: u64,
        steps in 60usize..120,
        window in 1usize..40,
        late in prop_oneof![Just(3), Just(30), Just(1000)],
        certificates_count in 0usize..5,
    ) {
        let world = History::write_with(seed, steps, true);
        let mut dice = Dice(seed ^ 1);
        let certified = certificates(&mut dice, &world, certificates_count);
        let mut whole = Fold::new(world.genesis.clone());
        for certificate in &certified {
            tell(&mut whole, Call::Certificate(certificate.clone()));
        }
        whole.apply(world.ops.clone());
        let mut fold = Fold::with_window(world.genesis.clone(), window);
        for call in calls(&mut dice, &world, late, &certified, &[]) {
            tell(&mut fold, call);
        }
        prop_assert_eq!(encode(&*fold.cloud()), encode(&*whole.cloud()));
        prop_assert_eq!(encode(&*fold.final_cloud()), encode(&*whole.final_cloud()));
    }
}

/// The histories with revocations have some that count, and ops that they void.
#[test]
fn the_histories_revoke_nodes() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seed in 0..40 {
        let world = History::write_with(seed, 90, true);
        for change in Fold::new(world.genesis.clone()).apply(world.ops) {
            *counts.entry(name_of(&change.outcome)).or_default() += 1;
        }
    }
    assert!(
        counts.get("CutOff").is_some_and(|count| *count > 20),
        "{counts:?}"
    );
}

/// The histories above are worth little if most of what they say is void for one reason.
#[test]
fn the_histories_meet_every_rule() {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..120 {
        let world = History::write(seed, 90);
        for verdict in Oracle::read(&world.genesis, &world.ops, &[], &[])
            .verdicts
            .values()
        {
            *counts.entry(verdict).or_default() += 1;
        }
    }
    let met = [
        "AlreadyReported",
        "AlreadySo",
        "Applied",
        "BeyondHold",
        "Deleted",
        "Expired",
        "HasAccount",
        "Lapsed",
        "BeyondOwn",
        "Deleted",
        "Expired",
        "HasAccount",
        "KeyExpired",
        "KeyRevoked",
        "NameTaken",
        "NoAccount",
        "NoConsent",
        "NoScope",
        "NonceUsed",
        "NotEnough",
        "NotEnoughRights",
        "NotActive",
        "NotAdmin",
        "NotBelow",
        "NotFound",
        "NotItsPlace",
        "NotOwner",
        "NotUnderstood",
        "OutOfOrder",
        "Refused",
        "Replayed",
        "StalePlacement",
        "TooFarAhead",
    ];
    assert!(met.iter().all(|rule| counts.contains_key(rule)), "{counts:?}");
    assert!(
        counts["Applied"] * 4 > counts.values().sum::<usize>(),
        "{counts:?}"
    );
}
