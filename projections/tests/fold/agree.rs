//! Whether a `Cloud` tells the same as the plain rules.

use std::collections::{BTreeMap, BTreeSet};

use projections::cloud::Cloud;
use projections::images::BuildState;
use projections::instances::Wanted;
use projections::outcome::Outcome;

use crate::oracle::{Oracle, Thing, phase, winner};

impl Oracle {
    /// Fails where a `Cloud` tells otherwise.
    pub(crate) fn compare(&self, cloud: &Cloud) {
        let accounts = cloud
            .accounts
            .values()
            .map(|it| (it.id, (it.name.clone(), it.key)))
            .collect();
        assert_eq!(self.accounts, accounts);
        self.purses.compare(cloud);
        let names = cloud
            .account_names
            .iter()
            .map(|(name, id)| (*id, (name.clone(), cloud.accounts[id].key)));
        assert_eq!(self.accounts, names.collect());
        assert_eq!(
            self.nodes,
            cloud.nodes.values().map(|it| (it.id, it.incarnation)).collect()
        );
        let state = |state: &BuildState| match state {
            BuildState::Asked => '?',
            BuildState::Built { .. } => 'B',
            BuildState::Failed { .. } => 'F',
        };
        assert_eq!(
            self.builds,
            cloud
                .builds
                .values()
                .map(|it| (it.id, (it.owner, state(&it.state))))
                .collect()
        );
        let agents = cloud
            .agent_names
            .iter()
            .map(|(name, id)| (name, &cloud.agents[id]));
        let agents = agents.map(|(name, it)| (it.id, (it.owner, name.clone(), it.release.build, it.version)));
        assert_eq!(self.agents, agents.collect());
        let domains = cloud
            .domains
            .values()
            .map(|it| (it.name.clone(), (it.owner, it.agent)));
        assert_eq!(self.domains, domains.collect());
        for it in cloud.instances.values() {
            let mut thing = self.things[&it.id].clone();
            let wanted = match it.wanted {
                Wanted::Running => 'R',
                Wanted::Stopped => 'S',
                Wanted::Deleted => 'D',
            };
            let placements = it
                .placements
                .values()
                .map(|it| (it.generation, it.node, it.op))
                .collect();
            assert_eq!(it.placed, winner(it.id, &thing.placements).map(|winner| winner.2));
            thing.placements.sort_by_key(|placement| placement.2);
            let (owner, name, hopeless) = (it.owner, it.request.name.clone(), it.cannot_place.is_some());
            let status = it
                .status
                .as_ref()
                .map(|it| (it.generation, it.start, phase(&it.phase)));
            assert_eq!(
                thing,
                Thing {
                    owner,
                    name,
                    wanted,
                    placements,
                    status,
                    hopeless
                }
            );
        }
        assert_eq!(self.things.len(), cloud.instances.len());
        let live = self.things.iter().filter(|(_, it)| it.wanted != 'D');
        let live: BTreeMap<_, _> = live.map(|(id, it)| ((it.owner, it.name.clone()), *id)).collect();
        assert_eq!(
            live,
            cloud
                .instance_names
                .iter()
                .map(|(name, id)| (name.clone(), *id))
                .collect()
        );
        let commands = cloud
            .commands
            .iter()
            .map(|(id, it)| (*id, (it.key, name_of(&it.outcome))));
        assert_eq!(
            self.commands
                .iter()
                .map(|(id, it)| (*id, (it.0, it.1.to_owned())))
                .collect::<BTreeMap<_, _>>(),
            commands.collect()
        );
        self.authority.compare(cloud);
        assert_eq!(self.nonces, cloud.nonce_ends.keys().copied().collect());
        let nonces = self.nonces.iter().map(|(_, key, nonce)| (*key, *nonce));
        assert_eq!(
            nonces.collect::<BTreeSet<_>>(),
            cloud.nonces.keys().copied().collect()
        );
    }
}

/// "Applied", or the name of the reason.
pub(crate) fn name_of(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Applied => "Applied".into(),
        Outcome::Void(void) => format!("{void:?}")
            .chars()
            .take_while(char::is_ascii_alphabetic)
            .collect(),
    }
}
