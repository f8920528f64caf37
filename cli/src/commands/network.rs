//! `form network`: who the admins are, and what they do together. Each verb begins an act, approved by the key
//! that signs; it takes effect with the approval that makes as many as are needed.
//!
//! ```text
//! one admin:     form network revoke-node NODE      prints the act's id: 1 of 2
//! another one:   form network acts                  what waits
//!                form network approve ACT           2 of 2: done
//! ```

use api::views::acts::{ActView, ActWord, CharterView, words};
use api::views::nodes::Role;
use api::views::status::NetworkView;
use clap::{Args, Subcommand};
use data_encoding::HEXLOWER;
use ledger::codec;
use ledger::command::admin::{Act, ApproveAct};
use ledger::entry::ENTRY_BYTES_MAX;
use ledger::finality::witness::{WEIGHT_MAX, Witness, WitnessSet};
use ledger::key::PublicKey;
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::{ago, span};
use crate::submit::{lifetime, now_ms, random_16, submit};

/// The network: its admins, and what they do together.
#[derive(Debug, Subcommand)]
#[command(
    after_help = "Every verb but `show`, `acts` and `approve` begins an act. It is done once as many \
admins as are needed have approved it.

Examples:
  form network show
  form network revoke-node NODE          prints the act's id
  form network approve ACT --key other   by the next admin"
)]
pub enum NetworkCommand {
    /// Who the admins are, how many are needed, who certifies, what waits
    Show,
    /// List the acts that wait, and those done or lapsed lately
    Acts,
    /// Show an act
    Act(ActArg),
    /// Approve an act that waits
    Approve(ActArg),
    /// Make a key an admin
    AddAdmin(AdminArgs),
    /// End an admin
    RemoveAdmin(AdminArgs),
    /// Set how many admins have to approve an act
    Need(NeedArgs),
    /// End a node's membership
    RevokeNode(RevokeNodeArgs),
    /// Give a node whose membership was revoked or expired a new one
    ReinstateNode(NodeArgs),
    /// Say which nodes certify, all in place of those before
    Witnesses(WitnessesArgs),
    /// Let a kind of entry, or a version of one, count that came after the network began
    Activate(ActivateArgs),
    /// Make credits and give them to an account
    Mint(MintArgs),
}

/// Which act.
#[derive(Debug, Args)]
pub struct ActArg {
    /// Id of the act, or the beginning of it
    #[arg(value_name = "ACT")]
    act: String,
}

/// How long an act waits.
#[derive(Debug, Args)]
pub struct Till {
    /// How long the act waits for the other admins; at most 7d
    #[arg(long, value_name = "TIME", value_parser = lifetime, default_value = "3d")]
    expires: u64,
}

/// `form network add-admin` and `remove-admin`.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The key: `ed25519:` and 64 hexadecimal digits, as `form key show` prints it
    #[arg(value_name = "PUBLIC_KEY")]
    public: PublicKey,
    #[command(flatten)]
    till: Till,
}

/// `form network need`.
#[derive(Debug, Args)]
pub struct NeedArgs {
    /// How many: 1 to 16, and not more than there are
    #[arg(value_name = "N", value_parser = clap::value_parser!(u8).range(1..=16))]
    needed: u8,
    #[command(flatten)]
    till: Till,
}

/// `form network revoke-node`.
#[derive(Debug, Args)]
#[command(
    after_help = "What the node wrote counts as far as the cut-off says. Without one: what the act has seen of it.
A node whose key was stolen is cut off at a checkpoint from before the theft: `form ledger status` shows heights."
)]
pub struct RevokeNodeArgs {
    /// Name, id, or the beginning of the id
    #[arg(value_name = "NODE")]
    node: String,
    /// Height of the checkpoint up to which what it wrote counts
    #[arg(long, value_name = "HEIGHT")]
    cutoff: Option<u64>,
    #[command(flatten)]
    till: Till,
}

/// `form network reinstate-node`.
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// Name, id, or the beginning of the id
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    till: Till,
}

/// `form network witnesses`.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  form network witnesses first second third fourth       any three of them certify
More than two thirds of the weight certify. The new set votes two checkpoints after the act is final.")]
pub struct WitnessesArgs {
    /// Name, id, or the beginning of the id of a node; with =WEIGHT, how much its vote counts [default: 1]
    #[arg(value_name = "NODE[=WEIGHT]", required = true)]
    witnesses: Vec<String>,
    #[command(flatten)]
    till: Till,
}

