//! What the API needs of the node behind it: one trait, which the composition root implements.
//!
//! The API has done its part before it asks: bytes are decoded, signatures and expiry are checked, sizes are
//! within their bounds, and whoever reads what is private has shown the owner's key. What comes back is in
//! the ledger's own types; the API makes the JSON of it.
//!
//! Answers that wait are boxed futures, so that the node is one `Arc<dyn Door>`:
//!
//! ```text
//! fn submit(&self, command: SignedCommand, wait: Wait) -> Answer<'_, Result<Submitted, SubmitError>> {
//!     Box::pin(async move { ... })
//! }
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use ledger::command::SignedCommand;
use ledger::id::{AccountId, BuildId, CheckpointId, CommandId, Digest, InstanceId, NodeId, OpId};
use ledger::journal::CheckpointTold;
use ledger::op::Op;
use ledger::report::nodes::Capacity;
use projections::cloud::{Cloud, Position};
use projections::outcome::Outcome;
use tokio::sync::watch;

use crate::views::ledger::LedgerView;
use crate::views::status::{NodeStatus, VerifyReport};

/// An answer that takes its time.
pub type Answer<'a, T> = BoxFuture<'a, T>;

/// The node, as the API sees it.
pub trait Door: Send + Sync + 'static {
    /// Puts a command into the log. Answers once the op that carries it is durable, and with
    /// [`Wait::Tentative`] also folded. Its signature holds and it has not expired.
    fn submit(&self, command: SignedCommand, wait: Wait) -> Answer<'_, Result<Submitted, SubmitError>>;

    /// The newest view. Cheap: called for every request.
    fn cloud(&self) -> Arc<Cloud>;

    /// The view at the end of what is final. Cheap.
    fn final_cloud(&self) -> Arc<Cloud>;

    /// The ledger of this node: how far it is final, its chains, what waits. Reads the core.
    fn ledger(&self) -> Answer<'_, Result<LedgerView, ReadError>>;

    /// What is seen now and is in no log. Cheap: a snapshot made at most once a tick.
    fn live(&self) -> Arc<Live>;

    /// How this node is. Cheap: without disk or network.
    fn status(&self) -> NodeStatus;

    /// At most `max` entries of this node's journal, from offset `from` on; none at its end.
    fn journal(&self, from: u64, max: usize) -> Answer<'_, Result<Vec<JournalEntry>, ReadError>>;

    /// The offset that the journal's next entry will have; wakes whoever waits for one.
    fn journal_end(&self) -> watch::Receiver<u64>;

    /// Ops of the log in their total order.
    fn ops(&self, query: OpsQuery) -> Answer<'_, Result<Vec<OpRecord>, ReadError>>;

    /// One op.
    fn op(&self, id: OpId) -> Answer<'_, Result<Option<OpRecord>, ReadError>>;

    /// Reads the whole log from disk and checks it again: hashes, links, signatures. The API asks for one
    /// at a time.
    fn verify(&self) -> Answer<'_, Result<VerifyReport, ReadError>>;

    /// The whole log as one file, see [`ledger::export`]. The API asks for one at a time.
    fn export(&self) -> Answer<'_, Result<Bytes, ReadError>>;

    /// Stores the context of a build. An error in the body means that it is not what was announced:
    /// whatever was stored of it must go.
    fn upload(&self, upload: Upload) -> Answer<'_, Result<Uploaded, UploadError>>;

    /// What an instance wrote, from this node or from the one that holds it.
    fn instance_log(&self, id: InstanceId, query: LogQuery) -> Answer<'_, Result<LogChunk, LogError>>;

    /// What a build wrote, from this node or from the one that builds it.
    fn build_log(&self, id: BuildId, query: LogQuery) -> Answer<'_, Result<LogChunk, LogError>>;
}

/// When a submitted command is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Once its op is durable; the outcome may not be known yet.
    Durable,
    /// Once its op is durable and folded: the outcome is known, and may turn till it is final.
    Tentative,
    /// As [`Self::Tentative`], and so many other nodes hold the op durably.
    Replicated(u8),
    /// Once a certificate covers its op: the outcome stands for ever.
    Final,
}

/// A command that is in the log.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The command.
    pub id: CommandId,
    /// The op that carries it.
    pub op: OpId,
    /// How far the fold was when it was answered.
    pub position: Position,
    /// What became of it; always there after [`Wait::Tentative`].
    pub outcome: Option<Outcome>,
}

/// Why a command is not in the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Too much waits already.
    #[error("the node has more commands waiting than it takes on")]
    Busy,
    /// It is on its way out.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// It writes nothing while its clock is off.
    #[error("the node's clock is {0} ms off its peers', so it writes nothing till that is mended")]
    ClockOff(i64),
    /// The disk takes nothing now.
    #[error("the node cannot write to its log: {0}")]
    NotWritten(String),
    /// It is in the log and durable here; what else was to be waited for did not come in time.
    #[error("{0}")]
    NotYet(String),
    /// The node's core failed.
    #[error("the node could not write to its log: {0}")]
    Failed(String),
}

