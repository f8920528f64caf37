//! `form account`: who may ask for things.

use api::views::accounts::AccountView;
use clap::{Args, Subcommand};
use ledger::command::accounts::OpenAccount;

use crate::commands::node::label;
use crate::exit::Failure;
use crate::invocation::Invocation;
use crate::output::ago;
use crate::submit::{now_ms, submit};

/// Accounts: open yours, list, show.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Open an account for your key
    Open(OpenArgs),
    /// List the network's accounts
    #[command(visible_alias = "ls")]
    List,
    /// Show an account; without a name, yours
    Show(ShowArgs),
}

/// `form account open`.
#[derive(Debug, Args)]
pub struct OpenArgs {
    /// Its name, unique in the network: 1 to 63 of a-z, 0-9 and inner hyphens
    #[arg(value_name = "NAME", value_parser = label)]
    name: String,
}

/// `form account show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Name, id, or the beginning of the id
    #[arg(value_name = "ACCOUNT")]
    account: Option<String>,
}

impl AccountCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            AccountCommand::Open(OpenArgs { name }) => {
                let id = submit(invocation, OpenAccount { name }).await?;
                show(invocation, &invocation.account(&id.to_string()).await?)
            }
            AccountCommand::List => {
                let accounts = invocation.accounts().await?;
                let row = |account: &AccountView| {
                    vec![
                        account.name.clone(),
                        account.id.short(),
                        ago(account.opened_ms, now_ms()),
                        account.key.to_string(),
                    ]
                };
                let header = ["NAME", "ID", "OPENED", "KEY"];
                invocation
                    .output
                    .list(&accounts, &header, row, |account| account.name.clone())
            }
            AccountCommand::Show(ShowArgs { account: None }) => show(invocation, &invocation.me().await?),
            AccountCommand::Show(ShowArgs {
                account: Some(account),
            }) => show(invocation, &invocation.account(&account).await?),
        }
    }
}

fn show(invocation: &Invocation, account: &AccountView) -> Result<(), Failure> {
    let fields = |account: &AccountView| {
        vec![
            ("name", account.name.clone()),
            ("id", account.id.to_string()),
            ("key", account.key.to_string()),
            ("opened", ago(account.opened_ms, now_ms())),
        ]
    };
    invocation
        .output
        .one(account, fields, |account| account.name.clone())
}
