//! Credits: never below zero, without anybody in charge.
//!
//! ```text
//!            mint (admins)
//!               │            GrantRights                Charge, within a hold
//!               ▼         ┌───────────────▶ rights of one ───────────────┐
//!   ┌────▶ balance of ────┘                 start of a node              ▼
//!   │      an account ◀── ReturnRights, or expiry ──┘            balance of the
//!   └── TransferCredits                                          payout account
//! ```
//! Balances and rights together are what was minted, after every op; none is negative. Only ops of the start
//! that has rights, and their expiry, make them less: so the node knows by its own chain alone what it can
//! still charge. A hold moves nothing; it is the account's word up to which amount, and till when, a node may
//! charge. The account cannot take it back earlier, so what the node charges in time stands.
//!
//! Time is the latest that the log has told: of this op or of one before it in the order. It never steps
//! back, so that what has expired once stays so. Expired rights return when their account next moves
//! credits, and [`Cloud::balance`] counts them before that.

use ledger::clock::Hlc;
use ledger::command::credits::{
    CREDITS_LIFETIME_MS_MAX, GrantRights, PlaceHold, ReleaseHold, TransferCredits,
};
use ledger::id::{AccountId, HoldId, NodeId};
use ledger::report::credits::{Charge, EndHold, ReturnRights};
use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;
use crate::commands::Asked;
use crate::entries::Told;
use crate::keys;
use crate::outcome::Void;
use crate::undo::{Balances, Holds, HoldsByExpiry, Rights, Supply, Writer};

/// Starts of nodes that have rights of one account at a time, at most; a grant beyond that is void.
pub const RIGHTS_MAX: usize = 64;

/// Holds of one account at a time, at most; one beyond that is void.
pub const HOLDS_MAX: usize = 256;

/// Whose credits, which node, which start of it.
type RightKey = (AccountId, NodeId, u64);

/// Credits of an account that one start of a node may spend, and nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Right {
    /// How many, in the smallest unit; never 0.
    pub amount: u64,
    /// When what is left returns to the account.
    pub expires_ms: u64,
}

/// What an account allows a node to charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Its id: the command that signed it.
    pub id: HoldId,
    /// Who is charged.
    pub account: AccountId,
    /// Who may charge.
    pub node: NodeId,
    /// How many credits in all, in the smallest unit.
    pub amount: u64,
    /// How many of these can still be charged.
    pub left: u64,
    /// The number of the last charge.
    pub charged: Option<u64>,
    /// From when on nothing is charged any more.
    pub expires_ms: u64,
    /// What for.
    pub purpose: String,
    /// When it was signed for.
    pub placed: Hlc,
}

/// The time as of a position.
fn position_ms(cloud: &Cloud) -> u64 {
    cloud.position.hlc.ms().max(cloud.finality.time_ms)
}

/// The time that a command is judged by.
fn asked_ms(cloud: &Cloud, asked: &Asked) -> u64 {
    asked.at.ms().max(position_ms(cloud))
}

/// The time that a report is judged by.
fn told_ms(cloud: &Cloud, told: &Told) -> u64 {
    told.at.ms().max(position_ms(cloud))
}

impl Cloud {
    /// What an account can move, in the smallest unit: with the rights that have expired as of this
    /// position, and without those that have not.
    pub fn balance(&self, account: AccountId) -> u64 {
        let now_ms = position_ms(self);
        let expired = self
            .rights_of(account)
            .filter(|(_, _, right)| right.expires_ms <= now_ms);
        expired.fold(stored_balance(self, account), |balance, (_, _, right)| {
            balance.saturating_add(right.amount)
        })
    }

    /// Rights that an account has granted and that have not been given back, by node and start; also
    /// expired ones that have not returned yet. At most [`RIGHTS_MAX`].
    pub fn rights_of(&self, account: AccountId) -> impl Iterator<Item = (NodeId, u64, Right)> {
        self.rights
            .range((account, NodeId([0; 32]), 0)..)
            .take_while(move |((owner, _, _), _)| *owner == account)
            .map(|((_, node, incarnation), right)| (*node, *incarnation, *right))
    }

    /// What one start of a node can still charge an account, as of this position: nothing once the rights
    /// have expired. What its holds allow is another matter.
    pub fn rights_left(&self, account: AccountId, node: NodeId, incarnation: u64) -> u64 {
        let right = live_right(self, &(account, node, incarnation), position_ms(self));
        right.map_or(0, |right| right.amount)
    }

    /// Holds of an account, the one that expires first at the front; also expired ones that have not been
    /// cleared away. At most [`HOLDS_MAX`].
    pub fn holds_of(&self, account: AccountId) -> impl Iterator<Item = &Hold> {
        self.holds_by_expiry
            .range((account, 0, HoldId([0; 32]))..)
            .take_while(move |((owner, _, _), ())| *owner == account)
            .filter_map(|((_, _, hold), ())| self.holds.get(hold))
    }

    /// All credits that were ever minted, in the smallest unit. Balances and rights together are as many.
    pub fn minted(&self) -> u64 {
        self.supply.get(&()).copied().unwrap_or(0)
    }
}

