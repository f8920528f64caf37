//! Serves the API on listeners till it is told to stop: HTTP/1.1, every connection bounded in what it may send,
//! how long it may take, and how long it may take nothing.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;

use crate::door::Door;
use crate::routes::app::App;
use crate::routes::{self, Limits};

/// Header fields of a request, at most.
const HEADERS_MAX: usize = 64;

/// After an accept failed (too many open files), before the next.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two tidyings of the recorded figures.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// A running server. Dropped, it runs on; [`Server::stop`] ends it.
#[derive(Debug)]
pub struct Server {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Server {
    /// Stops: nobody new is accepted, event streams and followed logs end, other requests get
    /// [`Limits::drain_time`] to finish.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!("the API's server failed: {error}");
        }
    }
}

/// Serves the API on `listener`. Call it within a tokio runtime.
pub fn serve(listener: TcpListener, door: Arc<dyn Door>) -> Server {
    serve_with(vec![listener], door, Limits::default())
}

/// Serves the API on all `listeners`, within `limits`.
pub fn serve_with(listeners: Vec<TcpListener>, door: Arc<dyn Door>, limits: Limits) -> Server {
    crate::figures::install();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(listeners, door, limits, shutdown.clone()));
    Server { shutdown, task }
}

async fn run(listeners: Vec<TcpListener>, door: Arc<dyn Door>, limits: Limits, shutdown: CancellationToken) {
    let app = App::new(door, limits.clone(), shutdown.clone());
    let service = routes::router(app);
    let connections = Arc::new(Connections {
        all: Arc::new(Semaphore::new(limits.connections)),
        by_address: Mutex::default(),
    });
    let graceful = Arc::new(GracefulShutdown::new());
    let mut tasks = JoinSet::new();
    for listener in listeners {
        tasks.spawn(accept(
            listener,
            service.clone(),
            limits.clone(),
            Arc::clone(&connections),
            Arc::clone(&graceful),
            shutdown.clone(),
        ));
    }
    tasks.spawn(tidy(shutdown.clone()));
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!("a task of the API's server failed: {error}");
        }
    }
    let Some(graceful) = Arc::into_inner(graceful) else {
        return;
    };
    if tokio::time::timeout(limits.drain_time, graceful.shutdown())
        .await
        .is_err()
    {
        let seconds = limits.drain_time.as_secs();
        tracing::warn!("requests were still open {seconds} seconds after the order to stop");
    }
}

async fn tidy(shutdown: CancellationToken) {
    while tokio::time::timeout(TIDY_EVERY, shutdown.cancelled())
        .await
        .is_err()
    {
        crate::figures::tidy();
    }
}

async fn accept(
    listener: TcpListener,
    service: axum::Router,
    limits: Limits,
    connections: Arc<Connections>,
    graceful: Arc<GracefulShutdown>,
    shutdown: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_time)
        .max_headers(HEADERS_MAX)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(8 * 1024) + 64 * 1024);
    loop {
        // Beyond the bound nobody is accepted: the kernel's queue holds them, and then refuses.
        let place = tokio::select! {
            place = Arc::clone(&connections.all).acquire_owned() => place.expect("the semaphore is never closed"),
            () = shutdown.cancelled() => return,
        };
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    tracing::warn!("a connection was not accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => return,
        };
        let Some(seat) = Seat::take(&connections, household(address), limits.connections_per_address) else {
            tracing::debug!(%address, "too many connections from one address");
            continue;
        };
        let _ = stream.set_nodelay(true);
        let stream = TokioIo::new(Guarded::new(stream, limits.stall_time));
        let connection = http.serve_connection(stream, TowerToHyperService::new(service.clone()));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _held = (place, seat);
            if let Err(error) = connection.await {
                tracing::debug!("a connection of the API broke: {error}");
            }
        });
    }
}

/// Whom connections are counted for: one who has an IPv6 address has 2^64 of them.
fn household(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & NETWORK).into()),
        address => address,
    }
}

/// The open connections.
struct Connections {
    all: Arc<Semaphore>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// A place among the connections of an address.
struct Seat {
    connections: Arc<Connections>,
    address: IpAddr,
}

impl Seat {
    fn take(connections: &Arc<Connections>, address: IpAddr, max: usize) -> Option<Self> {
        let mut taken = connections
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count += 1;
        Some(Self {
            connections: Arc::clone(connections),
            address,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self
            .connections
            .by_address
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// A connection that breaks when what we write is not taken for too long: a reader that stands still would else
/// hold its place, and what was made for it, for ever.
struct Guarded {
    stream: TcpStream,
    stall_time: Duration,
    stall: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Guarded {
    fn new(stream: TcpStream, stall_time: Duration) -> Self {
        Self {
            stream,
            stall_time,
            stall: Box::pin(tokio::time::sleep(stall_time)),
            waiting: false,
        }
    }

    fn guard<T>(&mut self, context: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.waiting = false;
            return poll;
        }
        if !self.waiting {
            self.waiting = true;
            self.stall.as_mut().reset(Instant::now() + self.stall_time);
        }
        std::task::ready!(self.stall.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the other side takes nothing",
        )))
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.guard(context, poll)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let poll = Pin::new(&mut this.stream).poll_write_vectored(context, slices);
        this.guard(context, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_addresses_of_one_network_count_as_one() {
        let same = |left: &str, right: &str| {
            household(left.parse().expect("an address")) == household(right.parse().expect("an address"))
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
