//! The rules once more, in the plainest way: sort all ops, read one after the other, plain maps, no undo.
//! It shares no code with the fold beyond the decoding of entries and the rendezvous rank.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ledger::command::{Body, Command, LIFETIME_MS_MAX, SignedCommand};
use ledger::entry::EntryError;
use ledger::genesis::Genesis;
use ledger::id::{AccountId, AgentId, BuildId, CommandId, InstanceId, NodeId, OpId};
use ledger::key::PublicKey;
use ledger::op::{Chain, Op};
use ledger::report::Report;
use ledger::report::instances::{Phase, PlaceInstance};
use projections::rendezvous::rank;

use crate::authority::Authority;
use crate::purses::Purses;

/// "Applied", or the name of the reason.
pub(crate) type Verdict = &'static str;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Thing {
    pub(crate) owner: AccountId,
    pub(crate) name: String,
    pub(crate) wanted: char,
    /// generation, node, op
    pub(crate) placements: Vec<(u64, NodeId, OpId)>,
    pub(crate) status: Option<(u64, u32, u8)>,
    pub(crate) hopeless: bool,
}

/// What is so, by the plain rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Oracle {
    pub(crate) accounts: BTreeMap<AccountId, (String, PublicKey)>,
    pub(crate) nodes: BTreeMap<NodeId, u64>,
    pub(crate) builds: BTreeMap<BuildId, (AccountId, char)>,
    pub(crate) agents: BTreeMap<AgentId, (AccountId, String, BuildId, u64)>,
    pub(crate) domains: BTreeMap<String, (AccountId, AgentId)>,
    pub(crate) things: BTreeMap<InstanceId, Thing>,
    pub(crate) commands: BTreeMap<CommandId, (PublicKey, Verdict)>,
    /// With when each is past.
    pub(crate) nonces: BTreeSet<(u64, PublicKey, [u8; 16])>,
    pub(crate) authority: Authority,
    pub(crate) purses: Purses,
    /// What became of each entry.
    pub(crate) verdicts: BTreeMap<(OpId, usize), Verdict>,
}

pub(crate) fn phase(phase: &Phase) -> u8 {
    match phase {
        Phase::Booted => 0,
        Phase::Serving => 1,
        Phase::Stopped | Phase::Failed { .. } => 2,
        Phase::Deleted => 3,
    }
}

pub(crate) fn winner(id: InstanceId, placements: &[(u64, NodeId, OpId)]) -> Option<(u64, NodeId, OpId)> {
    placements
        .iter()
        .copied()
        .max_by_key(|(generation, node, op)| (*generation, rank(*node, &id.0), Reverse(*op)))
}

pub(crate) fn need(holds: bool, otherwise: Verdict) -> Result<(), Verdict> {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Oracle {
    /// Reads all ops: what each certificate covers (its time, ops), then the rest; of that nothing counts
    /// from `forked` places on.
    pub(crate) fn read(
        genesis: &Genesis,
        ops: &[Op],
        certificates: &[(u64, BTreeSet<OpId>)],
        forked: &[(Chain, u64)],
    ) -> Self {
        let lane = |op: &Op| certificates.iter().position(|(_, ids)| ids.contains(&op.id()));
        let mut ops: Vec<_> = ops
            .iter()
            .map(|op| (lane(op).unwrap_or(certificates.len()), op))
            .collect();
        ops.sort_by_key(|(lane, op)| (*lane, op.order(), op.id()));
        let mut oracle = Self {
            authority: Authority::new(genesis),
            ..Self::default()
        };
        for (lane, op) in ops {
            let before = lane.checked_sub(1).map_or(0, |before| certificates[before].0);
            let now_ms = op.body().hlc.ms().max(before);
            let slot = op.slot();
            let void = lane == certificates.len()
                && forked
                    .iter()
                    .any(|(chain, from)| slot.chain == *chain && slot.seq >= *from);
            if !void {
                oracle.purses.advance(now_ms);
            }
            oracle.authority.height = lane;
            for (index, entry) in op.body().entries.iter().enumerate() {
                let verdict = match Report::from_entry(entry) {
                    _ if void => Err("Quarantined"),
                    Err(EntryError::Unknown { kind, version })
                        if oracle
                            .authority
                            .active
                            .get(&(kind, version))
                            .is_none_or(|at| *at >= lane) =>
                    {
                        Err("NotActive")
                    }
                    Err(_) => Err("NotUnderstood"),
                    Ok(Report::OpenChain(_)) if op.slot().seq == 0 && index == 0 => {
                        let joined = oracle.authority.join(op.node(), now_ms);
                        if joined.is_ok() {
                            oracle.nodes.insert(op.node(), op.slot().chain.incarnation);
                            oracle.purses.joined(op.node());
                        }
                        joined
                    }
                    Ok(Report::OpenChain(_)) => Err("NotItsPlace"),
                    Ok(_) if let Err(verdict) = oracle.authority.member(op.node()) => Err(verdict),
                    Ok(Report::Carry(carry)) => oracle.carry(genesis, now_ms, before, &carry.command),
                    Ok(Report::RenewMembership(_)) => oracle.authority.renew(op.node(), now_ms),
                    Ok(report) => oracle.report(op, &report),
                };
                oracle
                    .verdicts
                    .insert((op.id(), index), verdict.err().unwrap_or("Applied"));
            }
        }
        let certified_ms = certificates.last().map_or(0, |last| last.0);
        oracle.purses.advance(certified_ms);
        oracle
    }

    fn carry(
        &mut self,
        genesis: &Genesis,
        now_ms: u64,
        certified_ms: u64,
        bytes: &[u8],
    ) -> Result<(), Verdict> {
        let signed = SignedCommand::decode(genesis.network(), bytes).map_err(|_| "NotUnderstood")?;
        let (id, command) = (signed.id(), signed.command());
        need(!self.commands.contains_key(&id), "Replayed")?;
        let account = |key: &PublicKey| self.authority.keys.get(key).map(|it| it.account);
        let mine = account(&command.key);
        let own = |key: &PublicKey| *key == command.key || (mine.is_some() && account(key) == mine);
        let first = |id: &CommandId| self.commands.get(id).is_some_and(|(key, _)| own(key));
        let past: Vec<_> = self.nonces.iter().take(2).copied().collect();
        for nonce in past.into_iter().filter(|(end_ms, ..)| *end_ms < certified_ms) {
            self.nonces.remove(&nonce);
        }
        let (key, nonce) = (command.key, command.nonce);
        let used = self.nonces.iter().any(|(_, by, it)| (*by, *it) == (key, nonce));
        let result = if used {
            Err("NonceUsed")
        } else if now_ms > command.not_after_ms {
            Err("Expired")
        } else if command.not_after_ms > now_ms + LIFETIME_MS_MAX {
            Err("TooFarAhead")
        } else if !command.after.iter().all(first) {
            Err("OutOfOrder")
        } else {
            self.act(id, command, now_ms)
        };
        if !used {
            self.nonces.insert((command.not_after_ms, key, nonce));
        }
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
            Report::AnnounceNode(_) | Report::Charge(_) | Report::EndHold(_) | Report::ReturnRights(_) => {
                unreachable!("the purses know them")
            }
            Report::OpenChain(_) | Report::Carry(_) | Report::RenewMembership(_) => {
                unreachable!("handled above")
            }
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
}
