//! Reads, plans and does: the hand itself.

use std::io;
use std::path::PathBuf;

use net::guests::GuestTable;
use tokio::sync::Mutex;

use crate::filter;
use crate::io::kernel::{Kernel, KernelError};
use crate::io::nft;
use crate::io::{sysctl, tap};
use crate::plan::{self, Found, RouterBefore, Step, TableError};

/// How the hand works on this host.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The uid that machines run as: it may attach to the taps. `None`: only root.
    pub tap_owner_uid: Option<u32>,
    /// Port of the node's DNS, which guests may ask.
    pub dns_port: u16,
    /// The `nft` program.
    pub nft: PathBuf,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            tap_owner_uid: None,
            dns_port: 53,
            nft: PathBuf::from("nft"),
        }
    }
}

/// The host's links, routes and filters, in the network namespace in which it was opened.
pub struct Mesh {
    config: MeshConfig,
    kernel: Kernel,
    /// One change at a time: two plans must not be made from one reading. Holds what the host forwarded before
    /// us, for the case that somebody flushes the rules that also remember it.
    turn: Mutex<RouterBefore>,
}

/// What an apply changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Taps made.
    pub taps_made: Vec<String>,
    /// Taps removed.
    pub taps_removed: Vec<String>,
    /// Taps that the table no longer has but that a machine still uses: they carry nothing and go at the next
    /// apply after the machine.
    pub taps_in_use: Vec<String>,
    /// Addresses added or removed.
    pub addresses: usize,
    /// Routes added or removed.
    pub routes: usize,
    /// The rules were replaced.
    pub filter: bool,
}

impl Changes {
    /// Nothing was different.
    pub fn is_empty(&self) -> bool {
        *self
            == Self {
                taps_in_use: self.taps_in_use.clone(),
                ..Self::default()
            }
    }
}

/// Why the hand could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Netlink could not be opened.
    #[error("could not speak with the kernel's network part")]
    Netlink(#[source] io::Error),
    /// Not allowed, or `nft` is missing.
    #[error("cannot set up the guests' network: {reason}; the compute role needs root and nftables")]
    Unable {
        /// What failed.
        reason: String,
    },
}

/// A step that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedStep {
    /// What was being done.
    pub step: String,
    /// Why it failed.
    pub reason: String,
}

/// Why a table was not wholly applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The table makes no sense; nothing was changed.
    #[error("the table of guests is refused")]
    Table(#[from] TableError),
    /// What the kernel holds could not be read; nothing was changed.
    #[error("could not read the host's network: {reason}")]
    Read {
        /// What failed.
        reason: String,
    },
    /// Some steps failed, the others were done. Applying again tries what is left.
    #[error("{} of the host's network changes failed, first: {}: {}", failed.len(), failed[0].step, failed[0].reason)]
    Steps {
        /// At least one.
        failed: Vec<FailedStep>,
        /// What was done all the same.
        done: Changes,
    },
}

/// Why not everything of ours was taken away.
#[derive(Debug, thiserror::Error)]
#[error("could not take the guests' network away: {reason}")]
pub struct ClearError {
    reason: String,
}

impl Mesh {
    /// Opens the hand in the network namespace of the calling thread and checks that it may work here. Changes
    /// nothing.
    pub async fn open(config: MeshConfig) -> Result<Self, OpenError> {
        let kernel = Kernel::open().map_err(OpenError::Netlink)?;
        let mesh = Self {
            config,
            kernel,
            turn: Mutex::default(),
        };
        let (_, now, standing) = mesh.read().await.map_err(|reason| OpenError::Unable { reason })?;
        *mesh.turn.lock().await = standing.unwrap_or(now);
        Ok(mesh)
    }

    /// Makes the host's network match the table. Not to be called with a table made before the ledger was
    /// read: it would take for gone what is only not known yet (taps in use stay even so).
    pub async fn apply(&self, table: &GuestTable) -> Result<Changes, ApplyError> {
        let mut remembered = self.turn.lock().await;
        plan::check(table)?;
        let (found, _, standing) = self.read().await.map_err(|reason| ApplyError::Read { reason })?;
        let before = standing.unwrap_or(*remembered);
        *remembered = before;
        let version = filter::version(table, before, self.config.dns_port);
        let plan = plan::plan(table, version, &found);
        let mut done = Changes {
            taps_in_use: plan.taps_in_use,
            ..Changes::default()
        };
        let mut failed = Vec::new();
        for step in plan.steps {
            let result = match &step {
                Step::Filter => {
                    let rules = filter::ruleset(table, before, self.config.dns_port, version);
                    nft::apply(&self.config.nft, &rules)
                        .await
                        .map_err(|error| reason(&error))
                }
                step => self.take(step).await,
            };
            match result {
                Ok(()) => note(&mut done, &step),
                Err(reason) => {
                    let rules_stand = step != Step::Filter;
                    failed.push(FailedStep {
                        step: describe(&step),
                        reason,
                    });
                    if !rules_stand {
                        // Without the rules no guest may be let onto the network.
                        break;
                    }
                }
            }
        }
        if failed.is_empty() {
            Ok(done)
        } else {
            Err(ApplyError::Steps { failed, done })
        }
    }

