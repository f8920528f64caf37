//! The hands: they do what the core asks for and tell it what came of it. Every choice was made before; a
//! hand can only do it or say why not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ledger::id::{BuildId, Digest, InstanceId, NodeId};
use net::fronts::FrontTable;
use net::guests::GuestTable;
use net::names::NameTable;
use net_gossip::Handle;
use net_mesh::Mesh;
use pack::image::{HealthCheck, ImageManifest, Manifest};
use pack::io::build::{BuildError, BuildEvent, Builder};
use pack::io::store::BlobStore;
use reactors::action::Action;
use reactors::node::{HostEvent, Input};
use reactors::observed::HeldImage;
use tokio::sync::{mpsc, watch};
use vmm::io::machines::{Machines, Stop};
use vmm::machine::{MachineState, MachineStatus};
use vmm::spec::{Health, MachineId, MachineSpec, Restart, Workload};

use super::core::{Core, Shell};
use super::{blobs, logs::Logs};

/// How often an entrypoint that fails is started again.
const RESTARTS: Restart = Restart {
    attempts: 3,
    backoff_ms: 500,
};

/// A machine whose start failed so many times counts as failed.
const STARTS_MAX: u32 = 5;

/// Logs of builds that a node keeps, at most: the newest. The builder bounds each of them.
const BUILD_LOGS_MAX: usize = 512;

/// How long a start waits for its tap.
const TAP_LIMIT: Duration = Duration::from_secs(15);

/// What comes out of the core goes to the transport and to the hands' task.
pub struct Outlet {
    /// The transport.
    pub gossip: Handle,
    /// The hands' task. What waits there is bounded by the core's pace.
    pub actions: mpsc::UnboundedSender<Action>,
}

impl Shell for Outlet {
    fn send(&mut self, to: NodeId, bytes: Vec<u8>) {
        // The transport counts what it drops; synchronisation brings it again.
        self.gossip.send(to.0, bytes);
    }

    fn disconnect(&mut self, peer: NodeId, why: &str) {
        tracing::warn!(peer = %peer.short(), why, "a peer misbehaves and is not heard any more");
    }

    fn act(&mut self, action: Action) {
        // The task ends only when the node does.
        let _ = self.actions.send(action);
    }
}

/// All hands of a node.
pub struct Hands {
    /// The core, to tell.
    pub core: Core,
    /// The transport.
    pub gossip: Handle,
    /// Images and contexts.
    pub blobs: Arc<BlobStore>,
    /// The builder, on a node that builds.
    pub builder: Option<Arc<Builder>>,
    /// The machines, on a node that runs them.
    pub machines: Option<Arc<Machines>>,
    /// Links, routes and filters, where this process may set them.
    pub mesh: Option<Mesh>,
    /// What the DNS answers from.
    pub names: Arc<ArcSwap<NameTable>>,
    /// What the front door routes by.
    pub fronts: Arc<ArcSwap<FrontTable>>,
    /// Where logs are.
    pub logs: Logs,
    /// The taps that are there.
    pub taps: watch::Sender<BTreeSet<String>>,
    /// The newest table of links, routes and filters.
    pub guest_tables: watch::Sender<Option<GuestTable>>,
    /// How often the start of a machine has failed, for its newest generation.
    pub refused_starts: Mutex<BTreeMap<MachineId, (u64, u32)>>,
}

impl Hands {
    /// Does what comes until the core ends: tables at once and in order, so that none of them is replaced by an
    /// older one; everything else in a task of its own.
    pub async fn run(self: Arc<Self>, mut actions: mpsc::UnboundedReceiver<Action>) {
        while let Some(action) = actions.recv().await {
            let key = action.key();
            match action {
                // Two of these must not be applied at once, and only the newest counts.
                Action::Guests(table) => {
                    self.guest_tables.send_replace(Some(table));
                    continue;
                }
                Action::Names(table) => self.names.store(Arc::new(table)),
                Action::Fronts(table) => self.fronts.store(Arc::new(table)),
                Action::Peers(peers) => {
                    self.gossip.keep(
                        peers
                            .into_iter()
                            .map(|(node, addresses)| (node.0, addresses))
                            .collect(),
                    );
                }
                action => {
                    tokio::spawn(Arc::clone(&self).see_to(action));
                    continue;
                }
            }
            self.tell(HostEvent::Done { key, ok: true }).await;
        }
    }

