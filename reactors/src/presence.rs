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

use ledger::admit::Verify;
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
/// must be within its bounds and in order, as [`own`] makes it. Where signatures are trusted, it is empty.
pub fn sign(presence: &Presence, network: NetworkId, secret: &SecretKey, verify: Verify) -> Vec<u8> {
    let mut record = codec::encode(presence);
    let signature = match verify {
        Verify::Real => secret.sign(&message(network, &record)),
        Verify::Trusting => Signature([0; SIGNATURE_BYTES]),
    };
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
    verify: Verify,
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
    if verify == Verify::Real && !ledger::key::verify(&check) {
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

#[cfg(test)]
mod tests {
    use ledger::clock::Hlc;
    use ledger::genesis::Genesis;
    use ledger::id::InstanceId;
    use projections::nodes::Node;
    use proptest::prelude::*;

    use super::*;
    use crate::observed::Seen;

    const NOW_MS: u64 = 1_800_000_000_000;

    fn secret() -> SecretKey {
        SecretKey::from_seed([7; 32])
    }

    /// A Cloud that knows the node of [`secret`].
    fn cloud() -> Cloud {
        let admins = vec![secret().public()];
        let mut cloud = Cloud::new(Genesis {
            name: "test".into(),
            admins,
            created_ms: 1,
            admins_needed: 1,
            witnesses: Default::default(),
            salt: [1; 16],
        });
        let (id, at) = (secret().node_id(), Hlc::at_ms(1));
        cloud.nodes.insert(
            id,
            Node {
                id,
                joined: at,
                incarnation: 1,
                started: at,
                announced: None,
                renewed_ms: 1,
            },
        );
        cloud
    }

    fn said(at_ms: u64, seq: u64) -> Presence {
        let held = |n: u8| HeldInstance {
            instance: InstanceId([n; 32]),
            generation: 1,
            healthy: true,
        };
        Presence {
            node: secret().node_id(),
            incarnation: 1,
            at_ms,
            seq,
            used: Capacity::default(),
            instances: vec![held(1), held(2)],
            images: vec![Digest([9; 32]), Digest([3; 32])],
        }
    }

    fn sign(presence: &Presence, network: NetworkId, secret: &SecretKey) -> Vec<u8> {
        super::sign(presence, network, secret, Verify::Real)
    }

    fn accept(
        record: &[u8],
        cloud: &Cloud,
        observed: &Observed,
        now_ms: u64,
    ) -> Result<Option<Presence>, PresenceRefusal> {
        super::accept(record, cloud, observed, now_ms, Verify::Real)
    }

    fn record(presence: &Presence) -> Vec<u8> {
        sign(presence, cloud().network, &secret())
    }

    fn heard(presence: Presence) -> Observed {
        let mut observed = Observed::default();
        observed.presences.insert(
            presence.node,
            Seen {
                presence,
                arrived_ms: NOW_MS,
            },
        );
        observed
    }

    #[test]
    fn a_record_is_taken_once() {
        let observed = Observed::default();
        let record = record(&said(NOW_MS, 1));
        assert_eq!(
            accept(&record, &cloud(), &observed, NOW_MS),
            Ok(Some(said(NOW_MS, 1)))
        );
        assert_eq!(
            accept(&record, &cloud(), &heard(said(NOW_MS, 1)), NOW_MS),
            Ok(None)
        );
    }

    #[test]
    fn where_signatures_are_trusted_an_empty_one_passes_and_only_there() {
        let empty = super::sign(&said(NOW_MS, 1), cloud().network, &secret(), Verify::Trusting);
        let observed = Observed::default();
        let answer = super::accept(&empty, &cloud(), &observed, NOW_MS, Verify::Trusting);
        assert_eq!(answer, Ok(Some(said(NOW_MS, 1))));
        assert_eq!(
            accept(&empty, &cloud(), &observed, NOW_MS),
            Err(PresenceRefusal::Forged)
        );
    }

    #[test]
    fn what_is_said_again_later_says_the_same_and_anything_else_does_not() {
        let first = said(NOW_MS, 1);
        assert!(first.says_the_same(&said(NOW_MS + 1_000, 2)));
        let mut unwell = first.clone();
        unwell.instances[0].healthy = false;
        let mut emptied = first.clone();
        emptied.images.clear();
        for other in [unwell, emptied] {
            assert!(!first.says_the_same(&other));
        }
    }

    #[test]
    fn only_a_newer_record_is_taken() {
        let observed = heard(said(NOW_MS, 5));
        let cases = [
            ((NOW_MS, 6), true),
            ((NOW_MS + 1, 0), true),
            ((NOW_MS, 4), false),
            ((NOW_MS - 1, 9), false),
        ];
        for ((at_ms, seq), taken) in cases {
            let answer = accept(&record(&said(at_ms, seq)), &cloud(), &observed, NOW_MS);
            assert_eq!(
                answer.map(|presence| presence.is_some()),
                Ok(taken),
                "{at_ms} {seq}"
            );
        }
    }

    #[test]
    fn a_replay_keeps_nobody_alive() {
        let record = record(&said(NOW_MS, 1));
        let reach_ms = PRESENCE_TTL_MS + PRESENCE_SKEW_MS;
        let observed = Observed::default();
        assert!(accept(&record, &cloud(), &observed, NOW_MS + reach_ms).is_ok());
        let answer = accept(&record, &cloud(), &observed, NOW_MS + reach_ms + 1);
        assert_eq!(answer, Err(PresenceRefusal::Old { age_ms: reach_ms + 1 }));
        let answer = accept(&record, &cloud(), &observed, NOW_MS - reach_ms - 1);
        assert_eq!(
            answer,
            Err(PresenceRefusal::Ahead {
                ahead_ms: reach_ms + 1
            })
        );
    }

    #[test]
    fn a_stranger_and_a_forger_are_refused() {
        let stranger = SecretKey::from_seed([8; 32]);
        let presence = Presence {
            node: stranger.node_id(),
            ..said(NOW_MS, 1)
        };
        let strange = sign(&presence, cloud().network, &stranger);
        let answer = accept(&strange, &cloud(), &Observed::default(), NOW_MS);
        assert_eq!(answer, Err(PresenceRefusal::UnknownNode(stranger.node_id())));
        let forged = sign(&said(NOW_MS, 1), cloud().network, &stranger);
        let answer = accept(&forged, &cloud(), &Observed::default(), NOW_MS);
        assert_eq!(answer, Err(PresenceRefusal::Forged));
        let elsewhere = sign(&said(NOW_MS, 1), NetworkId([5; 32]), &secret());
        let answer = accept(&elsewhere, &cloud(), &Observed::default(), NOW_MS);
        assert_eq!(answer, Err(PresenceRefusal::Forged));
    }

    #[test]
    fn a_record_over_its_bounds_is_refused() {
        let network = cloud().network;
        let held = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            HeldInstance {
                instance: InstanceId(id),
                generation: u64::MAX,
                healthy: true,
            }
        };
        let many = |n: usize| Presence {
            instances: (0..n).map(held).collect(),
            ..said(NOW_MS, 1)
        };
        let images = |n: usize| Presence {
            images: vec![Digest([1; 32]); n],
            ..said(NOW_MS, 1)
        };
        let fullest = Presence {
            images: images(PRESENCE_IMAGES_MAX).images,
            ..many(PRESENCE_INSTANCES_MAX)
        };
        assert!(record(&fullest).len() <= PRESENCE_BYTES_MAX);
        assert!(decode(&record(&fullest), network).is_ok());
        for over in [many(PRESENCE_INSTANCES_MAX + 1), images(PRESENCE_IMAGES_MAX + 1)] {
            let answer = decode(&record(&over), network).map(|_| ());
            assert!(matches!(answer, Err(DecodeError::TooLarge { .. })), "{answer:?}");
        }
        let answer = decode(&vec![0; PRESENCE_BYTES_MAX + 1], network).map(|_| ());
        assert!(matches!(answer, Err(DecodeError::TooLarge { .. })));
        assert!(matches!(
            decode(&[0; 63], network).map(|_| ()),
            Err(DecodeError::Truncated(_))
        ));
    }

    #[test]
    fn instances_out_of_order_or_told_twice_are_refused() {
        for order in [[1, 0], [0, 0]] {
            let mut presence = said(NOW_MS, 1);
            presence.instances = order.map(|at| presence.instances[at]).to_vec();
            let answer = decode(&record(&presence), cloud().network).map(|_| ());
            assert!(matches!(answer, Err(DecodeError::Meaningless(_))), "{answer:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_fail_otherwise_than_by_refusing(bytes: Vec<u8>) {
            prop_assert!(accept(&bytes, &cloud(), &Observed::default(), NOW_MS).is_err());
        }

        #[test]
        fn a_record_with_one_bit_changed_is_not_taken(bit in 0usize..1_000_000) {
            let mut record = record(&said(NOW_MS, 1));
            let bit = bit % (record.len() * 8);
            record[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(accept(&record, &cloud(), &Observed::default(), NOW_MS).is_err());
        }
    }
}