    /// Takes away everything that is ours, also from under running machines, and puts forwarding back.
    pub async fn clear(&self) -> Result<(), ClearError> {
        let remembered = self.turn.lock().await;
        let (found, _, standing) = self.read().await.map_err(|reason| ClearError { reason })?;
        let before = standing.unwrap_or(*remembered);
        let mut failed = Vec::new();
        for step in plan::plan_clear(&found) {
            if let Err(reason) = self.take(&step).await {
                failed.push(format!("{}: {reason}", describe(&step)));
            }
        }
        if found.filter.is_some() {
            let removed = nft::apply(&self.config.nft, &filter::no_ruleset()).await;
            let restored = sysctl::restore(before);
            failed.extend(removed.err().map(|error| format!("rules: {}", reason(&error))));
            failed.extend(restored.err().map(|error| format!("forwarding: {error}")));
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(ClearError {
                reason: failed.join("; "),
            })
        }
    }

    /// What stands, what the host forwards now, and what our rules say that it did before us.
    async fn read(&self) -> Result<(Found, RouterBefore, Option<RouterBefore>), String> {
        let reading = self.kernel.read().await.map_err(|error| reason(&error))?;
        let standing = nft::read(&self.config.nft)
            .await
            .map_err(|error| reason(&error))?;
        let now = sysctl::forwards().map_err(|error| format!("sysctl: {error}"))?;
        let found = Found {
            links: reading.links,
            addresses: reading.addresses,
            routes: reading.routes,
            // A table of ours without a version is none that we made whole.
            filter: standing.map(|standing| standing.version.unwrap_or(0)),
            forwards: now.ipv4 && now.ipv6,
        };
        Ok((found, now, standing.map(|standing| standing.before)))
    }

    async fn take(&self, step: &Step) -> Result<(), String> {
        let system = |result: io::Result<()>| result.map_err(|error| error.to_string());
        let kernel = |result: Result<(), KernelError>| result.map_err(|error| reason(&error));
        match step {
            Step::Filter => Ok(()),
            Step::Forward => system(sysctl::forward()),
            Step::MakeTap(name) => system(tap::make(name, self.config.tap_owner_uid)),
            Step::SetUp(name) => {
                system(sysctl::set_up_tap(name))?;
                kernel(self.kernel.bring_up(name).await)
            }
            Step::AddAddress(address) => kernel(self.kernel.add_address(address).await),
            Step::RemoveAddress(address) => kernel(self.kernel.remove_address(address).await),
            Step::AddRoute(route) => kernel(self.kernel.add_route(route).await),
            Step::RemoveRoute(route) => kernel(self.kernel.remove_route(route).await),
            Step::RemoveTap(name) => kernel(self.kernel.remove_link(name).await),
        }
    }
}

fn note(done: &mut Changes, step: &Step) {
    match step {
        Step::Filter => done.filter = true,
        Step::MakeTap(name) => done.taps_made.push(name.clone()),
        Step::RemoveTap(name) => done.taps_removed.push(name.clone()),
        Step::AddAddress(_) | Step::RemoveAddress(_) => done.addresses += 1,
        Step::AddRoute(_) | Step::RemoveRoute(_) => done.routes += 1,
        Step::Forward | Step::SetUp(_) => {}
    }
}

fn describe(step: &Step) -> String {
    match step {
        Step::Forward => "let the host forward".to_owned(),
        Step::Filter => "set the filter rules".to_owned(),
        Step::MakeTap(name) => format!("make the tap {name}"),
        Step::SetUp(name) => format!("bring up the tap {name}"),
        Step::RemoveTap(name) => format!("remove the tap {name}"),
        Step::AddAddress(a) => format!("add {}/{} on {}", a.address, a.prefix, a.link),
        Step::RemoveAddress(a) => format!("remove {}/{} from {}", a.address, a.prefix, a.link),
        Step::AddRoute(route) => format!("add the route to {}/{}", route.to, route.prefix),
        Step::RemoveRoute(route) => format!("remove the route to {}/{}", route.to, route.prefix),
    }
}

fn reason(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
