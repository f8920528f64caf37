//! What all routes share: the door, and the bounded state of the API itself.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ledger::command::SignedCommand;
use ledger::id::{CommandId, NodeId};
use projections::cloud::Position;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::door::{Door, SubmitError, Submitted, Wait};
use crate::problem::{ErrorCode, Problem};
use crate::signature::ReplayCache;

/// What the API takes on. The defaults fit a node; tests make them small.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once; more wait to be accepted.
    pub connections: usize,
    /// Connections at once from one address; one more is closed.
    pub connections_per_address: usize,
    /// Requests at once, streams left out; more are answered "busy".
    pub requests: usize,
    /// Event streams at once.
    pub event_streams: usize,
    /// Logs that are read at once.
    pub log_streams: usize,
    /// Uploads at once.
    pub uploads: usize,
    /// Bytes of a request's line and headers.
    pub header_bytes: usize,
    /// Accounts that may be opened here at once after a quiet time: each is an op that every node keeps.
    pub newcomers: u32,
    /// How long it takes till one more may be.
    pub newcomer_time: Duration,
    /// How long the headers of a request may take, and how long a connection may idle.
    pub header_time: Duration,
    /// How long an answer may take, streams left out.
    pub answer_time: Duration,
    /// How long a connection may take no byte of an answer, or give none of a body, before it is dropped.
    pub stall_time: Duration,
    /// How long open requests may go on after the order to shut down.
    pub drain_time: Duration,
    /// At least this often something travels on an event stream.
    pub heartbeat: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            connections_per_address: 256,
            requests: 512,
            event_streams: 256,
            log_streams: 64,
            uploads: 4,
            header_bytes: 16 * 1024,
            newcomers: 1024,
            newcomer_time: Duration::from_millis(250),
            header_time: Duration::from_secs(15),
            answer_time: Duration::from_secs(30),
            stall_time: Duration::from_secs(30),
            drain_time: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
        }
    }
}

/// The state that every route gets. Cheap to clone.
#[derive(Clone)]
pub(crate) struct App {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) door: Arc<dyn Door>,
    /// Whose journal the event streams are of.
    pub(crate) node: NodeId,
    pub(crate) limits: Limits,
    pub(crate) shutdown: CancellationToken,
    pub(crate) replays: Mutex<ReplayCache>,
    newcomers: Mutex<Newcomers>,
    pub(crate) requests: Arc<Semaphore>,
    pub(crate) event_streams: Arc<Semaphore>,
    pub(crate) log_streams: Arc<Semaphore>,
    pub(crate) uploads: Arc<Semaphore>,
    /// When a check of the log ended last, and how long it took; one runs at a time.
    pub(crate) verified: tokio::sync::Mutex<Option<(Instant, Duration)>>,
    recent: Mutex<Recent>,
    state_hash: tokio::sync::Mutex<Option<StateHash>>,
}

impl std::ops::Deref for App {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.inner
    }
}

/// Places for accounts to be opened. They come back with time.
struct Newcomers {
    places: u32,
    reckoned: Instant,
}

/// The hash of a view costs as much as the view is large: it is made once for a position, and after one was
/// made there is a pause, so that askers never take more than a part of a processor.
struct StateHash {
    position: Position,
    /// Height of the last certificate: it is part of the view, and changes without a new op.
    height: u64,
    hash: [u8; 32],
    made: Instant,
    took: Duration,
}

/// The pause after something that is costly and open to all, as a multiple of the time that it took.
pub(crate) const PAUSES: u32 = 4;

/// Commands whose submission is remembered here till the fold has them.
const RECENT_MAX: usize = 4096;

/// Commands that were submitted through this API lately: the same one twice at a time makes one op.
#[derive(Default)]
struct Recent {
    slots: HashMap<(CommandId, Wait), Arc<OnceCell<Submitted>>>,
    order: VecDeque<(CommandId, Wait)>,
}

