//! Signs what a person asks for and sends it: the network's id is asked once, the nonce is random, the
//! command counts for ten minutes, and a command that changed nothing is a failure with its reason.

use std::time::{SystemTime, UNIX_EPOCH};

use ledger::command::{Body, Command, SignedCommand};
use ledger::id::CommandId;

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;

/// How long a command may take to reach the log, in milliseconds: a clock that is minutes off and a slow
/// link fit in, a copy that somebody kept does not.
pub const COMMAND_LIFETIME_MS: u64 = 10 * 60 * 1000;

/// The wall clock, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Signs `body`, sends it and waits for its outcome. The id is that of what it made, if it made something.
pub async fn submit(invocation: &Invocation, body: impl Into<Body>) -> Result<CommandId, Failure> {
    submit_after(invocation, body, &[]).await
}

/// As [`submit`], for a command that counts only where these came first.
pub async fn submit_after(
    invocation: &Invocation,
    body: impl Into<Body>,
    after: &[CommandId],
) -> Result<CommandId, Failure> {
    let signed = sign(invocation, body.into(), after).await?;
    invocation.post(&signed).await
}

async fn sign(invocation: &Invocation, body: Body, after: &[CommandId]) -> Result<SignedCommand, Failure> {
    let secret = invocation.secret()?;
    let network = invocation.network().await?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("asking the system for random bytes: {error}"),
        )
    })?;
    let not_after_ms = now_ms().saturating_add(COMMAND_LIFETIME_MS);
    let command = Command {
        key: secret.public(),
        nonce,
        not_after_ms,
        after: after.to_vec(),
        body,
    };
    let signed = command.sign(network, &secret);

    // The node would refuse it with a code; here the words can be about what the person typed.
    SignedCommand::decode(network, signed.bytes()).map_err(|error| {
        Failure::new(Exit::Usage, format!("this cannot be asked for: {error}"))
            .hint("names are 1 to 63 of a-z, 0-9 and inner hyphens; domains are NAME.fog")
    })?;
    Ok(signed)
}
