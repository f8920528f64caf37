//! Presence records: how a node's [`Presence`] is signed, carried, accepted, and made.
//!
//! A record is canonical bytes and the node's signature over their hash under the network's id, so that no
//! record of one network stands in another. Records are ephemeral; none enters the log.
//!
//! ```text
//! record    := canonical bytes of Presence ‖ signature (64 bytes)
//! signature := over BLAKE3-derive-key("formation 2026 presence v1", network id ‖ canonical bytes)
//! ```

use std::collections::BTreeSet;

use ledger::codec::{self, DecodeError};
use ledger::id::{Digest, NetworkId, NodeId, hash};
use ledger::key::{Check, SIGNATURE_BYTES, SecretKey, Signature};
use ledger::report::nodes::Capacity;
use projections::cloud::Cloud;
use projections::images::BuildState;
use vmm::machine::MachineState;

use crate::me::Me;
use crate::observed::{
    HeldInstance, Observed, PRESENCE_IMAGES_MAX, PRESENCE_INSTANCES_MAX, PRESENCE_TTL_MS, Presence,
};

/// Bytes of a record, at most: its budget on the wire. The bounds on what it lists keep it below.
pub const PRESENCE_BYTES_MAX: usize = 192 * 1024;

/// How far two nodes' clocks may lie apart.
pub const PRESENCE_SKEW_MS: u64 = 2_000;

/// A presence as it travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedPresence {
    presence: Presence,
    bytes: Vec<u8>,
    signature: Signature,
}

/// Why a record is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PresenceRefusal {
    /// No node of this key is in the network.
    #[error("no node {0} is in the network")]
    UnknownNode(NodeId),
    /// It was said too long ago: a replay must keep nobody alive.
    #[error("it was said {age_ms} ms ago")]
    Old {
        /// How long ago, by this node's clock.
        age_ms: u64,
    },
    /// It claims to be said in the future.
    #[error("it claims to be said in {ahead_ms} ms: one of the two clocks is wrong")]
    Ahead {
        /// How far ahead of this node's clock.
        ahead_ms: u64,
    },
    /// One as new is held.
    #[error("one as new is held")]
    NotNewer,
    /// The signature does not hold.
    #[error("its signature does not hold")]
    Forged,
}

fn message(network: NetworkId, bytes: &[u8]) -> [u8; 32] {
    hash("formation 2026 presence v1", &[&network.0, bytes])
}

impl SignedPresence {
    /// Signs what a node says of itself. `secret` must be the secret half of `presence.node`, and what the
    /// presence lists must be within its bounds and in order, as [`own`] makes it.
    pub fn sign(presence: Presence, network: NetworkId, secret: &SecretKey) -> Self {
        let bytes = codec::encode(&presence);
        let signature = secret.sign(&message(network, &bytes));
        Self { presence, bytes, signature }
    }

    /// Reads a record; [`Self::accept`] tells whether it counts.
    pub fn decode(record: &[u8]) -> Result<Self, DecodeError> {
        let what = "a presence";
        if record.len() > PRESENCE_BYTES_MAX {
            let (size, max) = (record.len() as u64, PRESENCE_BYTES_MAX as u64);
            return Err(DecodeError::TooLarge { what, size, max });
        }
        let split = record.len().checked_sub(SIGNATURE_BYTES).ok_or(DecodeError::Truncated(what))?;
        let (bytes, signature) = record.split_at(split);
        let presence: Presence = codec::decode(bytes, PRESENCE_BYTES_MAX, what)?;
        check(&presence)?;
        let signature = Signature(signature.try_into().expect("split off at this length"));
        Ok(Self { presence, bytes: bytes.to_vec(), signature })
    }

