//! Carried commands: whether one counts at all, before the file of its area says what it does.
//!
//! A command is used up by the first op, in the order of the log, that carries it from a member: whatever
//! became of it then is final for that command, and nobody can carry it again at a better moment. What a
//! stranger, a revoked or an expired node carries, and what is of a kind that does not count yet, leaves no
//! trace: any member may carry it again. The signature was verified when the op was admitted, and is not
//! verified here.

use ledger::clock::Hlc;
use ledger::command::{self, Body, Command, CommandError, LIFETIME_MS_MAX, SignedCommand};
use ledger::entry::Entry;
use ledger::id::{AccountId, AgentId, BuildId, CommandId, OpId};
use ledger::key::PublicKey;

use crate::agents::Agent;
use crate::cloud::Cloud;
use crate::entries::Told;
use crate::outcome::{CommandRecord, Outcome, Void};
use crate::undo::{Commands, NonceEnds, Nonces, Writer};
use crate::{accounts, admin, agents, credits, domains, images, instances, keys, kinds};

/// A person asks for something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The command, which names what it makes.
    pub(crate) command: CommandId,
    /// Who signed.
    pub(crate) key: PublicKey,
    /// The op that carries it.
    pub(crate) op: OpId,
    /// When it entered the log, by the clock of the node that carries it.
    pub(crate) at: Hlc,
    /// See [`Told::effective_ms`].
    pub(crate) effective_ms: u64,
    /// See [`Told::certified_ms`].
    pub(crate) certified_ms: Option<u64>,
}

/// Why an entry that carries what is no command of this build is void: its kind does not count yet, or it is
/// not well formed.
pub(crate) fn why_not_understood(cloud: &Cloud, entry: &Entry, error: &CommandError) -> Void {
    let kind = entry.carried().and_then(|bytes| command::kind_of(&bytes));
    match kind.map(|kind| kinds::check(cloud, kind)) {
        Ok(Err(void)) => void,
        _ => Void::NotUnderstood(error.to_string()),
    }
}

/// Does what a carried command asks for, or says why not, and notes it either way.
pub(crate) fn apply(writer: &mut Writer<'_>, told: &Told, signed: &SignedCommand) -> Result<(), Void> {
    let command = signed.command();
    kinds::check(writer, signed.kind())?;
    if writer.commands.contains_key(&signed.id()) {
        return Err(Void::Replayed);
    }
    let asked = Asked {
        command: signed.id(),
        key: command.key,
        op: told.op,
        at: told.at,
        effective_ms: told.effective_ms,
        certified_ms: told.certified_ms,
    };
    let result = use_nonce(writer, &asked, command)
        .and_then(|()| check_time(&asked, command))
        .and_then(|()| check_after(writer, command))
        .and_then(|()| writer.all_or_nothing(|writer| act(writer, &asked, &command.body)));
    let outcome = match &result {
        Ok(()) => Outcome::Applied,
        Err(void) => Outcome::Void(void.clone()),
    };
    let record = CommandRecord {
        key: command.key,
        op: told.op,
        kind: command.body.kind_number(),
        at: told.at,
        outcome,
    };
    writer.put::<Commands>(signed.id(), record);
    result
}

fn use_nonce(writer: &mut Writer<'_>, asked: &Asked, command: &Command) -> Result<(), Void> {
    forget_nonces(writer, asked.certified_ms);
    let nonce = (command.key, command.nonce);
    if writer.nonces.contains_key(&nonce) {
        return Err(Void::NonceUsed);
    }
    writer.put::<Nonces>(nonce, asked.command);
    writer.put::<NonceEnds>((command.not_after_ms, command.key, command.nonce), ());
    Ok(())
}

/// Nonces that a command lets go of, at most: more than the one that it uses, so that they do not pile up.
const NONCES_FORGOTTEN_MAX: usize = 2;

/// Lets go of nonces whose commands are past by certified time: whoever carried one again would find it
/// expired.
fn forget_nonces(writer: &mut Writer<'_>, certified_ms: Option<u64>) {
    let Some(now_ms) = certified_ms else { return };
    let past: Vec<_> = writer
        .nonce_ends
        .keys()
        .take(NONCES_FORGOTTEN_MAX)
        .take_while(|(end_ms, ..)| *end_ms < now_ms)
        .copied()
        .collect();
    for (end_ms, key, nonce) in past {
        writer.remove::<NonceEnds>((end_ms, key, nonce));
        writer.remove::<Nonces>((key, nonce));
    }
}

fn check_time(asked: &Asked, command: &Command) -> Result<(), Void> {
    let now_ms = asked.effective_ms;
    if command.not_after_ms < now_ms {
        return Err(Void::Expired);
    }
    if command.not_after_ms > now_ms.saturating_add(LIFETIME_MS_MAX) {
        return Err(Void::TooFarAhead);
    }
    Ok(())
}

/// Own commands that must come first are there, or some of another key of the same account; what became of
/// them does not matter here.
fn check_after(writer: &Writer<'_>, command: &Command) -> Result<(), Void> {
    let account = |key: &PublicKey| writer.keys.get(key).map(|key| key.account);
    let mine = account(&command.key);
    let own = |key: &PublicKey| *key == command.key || (mine.is_some() && account(key) == mine);
    let missing = command.after.iter().find(|first| {
        let record = writer.commands.get(*first);
        record.is_none_or(|record| !own(&record.key))
    });
    match missing {
        Some(first) => Err(Void::OutOfOrder(*first)),
        None => Ok(()),
    }
}

