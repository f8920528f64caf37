//! Machines follow the log: once the network is healed and has settled, an instance that is wanted and
//! placed runs exactly once, on the node of the placement that counts; nothing else runs.

use ledger::report::instances::Phase;
use projections::cloud::Cloud;
use projections::images::BuildState;
use projections::instances::Wanted;

use super::Violation;
use crate::host::Host;

/// No host ever went back to an older generation.
pub fn never_backward(index: usize, host: &Host) -> Result<(), Violation> {
    if host.backward_starts > 0 {
        return Err(Violation {
            claim: "machines",
            seen: format!("node {index} was told {} times to start an older generation", host.backward_starts),
        });
    }
    Ok(())
}

/// At the end: what runs is what should.
pub fn as_wanted<'a>(
    cloud: &Cloud,
    hosts: impl Iterator<Item = (ledger::id::NodeId, &'a Host)> + Clone,
) -> Result<(), Violation> {
    let claim = "machines";
    for instance in cloud.instances.values() {
        let holders: Vec<_> = hosts
            .clone()
            .filter_map(|(node, host)| host.machines().get(&instance.id).map(|running| (node, running)))
            .collect();
        let built = cloud
            .builds
            .get(&instance.request.build)
            .is_some_and(|build| matches!(build.state, BuildState::Built { .. }));
        let ended = instance
            .status
            .as_ref()
            .is_some_and(|status| matches!(status.phase, Phase::Failed { .. } | Phase::Stopped));
        let wanted = instance.wanted == Wanted::Running && built;
        match instance.placement() {
            Some(placement) if wanted && !ended => {
                let right = holders.len() == 1
                    && holders[0].0 == placement.node
                    && holders[0].1.generation == placement.generation;
                if !right {
                    return Err(Violation {
                        claim,
                        seen: format!(
                            "instance {} should run on {} in generation {}, but runs {} times: {holders:?}; {:?}",
                            instance.id.short(),
                            placement.node.short(),
                            placement.generation,
                            holders.len(),
                            instance.status,
                        ),
                    });
                }
            }
            None if wanted && instance.cannot_place.is_none() => {
                let seen = format!("instance {} was neither placed nor refused", instance.id.short());
                return Err(Violation { claim, seen });
            }
            _ if !wanted && !holders.is_empty() => {
                let seen = format!("instance {} is wanted {:?}, but runs", instance.id.short(), instance.wanted);
                return Err(Violation { claim, seen });
            }
            _ => {}
        }
    }
    for (node, host) in hosts {
        if let Some(stray) = host.machines().keys().find(|instance| !cloud.instances.contains_key(*instance)) {
            let seen = format!("node {} runs {}, which no log knows", node.short(), stray.short());
            return Err(Violation { claim, seen });
        }
    }
    Ok(())
}
