//! The rules of credits once more, in the plainest way: whenever time moves, everything that has expired
//! returns at once. It shares no code with the fold.

use std::collections::BTreeMap;

use ledger::command::Body;
use ledger::command::credits::CREDITS_LIFETIME_MS_MAX;
use ledger::id::{AccountId, CommandId, HoldId, NodeId};
use ledger::op::Chain;
use ledger::report::Report;
use projections::cloud::Cloud;

type Verdict = Result<(), &'static str>;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Promise {
    account: AccountId,
    node: NodeId,
    left: u64,
    expires_ms: u64,
    last: Option<u64>,
}

/// Who has what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Purses {
    now_ms: u64,
    minted: u128,
    accounts: Vec<AccountId>,
    nodes: Vec<NodeId>,
    payouts: BTreeMap<NodeId, AccountId>,
    balances: BTreeMap<AccountId, u128>,
    rights: BTreeMap<(AccountId, NodeId, u64), (u64, u64)>,
    promises: BTreeMap<HoldId, Promise>,
}

fn need(holds: bool, otherwise: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise) }
}

impl Purses {
    /// Time has come to this at least.
    pub(crate) fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        let now_ms = self.now_ms;
        let over = |right: &(u64, u64)| right.1 <= now_ms;
        for (key, right) in self.rights.iter().filter(|(_, right)| over(right)) {
            *self.balances.entry(key.0).or_default() += u128::from(right.0);
        }
        self.rights.retain(|_, right| !over(right));
    }

    /// An account was opened.
    pub(crate) fn opened(&mut self, account: AccountId) {
        self.accounts.push(account);
    }

    /// A node is there.
    pub(crate) fn joined(&mut self, node: NodeId) {
        self.nodes.push(node);
    }

    /// The admins make credits.
    #[allow(dead_code, reason = "not every test that shares this file mints")]
    pub(crate) fn mint(&mut self, account: AccountId, amount: u64) -> Verdict {
        need(self.accounts.contains(&account), "NotFound")?;
        need(amount > 0, "Refused")?;
        need(
            self.minted + u128::from(amount) <= u128::from(u64::MAX),
            "Refused",
        )?;
        self.minted += u128::from(amount);
        *self.balances.entry(account).or_default() += u128::from(amount);
        Ok(())
    }

    /// An account asks for something; nothing if that is not about credits.
    pub(crate) fn act(&mut self, id: CommandId, owner: AccountId, body: &Body) -> Option<Verdict> {
        Some(match body {
            Body::TransferCredits(it) => {
                if self.accounts.contains(&it.to) {
                    self.pay(owner, it.amount).map(|()| {
                        *self.balances.entry(it.to).or_default() += u128::from(it.amount);
                    })
                } else {
                    Err("NotFound")
                }
            }
            Body::GrantRights(it) => self
                .check_new(it.node, it.expires_ms)
                .and_then(|()| {
                    let key = (owner, it.node, it.incarnation);
                    let many = self.rights.keys().filter(|key| key.0 == owner).count();
                    need(self.rights.contains_key(&key) || many < 64, "Refused")
                })
                .and_then(|()| self.pay(owner, it.amount))
                .map(|()| {
                    let right = self
                        .rights
                        .entry((owner, it.node, it.incarnation))
                        .or_insert((0, 0));
                    *right = (right.0 + it.amount, right.1.max(it.expires_ms));
                }),
            Body::PlaceHold(it) => self.check_new(it.node, it.expires_ms).and_then(|()| {
                let now_ms = self.now_ms;
                self.promises
                    .retain(|_, it| it.account != owner || it.expires_ms > now_ms);
                let many = self.promises.values().filter(|it| it.account == owner).count();
                need(many < 256, "Refused")?;
                let promise = Promise {
                    account: owner,
                    node: it.node,
                    left: it.amount,
                    expires_ms: it.expires_ms,
                    last: None,
                };
                self.promises.insert(id.into(), promise);
                Ok(())
            }),
            Body::ReleaseHold(it) => self.release(owner, it.hold),
            _ => return None,
        })
    }

    fn release(&mut self, owner: AccountId, hold: HoldId) -> Verdict {
        let promise = self.promises.get(&hold).ok_or("NotFound")?;
        need(promise.account == owner, "NotOwner")?;
        need(promise.expires_ms <= self.now_ms, "Refused")?;
        self.promises.remove(&hold);
        Ok(())
    }

    fn pay(&mut self, from: AccountId, amount: u64) -> Verdict {
        let balance = self.balances.entry(from).or_default();
        *balance = balance.checked_sub(u128::from(amount)).ok_or("NotEnough")?;
        Ok(())
    }

    fn check_new(&self, node: NodeId, expires_ms: u64) -> Verdict {
        need(self.nodes.contains(&node), "NotFound")?;
        need(expires_ms > self.now_ms, "Lapsed")?;
        need(expires_ms <= self.now_ms + CREDITS_LIFETIME_MS_MAX, "Refused")
    }

    /// A node tells something; nothing if that is not about credits.
    pub(crate) fn report(&mut self, chain: Chain, report: &Report) -> Option<Verdict> {
        Some(match report {
            Report::AnnounceNode(it) => {
                match it.payout {
                    Some(payout) => self.payouts.insert(chain.node, payout),
                    None => self.payouts.remove(&chain.node),
                };
                Ok(())
            }
            Report::Charge(it) => self.charge(chain, it.hold, it.amount, it.number),
            Report::EndHold(it) => match self.promises.get(&it.hold) {
                None => Err("NotFound"),
                Some(promise) if promise.node != chain.node => Err("NotItsPlace"),
                Some(_) => {
                    self.promises.remove(&it.hold);
                    Ok(())
                }
            },
            Report::ReturnRights(it) => self
                .spend((it.account, chain.node, it.incarnation), it.amount)
                .map(|()| *self.balances.entry(it.account).or_default() += u128::from(it.amount)),
            _ => return None,
        })
    }

    fn charge(&mut self, chain: Chain, hold: HoldId, amount: u64, number: u64) -> Verdict {
        let promise = self.promises.get(&hold).ok_or("NotFound")?.clone();
        need(promise.node == chain.node, "NotItsPlace")?;
        need(promise.expires_ms > self.now_ms, "Lapsed")?;
        need(promise.last.is_none_or(|last| number > last), "AlreadyReported")?;
        need(promise.left >= amount, "BeyondHold")?;
        let payout = *self.payouts.get(&chain.node).ok_or("NoPayout")?;
        need(self.accounts.contains(&payout), "NoPayout")?;
        self.spend((promise.account, chain.node, chain.incarnation), amount)?;
        *self.balances.entry(payout).or_default() += u128::from(amount);
        let promise = self.promises.get_mut(&hold).expect("was just read");
        (promise.left, promise.last) = (promise.left - amount, Some(number));
        Ok(())
    }

    fn spend(&mut self, key: (AccountId, NodeId, u64), amount: u64) -> Verdict {
        let right = self
            .rights
            .get_mut(&key)
            .filter(|right| right.0 >= amount)
            .ok_or("NotEnoughRights")?;
        right.0 -= amount;
        self.rights.retain(|_, right| right.0 > 0);
        Ok(())
    }

    /// Fails where a `Cloud` tells otherwise.
    pub(crate) fn compare(&self, cloud: &Cloud) {
        assert_eq!(self.minted, u128::from(cloud.minted()));
        for account in &self.accounts {
            let balance = self.balances.get(account).copied().unwrap_or(0);
            assert_eq!(balance, u128::from(cloud.balance(*account)), "{account}");
        }
        for ((account, node, incarnation), _) in cloud.rights.iter() {
            let key = (*account, *node, *incarnation);
            let amount = self.rights.get(&key).map_or(0, |right| right.0);
            assert_eq!(amount, cloud.rights_left(*account, *node, *incarnation));
        }
        for ((account, node, incarnation), (amount, _)) in &self.rights {
            assert_eq!(*amount, cloud.rights_left(*account, *node, *incarnation));
        }
        let promises = cloud.holds.iter().map(|(id, it)| {
            let promise = Promise {
                account: it.account,
                node: it.node,
                left: it.left,
                expires_ms: it.expires_ms,
                last: it.charged,
            };
            (*id, promise)
        });
        assert_eq!(self.promises, promises.collect());
        let by_expiry: Vec<_> = self
            .accounts
            .iter()
            .flat_map(|account| cloud.holds_of(*account).map(|hold| hold.id))
            .collect();
        assert_eq!(by_expiry.len(), self.promises.len());
        assert_eq!(cloud.holds_by_expiry.len(), self.promises.len());
    }
}

/// The law of credits: balances and rights are what was minted, and what holds have lost is within them.
#[allow(dead_code, reason = "not every test that shares this file looks at each step")]
pub(crate) fn assert_sums(cloud: &Cloud) {
    let balances: u128 = cloud.balances.values().map(|it| u128::from(*it)).sum();
    let rights: u128 = cloud.rights.values().map(|it| u128::from(it.amount)).sum();
    assert_eq!(
        balances + rights,
        u128::from(cloud.minted()),
        "balances {balances} + rights {rights} = minted"
    );
    assert!(
        cloud.balances.values().all(|it| *it > 0),
        "no empty balance is kept"
    );
    assert!(
        cloud.rights.values().all(|it| it.amount > 0),
        "no empty right is kept"
    );
    assert!(cloud.holds.values().all(|it| it.left <= it.amount));
}
