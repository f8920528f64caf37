//! The server: sockets with bounds, each message handed to the [`Authority`]. UDP answers in the loop that
//! received, TCP in a task a connection, passed-on questions in tasks of their own.
//!
//! Not hickory-server's own `Server`: that takes any number of connections and starts a task for each
//! datagram, and it sets memory aside for as many questions as a header claims.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;
use net::names::NameTable;
use net::prefix::Prefix;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authority::{Authority, Outcome};
use crate::counters::{Counters, count};
use crate::io::forward;
use crate::reply;

/// TCP connections at once.
const CONNECTIONS_MAX: usize = 256;
/// TCP connections of one client at once.
const CONNECTIONS_PER_CLIENT_MAX: u32 = 16;
/// How long a TCP connection may stay without a whole question, and an answer without being read.
const IDLE_WAIT: Duration = Duration::from_secs(10);
/// Questions passed on at once; more are answered with SERVFAIL.
const FORWARDS_MAX: usize = 256;
/// Longest UDP question that is looked at.
const UDP_QUERY_BYTES_MAX: usize = 4096;
/// After an error of a socket.
const ERROR_PAUSE: Duration = Duration::from_millis(20);
/// How long a shutdown waits for what is under way.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);
/// Where the host's own servers are written.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// How the DNS of a node is set.
#[derive(Clone, Debug, Default)]
pub struct DnsConfig {
    /// Addresses to listen on, for UDP and TCP both. `[::]` takes IPv4 as well: do not list `0.0.0.0` beside
    /// it. Port 0 takes one free port for UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Servers that other names are passed on to, in order. None: other names are refused.
    pub upstreams: Vec<SocketAddr>,
    /// Clients, besides the host itself, for whom names are passed on.
    pub forward_for: Vec<Prefix>,
    /// This server's own addresses: what the zones' server `ns.<zone>` resolves to.
    pub own: Vec<IpAddr>,
}

/// Why the DNS did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be bound.
    #[error("the DNS could not listen on {address}; is another DNS server running there?")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A question would be passed on to ourselves, for ever.
    #[error("the DNS server {address} to pass questions on to is this one itself: name another")]
    Itself {
        /// The address.
        address: SocketAddr,
    },
}

/// Starts the DNS.
#[derive(Debug)]
pub struct Dns;

/// A running DNS; dropped, it stops.
#[derive(Debug)]
pub struct DnsServer {
    shared: Arc<Shared>,
    listen: Vec<SocketAddr>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    authority: Authority,
    upstreams: Vec<SocketAddr>,
    forwards: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    clients: Mutex<HashMap<IpAddr, u32>>,
    stop: CancellationToken,
}

impl Dns {
    /// Listens and answers from the table until the server is shut down or dropped.
    pub async fn start(config: DnsConfig, table: Arc<ArcSwap<NameTable>>) -> Result<DnsServer, StartError> {
        let mut sockets = Vec::new();
        for address in &config.listen {
            let bound = bind(*address).await;
            sockets.push(bound.map_err(|source| StartError::Listen {
                address: *address,
                source,
            })?);
        }
        let listen: Vec<SocketAddr> = sockets.iter().map(|(_, _, address)| *address).collect();
        let itself = |upstream: &&SocketAddr| {
            listen.iter().any(|own| {
                own.port() == upstream.port()
                    && (own.ip() == upstream.ip()
                        || own.ip().is_unspecified() && is_own(upstream.ip(), &config.own))
            })
        };
        if let Some(address) = config.upstreams.iter().find(itself) {
            return Err(StartError::Itself { address: *address });
        }
        let forward_for = (!config.upstreams.is_empty()).then_some(config.forward_for);
        let shared = Arc::new(Shared {
            authority: Authority::new(table, config.own, forward_for, rand::random()),
            upstreams: config.upstreams,
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            clients: Mutex::default(),
            stop: CancellationToken::new(),
        });
        let tasks = TaskTracker::new();
        for (udp, tcp, _) in sockets {
            tasks.spawn(stoppable(
                shared.stop.clone(),
                serve_udp(Arc::new(udp), shared.clone(), tasks.clone()),
            ));
            tasks.spawn(stoppable(
                shared.stop.clone(),
                serve_tcp(tcp, shared.clone(), tasks.clone()),
            ));
        }
        Ok(DnsServer {
            shared,
            listen,
            tasks,
        })
    }
}

