//! `form account`: who may ask for things, and with which keys.

use api::views::accounts::AccountView;
use api::views::keys::{KeyView, KeyWord};
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use ledger::command::accounts::OpenAccount;
use ledger::command::keys::{AddKey, Consent, RevokeKey, Scopes};
use ledger::id::AccountId;
use ledger::key::{PublicKey, SecretKey};

use crate::commands::node::label;
use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{ago, span};
use crate::submit::{lifetime, now_ms, submit};

/// Accounts: open yours, list, show, and the keys that sign for it.
#[derive(Debug, Subcommand)]
pub enum AccountCommand {
    /// Open an account for your key
    Open(OpenArgs),
    /// List the network's accounts
    #[command(visible_alias = "ls")]
    List,
    /// Show an account; without a name, yours
    Show(ShowArgs),
    /// List the keys that sign for an account, or did; without a name, yours
    Keys(ShowArgs),
    /// Let another key sign for your account, for everything or for less
    AddKey(AddKeyArgs),
    /// End a key that yours added, directly or through others, and all that it added
    RevokeKey(RevokeKeyArgs),
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

/// `form account add-key`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  form account add-key --from-key ci --scope deploy --expires 30d
  form account add-key --from-key shop --scope credits:500,domains
  form account add-key PUBLIC_KEY --label laptop --scope account --consent HEX
A key on another machine consents there: form key consent --account ACCOUNT_ID
A key hands on what it may do, or less. Every key may read what only the account may read.")]
pub struct AddKeyArgs {
    /// The key: `ed25519:` and 64 hexadecimal digits
    #[arg(
        value_name = "PUBLIC_KEY",
        required_unless_present = "from_key",
        conflicts_with = "from_key"
    )]
    public: Option<PublicKey>,
    /// A key of yours on this machine
    #[arg(long, value_name = "NAME")]
    from_key: Option<String>,
    /// What it may sign for: `account` (everything), `deploy`, `domains`, `credits:AMOUNT` (how many it may spend
    /// in its life), `read`; more than one with commas
    #[arg(long, value_name = "SCOPE", value_delimiter = ',', required = true, value_parser = scope)]
    scope: Vec<Scopes>,
    /// How long it signs, such as 12h or 30d [default: as long as the key that adds it]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<u64>,
    /// What people call it: 1 to 63 of a-z, 0-9 and inner hyphens [default: its name on this machine, or `key`]
    #[arg(long, value_name = "TEXT", value_parser = label)]
    label: Option<String>,
    /// The new key's own word, if it is not on this machine: what `form key consent` printed on its own
    #[arg(long, value_name = "HEX", value_parser = consent)]
    consent: Option<Consent>,
}

