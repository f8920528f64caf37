//! Connections to instances: kept for a short while, counted while in use, remembered when they fail.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::choice::Standing;
use crate::io::body::Upload;

/// How long a connection is kept without use: shorter than servers usually do, so that they rarely close it
/// under a request.
const IDLE_WAIT: Duration = Duration::from_secs(4);
/// Connections kept for one instance.
const IDLE_PER_TARGET_MAX: usize = 256;
/// Connections kept in all.
const IDLE_MAX: usize = 2048;
/// How long a target that failed to accept comes last.
const FAILED_WAIT: Duration = Duration::from_secs(5);
/// How long a connection may take to be free after an answer.
const READY_WAIT: Duration = Duration::from_secs(1);
/// Largest head of an answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most headers of an answer.
const HEADERS_MAX: usize = 256;

pub(super) type Sender = SendRequest<Upload>;

/// Why there is no connection to an instance.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("the instance did not accept in time")]
    Slow,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] hyper::Error),
}

#[derive(Default)]
struct Slot {
    idle: Vec<(Sender, Instant)>,
    active: usize,
    failed_until: Option<Instant>,
}

#[derive(Default)]
struct Slots {
    targets: HashMap<SocketAddr, Slot>,
    idle: usize,
}

pub(super) struct Pool {
    slots: Mutex<Slots>,
    connect_wait: Duration,
    tasks: TaskTracker,
    /// Nothing is kept any more.
    drain: CancellationToken,
    /// Everything ends now.
    kill: CancellationToken,
}

impl Pool {
    pub(super) fn new(
        connect_wait: Duration,
        tasks: TaskTracker,
        drain: CancellationToken,
        kill: CancellationToken,
    ) -> Self {
        Self {
            slots: Mutex::default(),
            connect_wait,
            tasks,
            drain,
            kill,
        }
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn standing(&self, address: SocketAddr) -> Standing {
        let slots = self.slots();
        slots
            .targets
            .get(&address)
            .map_or_else(Standing::default, |slot| Standing {
                active: slot.active,
                failed: slot.failed_until.is_some_and(|until| until > Instant::now()),
            })
    }

    /// Counts a request to a target as long as the guard lives.
    pub(super) fn begin(self: &Arc<Self>, address: SocketAddr) -> Active {
        self.slots().targets.entry(address).or_default().active += 1;
        Active {
            pool: self.clone(),
            address,
        }
    }

    /// A kept connection that can be used now.
    pub(super) fn take(&self, address: SocketAddr) -> Option<Sender> {
        let mut slots = self.slots();
        let slots = &mut *slots;
        let slot = slots.targets.get_mut(&address)?;
        while let Some((sender, since)) = slot.idle.pop() {
            slots.idle -= 1;
            if sender.is_ready() && !sender.is_closed() && since.elapsed() < IDLE_WAIT {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, address: SocketAddr, sender: Sender) {
        let mut slots = self.slots();
        if self.drain.is_cancelled() {
            return;
        }
        let slots = &mut *slots;
        let slot = slots.targets.entry(address).or_default();
        if slots.idle < IDLE_MAX && slot.idle.len() < IDLE_PER_TARGET_MAX {
            slot.idle.push((sender, Instant::now()));
            slots.idle += 1;
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self, address: SocketAddr) -> Result<Sender, ConnectError> {
        let connected = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let mut builder = http1::Builder::new();
            builder
                .max_header_size(HEAD_BYTES_MAX)
                .max_buf_size(2 * HEAD_BYTES_MAX)
                .max_headers(HEADERS_MAX);
            Ok(builder.handshake::<_, Upload>(TokioIo::new(stream)).await?)
        };
        let result = match timeout(self.connect_wait, connected).await {
            Ok(result) => result,
            Err(_) => Err(ConnectError::Slow),
        };
        let failed_until = if result.is_err() {
            Some(Instant::now() + FAILED_WAIT)
        } else {
            None
        };
        self.slots().targets.entry(address).or_default().failed_until = failed_until;
        let (sender, connection) = result?;
        let kill = self.kill.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = kill.cancelled() => {}
                ended = connection.with_upgrades() => {
                    if let Err(error) = ended {
                        tracing::trace!(%address, %error, "a connection to an instance ended");
                    }
                }
            }
        });
        Ok(sender)
    }

    /// Drops all that is kept.
    pub(super) fn clear(&self) {
        let mut slots = self.slots();
        slots.targets.values_mut().for_each(|slot| slot.idle.clear());
        slots.idle = 0;
    }

    /// Drops what was kept too long and forgets targets of which nothing is left.
    pub(super) fn sweep(&self) {
        let mut slots = self.slots();
        let now = Instant::now();
        let mut idle = 0;
        slots.targets.retain(|_, slot| {
            slot.idle
                .retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_WAIT);
            idle += slot.idle.len();
            slot.active > 0 || !slot.idle.is_empty() || slot.failed_until.is_some_and(|until| until > now)
        });
        slots.idle = idle;
    }
}

/// A request under way to a target.
pub(super) struct Active {
    pool: Arc<Pool>,
    address: SocketAddr,
}

impl Drop for Active {
    fn drop(&mut self) {
        if let Some(slot) = self.pool.slots().targets.get_mut(&self.address) {
            slot.active -= 1;
        }
    }
}

/// A connection in use by one exchange, till the end of the answer's body.
pub(super) struct Lease {
    sender: Sender,
    active: Active,
}

impl Lease {
    pub(super) fn new(sender: Sender, active: Active) -> Self {
        Self { sender, active }
    }

    /// Keeps the connection for the next request, once it is free.
    pub(super) fn give_back(self) {
        let Self { mut sender, active } = self;
        let (pool, address) = (active.pool.clone(), active.address);
        drop(active);
        if sender.is_ready() {
            pool.put(address, sender);
            return;
        }
        let tasks = pool.tasks.clone();
        if tokio::runtime::Handle::try_current().is_ok() {
            tasks.spawn(async move {
                if let Ok(Ok(())) = timeout(READY_WAIT, sender.ready()).await {
                    pool.put(address, sender);
                }
            });
        }
    }
}