fn act(writer: &mut Writer<'_>, asked: &Asked, body: &Body) -> Result<(), Void> {
    match (body, keys::account_for(writer, asked, body)?) {
        (Body::OpenAccount(ask), _) => accounts::open(writer, asked, ask),
        (Body::ApproveAct(ask), _) => admin::approve(writer, asked, ask),
        (_, None) => Err(Void::NoAccount),
        (Body::BuildImage(ask), Some(owner)) => images::build(writer, asked, owner, ask),
        (Body::RegisterAgent(ask), Some(owner)) => agents::register(writer, asked, owner, ask),
        (Body::UpdateAgent(ask), Some(owner)) => agents::update(writer, asked, owner, ask),
        (Body::LaunchInstance(ask), Some(owner)) => instances::launch(writer, asked, owner, ask),
        (Body::StopInstance(ask), Some(owner)) => instances::stop(writer, asked, owner, ask.instance),
        (Body::StartInstance(ask), Some(owner)) => instances::start(writer, asked, owner, ask.instance),
        (Body::DeleteInstance(ask), Some(owner)) => instances::delete(writer, asked, owner, ask.instance),
        (Body::ClaimDomain(ask), Some(owner)) => domains::claim(writer, asked, owner, ask),
        (Body::ReleaseDomain(ask), Some(owner)) => domains::release(writer, owner, ask),
        (Body::TransferCredits(ask), Some(owner)) => credits::transfer(writer, asked, owner, ask),
        (Body::GrantRights(ask), Some(owner)) => credits::grant(writer, asked, owner, ask),
        (Body::PlaceHold(ask), Some(owner)) => credits::hold(writer, asked, owner, ask),
        (Body::ReleaseHold(ask), Some(owner)) => credits::release(writer, asked, owner, ask),
        (Body::AddKey(ask), Some(_)) => keys::add(writer, asked, ask),
        (Body::RevokeKey(ask), Some(owner)) => keys::revoke(writer, asked, owner, ask),
    }
}

/// The build is there and belongs to `owner`.
pub(crate) fn check_own_build(writer: &Writer<'_>, owner: AccountId, build: BuildId) -> Result<(), Void> {
    let found = writer
        .builds
        .get(&build)
        .ok_or_else(|| Void::NotFound(format!("build: {build}")))?;
    if found.owner == owner {
        Ok(())
    } else {
        Err(Void::NotOwner)
    }
}

/// The agent is there and belongs to `owner`.
pub(crate) fn check_own_agent<'a>(
    writer: &'a Writer<'_>,
    owner: AccountId,
    agent: AgentId,
) -> Result<&'a Agent, Void> {
    let found = writer
        .agents
        .get(&agent)
        .ok_or_else(|| Void::NotFound(format!("agent: {agent}")))?;
    if found.owner == owner {
        Ok(found)
    } else {
        Err(Void::NotOwner)
    }
}

#[cfg(test)]
mod tests {
    use ledger::command::accounts::OpenAccount;
    use ledger::genesis::Genesis;
    use ledger::key::SecretKey;

    use super::*;
    use crate::undo::UndoLog;

    const BEGIN_MS: u64 = 1_000_000;

    /// A command that opens no account, as its name is taken, and ends so many milliseconds after the begin.
    fn command(cloud: &Cloud, nonce: u8, life_ms: u64) -> SignedCommand {
        let secret = SecretKey::from_seed([1; 32]);
        let command = Command {
            key: secret.public(),
            nonce: [nonce; 16],
            not_after_ms: BEGIN_MS + life_ms,
            after: Vec::new(),
            body: OpenAccount { name: "ann".into() }.into(),
        };
        command.sign(cloud.network, &secret)
    }

    fn carry(cloud: &mut Cloud, command: &SignedCommand, certified_ms: Option<u64>) -> Result<(), Void> {
        let now_ms = certified_ms.unwrap_or(BEGIN_MS);
        let told = Told {
            op: OpId([2; 32]),
            node: ledger::id::NodeId([3; 32]),
            incarnation: 1,
            opens_chain: false,
            at: Hlc::at_ms(now_ms),
            effective_ms: now_ms,
            certified_ms,
        };
        apply(&mut Writer::new(cloud, &mut UndoLog::default()), &told, command)
    }

    #[test]
    fn nonces_are_forgotten_once_their_commands_are_past_by_certified_time() {
        let mut cloud = Cloud::new(Genesis {
            name: "test".into(),
            admins: Vec::new(),
            admins_needed: 1,
            witnesses: Default::default(),
            created_ms: 0,
            salt: [0; 16],
        });
        let early: Vec<_> = (1..=3).map(|nonce| command(&cloud, nonce, 100)).collect();
        for command in &early {
            let _void_or_not = carry(&mut cloud, command, None);
        }
        let at_end = command(&cloud, 4, 500);
        assert_eq!(
            carry(&mut cloud, &at_end, Some(BEGIN_MS + 100)),
            Err(Void::HasAccount)
        );
        assert_eq!(cloud.nonces.len(), 4, "they could still count");
        for (nonce, left) in [(5, 3), (6, 3), (7, 4)] {
            let next = command(&cloud, nonce, 500);
            assert_eq!(
                carry(&mut cloud, &next, Some(BEGIN_MS + 101)),
                Err(Void::HasAccount)
            );
            assert_eq!(cloud.nonces.len(), left);
            assert_eq!(cloud.nonce_ends.len(), left);
        }
        let reused = command(&cloud, 1, 600);
        assert_eq!(
            carry(&mut cloud, &reused, Some(BEGIN_MS + 101)),
            Err(Void::HasAccount)
        );
        let used = command(&cloud, 7, 600);
        assert_eq!(
            carry(&mut cloud, &used, Some(BEGIN_MS + 101)),
            Err(Void::NonceUsed)
        );
    }
}