/// `form account revoke-key`.
#[derive(Debug, Args)]
pub struct RevokeKeyArgs {
    /// The key, or its label where only one key of the account has it
    #[arg(value_name = "KEY")]
    called: String,
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
            AccountCommand::Keys(ShowArgs { account }) => keys(invocation, account.as_deref()).await,
            AccountCommand::AddKey(args) => add_key(invocation, args).await,
            AccountCommand::RevokeKey(args) => revoke_key(invocation, args).await,
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

async fn keys(invocation: &Invocation, account: Option<&str>) -> Result<(), Failure> {
    let keys = invocation.account_keys(account).await?;
    let row = |key: &KeyView| {
        vec![
            key.label.clone(),
            key.state.as_str().into(),
            scopes_of(key),
            ends(key),
            key.key.to_string(),
        ]
    };
    let header = ["LABEL", "STATE", "SCOPES", "ENDS", "KEY"];
    invocation
        .output
        .list(&keys, &header, row, |key| key.key.to_string())
}

fn scopes_of(key: &KeyView) -> String {
    let word = |word: &api::views::keys::ScopeWord| match (word, key.allowance) {
        (api::views::keys::ScopeWord::Credits, Some(allowance)) => {
            format!("credits:{allowance} ({} spent)", key.spent)
        }
        (word, _) => word.as_str().to_owned(),
    };
    key.scopes.iter().map(word).collect::<Vec<_>>().join(",")
}

fn ends(key: &KeyView) -> String {
    match (key.revoked_ms, key.expires_ms) {
        (Some(at_ms), _) => ago(at_ms, now_ms()),
        (None, None) => "never".into(),
        (None, Some(last_ms)) => match last_ms.checked_sub(now_ms()) {
            Some(left_ms) => format!("in {}", span(left_ms)),
            None => ago(last_ms, now_ms()),
        },
    }
}

async fn add_key(invocation: &Invocation, args: AddKeyArgs) -> Result<(), Failure> {
    let account = invocation.me().await?.id;
    let (public, local) = match (&args.from_key, args.public) {
        (Some(name), _) => {
            let secret = invocation.keyring()?.secret(name)?;
            (secret.public(), Some(secret))
        }
        (None, Some(public)) => (public, held(invocation, public)?),
        (None, None) => unreachable!("clap asks for one of the two"),
    };
    let consent = match (args.consent, local) {
        (Some(consent), _) => consent,
        (None, Some(secret)) => Consent::sign(invocation.network().await?, account, &secret),
        (None, None) => return Err(no_consent(account)),
    };
    let add = AddKey {
        key: public,
        scopes: together(&args.scope)?,
        expires_ms: args.expires.map(|lasts_ms| now_ms().saturating_add(lasts_ms)),
        label: args.label.or(args.from_key).unwrap_or_else(|| "key".into()),
        consent,
    };
    submit(invocation, add).await?;
    show_key(invocation, public).await
}

fn no_consent(account: AccountId) -> Failure {
    Failure::new(
        Exit::Denied,
        "the new key is not on this machine, so it has to consent on its own",
    )
    .hint(format!(
        "run `form key consent --account {account}` where it is, and give what that prints with --consent HEX"
    ))
}

/// The secret half of a key, if it is on this machine.
fn held(invocation: &Invocation, public: PublicKey) -> Result<Option<SecretKey>, Failure> {
    let keyring = invocation.keyring()?;
    let mut names = keyring.list()?.into_iter();
    let found = names.find(|key| key.public == public);
    found.map(|key| keyring.secret(&key.name)).transpose()
}

async fn revoke_key(invocation: &Invocation, RevokeKeyArgs { called }: RevokeKeyArgs) -> Result<(), Failure> {
    let keys = invocation.account_keys(None).await?;
    let found = match keys.iter().find(|view| view.key.to_string() == called) {
        Some(view) => view,
        None => {
            let mut labelled = keys
                .iter()
                .filter(|view| view.label == called && view.state != KeyWord::Revoked);
            match (labelled.next(), labelled.next()) {
                (Some(view), None) => view,
                (Some(_), Some(_)) => {
                    let failure = format!("more than one key of the account is called `{called}`");
                    return Err(Failure::new(Exit::Conflict, failure)
                        .hint("give the key itself: `form account keys` lists them"));
                }
                (None, _) => {
                    let failure = format!("the account has no key `{called}` that could be revoked");
                    return Err(Failure::new(Exit::NotFound, failure).hint("`form account keys` lists them"));
                }
            }
        }
    };
    submit(invocation, RevokeKey { key: found.key }).await?;
    show_key(invocation, found.key).await
}

async fn show_key(invocation: &Invocation, public: PublicKey) -> Result<(), Failure> {
    let keys = invocation.account_keys(None).await?;
    let key = keys.into_iter().find(|view| view.key == public).ok_or_else(|| {
        Failure::new(
            Exit::Conflict,
            "another command came first, and the key is no key of the account",
        )
    })?;
    let fields = |key: &KeyView| {
        vec![
            ("label", key.label.clone()),
            ("key", key.key.to_string()),
            ("state", key.state.as_str().into()),
            ("scopes", scopes_of(key)),
            ("ends", ends(key)),
            ("added by", key.added_by.clone().unwrap_or_else(|| "-".into())),
        ]
    };
    invocation.output.one(&key, fields, |key| key.key.to_string())
}

/// One scope as people write it, for clap.
fn scope(text: &str) -> Result<Scopes, String> {
    let one = match text {
        "account" => Scopes::ALL,
        "deploy" => Scopes {
            deploy: true,
            ..Scopes::READ
        },
        "domains" => Scopes {
            domains: true,
            ..Scopes::READ
        },
        "read" => Scopes::READ,
        _ => Scopes {
            credits: Some(
                text.strip_prefix("credits:")
                    .and_then(|amount| amount.parse().ok())
                    .ok_or("`account`, `deploy`, `domains`, `credits:AMOUNT` or `read` is expected")?,
            ),
            ..Scopes::READ
        },
    };
    Ok(one)
}

/// All scopes that were named.
fn together(scopes: &[Scopes]) -> Result<Scopes, Failure> {
    if scopes.iter().any(|it| it.account) {
        return Ok(Scopes::ALL);
    }
    let mut allowances = scopes.iter().filter_map(|it| it.credits);
    let credits = allowances.next();
    if allowances.next().is_some() {
        return Err(Failure::new(
            Exit::Usage,
            "`credits:AMOUNT` can be said only once",
        ));
    }
    Ok(Scopes {
        account: false,
        deploy: scopes.iter().any(|it| it.deploy),
        domains: scopes.iter().any(|it| it.domains),
        credits,
    })
}

/// What `form key consent` printed, for clap.
fn consent(text: &str) -> Result<Consent, String> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok();
    let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(Consent)
        .ok_or_else(|| "the 128 hexadecimal digits that `form key consent` prints are expected".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_named_one_by_one_and_the_whole_account_holds_the_others() {
        let read = |text: &str| -> Result<Scopes, String> {
            let scopes = text.split(',').map(scope).collect::<Result<Vec<_>, _>>()?;
            together(&scopes).map_err(|failure| failure.message)
        };
        let some = Scopes {
            deploy: true,
            credits: Some(500),
            ..Scopes::READ
        };
        assert_eq!(read("deploy,credits:500"), Ok(some));
        assert_eq!(read("read"), Ok(Scopes::READ));
        assert_eq!(read("deploy,account"), Ok(Scopes::ALL));
        for wrong in [
            "",
            "all",
            "credits",
            "credits:",
            "credits:-1",
            "credits:1,credits:2",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