    /// Performs an action and tells how it ended, also when the task that performs it dies: the core waits for
    /// the end of what it began.
    async fn see_to(self: Arc<Self>, action: Action) {
        let key = action.key();
        let hands = Arc::clone(&self);
        let ok = match tokio::spawn(async move { hands.perform(action).await }).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(?key, "{error:#}");
                false
            }
            Err(died) => {
                tracing::error!(?key, "the task of an action died: {died}");
                false
            }
        };
        self.tell(HostEvent::Done { key, ok }).await;
    }

    /// Tells the core what this host holds, as found at the start.
    pub async fn tell_all(&self) -> anyhow::Result<()> {
        let store = Arc::clone(&self.blobs);
        let held = tokio::task::spawn_blocking(move || {
            let mut found = Vec::new();
            for blob in store.list()? {
                match store.manifest(&blob.digest) {
                    Ok(Some(manifest)) => found.push((blob.digest, manifest, store.path(&blob.digest))),
                    Ok(None) => {}
                    // One that the disk has damaged must not keep the node from running.
                    Err(error) => {
                        tracing::error!(blob = %blob.digest, "a blob is damaged: remove its folder, and it is fetched again: {error}");
                    }
                }
            }
            Ok::<_, pack::io::store::StoreError>(found)
        });
        for (digest, manifest, path) in held.await?? {
            let digest = blobs::from_pack(digest);
            match (manifest, path) {
                (Manifest::Image(manifest), Some(path)) => {
                    self.tell(HostEvent::Image {
                        digest,
                        image: held_image(&manifest, path),
                    })
                    .await;
                }
                _ => self.tell(HostEvent::Context { digest }).await,
            }
        }
        if let Some(machines) = &self.machines {
            for status in machines.list() {
                self.tell_machine(status).await;
            }
        }
        self.tell(HostEvent::Known).await;
        Ok(())
    }

    /// Tells the core how a machine is.
    pub async fn tell_machine(&self, status: MachineStatus) {
        let spec = self
            .machines
            .as_ref()
            .and_then(|machines| machines.spec(status.id))
            .map(Box::new);
        if let MachineState::Failed { reason, exit_code } = &status.state {
            tracing::warn!(machine = %status.id.short(12), ?exit_code, "a machine failed: {reason}");
        }
        let instance = InstanceId(status.id.0);
        self.tell(HostEvent::Machine {
            instance,
            generation: status.generation,
            spec,
            state: status.state,
        })
        .await;
    }

    async fn tell(&self, event: HostEvent) {
        // The core stops only when the node does.
        let _ = self.core.input(Input::Host(event)).await;
    }

    async fn perform(&self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Fetch { digest, from } => self.fetch(digest, &from).await,
            Action::Build { build, context } => self.build(build, context).await,
            Action::Start { spec, .. } => self.start(*spec).await,
            Action::Stop {
                instance,
                generation,
                grace_ms,
            } => {
                let machines = self.machines()?;
                Ok(machines
                    .stop(MachineId(instance.0), generation, Stop::Graceful { grace_ms })
                    .await?)
            }
            Action::Delete { instance, generation } => {
                self.machines()?.delete(MachineId(instance.0), generation).await?;
                self.refused_starts().remove(&MachineId(instance.0));
                self.tell(HostEvent::MachineGone { instance }).await;
                Ok(())
            }
            Action::Forget { digest } => {
                let store = Arc::clone(&self.blobs);
                tokio::task::spawn_blocking(move || store.remove(&blobs::to_pack(digest))).await??;
                self.tell(HostEvent::BlobGone { digest }).await;
                Ok(())
            }
            // The core appends reports itself, and tables are applied in order by `run`.
            Action::Report(_)
            | Action::Guests(_)
            | Action::Names(_)
            | Action::Fronts(_)
            | Action::Peers(_) => Ok(()),
        }
    }

    fn refused_starts(&self) -> MutexGuard<'_, BTreeMap<MachineId, (u64, u32)>> {
        self.refused_starts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn machines(&self) -> anyhow::Result<&Machines> {
        self.machines
            .as_deref()
            .ok_or_else(|| anyhow::anyhow!("this node runs no machines: its role `compute` is off"))
    }

    async fn fetch(&self, digest: Digest, from: &[NodeId]) -> anyhow::Result<()> {
        let begin = Instant::now();
        blobs::fetch(Arc::clone(&self.blobs), &self.gossip, digest, from).await?;
        tracing::info!(blob = %digest.short(), seconds = begin.elapsed().as_secs_f64(), "fetched");
        self.tell_blob(digest).await
    }

    async fn tell_blob(&self, digest: Digest) -> anyhow::Result<()> {
        let store = Arc::clone(&self.blobs);
        let name = blobs::to_pack(digest);
        let (manifest, path) = tokio::task::spawn_blocking(move || {
            Ok::<_, anyhow::Error>((store.manifest(&name)?, store.path(&name)))
        })
        .await??;
        match (manifest, path) {
            (Some(Manifest::Image(manifest)), Some(path)) => {
                self.tell(HostEvent::Image {
                    digest,
                    image: held_image(&manifest, path),
                })
                .await;
            }
            (Some(Manifest::Blob(_)), _) => self.tell(HostEvent::Context { digest }).await,
            _ => anyhow::bail!("the blob {digest} is gone again"),
        }
        Ok(())
    }

    async fn start(&self, spec: MachineSpec) -> anyhow::Result<()> {
        let machines = self.machines()?;
        if self.mesh.is_some() {
            let mut taps = self.taps.subscribe();
            let there = taps.wait_for(|taps| taps.contains(&spec.nic.tap));
            match tokio::time::timeout(TAP_LIMIT, there).await {
                Ok(Ok(_)) => {}
                _ => anyhow::bail!("the tap {} of machine {:?} is not there", spec.nic.tap, spec.id),
            }
        }
        let (id, generation) = (spec.id, spec.generation);
        let Err(error) = machines.start(spec).await else {
            self.refused_starts().remove(&id);
            return Ok(());
        };
        let refused = {
            let mut all = self.refused_starts();
            let (of, count) = all.entry(id).or_insert((generation, 0));
            if *of != generation {
                (*of, *count) = (generation, 0);
            }
            *count += 1;
            *count
        };
        if refused >= STARTS_MAX {
            // Its owner should hear of it, and it will not get better by itself.
            let reason = format!("it could not be started {refused} times: {}", chain(&error));
            let state = MachineState::Failed {
                reason,
                exit_code: None,
            };
            self.tell(HostEvent::Machine {
                instance: InstanceId(id.0),
                generation,
                spec: None,
                state,
            })
            .await;
        }
        Err(error.into())
    }

    /// Keeps the kernel's links, routes and filters as the newest table says, and tries again what failed.
    pub async fn keep_guests(self: Arc<Self>, mut tables: watch::Receiver<Option<GuestTable>>) {
        while tables.changed().await.is_ok() {
            let Some(table) = tables.borrow_and_update().clone() else {
                continue;
            };
            let key = Action::Guests(GuestTable::default()).key();
            let Some(mesh) = &self.mesh else {
                self.tell(HostEvent::Done { key, ok: true }).await;
                continue;
            };
            let ok = match mesh.apply(&table).await {
                Ok(changes) => {
                    if !changes.is_empty() {
                        tracing::info!(?changes, "links, routes and filters changed");
                    }
                    true
                }
                Err(error) => {
                    tracing::warn!("links, routes and filters: {}", chain(&error));
                    false
                }
            };
            if ok {
                self.taps
                    .send_replace(table.taps.iter().map(|tap| tap.tap.clone()).collect());
            }
            self.tell(HostEvent::Done { key, ok }).await;
        }
    }

    async fn build(&self, build: BuildId, context: Digest) -> anyhow::Result<()> {
        let builder = self
            .builder
            .clone()
            .ok_or_else(|| anyhow::anyhow!("this node builds no images: its role `builder` is off"))?;
        let path = self
            .blobs
            .path(&blobs::to_pack(context))
            .ok_or_else(|| anyhow::anyhow!("the context {context} is not here"))?;
        let log = self.logs.build_log(build);
        let store = Arc::clone(&self.blobs);
        let begin = Instant::now();
        tracing::info!(build = %build.short(), "building");
        let built = tokio::task::spawn_blocking(move || run_build(&builder, &store, &path, &log)).await?;
        let took_ms = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        let result = match built {
            Ok((digest, bytes)) => {
                tracing::info!(build = %build.short(), image = %digest.short(), took_ms, "built");
                self.tell_blob(digest).await?;
                Ok((digest, bytes))
            }
            Err(Unbuilt::Final(reason)) => {
                tracing::warn!(build = %build.short(), "the build failed: {reason}");
                Err(reason)
            }
            Err(Unbuilt::Here(error)) => return Err(error),
        };
        self.tell(HostEvent::Built {
            build,
            result,
            took_ms,
        })
        .await;
        Ok(())
    }
}

