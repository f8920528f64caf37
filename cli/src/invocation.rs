//! One run of `form`: what the command line and the environment say, and what follows from it: the way to
//! the node, the key to sign with, the network that commands are for, and how things are called.

use std::path::Path;
use std::str::FromStr;

use api::client::{Client, ClientError, ListQuery, LogStart, LogStream};
use api::views::Page;
use api::views::accounts::AccountView;
use api::views::acts::{ActView, CharterView};
use api::views::agents::AgentView;
use api::views::builds::BuildView;
use api::views::credits::CreditsView;
use api::views::domains::DomainView;
use api::views::instances::InstanceView;
use api::views::keys::KeyView;
use api::views::nodes::NodeView;
use api::views::status::{NetworkView, StatusView};
use api::views::uploads::UploadView;
use data_encoding::HEXLOWER;
use futures::StreamExt;
use ledger::command::SignedCommand;
use ledger::finality::witness::{Witness, WitnessSet};
use ledger::genesis::Genesis;
use ledger::id::{BuildId, CommandId, InstanceId, NetworkId};
use ledger::key::{PublicKey, SecretKey};
use tokio::sync::OnceCell;

use crate::commands::Global;
use crate::exit::{Exit, Failure};
use crate::keys::Keyring;
use crate::output::{Output, clean};

/// Where a node's API is unless told otherwise.
pub const DEFAULT_API: &str = "http://127.0.0.1:3004";

/// Items of a list that are read, at most: more than a person reads and a program should page through.
const LIST_MAX: usize = 100_000;

/// Bytes of a build's log that a failure reads.
const LOG_TAIL_BYTES_MAX: usize = 256 * 1024;

/// One run of `form`.
#[derive(Debug)]
pub struct Invocation {
    /// Where words go.
    pub output: Output,
    global: Global,
    network: OnceCell<NetworkId>,
}

/// Asks for one list, page by page.
macro_rules! whole_list {
    ($invocation:ident, $list:ident, $query:expr) => {{
        let client = $invocation.client()?;
        let mut query = ListQuery {
            limit: Some(api::views::PAGE_MAX),
            ..$query
        };
        let mut all = Vec::new();
        loop {
            let Page { items, next, .. } = client.$list(&query).await?;
            all.extend(items);
            match next {
                Some(next) if all.len() < LIST_MAX => query.after = Some(next),
                Some(_) => {
                    $invocation
                        .output
                        .note(&format!("There are more than {LIST_MAX}; the rest is left out."));
                    break;
                }
                None => break,
            }
        }
        Ok(all)
    }};
}

impl Invocation {
    /// The run that these options ask for.
    pub fn new(global: Global, output: Output) -> Self {
        Self {
            output,
            global,
            network: OnceCell::new(),
        }
    }

    /// The name of the key to sign with.
    pub fn key_name(&self) -> &str {
        &self.global.key
    }

    /// The person's keys.
    pub fn keyring(&self) -> Result<Keyring, Failure> {
        Keyring::from_environment()
    }

    /// The key to sign with.
    pub fn secret(&self) -> Result<SecretKey, Failure> {
        self.keyring()?.secret(self.key_name())
    }

    /// `--api` as it was given, without the environment: `node run` listens there.
    pub fn api_flag(&self) -> Option<&str> {
        self.global.api.as_deref()
    }

    /// The URL of the node's API.
    pub fn api_url(&self) -> String {
        let environment = || std::env::var("FORM_API").ok().filter(|url| !url.is_empty());
        let url = self
            .global
            .api
            .clone()
            .or_else(environment)
            .unwrap_or_else(|| DEFAULT_API.into());
        let url = if url.contains("://") {
            url
        } else {
            format!("http://{url}")
        };
        url.trim_end_matches('/').to_string()
    }

