//! Carried commands: whether one counts at all, before the file of its area says what it does.
//!
//! A command is used up by the first op, in the order of the log, that carries it from a member: whatever
//! became of it then is final for that command, and nobody can carry it again at a better moment. Its
//! signature was verified when the op was admitted, and is not verified here.

use ledger::clock::Hlc;
use ledger::command::{Body, Command, LIFETIME_MS_MAX, SignedCommand};
use ledger::id::{AccountId, AgentId, BuildId, CommandId};
use ledger::key::PublicKey;

use crate::agents::Agent;
use crate::entries::Told;
use crate::outcome::{CommandRecord, Outcome, Void};
use crate::undo::{Commands, Nonces, Writer};
use crate::{accounts, agents, domains, images, instances};

/// A person asks for something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The command, which names what it makes.
    pub(crate) command: CommandId,
    /// Who signed.
    pub(crate) key: PublicKey,
    /// When it entered the log, by the clock of the node that carries it.
    pub(crate) at: Hlc,
    /// See [`Told::effective_ms`].
    pub(crate) effective_ms: u64,
}

/// Does what a carried command asks for, or says why not, and notes it either way.
pub(crate) fn apply(writer: &mut Writer<'_>, told: &Told, signed: &SignedCommand) -> Result<(), Void> {
    let command = signed.command();
    if writer.commands.contains_key(&signed.id()) {
        return Err(Void::Replayed);
    }
    let asked = Asked {
        command: signed.id(),
        key: command.key,
        at: told.at,
        effective_ms: told.effective_ms,
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
    let nonce = (command.key, command.nonce);
    if writer.nonces.contains_key(&nonce) {
        return Err(Void::NonceUsed);
    }
    writer.put::<Nonces>(nonce, asked.command);
    Ok(())
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

/// Own commands that must come first are there; what became of them does not matter here.
fn check_after(writer: &Writer<'_>, command: &Command) -> Result<(), Void> {
    let missing = command.after.iter().find(|first| {
        writer
            .commands
            .get(*first)
            .is_none_or(|record| record.key != command.key)
    });
    match missing {
        Some(first) => Err(Void::OutOfOrder(*first)),
        None => Ok(()),
    }
}

fn act(writer: &mut Writer<'_>, asked: &Asked, body: &Body) -> Result<(), Void> {
    match (body, writer.keys.get(&asked.key).copied()) {
        (Body::OpenAccount(ask), _) => accounts::open(writer, asked, ask),
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
