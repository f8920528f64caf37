//! `form agent`: named programs. A release is an image and the machine that it wants; instances of an
//! older release stay as they are.

use api::views::agents::AgentView;
use clap::{Args, Subcommand};
use ledger::command::agents::{RegisterAgent, Release, UpdateAgent};
use ledger::command::instances::Shape;

use crate::commands::node::label;
use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::ago;
use crate::submit::{now_ms, submit};

/// Agents: register, update, list, show.
#[derive(Debug, Subcommand)]
pub enum AgentCommand {
    /// Register an agent of a build
    Register(RegisterArgs),
    /// Change an agent's release; what is not given stays
    Update(UpdateArgs),
    /// List the network's agents
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show an agent
    Show(AgentArg),
}

/// `form agent register`.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// Its name, unique in the network; it is served as NAME.fog
    #[arg(value_name = "NAME", value_parser = label)]
    name: String,
    /// The build of its image: id or the beginning of it
    #[arg(long, value_name = "ID")]
    build: String,
    /// What it is, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    /// Virtual processors of an instance
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=128))]
    vcpus: u8,
    /// Memory of an instance, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..=256_000))]
    memory: u32,
    /// Writable disk of an instance, in GiB
    #[arg(long, value_name = "GIB", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    disk: u16,
    /// The port that its instances serve on
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// `form agent update`.
#[derive(Debug, Args)]
pub struct UpdateArgs {
    /// Which agent: name, id, or the beginning of the id
    #[arg(value_name = "AGENT")]
    agent: String,
    /// The build of its image: id or the beginning of it
    #[arg(long, value_name = "ID")]
    build: Option<String>,
    /// What it is, for people
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Virtual processors of an instance
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=128))]
    vcpus: Option<u8>,
    /// Memory of an instance, in MiB
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(128..=256_000))]
    memory: Option<u32>,
    /// Writable disk of an instance, in GiB
    #[arg(long, value_name = "GIB", value_parser = clap::value_parser!(u16).range(1..))]
    disk: Option<u16>,
    /// The port that its instances serve on
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
}

/// `form agent list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only your account's
    #[arg(long)]
    mine: bool,
}

/// Which agent.
#[derive(Debug, Args)]
pub struct AgentArg {
    /// Name, id, or the beginning of the id
    #[arg(value_name = "AGENT")]
    agent: String,
}

impl AgentCommand {
    /// Does it.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        match self {
            AgentCommand::Register(args) => register(args, invocation).await,
            AgentCommand::Update(args) => update(args, invocation).await,
            AgentCommand::List(ListArgs { mine }) => {
                let mut agents = invocation.agents().await?;
                if mine {
                    let me = invocation.me().await?.id;
                    agents.retain(|agent| agent.owner == me);
                }
                let row = |agent: &AgentView| {
                    vec![
                        agent.name.clone(),
                        agent.id.short(),
                        agent.owner_name.clone().unwrap_or_else(|| agent.owner.short()),
                        agent.version.to_string(),
                        ago(agent.updated_ms, now_ms()),
                        agent.description.clone(),
                    ]
                };
                let header = ["NAME", "ID", "OWNER", "RELEASE", "UPDATED", "DESCRIPTION"];
                invocation
                    .output
                    .list(&agents, &header, row, |agent| agent.name.clone())
            }
            AgentCommand::Show(AgentArg { agent }) => show(invocation, &invocation.agent(&agent).await?),
        }
    }
}

async fn register(args: RegisterArgs, invocation: &Invocation) -> Result<(), Failure> {
    let build = invocation.build(&args.build).await?.id;
    let shape = Shape {
        vcpus: args.vcpus,
        memory_mib: args.memory,
        disk_gib: args.disk,
    };
    let release = Release {
        description: args.description,
        build,
        shape,
        port: args.port,
    };
    let id = submit(
        invocation,
        RegisterAgent {
            name: args.name,
            release,
        },
    )
    .await?;
    let agent = invocation.agent(&id.to_string()).await?;
    show(invocation, &agent)?;
    invocation
        .output
        .note(&format!("Next: form instance launch {}", agent.name));
    Ok(())
}

async fn update(args: UpdateArgs, invocation: &Invocation) -> Result<(), Failure> {
    let UpdateArgs {
        agent,
        build,
        description,
        vcpus,
        memory,
        disk,
        port,
    } = args;
    let nothing = build.is_none() && description.is_none() && port.is_none();
    if nothing && vcpus.is_none() && memory.is_none() && disk.is_none() {
        let failure = Failure::new(Exit::Usage, "nothing was said about what shall change");
        return Err(
            failure.hint("give at least one of --build, --description, --vcpus, --memory, --disk, --port")
        );
    }
    let agent = invocation.agent(&agent).await?;
    let build = match build {
        Some(build) => invocation.build(&build).await?.id,
        None => agent.build,
    };
    let shape = Shape {
        vcpus: vcpus.unwrap_or(agent.shape.vcpus),
        memory_mib: memory.unwrap_or(agent.shape.memory_mib),
        disk_gib: disk.unwrap_or(agent.shape.disk_gib),
    };
    let description = description.unwrap_or(agent.description);
    let release = Release {
        description,
        build,
        shape,
        port: port.or(agent.port),
    };
    submit(
        invocation,
        UpdateAgent {
            agent: agent.id,
            release,
        },
    )
    .await?;
    show(invocation, &invocation.agent(&agent.id.to_string()).await?)?;
    invocation
        .output
        .note("Its instances stay as they are; `form instance launch` starts one of this release, `form ship` replaces them.");
    Ok(())
}

fn show(invocation: &Invocation, agent: &AgentView) -> Result<(), Failure> {
    let fields = |agent: &AgentView| {
        let shape = agent.shape;
        vec![
            ("name", agent.name.clone()),
            ("id", agent.id.to_string()),
            (
                "owner",
                agent
                    .owner_name
                    .clone()
                    .unwrap_or_else(|| agent.owner.to_string()),
            ),
            ("description", agent.description.clone()),
            ("release", agent.version.to_string()),
            ("build", agent.build.to_string()),
            (
                "image",
                agent
                    .image
                    .map_or("not built yet".into(), |image| image.to_string()),
            ),
            (
                "machine",
                format!(
                    "{} vCPU, {} MiB memory, {} GiB disk",
                    shape.vcpus, shape.memory_mib, shape.disk_gib
                ),
            ),
            ("port", agent.port.map_or("none".into(), |port| port.to_string())),
            ("updated", ago(agent.updated_ms, now_ms())),
        ]
    };
    invocation.output.one(agent, fields, |agent| agent.name.clone())
}
