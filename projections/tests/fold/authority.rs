//! The plain rules of who may ask for what: a part of the oracle.

use std::collections::{BTreeMap, BTreeSet};

use ledger::command::admin::{ACT_LIFETIME_MS_MAX, Act, ApproveAct};
use ledger::command::keys::{AddKey, Scopes};
use ledger::command::{Body, Command};
use ledger::finality::witness::WitnessSet;
use ledger::genesis::{ADMINS_MAX, Genesis};
use ledger::id::{AccountId, ActId, NetworkId, NodeId};
use ledger::key::PublicKey;
use projections::cloud::Cloud;

use crate::oracle::{Verdict, need};
use crate::purses::Purses;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) account: AccountId,
    scopes: Scopes,
    parent: Option<PublicKey>,
    end_ms: u64,
    revoked: bool,
    spent: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Authority {
    network: Option<NetworkId>,
    pub(crate) keys: BTreeMap<PublicKey, Key>,
    admins: BTreeSet<PublicKey>,
    needed: usize,
    acts: BTreeMap<ActId, (Vec<PublicKey>, bool)>,
    witnesses: WitnessSet,
    /// With how many certificates came before.
    pub(crate) active: BTreeMap<(u16, u8), usize>,
    /// How many certificates came before what is read now.
    pub(crate) height: usize,
    /// Members, with when they last renewed.
    nodes: BTreeMap<NodeId, u64>,
    revoked: BTreeSet<NodeId>,
}

impl Authority {
    pub(crate) fn new(genesis: &Genesis) -> Self {
        Self {
            network: Some(genesis.network()),
            admins: genesis.admins.iter().copied().collect(),
            needed: genesis.admins_needed.into(),
            witnesses: genesis.witnesses.clone(),
            ..Self::default()
        }
    }

    pub(crate) fn member(&self, node: NodeId) -> Result<(), Verdict> {
        need(self.nodes.contains_key(&node), "NotItsPlace")?;
        need(!self.revoked.contains(&node), "NodeRevoked")
    }

    pub(crate) fn join(&mut self, node: NodeId, now_ms: u64) -> Result<(), Verdict> {
        need(!self.revoked.contains(&node), "NodeRevoked")?;
        self.nodes.insert(node, now_ms);
        Ok(())
    }

    pub(crate) fn renew(&mut self, node: NodeId, now_ms: u64) -> Result<(), Verdict> {
        need(now_ms >= self.nodes[&node] + 24 * 3_600_000, "AlreadySo")?;
        self.nodes.insert(node, now_ms);
        Ok(())
    }

    pub(crate) fn open(&mut self, key: PublicKey, account: AccountId) {
        let root = Key {
            account,
            scopes: Scopes::ALL,
            parent: None,
            end_ms: u64::MAX,
            revoked: false,
            spent: 0,
        };
        self.keys.insert(key, root);
    }

    /// The account that a key signs for, if it stands and may do such a thing.
    pub(crate) fn signer(&self, command: &Command, now_ms: u64) -> Result<AccountId, Verdict> {
        let key = self.keys.get(&command.key).ok_or("NoAccount")?;
        need(!key.revoked, "KeyRevoked")?;
        need(now_ms <= key.end_ms, "KeyExpired")?;
        let may = match &command.body {
            Body::AddKey(_) | Body::RevokeKey(_) => true,
            Body::ClaimDomain(_) | Body::ReleaseDomain(_) => key.scopes.domains,
            Body::TransferCredits(_) | Body::GrantRights(_) | Body::PlaceHold(_) | Body::ReleaseHold(_) => {
                key.scopes.credits.is_some()
            }
            _ => key.scopes.deploy,
        };
        need(may || key.scopes.account, "NoScope")?;
        Ok(key.account)
    }

    /// The key and those above it have so much of their allowances left.
    pub(crate) fn check_allowance(&self, by: PublicKey, amount: u64) -> Result<(), Verdict> {
        let all = self.above(&by).into_iter().chain([by]).map(|it| &self.keys[&it]);
        let fits = |key: &Key| {
            let allowance = key.scopes.credits;
            allowance.is_none_or(|all| u128::from(key.spent) + u128::from(amount) <= u128::from(all))
        };
        need(all.into_iter().all(fits), "BeyondAllowance")
    }