impl DnsServer {
    /// The addresses that are listened on, with real ports.
    pub fn listen_addresses(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// A reading of all counts.
    pub fn counters(&self) -> Counters {
        self.shared.authority.counts.read()
    }

    /// Stops listening and waits for what is under way, for a while.
    pub async fn shutdown(self) {
        self.shared.stop.cancel();
        self.tasks.close();
        // What is not done by then is cut off when the runtime ends.
        let _ = timeout(SHUTDOWN_WAIT, self.tasks.wait()).await;
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// The servers that the host itself asks.
pub fn system_upstreams() -> io::Result<Vec<SocketAddr>> {
    Ok(nameservers(&std::fs::read_to_string(RESOLV_CONF)?))
}

fn nameservers(text: &str) -> Vec<SocketAddr> {
    let words = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver")?.split_whitespace().next());
    words
        .filter_map(|word| word.parse::<IpAddr>().ok())
        .map(|ip| (ip, 53).into())
        .collect()
}

fn is_own(address: IpAddr, own: &[IpAddr]) -> bool {
    address.is_loopback() || address.is_unspecified() || own.contains(&address)
}

/// UDP and TCP on one port, also if the port is to be chosen.
async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener, SocketAddr)> {
    const TRIES: usize = 16;
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind(address).await?;
        let bound = udp.local_addr()?;
        match TcpListener::bind(bound).await {
            Ok(tcp) => return Ok((udp, tcp, bound)),
            // A free UDP port need not be a free TCP port.
            Err(_) if address.port() == 0 && tries < TRIES => tries += 1,
            Err(error) => return Err(error),
        }
    }
}

async fn stoppable(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = work => {}
    }
}

impl Shared {
    /// Passes a question on, or says that it failed.
    async fn pass_on(&self, request: &Request) -> Option<Vec<u8>> {
        let counts = &self.authority.counts;
        let answered = forward::forward(request.as_slice(), request.protocol(), &self.upstreams).await;
        count(match answered {
            Some(_) => &counts.forwarded,
            None => &counts.forward_failed,
        });
        match answered.and_then(|reply| reply::fit(reply, request)) {
            Some(reply) => Some(reply),
            None => reply::failure(request).await,
        }
    }

    /// Says that too many questions are being passed on.
    async fn busy(&self, request: &Request) -> Option<Vec<u8>> {
        count(&self.authority.counts.forward_busy);
        reply::failure(request).await
    }

    /// Takes one of a client's places for connections; given back when the place is dropped.
    fn place(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = clients.entry(client).or_insert(0);
        if *taken >= CONNECTIONS_PER_CLIENT_MAX {
            return None;
        }
        *taken += 1;
        Some(Place {
            shared: self.clone(),
            client,
        })
    }
}

struct Place {
    shared: Arc<Shared>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.shared.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = clients.get_mut(&self.client) {
            *taken -= 1;
            if *taken == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, shared: Arc<Shared>, tasks: TaskTracker) {
    let mut buffer = vec![0; UDP_QUERY_BYTES_MAX];
    loop {
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                // Such as a client's port that was closed: no reason to stop.
                tracing::debug!(%error, "receiving a DNS question failed");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let query = &buffer[..length];
        match shared.authority.decide(query, client, Protocol::Udp).await {
            Outcome::Reply(reply) => send(&socket, &reply, client).await,
            Outcome::Silence => {}
            Outcome::Forward(request) => {
                let Ok(place) = shared.forwards.clone().try_acquire_owned() else {
                    if let Some(failure) = shared.busy(&request).await {
                        send(&socket, &failure, client).await;
                    }
                    continue;
                };
                let (socket, shared) = (socket.clone(), shared.clone());
                tasks.spawn(stoppable(shared.stop.clone(), async move {
                    if let Some(reply) = shared.pass_on(&request).await {
                        send(&socket, &reply, client).await;
                    }
                    drop(place);
                }));
            }
        }
    }
}

async fn send(socket: &UdpSocket, reply: &[u8], client: SocketAddr) {
    if let Err(error) = socket.send_to(reply, client).await {
        tracing::debug!(%client, %error, "a DNS answer could not be sent");
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>, tasks: TaskTracker) {
    loop {
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "accepting a DNS connection failed");
                tokio::time::sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let places = (
            shared.connections.clone().try_acquire_owned(),
            shared.place(client.ip().to_canonical()),
        );
        let (Ok(of_all), Some(of_client)) = places else {
            count(&shared.authority.counts.connections_refused);
            continue;
        };
        let shared = shared.clone();
        tasks.spawn(stoppable(shared.stop.clone(), async move {
            if let Err(error) = converse(stream, client, &shared).await {
                tracing::trace!(%client, %error, "a DNS connection ended");
            }
            drop((of_all, of_client));
        }));
    }
}

/// Questions and answers on one connection, one at a time, until the client leaves or is too slow.
async fn converse(mut stream: TcpStream, client: SocketAddr, shared: &Shared) -> io::Result<()> {
    loop {
        let read = async {
            let mut query = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut query).await?;
            io::Result::Ok(query)
        };
        let query = timeout(IDLE_WAIT, read).await??;
        let reply = match shared.authority.decide(&query, client, Protocol::Tcp).await {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Silence => return Ok(()),
            Outcome::Forward(request) => match shared.forwards.try_acquire() {
                Ok(_place) => shared.pass_on(&request).await,
                Err(_) => shared.busy(&request).await,
            },
        };
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        timeout(
            IDLE_WAIT,
            stream.write_all(&[&length.to_be_bytes(), reply.as_slice()].concat()),
        )
        .await??;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_servers_are_read_and_nonsense_is_passed_over() {
        let text = "# a comment\nsearch example.org\nnameserver 192.0.2.53\n nameserver\t2001:db8::53 \nnameserver x\n";
        let found: Vec<String> = nameservers(text).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["192.0.2.53:53", "[2001:db8::53]:53"]);
    }
}
