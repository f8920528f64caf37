//! What the network's admins do together: who they are, how many are needed, and which acts wait.
//!
//! Each admin approves an act by a command of their own; the act takes effect, once, with the approval that
//! makes as many as are needed, by keys that are admins then. Admins are equals: where two acts are at odds,
//! such as one admin ending another while that one ends the first, the one that is complete first in the
//! order of the log counts, and the other finds its author no admin any more.

use ledger::clock::Hlc;
use ledger::command::admin::{ACT_LIFETIME_MS_MAX, Act, ApproveAct};
use ledger::finality::witness::WitnessSet;
use ledger::genesis::{ADMINS_MAX, Genesis};
use ledger::id::{ActId, NodeId, OpId};
use ledger::key::PublicKey;
use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;
use crate::commands::Asked;
use crate::kinds::{self, ACTIVATIONS_MAX, Activation, Standing};
use crate::outcome::Void;
use crate::undo::{Activations, Acts, Admins, Charters, Writer};
use crate::{credits, nodes};

/// Acts that are remembered, at most: those that wait, and those done whose approvals could still come.
pub const ACTS_MAX: usize = 256;

/// Acts that one admin may have begun and that still wait, at most: one of them alone cannot use up the
/// places of all.
pub const WAITING_MAX: usize = 8;

/// How long after its end an act is remembered, in milliseconds: more than effective time ever steps back
/// from one op to the next.
pub const REMEMBERED_MS: u64 = 60 * 60 * 1000;

/// One who may invite nodes and approve acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admin {
    /// When the key became an admin's; zero for those of the genesis.
    pub since: Hlc,
}

/// What the admins have settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    /// How many have to approve an act.
    pub admins_needed: u8,
    /// The witnesses that they named last; none: those of the genesis.
    pub witnesses: Option<WitnessChange>,
}

/// A set of witnesses that the admins named. It votes once the op is final, two checkpoints later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessChange {
    /// The set.
    pub set: WitnessSet,
    /// The op that carried the last approval needed.
    pub op: OpId,
}

/// An act that somebody approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActRecord {
    /// What is to be done.
    pub act: Act,
    /// Chosen by the admin who began: who approves names the same.
    pub salt: [u8; 16],
    /// The last millisecond since 1970, of effective time, at which an approval counts.
    pub expires_ms: u64,
    /// When the first approval came.
    pub begun: Hlc,
    /// Who approved and is still an admin, in the order of approval.
    pub approvals: Vec<PublicKey>,
    /// The op with which it took effect, if it has.
    pub done: Option<OpId>,
}

/// The admins of a genesis.
pub(crate) fn admins_of(genesis: &Genesis) -> imbl::OrdMap<PublicKey, Admin> {
    let since = Hlc::default();
    genesis.admins.iter().map(|key| (*key, Admin { since })).collect()
}

/// What a genesis settles.
pub(crate) fn charter_of(genesis: &Genesis) -> Charter {
    Charter {
        admins_needed: genesis.admins_needed,
        witnesses: None,
    }
}

impl ActRecord {
    /// What an admin signs to approve it.
    pub fn approval(&self) -> ApproveAct {
        ApproveAct {
            act: self.act.clone(),
            salt: self.salt,
            expires_ms: self.expires_ms,
        }
    }
}

impl Cloud {
    /// How many admins have to approve an act.
    pub fn admins_needed(&self) -> u8 {
        self.charter()
            .map_or(self.genesis.admins_needed, |charter| charter.admins_needed)
    }

    /// The set of witnesses that the admins want: the one that they named last, else that of the genesis.
    pub fn witnesses_wanted(&self) -> &WitnessSet {
        self.charter()
            .and_then(|charter| charter.witnesses.as_ref())
            .map_or(&self.genesis.witnesses, |change| &change.set)
    }

