//! The thread that owns the core of the node and its store.
//!
//! It takes the inputs that have come, gives each to the core, makes all their writes durable as one, and
//! only then performs the rest: so many clients share one write to the disk, and nobody is told of an op
//! that may be lost.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use arc_swap::ArcSwap;
use ledger::io::store::Store;
use ledger::op::Op;
use projections::cloud::Cloud;
use reactors::action::Action;
use reactors::node::{Input, Node, Output, SubmitError, Submitted};
use reactors::observed::Observed;
use tokio::sync::{mpsc, oneshot, watch};

/// Inputs that wait for the core, at most; whoever brings more waits.
const INPUTS_MAX: usize = 8 * 1024;

/// Inputs that share one write to the disk, at most.
const BATCH_MAX: usize = 512;

/// How often the counters are read.
const COUNTERS_EVERY: Duration = Duration::from_millis(500);

/// What is asked of the core in its own thread.
type Question = Box<dyn FnOnce(&Node, &Store) + Send>;

/// What the thread takes.
enum Message {
    Input(Input),
    Submit { command: Vec<u8>, id: ledger::id::CommandId, reply: oneshot::Sender<Result<Submitted, SubmitError>> },
    Query(Question),
    Stop,
}

/// A view of the node for those who only read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What is so.
    pub cloud: Arc<Cloud>,
    /// What this node sees.
    pub observed: Arc<Observed>,
    /// The offset of the next journal record.
    pub journal_next: u64,
    /// This opening's chain.
    pub incarnation: u64,
    /// What the replica counted, not older than [`COUNTERS_EVERY`].
    pub counters: Arc<BTreeMap<String, u64>>,
}

/// What performs the outputs that are not the core's own.
pub trait Shell: Send {
    /// Sends a frame to a peer; it may be lost.
    fn send(&mut self, to: ledger::id::NodeId, bytes: Vec<u8>);
    /// Breaks with a peer.
    fn disconnect(&mut self, peer: ledger::id::NodeId, why: &str);
    /// Gives an action to the hands.
    fn act(&mut self, action: Action);
}

/// Speaks to the thread. Cheap to clone.
#[derive(Clone)]
pub struct Core {
    messages: mpsc::Sender<Message>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    changed: watch::Receiver<u64>,
}

/// The core stopped, or its thread died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is shutting down")]
pub struct Stopped;

/// Why a command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Too much waits already.
    #[error("the node has more waiting than it takes on")]
    Busy,
    /// See [`Stopped`].
    #[error("the node is shutting down")]
    Stopped,
}

impl Core {
    /// Gives the core an input; waits while it is busy.
    pub async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.messages.send(Message::Input(input)).await.map_err(|_| Stopped)
    }

    /// Puts a command into the log; answers when it is durable and folded. With too much waiting already, it
    /// refuses at once.
    pub async fn submit(
        &self,
        command: Vec<u8>,
        id: ledger::id::CommandId,
    ) -> Result<Result<Submitted, SubmitError>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        self.messages.try_send(Message::Submit { command, id, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => NotTaken::Busy,
            mpsc::error::TrySendError::Closed(_) => NotTaken::Stopped,
        })?;
        answer.await.map_err(|_| NotTaken::Stopped)
    }

    /// Asks something of the core or of its store, in the core's own thread: keep it short.
    pub async fn query<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Node, &Store) -> T + Send + 'static,
    ) -> Result<T, Stopped> {
        let (reply, answer) = oneshot::channel();
        let question = Box::new(move |node: &Node, store: &Store| {
            // Whoever asked may have gone.
            let _ = reply.send(question(node, store));
        });
        self.messages.send(Message::Query(question)).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// The newest view.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Changes with each new journal record; its value is the offset of the next.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Asks the thread to end.
    pub async fn stop(&self) {
        let _ = self.messages.send(Message::Stop).await;
    }
}

/// Milliseconds since 1970 by the host's clock.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Opens the node in a thread of its own, with what `open` gives it; `shell` performs what comes out.
pub fn start(
    store: Store,
    node: Node,
    first: Vec<Output>,
    mut shell: Box<dyn Shell>,
) -> Result<(Core, std::thread::JoinHandle<Result<()>>)> {
    let (messages, inbox) = mpsc::channel(INPUTS_MAX);
    let view = view(&node, Arc::new(counters(&node)));
    let (announce, changed) = watch::channel(view.journal_next);
    let snapshot = Arc::new(ArcSwap::from_pointee(view));
    let core = Core { messages, snapshot: Arc::clone(&snapshot), changed };
    let thread = std::thread::Builder::new()
        .name("core".into())
        .spawn(move || {
            let mut core = Thread {
                node,
                store,
                replies: HashMap::new(),
                next_token: 0,
                snapshot,
                announce,
                counted: Instant::now(),
            };
            core.perform(first, &mut *shell)?;
            core.run(inbox, &mut *shell)
        })
        .context("starting the core's thread")?;
    Ok((core, thread))
}