impl Recent {
    fn slot(&mut self, id: (CommandId, Wait)) -> Arc<OnceCell<Submitted>> {
        if let Some(slot) = self.slots.get(&id) {
            return Arc::clone(slot);
        }
        if self.order.len() >= RECENT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.slots.remove(&oldest);
        }
        self.order.push_back(id);
        Arc::clone(self.slots.entry(id).or_default())
    }
}

impl App {
    pub(crate) fn new(door: Arc<dyn Door>, limits: Limits, shutdown: CancellationToken) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        let inner = Inner {
            node: door.status().id,
            door,
            shutdown,
            replays: Mutex::default(),
            newcomers: Mutex::new(Newcomers {
                places: limits.newcomers,
                reckoned: Instant::now(),
            }),
            requests: semaphore(limits.requests),
            event_streams: semaphore(limits.event_streams),
            log_streams: semaphore(limits.log_streams),
            uploads: semaphore(limits.uploads),
            verified: tokio::sync::Mutex::default(),
            recent: Mutex::default(),
            state_hash: tokio::sync::Mutex::default(),
            limits,
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Submits a command once, however often and by however many connections it comes; says whether it came
    /// before. Goes on when the asker goes away, so that a command is never half submitted.
    pub(crate) async fn submit_once(
        &self,
        command: SignedCommand,
        wait: Wait,
    ) -> Result<(Submitted, bool), SubmitError> {
        let slot = self
            .recent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .slot((command.id(), wait));
        let door = Arc::clone(&self.door);
        let task = tokio::spawn(async move {
            let mut first = false;
            let submitted = slot
                .get_or_try_init(|| {
                    first = true;
                    door.submit(command, wait)
                })
                .await?;
            Ok((submitted.clone(), !first))
        });
        task.await
            .unwrap_or_else(|error| Err(SubmitError::Failed(error.to_string())))
    }

    /// Takes a place for an account to be opened, if there is one.
    pub(crate) fn admit_newcomer(&self) -> bool {
        let mut newcomers = self.newcomers.lock().unwrap_or_else(PoisonError::into_inner);
        let span = self.limits.newcomer_time.max(Duration::from_millis(1));
        let gained = newcomers.reckoned.elapsed().as_millis() / span.as_millis();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained > 0 {
            newcomers.reckoned += span.saturating_mul(gained);
            newcomers.places = newcomers.places.saturating_add(gained).min(self.limits.newcomers);
        }
        match newcomers.places.checked_sub(1) {
            Some(left) => {
                newcomers.places = left;
                true
            }
            None => false,
        }
    }

    /// The hash of the whole view, and the position that it is of.
    pub(crate) async fn state_hash(&self) -> Result<(Position, [u8; 32]), Problem> {
        let mut kept = self.state_hash.lock().await;
        let cloud = self.door.cloud();
        if let Some(kept) = kept.as_ref()
            && ((kept.position, kept.height) == (cloud.position, cloud.finality.height)
                || kept.made.elapsed() < kept.took * PAUSES)
        {
            return Ok((kept.position, kept.hash));
        }
        let (position, height, began) = (cloud.position, cloud.finality.height, Instant::now());
        let hash = tokio::task::spawn_blocking(move || cloud.state_hash())
            .await
            .map_err(|error| Problem::new(ErrorCode::Internal, format!("the view has no hash: {error}")))?;
        *kept = Some(StateHash {
            position,
            height,
            hash,
            made: Instant::now(),
            took: began.elapsed(),
        });
        Ok((position, hash))
    }
}

/// A place among a bounded number.
pub(crate) fn place(semaphore: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(semaphore).try_acquire_owned().map_err(|_| {
        Problem::new(
            ErrorCode::Busy,
            format!("this node has as many {what} open as it takes on"),
        )
        .hint("try again in a moment, or ask another node")
    })
}

/// Milliseconds since 1970 by this host's clock.
pub(crate) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
