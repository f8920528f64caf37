//! Substreams of this network's two protocols, as a behaviour of the swarm.
//!
//! It opens a substream on the connection that the exchange names, hands inbound ones over with the connection
//! that they came by, and turns away peers without an Ed25519 key and peers that are shut out for a while. It
//! reads and writes nothing.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound, StreamUpgradeError,
};
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm, NetworkBehaviour,
    NotifyHandler, Stream, StreamProtocol, SubstreamProtocol, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{PeerId, identity};

use crate::protocol::{self, Kind, Names};

/// Inbound substreams of one connection that wait for the exchange.
const INBOUND_WAITING_MAX: usize = 32;

/// Why a substream could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the peer does not speak this network's protocol")]
    Foreign,
    #[error("{0}")]
    Broken(String),
}

/// What the behaviour tells the exchange.
#[derive(Debug)]
pub(crate) enum StreamEvent {
    Inbound {
        peer: PeerId,
        connection: ConnectionId,
        kind: Kind,
        stream: Stream,
    },
    Opened {
        peer: PeerId,
        connection: ConnectionId,
        token: u64,
        result: Result<Stream, OpenError>,
    },
}

/// A peer was turned away before it was a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnedAway {
    #[error("the peer's key is not an Ed25519 key, so it is no node")]
    NoNode,
    #[error("the peer broke the protocol and is shut out for a while")]
    ShutOut,
}

/// The public key that a peer's id embeds.
pub(crate) fn node_of(peer: &PeerId) -> Option<[u8; 32]> {
    let multihash: &[u8] = &peer.to_bytes();
    // Code 0 is the identity hash: the digest is the encoded key itself, after code and length.
    if multihash.first() != Some(&0) {
        return None;
    }
    let key = identity::PublicKey::try_decode_protobuf(multihash.get(2..)?).ok()?;
    key.try_into_ed25519().ok().map(|key| key.to_bytes())
}

/// The peer id of a node, if the bytes are a point on the curve.
pub(crate) fn peer_of(node: &[u8; 32]) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(node).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

#[derive(Clone, Debug)]
struct Protocols {
    frames: StreamProtocol,
    request: StreamProtocol,
}

impl Protocols {
    fn name(&self, kind: Kind) -> StreamProtocol {
        match kind {
            Kind::Frames => self.frames.clone(),
            Kind::Request => self.request.clone(),
        }
    }

    fn kind(&self, name: &StreamProtocol) -> Kind {
        if *name == self.frames {
            Kind::Frames
        } else {
            Kind::Request
        }
    }
}

pub(crate) struct Behaviour {
    protocols: Protocols,
    events: VecDeque<ToSwarm<StreamEvent, Open>>,
    penalties: HashMap<PeerId, Instant>,
}

/// Asks a connection's handler to open a substream.
#[derive(Debug)]
pub(crate) struct Open {
    kind: Kind,
    token: u64,
}

impl Behaviour {
    pub(crate) fn new(names: &Names) -> Self {
        let name = |text: &str| {
            StreamProtocol::try_from_owned(text.to_owned()).expect("our protocol names begin with a slash")
        };
        Self {
            protocols: Protocols {
                frames: name(&names.frames),
                request: name(&names.request),
            },
            events: VecDeque::new(),
            penalties: HashMap::new(),
        }
    }

