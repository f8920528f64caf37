//! The thread that owns the core of the node and its store.
//!
//! It takes the inputs that have come, gives each to the core, makes all their writes durable as one, and
//! only then performs the rest: so many clients share one write to the disk, and nobody is told of an op
//! that may be lost. When the disk does not take a write, the thread stands still till it does (see
//! `stalled.rs`).

mod stalled;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use ledger::io::store::Store;
use projections::cloud::Cloud;
use reactors::action::Action;
use reactors::node::{
    Durable, FinalityStatus, Input, Node, Output, SubmitError, Submitted, Wait, certificate_frame,
};
use reactors::observed::Observed;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

/// Inputs that wait for the core, at most; whoever brings more waits.
const INPUTS_MAX: usize = 8 * 1024;

/// Bytes of frames that wait for the core, at most; whoever brings more waits. A frame larger than all of it
/// does not come: see [`ledger::sync::FRAME_BYTES_MAX`].
const FRAME_BYTES_WAITING_MAX: usize = 64 << 20;

/// A clock set back by no more than this stands still until it is caught up with. Further back, the node
/// ends: its ops lie ahead of its clock, so others would hold back all that it says, and it must begin a new
/// chain, as a start does.
const CLOCK_BACK_MAX: Duration = Duration::from_secs(2);

/// Inputs that share one write to the disk, at most.
const BATCH_MAX: usize = 512;

/// Certificates that a peer is sent at once, at most: it tells its height again every second.
const CERTIFICATES_AT_ONCE: usize = 256;

/// How often the counters are read.
const COUNTERS_EVERY: Duration = Duration::from_millis(500);

/// What is asked of the core in its own thread.
type Question = Box<dyn FnOnce(&Node, &Store) + Send>;

/// What the thread takes.
enum Message {
    Input(Input, Option<OwnedSemaphorePermit>),
    Submit {
        command: Vec<u8>,
        id: ledger::id::CommandId,
        wait: Wait,
        reply: oneshot::Sender<Result<Submitted, Refused>>,
    },
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
    /// What the replica counted, read twice a second.
    pub counters: Arc<BTreeMap<String, u64>>,
    /// Why nothing can be written now, if nothing can.
    pub not_written: Option<NotWritten>,
    /// What is so at the end of what is final.
    pub final_cloud: Arc<Cloud>,
    /// How far the network is final.
    pub finality: FinalityStatus,
    /// Ops that are not final.
    pub tentative: usize,
    /// What only an operator can mend.
    pub alarm: Option<String>,
}

/// The disk does not take what is to be written; with the reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the node cannot write to its ledger: {0}")]
pub struct NotWritten(pub Arc<str>);

