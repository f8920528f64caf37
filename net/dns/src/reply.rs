//! Where hickory-server's handler leaves its answer: encoded, and cut to the room that the client has.
//! Not a socket: the loops in `io/` send what is left here.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use hickory_server::net::NetError;
use hickory_server::net::xfer::Protocol;
use hickory_server::proto::ProtoError;
use hickory_server::proto::op::{Edns, Message, ResponseCode};
use hickory_server::proto::rr::Record;
use hickory_server::proto::serialize::binary::BinEncoder;
use hickory_server::server::{Request, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::{MessageResponse, MessageResponseBuilder};

/// What a client without EDNS takes over UDP.
const PLAIN_UDP_BYTES: u16 = 512;
/// Most that we send over UDP: passes every path without fragments.
pub(crate) const UDP_BYTES_MAX: u16 = 1232;

/// The place for the bytes of one answer.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    room: u16,
    bytes: Arc<OnceLock<Vec<u8>>>,
}

impl Reply {
    /// For the answer to a request.
    pub(crate) fn to(request: &Request) -> Self {
        Self {
            room: room(request),
            bytes: Arc::default(),
        }
    }

    /// For the answer to what could not be read.
    pub(crate) fn to_unread() -> Self {
        Self {
            room: PLAIN_UDP_BYTES,
            bytes: Arc::default(),
        }
    }

    /// The answer, once the handler is done.
    pub(crate) fn into_bytes(self) -> Option<Vec<u8>> {
        Arc::into_inner(self.bytes)?.into_inner()
    }
}

#[async_trait]
impl ResponseHandler for Reply {
    async fn send_response<'a>(
        &mut self,
        response: MessageResponse<
            '_,
            'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
            impl Iterator<Item = &'a Record> + Send + 'a,
        >,
    ) -> Result<ResponseInfo, NetError> {
        let edns = response.edns();
        let mut bytes = Vec::with_capacity(usize::from(PLAIN_UDP_BYTES));
        let mut encoder = BinEncoder::new(&mut bytes);
        encoder.set_max_size(self.room);
        let info = response.destructive_emit(&mut encoder)?;
        if info.truncation {
            bytes = cut(&bytes, edns)?;
        }
        match self.bytes.set(bytes) {
            Ok(()) => Ok(info),
            Err(_) => Err(NetError::from("the request was answered already")),
        }
    }
}

/// Room for the answer to a request.
pub(crate) fn room(request: &Request) -> u16 {
    match request.protocol() {
        Protocol::Udp => request.max_payload().clamp(PLAIN_UDP_BYTES, UDP_BYTES_MAX),
        _ => u16::MAX,
    }
}

/// A message without its records, marked as cut: half an answer would only be asked for again, and the last
/// records that hickory leaves out are those of EDNS, which has to come back.
fn cut(bytes: &[u8], edns: Option<&Edns>) -> Result<Vec<u8>, ProtoError> {
    let mut message = Message::from_vec(bytes)?.truncate();
    if let Some(edns) = edns {
        message.set_edns(edns.clone());
    }
    message.to_vec()
}

/// An answer that was passed on to us, cut if the client has not the room.
pub(crate) fn fit(bytes: Vec<u8>, request: &Request) -> Option<Vec<u8>> {
    if bytes.len() <= usize::from(room(request)) {
        return Some(bytes);
    }
    cut(&bytes, None).ok()
}

/// An error in answer to a request that was to be passed on.
pub(crate) async fn failure(request: &Request) -> Option<Vec<u8>> {
    let mut response = MessageResponseBuilder::from_message_request(request)
        .error_msg(&request.metadata, ResponseCode::ServFail);
    response.metadata_mut().recursion_available = true;
    let reply = Reply::to(request);
    reply.clone().send_response(response).await.ok()?;
    reply.into_bytes()
}
