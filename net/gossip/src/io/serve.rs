//! One request of a peer: read it, hand it to the caller, write the answer. Every step has a limit.

use std::sync::Arc;

use futures::{AsyncReadExt, AsyncWriteExt};
use libp2p::Stream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;

use crate::counters::count;
use crate::event::Event;
use crate::io::shared::Shared;
use crate::io::wire;
use crate::protocol;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("malformed, too large or too slow")]
    Malformed,
    #[error("the peer went away")]
    Gone,
}

pub(crate) struct Serve {
    pub(crate) node: [u8; 32],
    pub(crate) stream: Stream,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) shared: Arc<Shared>,
    /// Held till the answer is written: one of the peer's places and one of all places.
    pub(crate) places: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

impl Serve {
    pub(crate) async fn run(self) {
        let Self {
            node,
            mut stream,
            events,
            shared,
            places,
        } = self;
        match serve(node, &mut stream, &events, shared.bounds.request_bytes_max).await {
            Ok(()) => count(&shared.counts.requests_served),
            Err(ServeError::Malformed) => count(&shared.counts.requests_refused_malformed),
            Err(ServeError::Gone) => {}
        }
        drop(places);
    }
}

async fn serve(
    node: [u8; 32],
    stream: &mut Stream,
    events: &mpsc::Sender<Event>,
    bytes_max: usize,
) -> Result<(), ServeError> {
    let (service, bytes) = timeout(protocol::REQUEST_READ_WAIT, read(stream, bytes_max))
        .await
        .map_err(|_| ServeError::Malformed)??;
    let (reply, answered) = oneshot::channel();
    events
        .send(Event::Request {
            node,
            service,
            bytes,
            reply,
        })
        .await
        .map_err(|_| ServeError::Gone)?;
    let (status, body) = match timeout(protocol::ANSWER_WAIT, answered).await {
        Ok(Ok(Ok(body))) if body.len() <= bytes_max => (0, body),
        Ok(Ok(Ok(body))) => (
            1,
            format!("the answer has {} bytes, over {bytes_max}", body.len()).into_bytes(),
        ),
        Ok(Ok(Err(refusal))) => {
            let mut refusal = refusal.into_bytes();
            refusal.truncate(bytes_max);
            (1, refusal)
        }
        Ok(Err(_)) => (1, b"the node does not serve this request".to_vec()),
        Err(_) => (1, b"the node took too long to answer".to_vec()),
    };
    let write = async {
        stream.write_all(&[status]).await?;
        wire::write_bytes(stream, &body).await?;
        stream.close().await
    };
    match timeout(protocol::WRITE_WAIT, write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(ServeError::Gone),
    }
}

async fn read(stream: &mut Stream, bytes_max: usize) -> Result<(String, Vec<u8>), ServeError> {
    let malformed = |_| ServeError::Malformed;
    let mut length = [0u8; 1];
    stream.read_exact(&mut length).await.map_err(malformed)?;
    let length = usize::from(length[0]);
    if length == 0 || length > protocol::SERVICE_BYTES_MAX {
        return Err(ServeError::Malformed);
    }
    let mut service = vec![0u8; length];
    stream.read_exact(&mut service).await.map_err(malformed)?;
    let service = String::from_utf8(service).map_err(|_| ServeError::Malformed)?;
    let bytes = wire::read_bytes(stream, bytes_max)
        .await
        .map_err(|_| ServeError::Malformed)?;
    Ok((service, bytes.ok_or(ServeError::Malformed)?))
}
