//! When the claims are checked, and on what.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::Result;
use ledger::entry::Entry;
use ledger::op::Op;
use ledger::report::Report;

use super::{LOOK_EVERY_MS, World};
use crate::checks::convergence::View;
use crate::checks::quiet::Activity;
use crate::checks::{self, Holds, Violation};

/// Looks at a calm network, until what was told at the last moment has come to all.
const LOOKS_AFTER_CALM: usize = 5;

impl World {
    /// What was settled stays so, and comes to rest.
    pub(super) fn calm(&mut self) -> Result<Holds> {
        let half_ms = self.options.calm_ms / 2;
        self.run_until(self.now_ms + half_ms)?;
        let before = self.activity();
        self.run_until(self.now_ms + half_ms)?;
        let activity = self.activity();
        // A reason that was told just now may still be on its way.
        let mut settled = self.settled();
        for _ in 0..LOOKS_AFTER_CALM {
            if settled.is_err() {
                self.run_until(self.now_ms + LOOK_EVERY_MS)?;
                settled = self.settled();
            }
        }
        let settled = settled.map_err(|violation| Violation {
            seen: format!("after it had settled: {}", violation.seen),
            ..violation
        });
        Ok(settled.and_then(|()| checks::quiet::nothing_new(before, activity, half_ms)))
    }

    fn activity(&self) -> Activity {
        // Why there is no place for an instance is told again when it changes, at a slow pace of its own.
        let is_reason = |entry: &Entry| matches!(Report::from_entry(entry), Ok(Report::CannotPlace(_)));
        let counts = |op: &&Op| !op.body().entries.iter().all(is_reason);
        let ops = self
            .nodes()
            .map(|(_, node)| node.replica().log().iter().filter(counts).count())
            .max();
        let starts = self.stations.iter().map(|station| station.host.runs()).sum();
        Activity {
            ops: ops.unwrap_or_default(),
            starts,
        }
    }

    pub(super) fn check(&mut self) {
        let mut running = BTreeMap::new();
        for host in self.stations.iter().map(|station| &station.host) {
            for (id, _) in host
                .machines()
                .iter()
                .filter(|(_, machine)| machine.state.is_alive())
            {
                *running.entry(*id).or_insert(0) += 1;
            }
        }
        self.twice += u64::from(running.values().any(|count| *count > 1));
        let views: Vec<View> = self.nodes().map(|(index, node)| View::of(index, node)).collect();
        let always = self.always(&views);
        self.note(always);
        // One node at a time: it costs more.
        self.checked = (self.checked + 1) % self.options.nodes;
        let deep = self.deep(self.checked..self.checked + 1);
        self.note(deep);
    }

    /// Claims that hold at any time.
    fn always(&self, views: &[View]) -> Holds {
        checks::convergence::same_ops_same_view(views)?;
        let disks = self.stations.iter().map(|station| &station.disk).enumerate();
        checks::finality::one_certificate_a_height(self.genesis.network(), disks)?;
        checks::finality::no_alarm(self.nodes())?;
        for (index, station) in self.stations.iter().enumerate() {
            checks::machines::never_backward(index, &station.host)?;
        }
        for (index, node) in self.nodes() {
            let own = checks::acknowledged::by_one_of(&self.acknowledged, |by| by == index);
            checks::acknowledged::nothing_is_lost(index, &node.cloud(), own)?;
        }
        Ok(())
    }

    /// Claims that hold at any time, about some nodes, that cost more.
    pub(super) fn deep(&self, nodes: Range<usize>) -> Holds {
        for (index, node) in self.nodes().filter(|(index, _)| nodes.contains(index)) {
            let disk = &self.stations[index].disk;
            let told = |op| node.outcomes(op);
            checks::journal::tells_everything(index, disk.ops(), disk.journal(), told)?;
            checks::finality::final_outcomes_stand(index, disk)?;
            let ops = node.replica().log().iter();
            let height = node.finality().height as usize;
            let applied = disk.certificates(0).get(..height).unwrap_or_default();
            checks::fold::is_the_fold_of_its_ops(index, &self.genesis, ops, applied, &node.cloud(), told)?;
        }
        Ok(())
    }

    /// Claims that hold once the healed network has settled.
    pub(super) fn settled(&self) -> Holds {
        let places = self.places();
        let due = self.stations.iter().filter(|station| !station.lost).count();
        if places.len() < due {
            return Err(Violation {
                claim: "liveness",
                seen: "not every node is up".into(),
            });
        }
        let views: Vec<View> = self.nodes().map(|(index, node)| View::of(index, node)).collect();
        self.always(&views)?;
        checks::convergence::all_hold_the_same(&views)?;
        if due == self.stations.len() {
            checks::convergence::nothing_waits(&views)?;
        }
        let up = places.iter().map(|place| place.id);
        if checks::finality::has_quorum(&self.genesis.witnesses, up) {
            checks::finality::all_is_final(self.nodes())?;
        }
        let Some((index, node)) = self.nodes().next() else {
            return Ok(());
        };
        // All views are the same now.
        let cloud = node.cloud();
        let kept = checks::acknowledged::by_one_of(&self.acknowledged, |by| !self.stations[by].lost);
        checks::acknowledged::nothing_is_lost(index, &cloud, kept)?;
        checks::builds::all_ended(&cloud, &places)?;
        checks::machines::as_wanted(&cloud, &places)?;
        checks::tables::lead_to_what_serves(&cloud, &places)
    }
}
