//! Which kinds count. A network that began with older software meets kinds that not all of its nodes know:
//! such a kind counts from the certificate that makes the admins' act final which activates it, and before that
//! it is void on every node, also on one that knows it. A node that lacks a kind that counts cannot go on; as
//! what is final does not turn, it never stops for what comes to nothing.

use ledger::clock::Hlc;
use ledger::command::{self, Body};
use ledger::id::OpId;
use ledger::op::Op;
use ledger::report::Report;
use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;
use crate::outcome::Void;

/// Kinds and versions that this build knows and that came after format v1: they need an activation. All
/// others that it knows count from the beginning of a network.
pub const LATER: &[(u16, u8)] = &[];

/// Kinds and versions that a network has activated, at most.
pub const ACTIVATIONS_MAX: usize = 1024;

/// Since when a kind counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Activation {
    /// The op that carried the last approval needed.
    pub op: OpId,
    /// When.
    pub at: Hlc,
    /// The height of the last checkpoint then: the kind counts after the next one that holds the op.
    pub height: u64,
}

/// Whether an entry of a kind counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It counts, and this build knows it.
    Active,
    /// It does not count yet.
    NotYet,
    /// It counts, and this build does not know it: the fold has to stop here.
    Lacking,
}

/// Whether a version of a kind counts at a position.
pub fn standing(cloud: &Cloud, kind: u16, version: u8) -> Standing {
    let known = Report::knows(kind, version) || Body::knows(kind, version);
    judge(known, LATER.contains(&(kind, version)), || {
        let activation = cloud.activations.get(&(kind, version));
        activation.is_some_and(|it| it.height < cloud.finality.height)
    })
}

fn judge(known: bool, later: bool, activated: impl FnOnce() -> bool) -> Standing {
    match (known, later) {
        (true, false) => Standing::Active,
        _ if !activated() => Standing::NotYet,
        (true, true) => Standing::Active,
        (false, _) => Standing::Lacking,
    }
}

/// Void while the kind does not count.
pub(crate) fn check(cloud: &Cloud, (kind, version): (u16, u8)) -> Result<(), Void> {
    match standing(cloud, kind, version) {
        Standing::NotYet => Err(Void::NotActive { kind, version }),
        Standing::Active | Standing::Lacking => Ok(()),
    }
}

/// The first kind of an op's entries, and of the commands that they carry, that counts after what `cloud`
/// has folded and that this build lacks. Costs nothing while this build knows all that was activated.
pub fn lacking(cloud: &Cloud, op: &Op) -> Option<(u16, u8)> {
    let known = |(kind, version): &(u16, u8)| Report::knows(*kind, *version) || Body::knows(*kind, *version);
    if cloud.activations.keys().all(known) {
        return None;
    }
    op.body().entries.iter().find_map(|entry| {
        let carried = || {
            let bytes = entry.carried().ok()?;
            command::kind_of(&bytes).ok()
        };
        let kinds = [
            Some((entry.kind, entry.version)),
            if entry.is_carry() { carried() } else { None },
        ];
        kinds
            .into_iter()
            .flatten()
            .find(|(kind, version)| standing(cloud, *kind, *version) == Standing::Lacking)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_counts_from_the_beginning_or_once_it_is_activated() {
        let judge = |known, later, activated| judge(known, later, || activated);
        for activated in [false, true] {
            assert_eq!(judge(true, false, activated), Standing::Active);
        }
        assert_eq!(
            judge(true, true, false),
            Standing::NotYet,
            "though it is known here"
        );
        assert_eq!(judge(false, false, false), Standing::NotYet);
        assert_eq!(judge(true, true, true), Standing::Active);
        assert_eq!(judge(false, false, true), Standing::Lacking);
    }

    #[test]
    fn only_kinds_of_this_build_are_listed_as_later() {
        for (kind, version) in LATER {
            assert!(Report::knows(*kind, *version) || Body::knows(*kind, *version));
        }
    }
}
