//! Images and contexts between nodes: piece by piece over requests, each piece verified as it comes, from
//! whoever has it; an interrupted fetch goes on where it stopped. A node that gives wrong bytes or none is
//! asked after the others, and soon not at all.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use ledger::id::{Digest, NodeId};
use net_gossip::Handle;
use pack::image::Manifest;
use pack::io::store::{BlobStore, PartialBlob, StoreError};
use serde::{Deserialize, Serialize};
use tokio::task::block_in_place;

/// Name of the service between nodes.
pub const SERVICE: &str = "blob/1";

/// Pieces asked for at once.
const PIECES_AT_ONCE: usize = 4;

/// How long one piece may take.
const PIECE_LIMIT: Duration = Duration::from_secs(60);

/// How long a fetch may take: less than the core gives it, so that there are never two of one blob. The next
/// goes on where it stopped.
const FETCH_LIMIT: Duration = Duration::from_secs(840);

/// A node that has failed so often in one fetch is not asked again in it.
const FAULTS_MAX: u32 = 3;

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
    /// It took too long. What came is kept; the next fetch goes on from there.
    #[error("{digest} did not come within {} s", FETCH_LIMIT.as_secs())]
    TooSlow {
        /// Which blob.
        digest: Digest,
    },
    /// The store could not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
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
        Part::Manifest => store
            .manifest(&digest)?
            .map(|manifest| manifest.to_bytes())
            .ok_or(StoreError::Unknown(digest)),
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
    let all = async {
        let sources = Sources::new(from);
        let manifest = fetch_manifest(gossip, digest, &sources).await?;
        // The store works on files: other tasks must not wait behind it.
        let partial = block_in_place(|| store.begin(manifest))?;
        let missing = block_in_place(|| partial.missing());
        let mut pieces = futures::stream::iter(missing)
            .map(|index| fetch_piece(gossip, digest, index, &sources, &partial))
            .buffer_unordered(PIECES_AT_ONCE);
        while let Some(piece) = pieces.next().await {
            piece?;
        }
        drop(pieces);
        block_in_place(|| partial.finish())?;
        Ok(())
    };
    tokio::time::timeout(FETCH_LIMIT, all)
        .await
        .map_err(|_| FetchError::TooSlow { digest })?
}

/// Who is asked in one fetch, and how often each has failed in it.
struct Sources(Mutex<Vec<(NodeId, u32)>>);

impl Sources {
    fn new(from: &[NodeId]) -> Self {
        Self(Mutex::new(from.iter().map(|node| (*node, 0)).collect()))
    }

    /// Whom to ask for a part: those that have failed least first, else beginning at another node for each
    /// part, so that all links are used.
    fn order(&self, part: usize) -> Vec<NodeId> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order: Vec<_> = sources.clone();
        if !order.is_empty() {
            let first = part % order.len();
            order.rotate_left(first);
        }
        order.retain(|(_, faults)| *faults < FAULTS_MAX);
        order.sort_by_key(|(_, faults)| *faults);
        order.into_iter().map(|(node, _)| node).collect()
    }

    fn failed(&self, node: NodeId) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, faults)) = sources.iter_mut().find(|(source, _)| *source == node) {
            *faults += 1;
        }
    }
}

async fn fetch_manifest(gossip: &Handle, digest: Digest, sources: &Sources) -> Result<Manifest, FetchError> {
    let mut last = "nobody is known to have it".to_owned();
    let order = sources.order(0);
    for node in &order {
        last = match ask(gossip, *node, digest, Part::Manifest).await {
            Ok(bytes) => match Manifest::from_bytes(&bytes) {
                Ok(manifest) if manifest.digest() == to_pack(digest) => return Ok(manifest),
                Ok(_) => format!("node {} gave another manifest", node.short()),
                Err(error) => format!("node {} gave what is no manifest: {error}", node.short()),
            },
            Err(error) => format!("node {}: {error}", node.short()),
        };
        sources.failed(*node);
    }
    Err(FetchError::NoManifest {
        digest,
        asked: order.len(),
        last,
    })
}

async fn fetch_piece(
    gossip: &Handle,
    digest: Digest,
    index: u32,
    sources: &Sources,
    partial: &PartialBlob<'_>,
) -> Result<(), FetchError> {
    let mut last = "nobody is left to ask".to_owned();
    for node in sources.order(index as usize) {
        last = match ask(gossip, node, digest, Part::Piece(index)).await {
            Ok(bytes) => match block_in_place(|| partial.put_piece(index, &bytes)) {
                Ok(()) => return Ok(()),
                Err(StoreError::WrongPiece(_)) => format!("node {} gave other bytes", node.short()),
                Err(error) => return Err(error.into()),
            },
            Err(error) => format!("node {}: {error}", node.short()),
        };
        sources.failed(node);
    }
    Err(FetchError::NoPiece { digest, index, last })
}

async fn ask(gossip: &Handle, node: NodeId, digest: Digest, part: Part) -> Result<Vec<u8>, String> {
    let request = ledger::codec::encode(&Ask { blob: digest.0, part });
    gossip
        .request(node.0, SERVICE, request, PIECE_LIMIT)
        .await
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [NodeId; 3] = [NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32])];

    #[test]
    fn parts_begin_at_different_nodes_and_a_node_that_fails_comes_last_and_then_not_at_all() {
        let [one, two, three] = NODES;
        let sources = Sources::new(&NODES);
        assert_eq!(sources.order(0), [one, two, three]);
        assert_eq!(sources.order(4), [two, three, one]);
        sources.failed(two);
        assert_eq!(sources.order(4), [three, one, two]);
        for _ in 1..FAULTS_MAX {
            sources.failed(two);
        }
        assert_eq!(sources.order(4), [three, one]);
        assert!(Sources::new(&[]).order(7).is_empty());
    }
}
