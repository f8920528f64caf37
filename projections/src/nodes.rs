//! Nodes: who takes part, till when, and what each says of itself.
//!
//! Membership is a lease: a node that goes on opens chains and renews, and one that has gone for
//! [`LEASE_MS`] is no member any more until the admins reinstate it. A lease ends by the time of
//! certificates alone: while there is no quorum, nothing expires.

use ledger::clock::Hlc;
use ledger::genesis::SignedInvitation;
use ledger::id::NodeId;
use ledger::report::nodes::{AnnounceNode, OpenChain};
use serde::{Deserialize, Serialize};

use crate::cloud::Cloud;
use crate::commands::Asked;
use crate::entries::Told;
use crate::outcome::Void;
use crate::revocations::Revocation;
use crate::undo::{Nodes, Revocations, Writer};

/// How long a membership lasts after it was last renewed: 30 days.
pub const LEASE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Between two renewals that count lies at least this long: a day.
pub const RENEWAL_MS_MIN: u64 = 24 * 60 * 60 * 1000;

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its key.
    pub id: NodeId,
    /// When its first chain was opened.
    pub joined: Hlc,
    /// Its newest incarnation.
    pub incarnation: u64,
    /// When that opened.
    pub started: Hlc,
    /// What it last said of itself; none until it has.
    pub announced: Option<AnnounceNode>,
    /// When its membership was last renewed, in effective milliseconds since 1970. It lasts for
    /// [`LEASE_MS`] from then.
    pub renewed_ms: u64,
}

impl Node {
    /// The last millisecond since 1970, of certified time, at which it is a member.
    pub fn lease_ends_ms(&self) -> u64 {
        self.renewed_ms.saturating_add(LEASE_MS)
    }
}

/// How a node takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Membership {
    /// What it says counts.
    Member,
    /// Its lease ended.
    Expired,
    /// The admins ended it.
    Revoked,
}

impl Cloud {
    /// How a node takes part, by the time of the last certificate; `None` when it never did. Without a
    /// certificate nothing expires.
    pub fn membership(&self, node: NodeId, certified_ms: Option<u64>) -> Option<Membership> {
        let known = self.nodes.get(&node)?;
        let revocation = self.revocations.get(&node);
        Some(if revocation.is_some_and(|it| it.reinstated.is_none()) {
            Membership::Revoked
        } else if certified_ms.is_some_and(|now_ms| known.lease_ends_ms() < now_ms) {
            Membership::Expired
        } else {
            Membership::Member
        })
    }

    /// The nodes that are members.
    pub fn members(&self, certified_ms: Option<u64>) -> impl Iterator<Item = &Node> {
        self.nodes
            .values()
            .filter(move |node| self.membership(node.id, certified_ms) == Some(Membership::Member))
    }
}

/// The node is a member: what it says and carries counts.
pub(crate) fn check_member(cloud: &Cloud, node: NodeId, certified_ms: Option<u64>) -> Result<(), Void> {
    match cloud.membership(node, certified_ms) {
        Some(Membership::Member) => Ok(()),
        Some(Membership::Expired) => Err(Void::MembershipExpired),
        Some(Membership::Revoked) => Err(Void::NodeRevoked),
        None => Err(Void::NotItsPlace),
    }
}

/// A node opens a chain: its first makes it a member, each makes its incarnation the newest and renews the
/// membership. Who is a member no more is let in again by the admins alone, whatever invitation it holds.
pub(crate) fn open_chain(writer: &mut Writer<'_>, told: &Told, report: &OpenChain) -> Result<(), Void> {
    if !told.opens_chain {
        return Err(Void::NotItsPlace);
    }
    let (joined, announced) = match writer.nodes.get(&told.node) {
        Some(known) => {
            check_member(writer, told.node, told.certified_ms)?;
            (known.joined, known.announced.clone())
        }
        None => {
            check_inviter(writer, report)?;
            (told.at, None)
        }
    };
    let node = Node {
        id: told.node,
        joined,
        incarnation: told.incarnation,
        started: told.at,
        announced,
        renewed_ms: told.effective_ms,
    };
    writer.put::<Nodes>(told.node, node);
    Ok(())
}