    pub(crate) fn spend(&mut self, by: PublicKey, amount: u64) {
        for it in self.above(&by).into_iter().chain([by]) {
            let key = self.keys.get_mut(&it).expect("is there");
            if key.scopes.credits.is_some() {
                key.spent += amount;
            }
        }
    }

    fn above(&self, key: &PublicKey) -> Vec<PublicKey> {
        let mut above = Vec::new();
        let mut at = self.keys[key].parent;
        while let Some(parent) = at {
            above.push(parent);
            at = self.keys[&parent].parent;
        }
        above
    }

    pub(crate) fn add(&mut self, by: PublicKey, ask: &AddKey, now_ms: u64) -> Result<(), Verdict> {
        let parent = self.keys[&by].clone();
        if let Some(known) = self.keys.get(&ask.key) {
            return Err(if known.revoked { "Refused" } else { "HasAccount" });
        }
        let (has, gives) = (parent.scopes, ask.scopes);
        let less = !gives.account
            && gives.deploy <= has.deploy
            && gives.domains <= has.domains
            && gives.credits <= has.credits;
        need(has.account || less, "BeyondOwn")?;
        let end_ms = ask.expires_ms.unwrap_or(parent.end_ms);
        need(end_ms <= parent.end_ms, "BeyondOwn")?;
        need(end_ms >= now_ms, "Refused")?;
        need(self.above(&by).len() < 4, "TooMany")?;
        let network = self.network.expect("given");
        need(ask.consent.verify(network, parent.account, ask.key), "NoConsent")?;
        let key = Key {
            scopes: gives,
            parent: Some(by),
            end_ms,
            ..parent
        };
        self.keys.insert(ask.key, key);
        Ok(())
    }

    pub(crate) fn revoke(
        &mut self,
        by: PublicKey,
        account: AccountId,
        key: PublicKey,
    ) -> Result<(), Verdict> {
        let known = self.keys.get(&key).ok_or("NotFound")?;
        need(known.account == account, "NotFound")?;
        need(self.above(&key).contains(&by), "NotBelow")?;
        need(!known.revoked, "AlreadySo")?;
        let falls = |it: &PublicKey| *it == key || self.above(it).contains(&key);
        let falling: Vec<_> = self.keys.keys().copied().filter(falls).collect();
        for it in falling {
            self.keys.get_mut(&it).expect("is there").revoked = true;
        }
        Ok(())
    }

    pub(crate) fn approve(
        &mut self,
        by: PublicKey,
        ask: &ApproveAct,
        now_ms: u64,
        purses: &mut Purses,
    ) -> Result<(), Verdict> {
        need(self.admins.contains(&by), "NotAdmin")?;
        let latest = now_ms + ACT_LIFETIME_MS_MAX;
        need((now_ms..=latest).contains(&ask.expires_ms), "Refused")?;
        let id = ask.id(self.network.expect("given"));
        let begun = |(by_whom, done): &&(Vec<PublicKey>, bool)| by_whom.first() == Some(&by) && !done;
        let waiting = self.acts.values().filter(begun).count();
        need(self.acts.contains_key(&id) || waiting < 8, "TooMany")?;
        let (approvals, done) = self.acts.get(&id).cloned().unwrap_or_default();
        need(!done, "AlreadySo")?;
        let again = approvals.contains(&by);
        let all: Vec<_> = approvals.into_iter().filter(|it| *it != by).collect();
        let enough = all.len() + 1 >= self.needed;
        need(enough || !again, "AlreadySo")?;
        if enough {
            self.act(&ask.act, now_ms, purses)?;
        }
        let added = (all.into_iter().chain([by]).collect(), enough);
        self.acts.insert(id, added);
        if let (Act::RemoveAdmin(key), true) = (&ask.act, enough) {
            for (approvals, _) in self.acts.values_mut().filter(|(_, done)| !done) {
                approvals.retain(|it| it != key);
            }
            self.acts.retain(|_, (approvals, _)| !approvals.is_empty());
        }
        Ok(())
    }

