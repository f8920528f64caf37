//! Ops as people see them: what each entry says, who asked for it and what became of it.

use data_encoding::HEXLOWER;
use ledger::command::admin::Act;
use ledger::command::{Body, SignedCommand};
use ledger::entry::Entry;
use ledger::id::{AccountId, CommandId, NetworkId, NodeId, OpId};
use ledger::key::PublicKey;
use ledger::op::Op;
use ledger::report::Report;
use projections::cloud::Cloud;
use projections::outcome::{Outcome, UNKNOWN_KIND};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::commands::OutcomeView;
use super::hex64;
use crate::door::OpRecord;

/// An op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OpView {
    /// Its id.
    #[schema(value_type = String)]
    pub id: OpId,
    /// The node that wrote it.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The node's name.
    pub node_name: Option<String>,
    /// Which start of the node: sixteen hexadecimal digits.
    pub incarnation: String,
    /// Its place in the chain, from 0.
    pub seq: u64,
    /// The op before it in the chain; zeros for the first.
    #[schema(value_type = String)]
    pub previous: OpId,
    /// Its clock: milliseconds since 1970, a dot, a counter.
    pub hlc: String,
    /// The milliseconds of its clock.
    pub at_ms: u64,
    /// First halves of the ids of the ops that it had newly seen.
    pub dependencies: Vec<String>,
    /// Size of its body in bytes.
    pub bytes: u64,
    /// What it carries.
    pub entries: Vec<EntryView>,
}

/// An entry of an op.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryView {
    /// The name of its kind; of a carried command, the name of the command's.
    pub kind: String,
    /// The carried command, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub command: Option<CommandId>,
    /// The key that signed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The account that the key signs for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub account: Option<AccountId>,
    /// The account's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_name: Option<String>,
    /// What it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Subject>,
    /// What it says.
    #[schema(value_type = Object)]
    pub content: serde_json::Value,
    /// What became of it, once folded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeView>,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Subject {
    /// What kind of thing.
    pub noun: Noun,
    /// Its id, or the name of a domain.
    pub id: String,
}

/// A kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Noun {
    /// An account.
    Account,
    /// A node.
    Node,
    /// An agent.
    Agent,
    /// A build of an image.
    Build,
    /// An instance.
    Instance,
    /// A domain name.
    Domain,
}

impl OpView {
    /// The op and its outcomes, with the names that `cloud` has for what it mentions.
    pub fn new(cloud: &Cloud, record: &OpRecord) -> Self {
        let op = &record.op;
        let slot = op.slot();
        let body = op.body();
        let entries = (0..body.entries.len())
            .map(|index| EntryView::new(cloud, op, index, record.outcomes.get(index)))
            .collect();
        Self {
            id: op.id(),
            node: op.node(),
            node_name: cloud
                .nodes
                .get(&op.node())
                .and_then(|node| Some(node.announced.as_ref()?.name.clone())),
            incarnation: hex64(slot.chain.incarnation),
            seq: slot.seq,
            previous: slot.previous,
            hlc: body.hlc.to_string(),
            at_ms: body.hlc.ms(),
            dependencies: body
                .dependencies
                .iter()
                .map(|half| HEXLOWER.encode(&half.0))
                .collect(),
            bytes: op.bytes().len() as u64,
            entries,
        }
    }
}

impl EntryView {
    /// An entry of `op`. `index` must be one of its entries.
    pub fn new(cloud: &Cloud, op: &Op, index: usize, outcome: Option<&Outcome>) -> Self {
        let read = ReadEntry::new(cloud.network, op.node(), &op.body().entries[index]);
        let account = read
            .key
            .and_then(|key| cloud.keys.get(&key))
            .map(|key| key.account);
        Self {
            kind: read.kind,
            command: read.command,
            key: read.key.map(|key| key.to_string()),
            account,
            account_name: account.and_then(|id| super::account_name(cloud, id)),
            subject: read.subject,
            content: read.content,
            outcome: outcome.map(Into::into),
        }
    }
}

/// An entry, understood as far as this build can.
pub(crate) struct ReadEntry {
    pub(crate) kind: String,
    pub(crate) command: Option<CommandId>,
    pub(crate) key: Option<PublicKey>,
    pub(crate) subject: Option<Subject>,
    pub(crate) content: serde_json::Value,
}

