//! Credits of an account as people see them. Amounts are text, as they fill 64 bits.

use ledger::id::{AccountId, HoldId, NodeId};
use projections::accounts::Account;
use projections::cloud::Cloud;
use projections::credits::Hold;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Credits, hex64};

/// What an account has, what it lets nodes spend, and what it lets them charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreditsView {
    /// The account.
    #[schema(value_type = String)]
    pub account: AccountId,
    /// Its name.
    pub name: String,
    /// What it can move, in the smallest unit.
    #[schema(value_type = String)]
    pub balance: Credits,
    /// What only one start of one node may spend, till a time. At most 64.
    pub rights: Vec<RightsView>,
    /// What it allows nodes to charge, the first to end at the front. At most 256.
    pub holds: Vec<HoldView>,
}

/// Credits of an account that one start of a node may spend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RightsView {
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// What it calls itself.
    pub node_name: Option<String>,
    /// The start: sixteen hexadecimal digits.
    pub incarnation: String,
    /// What is left of them.
    #[schema(value_type = String)]
    pub amount: Credits,
    /// When what is left returns to the account.
    pub expires_ms: u64,
}

/// What an account allows a node to charge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HoldView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: HoldId,
    /// Who may charge.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// What that node calls itself.
    pub node_name: Option<String>,
    /// How much in all.
    #[schema(value_type = String)]
    pub amount: Credits,
    /// How much of it can still be charged.
    #[schema(value_type = String)]
    pub left: Credits,
    /// From when on nothing is charged any more.
    pub expires_ms: u64,
    /// What for.
    pub purpose: String,
    /// When it was placed.
    pub placed_ms: u64,
}

fn node_name(cloud: &Cloud, node: NodeId) -> Option<String> {
    let announced = cloud.nodes.get(&node)?.announced.as_ref()?;
    Some(announced.name.clone())
}

impl HoldView {
    fn new(cloud: &Cloud, hold: &Hold) -> Self {
        Self {
            id: hold.id,
            node: hold.node,
            node_name: node_name(cloud, hold.node),
            amount: Credits(hold.amount),
            left: Credits(hold.left),
            expires_ms: hold.expires_ms,
            purpose: hold.purpose.clone(),
            placed_ms: hold.placed.ms(),
        }
    }
}

impl CreditsView {
    /// The credits of an account as they stand in `cloud`.
    pub fn new(cloud: &Cloud, account: &Account) -> Self {
        let rights = cloud.rights_of(account.id);
        let rights = rights.map(|(node, incarnation, right)| RightsView {
            node,
            node_name: node_name(cloud, node),
            incarnation: hex64(incarnation),
            amount: Credits(right.amount),
            expires_ms: right.expires_ms,
        });
        Self {
            account: account.id,
            name: account.name.clone(),
            balance: Credits(cloud.balance(account.id)),
            rights: rights.collect(),
            holds: cloud
                .holds_of(account.id)
                .map(|hold| HoldView::new(cloud, hold))
                .collect(),
        }
    }
}
