//! The words that `form` understands: a noun, then a verb, a file for each noun.

pub mod account;
pub mod agent;
pub mod backup;
pub mod completion;
pub mod credits;
pub mod domain;
pub mod instance;
pub mod key;
pub mod ledger;
pub mod network;
pub mod node;
pub mod ops;
pub mod pack;
pub mod ship;
pub mod status;

use api::client::WaitFor;
use clap::{Args, Parser, Subcommand};

use crate::exit::Failure;
use crate::invocation::Invocation;
use crate::keys::DEFAULT_KEY;
use crate::output::Format;

/// Formation: a cloud without an owner. Build agents from Formfiles and run them on the network's nodes.
#[derive(Debug, Parser)]
#[command(
    name = "form",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    max_term_width = 100,
    after_help = "Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not found, 4 conflict or exists, 5 denied, \
6 timeout, 7 node or resources unavailable."
)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// The noun.
    #[command(subcommand)]
    pub noun: Noun,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The node's API; for `node init` and `node run`: where this node's API listens
    /// [env: FORM_API] [default: http://127.0.0.1:3004]
    // Read from the environment by hand: the daemon must not listen where a client's environment points.
    #[arg(long, global = true, value_name = "URL")]
    pub api: Option<String>,

    /// The key to sign with
    #[arg(long, global = true, value_name = "NAME", env = "FORM_KEY", hide_env_values = true, default_value = DEFAULT_KEY)]
    pub key: String,

    /// How sure a command has to be before it is answered: `tentative`, `replicated:N` (N other nodes hold it, so
    /// it outlives this one), or `final` (its outcome stands for ever)
    #[arg(long, global = true, value_name = "WAIT", default_value = "tentative", value_parser = until)]
    pub until: WaitFor,

    /// How results are written to standard output
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub output: Format,

    /// No remarks and no progress; lists give names only
    #[arg(short, long, global = true)]
    pub quiet: bool,

    /// No colours (also NO_COLOR)
    #[arg(long, global = true)]
    pub no_color: bool,
}

/// What a person can wait for. That nobody waits is for programs.
fn until(text: &str) -> Result<WaitFor, String> {
    match text.parse() {
        Ok(WaitFor::Nothing) | Err(_) => Err("`tentative`, `replicated:N` or `final` is expected".into()),
        Ok(wait) => Ok(wait),
    }
}

/// What a command is about.
// One value of it lives as long as the process: its size does not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Your keys: make, list, show, consent
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Nodes: set one up, invite one, run one, look at them
    #[command(subcommand)]
    Node(node::NodeCommand),
    /// The network: its admins, and what they do together
    #[command(subcommand)]
    Network(network::NetworkCommand),
    /// Accounts: open yours, list, show, and the keys that sign for it
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Credits: what you have, transfer, let a node charge
    #[command(subcommand)]
    Credits(credits::CreditsCommand),
    /// Agents: register, update, list, show
    #[command(subcommand)]
    Agent(agent::AgentCommand),
    /// Formfiles and images: validate, build, list
    #[command(subcommand)]
    Pack(pack::PackCommand),
    /// Build, register, launch and wait: from a Formfile to a serving agent
    Ship(ship::ShipArgs),
    /// Instances: launch, list, show, stop, start, delete, logs
    #[command(subcommand)]
    Instance(instance::InstanceCommand),
    /// Domain names: list, claim, release
    #[command(subcommand)]
    Domain(domain::DomainCommand),
    /// The network's log: read it, look at one op, verify it
    #[command(subcommand)]
    Ops(ops::OpsCommand),
    /// The node's ledger: how far it is final, its chains, what waits and what it refused
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// The network as the node sees it
    Status(status::StatusArgs),
    /// Write a node, with its key and its log, to one file
    Backup(backup::BackupArgs),
    /// Make a node's folder from such a file
    Restore(backup::RestoreArgs),
    /// A completion script for a shell
    Completion(completion::CompletionArgs),
}

impl Noun {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            Noun::Key(command) => command.run(invocation).await,
            Noun::Node(command) => command.run(invocation).await,
            Noun::Network(command) => command.run(invocation).await,
            Noun::Account(command) => command.run(invocation).await,
            Noun::Credits(command) => command.run(invocation).await,
            Noun::Agent(command) => command.run(invocation).await,
            Noun::Pack(command) => command.run(invocation).await,
            Noun::Ship(args) => args.run(invocation).await,
            Noun::Instance(command) => command.run(invocation).await,
            Noun::Domain(command) => command.run(invocation).await,
            Noun::Ops(command) => command.run(invocation).await,
            Noun::Ledger(command) => command.run(invocation).await,
            Noun::Status(args) => args.run(invocation).await,
            Noun::Backup(args) => args.run(invocation).await,
            Noun::Restore(args) => args.run(invocation),
            Noun::Completion(args) => args.run(invocation),
        }
    }
}