    fn act(&mut self, act: &Act, now_ms: u64, purses: &mut Purses) -> Result<(), Verdict> {
        match act {
            Act::AddAdmin(key) => {
                need(!self.admins.contains(key), "AlreadySo")?;
                need(self.admins.len() < ADMINS_MAX, "TooMany")?;
                self.admins.insert(*key);
            }
            Act::RemoveAdmin(key) => {
                need(self.admins.contains(key), "NotFound")?;
                need(self.admins.len() > self.needed, "Refused")?;
                self.admins.remove(key);
            }
            Act::SetAdminsNeeded(needed) => {
                let needed = usize::from(*needed);
                need(needed <= self.admins.len(), "Refused")?;
                need(needed != self.needed, "AlreadySo")?;
                self.needed = needed;
            }
            Act::RevokeNode { node, .. } => {
                need(self.nodes.contains_key(node), "NotFound")?;
                need(self.revoked.insert(*node), "AlreadySo")?;
            }
            Act::ReinstateNode(node) => {
                need(self.nodes.contains_key(node), "NotFound")?;
                need(self.revoked.remove(node), "AlreadySo")?;
                self.nodes.insert(*node, now_ms);
            }
            Act::SetWitnesses(set) => {
                need(!set.is_empty(), "Refused")?;
                need(*set != self.witnesses, "AlreadySo")?;
                need(set.iter().all(|it| self.member(it.node).is_ok()), "NotFound")?;
                self.witnesses = set.clone();
            }
            Act::Activate { kind, version } => {
                let known = ledger::report::Report::knows(*kind, *version) || Body::knows(*kind, *version);
                need(
                    !known && !self.active.contains_key(&(*kind, *version)),
                    "AlreadySo",
                )?;
                self.active.insert((*kind, *version), self.height);
            }
            Act::Mint { account, amount } => purses.mint(*account, *amount)?,
        }
        Ok(())
    }

    /// Fails where a `Cloud` tells otherwise.
    pub(crate) fn compare(&self, cloud: &Cloud) {
        let keys = cloud.keys.iter().map(|(public, it)| {
            let key = Key {
                account: it.account,
                scopes: it.scopes,
                parent: it.added_by,
                end_ms: it.expires_ms.unwrap_or(u64::MAX),
                revoked: it.revoked.is_some(),
                spent: it.spent,
            };
            assert_eq!(usize::from(it.depth), self.above(public).len());
            (*public, key)
        });
        assert_eq!(self.keys, keys.collect());
        let listed = cloud.account_keys.keys().map(|(account, key)| (*key, *account));
        let account = |(public, key): (&PublicKey, &Key)| (*public, key.account);
        assert_eq!(
            self.keys.iter().map(account).collect::<BTreeMap<_, _>>(),
            listed.collect()
        );
        assert_eq!(self.admins, cloud.admins.keys().copied().collect());
        assert_eq!(self.needed, usize::from(cloud.admins_needed()));
        assert_eq!(self.witnesses, *cloud.witnesses_wanted());
        let acts = cloud.acts.iter().map(|(id, it)| {
            let approvals: BTreeSet<_> = it.approvals.iter().copied().collect();
            (*id, (approvals, it.done.is_some()))
        });
        let own = |(id, (approvals, done)): (&ActId, &(Vec<PublicKey>, bool))| {
            (*id, (approvals.iter().copied().collect(), *done))
        };
        assert_eq!(
            self.acts.iter().map(own).collect::<BTreeMap<_, _>>(),
            acts.collect()
        );
        let nodes = cloud.nodes.values().map(|it| (it.id, it.renewed_ms));
        assert_eq!(self.nodes, nodes.collect());
        let ended = |(node, it): (&NodeId, &projections::revocations::Revocation)| {
            it.reinstated.is_none().then_some(*node)
        };
        assert_eq!(self.revoked, cloud.revocations.iter().filter_map(ended).collect());
        let active = cloud
            .activations
            .iter()
            .map(|(kind, it)| (*kind, it.height as usize));
        assert_eq!(self.active, active.collect());
    }
}