struct Thread {
    node: Node,
    store: Store,
    replies: HashMap<u64, oneshot::Sender<Result<Submitted, SubmitError>>>,
    next_token: u64,
    snapshot: Arc<ArcSwap<Snapshot>>,
    announce: watch::Sender<u64>,
    counted: Instant,
}

fn view(node: &Node, counters: Arc<BTreeMap<String, u64>>) -> Snapshot {
    Snapshot {
        cloud: node.cloud(),
        observed: Arc::new(node.observed().clone()),
        journal_next: node.journal_next(),
        incarnation: node.replica().chain().incarnation,
        counters,
    }
}

/// What the replica and the node counted, by name.
fn counters(node: &Node) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(node.replica().counters()) {
        counts.extend(fields.into_iter().filter_map(|(name, count)| Some((name, count.as_u64()?))));
    }
    let (limbo, held) = node.replica().waiting();
    counts.insert("waiting_in_limbo".into(), limbo as u64);
    counts.insert("held_back".into(), held as u64);
    counts.insert("frames_of_strangers".into(), node.strangers());
    counts.insert("unknown_frames".into(), node.observed().unknown_frames);
    for (why, count) in &node.observed().refused_presences {
        counts.insert(format!("presence_refused_{}", why.replace('-', "_")), *count);
    }
    counts
}

impl Thread {
    fn run(&mut self, mut inbox: mpsc::Receiver<Message>, shell: &mut dyn Shell) -> Result<()> {
        while let Some(message) = inbox.blocking_recv() {
            let mut outputs = Vec::new();
            let mut next = Some(message);
            let mut taken = 0;
            while let Some(message) = next.take() {
                match message {
                    Message::Input(input) => outputs.extend(self.node.handle(input, now_ms())),
                    Message::Submit { command, id, reply } => {
                        let token = self.next_token;
                        self.next_token += 1;
                        self.replies.insert(token, reply);
                        outputs.extend(self.node.handle(Input::Submit { token, command, id }, now_ms()));
                    }
                    Message::Query(question) => {
                        // It must not see what is not durable yet.
                        self.perform(std::mem::take(&mut outputs), shell)?;
                        question(&self.node, &self.store);
                    }
                    Message::Stop => {
                        self.perform(outputs, shell)?;
                        return Ok(());
                    }
                }
                taken += 1;
                if taken < BATCH_MAX {
                    next = inbox.try_recv().ok();
                }
            }
            self.perform(outputs, shell)?;
        }
        Ok(())
    }

    /// Writes first, then the rest, in order.
    fn perform(&mut self, outputs: Vec<Output>, shell: &mut dyn Shell) -> Result<()> {
        let mut ops: Vec<Op> = Vec::new();
        let mut records = Vec::new();
        let mut rest = Vec::with_capacity(outputs.len());
        for output in outputs {
            match output {
                Output::Persist { ops: more, journal } => {
                    ops.extend(more);
                    records.extend(journal);
                }
                other => rest.push(other),
            }
        }
        if !ops.is_empty() || !records.is_empty() {
            self.store.append(&ops, &records).context("writing to the ledger's store")?;
        }
        self.publish();
        for output in rest {
            match output {
                Output::Send { to, bytes } => shell.send(to, bytes),
                Output::Disconnect { peer, why } => shell.disconnect(peer, &why),
                Output::Act(action) => shell.act(action),
                Output::Reply { token, reply } => {
                    if let Some(waiting) = self.replies.remove(&token) {
                        // The client may have gone; what it asked for is done all the same.
                        let _ = waiting.send(reply);
                    }
                }
                Output::Publish(_) | Output::Persist { .. } => {}
            }
        }
        Ok(())
    }

    /// Shows the newest view to those who only read: once a batch, after it is durable.
    fn publish(&mut self) {
        let journal_next = self.node.journal_next();
        let counted = if self.counted.elapsed() >= COUNTERS_EVERY {
            self.counted = Instant::now();
            Arc::new(counters(&self.node))
        } else {
            Arc::clone(&self.snapshot.load().counters)
        };
        self.snapshot.store(Arc::new(view(&self.node, counted)));
        self.announce.send_if_modified(|offset| {
            let changed = *offset != journal_next;
            *offset = journal_next;
            changed
        });
    }
}