    /// The node's API, for what everybody may see and what is signed by itself.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&self.api_url())?)
    }

    /// The node's API, for what only the key's account may see.
    fn private_client(&self) -> Result<Client, Failure> {
        Ok(self.client()?.with_key(self.secret()?))
    }

    /// The network that the node is in. Asked once.
    pub async fn network(&self) -> Result<NetworkId, Failure> {
        let asked = self
            .network
            .get_or_try_init(async || self.genesis().await.map(|genesis| genesis.network()));
        asked.await.copied()
    }

    /// How the network began. What the node says must hash to the id that it says.
    pub async fn genesis(&self) -> Result<Genesis, Failure> {
        let view = self.client()?.network().await?;
        let id = view.id;
        let lies = || {
            Failure::new(
                Exit::Failed,
                format!("{} gives a false genesis of its network", self.api_url()),
            )
        };
        let genesis = genesis(view).ok_or_else(lies)?;
        if genesis.network() == id {
            Ok(genesis)
        } else {
            Err(lies())
        }
    }

    /// Sends a command and waits for its outcome. A connection that breaks on the way back is tried again:
    /// the same command never counts twice.
    pub async fn post(&self, command: &SignedCommand) -> Result<CommandId, Failure> {
        const TRIES: usize = 3;
        let client = self.client()?;
        let wait = self.global.until;
        for _ in 1..TRIES {
            match client.submit(command, wait).await {
                Err(ClientError::Transport { .. }) => {}
                other => return Ok(other?.id),
            }
        }
        Ok(client.submit(command, wait).await?.id)
    }

    /// How the node is.
    pub async fn status(&self) -> Result<StatusView, Failure> {
        Ok(self.client()?.status().await?)
    }

    /// Every node.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, Failure> {
        whole_list!(self, nodes, ListQuery::default())
    }

    /// Every account.
    pub async fn accounts(&self) -> Result<Vec<AccountView>, Failure> {
        whole_list!(self, accounts, ListQuery::default())
    }

    /// An account by its name, its id or the beginning of it.
    pub async fn account(&self, called: &str) -> Result<AccountView, Failure> {
        let found = self.client()?.account(called).await;
        found
            .map(|view| view.item)
            .map_err(|error| Failure::from(error).if_missing("`form account list` lists them"))
    }

    /// The account that the key signs for.
    pub async fn me(&self) -> Result<AccountView, Failure> {
        let of_key = ListQuery {
            key: Some(self.secret()?.public().to_string()),
            ..ListQuery::default()
        };
        let mine = self.client()?.accounts(&of_key).await?;
        mine.items.into_iter().next().ok_or_else(|| {
            Failure::new(
                Exit::Denied,
                format!("your key `{}` signs for no account", self.key_name()),
            )
            .hint("open one with `form account open NAME`, or choose another key with --key NAME")
        })
    }

    /// The keys of an account: of the one that is called so, or of the key's own.
    pub async fn account_keys(&self, called: Option<&str>) -> Result<Vec<KeyView>, Failure> {
        let account = self.account_or_mine(called).await?.id.to_string();
        Ok(self.client()?.account_keys(&account).await?.items)
    }

    /// The credits of an account: of the one that is called so, or of the key's own.
    pub async fn credits(&self, called: Option<&str>) -> Result<CreditsView, Failure> {
        let account = self.account_or_mine(called).await?.id.to_string();
        Ok(self.client()?.account_credits(&account).await?.item)
    }

    async fn account_or_mine(&self, called: Option<&str>) -> Result<AccountView, Failure> {
        match called {
            Some(called) => self.account(called).await,
            None => self.me().await,
        }
    }

    /// Who the admins are and what they have settled.
    pub async fn charter(&self) -> Result<CharterView, Failure> {
        Ok(self.client()?.charter().await?.item)
    }

    /// Acts of the admins; only those that stand so, if a state is named.
    pub async fn acts(&self, state: Option<&str>) -> Result<Vec<ActView>, Failure> {
        let of_state = ListQuery {
            state: state.map(String::from),
            ..ListQuery::default()
        };
        whole_list!(self, acts, of_state)
    }

    /// An act by its id or the beginning of it.
    pub async fn act(&self, called: &str) -> Result<ActView, Failure> {
        let found = self.client()?.act(called).await;
        found
            .map(|view| view.item)
            .map_err(|error| Failure::from(error).if_missing("`form network acts` lists them"))
    }

    /// A node by its name, its id or the beginning of it.
    pub async fn node(&self, called: &str) -> Result<NodeView, Failure> {
        let found = self.client()?.node(called).await;
        found
            .map(|view| view.item)
            .map_err(|error| Failure::from(error).if_missing("`form node list` lists them"))
    }

    /// Every agent.
    pub async fn agents(&self) -> Result<Vec<AgentView>, Failure> {
        whole_list!(self, agents, ListQuery::default())
    }

    /// An agent by its name, its id or the beginning of it.
    pub async fn agent(&self, called: &str) -> Result<AgentView, Failure> {
        let found = self.client()?.agent(called).await;
        found
            .map(|view| view.item)
            .map_err(|error| Failure::from(error).if_missing("`form agent list` lists them"))
    }

    /// Every build.
    pub async fn builds(&self) -> Result<Vec<BuildView>, Failure> {
        whole_list!(self, builds, ListQuery::default())
    }

    /// A build by its id or the beginning of it.
    pub async fn build(&self, called: &str) -> Result<BuildView, Failure> {
        let found = self.client()?.build(called).await;
        found
            .map(|view| view.item)
            .map_err(|error| Failure::from(error).if_missing("`form pack list` lists them"))
    }

    /// The end of what a build wrote.
    pub async fn build_log_tail(&self, id: BuildId) -> Result<String, Failure> {
        let log = self.private_client()?.build_log(id, LogStart::default()).await?;
        tail(log).await
    }

    /// What a build wrote from this byte on: where the answer begins, and the bytes.
    pub async fn build_log_from(&self, id: BuildId, from: u64) -> Result<(u64, Vec<u8>), Failure> {
        let start = LogStart {
            from: Some(from),
            follow: false,
        };
        let log = self.private_client()?.build_log(id, start).await?;
        let from = log.from;
        let (dropped, bytes) = last_bytes(log).await?;
        Ok((from + dropped, bytes))
    }

    /// The end of what an instance wrote.
    pub async fn instance_log_tail(&self, id: InstanceId) -> Result<String, Failure> {
        let log = self.private_client()?.logs(id, LogStart::default()).await?;
        tail(log).await
    }

    /// What an instance writes, from here on or up to now.
    pub async fn instance_log(&self, id: InstanceId, start: LogStart) -> Result<LogStream, Failure> {
        Ok(self.private_client()?.logs(id, start).await?)
    }

    /// Every instance.
    pub async fn instances(&self) -> Result<Vec<InstanceView>, Failure> {
        whole_list!(self, instances, ListQuery::default())
    }

    /// An instance by its id.
    pub async fn instance_by_id(&self, id: InstanceId) -> Result<InstanceView, Failure> {
        Ok(self.client()?.instance(&id.to_string()).await?.item)
    }

    /// An instance as people call it: `account/name`, a name (in the own account first), its id, or the
    /// beginning of it.
    pub async fn instance(&self, called: &str) -> Result<InstanceView, Failure> {
        if let Ok(id) = InstanceId::from_str(called) {
            return self.instance_by_id(id).await;
        }
        if let Some((account, name)) = called.split_once('/') {
            return self.named_instance(account, name).await?.ok_or_else(|| {
                Failure::new(
                    Exit::NotFound,
                    format!("there is no instance `{}`", clean(called)),
                )
                .hint("`form instance list` lists them")
            });
        }
        // Someone without a key or an account may look, too.
        if let Ok(me) = self.me().await
            && let Some(own) = self.named_instance(&me.name, called).await?
        {
            return Ok(own);
        }
        let found = self.client()?.instance(called).await;
        found
            .map(|view| view.item)
            .map_err(|error| Failure::from(error).if_missing("`form instance list` lists them"))
    }

    async fn named_instance(&self, account: &str, name: &str) -> Result<Option<InstanceView>, Failure> {
        let of_name = ListQuery {
            owner: Some(account.into()),
            name: Some(name.into()),
            ..ListQuery::default()
        };
        let found: Result<Vec<InstanceView>, Failure> = whole_list!(self, instances, of_name);
        // One that is on its way out has given its name back.
        let mut found = found?;
        found.sort_by_key(|instance| instance.state == api::views::instances::InstanceWord::Deleting);
        Ok(found.into_iter().next())
    }

    /// Every claimed name.
    pub async fn domains(&self) -> Result<Vec<DomainView>, Failure> {
        whole_list!(self, domains, ListQuery::default())
    }

    /// Sends the context of a build.
    pub async fn upload(
        &self,
        path: &Path,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<UploadView, Failure> {
        Ok(self.private_client()?.upload(path, progress).await?)
    }
}

