//! What becomes of one entry: its bytes are understood, its author is known, and the file of its area says
//! what it does. For a command that is carried, [`crate::commands`] asks first whether it counts at all.

use ledger::clock::Hlc;
use ledger::entry::Entry;
use ledger::id::{NodeId, OpId};
use ledger::op::Op;
use ledger::report::Report;

use crate::cloud::Cloud;
use crate::outcome::{Outcome, UNKNOWN_KIND, Void};
use crate::undo::Writer;
use crate::{commands, credits, images, instances, kinds, nodes};

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
    /// When, by the node's clock.
    pub(crate) at: Hlc,
    /// When, for what expires: milliseconds since 1970.
    pub(crate) effective_ms: u64,
    /// The time of the last certificate before it, in milliseconds since 1970; none before the first.
    pub(crate) certified_ms: Option<u64>,
}

/// Does what an entry says, or says why not. Also gives the name of its kind.
pub(crate) fn apply(writer: &mut Writer<'_>, op: &Op, index: usize) -> (&'static str, Outcome) {
    let told = Told {
        op: op.id(),
        node: op.node(),
        incarnation: op.slot().chain.incarnation,
        opens_chain: op.slot().seq == 0 && index == 0,
        at: op.body().hlc,
        effective_ms: op.body().hlc.ms(),
        certified_ms: None,
    };
    let report = match read(writer, &op.body().entries[index]) {
        Ok(report) => report,
        Err(void) => return (UNKNOWN_KIND, Outcome::Void(void)),
    };
    let mut kind = report.name();
    let member = nodes::check_member(writer, told.node, told.certified_ms);
    let result = match &report {
        Report::OpenChain(report) => nodes::open_chain(writer, &told, report),
        _ if member.is_err() => member,
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
        Report::RenewMembership(_) => nodes::renew(writer, &told),
    };
    let outcome = match result {
        Ok(()) => Outcome::Applied,
        Err(void) => Outcome::Void(void),
    };
    (kind, outcome)
}

/// What the entry says, if its kind counts.
fn read(cloud: &Cloud, entry: &Entry) -> Result<Report, Void> {
    kinds::check(cloud, (entry.kind, entry.version))?;
    Report::from_entry(entry).map_err(|error| Void::NotUnderstood(error.to_string()))
}