/// Makes credits and gives them to an account. Only the network's admins together may ask for it: who calls
/// this has checked that. All credits together fit into a u64, so that no later sum overflows.
pub(crate) fn mint(writer: &mut Writer<'_>, account: AccountId, amount: u64) -> Result<(), Void> {
    if !writer.accounts.contains_key(&account) {
        return Err(Void::NotFound(format!("account: {account}")));
    }
    if amount == 0 {
        return Err(Void::Refused("no credits are nothing to mint".into()));
    }
    let supply = writer
        .minted()
        .checked_add(amount)
        .ok_or_else(|| Void::Refused(format!("no more than {} credits can be minted", u64::MAX)))?;
    writer.put::<Supply>((), supply);
    add(writer, account, amount);
    Ok(())
}

/// Gives credits to another account.
pub(crate) fn transfer(
    writer: &mut Writer<'_>,
    asked: &Asked,
    from: AccountId,
    ask: &TransferCredits,
) -> Result<(), Void> {
    keys::spend(writer, asked, ask.amount)?;
    if !writer.accounts.contains_key(&ask.to) {
        return Err(Void::NotFound(format!("account: {}", ask.to)));
    }
    settle(writer, from, asked_ms(writer, asked));
    take(writer, from, ask.amount)?;
    add(writer, ask.to, ask.amount);
    Ok(())
}

/// Moves credits of an account into the rights of one start of a node. Granted again, the amounts add up
/// and the later end counts: an end never moves nearer.
pub(crate) fn grant(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &GrantRights,
) -> Result<(), Void> {
    keys::spend(writer, asked, ask.amount)?;
    if !writer.nodes.contains_key(&ask.node) {
        return Err(Void::NotFound(format!("node: {}", ask.node)));
    }
    let now_ms = asked_ms(writer, asked);
    check_lifetime(now_ms, ask.expires_ms)?;
    settle(writer, owner, now_ms);
    let key = (owner, ask.node, ask.incarnation);
    let known = writer.rights.get(&key).copied();
    if known.is_none() && writer.rights_of(owner).count() >= RIGHTS_MAX {
        return Err(Void::Refused(format!(
            "{RIGHTS_MAX} starts of nodes have rights of this account already, which is the most at a time"
        )));
    }
    take(writer, owner, ask.amount)?;
    let known = known.unwrap_or(Right {
        amount: 0,
        expires_ms: 0,
    });
    let right = Right {
        amount: plus(known.amount, ask.amount),
        expires_ms: known.expires_ms.max(ask.expires_ms),
    };
    writer.put::<Rights>(key, right);
    Ok(())
}

/// Allows a node to charge up to an amount. Expired holds of the account make room.
pub(crate) fn hold(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &PlaceHold,
) -> Result<(), Void> {
    keys::spend(writer, asked, ask.amount)?;
    if !writer.nodes.contains_key(&ask.node) {
        return Err(Void::NotFound(format!("node: {}", ask.node)));
    }
    let now_ms = asked_ms(writer, asked);
    check_lifetime(now_ms, ask.expires_ms)?;
    let expired: Vec<HoldId> = writer
        .holds_of(owner)
        .take_while(|hold| hold.expires_ms <= now_ms)
        .map(|hold| hold.id)
        .collect();
    for id in expired {
        drop_hold(writer, id);
    }
    if writer.holds_of(owner).count() >= HOLDS_MAX {
        return Err(Void::Refused(format!(
            "the account has {HOLDS_MAX} holds already, which is the most at a time"
        )));
    }
    let id = HoldId::from(asked.command);
    let hold = Hold {
        id,
        account: owner,
        node: ask.node,
        amount: ask.amount,
        left: ask.amount,
        charged: None,
        expires_ms: ask.expires_ms,
        purpose: ask.purpose.clone(),
        placed: asked.at,
    };
    writer.put::<HoldsByExpiry>((owner, ask.expires_ms, id), ());
    writer.put::<Holds>(id, hold);
    Ok(())
}

/// Clears away an expired hold of the account. Before it expires the node relies on it.
pub(crate) fn release(
    writer: &mut Writer<'_>,
    asked: &Asked,
    owner: AccountId,
    ask: &ReleaseHold,
) -> Result<(), Void> {
    let hold = find_hold(writer, ask.hold)?;
    if hold.account != owner {
        return Err(Void::NotOwner);
    }
    if hold.expires_ms > asked_ms(writer, asked) {
        return Err(Void::Refused(
            "the hold has not expired: until then only its node can end it".into(),
        ));
    }
    drop_hold(writer, ask.hold);
    Ok(())
}

