//! The typed client: one method for each route, over the same paths and types as the server.
//!
//! With a key it signs what is private; without one such a request fails with a clear error. It follows no
//! redirect and believes no answer beyond its bound.

mod events;
mod sse;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use ledger::command::SignedCommand;
use ledger::id::{BuildId, CommandId, InstanceId, OpId};
use ledger::key::SecretKey;
use reqwest::{Body, Response, Url};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncReadExt;

use crate::path;
use crate::problem::Problem;
use crate::signature::{self, Content, Target};
use crate::views::accounts::AccountView;
use crate::views::acts::{ActView, CharterView};
use crate::views::agents::AgentView;
use crate::views::builds::BuildView;
use crate::views::commands::{CommandAnswer, CommandView};
use crate::views::credits::CreditsView;
use crate::views::domains::DomainView;
use crate::views::instances::InstanceView;
use crate::views::keys::KeyView;
use crate::views::ledger::LedgerView;
use crate::views::nodes::NodeView;
use crate::views::ops::OpView;
use crate::views::status::{NetworkView, ReadyView, StatusView, VerifyReport};
use crate::views::uploads::UploadView;
use crate::views::{One, Page};

pub use events::{EventFilter, EventStart};

/// Bytes of an answer that is no stream, at most.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const UPLOAD_TIMEOUT: Duration = Duration::from_secs(3600);
const VERIFY_TIMEOUT: Duration = Duration::from_secs(3600);
/// Finds out that the other side of a quiet log is gone.
const KEEPALIVE: Duration = Duration::from_secs(20);
const READ_BYTES: usize = 64 * 1024;

/// A node's API, over HTTP. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    base: Url,
    key: Option<Arc<SecretKey>>,
    http: reqwest::Client,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .finish_non_exhaustive()
    }
}

/// Why a request brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("`{0}` is not an address of an API: `http://host:port` is expected")]
    Address(String),
    /// The request needs a key.
    #[error("this is private: it needs the account's key")]
    NoKey,
    /// The server refused, and says why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// There is no connection.
    #[error("no connection to {url}: {source}")]
    Connect {
        /// Where to.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The connection broke or took too long.
    #[error("the request to {url} failed: {source}")]
    Transport {
        /// Where to.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// The answer is not what the server of this version gives.
    #[error("the answer of {url} (status {status}) is not understood: {what}")]
    Answer {
        /// Where from.
        url: String,
        /// Its status.
        status: u16,
        /// What is wrong with it.
        what: String,
    },
    /// The file to send cannot be read.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What happened.
        source: std::io::Error,
    },
}

impl ClientError {
    /// What the server said, if it refused.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }
}

/// Which part of a list, and which of its items.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// At most so many; the server's default without it.
    pub limit: Option<usize>,
    /// What the part before said as `next`.
    pub after: Option<String>,
    /// Only what this account owns: its id or name.
    pub owner: Option<String>,
    /// Only what is called so.
    pub name: Option<String>,
    /// Only what belongs to this agent: its id or name.
    pub agent: Option<String>,
    /// Only what is at this node: its id or name.
    pub node: Option<String>,
    /// Only what stands so, such as `running`.
    pub state: Option<String>,
    /// Only what this key signs for.
    pub key: Option<String>,
}

impl ListQuery {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let texts = [
            ("after", &self.after),
            ("owner", &self.owner),
            ("name", &self.name),
            ("agent", &self.agent),
            ("node", &self.node),
            ("state", &self.state),
            ("key", &self.key),
        ];
        let texts = texts
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)));
        self.limit
            .map(|limit| ("limit", limit.to_string()))
            .into_iter()
            .chain(texts)
            .collect()
    }
}

/// Which ops.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpsListQuery {
    /// At most so many.
    pub limit: Option<usize>,
    /// Begin behind this op.
    pub after: Option<OpId>,
    /// From the newest back.
    pub newest_first: bool,
    /// Only this node's: its id or name.
    pub node: Option<String>,
    /// Only of this incarnation: sixteen hexadecimal digits.
    pub incarnation: Option<String>,
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// From this byte on; the last part without it.
    pub from: Option<u64>,
    /// Go on as more is written.
    pub follow: bool,
}