fn genesis(view: NetworkView) -> Option<Genesis> {
    let witnesses = view.witnesses.iter().map(|(node, weight)| Witness {
        node: *node,
        weight: *weight,
    });
    Some(Genesis {
        name: view.name,
        admins: view
            .admins
            .iter()
            .map(|admin| PublicKey::from_str(admin))
            .collect::<Result<_, _>>()
            .ok()?,
        created_ms: view.created_ms,
        admins_needed: view.admins_needed,
        witnesses: WitnessSet::new(witnesses.collect()).ok()?,
        salt: HEXLOWER.decode(view.salt.as_bytes()).ok()?.try_into().ok()?,
    })
}

async fn tail(log: LogStream) -> Result<String, Failure> {
    let (_, bytes) = last_bytes(log).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last bytes of a log, and how many before them were dropped.
async fn last_bytes(mut log: LogStream) -> Result<(u64, Vec<u8>), Failure> {
    let (mut dropped, mut bytes) = (0, Vec::new());
    while let Some(piece) = log.bytes.next().await {
        bytes.extend_from_slice(&piece?);
        let surplus = bytes.len().saturating_sub(LOG_TAIL_BYTES_MAX);
        bytes.drain(..surplus);
        dropped += surplus as u64;
    }
    Ok((dropped, bytes))
}
