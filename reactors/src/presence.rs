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
use ledger::op::Chain;
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

/// Why a record is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresenceRefusal {
    /// It is not a presence.
    #[error("not a presence: {0}")]
    Framing(#[from] DecodeError),
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
    /// The signature does not hold.
    #[error("its signature does not hold")]
    Forged,
}

impl PresenceRefusal {
    /// One word, for a counter.
    pub fn name(&self) -> &'static str {
        match self {
            PresenceRefusal::Framing(_) => "framing",
            PresenceRefusal::UnknownNode(_) => "unknown-node",
            PresenceRefusal::Old { .. } => "old",
            PresenceRefusal::Ahead { .. } => "ahead",
            PresenceRefusal::Forged => "forged",
        }
    }
}

fn message(network: NetworkId, bytes: &[u8]) -> [u8; 32] {
    hash("formation 2026 presence v1", &[&network.0, bytes])
}

/// The record of a presence. `secret` must be the secret half of `presence.node`, and what the presence lists
/// must be within its bounds and in order, as [`own`] makes it.
pub fn sign(presence: &Presence, network: NetworkId, secret: &SecretKey) -> Vec<u8> {
    let mut record = codec::encode(presence);
    let signature = secret.sign(&message(network, &record));
    record.extend_from_slice(&signature.0);
    record
}

/// Reads a record: what it says and the signature, still to be checked.
pub fn decode(record: &[u8], network: NetworkId) -> Result<(Presence, Check), DecodeError> {
    let what = "a presence";
    if record.len() > PRESENCE_BYTES_MAX {
        let (size, max) = (record.len() as u64, PRESENCE_BYTES_MAX as u64);
        return Err(DecodeError::TooLarge { what, size, max });
    }
    let split = record
        .len()
        .checked_sub(SIGNATURE_BYTES)
        .ok_or(DecodeError::Truncated(what))?;
    let (bytes, signature) = record.split_at(split);
    let presence: Presence = codec::decode(bytes, PRESENCE_BYTES_MAX, what)?;
    check_bounds(&presence)?;
    let signature = Signature(signature.try_into().expect("split off at this length"));
    let check = Check {
        key: presence.node.into(),
        message: message(network, bytes),
        signature,
    };
    Ok((presence, check))
}

/// What a record says, if it counts at a node whose clock shows `now_ms`; none when one as new is held, which
/// happens all the time, as every node passes on what it takes. What costs most, the signature, is looked at
/// last.
pub fn accept(
    record: &[u8],
    cloud: &Cloud,
    observed: &Observed,
    now_ms: u64,
) -> Result<Option<Presence>, PresenceRefusal> {
    let (said, check) = decode(record, cloud.network)?;
    if !cloud.nodes.contains_key(&said.node) {
        return Err(PresenceRefusal::UnknownNode(said.node));
    }
    let held = observed
        .presences
        .get(&said.node)
        .map(|seen| (seen.presence.at_ms, seen.presence.seq));
    if held >= Some((said.at_ms, said.seq)) {
        return Ok(None);
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
    if !ledger::key::verify(&check) {
        return Err(PresenceRefusal::Forged);
    }
    Ok(Some(said))
}

/// The bounds of what a presence lists; its instances stand in order, each once.
fn check_bounds(presence: &Presence) -> Result<(), DecodeError> {
    let bounds = [
        (
            "a presence's instances",
            presence.instances.len(),
            PRESENCE_INSTANCES_MAX,
        ),
        ("a presence's images", presence.images.len(), PRESENCE_IMAGES_MAX),
    ];
    for (what, size, max) in bounds {
        if size > max {
            return Err(DecodeError::TooLarge {
                what,
                size: size as u64,
                max: max as u64,
            });
        }
    }
    if !presence
        .instances
        .is_sorted_by(|left, right| left.instance < right.instance)
    {
        return Err(DecodeError::Meaningless(
            "a presence whose instances are not in order",
        ));
    }
    Ok(())
}

/// What this node says of itself now. At the bounds, the instances of the smallest ids and the newest images
/// are told.
pub fn own(cloud: &Cloud, me: &Me, observed: &Observed, chain: &Chain, seq: u64, now_ms: u64) -> Presence {
    let mut used = Capacity::default();
    let mut instances = Vec::new();
    for (id, machine) in &observed.machines {
        if !machine.state.is_alive() {
            continue;
        }
        let healthy = machine.state == MachineState::Running { serving: true };
        instances.push(HeldInstance {
            instance: *id,
            generation: machine.generation,
            healthy,
        });
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
    let incarnation = chain.incarnation;
    Presence {
        node: me.node,
        incarnation,
        at_ms: now_ms,
        seq,
        used,
        instances,
        images: images(cloud, observed),
    }
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
