//! What this node says itself: commands that it carries, and its own reports.

use ledger::id::{CommandId, OpId};
use ledger::replica;
use ledger::report::nodes::RenewMembership;
use ledger::report::{Carry, Report};
use projections::nodes::RENEWAL_MS_MIN;

use super::{Node, Output, SubmitError, Submitted, UNSAID_MAX, Wait};
use crate::action::{ActionKey, ReportKey};

/// How long a renewal may take to become final before it is said again.
const RENEW_AGAIN_MS: u64 = 60 * 60 * 1000;

impl Node {
    pub(super) fn submit(
        &mut self,
        (token, id): (u64, CommandId),
        command: Vec<u8>,
        wait: Wait,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) {
        // A command that is in the log already is answered with what became of it: a client that lost the
        // answer asks again with the same bytes.
        if self.fold.cloud().commands.get(&id).is_none() {
            let op = self.try_append(vec![Report::Carry(Carry { command })], now_ms, out);
            if let Err(error) = op {
                out.push(Output::Reply {
                    token,
                    reply: Err(SubmitError::Append(error.to_string())),
                });
                return;
            }
        }
        let cloud = self.fold.cloud();
        match cloud.commands.get(&id) {
            Some(record) => {
                let submitted = Submitted {
                    op: record.op,
                    outcome: record.outcome.clone(),
                };
                self.answer((token, id), submitted, wait, now_ms, out);
            }
            None => out.push(Output::Reply {
                token,
                reply: Err(SubmitError::Append(
                    "the fold has no record of the command".into(),
                )),
            }),
        }
    }

    /// Appends reports that were decided. One that cannot be appended is decided again later, more slowly, and
    /// holds back no other.
    pub(super) fn append(&mut self, mut reports: Vec<Report>, now_ms: u64, out: &mut Vec<Output>) {
        if self.try_append(reports.clone(), now_ms, out).is_ok() {
            return;
        }
        if reports.len() > 1 {
            reports.retain(|report| self.try_append(vec![report.clone()], now_ms, out).is_err());
        }
        for report in reports {
            let key = ActionKey::Report(ReportKey::of(&report));
            self.pace.done(&key, false, now_ms);
        }
    }

    /// Appends a report that nobody decides again. While the log cannot take it, it is tried again with each
    /// presence.
    pub(super) fn say(&mut self, report: Report, now_ms: u64, out: &mut Vec<Output>) {
        let said = self.try_append(vec![report.clone()], now_ms, out);
        if let Err(replica::AppendError::ClockAhead(_)) = said {
            if self.unsaid.len() == UNSAID_MAX {
                self.unsaid.remove(0);
            }
            self.unsaid.push(report);
        }
    }

    pub(super) fn try_append(
        &mut self,
        reports: Vec<Report>,
        now_ms: u64,
        out: &mut Vec<Output>,
    ) -> Result<OpId, replica::AppendError> {
        let (op, outputs) = self.replica.append(reports, now_ms)?;
        self.take(outputs, out);
        Ok(op)
    }

    /// Membership is a lease on certified time: once a day the node says that it is still there. Without
    /// certificates nothing expires, and nothing is said.
    pub(super) fn renew_membership(&mut self, now_ms: u64, out: &mut Vec<Output>) {
        let settled = self.fold.final_cloud();
        let own = settled.nodes.get(&self.replica.node());
        let due = settled
            .finality
            .certified_ms()
            .zip(own)
            .is_some_and(|(certified_ms, own)| certified_ms >= own.renewed_ms.saturating_add(RENEWAL_MS_MIN));
        // Till a certificate covers what was said, it is not said again.
        if due && now_ms.abs_diff(self.renewed_ms) >= RENEW_AGAIN_MS {
            self.renewed_ms = now_ms;
            self.say(Report::RenewMembership(RenewMembership {}), now_ms, out);
        }
    }
}