/// `form network activate`.
#[derive(Debug, Args)]
pub struct ActivateArgs {
    /// The kind's number
    #[arg(value_name = "KIND")]
    kind: u16,
    /// The version
    #[arg(value_name = "VERSION")]
    version: u8,
    #[command(flatten)]
    till: Till,
}

/// `form network mint`.
#[derive(Debug, Args)]
pub struct MintArgs {
    /// Who gets them: name, id, or the beginning of the id of an account
    #[arg(value_name = "ACCOUNT")]
    account: String,
    /// How many, in the smallest unit
    #[arg(value_name = "AMOUNT", value_parser = clap::value_parser!(u64).range(1..))]
    amount: u64,
    #[command(flatten)]
    till: Till,
}

#[derive(Serialize)]
struct NetworkShown {
    genesis: NetworkView,
    charter: CharterView,
    waiting: Vec<ActView>,
}

impl NetworkCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let (act, till) = match self {
            NetworkCommand::Show => return show(invocation).await,
            NetworkCommand::Acts => return acts(invocation).await,
            NetworkCommand::Act(ActArg { act }) => return show_act(invocation, &invocation.act(&act).await?),
            NetworkCommand::Approve(ActArg { act }) => return approve(invocation, &act).await,
            NetworkCommand::AddAdmin(AdminArgs { public, till }) => (Act::AddAdmin(public), till),
            NetworkCommand::RemoveAdmin(AdminArgs { public, till }) => (Act::RemoveAdmin(public), till),
            NetworkCommand::Need(NeedArgs { needed, till }) => (Act::SetAdminsNeeded(needed), till),
            NetworkCommand::RevokeNode(RevokeNodeArgs { node, cutoff, till }) => {
                let node = invocation.node(&node).await?.id;
                (Act::RevokeNode { node, cutoff }, till)
            }
            NetworkCommand::ReinstateNode(NodeArgs { node, till }) => {
                (Act::ReinstateNode(invocation.node(&node).await?.id), till)
            }
            NetworkCommand::Witnesses(WitnessesArgs { witnesses, till }) => {
                (witness_set(invocation, &witnesses).await?, till)
            }
            NetworkCommand::Activate(ActivateArgs { kind, version, till }) => {
                (Act::Activate { kind, version }, till)
            }
            NetworkCommand::Mint(MintArgs {
                account,
                amount,
                till,
            }) => {
                let account = invocation.account(&account).await?.id;
                (Act::Mint { account, amount }, till)
            }
        };
        begin(invocation, act, &till).await
    }
}

async fn begin(invocation: &Invocation, act: Act, till: &Till) -> Result<(), Failure> {
    let approval = ApproveAct {
        act,
        salt: random_16()?,
        expires_ms: now_ms().saturating_add(till.expires),
    };
    sign(invocation, approval).await
}

/// Approves an act that somebody began. What is signed is what the node shows, so it is read, not believed.
async fn approve(invocation: &Invocation, called: &str) -> Result<(), Failure> {
    let shown = invocation.act(called).await?;
    let lies = || {
        let failure = format!(
            "{} gives an approval that is not of the act {}",
            invocation.api_url(),
            shown.id
        );
        Failure::new(Exit::Failed, failure).hint("ask another node with --api")
    };
    let bytes = HEXLOWER.decode(shown.approval.as_bytes()).map_err(|_| lies())?;
    let approval: ApproveAct = codec::decode(&bytes, ENTRY_BYTES_MAX, "an approval").map_err(|_| lies())?;
    if approval.id(invocation.network().await?) != shown.id {
        return Err(lies());
    }
    match shown.state {
        ActWord::Waiting => {}
        ActWord::Done => {
            return Err(Failure::new(Exit::Conflict, "the act has taken effect already"));
        }
        ActWord::Lapsed => {
            return Err(
                Failure::new(Exit::Conflict, "the time for approving the act is over").hint("begin it anew"),
            );
        }
    }
    invocation
        .output
        .note(&format!("You approve: {}", words(&approval.act)));
    sign(invocation, approval).await
}

async fn sign(invocation: &Invocation, approval: ApproveAct) -> Result<(), Failure> {
    let id = approval.id(invocation.network().await?);
    submit(invocation, approval).await?;
    let act = invocation.act(&id.to_string()).await?;
    show_act(invocation, &act)?;
    if act.state == ActWord::Waiting {
        invocation.output.note(&format!(
            "Next, by another admin: form network approve {}",
            act.id.short()
        ));
    }
    Ok(())
}