/// Why something could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The op that the query begins after is not in the log.
    #[error("the op that the page begins after is not in the log")]
    UnknownCursor,
    /// It was pruned; the journal begins here now.
    #[error("the journal begins at offset {0}: what came before was pruned")]
    Pruned(u64),
    /// Too much waits already.
    #[error("the node has more waiting than it takes on")]
    Busy,
    /// The disk or the node's core failed.
    #[error("the node could not read its log: {0}")]
    Failed(String),
}

/// Which ops, of the total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpsQuery {
    /// Begin behind this op, in the direction of the query; at the first or the newest without it.
    pub after: Option<OpId>,
    /// At most so many.
    pub limit: usize,
    /// From the newest back, or from the first on.
    pub newest_first: bool,
    /// Only this node's.
    pub node: Option<NodeId>,
    /// Only of this incarnation.
    pub incarnation: Option<u64>,
}

/// An op and what became of its entries.
#[derive(Clone, Debug)]
pub struct OpRecord {
    /// The op.
    pub op: Op,
    /// One for each entry; empty when the op is not folded or it is not known any more.
    pub outcomes: Vec<Outcome>,
}

/// A record of this node's journal.
#[derive(Clone, Debug)]
pub struct JournalEntry {
    /// Its number.
    pub offset: u64,
    /// What it tells.
    pub told: Told,
}

/// What a record of the journal tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// One entry of one op was applied or void, for the first time or turned.
    Entry(EntryTold),
    /// A certificate: what it covers stands for ever as it was told last.
    Checkpoint(CheckpointId, CheckpointTold),
}

/// What became of an entry of an op.
#[derive(Clone, Debug)]
pub struct EntryTold {
    /// The op.
    pub op: Op,
    /// Which of its entries, from 0.
    pub entry: usize,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether it was something else before: a late op or a certificate came.
    pub turned: bool,
}

/// What is seen now: presences of all nodes and what follows of them.
#[derive(Clone, Debug, Default)]
pub struct Live {
    /// The nodes that have shown themselves.
    pub nodes: BTreeMap<NodeId, NodeLive>,
    /// Every instance of the cloud.
    pub instances: BTreeMap<InstanceId, InstanceLive>,
}

/// A node as it last showed itself.
#[derive(Clone, Debug, Default)]
pub struct NodeLive {
    /// It has shown itself lately.
    pub live: bool,
    /// When its last presence came, in milliseconds since 1970.
    pub last_seen_ms: Option<u64>,
    /// What its machines take.
    pub used: Capacity,
    /// Images that it can give.
    pub images: BTreeSet<Digest>,
}

/// An instance as it is seen.
#[derive(Clone, Debug, Default)]
pub struct InstanceLive {
    /// Its address in the mesh; the same on every node.
    pub address: Option<Ipv6Addr>,
    /// Names that lead to it, as they stand in the names table.
    pub names: Vec<String>,
    /// The generation that the holder of its placement runs, if it runs any.
    pub generation: Option<u64>,
    /// The holder says that its health check holds.
    pub healthy: bool,
}

/// The context of a build on its way in.
pub struct Upload {
    /// Who sends it.
    pub account: AccountId,
    /// Exactly so many bytes, or the body ends in an error.
    pub bytes: u64,
    /// The bytes, as fast as they are taken. The last item is an error if they are not those that the
    /// sender signed for, if the sender stalls, or if it goes away.
    pub body: BoxStream<'static, Result<Bytes, BodyError>>,
}

/// A body that is not what was announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Fewer or more bytes.
    #[error("the body has {got} bytes, {announced} were announced")]
    Length {
        /// What `Content-Length` said.
        announced: u64,
        /// What came.
        got: u64,
    },
    /// Other bytes.
    #[error("the body is not the one that `Content-Digest` names")]
    Digest,
    /// Nothing came for too long.
    #[error("no byte of the body came for {0} seconds")]
    Stalled(u64),
    /// The connection broke.
    #[error("the connection broke in the middle of the body")]
    Cut,
}

/// A stored context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploaded {
    /// Its manifest: what `BuildImage` names.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// Where it is held.
    pub held_by: NodeId,
}

/// Why a context was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The body was not what was announced.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// There is no room.
    #[error("the node has no room for {0} bytes")]
    Full(u64),
    /// Too many at once.
    #[error("the node takes in as many uploads as it can already")]
    Busy,
    /// The disk failed.
    #[error("the node could not store the upload: {0}")]
    Failed(String),
}

/// Which part of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    /// From this byte on, counted since the log began; without it, the last `max` bytes.
    pub from: Option<u64>,
    /// At most so many bytes.
    pub max: usize,
    /// With nothing to give yet, wait this long for something before an empty answer. To answer at once is
    /// allowed.
    pub wait_ms: u64,
}

/// A part of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// Where it begins: later than asked for when the older part is gone.
    pub from: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// Nothing will follow: what writes it has ended for good.
    pub ended: bool,
}

/// Why a log cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Nothing has been written, or it is gone.
    #[error("there is no log yet")]
    None,
    /// The node that holds it does not answer.
    #[error("node {0}, which holds the log, does not answer")]
    Unreachable(NodeId),
    /// Too many at once.
    #[error("the node reads as many logs as it can already")]
    Busy,
    /// The disk or the other node failed.
    #[error("the log could not be read: {0}")]
    Failed(String),
}