impl ReadEntry {
    pub(crate) fn new(network: NetworkId, node: NodeId, entry: &Entry) -> Self {
        let plain = |kind: String, content| Self {
            kind,
            command: None,
            key: None,
            subject: None,
            content,
        };
        match Report::from_entry(entry) {
            Ok(Report::Carry(carry)) => match SignedCommand::decode(network, &carry.command) {
                Ok(command) => Self {
                    kind: command.command().body.name().into(),
                    command: Some(command.id()),
                    key: Some(command.command().key),
                    subject: subject_of_command(&command),
                    content: describe(|s| command.command().body.describe(s)),
                },
                Err(error) => plain("Carry".into(), serde_json::json!({ "error": error.to_string() })),
            },
            // The invitation is bytes for machines: its size is enough for people.
            Ok(Report::OpenChain(open)) => Self {
                subject: Some(Subject {
                    noun: Noun::Node,
                    id: node.to_string(),
                }),
                ..plain(
                    "OpenChain".into(),
                    serde_json::json!({
                        "invitation_bytes": open.invitation.len(),
                        "before": open.before.map(|before| serde_json::json!({
                            "incarnation": hex64(before.incarnation),
                            "seq": before.seq,
                            "id": before.id,
                        })),
                    }),
                )
            },
            Ok(report) => Self {
                subject: subject_of_report(node, &report),
                ..plain(report.name().into(), describe(|s| report.describe(s)))
            },
            Err(error) => plain(UNKNOWN_KIND.into(), {
                serde_json::json!({ "error": error.to_string(), "bytes": entry.bytes.len() })
            }),
        }
    }
}

fn describe(
    describe: impl FnOnce(serde_json::value::Serializer) -> Result<serde_json::Value, serde_json::Error>,
) -> serde_json::Value {
    describe(serde_json::value::Serializer)
        .unwrap_or_else(|error| serde_json::json!({ "error": error.to_string() }))
}

fn subject_of_command(command: &SignedCommand) -> Option<Subject> {
    let made = |noun| Subject {
        noun,
        id: command.id().to_string(),
    };
    Some(match &command.command().body {
        Body::OpenAccount(_) => made(Noun::Account),
        Body::BuildImage(_) => made(Noun::Build),
        Body::RegisterAgent(_) => made(Noun::Agent),
        Body::UpdateAgent(update) => Subject {
            noun: Noun::Agent,
            id: update.agent.to_string(),
        },
        Body::LaunchInstance(_) => made(Noun::Instance),
        Body::StopInstance(stop) => Subject {
            noun: Noun::Instance,
            id: stop.instance.to_string(),
        },
        Body::StartInstance(start) => Subject {
            noun: Noun::Instance,
            id: start.instance.to_string(),
        },
        Body::DeleteInstance(delete) => Subject {
            noun: Noun::Instance,
            id: delete.instance.to_string(),
        },
        Body::ClaimDomain(claim) => Subject {
            noun: Noun::Domain,
            id: claim.name.clone(),
        },
        Body::ReleaseDomain(release) => Subject {
            noun: Noun::Domain,
            id: release.name.clone(),
        },
        Body::TransferCredits(transfer) => Subject {
            noun: Noun::Account,
            id: transfer.to.to_string(),
        },
        Body::GrantRights(grant) => Subject {
            noun: Noun::Node,
            id: grant.node.to_string(),
        },
        Body::PlaceHold(hold) => Subject {
            noun: Noun::Node,
            id: hold.node.to_string(),
        },
        Body::ReleaseHold(_) => return None,
        Body::AddKey(_) | Body::RevokeKey(_) => return None,
        Body::ApproveAct(approve) => match &approve.act {
            Act::RevokeNode { node, .. } | Act::ReinstateNode(node) => Subject {
                noun: Noun::Node,
                id: node.to_string(),
            },
            Act::Mint { account, .. } => Subject {
                noun: Noun::Account,
                id: account.to_string(),
            },
            _ => return None,
        },
    })
}

fn subject_of_report(node: NodeId, report: &Report) -> Option<Subject> {
    let (noun, id) = match report {
        Report::Carry(_) => return None,
        Report::OpenChain(_) | Report::AnnounceNode(_) | Report::RenewMembership(_) => {
            (Noun::Node, node.to_string())
        }
        Report::ImageBuilt(built) => (Noun::Build, built.build.to_string()),
        Report::ImageFailed(failed) => (Noun::Build, failed.build.to_string()),
        Report::PlaceInstance(place) => (Noun::Instance, place.instance.to_string()),
        Report::CannotPlace(cannot) => (Noun::Instance, cannot.instance.to_string()),
        Report::InstanceChanged(changed) => (Noun::Instance, changed.instance.to_string()),
        Report::Charge(_) | Report::EndHold(_) => return None,
        Report::ReturnRights(rights) => (Noun::Account, rights.account.to_string()),
    };
    Some(Subject { noun, id })
}
