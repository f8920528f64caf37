//! `form ship`: from a folder with a Formfile to an agent that serves, in one word.
//!
//! ```text
//! validate ─▶ upload ─▶ build ─▶ register or update the agent ─▶ claim DOMAINS ─▶ launch ─▶ wait
//!                                               delete the instances before it ◀─ serves ─┘
//! ```
//! What can be refused is refused before anything is built. The instances of an earlier release go only
//! when the new one serves; when it fails they stay, and it stays too, so that a person can look at it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api::client::ListQuery;
use api::views::agents::AgentView;
use api::views::builds::BuildView;
use api::views::domains::{DomainOrigin, DomainView};
use api::views::instances::{InstanceView, InstanceWord, WantedWord};
use api::views::nodes::Role;
use clap::Args;
use ledger::command::accounts::{NAME_MAX, check_label};
use ledger::command::agents::{DESCRIPTION_MAX, RegisterAgent, Release, UpdateAgent};
use ledger::command::domains::ClaimDomain;
use ledger::command::instances::{DeleteInstance, LaunchInstance, Shape};
use ledger::id::{AccountId, AgentId, BuildId, CommandId, InstanceId};
use pack::Formfile;
use projections::agents::vanity_name;
use serde::Serialize;
use tokio::time::Instant;

use crate::commands::instance::{called, failed};
use crate::commands::pack::{Source, ask_for_image, await_image, last_lines};
use crate::exit::{Exit, Failure};
use crate::invocation::Invocation;
use crate::output::span;
use crate::patience::{Patience, duration};
use crate::progress::Progress;
use crate::submit::{submit, submit_after};

/// How long "no node can hold it" must last before it is believed, in milliseconds: nodes that have just
/// started have not shown themselves yet.
const CANNOT_PLACE_MS: u64 = 5_000;

/// `form ship`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  form ship                                 the Formfile of this folder
  form ship examples/hello-agent --timeout 15m
  form ship --output json | jq .timeline")]
pub struct ShipArgs {
    #[command(flatten)]
    source: Source,
    /// What the agent is called, and where it is served: NAME.fog [default: NAME of the Formfile]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// How long to wait in all
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    timeout: Duration,
}

/// What came of it.
#[derive(Serialize)]
struct Shipped {
    agent: AgentView,
    build: BuildView,
    instance: InstanceView,
    names: Vec<String>,
    replaced: Vec<String>,
    curl: Option<String>,
    timeline: Vec<Mark>,
}

/// A step, and when it was seen to be done, counted from the start of the command.
#[derive(Serialize)]
struct Mark {
    step: &'static str,
    ms: u64,
}

/// What is looked up before anything is built.
struct Ground {
    me: AccountId,
    name: String,
    /// The agent, if it is there already.
    agent: Option<AgentView>,
    /// Of DOMAINS those that are not claimed yet.
    unclaimed: Vec<String>,
}

impl ShipArgs {
    /// Ships.
    pub async fn run(self, invocation: &Invocation) -> Result<(), Failure> {
        let ShipArgs {
            source,
            name,
            timeout,
        } = self;
        let formfile = source.formfile(invocation)?;
        let name = name.unwrap_or_else(|| formfile.slug());
        check_label(&name).map_err(|_| {
            Failure::new(Exit::Usage, format!("`{name}` cannot name an agent"))
                .hint("use 1 to 63 of a-z, 0-9 and inner hyphens")
        })?;
        let patience = Patience::new(timeout);
        let mut ship = Ship {
            invocation,
            progress: Progress::new(invocation.output),
            timeline: Vec::new(),
        };
        let shipped = ship.ship(&source, &formfile, name, patience).await?;
        drop(ship);
        let fields = |shipped: &Shipped| {
            let instance = &shipped.instance;
            let steps = shipped
                .timeline
                .iter()
                .map(|mark| format!("{} {}", mark.step, span(mark.ms)));
            let mut fields = vec![
                (
                    "agent",
                    format!("{}, release {}", shipped.agent.name, shipped.agent.version),
                ),
                (
                    "instance",
                    format!("{} ({})", called(instance), instance.id.short()),
                ),
                (
                    "node",
                    instance.node_name.clone().unwrap_or_else(|| "none".into()),
                ),
                (
                    "address",
                    instance
                        .address
                        .map_or("none".into(), |address| address.to_string()),
                ),
                ("names", shipped.names.join(" ")),
                ("timeline", steps.collect::<Vec<_>>().join(", ")),
            ];
            if !shipped.replaced.is_empty() {
                fields.push(("replaced", shipped.replaced.join(" ")));
            }
            fields.extend(shipped.curl.clone().map(|line| ("try", line)));
            fields
        };
        invocation
            .output
            .one(&shipped, fields, |shipped| shipped.instance.id.to_string())
    }
}

