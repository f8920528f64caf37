//! `form ledger status`: the ledger of one node, for its operator: how far it is final, who votes, its chains,
//! what waits, how far its peers are, and what it refused.

use api::views::ledger::LedgerView;
use clap::Subcommand;

use crate::exit::Failure;
use crate::invocation::Invocation;
use crate::output::{ago, size};
use crate::submit::now_ms;

/// Chains that are shown to people.
const CHAINS_SHOWN: usize = 12;

/// The ledger of the node that answers --api.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// How far it is final, its chains, what waits and what it refused
    Status,
}

impl LedgerCommand {
    /// Shows it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let LedgerCommand::Status = self;
        let ledger = invocation.client()?.ledger().await?;
        let names = names(invocation).await?;
        invocation.output.one(
            &ledger,
            |ledger| fields(ledger, &names),
            |ledger| ledger.finality.height.to_string(),
        )
    }
}

type Names = std::collections::BTreeMap<String, String>;

async fn names(invocation: &Invocation) -> Result<Names, Failure> {
    let nodes = invocation.nodes().await?;
    Ok(nodes
        .into_iter()
        .filter_map(|node| Some((node.id.to_string(), node.name?)))
        .collect())
}

fn name_of(names: &Names, id: &impl ToString) -> String {
    let id = id.to_string();
    names.get(&id).cloned().unwrap_or_else(|| id[..12].to_owned())
}

fn fields(ledger: &LedgerView, names: &Names) -> Vec<(&'static str, String)> {
    let (finality, now_ms) = (&ledger.finality, now_ms());
    let certified = match finality.height {
        0 => "nothing yet".to_owned(),
        height => format!("height {height}, {}", ago(finality.time_ms, now_ms)),
    };
    let witnesses: Vec<String> = finality
        .witnesses
        .iter()
        .map(|(node, weight)| format!("{} ({weight})", name_of(names, node)))
        .collect();
    let mut fields = vec![
        ("ops", format!("{} in {} chains", ledger.ops, ledger.chains)),
        ("tentative", format!("{} ops", ledger.tentative)),
        ("certified", certified),
        ("state root", finality.state_root.clone()),
        (
            "witnesses",
            if witnesses.is_empty() {
                "nobody: all stays tentative".to_owned()
            } else {
                let own = if finality.votes { "; this node votes" } else { "" };
                format!("{}{own}", witnesses.join(", "))
            },
        ),
    ];
    if let Some(round) = finality.round {
        fields.push((
            "agreeing",
            format!("height {}, round {round}", finality.height + 1),
        ));
    }
    fields.push((
        "waiting",
        format!(
            "{} ops ({}), {} certificates",
            ledger.waiting_ops,
            size(ledger.waiting_bytes),
            finality.waiting
        ),
    ));
    for (peer, behind) in &ledger.lag {
        let lag = match behind {
            0 => "at the same height".to_owned(),
            behind => format!("{behind} certificates behind"),
        };
        fields.push(("peer", format!("{}: {lag}", name_of(names, peer))));
    }
    for head in ledger.heads.iter().take(CHAINS_SHOWN) {
        let words = format!(
            "{} {}: {} ops, {} final, {}",
            name_of(names, &head.node),
            head.incarnation,
            head.ops,
            head.final_ops,
            ago(head.at_ms, now_ms)
        );
        fields.push(("chain", words));
    }
    for fork in &ledger.forks {
        let words = format!(
            "{} {}, from op {}",
            name_of(names, &fork.node),
            fork.incarnation,
            fork.seq
        );
        fields.push(("forked", words));
    }
    let refused = ledger
        .counters
        .iter()
        .chain(&finality.counters)
        .filter(|(_, count)| **count > 0);
    let refused: Vec<String> = refused.map(|(name, count)| format!("{name} {count}")).collect();
    fields.push(("counted", refused.join(", ")));
    if let Some(alarm) = &ledger.alarm {
        fields.push(("ALARM", alarm.clone()));
    }
    fields
}