/// Why a build gave no image.
enum Unbuilt {
    /// The same would happen on any node.
    Final(String),
    /// Something of this host's: it is worth another try.
    Here(anyhow::Error),
}

/// Keeps the newest [`BUILD_LOGS_MAX`] logs, with room for one more. A log that cannot be removed stays.
fn prune_logs(next: &Path) {
    let Some(listed) = next.parent().and_then(|folder| folder.read_dir().ok()) else {
        return;
    };
    let mut logs: Vec<_> = listed
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .filter(|(_, path)| path != next)
        .collect();
    logs.sort();
    let over = logs.len().saturating_sub(BUILD_LOGS_MAX - 1);
    for (_, path) in logs.drain(..over) {
        if let Err(error) = std::fs::remove_file(&path) {
            tracing::warn!("removing the old log {}: {error}", path.display());
        }
    }
}

/// Builds, with every line of it in the log as it comes, and keeps the image in the store.
fn run_build(
    builder: &Builder,
    store: &BlobStore,
    context: &Path,
    log: &Path,
) -> Result<(Digest, u64), Unbuilt> {
    prune_logs(log);
    let here = |doing: &'static str| {
        move |error: std::io::Error| Unbuilt::Here(anyhow::Error::new(error).context(doing))
    };
    let mut file = File::create(log).map_err(here("making a build's log"))?;
    let mut lost = false;
    let mut write = |line: String| {
        if let Err(error) = writeln!(file, "{line}")
            && !std::mem::replace(&mut lost, true)
        {
            // The build may go well all the same.
            tracing::warn!("a build's log {} has a gap: {error}", log.display());
        }
    };
    let built = builder.build(context, &mut |event| match event {
        BuildEvent::Step {
            number,
            of,
            text,
            cached,
        } => {
            write(format!(
                "[{number}/{of}] {text}{}",
                if cached { " (cached)" } else { "" }
            ));
        }
        BuildEvent::Output(line) => write(format!("  | {line}")),
        BuildEvent::Done { ms } => write(format!("  done in {:.1} s", ms as f64 / 1000.0)),
    });
    match built {
        Ok(built) => {
            let digest = store
                .import_image(&built.manifest, &built.disk)
                .map_err(|error| Unbuilt::Here(error.into()))?;
            write(format!("image {digest}"));
            Ok((blobs::from_pack(digest), built.manifest.pieces.total_bytes))
        }
        Err(error) => {
            write(format!("failed: {}", chain(&error)));
            // What the Formfile and its files are to blame for would fail on any node; the rest is worth
            // another try.
            Err(match error {
                BuildError::Context(_)
                | BuildError::Missing(_)
                | BuildError::Step { .. }
                | BuildError::Edit { .. }
                | BuildError::Manifest(_) => Unbuilt::Final(chain(&error)),
                other => Unbuilt::Here(other.into()),
            })
        }
    }
}

/// What runs in an image, in the words of the machine.
fn held_image(manifest: &ImageManifest, path: PathBuf) -> HeldImage {
    let config = &manifest.config;
    let health = match &config.health {
        HealthCheck::None => Health::Process,
        HealthCheck::Tcp { port } => Health::Tcp { port: *port },
        HealthCheck::Http { path, port } => Health::Http {
            port: *port,
            path: path.clone(),
        },
    };
    let workload = Workload {
        entrypoint: config.entrypoint.clone(),
        env: config.env.clone(),
        workdir: config.workdir.clone(),
        restart: RESTARTS,
        health,
    };
    HeldImage { path, workload }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