/// A log on its way here.
pub struct LogStream {
    /// The offset of the first byte.
    pub from: u64,
    /// The bytes.
    pub bytes: BoxStream<'static, Result<Bytes, ClientError>>,
}

/// What the answer to a command waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WaitFor {
    /// The answer has the tentative outcome; a void command is an error.
    #[default]
    Tentative,
    /// As [`Self::Tentative`], once so many other nodes hold the command durably.
    Replicated(u8),
    /// The answer comes once the command is final: its outcome stands for ever.
    Final,
    /// The answer comes once the command is durable.
    Nothing,
}

impl std::fmt::Display for WaitFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WaitFor::Tentative => f.write_str("tentative"),
            WaitFor::Replicated(others) => write!(f, "replicated:{others}"),
            WaitFor::Final => f.write_str("final"),
            WaitFor::Nothing => f.write_str("none"),
        }
    }
}

/// The text does not say what to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`tentative`, `final`, `replicated:N` with N from 1 to 255, or `none` is expected")]
pub struct ParseWaitError;

impl std::str::FromStr for WaitFor {
    type Err = ParseWaitError;

    fn from_str(text: &str) -> Result<Self, ParseWaitError> {
        match text {
            "tentative" => Ok(WaitFor::Tentative),
            "final" => Ok(WaitFor::Final),
            "none" => Ok(WaitFor::Nothing),
            _ => {
                let others = text.strip_prefix("replicated:").ok_or(ParseWaitError)?;
                match others.parse() {
                    Ok(others @ 1..) => Ok(WaitFor::Replicated(others)),
                    _ => Err(ParseWaitError),
                }
            }
        }
    }
}

