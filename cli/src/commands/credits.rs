//! `form credits`: what an account has, and what it lets nodes charge. docs/credits.md draws how they flow.

use api::views::credits::{CreditsView, HoldView, RightsView};
use clap::{Args, Subcommand};
use ledger::command::credits::{GrantRights, PlaceHold, ReleaseHold, TransferCredits};

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{ago, span};
use crate::submit::{lifetime, now_ms, submit};

/// Credits: what you have, transfer, let a node charge.
#[derive(Debug, Subcommand)]
pub enum CreditsCommand {
    /// Show an account's balance, rights and holds; without a name, yours
    Show(ShowArgs),
    /// Give credits to another account
    Transfer(TransferArgs),
    /// Let one start of a node spend credits of yours, till a time; not to be taken back before that
    Grant(GrantArgs),
    /// Allow a node to charge you up to an amount, out of the rights that it has
    Hold(HoldArgs),
    /// Clear away a hold of yours that has expired
    Release(ReleaseArgs),
    /// List an account's holds; without a name, yours
    Holds(ShowArgs),
}

/// `form credits show` and `holds`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Name, id, or the beginning of the id of an account
    #[arg(value_name = "ACCOUNT")]
    account: Option<String>,
}

/// `form credits transfer`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  form credits transfer bob 250 --memo 'for the build' --until final")]
pub struct TransferArgs {
    /// Who gets them: name, id, or the beginning of the id
    #[arg(value_name = "ACCOUNT")]
    to: String,
    /// How many, in the smallest unit
    #[arg(value_name = "AMOUNT", value_parser = clap::value_parser!(u64).range(1..))]
    amount: u64,
    /// What for; everybody can read it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    memo: String,
}

/// `form credits grant`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  form credits grant first 1000 --expires 7d     then a hold says up to how much the node may charge")]
pub struct GrantArgs {
    /// Name, id, or the beginning of the id of a node
    #[arg(value_name = "NODE")]
    node: String,
    /// How many, in the smallest unit
    #[arg(value_name = "AMOUNT", value_parser = clap::value_parser!(u64).range(1..))]
    amount: u64,
    /// After what time that which is left returns to you; at most 30d
    #[arg(long, value_name = "TIME", value_parser = lifetime, default_value = "7d")]
    expires: u64,
    /// Which start of the node, sixteen hexadecimal digits [default: its newest]
    #[arg(long, value_name = "INCARNATION", value_parser = incarnation)]
    incarnation: Option<u64>,
}

/// `form credits hold`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  form credits hold first 1000 --expires 7d --purpose 'a week of hello'")]
pub struct HoldArgs {
    /// Name, id, or the beginning of the id of a node
    #[arg(value_name = "NODE")]
    node: String,
    /// How many in all, in the smallest unit
    #[arg(value_name = "AMOUNT", value_parser = clap::value_parser!(u64).range(1..))]
    amount: u64,
    /// After what time nothing is charged any more; at most 30d
    #[arg(long, value_name = "TIME", value_parser = lifetime, default_value = "7d")]
    expires: u64,
    /// What for; everybody can read it
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    purpose: String,
}

/// `form credits release`.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The hold: its id, or the beginning of it
    #[arg(value_name = "HOLD")]
    hold: String,
}

impl CreditsCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            CreditsCommand::Show(ShowArgs { account }) => {
                show(invocation, &invocation.credits(account.as_deref()).await?)
            }
            CreditsCommand::Transfer(TransferArgs { to, amount, memo }) => {
                let to = invocation.account(&to).await?.id;
                submit(invocation, TransferCredits { to, amount, memo }).await?;
                show(invocation, &invocation.credits(None).await?)
            }
            CreditsCommand::Grant(args) => grant(invocation, args).await,
            CreditsCommand::Hold(args) => hold(invocation, args).await,
            CreditsCommand::Release(ReleaseArgs { hold }) => release(invocation, &hold).await,
            CreditsCommand::Holds(ShowArgs { account }) => {
                let holds = invocation.credits(account.as_deref()).await?.holds;
                let row = |hold: &HoldView| {
                    vec![
                        hold.id.short(),
                        hold.node_name.clone().unwrap_or_else(|| hold.node.short()),
                        hold.left.to_string(),
                        hold.amount.to_string(),
                        ends(hold.expires_ms),
                        hold.purpose.clone(),
                    ]
                };
                let header = ["ID", "NODE", "LEFT", "AMOUNT", "ENDS", "PURPOSE"];
                invocation
                    .output
                    .list(&holds, &header, row, |hold| hold.id.to_string())
            }
        }
    }
}