/// Who signed a new node's invitation is an admin now. That it was one at the beginning, and signed, was
/// verified when the op was admitted; so was that the bytes are an invitation.
fn check_inviter(writer: &Writer<'_>, report: &OpenChain) -> Result<(), Void> {
    match SignedInvitation::decode(&report.invitation) {
        Ok(signed) if !writer.admins.contains_key(&signed.invitation.admin) => {
            Err(Void::NotAdmin(signed.invitation.admin))
        }
        _ => Ok(()),
    }
}

/// A node stays a member.
pub(crate) fn renew(writer: &mut Writer<'_>, told: &Told) -> Result<(), Void> {
    let known = writer.nodes.get(&told.node).ok_or(Void::NotItsPlace)?;
    if told.effective_ms < known.renewed_ms.saturating_add(RENEWAL_MS_MIN) {
        return Err(Void::AlreadySo(
            "the membership was renewed less than a day before".into(),
        ));
    }
    let node = Node {
        renewed_ms: told.effective_ms,
        ..known.clone()
    };
    writer.put::<Nodes>(told.node, node);
    Ok(())
}

/// A node says what it is; the newest word counts.
pub(crate) fn announce(writer: &mut Writer<'_>, told: &Told, report: &AnnounceNode) -> Result<(), Void> {
    let known = writer.nodes.get(&told.node).ok_or(Void::NotItsPlace)?;
    let node = Node {
        announced: Some(report.clone()),
        ..known.clone()
    };
    writer.put::<Nodes>(told.node, node);
    Ok(())
}

/// The admins end a membership. From here on in the order nothing counts that the node says, and what it
/// carries has to be carried by another.
pub(crate) fn revoke(
    writer: &mut Writer<'_>,
    asked: &Asked,
    node: NodeId,
    cutoff: Option<u64>,
) -> Result<(), Void> {
    match writer.membership(node, None) {
        None => return Err(Void::NotFound(format!("node: {node}"))),
        Some(Membership::Revoked) => return Err(Void::AlreadySo("the node is revoked".into())),
        Some(Membership::Member | Membership::Expired) => {}
    }
    let revocation = Revocation {
        op: asked.op,
        at: asked.at,
        cutoff,
        reinstated: None,
    };
    writer.put::<Revocations>(node, revocation);
    Ok(())
}