    /// The acts that wait for more approvals at a time, in effective milliseconds.
    pub fn acts_waiting(&self, now_ms: u64) -> impl Iterator<Item = (ActId, &ActRecord)> {
        self.acts
            .iter()
            .filter(move |(_, record)| record.done.is_none() && record.expires_ms >= now_ms)
            .map(|(id, record)| (*id, record))
    }

    fn charter(&self) -> Option<&Charter> {
        self.charters.get(&self.network)
    }
}

/// An admin approves an act; the last that was needed makes it take effect.
pub(crate) fn approve(writer: &mut Writer<'_>, asked: &Asked, ask: &ApproveAct) -> Result<(), Void> {
    let now_ms = asked.effective_ms;
    if !writer.admins.contains_key(&asked.key) {
        return Err(Void::NotAdmin(asked.key));
    }
    if ask.expires_ms < now_ms {
        return Err(Void::Refused("the time for approving the act is over".into()));
    }
    if ask.expires_ms > now_ms.saturating_add(ACT_LIFETIME_MS_MAX) {
        return Err(Void::Refused("the act's end is more than a week ahead".into()));
    }
    forget(writer, now_ms);
    let id = ask.id(writer.network);
    let mut record = match writer.acts.get(&id) {
        Some(known) => known.clone(),
        None => {
            check_room(writer, asked)?;
            ActRecord {
                act: ask.act.clone(),
                salt: ask.salt,
                expires_ms: ask.expires_ms,
                begun: asked.at,
                approvals: Vec::new(),
                done: None,
            }
        }
    };
    if record.done.is_some() {
        return Err(Void::AlreadySo("the act took effect".into()));
    }
    let again = record.approvals.contains(&asked.key);
    if !again {
        record.approvals.push(asked.key);
    }
    let needed = usize::from(writer.admins_needed());
    if record.approvals.len() >= needed {
        record.done = Some(asked.op);
    } else if again {
        return Err(Void::AlreadySo("this admin has approved the act".into()));
    }
    let done = record.done.is_some();
    writer.put::<Acts>(id, record);
    if done {
        take_effect(writer, asked, &ask.act)?;
    }
    Ok(())
}

/// Forgets acts that are long past.
fn forget(writer: &mut Writer<'_>, now_ms: u64) {
    let past = |record: &ActRecord| record.expires_ms.saturating_add(REMEMBERED_MS) < now_ms;
    let past: Vec<_> = writer
        .acts
        .iter()
        .filter(|(_, record)| past(record))
        .map(|(id, _)| *id)
        .collect();
    for id in past {
        writer.remove::<Acts>(id);
    }
}

fn check_room(writer: &Writer<'_>, asked: &Asked) -> Result<(), Void> {
    let begun = |record: &&ActRecord| record.done.is_none() && record.approvals.first() == Some(&asked.key);
    if writer.acts.values().filter(begun).count() >= WAITING_MAX {
        return Err(too_many("acts that this admin began and that wait", WAITING_MAX));
    }
    if writer.acts.len() >= ACTS_MAX {
        return Err(too_many("acts not over yet", ACTS_MAX));
    }
    Ok(())
}

fn too_many(what: &str, max: usize) -> Void {
    Void::TooMany {
        what: what.into(),
        max: max as u64,
    }
}

fn take_effect(writer: &mut Writer<'_>, asked: &Asked, act: &Act) -> Result<(), Void> {
    match act {
        Act::AddAdmin(key) => add_admin(writer, asked, *key),
        Act::RemoveAdmin(key) => remove_admin(writer, *key),
        Act::SetAdminsNeeded(needed) => set_admins_needed(writer, *needed),
        Act::RevokeNode { node, cutoff } => nodes::revoke(writer, asked, *node, *cutoff),
        Act::ReinstateNode(node) => nodes::reinstate(writer, asked, *node),
        Act::SetWitnesses(set) => set_witnesses(writer, asked, set),
        Act::Activate { kind, version } => activate(writer, asked, *kind, *version),
        Act::Mint { account, amount } => credits::mint(writer, *account, *amount),
    }
}

