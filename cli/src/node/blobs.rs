//! Images and contexts between nodes: piece by piece over requests, each piece verified as it comes, from
//! whoever has it; an interrupted fetch goes on where it stopped.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use ledger::id::{Digest, NodeId};
use net_gossip::Handle;
use pack::image::Manifest;
use pack::io::store::{BlobStore, StoreError};
use serde::{Deserialize, Serialize};

/// Name of the service between nodes.
pub const SERVICE: &str = "blob/1";

/// Pieces asked for at once.
const PIECES_AT_ONCE: usize = 4;

/// How long one piece may take.
const PIECE_LIMIT: Duration = Duration::from_secs(60);

/// Bytes of a request, at most.
const REQUEST_BYTES_MAX: usize = 64;

/// What one node asks of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Ask {
    blob: [u8; 32],
    part: Part,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Part {
    Manifest,
    Piece(u32),
}

/// Why a blob was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody gave a manifest that has the digest.
    #[error("none of {asked} nodes gave the manifest of {digest}: {last}")]
    NoManifest {
        /// Which blob.
        digest: Digest,
        /// How many were asked.
        asked: usize,
        /// What the last one said.
        last: String,
    },
    /// A piece is not to be had now. What came is kept; the next fetch goes on from there.
    #[error("piece {index} of {digest} is not to be had now: {last}")]
    NoPiece {
        /// Which blob.
        digest: Digest,
        /// Which piece.
        index: u32,
        /// What the last node said.
        last: String,
    },
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A thread of this process died.
    #[error("a thread that wrote to the store died")]
    Thread,
}

/// The ledger's word for pack's digest.
pub fn to_pack(digest: Digest) -> pack::image::Digest {
    pack::image::Digest(digest.0)
}

/// Pack's word for the ledger's digest.
pub fn from_pack(digest: pack::image::Digest) -> Digest {
    Digest(digest.0)
}

/// Answers another node's request.
pub async fn serve(store: Arc<BlobStore>, request: Vec<u8>) -> Result<Vec<u8>, String> {
    let ask: Ask = ledger::codec::decode(&request, REQUEST_BYTES_MAX, "a request for a blob")
        .map_err(|error| error.to_string())?;
    let digest = pack::image::Digest(ask.blob);
    let answer = tokio::task::spawn_blocking(move || match ask.part {
        Part::Manifest => store.manifest(&digest)?.map(|manifest| manifest.to_bytes()).ok_or(StoreError::Unknown(digest)),
        Part::Piece(index) => store.read_piece(&digest, index),
    });
    match answer.await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the store could not be read".into()),
    }
}

/// Fetches a blob into the store. Safe twice.
pub async fn fetch(
    store: Arc<BlobStore>,
    gossip: &Handle,
    digest: Digest,
    from: &[NodeId],
) -> Result<(), FetchError> {
    if store.holds(&to_pack(digest)) {
        return Ok(());
    }
    let (manifest, order) = fetch_manifest(gossip, digest, from).await?;
    let partial = {
        // The partial blob borrows the store, so the whole fetch runs beside its owner.
        let (store, gossip) = (Arc::clone(&store), gossip.clone());
        async move {
            let partial = store.begin(manifest)?;
            let missing = partial.missing();
            let mut pieces = futures::stream::iter(missing.into_iter().map(|index| {
                let (gossip, order) = (&gossip, &order);
                async move { (index, fetch_piece(gossip, digest, index, order).await) }
            }))
            .buffer_unordered(PIECES_AT_ONCE);
            let mut refetch = Vec::new();
            while let Some((index, piece)) = pieces.next().await {
                // Writing a piece of at most a MiB costs about as much as handing it to another thread.
                if let Err(error) = partial.put_piece(index, &piece?) {
                    match error {
                        StoreError::WrongPiece(_) => refetch.push(index),
                        other => return Err(other.into()),
                    }
                }
            }
            drop(pieces);
            // A peer that gave a wrong piece is passed over for it.
            for index in refetch {
                fetch_right_piece(&gossip, digest, index, &order, |bytes| {
                    partial.put_piece(index, bytes).is_ok()
                })
                .await?;
            }
            partial.finish()?;
            Ok::<(), FetchError>(())
        }
    };
    partial.await
}

async fn fetch_manifest(
    gossip: &Handle,
    digest: Digest,
    from: &[NodeId],
) -> Result<(Manifest, Vec<NodeId>), FetchError> {
    let mut last = "nobody is known to have it".to_owned();
    for (place, node) in from.iter().enumerate() {
        match ask(gossip, *node, digest, Part::Manifest).await {
            Ok(bytes) => match Manifest::from_bytes(&bytes) {
                Ok(manifest) if manifest.digest() == to_pack(digest) => {
                    let mut order = from[place..].to_vec();
                    order.extend_from_slice(&from[..place]);
                    return Ok((manifest, order));
                }
                Ok(_) => last = format!("node {} gave another manifest", node.short()),
                Err(error) => last = format!("node {} gave what is no manifest: {error}", node.short()),
            },
            Err(error) => last = format!("node {}: {error}", node.short()),
        }
    }
    Err(FetchError::NoManifest { digest, asked: from.len(), last })
}

async fn fetch_piece(
    gossip: &Handle,
    digest: Digest,
    index: u32,
    order: &[NodeId],
) -> Result<Vec<u8>, FetchError> {
    let mut last = String::new();
    // Different pieces begin at different nodes, so that all links are used.
    for step in 0..order.len() {
        let node = order[(index as usize + step) % order.len()];
        match ask(gossip, node, digest, Part::Piece(index)).await {
            Ok(bytes) => return Ok(bytes),
            Err(error) => last = format!("node {}: {error}", node.short()),
        }
    }
    Err(FetchError::NoPiece { digest, index, last })
}

async fn fetch_right_piece(
    gossip: &Handle,
    digest: Digest,
    index: u32,
    order: &[NodeId],
    take: impl Fn(&[u8]) -> bool,
) -> Result<(), FetchError> {
    let mut last = String::new();
    for node in order {
        match ask(gossip, *node, digest, Part::Piece(index)).await {
            Ok(bytes) if take(&bytes) => return Ok(()),
            Ok(_) => last = format!("node {} gave other bytes", node.short()),
            Err(error) => last = format!("node {}: {error}", node.short()),
        }
    }
    Err(FetchError::NoPiece { digest, index, last })
}

async fn ask(gossip: &Handle, node: NodeId, digest: Digest, part: Part) -> Result<Vec<u8>, String> {
    let request = ledger::codec::encode(&Ask { blob: digest.0, part });
    gossip.request(node.0, SERVICE, request, PIECE_LIMIT).await.map_err(|error| error.to_string())
}
