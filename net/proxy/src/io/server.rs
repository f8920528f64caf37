//! Accepting, with bounds, and ending, with grace.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::fronts::FrontTable;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::ProxyConfig;
use crate::counters::{Counters, Counts, count};
use crate::io::exchange::{Arrival, exchange};
use crate::io::gate::{Gate, Watch};
use crate::io::pool::Pool;

/// Largest head of a request.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Most headers of a request.
const HEADERS_MAX: usize = 128;
/// How often kept connections are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// After an error of a listener, such as too many open files.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// Why the front door did not open.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error("the proxy could not listen on {address}; is another web server running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Opens the front door.
#[derive(Debug)]
pub struct Proxy;

/// An open front door; dropped, it closes at once.
pub struct ProxyServer {
    shared: Arc<Shared>,
    listen: Vec<SocketAddr>,
}

pub(super) struct Shared {
    pub(super) config: ProxyConfig,
    pub(super) table: Arc<ArcSwap<FrontTable>>,
    pub(super) pool: Arc<Pool>,
    pub(super) counts: Counts,
    pub(super) turn: AtomicUsize,
    pub(super) tasks: TaskTracker,
    /// No new connection, no new request.
    drain: CancellationToken,
    /// Everything ends now.
    pub(super) kill: CancellationToken,
    connections: Arc<Semaphore>,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

impl Proxy {
    /// Listens and routes by the table until the server is shut down or dropped.
    pub async fn start(
        config: ProxyConfig,
        table: Arc<ArcSwap<FrontTable>>,
    ) -> Result<ProxyServer, StartError> {
        let mut listeners = Vec::new();
        let mut listen = Vec::new();
        for address in &config.listen {
            let failed = |source| StartError::Listen {
                address: *address,
                source,
            };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            listen.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        let (tasks, kill) = (TaskTracker::new(), CancellationToken::new());
        let drain = kill.child_token();
        let connections_max = config.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            pool: Arc::new(Pool::new(
                config.connect_wait,
                tasks.clone(),
                drain.clone(),
                kill.clone(),
            )),
            config,
            table,
            counts: Counts::default(),
            turn: AtomicUsize::new(0),
            tasks,
            drain,
            kill,
            connections: Arc::new(Semaphore::new(connections_max)),
            clients: Mutex::default(),
        });
        for listener in listeners {
            shared.tasks.spawn(listen_on(listener, shared.clone()));
        }
        shared.tasks.spawn(sweep(shared.clone()));
        Ok(ProxyServer { shared, listen })
    }
}

impl ProxyServer {
    /// The addresses that are listened on, with real ports.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// A reading of all counts.
    pub fn counters(&self) -> Counters {
        self.shared.counts.read()
    }

    /// Takes no more connections and requests, lets those under way end, and cuts off after `grace` what is
    /// left. True: all ended by themselves.
    pub async fn shutdown(self, grace: Duration) -> bool {
        self.shared.drain.cancel();
        self.shared.tasks.close();
        let drained = tokio::time::timeout(grace, self.shared.tasks.wait())
            .await
            .is_ok();
        self.shared.kill.cancel();
        drained
    }
}

impl Drop for ProxyServer {
    fn drop(&mut self) {
        self.shared.kill.cancel();
    }
}

/// A client's place: counted among all and among its own as long as it lives.
pub(super) struct Place {
    shared: Arc<Shared>,
    client: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Shared {
    fn place(self: &Arc<Self>, client: IpAddr, permit: OwnedSemaphorePermit) -> Option<Arc<Place>> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = clients.entry(client).or_insert(0);
        if *taken >= self.config.connections_per_client_max {
            return None;
        }
        *taken += 1;
        count(&self.counts.connections_open);
        Some(Arc::new(Place {
            shared: self.clone(),
            client,
            _permit: permit,
        }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared
            .counts
            .connections_open
            .fetch_sub(1, Ordering::Relaxed);
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = clients.get_mut(&self.client) {
            *taken -= 1;
            if *taken == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

async fn sweep(shared: Arc<Shared>) {
    loop {
        tokio::select! {
            () = shared.drain.cancelled() => return shared.pool.clear(),
            () = tokio::time::sleep(SWEEP_EVERY) => shared.pool.sweep(),
        }
    }
}

async fn listen_on(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A place first: when there is none, clients wait in the kernel's queue.
        let accepted = async {
            let permit = shared.connections.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            () = shared.drain.cancelled() => return,
            accepted = accepted => accepted,
        };
        let Ok(permit) = permit else { return };
        match accepted {
            Ok((stream, client)) => {
                count(&shared.counts.connections);
                let client = SocketAddr::new(client.ip().to_canonical(), client.port());
                match shared.place(client.ip(), permit) {
                    Some(place) => {
                        shared.tasks.spawn(serve(stream, client, place, shared.clone()));
                    }
                    None => count(&shared.counts.connections_refused),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// One connection of a client, request after request.
async fn serve(stream: TcpStream, client: SocketAddr, place: Arc<Place>, shared: Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::trace!(%client, %error, "a client left at once");
        return;
    }
    let watch = Watch::default();
    let arrival = Arrival {
        client,
        watch: watch.clone(),
        place,
    };
    let service = {
        let shared = shared.clone();
        service_fn(move |request| {
            let (shared, arrival) = (shared.clone(), arrival.clone());
            async move { Ok::<_, Infallible>(exchange(shared, arrival, request).await) }
        })
    };
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(shared.config.head_wait)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(2 * HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX);
    let connection = builder
        .serve_connection(TokioIo::new(Gate::new(stream, watch)), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        () = shared.kill.cancelled() => return,
        ended = connection.as_mut() => ended,
        () = shared.drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                () = shared.kill.cancelled() => return,
                ended = connection => ended,
            }
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%client, %error, "a client's connection ended");
    }
}