    /// Asks for a substream; the answer is an `Opened` event with the token, unless the connection closes.
    pub(crate) fn open(&mut self, peer: PeerId, connection: ConnectionId, kind: Kind, token: u64) {
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Open { kind, token },
        });
    }

    /// Shuts a peer out until an instant.
    pub(crate) fn shut_out(&mut self, peer: PeerId, until: Instant) {
        if self.penalties.len() >= protocol::PENALTIES_MAX {
            let now = Instant::now();
            self.penalties.retain(|_, until| *until > now);
            if self.penalties.len() >= protocol::PENALTIES_MAX
                && let Some(first_out) = self
                    .penalties
                    .iter()
                    .min_by_key(|(_, until)| **until)
                    .map(|(p, _)| *p)
            {
                self.penalties.remove(&first_out);
            }
        }
        self.penalties.insert(peer, until);
    }

    fn admit(&mut self, peer: &PeerId) -> Result<Handler, ConnectionDenied> {
        if node_of(peer).is_none() {
            return Err(ConnectionDenied::new(TurnedAway::NoNode));
        }
        if let Some(until) = self.penalties.get(peer) {
            if *until > Instant::now() {
                return Err(ConnectionDenied::new(TurnedAway::ShutOut));
            }
            self.penalties.remove(peer);
        }
        Ok(Handler {
            protocols: self.protocols.clone(),
            to_open: VecDeque::new(),
            events: VecDeque::new(),
            inbound_waiting: 0,
        })
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = Handler;
    type ToSwarm = StreamEvent;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.admit(&peer)
    }

    fn on_swarm_event(&mut self, _: FromSwarm) {}

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        let event = match event {
            HandlerEvent::Inbound { kind, stream } => StreamEvent::Inbound {
                peer,
                connection,
                kind,
                stream,
            },
            HandlerEvent::Opened { token, result } => StreamEvent::Opened {
                peer,
                connection,
                token,
                result,
            },
        };
        self.events.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // No waker is kept: events come from calls that the swarm itself or its owner makes before polling.
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// The handler of one connection.
pub(crate) struct Handler {
    protocols: Protocols,
    to_open: VecDeque<Open>,
    events: VecDeque<HandlerEvent>,
    inbound_waiting: usize,
}

#[derive(Debug)]
pub(crate) enum HandlerEvent {
    Inbound {
        kind: Kind,
        stream: Stream,
    },
    Opened {
        token: u64,
        result: Result<Stream, OpenError>,
    },
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = HandlerEvent;
    type InboundProtocol = Take;
    type OutboundProtocol = Take;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = u64;

    fn listen_protocol(&self) -> SubstreamProtocol<Take, ()> {
        let names = vec![self.protocols.frames.clone(), self.protocols.request.clone()];
        SubstreamProtocol::new(Take(names), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Take, u64, HandlerEvent>> {
        if let Some(event) = self.events.pop_front() {
            if matches!(event, HandlerEvent::Inbound { .. }) {
                self.inbound_waiting -= 1;
            }
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(event));
        }
        if let Some(open) = self.to_open.pop_front() {
            let protocol = SubstreamProtocol::new(Take(vec![self.protocols.name(open.kind)]), open.token)
                .with_timeout(protocol::OPEN_WAIT);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        self.to_open.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Take, Take, (), u64>) {
        match event {
            // At the bound the substream is dropped, which resets it at the other end.
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (stream, name),
                ..
            }) if self.inbound_waiting < INBOUND_WAITING_MAX => {
                self.inbound_waiting += 1;
                let kind = self.protocols.kind(&name);
                self.events.push_back(HandlerEvent::Inbound { kind, stream });
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (stream, _),
                info: token,
            }) => self.events.push_back(HandlerEvent::Opened {
                token,
                result: Ok(stream),
            }),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: token, error }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => OpenError::Foreign,
                    StreamUpgradeError::Timeout => {
                        OpenError::Broken("opening a substream took too long".to_owned())
                    }
                    StreamUpgradeError::Io(error) => OpenError::Broken(error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                self.events.push_back(HandlerEvent::Opened {
                    token,
                    result: Err(error),
                });
            }
            _ => {}
        }
    }
}

/// An upgrade that hands the negotiated substream over as it is, with the name agreed upon.
pub(crate) struct Take(Vec<StreamProtocol>);

impl UpgradeInfo for Take {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Take {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

impl OutboundUpgrade<Stream> for Take {
    type Output = (Stream, StreamProtocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, stream: Stream, name: StreamProtocol) -> Self::Future {
        ready(Ok((stream, name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_and_a_nodes_key_are_the_same_thing() {
        let keys = identity::Keypair::generate_ed25519();
        let node = node_of(&keys.public().to_peer_id()).unwrap();
        assert_eq!(peer_of(&node), Some(keys.public().to_peer_id()));
        assert_eq!(keys.public().try_into_ed25519().unwrap().to_bytes(), node);
        assert_eq!(node_of(&PeerId::random()), None);
    }
}