    /// The record as it travels.
    pub fn encode(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &self.signature.0].concat()
    }

    /// What it says.
    pub fn presence(&self) -> &Presence {
        &self.presence
    }

    /// What it says.
    pub fn into_presence(self) -> Presence {
        self.presence
    }

    /// The signature to check.
    pub fn check(&self, network: NetworkId) -> Check {
        Check {
            key: self.presence.node.into(),
            message: message(network, &self.bytes),
            signature: self.signature,
        }
    }

    /// Whether it counts at a node whose clock shows `now_ms` and which holds `held` of the same node. What
    /// costs most, the signature, is looked at last.
    pub fn accept(
        &self,
        cloud: &Cloud,
        held: Option<&Presence>,
        now_ms: u64,
    ) -> Result<(), PresenceRefusal> {
        let said = &self.presence;
        if !cloud.nodes.contains_key(&said.node) {
            return Err(PresenceRefusal::UnknownNode(said.node));
        }
        let reach_ms = PRESENCE_TTL_MS + PRESENCE_SKEW_MS;
        let age_ms = now_ms.saturating_sub(said.at_ms);
        if age_ms > reach_ms {
            return Err(PresenceRefusal::Old { age_ms });
        }
        let ahead_ms = said.at_ms.saturating_sub(now_ms);
        if ahead_ms > reach_ms {
            return Err(PresenceRefusal::Ahead { ahead_ms });
        }
        if held.is_some_and(|held| (held.at_ms, held.seq) >= (said.at_ms, said.seq)) {
            return Err(PresenceRefusal::NotNewer);
        }
        if !ledger::key::verify(&self.check(cloud.network)) {
            return Err(PresenceRefusal::Forged);
        }
        Ok(())
    }
}

/// The bounds of what a presence lists; its instances stand in order, each once.
fn check(presence: &Presence) -> Result<(), DecodeError> {
    let bounds = [
        ("a presence's instances", presence.instances.len(), PRESENCE_INSTANCES_MAX),
        ("a presence's images", presence.images.len(), PRESENCE_IMAGES_MAX),
    ];
    for (what, size, max) in bounds {
        if size > max {
            return Err(DecodeError::TooLarge { what, size: size as u64, max: max as u64 });
        }
    }
    if !presence.instances.is_sorted_by(|left, right| left.instance < right.instance) {
        return Err(DecodeError::Meaningless("a presence whose instances are not in order"));
    }
    Ok(())
}

/// What this node says of itself now. At the bounds, the instances of the smallest ids and the newest images
/// are told.
pub fn own(cloud: &Cloud, observed: &Observed, me: &Me, incarnation: u64, seq: u64, now_ms: u64) -> Presence {
    let mut used = Capacity::default();
    let mut instances = Vec::new();
    for (id, machine) in &observed.machines {
        if !machine.state.is_alive() {
            continue;
        }
        let healthy = machine.state == MachineState::Running { serving: true };
        instances.push(HeldInstance { instance: *id, generation: machine.generation, healthy });
        let (vcpus, memory_mib, disk_gib) = match (&machine.spec, cloud.instances.get(id)) {
            (Some(spec), _) => (spec.vcpus, spec.memory_mib, spec.disk_gib),
            (None, Some(instance)) => {
                let shape = instance.request.shape;
                (shape.vcpus, shape.memory_mib, shape.disk_gib)
            }
            (None, None) => continue,
        };
        used.vcpus = used.vcpus.saturating_add(vcpus.into());
        used.memory_mib = used.memory_mib.saturating_add(memory_mib.into());
        used.disk_gib = used.disk_gib.saturating_add(disk_gib.into());
    }
    instances.truncate(PRESENCE_INSTANCES_MAX);
    Presence { node: me.node, incarnation, at_ms: now_ms, seq, used, instances, images: images(cloud, observed) }
}

/// The images held here, the newest build's first; then those that no build names.
fn images(cloud: &Cloud, observed: &Observed) -> Vec<Digest> {
    let mut built: Vec<_> = cloud
        .builds
        .values()
        .filter_map(|build| match &build.state {
            BuildState::Built { image, at, .. } if observed.images.contains_key(image) => Some((*at, *image)),
            _ => None,
        })
        .collect();
    built.sort_unstable_by(|left, right| right.cmp(left));
    let mut told = BTreeSet::new();
    built
        .into_iter()
        .map(|(_, image)| image)
        .chain(observed.images.keys().copied())
        .filter(|image| told.insert(*image))
        .take(PRESENCE_IMAGES_MAX)
        .collect()
}
