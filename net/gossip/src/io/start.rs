//! Builds the swarm, listens, and sets the exchange going in a task of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{
    Multiaddr, Swarm, SwarmBuilder, connection_limits, identify, identity, noise, ping, tcp, yamux,
};
use tokio::sync::{mpsc, watch};

use crate::config::Config;
use crate::event::Event;
use crate::io::exchange::Exchange;
use crate::io::handle::Handle;
use crate::io::reason::reason;
use crate::io::shared::{Bounds, Shared};
use crate::io::streams;
use crate::protocol::{self, Names};

/// How long listening may take.
const LISTEN_WAIT: Duration = Duration::from_secs(5);
/// Commands of handles that wait for the exchange.
const COMMANDS_WAITING_MAX: usize = 64;
/// How long a connection with no substream stays.
const IDLE_WAIT: Duration = Duration::from_secs(15);

/// The swarm's behaviours: limits first, so that nothing else sees a connection that is turned away.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) streams: streams::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

/// Why the transport did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address to listen on is no multiaddress.
    #[error("{address} is no multiaddress such as /ip4/0.0.0.0/udp/4100/quic-v1: {reason}")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Listening failed.
    #[error("could not listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The transport could not be built.
    #[error("could not set up the transport between nodes: {0}")]
    Transport(String),
}

/// The id of the node with this secret seed: its public key.
pub fn node_id(seed: [u8; 32]) -> [u8; 32] {
    let mut seed = seed;
    let keys = identity::ed25519::SecretKey::try_from_bytes(&mut seed).expect("any 32 bytes are a seed");
    identity::ed25519::Keypair::from(keys).public().to_bytes()
}

/// Starts the transport. Returns when every address is listened on; the receiver is to be drained at all
/// times, for when it is full the peers wait.
pub async fn start(config: Config) -> Result<(Handle, mpsc::Receiver<Event>), StartError> {
    let names = Names::of(&config.network);
    let mut swarm = build(&config, &names)?;
    let listen = listen(&mut swarm, &config.listen).await?;

    let shared = Arc::new(Shared::new(node_id(config.seed), Bounds::from(&config)));
    shared.set_listen_addresses(listen);
    let (events, events_out) = mpsc::channel(protocol::EVENTS_WAITING_MAX);
    let (commands, commands_in) = mpsc::channel(COMMANDS_WAITING_MAX);
    let (kept, kept_in) = watch::channel(Vec::new());
    let (done, stopped) = watch::channel(false);
    let stop = tokio_util::sync::CancellationToken::new();
    let exchange = Exchange::new(swarm, shared.clone(), events, commands_in, kept_in, stop.clone());
    tokio::spawn(async move {
        exchange.run().await;
        done.send_replace(true);
    });
    Ok((
        Handle {
            shared,
            commands,
            kept,
            stop,
            stopped,
        },
        events_out,
    ))
}

fn build(config: &Config, names: &Names) -> Result<Swarm<Behaviour>, StartError> {
    let transport = |error: String| StartError::Transport(error);
    let keys = identity::Keypair::ed25519_from_bytes(config.seed).map_err(|e| transport(e.to_string()))?;
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(protocol::CONNECTIONS_PENDING_MAX))
        .with_max_pending_outgoing(Some(protocol::CONNECTIONS_PENDING_MAX))
        .with_max_established(Some(config.connections_max))
        // A part is left for our own dials, so that strangers cannot cut us off.
        .with_max_established_incoming(Some(config.connections_max - config.connections_max / 4))
        .with_max_established_per_peer(Some(protocol::CONNECTIONS_PER_PEER_MAX));
    let streams_max = protocol::STREAMS_PER_CONNECTION_MAX;
    let swarm = SwarmBuilder::with_existing_identity(keys)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, || {
            let mut yamux = yamux::Config::default();
            yamux.set_max_num_streams(streams_max as usize);
            yamux
        })
        .map_err(|error| transport(error.to_string()))?
        .with_quic_config(|mut quic| {
            quic.max_idle_timeout = 15_000;
            quic.max_concurrent_stream_limit = streams_max;
            quic.max_stream_data = 4 << 20;
            quic.max_connection_data = 16 << 20;
            quic
        })
        .with_behaviour(|keys| Behaviour {
            limits: connection_limits::Behaviour::new(limits),
            streams: streams::Behaviour::new(names),
            identify: identify::Behaviour::new(
                identify::Config::new(names.identify.clone(), keys.public())
                    .with_agent_version(concat!("form/", env!("CARGO_PKG_VERSION")).to_owned())
                    // What strangers say about addresses is not dialled: the caller says where peers are.
                    .with_cache_size(0),
            ),
            ping: ping::Behaviour::new(
                ping::Config::new()
                    .with_interval(protocol::PING_EVERY)
                    .with_timeout(protocol::PING_WAIT),
            ),
        })
        .map_err(|error| transport(error.to_string()))?
        .with_swarm_config(|swarm| {
            swarm
                .with_idle_connection_timeout(IDLE_WAIT)
                .with_max_negotiating_inbound_streams(streams_max as usize)
        })
        .build();
    Ok(swarm)
}

async fn listen(swarm: &mut Swarm<Behaviour>, addresses: &[String]) -> Result<Vec<String>, StartError> {
    let mut waiting = HashSet::new();
    for address in addresses {
        let parsed: Multiaddr =
            address
                .parse()
                .map_err(|error: libp2p::multiaddr::Error| StartError::Address {
                    address: address.clone(),
                    reason: reason(&error),
                })?;
        let listener = swarm.listen_on(parsed).map_err(|error| StartError::Listen {
            address: address.clone(),
            reason: reason(&error),
        })?;
        waiting.insert(listener);
    }
    let failed = |reason: String| StartError::Listen {
        address: addresses.join(" "),
        reason,
    };
    let mut listening = Vec::new();
    let all = async {
        while !waiting.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr { listener_id, address } => {
                    waiting.remove(&listener_id);
                    listening.push(address.to_string());
                }
                SwarmEvent::ListenerClosed {
                    reason: Err(error), ..
                }
                | SwarmEvent::ListenerError { error, .. } => {
                    return Err(failed(reason(&error)));
                }
                _ => {}
            }
        }
        Ok(())
    };
    tokio::time::timeout(LISTEN_WAIT, all)
        .await
        .map_err(|_| failed(format!("not ready after {} s", LISTEN_WAIT.as_secs())))??;
    Ok(listening)
}
