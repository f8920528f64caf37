//! Commands and what became of them.

use ledger::id::{CommandId, OpId};
use ledger::key::PublicKey;
use projections::outcome::{CommandRecord, Outcome};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::PositionView;
use crate::problem::ErrorCode;

/// The answer to a command that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandAnswer {
    /// Its id; what it made (an account, an agent, a build, an instance) has the same.
    #[schema(value_type = String)]
    pub id: CommandId,
    /// The name of its kind.
    pub kind: String,
    /// The op that carries it.
    #[schema(value_type = String)]
    pub op: OpId,
    /// What became of it; none when nobody waited for that.
    pub outcome: Option<OutcomeView>,
    /// It was in the log before, and this is its first outcome.
    pub repeated: bool,
    /// How much of the log the answer has seen.
    pub position: PositionView,
}

/// A command and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: CommandId,
    /// The name of its kind.
    pub kind: String,
    /// Who signed.
    #[serde(with = "super::text")]
    #[schema(value_type = String)]
    pub key: PublicKey,
    /// The op that carried it first.
    #[schema(value_type = String)]
    pub op: OpId,
    /// When it entered the log.
    pub at_ms: u64,
    /// What became of it.
    pub outcome: OutcomeView,
}

/// What became of an entry. It is tentative: an op that arrives late may turn it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeView {
    /// Whether it changed anything.
    pub result: OutcomeWord,
    /// Why not, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
    /// Why not, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether an entry changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeWord {
    /// It changed the view as it asked.
    Applied,
    /// It changed nothing.
    Void,
}

impl From<&Outcome> for OutcomeView {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Applied => Self {
                result: OutcomeWord::Applied,
                code: None,
                why: None,
            },
            Outcome::Void(void) => Self {
                result: OutcomeWord::Void,
                code: Some(ErrorCode::of_void(void)),
                why: Some(void.to_string()),
            },
        }
    }
}

impl CommandView {
    /// The command as it stands in a cloud.
    pub fn new(id: CommandId, record: &CommandRecord) -> Self {
        Self {
            id,
            kind: record.kind_name().to_owned(),
            key: record.key,
            op: record.op,
            at_ms: record.at.ms(),
            outcome: (&record.outcome).into(),
        }
    }
}