async fn grant(invocation: &Invocation, args: GrantArgs) -> Result<(), Failure> {
    let node = invocation.node(&args.node).await?;
    let incarnation = match args.incarnation {
        Some(incarnation) => incarnation,
        None => incarnation(&node.incarnation).map_err(|message| Failure::new(Exit::Failed, message))?,
    };
    let grant = GrantRights {
        node: node.id,
        incarnation,
        amount: args.amount,
        expires_ms: now_ms().saturating_add(args.expires),
    };
    submit(invocation, grant).await?;
    show(invocation, &invocation.credits(None).await?)
}

async fn hold(invocation: &Invocation, args: HoldArgs) -> Result<(), Failure> {
    let hold = PlaceHold {
        node: invocation.node(&args.node).await?.id,
        amount: args.amount,
        expires_ms: now_ms().saturating_add(args.expires),
        purpose: args.purpose,
    };
    let id = submit(invocation, hold).await?;
    let mut holds = invocation.credits(None).await?.holds.into_iter();
    let placed = holds.find(|hold| hold.id.0 == id.0).ok_or_else(|| {
        Failure::new(
            Exit::Conflict,
            "the hold was placed, and the node has ended it at once",
        )
    })?;
    invocation
        .output
        .one(&placed, hold_fields, |hold| hold.id.to_string())
}

async fn release(invocation: &Invocation, called: &str) -> Result<(), Failure> {
    let holds = invocation.credits(None).await?.holds;
    let mut found = holds
        .iter()
        .filter(|hold| hold.id.to_string().starts_with(called));
    let hold = match (found.next(), found.next()) {
        (Some(hold), None) => hold.id,
        (Some(_), Some(_)) => {
            let failure = format!("`{called}` is the beginning of the id of more than one hold");
            return Err(Failure::new(Exit::Conflict, failure).hint("give more digits"));
        }
        (None, _) => {
            let failure = format!("the account has no hold `{called}`");
            return Err(Failure::new(Exit::NotFound, failure).hint("`form credits holds` lists them"));
        }
    };
    let command = submit(invocation, ReleaseHold { hold }).await?;
    let done = serde_json::json!({ "hold": hold, "released": true, "command": command });
    invocation
        .output
        .value(&done, |_| format!("the hold {} is cleared away", hold.short()))
}

fn show(invocation: &Invocation, credits: &CreditsView) -> Result<(), Failure> {
    let right = |right: &RightsView| {
        let node = right.node_name.clone().unwrap_or_else(|| right.node.short());
        let (amount, start) = (right.amount, &right.incarnation);
        (
            "rights",
            format!("{amount} at {node} (start {start}), {}", ends(right.expires_ms)),
        )
    };
    let hold = |hold: &HoldView| {
        let node = hold.node_name.clone().unwrap_or_else(|| hold.node.short());
        let (left, amount) = (hold.left, hold.amount);
        let id = hold.id.short();
        (
            "hold",
            format!("{id}: {left} of {amount} for {node}, {}", ends(hold.expires_ms)),
        )
    };
    let fields = |credits: &CreditsView| {
        let mut fields = vec![
            ("account", credits.name.clone()),
            ("balance", credits.balance.to_string()),
        ];
        fields.extend(credits.rights.iter().map(right));
        fields.extend(credits.holds.iter().map(hold));
        fields
    };
    invocation
        .output
        .one(credits, fields, |credits| credits.balance.to_string())
}

fn hold_fields(hold: &HoldView) -> Vec<(&'static str, String)> {
    vec![
        ("hold", hold.id.to_string()),
        (
            "node",
            hold.node_name.clone().unwrap_or_else(|| hold.node.short()),
        ),
        ("amount", hold.amount.to_string()),
        ("left", hold.left.to_string()),
        ("ends", ends(hold.expires_ms)),
        ("purpose", hold.purpose.clone()),
    ]
}

fn ends(at_ms: u64) -> String {
    match at_ms.checked_sub(now_ms()) {
        Some(left_ms) => format!("ends in {}", span(left_ms)),
        None => format!("ended {}", ago(at_ms, now_ms())),
    }
}

/// A start of a node as it is shown, for clap.
fn incarnation(text: &str) -> Result<u64, String> {
    u64::from_str_radix(text, 16).map_err(|_| format!("`{text}` is not up to sixteen hexadecimal digits"))
}
