//! What the handles and the exchange both see: who is up and where to queue for them, the listen addresses,
//! the counts. Locks here are held for a look-up only, never across a wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Semaphore, mpsc};

use crate::config::Config;
use crate::counters::{Counts, add, count};
use crate::event::PeerInfo;
use crate::protocol;

/// No round trip was measured yet.
const RTT_UNKNOWN: u64 = u64::MAX;

/// The bounds that the caller set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) frame_bytes_max: usize,
    pub(crate) request_bytes_max: usize,
    pub(crate) queue_bytes_max: usize,
}

impl From<&Config> for Bounds {
    fn from(config: &Config) -> Self {
        Self {
            frame_bytes_max: config.frame_bytes_max,
            request_bytes_max: config.request_bytes_max,
            queue_bytes_max: config.queue_bytes_max,
        }
    }
}

/// A peer that is up, as the handles see it.
#[derive(Clone, Debug)]
pub(crate) struct Up {
    pub(crate) address: String,
    pub(crate) frames: mpsc::Sender<Vec<u8>>,
    pub(crate) queued_bytes: Arc<AtomicUsize>,
    pub(crate) rtt_us: Arc<AtomicU64>,
    pub(crate) asking: Arc<Semaphore>,
}

impl Up {
    /// A peer with an empty queue; the receiver is its session's.
    pub(crate) fn new(address: String) -> (Self, mpsc::Receiver<Vec<u8>>) {
        let (frames, queue) = mpsc::channel(protocol::QUEUE_FRAMES_MAX);
        let up = Self {
            address,
            frames,
            queued_bytes: Arc::default(),
            rtt_us: Arc::new(AtomicU64::new(RTT_UNKNOWN)),
            asking: Arc::new(Semaphore::new(protocol::ASKED_PER_PEER_MAX)),
        };
        (up, queue)
    }
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: [u8; 32],
    pub(crate) bounds: Bounds,
    pub(crate) counts: Counts,
    up: RwLock<HashMap<[u8; 32], Up>>,
    listen: RwLock<Vec<String>>,
}

impl Shared {
    pub(crate) fn new(node: [u8; 32], bounds: Bounds) -> Self {
        Self {
            node,
            bounds,
            counts: Counts::default(),
            up: RwLock::default(),
            listen: RwLock::default(),
        }
    }

    pub(crate) fn set_up(&self, node: [u8; 32], up: Up) {
        self.up
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, up);
    }

    pub(crate) fn set_down(&self, node: &[u8; 32]) {
        self.up
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(node);
    }

    pub(crate) fn up(&self, node: &[u8; 32]) -> Option<Up> {
        self.up
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(node)
            .cloned()
    }

    pub(crate) fn set_rtt(&self, node: &[u8; 32], rtt_us: u64) {
        if let Some(up) = self.up.read().unwrap_or_else(PoisonError::into_inner).get(node) {
            up.rtt_us.store(rtt_us, Ordering::Relaxed);
        }
    }

    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let up = self.up.read().unwrap_or_else(PoisonError::into_inner);
        let mut peers: Vec<_> = up
            .iter()
            .map(|(node, up)| PeerInfo {
                node: *node,
                address: up.address.clone(),
                rtt_us: Some(up.rtt_us.load(Ordering::Relaxed)).filter(|rtt| *rtt != RTT_UNKNOWN),
                queued_bytes: up.queued_bytes.load(Ordering::Relaxed),
            })
            .collect();
        peers.sort_by_key(|peer| peer.node);
        peers
    }

    pub(crate) fn listen_addresses(&self) -> Vec<String> {
        self.listen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_listen_addresses(&self, addresses: Vec<String>) {
        *self.listen.write().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    /// Queues a frame for a peer that is up, or says no at once.
    pub(crate) fn queue(&self, node: &[u8; 32], bytes: Vec<u8>) -> bool {
        let size = bytes.len();
        if size > self.bounds.frame_bytes_max {
            count(&self.counts.frames_dropped_oversize);
            return false;
        }
        let up = self.up.read().unwrap_or_else(PoisonError::into_inner);
        let Some(up) = up.get(node) else {
            count(&self.counts.frames_dropped_no_peer);
            return false;
        };
        let reserved = up
            .queued_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |queued| {
                queued
                    .checked_add(size)
                    .filter(|sum| *sum <= self.bounds.queue_bytes_max)
            });
        if reserved.is_err() || up.frames.try_send(bytes).is_err() {
            if reserved.is_ok() {
                up.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            }
            count(&self.counts.frames_dropped_queue_full);
            return false;
        }
        count(&self.counts.frames_sent);
        add(&self.counts.frame_bytes_sent, size);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared() -> Shared {
        let bounds = Bounds {
            frame_bytes_max: 100,
            request_bytes_max: 100,
            queue_bytes_max: 250,
        };
        Shared::new([1; 32], bounds)
    }

    #[test]
    fn a_full_queue_drops_the_frame_and_counts_it() {
        let shared = shared();
        let (up, mut queue) = Up::new(String::new());
        shared.set_up([2; 32], up.clone());
        assert!(shared.queue(&[2; 32], vec![0; 100]));
        assert!(shared.queue(&[2; 32], vec![0; 100]));
        assert!(!shared.queue(&[2; 32], vec![0; 100]), "250 bytes are the bound");
        assert_eq!(shared.counts.read().frames_dropped_queue_full, 1);
        assert_eq!(up.queued_bytes.load(Ordering::Relaxed), 200);
        assert_eq!(queue.try_recv().map(|frame| frame.len()), Ok(100));
    }

    #[test]
    fn nothing_is_queued_for_a_peer_that_is_not_up() {
        let shared = shared();
        assert!(!shared.queue(&[9; 32], vec![1]));
        assert!(!shared.queue(&[9; 32], vec![1; 101]));
        let counts = shared.counts.read();
        assert_eq!(
            (counts.frames_dropped_no_peer, counts.frames_dropped_oversize),
            (1, 1)
        );
    }
}
