//! The rules once more, in the plainest way: sort all ops, read one after the other, plain maps, no undo.
//! It shares no code with the fold beyond the decoding of entries and the rendezvous rank.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ledger::clock::Hlc;
use ledger::command::{Body, Command, LIFETIME_MS_MAX, SignedCommand};
use ledger::entry::EntryError;
use ledger::genesis::Genesis;
use ledger::id::{AccountId, AgentId, BuildId, CommandId, InstanceId, NodeId, OpId};
use ledger::key::PublicKey;
use ledger::op::Op;
use ledger::report::Report;
use ledger::report::instances::{Phase, PlaceInstance};
use projections::cloud::Cloud;
use projections::images::BuildState;
use projections::instances::Wanted;
use projections::outcome::Outcome;
use projections::rendezvous::rank;

use crate::authority::Authority;
use crate::purses::Purses;

/// "Applied", or the name of the reason.
pub(crate) type Verdict = &'static str;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Thing {
    owner: AccountId,
    name: String,
    wanted: char,
    /// generation, node, op
    placements: Vec<(u64, NodeId, OpId)>,
    status: Option<(u64, u32, u8)>,
    hopeless: bool,
}

/// What is so, by the plain rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oracle {
    accounts: BTreeMap<AccountId, (String, PublicKey)>,
    nodes: BTreeMap<NodeId, u64>,
    builds: BTreeMap<BuildId, (AccountId, char)>,
    agents: BTreeMap<AgentId, (AccountId, String, BuildId, u64)>,
    domains: BTreeMap<String, (AccountId, AgentId)>,
    things: BTreeMap<InstanceId, Thing>,
    commands: BTreeMap<CommandId, (PublicKey, Verdict)>,
    nonces: BTreeSet<(PublicKey, [u8; 16])>,
    purses: Purses,
    authority: Authority,
    /// What became of each entry.
    pub(crate) verdicts: BTreeMap<(OpId, usize), Verdict>,
}

fn phase(phase: &Phase) -> u8 {
    match phase {
        Phase::Booted => 0,
        Phase::Serving => 1,
        Phase::Stopped | Phase::Failed { .. } => 2,
        Phase::Deleted => 3,
    }
}

fn winner(id: InstanceId, placements: &[(u64, NodeId, OpId)]) -> Option<(u64, NodeId, OpId)> {
    placements
        .iter()
        .copied()
        .max_by_key(|(generation, node, op)| (*generation, rank(*node, &id.0), Reverse(*op)))
}

