//! What the admins do together, as people see it.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use ledger::codec;
use ledger::command::admin::Act;
use ledger::id::{ActId, NodeId, OpId};
use projections::admin::ActRecord;
use projections::cloud::Cloud;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Credits;

/// Who the admins are and what they have settled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CharterView {
    /// The admins, in the order of their keys.
    pub admins: Vec<AdminView>,
    /// How many of them have to approve an act.
    pub admins_needed: u8,
    /// The nodes that the admins want to certify, each with the weight of its vote. A change votes two
    /// checkpoints after it is final.
    #[schema(value_type = BTreeMap<String, u32>)]
    pub witnesses: BTreeMap<NodeId, u32>,
    /// Kinds, and versions of kinds, that were activated after the network began.
    pub activations: Vec<ActivationView>,
    /// All credits that were ever minted.
    #[schema(value_type = String)]
    pub minted: Credits,
}

/// One who may approve acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminView {
    /// The key: `ed25519:` and 64 hexadecimal digits.
    pub key: String,
    /// Since when; none: since the network began.
    pub since_ms: Option<u64>,
}

/// A version of a kind that counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActivationView {
    /// The kind's number.
    pub kind: u16,
    /// The version.
    pub version: u8,
    /// Since when.
    pub at_ms: u64,
}

impl From<&Cloud> for CharterView {
    fn from(cloud: &Cloud) -> Self {
        let admin = |(key, admin): (&ledger::key::PublicKey, &projections::admin::Admin)| AdminView {
            key: key.to_string(),
            since_ms: Some(admin.since.ms()).filter(|since_ms| *since_ms > 0),
        };
        let activations = cloud.activations.iter();
        Self {
            admins: cloud.admins.iter().map(admin).collect(),
            admins_needed: cloud.admins_needed(),
            witnesses: cloud
                .witnesses_wanted()
                .iter()
                .map(|it| (it.node, it.weight))
                .collect(),
            activations: activations
                .map(|((kind, version), activation)| ActivationView {
                    kind: *kind,
                    version: *version,
                    at_ms: activation.at.ms(),
                })
                .collect(),
            minted: Credits(cloud.minted()),
        }
    }
}

/// An act that somebody approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActView {
    /// Its id: the hash of what is signed.
    #[schema(value_type = String)]
    pub id: ActId,
    /// What kind of act, such as `AddAdmin`.
    pub kind: String,
    /// What is to be done, in words.
    pub what: String,
    /// How it stands.
    pub state: ActWord,
    /// The keys of the admins who approved, in that order.
    pub approvals: Vec<String>,
    /// How many admins have to approve as of now.
    pub admins_needed: u8,
    /// When the first approval came.
    pub begun_ms: u64,
    /// The last millisecond at which an approval counts.
    pub expires_ms: u64,
    /// The op with which it took effect.
    #[schema(value_type = Option<String>)]
    pub done_by: Option<OpId>,
    /// What an admin signs to approve it: the bytes of `ApproveAct`, in hexadecimal. Read it before you
    /// sign: the id must be their hash.
    pub approval: String,
}

/// How an act stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActWord {
    /// More approvals are needed.
    Waiting,
    /// It took effect.
    Done,
    /// Its time ended before enough had approved.
    Lapsed,
}

impl ActWord {
    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Lapsed => "lapsed",
        }
    }
}

impl ActView {
    /// The act as it stands in `cloud` at a time, in milliseconds since 1970.
    pub fn new(cloud: &Cloud, id: ActId, record: &ActRecord, now_ms: u64) -> Self {
        Self {
            id,
            kind: record.act.name().into(),
            what: words(&record.act),
            state: match record.done {
                Some(_) => ActWord::Done,
                None if record.expires_ms < now_ms => ActWord::Lapsed,
                None => ActWord::Waiting,
            },
            approvals: record.approvals.iter().map(ToString::to_string).collect(),
            admins_needed: cloud.admins_needed(),
            begun_ms: record.begun.ms(),
            expires_ms: record.expires_ms,
            done_by: record.done,
            approval: HEXLOWER.encode(&codec::encode(&record.approval())),
        }
    }
}

/// What an act does, in words for who is to approve it. Nothing that matters is shortened.
pub fn words(act: &Act) -> String {
    match act {
        Act::AddAdmin(key) => format!("make {key} an admin"),
        Act::RemoveAdmin(key) => format!("make {key} an admin no more"),
        Act::SetAdminsNeeded(needed) => format!("let acts need {needed} admins"),
        Act::RevokeNode { node, cutoff: None } => {
            format!("end the membership of node {node}; what the act has seen of it counts")
        }
        Act::RevokeNode {
            node,
            cutoff: Some(height),
        } => format!("end the membership of node {node}; what checkpoint {height} covers of it counts"),
        Act::ReinstateNode(node) => format!("give node {node} a new membership"),
        Act::SetWitnesses(set) => {
            let each = set.iter().map(|it| format!("{}={}", it.node, it.weight));
            format!("let these nodes certify: {}", each.collect::<Vec<_>>().join(" "))
        }
        Act::Activate { kind, version } => format!("let version {version} of kind {kind} count"),
        Act::Mint { account, amount } => format!("make {amount} credits for account {account}"),
    }
}