impl Client {
    /// A client of the API at `base`, such as `http://127.0.0.1:4000`.
    pub fn new(base: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Address(base.chars().take(200).collect());
        let base_url = Url::parse(base).map_err(|_| wrong())?;
        if !matches!(base_url.scheme(), "http" | "https") || !base_url.has_host() {
            return Err(wrong());
        }
        let mut http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_keepalive(KEEPALIVE)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("form/", env!("CARGO_PKG_VERSION")));
        if base_url.scheme() == "http" {
            // The host's certificates are of no use then, and a host without any is no reason to fail.
            http = http.tls_certs_only([]);
        }
        let http = http.build().map_err(|source| ClientError::Connect {
            url: base.into(),
            source,
        })?;
        Ok(Self {
            base: base_url,
            key: None,
            http,
        })
    }

    /// With the key that signs what is private.
    #[must_use]
    pub fn with_key(mut self, key: SecretKey) -> Self {
        self.key = Some(Arc::new(key));
        self
    }

    /// The address that it was made with.
    pub fn base(&self) -> &str {
        self.base.as_str()
    }

    /// Submits a command. A command that is void is a [`ClientError::Problem`] with its reason; to submit
    /// the same command again, after a broken connection, brings its first outcome and no second op.
    pub async fn submit(&self, command: &SignedCommand, wait: WaitFor) -> Result<CommandAnswer, ClientError> {
        let wait = wait.to_string();
        let url = self.url(path::COMMANDS, &[("wait", wait)]);
        let request = self
            .http
            .post(url.clone())
            .timeout(ANSWER_TIMEOUT)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(command.bytes().to_vec());
        read(send(&url, request).await?).await
    }

    /// What became of a command.
    pub async fn command(&self, id: CommandId) -> Result<One<CommandView>, ClientError> {
        self.one(path::COMMAND, &id.to_string()).await
    }

    /// Accounts.
    pub async fn accounts(&self, query: &ListQuery) -> Result<Page<AccountView>, ClientError> {
        self.get(path::ACCOUNTS, &query.pairs()).await
    }

    /// An account by its id, the beginning of it, or its name.
    pub async fn account(&self, id: &str) -> Result<One<AccountView>, ClientError> {
        self.one(path::ACCOUNT, id).await
    }

    /// The keys of an account, those that have ended too. They fit into one page.
    pub async fn account_keys(&self, id: &str) -> Result<Page<KeyView>, ClientError> {
        self.one(path::ACCOUNT_KEYS, id).await
    }

    /// What an account has, what it lets nodes spend, and what it lets them charge.
    pub async fn account_credits(&self, id: &str) -> Result<One<CreditsView>, ClientError> {
        self.one(path::ACCOUNT_CREDITS, id).await
    }

    /// Who the admins are and what they have settled.
    pub async fn charter(&self) -> Result<One<CharterView>, ClientError> {
        self.get(path::CHARTER, &[]).await
    }

    /// What the admins do together: what waits, and what was done or lapsed lately.
    pub async fn acts(&self, query: &ListQuery) -> Result<Page<ActView>, ClientError> {
        self.get(path::ACTS, &query.pairs()).await
    }

    /// An act by its id or the beginning of it.
    pub async fn act(&self, id: &str) -> Result<One<ActView>, ClientError> {
        self.one(path::ACT, id).await
    }

    /// Agents.
    pub async fn agents(&self, query: &ListQuery) -> Result<Page<AgentView>, ClientError> {
        self.get(path::AGENTS, &query.pairs()).await
    }

    /// An agent by its id, the beginning of it, or its name.
    pub async fn agent(&self, id: &str) -> Result<One<AgentView>, ClientError> {
        self.one(path::AGENT, id).await
    }

    /// Builds of images.
    pub async fn builds(&self, query: &ListQuery) -> Result<Page<BuildView>, ClientError> {
        self.get(path::BUILDS, &query.pairs()).await
    }

    /// A build by its id or the beginning of it.
    pub async fn build(&self, id: &str) -> Result<One<BuildView>, ClientError> {
        self.one(path::BUILD, id).await
    }

    /// Instances.
    pub async fn instances(&self, query: &ListQuery) -> Result<Page<InstanceView>, ClientError> {
        self.get(path::INSTANCES, &query.pairs()).await
    }

    /// An instance by its id, the beginning of it, or its name where only one account uses it.
    pub async fn instance(&self, id: &str) -> Result<One<InstanceView>, ClientError> {
        self.one(path::INSTANCE, id).await
    }

    /// Nodes.
    pub async fn nodes(&self, query: &ListQuery) -> Result<Page<NodeView>, ClientError> {
        self.get(path::NODES, &query.pairs()).await
    }

    /// A node by its id, the beginning of it, or its name where only one node uses it.
    pub async fn node(&self, id: &str) -> Result<One<NodeView>, ClientError> {
        self.one(path::NODE, id).await
    }

    /// Claimed domain names.
    pub async fn domains(&self, query: &ListQuery) -> Result<Page<DomainView>, ClientError> {
        self.get(path::DOMAINS, &query.pairs()).await
    }

    /// A claimed domain name.
    pub async fn domain(&self, name: &str) -> Result<One<DomainView>, ClientError> {
        self.one(path::DOMAIN, name).await
    }

    /// Ops in their total order.
    pub async fn ops(&self, query: &OpsListQuery) -> Result<Page<OpView>, ClientError> {
        let mut pairs = Vec::new();
        pairs.extend(query.limit.map(|limit| ("limit", limit.to_string())));
        pairs.extend(query.after.map(|after| ("after", after.to_string())));
        pairs.extend(query.newest_first.then(|| ("newest_first", "true".into())));
        pairs.extend(query.node.clone().map(|node| ("node", node)));
        pairs.extend(
            query
                .incarnation
                .clone()
                .map(|incarnation| ("incarnation", incarnation)),
        );
        self.get(path::OPS, &pairs).await
    }

    /// An op by its id.
    pub async fn op(&self, id: OpId) -> Result<One<OpView>, ClientError> {
        self.one(path::OP, &id.to_string()).await
    }

    /// The ledger of the node, for its operator.
    pub async fn ledger(&self) -> Result<LedgerView, ClientError> {
        self.get(path::LEDGER, &[]).await
    }

    /// The whole log of the node as one file, see [`ledger::export`].
    pub async fn export_ops(&self) -> Result<Bytes, ClientError> {
        let url = self.url(path::OPS_EXPORT, &[]);
        let answer = send(&url, self.http.get(url.clone())).await?;
        answer
            .bytes()
            .await
            .map_err(move |source| transport(&url, source))
    }

    /// Has the node check its whole log again. Takes as long as it takes.
    pub async fn verify_ops(&self) -> Result<VerifyReport, ClientError> {
        let url = self.url(path::OPS_VERIFY, &[]);
        let request = self.http.get(url.clone()).timeout(VERIFY_TIMEOUT);
        read(send(&url, request).await?).await
    }

    /// How the node is.
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.get(path::STATUS, &[]).await
    }

    /// What network this is.
    pub async fn network(&self) -> Result<NetworkView, ClientError> {
        self.get(path::NETWORK, &[]).await
    }

    /// Whether the node can serve, and why not.
    pub async fn ready(&self) -> Result<ReadyView, ClientError> {
        let url = self.url(path::READYZ, &[]);
        let answer = self.http.get(url.clone()).timeout(ANSWER_TIMEOUT).send().await;
        // "Not ready" is a status of its own, with the same body.
        read(answer.map_err(|source| transport(&url, source))?).await
    }

    /// Stores the context of a build: the file at `path`, signed with the account's key. `progress` is
    /// called with the bytes sent so far.
    pub async fn upload(
        &self,
        path: &Path,
        progress: impl Fn(u64) + Send + Sync + 'static,
    ) -> Result<UploadView, ClientError> {
        let fault = |source| ClientError::File {
            path: path.display().to_string(),
            source,
        };
        let content = digest_file(path).await.map_err(fault)?;
        let url = self.url(path::UPLOADS, &[]);
        let headers = self.signed(&Method::POST, &url, Some(content))?;
        let file = tokio::fs::File::open(path).await.map_err(fault)?;
        let mut sent = 0;
        let body = tokio_util::io::ReaderStream::with_capacity(file, READ_BYTES).inspect_ok(move |bytes| {
            sent += bytes.len() as u64;
            progress(sent);
        });
        let request = self
            .http
            .post(url.clone())
            .timeout(UPLOAD_TIMEOUT)
            .headers(headers)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(Body::wrap_stream(body));
        read(send(&url, request).await?).await
    }

    /// What an instance wrote. Needs the owner's key.
    pub async fn logs(&self, id: InstanceId, start: LogStart) -> Result<LogStream, ClientError> {
        self.log(&path::fill(path::INSTANCE_LOGS, &id.to_string()), start)
            .await
    }

    /// What a build wrote. Needs the owner's key.
    pub async fn build_log(&self, id: BuildId, start: LogStart) -> Result<LogStream, ClientError> {
        self.log(&path::fill(path::BUILD_LOG, &id.to_string()), start)
            .await
    }

    /// What happens, one event after the other. After a broken connection it goes on by itself where it
    /// was; an error that will not pass (the journal was pruned, the address leads to another node) ends it.
    pub fn events(
        &self,
        filter: EventFilter,
        start: EventStart,
    ) -> BoxStream<'static, Result<crate::views::events::EventView, ClientError>> {
        events::stream(self.clone(), filter, start)
    }

    /// Figures for Prometheus, as text.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        self.text(path::METRICS).await
    }

    /// The OpenAPI document, as text.
    pub async fn openapi(&self) -> Result<String, ClientError> {
        self.text(path::OPENAPI).await
    }

    async fn text(&self, path: &str) -> Result<String, ClientError> {
        let url = self.url(path, &[]);
        let answer = send(&url, self.http.get(url.clone()).timeout(ANSWER_TIMEOUT)).await?;
        let bytes = bounded(answer).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn one<T: DeserializeOwned>(&self, path: &str, id: &str) -> Result<T, ClientError> {
        self.get(&path::fill(path, id), &[]).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, ClientError> {
        let url = self.url(path, query);
        read(send(&url, self.http.get(url.clone()).timeout(ANSWER_TIMEOUT)).await?).await
    }

    async fn log(&self, path: &str, start: LogStart) -> Result<LogStream, ClientError> {
        let mut query = vec![("follow", start.follow.to_string())];
        query.extend(start.from.map(|from| ("from", from.to_string())));
        let url = self.url(path, &query);
        let headers = self.signed(&Method::GET, &url, None)?;
        let answer = send(&url, self.http.get(url.clone()).headers(headers)).await?;
        let from = answer
            .headers()
            .get(crate::LOG_FROM)
            .and_then(|from| from.to_str().ok()?.parse().ok())
            .ok_or_else(|| not_understood(&answer, "it does not say where the log begins"))?;
        let bytes = answer
            .bytes_stream()
            .map_err(move |source| transport(&url, source))
            .boxed();
        Ok(LogStream { from, bytes })
    }

    fn url(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        let prefix = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{prefix}{path}"));
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn signed(&self, method: &Method, url: &Url, content: Option<Content>) -> Result<HeaderMap, ClientError> {
        let key = self.key.as_ref().ok_or(ClientError::NoKey)?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).expect("the operating system gives random bytes");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let target = Target {
            method,
            path: url.path(),
            query: url.query(),
        };
        Ok(signature::sign(target, content, now.as_secs(), nonce, key))
    }
}

/// The SHA-256 and the length of a file.
async fn digest_file(path: &Path) -> std::io::Result<Content> {
    let mut file = tokio::fs::File::open(path).await?;
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let count = file.read(&mut buffer).await?;
        if count == 0 {
            return Ok(Content {
                sha256: hash.finalize().into(),
                bytes,
            });
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}

fn transport(url: &Url, source: reqwest::Error) -> ClientError {
    let url = url.as_str().to_owned();
    let source = source.without_url();
    if source.is_connect() {
        ClientError::Connect { url, source }
    } else {
        ClientError::Transport { url, source }
    }
}

fn not_understood(answer: &Response, what: impl Into<String>) -> ClientError {
    ClientError::Answer {
        url: answer.url().to_string(),
        status: answer.status().as_u16(),
        what: what.into(),
    }
}

/// Sends; a refusal becomes an error.
async fn send(url: &Url, request: reqwest::RequestBuilder) -> Result<Response, ClientError> {
    let answer = request.send().await.map_err(|source| transport(url, source))?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    Err(refusal(answer).await)
}

async fn refusal(answer: Response) -> ClientError {
    let (url, status) = (answer.url().to_string(), answer.status().as_u16());
    match bounded(answer).await {
        Ok(bytes) => match serde_json::from_slice(&bytes) {
            Ok(problem) => ClientError::Problem(Box::new(problem)),
            Err(_) => {
                let what = StatusCode::from_u16(status)
                    .ok()
                    .and_then(|status| status.canonical_reason());
                let what = what.unwrap_or("no reason given").to_owned();
                ClientError::Answer { url, status, what }
            }
        },
        Err(error) => error,
    }
}

/// The whole body, if it is within its bound.
async fn bounded(mut answer: Response) -> Result<Vec<u8>, ClientError> {
    let mut bytes = Vec::new();
    loop {
        let url = answer.url().clone();
        let chunk = answer.chunk().await.map_err(|source| transport(&url, source))?;
        let Some(chunk) = chunk else { return Ok(bytes) };
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(not_understood(
                &answer,
                format!("it is longer than {ANSWER_BYTES_MAX} bytes"),
            ));
        }
        bytes.extend_from_slice(&chunk);
    }
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, ClientError> {
    let (url, status) = (answer.url().to_string(), answer.status().as_u16());
    let bytes = bounded(answer).await?;
    serde_json::from_slice(&bytes).map_err(|error| ClientError::Answer {
        url,
        status,
        what: error.to_string(),
    })
}