struct Ship<'a> {
    invocation: &'a Invocation,
    progress: Progress,
    timeline: Vec<Mark>,
}

impl Ship<'_> {
    async fn ship(
        &mut self,
        source: &Source,
        formfile: &Formfile,
        name: String,
        patience: Patience,
    ) -> Result<Shipped, Failure> {
        let ground = self.look_around(formfile, name).await?;
        let id = ask_for_image(self.invocation, source, formfile, &mut self.progress).await?;
        self.mark("accepted");
        let build = await_image(self.invocation, id, patience, &mut self.progress).await?;
        self.mark("built");

        let release = release(formfile, id);
        let (agent, release_command) = self.put_agent(&ground, release.clone()).await?;
        for domain in &ground.unclaimed {
            let claim = ClaimDomain {
                name: domain.clone(),
                agent,
            };
            submit_after(self.invocation, claim, &[release_command]).await?;
            self.progress.done(&format!("claimed {domain}"));
        }

        let (previous, instance_name) = self.instances_before(&ground, agent).await?;
        let launch = LaunchInstance {
            name: instance_name,
            agent: Some(agent),
            build: id,
            shape: release.shape,
            port: release.port,
        };
        let launched = submit_after(self.invocation, launch, &[release_command]).await?;
        let instance = self.await_serving(launched.into(), patience).await?;

        let mut replaced = Vec::new();
        for old in &previous {
            match submit(self.invocation, DeleteInstance { instance: old.id }).await {
                Ok(_) => replaced.push(called(old)),
                // Someone else has deleted it since.
                Err(failure) if matches!(failure.exit, Exit::NotFound | Exit::Conflict) => {}
                Err(failure) => return Err(failure),
            }
        }
        if !replaced.is_empty() {
            self.progress
                .done(&format!("deleted {}, which it replaces", replaced.join(" ")));
        }

        let agent = self.invocation.agent(&agent.to_string()).await?;
        let vanity = vanity_name(&agent.name);
        let mut names = vec![vanity.clone()];
        names.extend(formfile.domains.iter().cloned());
        let mut others = instance.names.clone();
        others.sort();
        names.extend(others);
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let curl = self.curl_line(&vanity).await;
        Ok(Shipped {
            agent,
            build,
            instance,
            names,
            replaced,
            curl,
            timeline: std::mem::take(&mut self.timeline),
        })
    }

    fn mark(&mut self, step: &'static str) {
        if self.timeline.iter().all(|mark| mark.step != step) {
            self.timeline.push(Mark {
                step,
                ms: self.progress.elapsed_ms(),
            });
        }
    }

    /// What would make it fail at the end makes it fail here.
    async fn look_around(&mut self, formfile: &Formfile, name: String) -> Result<Ground, Failure> {
        self.progress.now("looking at the network");
        if let Some(gpu) = formfile.shape().gpus.first() {
            let failure = Failure::new(
                Exit::Unavailable,
                format!("no node offers a GPU ({})", gpu.model.word()),
            );
            return Err(failure.hint("remove the GPU line from the Formfile"));
        }
        let me = self.invocation.me().await?.id;
        let of_name = ListQuery {
            name: Some(name.clone()),
            ..ListQuery::default()
        };
        let agent = self
            .invocation
            .client()?
            .agents(&of_name)
            .await?
            .items
            .into_iter()
            .next();
        if let Some(agent) = agent.as_ref().filter(|agent| agent.owner != me) {
            let owner = agent.owner_name.clone().unwrap_or_else(|| agent.owner.short());
            return Err(
                Failure::new(Exit::Conflict, format!("the agent `{name}` belongs to `{owner}`"))
                    .hint("choose another name with --name"),
            );
        }
        let claimed = self.invocation.domains().await?;
        let mut unclaimed = Vec::new();
        // The agent's own name leads to it anyway.
        for domain in formfile
            .domains
            .iter()
            .filter(|domain| **domain != vanity_name(&name))
        {
            let leads_here = |claim: &DomainView| agent.as_ref().is_some_and(|agent| agent.id == claim.agent);
            match claimed.iter().find(|claim| claim.name == *domain) {
                None => unclaimed.push(domain.clone()),
                Some(claim) if leads_here(claim) => {}
                // A claim goes before the name of another agent of the same account.
                Some(claim) if claim.owner == me && claim.origin == DomainOrigin::Vanity => {
                    unclaimed.push(domain.clone());
                }
                Some(claim) => {
                    let leads = claim.agent_name.clone().unwrap_or_else(|| claim.agent.short());
                    let failure = format!("the domain `{domain}` leads to the agent `{leads}` already");
                    let hint = match claim.owner == me {
                        true => format!("give it back first: form domain release {domain}"),
                        false => "choose another name in DOMAINS".into(),
                    };
                    return Err(Failure::new(Exit::Conflict, failure).hint(hint));
                }
            }
        }
        Ok(Ground {
            me,
            name,
            agent,
            unclaimed,
        })
    }

    /// Registers the agent, or gives it the new release; answers with it and the command that did it.
    async fn put_agent(
        &mut self,
        ground: &Ground,
        release: Release,
    ) -> Result<(AgentId, CommandId), Failure> {
        match &ground.agent {
            Some(agent) => {
                self.progress.now(&format!("updating the agent {}", ground.name));
                let command = submit(
                    self.invocation,
                    UpdateAgent {
                        agent: agent.id,
                        release,
                    },
                )
                .await?;
                self.progress.done(&format!("agent {} updated", ground.name));
                Ok((agent.id, command))
            }
            None => {
                self.progress
                    .now(&format!("registering the agent {}", ground.name));
                let name = ground.name.clone();
                let command = submit(self.invocation, RegisterAgent { name, release }).await?;
                self.progress.done(&format!("agent {} registered", ground.name));
                Ok((command.into(), command))
            }
        }
    }

    /// The instances that the new one replaces, and a free name for it: the agent's, else with a number.
    async fn instances_before(
        &mut self,
        ground: &Ground,
        agent: AgentId,
    ) -> Result<(Vec<InstanceView>, String), Failure> {
        let all = self.invocation.instances().await?;
        let mine: Vec<InstanceView> = all
            .into_iter()
            .filter(|instance| instance.owner == ground.me && instance.wanted != WantedWord::Deleted)
            .collect();
        let taken = |name: &str| mine.iter().any(|instance| instance.name == name);
        let numbered = (2..).map(|number: u32| {
            let suffix = format!("-{number}");
            let stem = &ground.name[..ground.name.len().min(NAME_MAX - suffix.len())];
            format!("{}{suffix}", stem.trim_end_matches('-'))
        });
        let mut names = std::iter::once(ground.name.clone()).chain(numbered);
        let name = names
            .find(|name| !taken(name))
            .expect("there are more numbers than instances");
        let previous = mine
            .into_iter()
            .filter(|instance| instance.agent == Some(agent))
            .collect();
        Ok((previous, name))
    }

    /// Waits until the instance serves, or says why it will not.
    async fn await_serving(&mut self, id: InstanceId, patience: Patience) -> Result<InstanceView, Failure> {
        let invocation = self.invocation;
        let mut shown = None;
        let mut homeless_since: Option<Instant> = None;
        let outcome = patience
            .until("the instance to serve", async || {
                let now = invocation.instance_by_id(id).await?;
                self.show_state(&now, &mut shown);
                let lasting = match (now.state, &now.why) {
                    (InstanceWord::Placing, Some(_)) => {
                        let since = *homeless_since.get_or_insert_with(Instant::now);
                        since.elapsed() > Duration::from_millis(CANNOT_PLACE_MS)
                    }
                    _ => {
                        homeless_since = None;
                        matches!(
                            now.state,
                            InstanceWord::Running
                                | InstanceWord::Failed
                                | InstanceWord::Stopped
                                | InstanceWord::Deleting
                        )
                    }
                };
                Ok(lasting.then_some(now))
            })
            .await;
        let instance = outcome.map_err(|failure| match failure.exit {
            Exit::Timeout => failure.hint(format!("it may still come up: form instance show {}", id.short())),
            _ => failure,
        })?;
        let name = called(&instance);
        match instance.state {
            InstanceWord::Running => Ok(instance),
            InstanceWord::Placing => {
                let why = instance.why.clone().unwrap_or_default();
                let failure = Failure::new(Exit::Unavailable, format!("{name} has no place: {why}"));
                Err(failure.hint(format!(
                    "it is placed once a node has room; ask for less in the Formfile, or give up with \
                     `form instance delete {name}`"
                )))
            }
            InstanceWord::Deleting => Err(Failure::new(
                Exit::Conflict,
                format!("{name} was deleted while it started"),
            )),
            _ => {
                if let Ok(log) = invocation.instance_log_tail(id).await
                    && !log.trim().is_empty()
                {
                    self.progress.remark(&last_lines(&log));
                }
                Err(match instance.state {
                    InstanceWord::Stopped => {
                        let failure =
                            format!("the entrypoint of {name} ended with status 0 before it served");
                        Failure::new(Exit::Failed, failure)
                            .hint("an ENTRYPOINT must stay in the foreground and serve on the EXPOSEd port")
                    }
                    _ => failed(&instance),
                })
            }
        }
    }

    /// Tells of what is new, and marks the steps that are reached.
    fn show_state(&mut self, now: &InstanceView, shown: &mut Option<InstanceWord>) {
        let node = now.node_name.clone().unwrap_or_default();
        if now.node.is_some() && self.timeline.iter().all(|mark| mark.step != "placed") {
            self.mark("placed");
            self.progress.done(&format!("placed on {node}"));
        }
        // The first report of the holder says that the guest booted.
        let booted = now.node.is_some() && now.reported_ms.is_some() && now.state != InstanceWord::Failed;
        if booted && self.timeline.iter().all(|mark| mark.step != "booted") {
            self.mark("booted");
            self.progress.done("booted");
        }
        if now.state == InstanceWord::Running {
            self.mark("serving");
            self.progress.done(&format!("{} serves", called(now)));
        } else if now.state == InstanceWord::Failed {
            // The failure says so, with the reason.
        } else if shown.replace(now.state) != Some(now.state) || now.why.is_some() {
            let why = now.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            self.progress.now(&format!("{}: {}{why}", called(now), now.state));
        }
    }

    /// A line that fetches the agent's answer through a front door that this person can see.
    async fn curl_line(&self, name: &str) -> Option<String> {
        let status = self.invocation.status().await.ok()?;
        let nodes = self.invocation.nodes().await.ok()?;
        let own = nodes.iter().find(|node| node.id == status.node.id);
        let listens = status.node.listens.get("proxy").into_iter().flatten();
        let here = listens
            .filter_map(|address| address.parse::<SocketAddr>().ok())
            .find_map(|address| {
                let public = own.and_then(|node| node.ipv4.first().copied()).map(IpAddr::V4);
                let ip = if address.ip().is_unspecified() {
                    public?
                } else {
                    address.ip()
                };
                Some(SocketAddr::new(ip, address.port()))
            });
        let elsewhere = || {
            let edge = nodes
                .iter()
                .find(|node| node.live && node.roles.contains(&Role::Edge))?;
            Some(SocketAddr::new(IpAddr::V4(*edge.ipv4.first()?), 80))
        };
        let door = here.or_else(elsewhere)?;
        let (ip, port) = (door.ip(), door.port());
        let shown = if port == 80 {
            String::new()
        } else {
            format!(":{port}")
        };
        let ip = if ip.is_ipv6() {
            format!("[{ip}]")
        } else {
            ip.to_string()
        };
        Some(format!("curl --resolve {name}:{port}:{ip} http://{name}{shown}/"))
    }
}

/// The release that a Formfile describes.
fn release(formfile: &Formfile, build: BuildId) -> Release {
    let shape = formfile.shape();
    let mut description = formfile.description.clone().unwrap_or_default();
    while description.len() > DESCRIPTION_MAX {
        description.pop();
    }
    Release {
        description,
        build,
        shape: Shape {
            vcpus: shape.vcpus,
            memory_mib: shape.memory_mib,
            disk_gib: shape.disk_gib,
        },
        port: formfile.expose.first().copied(),
    }
}
