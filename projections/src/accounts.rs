//! Accounts: who may ask for things.

use ledger::clock::Hlc;
use ledger::command::accounts::OpenAccount;
use ledger::id::AccountId;
use ledger::key::PublicKey;
use serde::{Deserialize, Serialize};

use crate::commands::Asked;
use crate::keys::{self, Key};
use crate::outcome::Void;
use crate::undo::{AccountNames, Accounts, Writer};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id: the command that opened it.
    pub id: AccountId,
    /// Its unique name.
    pub name: String,
    /// The key that opened it: the root of its keys.
    pub key: PublicKey,
    /// When it was opened.
    pub opened: Hlc,
}

/// Opens an account for the key that signed, which is its first.
pub(crate) fn open(writer: &mut Writer<'_>, asked: &Asked, ask: &OpenAccount) -> Result<(), Void> {
    if writer.keys.contains_key(&asked.key) {
        return Err(Void::HasAccount);
    }
    if writer.account_names.contains_key(&ask.name) {
        return Err(Void::NameTaken(ask.name.clone()));
    }
    let id = AccountId::from(asked.command);
    writer.put::<AccountNames>(ask.name.clone(), id);
    keys::put(writer, asked.key, Key::root(id, asked.at));
    writer.put::<Accounts>(
        id,
        Account {
            id,
            name: ask.name.clone(),
            key: asked.key,
            opened: asked.at,
        },
    );
    Ok(())
}