pub(crate) fn need(holds: bool, otherwise: Verdict) -> Result<(), Verdict> {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Oracle {
    /// Reads all ops.
    pub(crate) fn read(genesis: &Genesis, ops: &[Op]) -> Self {
        let mut ops = ops.to_vec();
        ops.sort_by_key(|op| (op.order(), op.id()));
        let mut oracle = Self {
            authority: Authority::new(genesis),
            ..Self::default()
        };
        for op in &ops {
            oracle.purses.advance(op.body().hlc.ms());
            for (index, entry) in op.body().entries.iter().enumerate() {
                let verdict = match Report::from_entry(entry) {
                    Err(EntryError::Unknown { kind, version })
                        if !oracle.authority.active.contains(&(kind, version)) =>
                    {
                        Err("NotActive")
                    }
                    Err(_) => Err("NotUnderstood"),
                    Ok(Report::OpenChain(_)) if op.slot().seq == 0 && index == 0 => {
                        let joined = oracle.authority.join(op.node(), op.body().hlc.ms());
                        if joined.is_ok() {
                            oracle.nodes.insert(op.node(), op.slot().chain.incarnation);
                            oracle.purses.joined(op.node());
                        }
                        joined
                    }
                    Ok(Report::OpenChain(_)) => Err("NotItsPlace"),
                    Ok(_) if let Err(verdict) = oracle.authority.member(op.node()) => Err(verdict),
                    Ok(Report::Carry(carry)) => oracle.carry(genesis, op.body().hlc, &carry.command),
                    Ok(report) => oracle.report(op, &report),
                };
                oracle
                    .verdicts
                    .insert((op.id(), index), verdict.err().unwrap_or("Applied"));
            }
        }
        oracle
    }

    fn carry(&mut self, genesis: &Genesis, at: Hlc, bytes: &[u8]) -> Result<(), Verdict> {
        let signed = SignedCommand::decode(genesis.network(), bytes).map_err(|_| "NotUnderstood")?;
        let (id, command) = (signed.id(), signed.command());
        need(!self.commands.contains_key(&id), "Replayed")?;
        let account = |key: &PublicKey| self.authority.keys.get(key).map(|it| it.account);
        let mine = account(&command.key);
        let own = |key: &PublicKey| *key == command.key || (mine.is_some() && account(key) == mine);
        let first = |id: &CommandId| self.commands.get(id).is_some_and(|(key, _)| own(key));
        let result = if self.nonces.contains(&(command.key, command.nonce)) {
            Err("NonceUsed")
        } else if at.ms() > command.not_after_ms {
            Err("Expired")
        } else if command.not_after_ms > at.ms() + LIFETIME_MS_MAX {
            Err("TooFarAhead")
        } else if !command.after.iter().all(first) {
            Err("OutOfOrder")
        } else {
            self.act(id, command, at.ms())
        };
        self.nonces.insert((command.key, command.nonce));
        self.commands
            .insert(id, (command.key, result.err().unwrap_or("Applied")));
        result
    }

    fn own_build(&self, owner: AccountId, build: BuildId) -> Result<(), Verdict> {
        need(self.builds.get(&build).ok_or("NotFound")?.0 == owner, "NotOwner")
    }

    fn own_agent(&self, owner: AccountId, agent: AgentId) -> Result<(), Verdict> {
        need(self.agents.get(&agent).ok_or("NotFound")?.0 == owner, "NotOwner")
    }

    fn act(&mut self, id: CommandId, command: &Command, now_ms: u64) -> Result<(), Verdict> {
        let (key, body) = (command.key, &command.body);
        if let Body::ApproveAct(ask) = body {
            return self.authority.approve(key, ask, now_ms, &mut self.purses);
        }
        if let Body::OpenAccount(ask) = body {
            need(!self.authority.keys.contains_key(&key), "HasAccount")?;
            need(
                self.accounts.values().all(|(name, _)| *name != ask.name),
                "NameTaken",
            )?;
            self.accounts.insert(id.into(), (ask.name.clone(), key));
            self.purses.opened(id.into());
            self.authority.open(key, id.into());
            return Ok(());
        }
        let owner = self.authority.signer(command, now_ms)?;
        let spent = match body {
            Body::TransferCredits(ask) => ask.amount,
            Body::GrantRights(ask) => ask.amount,
            Body::PlaceHold(ask) => ask.amount,
            _ => 0,
        };
        self.authority.check_allowance(key, spent)?;
        if let Some(verdict) = self.purses.act(id, owner, body) {
            verdict?;
            self.authority.spend(key, spent);
            return Ok(());
        }
        match body {
            Body::OpenAccount(_) | Body::ApproveAct(_) => unreachable!("handled above"),
            Body::AddKey(ask) => self.authority.add(key, ask, now_ms)?,
            Body::RevokeKey(ask) => self.authority.revoke(key, owner, ask.key)?,
            Body::BuildImage(ask) => {
                need(self.authority.member(ask.held_by).is_ok(), "NotFound")?;
                self.builds.insert(id.into(), (owner, '?'));
            }
            Body::RegisterAgent(ask) => {
                let domain = self.domains.get(&format!("{}.fog", ask.name));
                need(domain.is_none_or(|(claimer, _)| *claimer == owner), "NameTaken")?;
                need(self.agents.values().all(|agent| agent.1 != ask.name), "NameTaken")?;
                self.own_build(owner, ask.release.build)?;
                self.agents
                    .insert(id.into(), (owner, ask.name.clone(), ask.release.build, 1));
            }
            Body::UpdateAgent(ask) => {
                self.own_agent(owner, ask.agent)?;
                self.own_build(owner, ask.release.build)?;
                let agent = self.agents.get_mut(&ask.agent).expect("is owned");
                (agent.2, agent.3) = (ask.release.build, agent.3 + 1);
            }
            Body::LaunchInstance(ask) => {
                ask.agent.map_or(Ok(()), |agent| self.own_agent(owner, agent))?;
                self.own_build(owner, ask.build)?;
                let twin = |it: &Thing| it.owner == owner && it.name == ask.name && it.wanted != 'D';
                need(!self.things.values().any(twin), "NameTaken")?;
                let name = ask.name.clone();
                let (placements, status, hopeless) = (Vec::new(), None, false);
                let thing = Thing {
                    owner,
                    name,
                    wanted: 'R',
                    placements,
                    status,
                    hopeless,
                };
                self.things.insert(id.into(), thing);
            }
            Body::StopInstance(ask) => self.want(owner, ask.instance, 'S')?,
            Body::StartInstance(ask) => self.want(owner, ask.instance, 'R')?,
            Body::DeleteInstance(ask) => {
                self.want(owner, ask.instance, 'D')?;
                let gone = |it: &Thing| it.placements.is_empty() || it.status.is_some_and(|it| it.2 == 3);
                self.things.retain(|id, it| *id != ask.instance || !gone(it));
            }
            Body::ClaimDomain(ask) => {
                self.own_agent(owner, ask.agent)?;
                let others =
                    |agent: &&(AccountId, String, BuildId, u64)| format!("{}.fog", agent.1) == ask.name;
                need(!self.domains.contains_key(&ask.name), "NameTaken")?;
                need(
                    self.agents
                        .values()
                        .find(others)
                        .is_none_or(|agent| agent.0 == owner),
                    "NameTaken",
                )?;
                self.domains.insert(ask.name.clone(), (owner, ask.agent));
            }
            Body::ReleaseDomain(ask) => {
                need(
                    self.domains.get(&ask.name).ok_or("NotFound")?.0 == owner,
                    "NotOwner",
                )?;
                self.domains.remove(&ask.name);
            }
            Body::TransferCredits(_) | Body::GrantRights(_) | Body::PlaceHold(_) | Body::ReleaseHold(_) => {
                unreachable!("the purses know them")
            }
        }
        Ok(())
    }

    fn want(&mut self, owner: AccountId, id: InstanceId, wanted: char) -> Result<(), Verdict> {
        let thing = self.things.get_mut(&id).ok_or("NotFound")?;
        need(thing.owner == owner, "NotOwner")?;
        need(thing.wanted != 'D', "Deleted")?;
        thing.wanted = wanted;
        Ok(())
    }

    fn report(&mut self, op: &Op, report: &Report) -> Result<(), Verdict> {
        if let Some(verdict) = self.purses.report(op.slot().chain, report) {
            return verdict;
        }
        match report {
            Report::ImageBuilt(it) => self.end_build(it.build, 'B'),
            Report::ImageFailed(it) => self.end_build(it.build, 'F'),
            Report::PlaceInstance(it) => self.place(op, it),
            Report::CannotPlace(it) => {
                let thing = self.things.get_mut(&it.instance).ok_or("NotFound")?;
                need(thing.wanted != 'D', "Deleted")?;
                let now = winner(it.instance, &thing.placements).map_or(0, |winner| winner.0);
                need(now + 1 == it.generation, "StalePlacement")?;
                thing.hopeless = true;
                Ok(())
            }
            Report::InstanceChanged(it) => {
                let thing = self.things.get_mut(&it.instance).ok_or("NotFound")?;
                let of = |(generation, node, _): &(u64, NodeId, OpId)| {
                    (*generation, *node) == (it.generation, op.node())
                };
                need(thing.placements.iter().any(of), "NotItsPlace")?;
                need(
                    winner(it.instance, &thing.placements).is_some_and(|it| of(&it)),
                    "StalePlacement",
                )?;
                let (start, phase) = (it.start, phase(&it.phase));
                need(
                    thing
                        .status
                        .is_none_or(|known| (known.1, known.2) < (start, phase)),
                    "AlreadyReported",
                )?;
                thing.status = Some((it.generation, start, phase));
                if thing.wanted == 'D' && phase == 3 {
                    self.things.remove(&it.instance);
                }
                Ok(())
            }
            Report::OpenChain(_) | Report::Carry(_) => Ok(()),
            Report::AnnounceNode(_) | Report::Charge(_) | Report::EndHold(_) | Report::ReturnRights(_) => {
                unreachable!("the purses know them")
            }
            Report::RenewMembership(_) => self.authority.renew(op.node(), op.body().hlc.ms()),
        }
    }

    fn end_build(&mut self, build: BuildId, state: char) -> Result<(), Verdict> {
        let build = self.builds.get_mut(&build).ok_or("NotFound")?;
        need(build.1 == '?', "AlreadyReported")?;
        build.1 = state;
        Ok(())
    }

    fn place(&mut self, op: &Op, it: &PlaceInstance) -> Result<(), Verdict> {
        let thing = self.things.get_mut(&it.instance).ok_or("NotFound")?;
        need(thing.wanted != 'D', "Deleted")?;
        need(self.authority.member(it.node).is_ok(), "NotFound")?;
        let before =
            |known: &(u64, NodeId, OpId)| Some(known.2) == it.previous && known.0 + 1 == it.generation;
        need(
            it.generation == 1 || thing.placements.iter().any(before),
            "StalePlacement",
        )?;
        need(
            thing.placements.iter().all(|known| known.2 != op.id()),
            "AlreadyReported",
        )?;
        let placed = (it.generation, it.node, op.id());
        thing.placements.push(placed);
        if winner(it.instance, &thing.placements) == Some(placed) {
            (thing.status, thing.hopeless) = (None, false);
        }
        Ok(())
    }

    /// Fails where a `Cloud` tells otherwise.
    pub(crate) fn compare(&self, cloud: &Cloud) {
        self.authority.compare(cloud);
        let accounts = cloud
            .accounts
            .values()
            .map(|it| (it.id, (it.name.clone(), it.key)))
            .collect();
        assert_eq!(self.accounts, accounts);
        let names = cloud
            .account_names
            .iter()
            .map(|(name, id)| (*id, (name.clone(), cloud.accounts[id].key)));
        assert_eq!(self.accounts, names.collect());
        assert_eq!(
            self.nodes,
            cloud.nodes.values().map(|it| (it.id, it.incarnation)).collect()
        );
        let state = |state: &BuildState| match state {
            BuildState::Asked => '?',
            BuildState::Built { .. } => 'B',
            BuildState::Failed { .. } => 'F',
        };
        assert_eq!(
            self.builds,
            cloud
                .builds
                .values()
                .map(|it| (it.id, (it.owner, state(&it.state))))
                .collect()
        );
        let agents = cloud
            .agent_names
            .iter()
            .map(|(name, id)| (name, &cloud.agents[id]));
        let agents = agents.map(|(name, it)| (it.id, (it.owner, name.clone(), it.release.build, it.version)));
        assert_eq!(self.agents, agents.collect());
        let domains = cloud
            .domains
            .values()
            .map(|it| (it.name.clone(), (it.owner, it.agent)));
        assert_eq!(self.domains, domains.collect());
        for it in cloud.instances.values() {
            let mut thing = self.things[&it.id].clone();
            let wanted = match it.wanted {
                Wanted::Running => 'R',
                Wanted::Stopped => 'S',
                Wanted::Deleted => 'D',
            };
            let placements = it
                .placements
                .values()
                .map(|it| (it.generation, it.node, it.op))
                .collect();
            assert_eq!(it.placed, winner(it.id, &thing.placements).map(|winner| winner.2));
            thing.placements.sort_by_key(|placement| placement.2);
            let (owner, name, hopeless) = (it.owner, it.request.name.clone(), it.cannot_place.is_some());
            let status = it
                .status
                .as_ref()
                .map(|it| (it.generation, it.start, phase(&it.phase)));
            assert_eq!(
                thing,
                Thing {
                    owner,
                    name,
                    wanted,
                    placements,
                    status,
                    hopeless
                }
            );
        }
        assert_eq!(self.things.len(), cloud.instances.len());
        let live = self.things.iter().filter(|(_, it)| it.wanted != 'D');
        let live: BTreeMap<_, _> = live.map(|(id, it)| ((it.owner, it.name.clone()), *id)).collect();
        assert_eq!(
            live,
            cloud
                .instance_names
                .iter()
                .map(|(name, id)| (name.clone(), *id))
                .collect()
        );
        let commands = cloud
            .commands
            .iter()
            .map(|(id, it)| (*id, (it.key, name_of(&it.outcome))));
        assert_eq!(
            self.commands
                .iter()
                .map(|(id, it)| (*id, (it.0, it.1.to_owned())))
                .collect::<BTreeMap<_, _>>(),
            commands.collect()
        );
        assert_eq!(self.nonces, cloud.nonces.keys().copied().collect());
        self.purses.compare(cloud);
        let ends = cloud.nonce_ends.keys().map(|(_, key, nonce)| (*key, *nonce));
        assert_eq!(self.nonces, ends.collect());
    }
}

/// "Applied", or the name of the reason.
pub(crate) fn name_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied => "Applied".into(),
        Outcome::Void(void) => format!("{void:?}")
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .collect(),
    }
}