fn add_admin(writer: &mut Writer<'_>, asked: &Asked, key: PublicKey) -> Result<(), Void> {
    if writer.admins.contains_key(&key) {
        return Err(Void::AlreadySo("the key is an admin's".into()));
    }
    if writer.admins.len() >= ADMINS_MAX {
        return Err(too_many("admins", ADMINS_MAX));
    }
    writer.put::<Admins>(key, Admin { since: asked.at });
    Ok(())
}

/// What the admin had approved and still waits needs others from then on.
fn remove_admin(writer: &mut Writer<'_>, key: PublicKey) -> Result<(), Void> {
    if !writer.admins.contains_key(&key) {
        return Err(Void::NotFound(format!("admin: {key}")));
    }
    if writer.admins.len() <= usize::from(writer.admins_needed()) {
        return Err(Void::Refused(format!(
            "{} admins are needed and there are no more: add one, or lower the number, first",
            writer.admins_needed()
        )));
    }
    writer.remove::<Admins>(key);
    let approved: Vec<_> = writer
        .acts
        .iter()
        .filter(|(_, record)| record.done.is_none() && record.approvals.contains(&key))
        .map(|(id, record)| (*id, record.clone()))
        .collect();
    for (id, mut record) in approved {
        record.approvals.retain(|approver| *approver != key);
        if record.approvals.is_empty() {
            writer.remove::<Acts>(id);
        } else {
            writer.put::<Acts>(id, record);
        }
    }
    Ok(())
}

fn change_charter(writer: &mut Writer<'_>, change: impl FnOnce(&mut Charter)) {
    let network = writer.network;
    let mut charter = writer
        .charter()
        .cloned()
        .unwrap_or_else(|| charter_of(&writer.genesis));
    change(&mut charter);
    writer.put::<Charters>(network, charter);
}

fn set_admins_needed(writer: &mut Writer<'_>, needed: u8) -> Result<(), Void> {
    if usize::from(needed) > writer.admins.len() {
        return Err(Void::Refused(format!(
            "there are {} admins, fewer than {needed}",
            writer.admins.len()
        )));
    }
    if needed == writer.admins_needed() {
        return Err(Void::AlreadySo(format!("{needed} admins are needed")));
    }
    change_charter(writer, |charter| charter.admins_needed = needed);
    Ok(())
}

fn set_witnesses(writer: &mut Writer<'_>, asked: &Asked, set: &WitnessSet) -> Result<(), Void> {
    if set.is_empty() {
        return Err(Void::Refused(
            "a set of nobody would end all finality: name at least one witness".into(),
        ));
    }
    if set == writer.witnesses_wanted() {
        return Err(Void::AlreadySo("these are the witnesses".into()));
    }
    let is_member = |node: &NodeId| nodes::check_member(writer, *node, asked.certified_ms).is_ok();
    if let Some(stranger) = set.iter().find(|witness| !is_member(&witness.node)) {
        return Err(Void::NotFound(format!("member: {}", stranger.node)));
    }
    let change = WitnessChange {
        set: set.clone(),
        op: asked.op,
    };
    change_charter(writer, |charter| charter.witnesses = Some(change));
    Ok(())
}

fn activate(writer: &mut Writer<'_>, asked: &Asked, kind: u16, version: u8) -> Result<(), Void> {
    let named = writer.activations.contains_key(&(kind, version));
    if named || kinds::standing(writer, kind, version) != Standing::NotYet {
        return Err(Void::AlreadySo(format!(
            "kind {kind} version {version} is activated"
        )));
    }
    if writer.activations.len() >= ACTIVATIONS_MAX {
        return Err(too_many("activations", ACTIVATIONS_MAX));
    }
    let activation = Activation {
        op: asked.op,
        at: asked.at,
        height: writer.finality.height,
    };
    writer.put::<Activations>((kind, version), activation);
    Ok(())
}
