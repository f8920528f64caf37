//! What a node answered to is in the log for good, whatever crashed afterwards.

use std::collections::BTreeMap;

use ledger::id::CommandId;
use projections::cloud::Cloud;

use super::{Holds, Violation};

/// Every acknowledged command is in a node's view: at any time those that it acknowledged itself, in the end
/// all of them. `acknowledged` tells which node it was.
pub fn nothing_is_lost<'a>(
    node: usize,
    cloud: &Cloud,
    acknowledged: impl Iterator<Item = (&'a CommandId, &'a usize)>,
) -> Holds {
    for (command, by) in acknowledged {
        if !cloud.commands.contains_key(command) {
            return Err(Violation {
                claim: "acknowledged",
                seen: format!(
                    "node {by} acknowledged command {}, but node {node} does not have it",
                    command.short()
                ),
            });
        }
    }
    Ok(())
}

/// A node that is up answers each command at once, and appends it: people of this network ask well-formed
/// things only, and its clocks do not run backwards.
pub fn answered(node: usize, command: CommandId, answer: Option<&Result<(), String>>) -> Holds {
    let what = match answer {
        Some(Ok(())) => return Ok(()),
        Some(Err(error)) => format!("was refused: {error}"),
        None => "got no answer".to_owned(),
    };
    Err(Violation {
        claim: "acknowledged",
        seen: format!("command {} at node {node} {what}", command.short()),
    })
}

/// The acknowledgements that a set of nodes gave.
pub fn by_one_of(
    acknowledged: &BTreeMap<CommandId, usize>,
    nodes: impl Fn(usize) -> bool,
) -> impl Iterator<Item = (&CommandId, &usize)> {
    acknowledged.iter().filter(move |(_, by)| nodes(**by))
}
