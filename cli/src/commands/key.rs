//! `form key`: the person's keys. Only public halves are ever shown.

use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use ledger::command::keys::Consent;
use ledger::id::{AccountId, NetworkId};
use serde::Serialize;

use crate::exit::Failure;
use crate::invocation::Invocation;
use crate::keys::NamedKey;

/// Your keys: make, list, show, consent.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; an existing one is never overwritten
    New(KeyName),
    /// List your keys
    #[command(visible_alias = "ls")]
    List,
    /// Show the public half of a key
    Show(KeyName),
    /// Sign that a key of yours may sign for an account, for `form account add-key` on another machine
    Consent(ConsentArgs),
}

/// `form key consent`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  form key new laptop
  form key consent laptop --account ACCOUNT_ID     asks the node at --api which network it is in
  form key consent laptop --account ACCOUNT_ID --network NETWORK_ID
Then, where a key of the account is: form account add-key PUBLIC_KEY --consent HEX --scope deploy")]
pub struct ConsentArgs {
    /// What you call the key; without it, the one of --key
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// Id of the account: `form account show` prints it
    #[arg(long, value_name = "ACCOUNT_ID")]
    account: AccountId,
    /// Id of the network; without it, the one of the node at --api
    #[arg(long, value_name = "NETWORK_ID")]
    network: Option<NetworkId>,
}

#[derive(Serialize)]
struct Consented {
    key: String,
    account: AccountId,
    network: NetworkId,
    consent: String,
}

/// Which key.
#[derive(Debug, Args)]
pub struct KeyName {
    /// What you call the key; without it, the one of --key
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

#[derive(Serialize)]
struct KeyView {
    name: String,
    public: String,
    file: String,
}

impl KeyCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let keyring = invocation.keyring()?;
        let view = |key: NamedKey| -> Result<KeyView, Failure> {
            let file = keyring.path(&key.name)?.display().to_string();
            Ok(KeyView {
                name: key.name,
                public: key.public.to_string(),
                file,
            })
        };
        let fields = |key: &KeyView| {
            vec![
                ("name", key.name.clone()),
                ("public key", key.public.clone()),
                ("file", key.file.clone()),
            ]
        };
        match self {
            KeyCommand::New(KeyName { name }) => {
                let key = view(keyring.make(name.as_deref().unwrap_or(invocation.key_name()))?)?;
                invocation.output.one(&key, fields, |key| key.name.clone())?;
                invocation.output.note(&format!(
                    "Keep a copy of {}: whoever has it signs as you, and nobody can give you another.",
                    key.file
                ));
                Ok(())
            }
            KeyCommand::List => {
                let keys = keyring
                    .list()?
                    .into_iter()
                    .map(view)
                    .collect::<Result<Vec<_>, _>>()?;
                if keys.is_empty() {
                    invocation
                        .output
                        .note("You have no keys yet: make one with `form key new`.");
                }
                let row = |key: &KeyView| vec![key.name.clone(), key.public.clone()];
                invocation
                    .output
                    .list(&keys, &["NAME", "PUBLIC KEY"], row, |key| key.name.clone())
            }
            KeyCommand::Show(KeyName { name }) => {
                let key = view(keyring.show(name.as_deref().unwrap_or(invocation.key_name()))?)?;
                invocation.output.one(&key, fields, |key| key.public.clone())
            }
            KeyCommand::Consent(args) => {
                let secret = keyring.secret(args.name.as_deref().unwrap_or(invocation.key_name()))?;
                let network = match args.network {
                    Some(network) => network,
                    None => invocation.network().await?,
                };
                let consent = Consent::sign(network, args.account, &secret);
                let done = Consented {
                    key: secret.public().to_string(),
                    account: args.account,
                    network,
                    consent: HEXLOWER.encode(&consent.0),
                };
                invocation.output.value(&done, |done| done.consent.clone())?;
                invocation.output.note(&format!(
                    "Next, with a key of the account: form account add-key {} --consent HEX, with the text above",
                    done.key
                ));
                Ok(())
            }
        }
    }
}
