//! The loop that owns the swarm: connections come and go, substreams are opened and handed over, kept peers
//! are dialled again.
//!
//! It waits for nothing but the swarm, its commands and its timer: it never sends an event to the caller
//! itself (the session tasks do), so a caller that is slow to drain cannot stop it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Stream, Swarm, ping};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::counters::count;
use crate::event::Event;
use crate::io::handle::{Command, Kept};
use crate::io::peer::{Peer, SessionHandle};
use crate::io::reason::reason;
use crate::io::resolve;
use crate::io::serve::Serve;
use crate::io::session::{End, Session};
use crate::io::shared::{Shared, Up};
use crate::io::start::{Behaviour, BehaviourEvent};
use crate::io::streams::{OpenError, StreamEvent, node_of};
use crate::protocol::{self, Kind};
use crate::redial;

/// How often kept peers are looked at.
const TICK: Duration = Duration::from_millis(100);
/// A session shorter than this counts as a flap.
const FLAP: Duration = Duration::from_secs(1);
/// Flaps in a row after which a peer is shut out for a while.
const FLAPS_MAX: u32 = 8;

/// A peer to stay connected to.
struct Redial {
    addresses: Vec<Multiaddr>,
    failures: u32,
    due: Instant,
    dialling: bool,
}

pub(crate) struct Exchange {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    events: mpsc::Sender<Event>,
    commands: mpsc::Receiver<Command>,
    kept_in: watch::Receiver<Kept>,
    stop: CancellationToken,

    peers: HashMap<PeerId, Peer>,
    kept: BTreeMap<PeerId, Redial>,
    resolving: JoinSet<(PeerId, Vec<Multiaddr>)>,
    sessions: JoinSet<(PeerId, u64, End)>,
    serving: Arc<Semaphore>,
    served: JoinSet<()>,
    dials: HashMap<ConnectionId, oneshot::Sender<Result<[u8; 32], String>>>,
    opening: HashMap<u64, (ConnectionId, oneshot::Sender<Result<Stream, OpenError>>)>,
    next_token: u64,
}

