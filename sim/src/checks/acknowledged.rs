//! What a node answered to is in the log for good, whatever crashed afterwards.

use std::collections::BTreeMap;

use ledger::id::CommandId;
use projections::cloud::Cloud;

use super::Violation;

/// Every acknowledged command is in the view; at the end, in everybody's.
pub fn nothing_is_lost(node: usize, cloud: &Cloud, acknowledged: &BTreeMap<CommandId, usize>) -> Result<(), Violation> {
    for (command, by) in acknowledged {
        if !cloud.commands.contains_key(command) {
            return Err(Violation {
                claim: "acknowledged",
                seen: format!("node {by} acknowledged command {}, but node {node} does not have it", command.short()),
            });
        }
    }
    Ok(())
}
