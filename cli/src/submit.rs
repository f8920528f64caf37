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

/// Random bytes: a nonce, or a salt.
pub fn random_16() -> Result<[u8; 16], Failure> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        Failure::new(
            Exit::Failed,
            format!("asking the system for random bytes: {error}"),
        )
    })?;
    Ok(bytes)
}

/// How long something is to last, in milliseconds: `10m`, `12h`, `30d`, for clap.
pub fn lifetime(text: &str) -> Result<u64, String> {
    const DAYS_MAX: u64 = 3650;
    const DAY_S: u64 = 24 * 60 * 60;
    let wrong = || "a lifetime is 1 s to 3650 d, written like 90s, 10m, 12h or 30d".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => DAY_S,
        _ => return Err(wrong()),
    };
    let seconds = text[..text.len() - 1]
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(factor));
    match seconds {
        Some(seconds) if (1..=DAYS_MAX * DAY_S).contains(&seconds) => Ok(seconds * 1000),
        _ => Err(wrong()),
    }
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
    let nonce = random_16()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_has_a_unit_and_a_bound() {
        assert_eq!(lifetime("90s"), Ok(90_000));
        assert_eq!(lifetime("30d"), Ok(30 * 24 * 60 * 60 * 1000));
        for wrong in [
            "",
            "90",
            "d",
            "0d",
            "-1d",
            "3651d",
            "1w",
            "1é",
            "99999999999999999999d",
        ] {
            assert!(lifetime(wrong).is_err(), "{wrong}");
        }
    }
}
