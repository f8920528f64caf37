//! `form domain`: names under `.fog` that lead to agents.

use api::views::domains::{DomainOrigin, DomainView};
use clap::{Args, Subcommand};
use ledger::command::domains::{ClaimDomain, ReleaseDomain, VANITY_ZONE};

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::ago;
use crate::submit::{now_ms, submit};

/// Domain names: list, claim, release.
#[derive(Debug, Subcommand)]
pub enum DomainCommand {
    /// List the names that lead to agents
    #[command(visible_alias = "ls")]
    List,
    /// Claim a name for an agent of yours; first come, first served
    Claim(ClaimArgs),
    /// Give a name back
    #[command(visible_alias = "rm")]
    Release(ReleaseArgs),
}

/// `form domain claim`.
#[derive(Debug, Args)]
pub struct ClaimArgs {
    /// The name, such as hello.fog
    #[arg(value_name = "NAME.fog", value_parser = domain)]
    name: String,
    /// Where it leads: name, id, or the beginning of the id of an agent
    #[arg(value_name = "AGENT")]
    agent: String,
}

/// `form domain release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The name, such as hello.fog
    #[arg(value_name = "NAME.fog", value_parser = domain)]
    name: String,
}

impl DomainCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            DomainCommand::List => {
                let row = |domain: &DomainView| {
                    vec![
                        domain.name.clone(),
                        domain.agent_name.clone().unwrap_or_else(|| domain.agent.short()),
                        domain.owner_name.clone().unwrap_or_else(|| domain.owner.short()),
                        match domain.origin {
                            DomainOrigin::Claimed => "claimed".into(),
                            DomainOrigin::Vanity => "the agent's name".into(),
                        },
                        ago(domain.claimed_ms, now_ms()),
                    ]
                };
                let header = ["NAME", "AGENT", "OWNER", "ORIGIN", "SINCE"];
                let domains = invocation.domains().await?;
                invocation
                    .output
                    .list(&domains, &header, row, |domain| domain.name.clone())
            }
            DomainCommand::Claim(ClaimArgs { name, agent }) => {
                let agent = invocation.agent(&agent).await?;
                submit(
                    invocation,
                    ClaimDomain {
                        name: name.clone(),
                        agent: agent.id,
                    },
                )
                .await?;
                let mut domains = invocation.domains().await?.into_iter();
                let is_it =
                    |domain: &DomainView| domain.name == name && domain.origin == DomainOrigin::Claimed;
                let claimed = domains.find(is_it).ok_or_else(|| {
                    Failure::new(
                        Exit::Conflict,
                        format!("`{name}` was claimed, and went to another at once"),
                    )
                })?;
                let fields =
                    |domain: &DomainView| vec![("name", domain.name.clone()), ("agent", agent.name.clone())];
                invocation
                    .output
                    .one(&claimed, fields, |domain| domain.name.clone())
            }
            DomainCommand::Release(ReleaseArgs { name }) => {
                let command = submit(invocation, ReleaseDomain { name: name.clone() }).await?;
                let done = serde_json::json!({ "name": name, "released": true, "command": command });
                invocation
                    .output
                    .value(&done, |_| format!("{name} is free again"))
            }
        }
    }
}

/// A name as the log keeps it: lower case, without a trailing dot. For clap.
fn domain(text: &str) -> Result<String, String> {
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let label = name
        .strip_suffix(VANITY_ZONE)
        .and_then(|rest| rest.strip_suffix('.'));
    match label.map(ledger::command::accounts::check_label) {
        Some(Ok(())) => Ok(name),
        _ => Err("a name is LABEL.fog, its label 1 to 63 of a-z, 0-9 and inner hyphens".into()),
    }
}
