//! `form key`: the person's keys. Only public halves are ever shown.

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::exit::Failure;
use crate::invocation::Invocation;
use crate::keys::NamedKey;

/// Your keys: make, list, show.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key; an existing one is never overwritten
    New(KeyName),
    /// List your keys
    #[command(visible_alias = "ls")]
    List,
    /// Show the public half of a key
    Show(KeyName),
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
    pub fn run(self, invocation: &Invocation) -> Result<(), Failure> {
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
        }
    }
}