/// A node charges against a hold, out of the rights of the start that says so.
pub(crate) fn charge(writer: &mut Writer<'_>, told: &Told, report: &Charge) -> Result<(), Void> {
    let now_ms = told_ms(writer, told);
    let hold = find_hold(writer, report.hold)?.clone();
    if hold.node != told.node {
        return Err(Void::NotItsPlace);
    }
    if hold.expires_ms <= now_ms {
        return Err(Void::Lapsed("the hold".into()));
    }
    if hold.charged.is_some_and(|last| report.number <= last) {
        return Err(Void::AlreadyReported);
    }
    let left = hold.left.checked_sub(report.amount).ok_or(Void::BeyondHold {
        left: hold.left,
        asked: report.amount,
    })?;
    let payout = writer
        .nodes
        .get(&told.node)
        .and_then(|node| node.announced.as_ref()?.payout)
        .filter(|payout| writer.accounts.contains_key(payout))
        .ok_or(Void::NoPayout)?;
    let key = (hold.account, told.node, told.incarnation);
    reduce(writer, key, now_ms, report.amount)?;
    add(writer, payout, report.amount);
    let charged = Hold {
        left,
        charged: Some(report.number),
        ..hold
    };
    writer.put::<Holds>(report.hold, charged);
    Ok(())
}

/// A node charges nothing more against a hold.
pub(crate) fn end_hold(writer: &mut Writer<'_>, told: &Told, report: &EndHold) -> Result<(), Void> {
    if find_hold(writer, report.hold)?.node != told.node {
        return Err(Void::NotItsPlace);
    }
    drop_hold(writer, report.hold);
    Ok(())
}

/// A node gives rights back: of this start, or of another of its own that it knows to spend no more.
pub(crate) fn return_rights(writer: &mut Writer<'_>, told: &Told, report: &ReturnRights) -> Result<(), Void> {
    let key = (report.account, told.node, report.incarnation);
    let now_ms = told_ms(writer, told);
    reduce(writer, key, now_ms, report.amount)?;
    add(writer, report.account, report.amount);
    Ok(())
}

/// Expired rights return to their account.
fn settle(writer: &mut Writer<'_>, account: AccountId, now_ms: u64) {
    let expired: Vec<_> = writer
        .rights_of(account)
        .filter(|(_, _, right)| right.expires_ms <= now_ms)
        .collect();
    for (node, incarnation, right) in expired {
        writer.remove::<Rights>((account, node, incarnation));
        add(writer, account, right.amount);
    }
}

fn stored_balance(cloud: &Cloud, account: AccountId) -> u64 {
    cloud.balances.get(&account).copied().unwrap_or(0)
}

fn plus(left: u64, right: u64) -> u64 {
    left.checked_add(right)
        .expect("balances and rights are parts of what was minted, which is a u64")
}

fn add(writer: &mut Writer<'_>, account: AccountId, amount: u64) {
    let balance = plus(stored_balance(writer, account), amount);
    put_balance(writer, account, balance);
}

fn take(writer: &mut Writer<'_>, account: AccountId, amount: u64) -> Result<(), Void> {
    let has = stored_balance(writer, account);
    let balance = has
        .checked_sub(amount)
        .ok_or(Void::NotEnough { has, asked: amount })?;
    put_balance(writer, account, balance);
    Ok(())
}

/// An empty balance leaves nothing behind, so that the state tells nothing of how it came to be.
fn put_balance(writer: &mut Writer<'_>, account: AccountId, balance: u64) {
    if balance == 0 {
        writer.remove::<Balances>(account);
    } else {
        writer.put::<Balances>(account, balance);
    }
}

/// Rights that have not expired: expired ones are their account's again, returned yet or not.
fn live_right(cloud: &Cloud, key: &RightKey, now_ms: u64) -> Option<Right> {
    let right = cloud.rights.get(key).copied()?;
    (right.expires_ms > now_ms).then_some(right)
}

/// Makes rights less.
fn reduce(writer: &mut Writer<'_>, key: RightKey, now_ms: u64, amount: u64) -> Result<(), Void> {
    let right = live_right(writer, &key, now_ms);
    let has = right.map_or(0, |right| right.amount);
    match (right, has.checked_sub(amount)) {
        (Some(right), Some(left)) if left > 0 => {
            let amount = left;
            writer.put::<Rights>(key, Right { amount, ..right });
        }
        (Some(_), Some(_)) => writer.remove::<Rights>(key),
        _ => return Err(Void::NotEnoughRights { has, asked: amount }),
    }
    Ok(())
}

fn find_hold<'a>(writer: &'a Writer<'_>, id: HoldId) -> Result<&'a Hold, Void> {
    writer
        .holds
        .get(&id)
        .ok_or_else(|| Void::NotFound(format!("hold: {id}")))
}

fn drop_hold(writer: &mut Writer<'_>, id: HoldId) {
    if let Some(hold) = writer.holds.get(&id) {
        let key = (hold.account, hold.expires_ms, id);
        writer.remove::<HoldsByExpiry>(key);
        writer.remove::<Holds>(id);
    }
}

fn check_lifetime(now_ms: u64, expires_ms: u64) -> Result<(), Void> {
    if expires_ms <= now_ms {
        return Err(Void::Lapsed("what is asked for".into()));
    }
    if expires_ms > now_ms.saturating_add(CREDITS_LIFETIME_MS_MAX) {
        return Err(Void::Refused("rights and holds last at most 30 days".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
