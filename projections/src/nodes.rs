//! Nodes: who takes part, and what each says of itself.

use ledger::clock::Hlc;
use ledger::id::NodeId;
use ledger::report::nodes::AnnounceNode;
use serde::{Deserialize, Serialize};

use crate::entries::Told;
use crate::outcome::Void;
use crate::undo::{Nodes, Writer};

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
}

/// A node opens a chain: its first makes it a member, each makes its incarnation the newest. The invitation
/// was verified when the op was admitted.
pub(crate) fn open_chain(writer: &mut Writer<'_>, told: &Told) -> Result<(), Void> {
    if !told.opens_chain {
        return Err(Void::NotItsPlace);
    }
    let (joined, announced) = match writer.nodes.get(&told.node) {
        Some(known) => (known.joined, known.announced.clone()),
        None => (told.at, None),
    };
    let node = Node {
        id: told.node,
        joined,
        incarnation: told.incarnation,
        started: told.at,
        announced,
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