/// The admins give a node a new membership, from here on in the order.
pub(crate) fn reinstate(writer: &mut Writer<'_>, asked: &Asked, node: NodeId) -> Result<(), Void> {
    match writer.membership(node, asked.certified_ms) {
        None => return Err(Void::NotFound(format!("node: {node}"))),
        Some(Membership::Member) => return Err(Void::AlreadySo("the node is a member".into())),
        Some(Membership::Expired | Membership::Revoked) => {}
    }
    if let Some(revocation) = writer.revocations.get(&node).cloned() {
        let reinstated = Some(asked.at);
        writer.put::<Revocations>(
            node,
            Revocation {
                reinstated,
                ..revocation
            },
        );
    }
    if let Some(known) = writer.nodes.get(&node).cloned() {
        let renewed_ms = asked.effective_ms;
        writer.put::<Nodes>(node, Node { renewed_ms, ..known });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ledger::clock::Hlc;
    use ledger::genesis::Genesis;
    use ledger::id::{CommandId, OpId};
    use ledger::key::SecretKey;

    use super::*;
    use crate::undo::UndoLog;

    const BEGIN_MS: u64 = 1_000_000;
    const NODE: NodeId = NodeId([1; 32]);

    fn told(now_ms: u64, certified_ms: Option<u64>) -> Told {
        Told {
            op: OpId([2; 32]),
            node: NODE,
            incarnation: 1,
            opens_chain: true,
            at: Hlc::at_ms(now_ms),
            effective_ms: now_ms,
            certified_ms,
        }
    }

    fn asked(now_ms: u64) -> Asked {
        Asked {
            command: CommandId([3; 32]),
            key: SecretKey::from_seed([4; 32]).public(),
            op: OpId([5; 32]),
            at: Hlc::at_ms(now_ms),
            effective_ms: now_ms,
            certified_ms: Some(now_ms),
        }
    }

    fn joined() -> Cloud {
        let mut cloud = Cloud::new(Genesis {
            name: "test".into(),
            admins: Vec::new(),
            admins_needed: 1,
            witnesses: Default::default(),
            created_ms: 0,
            salt: [0; 16],
        });
        let mut log = UndoLog::default();
        let mut writer = Writer::new(&mut cloud, &mut log);
        assert_eq!(open(&mut writer, &told(BEGIN_MS, None)), Ok(()));
        cloud
    }

    fn open(writer: &mut Writer<'_>, told: &Told) -> Result<(), Void> {
        let report = OpenChain {
            invitation: Vec::new(),
            before: None,
        };
        open_chain(writer, told, &report)
    }

    #[test]
    fn a_lease_ends_by_certified_time_alone() {
        let cloud = joined();
        let last = BEGIN_MS + LEASE_MS;
        assert_eq!(check_member(&cloud, NODE, None), Ok(()));
        assert_eq!(check_member(&cloud, NODE, Some(last)), Ok(()));
        let expired = Err(Void::MembershipExpired);
        assert_eq!(check_member(&cloud, NODE, Some(last + 1)), expired);
        assert_eq!(cloud.members(Some(last)).count(), 1);
        assert_eq!(cloud.members(Some(last + 1)).count(), 0);
    }

    #[test]
    fn a_renewal_and_a_start_begin_the_lease_anew() {
        let renewal_ms = BEGIN_MS + RENEWAL_MS_MIN;
        let last = renewal_ms + LEASE_MS;
        let mut renewed = joined();
        let told = told(renewal_ms, Some(renewal_ms));
        assert_eq!(
            renew(&mut Writer::new(&mut renewed, &mut UndoLog::default()), &told),
            Ok(())
        );
        let mut started = joined();
        assert_eq!(
            open(&mut Writer::new(&mut started, &mut UndoLog::default()), &told),
            Ok(())
        );
        for cloud in [renewed, started] {
            assert_eq!(check_member(&cloud, NODE, Some(last)), Ok(()));
            assert!(check_member(&cloud, NODE, Some(last + 1)).is_err());
        }
    }

    #[test]
    fn an_expired_node_comes_back_by_the_admins_alone() {
        let now_ms = BEGIN_MS + LEASE_MS + 1;
        let mut cloud = joined();
        let mut log = UndoLog::default();
        let mut writer = Writer::new(&mut cloud, &mut log);
        let expired = Err(Void::MembershipExpired);
        assert_eq!(open(&mut writer, &told(now_ms, Some(now_ms))), expired);
        assert_eq!(reinstate(&mut writer, &asked(now_ms), NODE), Ok(()));
        assert_eq!(open(&mut writer, &told(now_ms, Some(now_ms))), Ok(()));
        assert!(reinstate(&mut writer, &asked(now_ms), NODE).is_err());
    }

    #[test]
    fn an_expired_node_can_be_revoked_and_a_new_lease_does_not_help_it() {
        let now_ms = BEGIN_MS + LEASE_MS + 1;
        let mut cloud = joined();
        let mut log = UndoLog::default();
        let mut writer = Writer::new(&mut cloud, &mut log);
        assert_eq!(revoke(&mut writer, &asked(now_ms), NODE, Some(7)), Ok(()));
        assert_eq!(check_member(&writer, NODE, Some(now_ms)), Err(Void::NodeRevoked));
        assert!(revoke(&mut writer, &asked(now_ms), NODE, None).is_err());
        assert_eq!(cloud.revocations[&NODE].cutoff, Some(7));
    }
}