impl Exchange {
    pub(crate) fn new(
        swarm: Swarm<Behaviour>,
        shared: Arc<Shared>,
        events: mpsc::Sender<Event>,
        commands: mpsc::Receiver<Command>,
        kept_in: watch::Receiver<Kept>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            swarm,
            shared,
            events,
            commands,
            kept_in,
            stop,
            peers: HashMap::new(),
            kept: BTreeMap::new(),
            resolving: JoinSet::new(),
            sessions: JoinSet::new(),
            serving: Arc::new(Semaphore::new(protocol::SERVED_MAX)),
            served: JoinSet::new(),
            dials: HashMap::new(),
            opening: HashMap::new(),
            next_token: 0,
        }
    }

    pub(crate) async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                Ok(()) = self.kept_in.changed() => self.on_kept(),
                Some(Ok((peer, id, end))) = self.sessions.join_next() => self.on_session_end(peer, id, end),
                Some(_) = self.served.join_next() => {}
                Some(resolved) = self.resolving.join_next() => {
                    if let Ok((peer, addresses)) = resolved {
                        self.dial_kept(peer, addresses);
                    }
                }
                _ = tick.tick() => self.redial(),
                event = self.swarm.select_next_some() => self.on_swarm(event),
            }
        }
        self.close().await;
    }

    /// Says goodbye: sessions end, connections close, and what is left is dropped after a while.
    async fn close(mut self) {
        let connected: Vec<_> = self.swarm.connected_peers().copied().collect();
        for (peer, state) in &self.peers {
            tracing::trace!(%peer, "closing");
            self.shared.set_down(&state.node);
        }
        self.served.abort_all();
        self.sessions.abort_all();
        for peer in connected {
            // An error only says that it is disconnected by now.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let swarm = &mut self.swarm;
        let closed = async {
            while swarm.network_info().connection_counters().num_established() > 0 {
                swarm.select_next_some().await;
            }
        };
        if tokio::time::timeout(protocol::SHUTDOWN_WAIT, closed)
            .await
            .is_err()
        {
            tracing::debug!("some connections did not close in time");
        }
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token
    }

    // ---- the caller's wishes

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { address, reply } => {
                self.dials.retain(|_, reply| !reply.is_closed());
                if self.dials.len() >= protocol::DIALS_MAX {
                    // The asker may be gone; nobody else waits for this.
                    let _ = reply.send(Err("too many dials are under way".to_owned()));
                    return;
                }
                let options = DialOpts::unknown_peer_id()
                    .address(address)
                    .allocate_new_port()
                    .build();
                let id = options.connection_id();
                count(&self.shared.counts.dials);
                match self.swarm.dial(options) {
                    Ok(()) => {
                        self.dials.insert(id, reply);
                    }
                    Err(error) => {
                        count(&self.shared.counts.dials_failed);
                        let _ = reply.send(Err(reason(&error)));
                    }
                }
            }
            Command::OpenRequest { peer, reply } => {
                let on = self.peers.get(&peer).and_then(|peer| {
                    let session = peer.session.as_ref().filter(|session| !session.ending);
                    session.map(|session| session.outbound_on)
                });
                if let Some(connection) = on {
                    let token = self.token();
                    self.opening.insert(token, (connection, reply));
                    self.swarm
                        .behaviour_mut()
                        .streams
                        .open(peer, connection, Kind::Request, token);
                }
                // Else the reply is dropped, which tells the asker that the peer is not connected.
            }
        }
    }

    fn on_kept(&mut self) {
        let wanted = self.kept_in.borrow_and_update().clone();
        let mut old = std::mem::take(&mut self.kept);
        for (peer, addresses) in wanted {
            let entry = match old.remove(&peer) {
                // Where it may be found has changed: no reason to wait.
                Some(redial) if redial.addresses != addresses => Redial {
                    addresses,
                    failures: 0,
                    due: Instant::now(),
                    ..redial
                },
                Some(redial) => redial,
                None => Redial {
                    addresses,
                    failures: 0,
                    due: Instant::now(),
                    dialling: false,
                },
            };
            self.kept.insert(peer, entry);
        }
        self.redial();
    }

    fn redial(&mut self) {
        let now = Instant::now();
        let mut due = Vec::new();
        for (peer, redial) in &mut self.kept {
            if redial.due <= now
                && !redial.dialling
                && !redial.addresses.is_empty()
                && !self.peers.contains_key(peer)
            {
                redial.dialling = true;
                due.push((*peer, redial.addresses.clone()));
            }
        }
        for (peer, addresses) in due {
            if addresses.iter().any(resolve::is_name) {
                self.resolving
                    .spawn(async move { (peer, resolve::resolve(addresses).await) });
            } else {
                self.dial_kept(peer, addresses);
            }
        }
    }

    fn dial_kept(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            .allocate_new_port()
            .build();
        count(&self.shared.counts.dials);
        if let Err(error) = self.swarm.dial(options) {
            count(&self.shared.counts.dials_failed);
            tracing::debug!(%peer, error = %reason(&error), "a kept peer was not dialled");
            self.dial_failed(&peer);
        }
    }

    fn dial_failed(&mut self, peer: &PeerId) {
        if let Some(redial) = self.kept.get_mut(peer) {
            redial.dialling = false;
            redial.failures = redial.failures.saturating_add(1);
            redial.due = Instant::now() + redial::backoff(redial.failures, rand::random());
        }
    }

    // ---- the swarm

    fn on_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Streams(event)) => self.on_stream(event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                connection,
                result,
            })) => match (result, self.peers.get(&peer)) {
                (Ok(rtt), Some(known)) => {
                    self.shared.set_rtt(
                        &known.node,
                        u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX - 1),
                    );
                }
                (Err(error), Some(_)) => {
                    tracing::debug!(%peer, %error, "a connection answers no ping and is closed");
                    self.swarm.close_connection(connection);
                }
                (_, None) => {}
            },
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                let Some(node) = node_of(&peer_id) else { return };
                if let Some(reply) = self.dials.remove(&connection_id) {
                    let _ = reply.send(Ok(node));
                }
                if let Some(redial) = self.kept.get_mut(&peer_id) {
                    redial.dialling = false;
                }
                let peer = self.peers.entry(peer_id).or_insert_with(|| Peer::new(node));
                peer.connections
                    .push((connection_id, endpoint.get_remote_address().to_string()));
                self.advance(peer_id);
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                ..
            } => {
                self.on_closed(peer_id, connection_id);
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                count(&self.shared.counts.dials_failed);
                if let Some(reply) = self.dials.remove(&connection_id) {
                    let _ = reply.send(Err(reason(&error)));
                }
                if let Some(peer) = peer_id {
                    tracing::debug!(%peer, error = %reason(&error), "a dial failed");
                    self.dial_failed(&peer);
                }
            }
            SwarmEvent::IncomingConnectionError {
                error,
                send_back_addr,
                ..
            } => {
                count(&self.shared.counts.incoming_failed);
                tracing::debug!(from = %send_back_addr, %error, "an incoming connection failed");
            }
            SwarmEvent::NewListenAddr { .. } | SwarmEvent::ExpiredListenAddr { .. } => {
                let addresses = self.swarm.listeners().map(ToString::to_string).collect();
                self.shared.set_listen_addresses(addresses);
            }
            SwarmEvent::ListenerClosed {
                addresses,
                reason: Err(error),
                ..
            } => {
                tracing::error!(?addresses, %error, "a listener closed; the node is not reachable there");
            }
            _ => {}
        }
    }

    fn on_closed(&mut self, peer_id: PeerId, connection: ConnectionId) {
        self.opening.retain(|_, (on, _)| *on != connection);
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return;
        };
        peer.forget(connection);
        let carried = peer.session.as_ref().is_some_and(|session| {
            session.outbound_on == connection || session.inbound_on == Some(connection)
        });
        if carried {
            self.end_session(&peer_id, None);
        }
        self.advance(peer_id);
    }

    fn on_stream(&mut self, event: StreamEvent) {
        match event {
            StreamEvent::Opened {
                peer,
                connection,
                token,
                result,
            } => {
                if let Some((_, reply)) = self.opening.remove(&token) {
                    // The asker may have given up.
                    let _ = reply.send(result);
                } else {
                    self.on_outbound(peer, connection, token, result);
                }
            }
            StreamEvent::Inbound {
                peer,
                connection,
                kind: Kind::Frames,
                stream,
            } => {
                self.on_inbound(peer, connection, stream);
            }
            StreamEvent::Inbound {
                peer,
                kind: Kind::Request,
                stream,
                ..
            } => self.on_request(&peer, stream),
        }
    }

    fn on_outbound(
        &mut self,
        peer_id: PeerId,
        connection: ConnectionId,
        token: u64,
        result: Result<Stream, OpenError>,
    ) {
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return;
        };
        if peer.opening != Some((connection, token)) {
            return;
        }
        peer.opening = None;
        match result {
            Ok(stream) => {
                peer.outbound = Some((connection, stream));
                self.advance(peer_id);
            }
            Err(OpenError::Foreign) => {
                tracing::debug!(peer = %peer_id, "the other end is of another network");
                count(&self.shared.counts.peers_dropped_foreign);
                self.shut_out(&peer_id);
            }
            Err(OpenError::Broken(error)) => {
                tracing::debug!(peer = %peer_id, error, "no frames substream; the connection is closed");
                self.swarm.close_connection(connection);
            }
        }
    }

    fn on_inbound(&mut self, peer_id: PeerId, connection: ConnectionId, stream: Stream) {
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return;
        };
        match &mut peer.session {
            None => peer.inbound = Some((connection, stream)),
            Some(session) if session.ending => peer.inbound = Some((connection, stream)),
            Some(session) => match session.inbound.take() {
                Some(waiting) => {
                    session.inbound_on = Some(connection);
                    // A session that ended meanwhile is dealt with when its task is joined.
                    let _ = waiting.send(stream);
                }
                None if session.outbound_on == connection || session.inbound_on == Some(connection) => {
                    tracing::warn!(peer = %peer_id, "a peer opened a second frames substream and is dropped");
                    count(&self.shared.counts.peers_dropped_unruly);
                    self.shut_out(&peer_id);
                }
                None => {
                    // A new life on a new connection: the peer restarted before the old connection died.
                    peer.inbound = Some((connection, stream));
                    self.end_session(&peer_id, Some(connection));
                }
            },
        }
        self.advance(peer_id);
    }

    fn on_request(&mut self, peer_id: &PeerId, stream: Stream) {
        let Some(peer) = self.peers.get(peer_id) else {
            return;
        };
        let places = (
            peer.serving.clone().try_acquire_owned(),
            self.serving.clone().try_acquire_owned(),
        );
        let (Ok(of_peer), Ok(of_all)) = places else {
            // Dropping the substream resets it: the asker sees it at once and may try again.
            count(&self.shared.counts.requests_refused_busy);
            return;
        };
        let serve = Serve {
            node: peer.node,
            stream,
            events: self.events.clone(),
            shared: self.shared.clone(),
            places: (of_peer, of_all),
        };
        self.served.spawn(serve.run());
    }

    // ---- lives of peers

    /// Takes the next step of a peer, whatever it is.
    fn advance(&mut self, peer_id: PeerId) {
        let token = self.next_token + 1;
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return;
        };
        if peer.is_gone() {
            self.peers.remove(&peer_id);
            return;
        }
        if peer.session.is_some() {
            return;
        }
        if let Some((connection, outbound)) = peer.outbound.take() {
            self.start_session(peer_id, connection, outbound);
        } else if peer.opening.is_none()
            && let Some(connection) = peer.best_connection()
        {
            self.next_token = token;
            peer.opening = Some((connection, token));
            self.swarm
                .behaviour_mut()
                .streams
                .open(peer_id, connection, Kind::Frames, token);
        }
    }

    fn start_session(&mut self, peer_id: PeerId, connection: ConnectionId, outbound: Stream) {
        let id = self.token();
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return;
        };
        let address = peer.address(connection);
        let (up, queue) = Up::new(address.clone());
        let queued_bytes = up.queued_bytes.clone();
        let (inbound_here, inbound) = oneshot::channel();
        let mut handle = SessionHandle {
            id,
            started: Instant::now(),
            outbound_on: connection,
            inbound_on: None,
            inbound: Some(inbound_here),
            stop: CancellationToken::new(),
            ending: false,
        };
        if let Some((on, stream)) = peer.inbound.take() {
            handle.inbound_on = Some(on);
            if let Some(waiting) = handle.inbound.take() {
                // The receiver is in this function.
                let _ = waiting.send(stream);
            }
        }
        let session = Session {
            node: peer.node,
            address,
            outbound,
            inbound,
            queue,
            queued_bytes,
            events: self.events.clone(),
            stop: handle.stop.clone(),
            shared: self.shared.clone(),
        };
        peer.session = Some(handle);
        self.shared.set_up(peer.node, up);
        self.sessions
            .spawn(async move { (peer_id, id, session.run().await) });
    }

    /// Begins the end of a session: nothing more is queued for it and its connections close, but for `spare`.
    fn end_session(&mut self, peer_id: &PeerId, spare: Option<ConnectionId>) {
        let Some(peer) = self.peers.get_mut(peer_id) else {
            return;
        };
        let Some(session) = &mut peer.session else { return };
        session.ending = true;
        session.stop.cancel();
        let mut close = vec![session.outbound_on];
        close.extend(session.inbound_on.filter(|on| *on != session.outbound_on));
        self.shared.set_down(&peer.node);
        for connection in close.into_iter().filter(|on| Some(*on) != spare) {
            peer.forget(connection);
            self.swarm.close_connection(connection);
        }
    }

    fn on_session_end(&mut self, peer_id: PeerId, id: u64, end: End) {
        let Some(peer) = self.peers.get_mut(&peer_id) else {
            return;
        };
        let Some(session) = peer.session.as_ref().filter(|session| session.id == id) else {
            return;
        };
        let lived = session.started.elapsed();
        let spare = peer.inbound.as_ref().map(|(on, _)| *on);
        peer.flaps = if lived < FLAP { peer.flaps + 1 } else { 0 };
        let flaps = peer.flaps;
        tracing::debug!(peer = %peer_id, ?end, lived_ms = lived.as_millis(), "a peer is down");
        self.end_session(&peer_id, spare);
        if let Some(peer) = self.peers.get_mut(&peer_id) {
            peer.session = None;
        }
        if let Some(redial) = self.kept.get_mut(&peer_id) {
            redial.failures = if lived < FLAP {
                redial.failures.saturating_add(1)
            } else {
                0
            };
            redial.due = Instant::now() + redial::backoff(redial.failures, rand::random());
        }
        match end {
            End::Oversize => {
                count(&self.shared.counts.peers_dropped_oversize);
                self.shut_out(&peer_id);
            }
            End::Slow => {
                count(&self.shared.counts.peers_dropped_slow);
                self.drop_connections(&peer_id);
            }
            _ if flaps >= FLAPS_MAX => {
                count(&self.shared.counts.peers_dropped_unruly);
                self.shut_out(&peer_id);
            }
            End::Stopped | End::Broken | End::CallerGone => {}
        }
        self.advance(peer_id);
    }

    /// Closes all connections of a peer and lets none in for a while.
    fn shut_out(&mut self, peer_id: &PeerId) {
        let until = Instant::now() + protocol::PENALTY;
        self.swarm.behaviour_mut().streams.shut_out(*peer_id, until);
        if let Some(redial) = self.kept.get_mut(peer_id) {
            redial.due = until + redial::backoff(0, rand::random());
        }
        self.drop_connections(peer_id);
    }

    fn drop_connections(&mut self, peer_id: &PeerId) {
        if let Some(peer) = self.peers.get_mut(peer_id) {
            let connections: Vec<_> = peer.connections.iter().map(|(id, _)| *id).collect();
            for connection in connections {
                peer.forget(connection);
                self.swarm.close_connection(connection);
            }
        }
        self.end_session(peer_id, None);
    }
}
