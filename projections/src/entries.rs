//! What becomes of one entry: its bytes are understood, its author is known, and the file of its area says
//! what it does. For a command that is carried, [`crate::commands`] asks first whether it counts at all.

use ledger::clock::Hlc;
use ledger::id::{NetworkId, NodeId, OpId};
use ledger::op::{Op, Said};
use ledger::report::Report;

use crate::outcome::{Outcome, UNKNOWN_KIND, Void};
use crate::undo::Writer;
use crate::{commands, credits, images, instances, kinds, nodes};

/// The name of the kind of an entry that carries what is not understood.
const CARRY: &str = "Carry";

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
    /// When, for what expires, in milliseconds since 1970: not before the last certificate that the op comes
    /// after, so that nobody wins by setting a clock back.
    pub(crate) effective_ms: u64,
    /// The time of the last certificate before it, in milliseconds since 1970; none before the first.
    pub(crate) certified_ms: Option<u64>,
}

/// Does what an entry says, or says why not.
pub(crate) fn apply(writer: &mut Writer<'_>, op: &Op, index: usize) -> Outcome {
    let told = Told {
        op: op.id(),
        node: op.node(),
        incarnation: op.slot().chain.incarnation,
        opens_chain: op.slot().seq == 0 && index == 0,
        at: op.body().hlc,
        effective_ms: op.body().hlc.ms().max(writer.finality.time_ms),
        certified_ms: writer.finality.certified_ms(),
    };
    let entry = &op.body().entries[index];
    if let Err(void) = kinds::check(writer, (entry.kind, entry.version)) {
        return Outcome::Void(void);
    }
    let said = &op.said(writer.network)[index];
    let member = nodes::check_member(writer, told.node, told.certified_ms);
    let result = match said {
        Said::NotUnderstood(error) => Err(Void::NotUnderstood(error.to_string())),
        Said::Report(Report::OpenChain(report)) => nodes::open_chain(writer, &told, report),
        _ if member.is_err() => member,
        Said::Carried(carried) => match &**carried {
            Ok(signed) => commands::apply(writer, &told, signed),
            Err(error) => Err(commands::why_not_understood(writer, entry, error)),
        },
        Said::Report(report) => match report {
            Report::OpenChain(_) | Report::Carry(_) => Err(Void::NotItsPlace),
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
        },
    };
    match result {
        Ok(()) => Outcome::Applied,
        Err(void) => Outcome::Void(void),
    }
}

/// The name of an entry's kind; for a carried command that is understood the command's.
pub(crate) fn kind_of(network: NetworkId, op: &Op, index: usize) -> &'static str {
    match &op.said(network)[index] {
        Said::NotUnderstood(_) => UNKNOWN_KIND,
        Said::Report(report) => report.name(),
        Said::Carried(carried) => match &**carried {
            Ok(signed) => signed.command().body.name(),
            Err(_) => CARRY,
        },
    }
}