async fn witness_set(invocation: &Invocation, named: &[String]) -> Result<Act, Failure> {
    let mut witnesses = Vec::new();
    for text in named {
        let (called, weight) = match text.rsplit_once('=') {
            None => (text.as_str(), 1),
            Some((called, weight)) => {
                let weight = weight
                    .parse()
                    .ok()
                    .filter(|weight| (1..=WEIGHT_MAX).contains(weight));
                let wrong = || Failure::new(Exit::Usage, format!("`{text}`: a weight is 1 to {WEIGHT_MAX}"));
                (called, weight.ok_or_else(wrong)?)
            }
        };
        let node = invocation.node(called).await?;
        if !node.roles.contains(&Role::Witness) {
            invocation.output.note(&format!(
                "{called} does not have the role `witness`: its operator may not expect to certify."
            ));
        }
        witnesses.push(Witness {
            node: node.id,
            weight,
        });
    }
    let set = WitnessSet::new(witnesses).map_err(|error| {
        Failure::new(Exit::Usage, format!("these cannot be the witnesses: {error}"))
            .hint("name each node once, at most 64")
    })?;
    Ok(Act::SetWitnesses(set))
}

async fn show(invocation: &Invocation) -> Result<(), Failure> {
    let shown = NetworkShown {
        genesis: invocation.client()?.network().await?,
        charter: invocation.charter().await?,
        waiting: invocation.acts(Some("waiting")).await?,
    };
    let nodes = invocation.nodes().await?;
    let name_of = |id: &ledger::id::NodeId| {
        let node = nodes.iter().find(|node| node.id == *id);
        node.and_then(|node| node.name.clone())
            .unwrap_or_else(|| id.short())
    };
    let fields = |shown: &NetworkShown| {
        let (genesis, charter) = (&shown.genesis, &shown.charter);
        let witnesses = charter.witnesses.iter();
        let witnesses: Vec<String> = witnesses
            .map(|(node, weight)| format!("{} ({weight})", name_of(node)))
            .collect();
        let mut fields = vec![
            ("network", format!("{} ({})", genesis.name, genesis.id)),
            ("began", ago(genesis.created_ms, now_ms())),
            (
                "admins",
                format!("{}, {} needed", charter.admins.len(), charter.admins_needed),
            ),
        ];
        for admin in &charter.admins {
            let since = admin.since_ms.map_or("from the beginning".to_owned(), |at_ms| {
                format!("since {}", ago(at_ms, now_ms()))
            });
            fields.push(("admin", format!("{}, {since}", admin.key)));
        }
        fields.push(("witnesses", witnesses.join(" ")));
        fields.push(("minted", charter.minted.to_string()));
        for it in &charter.activations {
            let since = ago(it.at_ms, now_ms());
            fields.push((
                "activated",
                format!("kind {} version {}, {since}", it.kind, it.version),
            ));
        }
        for act in &shown.waiting {
            let count = approvals(act);
            fields.push(("waits", format!("{}: {} ({count})", act.id.short(), act.what)));
        }
        fields
    };
    invocation
        .output
        .one(&shown, fields, |shown| shown.genesis.id.to_string())
}

async fn acts(invocation: &Invocation) -> Result<(), Failure> {
    let acts = invocation.acts(None).await?;
    let row = |act: &ActView| {
        vec![
            act.id.short(),
            act.state.as_str().into(),
            approvals(act),
            ago(act.begun_ms, now_ms()),
            act.what.clone(),
        ]
    };
    let header = ["ID", "STATE", "APPROVALS", "BEGUN", "WHAT"];
    invocation
        .output
        .list(&acts, &header, row, |act| act.id.to_string())
}

fn approvals(act: &ActView) -> String {
    match act.state {
        // How many are needed may have changed since.
        ActWord::Done => act.approvals.len().to_string(),
        ActWord::Waiting | ActWord::Lapsed => format!("{} of {}", act.approvals.len(), act.admins_needed),
    }
}

fn show_act(invocation: &Invocation, act: &ActView) -> Result<(), Failure> {
    let fields = |act: &ActView| {
        let mut fields = vec![
            ("act", act.id.to_string()),
            ("what", act.what.clone()),
            ("state", act.state.as_str().into()),
            ("approvals", approvals(act)),
        ];
        fields.extend(act.approvals.iter().map(|key| ("by", key.clone())));
        if act.state == ActWord::Waiting {
            fields.push(("waits for", span(act.expires_ms.saturating_sub(now_ms()))));
        }
        fields
    };
    invocation.output.one(act, fields, |act| act.id.to_string())
}
