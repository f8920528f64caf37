//! What becomes of one entry: its bytes are understood, its author is known, and the file of its area says
//! what it does. For a command that is carried, [`crate::commands`] asks first whether it counts at all.

use ledger::clock::Hlc;
use ledger::id::{NodeId, OpId};
use ledger::op::Op;
use ledger::report::Report;

use crate::outcome::{Outcome, UNKNOWN_KIND, Void};
use crate::undo::Writer;
use crate::{commands, credits, images, instances, nodes};

/// A node tells something.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    /// The op that carries it.
    pub(crate) op: OpId,
    /// Who says so.
    pub(crate) node: NodeId,
    /// In which of its incarnations.
    pub(crate) incarnation: u64,
    /// Whether this is what a chain begins with.
    pub(crate) opens_chain: bool,
    /// When.
    pub(crate) at: Hlc,
}

/// Does what an entry says, or says why not. Also gives the name of its kind.
pub(crate) fn apply(writer: &mut Writer<'_>, op: &Op, index: usize) -> (&'static str, Outcome) {
    let told = Told {
        op: op.id(),
        node: op.node(),
        incarnation: op.slot().chain.incarnation,
        opens_chain: op.slot().seq == 0 && index == 0,
        at: op.body().hlc,
    };
    let report = match Report::from_entry(&op.body().entries[index]) {
        Ok(report) => report,
        Err(error) => {
            return (
                UNKNOWN_KIND,
                Outcome::Void(Void::NotUnderstood(error.to_string())),
            );
        }
    };
    let mut kind = report.name();
    let result = match &report {
        Report::OpenChain(_) => nodes::open_chain(writer, &told),
        _ if !writer.nodes.contains_key(&told.node) => Err(Void::NotItsPlace),
        Report::Carry(carry) => {
            let carried = commands::apply(writer, &told, &carry.command);
            kind = carried.kind.unwrap_or(kind);
            carried.result
        }
        Report::AnnounceNode(report) => nodes::announce(writer, &told, report),
        Report::ImageBuilt(report) => images::built(writer, &told, report),
        Report::ImageFailed(report) => images::failed(writer, &told, report),
        Report::PlaceInstance(report) => instances::place(writer, &told, report),
        Report::CannotPlace(report) => instances::cannot_place(writer, &told, report),
        Report::InstanceChanged(report) => instances::changed(writer, &told, report),
        Report::Charge(report) => credits::charge(writer, &told, report),
        Report::EndHold(report) => credits::end_hold(writer, &told, report),
        Report::ReturnRights(report) => credits::return_rights(writer, &told, report),
    };
    let outcome = match result {
        Ok(()) => Outcome::Applied,
        Err(void) => Outcome::Void(void),
    };
    (kind, outcome)
}