/// Why a command was taken and not answered with its outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The core says so.
    #[error(transparent)]
    Core(#[from] SubmitError),
    /// The disk does.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
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
    frame_bytes: Arc<Semaphore>,
    store: Arc<Store>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    changed: watch::Receiver<u64>,
    deadline: watch::Receiver<Option<u64>>,
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
        let room = match &input {
            Input::Frame { bytes, .. } => {
                let size = u32::try_from(bytes.len().min(FRAME_BYTES_WAITING_MAX)).expect("the bound fits");
                Some(
                    Arc::clone(&self.frame_bytes)
                        .acquire_many_owned(size)
                        .await
                        .map_err(|_| Stopped)?,
                )
            }
            _ => None,
        };
        self.messages
            .send(Message::Input(input, room))
            .await
            .map_err(|_| Stopped)
    }

    /// Puts a command into the log; answers when it is durable and folded, and what else was to be waited for
    /// has come. With too much waiting already, it refuses at once.
    pub async fn submit(
        &self,
        command: Vec<u8>,
        id: ledger::id::CommandId,
        wait: Wait,
    ) -> Result<Result<Submitted, Refused>, NotTaken> {
        let (reply, answer) = oneshot::channel();
        self.messages
            .try_send(Message::Submit {
                command,
                id,
                wait,
                reply,
            })
            .map_err(|error| match error {
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
        self.messages
            .send(Message::Query(question))
            .await
            .map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// The store, to read from what is durable in another thread than the core's.
    pub fn store(&self) -> Arc<Store> {
        Arc::clone(&self.store)
    }

    /// The newest view.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Changes with each new journal record; its value is the offset of the next.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// When the core waits for a time, in milliseconds since 1970: a tick should come then.
    pub fn deadline(&self) -> watch::Receiver<Option<u64>> {
        self.deadline.clone()
    }

    /// Asks the thread to end.
    pub async fn stop(&self) {
        let _ = self.messages.send(Message::Stop).await;
    }
}

/// The core's thread, for whoever waits for its end.
pub struct Running {
    thread: std::thread::JoinHandle<Result<()>>,
    ended: oneshot::Receiver<()>,
}

impl Running {
    /// Returns when the thread has ended or is about to.
    pub async fn ended(&mut self) {
        // The thread drops its end of the channel, however it ends.
        let _ = (&mut self.ended).await;
    }

    /// What the thread ended with; waits for it.
    pub async fn join(self) -> Result<()> {
        match tokio::task::spawn_blocking(move || self.thread.join()).await? {
            Ok(ended) => ended.context("the node's core stopped"),
            Err(_) => anyhow::bail!("the node's core died: what it said stands above"),
        }
    }
}

/// The host's clock, which may be set back, as one that is not.
#[derive(Debug, Default)]
struct Time {
    last_ms: u64,
}

impl Time {
    fn read(&mut self, host_ms: u64) -> Result<u64> {
        let back_ms = self.last_ms.saturating_sub(host_ms);
        ensure!(
            u128::from(back_ms) <= CLOCK_BACK_MAX.as_millis(),
            "the host's clock was set back by {} s: the node has to be started again, so that what it says from \
             now on does not lie in the future (systemd does so by itself)",
            back_ms.div_ceil(1_000)
        );
        self.last_ms = self.last_ms.max(host_ms);
        Ok(self.last_ms)
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
) -> Result<(Core, Running)> {
    let (messages, inbox) = mpsc::channel(INPUTS_MAX);
    let store = Arc::new(store);
    let view = view(&node, Arc::new(counters(&node)));
    let (announce, changed) = watch::channel(view.journal_next);
    let (tell_deadline, deadline) = watch::channel(node.deadline());
    let snapshot = Arc::new(ArcSwap::from_pointee(view));
    let frame_bytes = Arc::new(Semaphore::new(FRAME_BYTES_WAITING_MAX));
    let core = Core {
        messages,
        frame_bytes,
        store: Arc::clone(&store),
        snapshot: Arc::clone(&snapshot),
        changed,
        deadline,
    };
    let (end, ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new()
        .name("core".into())
        .spawn(move || {
            let _end = end;
            let mut core = Thread {
                node,
                store,
                replies: HashMap::new(),
                kept: stalled::Kept::new(),
                next_token: 0,
                snapshot,
                announce,
                tell_deadline,
                counted: Instant::now(),
                time: Time::default(),
            };
            let mut inbox = inbox;
            core.perform(first, &mut inbox, &mut *shell)?;
            core.run(inbox, &mut *shell)
        })
        .context("starting the core's thread")?;
    Ok((core, Running { thread, ended }))
}

struct Thread {
    node: Node,
    store: Arc<Store>,
    replies: HashMap<u64, oneshot::Sender<Result<Submitted, Refused>>>,
    /// What came while the disk took nothing.
    kept: stalled::Kept,
    next_token: u64,
    snapshot: Arc<ArcSwap<Snapshot>>,
    announce: watch::Sender<u64>,
    tell_deadline: watch::Sender<Option<u64>>,
    counted: Instant,
    time: Time,
}

fn view(node: &Node, counters: Arc<BTreeMap<String, u64>>) -> Snapshot {
    Snapshot {
        cloud: node.cloud(),
        observed: node.observed_shared(),
        journal_next: node.journal_next(),
        incarnation: node.replica().chain().incarnation,
        counters,
        not_written: None,
        final_cloud: node.final_cloud(),
        finality: node.finality(),
        tentative: node.replica().log().tentative(),
        alarm: node.alarm(),
    }
}

/// What the replica and the node counted, by name.
fn counters(node: &Node) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    if let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(node.replica().counters()) {
        counts.extend(
            fields
                .into_iter()
                .filter_map(|(name, count)| Some((name, count.as_u64()?))),
        );
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
        while let Some(message) = self.kept.pop_front().or_else(|| inbox.blocking_recv()) {
            let mut inputs = Vec::new();
            let mut rooms = Vec::new();
            let mut next = Some(message);
            let mut taken = 0;
            while let Some(message) = next.take() {
                match message {
                    Message::Input(input, room) => {
                        inputs.push(input);
                        rooms.extend(room);
                    }
                    Message::Submit {
                        command,
                        id,
                        wait,
                        reply,
                    } => {
                        let token = self.next_token;
                        self.next_token += 1;
                        self.replies.insert(token, reply);
                        inputs.push(Input::Submit {
                            token,
                            command,
                            id,
                            wait,
                        });
                    }
                    Message::Query(question) => {
                        // It must not see what is not durable yet.
                        self.handle(std::mem::take(&mut inputs), &mut inbox, shell)?;
                        question(&self.node, &self.store);
                    }
                    Message::Stop => return self.handle(inputs, &mut inbox, shell),
                }
                taken += 1;
                if taken < BATCH_MAX {
                    next = self.kept.pop_front().or_else(|| inbox.try_recv().ok());
                }
            }
            self.handle(inputs, &mut inbox, shell)?;
            drop(rooms);
        }
        Ok(())
    }

    fn handle(
        &mut self,
        inputs: Vec<Input>,
        inbox: &mut mpsc::Receiver<Message>,
        shell: &mut dyn Shell,
    ) -> Result<()> {
        if inputs.is_empty() {
            return Ok(());
        }
        let now_ms = self.time.read(now_ms())?;
        let outputs = self.node.handle_all(inputs, now_ms);
        self.perform(outputs, inbox, shell)
    }

    /// Writes first, then the rest, in order.
    fn perform(
        &mut self,
        outputs: Vec<Output>,
        inbox: &mut mpsc::Receiver<Message>,
        shell: &mut dyn Shell,
    ) -> Result<()> {
        let mut durable = Durable::default();
        let mut rest = Vec::with_capacity(outputs.len());
        for output in outputs {
            match output {
                Output::Persist(more) => durable.extend(more),
                other => rest.push(other),
            }
        }
        self.write(&durable, inbox)?;
        self.publish();
        for output in rest {
            match output {
                Output::Send { to, bytes } => shell.send(to, bytes),
                Output::Disconnect { peer, why } => shell.disconnect(peer, &why),
                Output::TellCertificates { to, from_height } => {
                    let stored = self.store.certificates(from_height, CERTIFICATES_AT_ONCE);
                    for certificate in stored.context("reading certificates from the store")? {
                        shell.send(to, certificate_frame(&certificate));
                    }
                }
                Output::Act(action) => shell.act(action),
                Output::Reply { token, reply } => {
                    if let Some(waiting) = self.replies.remove(&token) {
                        // The client may have gone; what it asked for is done all the same.
                        let _ = waiting.send(reply.map_err(Refused::from));
                    }
                }
                Output::Persist(_) => {}
            }
        }
        Ok(())
    }

    /// Tells those who only read that nothing can be written, or that it can again.
    fn show_not_written(&self, not_written: Option<NotWritten>) {
        let shown = Snapshot {
            not_written,
            ..(**self.snapshot.load()).clone()
        };
        self.snapshot.store(Arc::new(shown));
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
        let deadline = self.node.deadline();
        self.tell_deadline.send_if_modified(|told| {
            let changed = *told != deadline;
            *told = deadline;
            changed
        });
        self.announce.send_if_modified(|offset| {
            let changed = *offset != journal_next;
            *offset = journal_next;
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_a_little_stands_still_and_one_set_back_far_ends_the_node() {
        let mut time = Time::default();
        assert_eq!(time.read(10_000).ok(), Some(10_000));
        assert_eq!(time.read(8_000).ok(), Some(10_000));
        assert_eq!(time.read(10_001).ok(), Some(10_001));
        let error = time.read(8_000).map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.contains("set back by 3 s")));
    }
}
