//! The daemon's door to its machines: starts, stops, deletes and lists them, and finds them again after a
//! restart. Each machine is a process of its own (`form-machine`) that needs no daemon to go on.
//!
//! ```text
//! <dir>/lock              one daemon at a time
//! <dir>/seen/<id>         highest generation seen, also of deleted machines
//! <dir>/<id>/order.json   what form-machine was told        record.json  where it stands (it writes that)
//!            disk.ext4    its own disk                      log/ console/  what workload and kernel said
//!            control      its socket                        machine.log  what form-machine said
//! ```
//! All is safe to ask twice. A start of a lower generation than was seen is refused, and a stop or deletion of
//! a lower one than what is here.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, mpsc, watch as cell};

use super::journal::LogChunk;
use super::kernel::{self, KernelError, Prepared};
use super::overlay::{self, OverlayError};
use super::process::{self, Process};
use super::watch::{self, Ask, Step};
use super::{files, probe, seen};
use crate::check::{SpecError, check};
use crate::control::{Request, SOCKET};
use crate::driver::{Accelerator, DriverReport};
use crate::machine::{MachineState, MachineStatus};
use crate::order::{
    CONSOLE_FOLDER, DISK_FILE, FILE_BYTES_MAX, LOG_FOLDER, MACHINE_LOG_FILE, MachineOrder, MachineRecord,
    ORDER_FILE, RECORD_FILE, Timeline, VERSION,
};
use crate::spec::{MachineId, MachineSpec};

/// How many state changes may wait for the daemon; after that the watchers wait, and pass on the latest.
const EVENTS_MAX: usize = 256;

/// What a machine's workload may take when a newer generation replaces it, or when it is deleted.
const REPLACE_GRACE_MS: u64 = 5_000;

/// What a machine may take beyond the grace of its workload before its process is killed.
const STOP_MARGIN: Duration = Duration::from_secs(25);

/// Where things are.
#[derive(Clone, Debug)]
pub struct MachinesConfig {
    /// Folder of the machines. Only root may look into it.
    pub dir: PathBuf,
    /// Folder of kernels and initramfs; several daemons may share it.
    pub cache_dir: PathBuf,
    /// The binary `form-machine`.
    pub form_machine: PathBuf,
    /// The static binary `form-init`.
    pub form_init: PathBuf,
}

/// How a machine is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The workload gets SIGTERM, after the grace SIGKILL; then disks are written and the guest ends.
    Graceful {
        /// What the workload may take.
        grace_ms: u64,
    },
    /// The power is cut.
    Kill,
}

/// Why the machines of a folder cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another daemon has the folder.
    #[error("another process uses the machines in {0}")]
    InUse(PathBuf),
    /// A file or folder.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a machine was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The order is older than one that was seen.
    #[error("generation {asked} of this machine is older than {seen}, which was seen already")]
    Stale {
        /// What was asked.
        asked: u64,
        /// The highest one seen.
        seen: u64,
    },
    /// The spec cannot be booted.
    #[error("the machine's spec: {0}")]
    Spec(#[from] SpecError),
    /// The image is not on this host.
    #[error("the image {} cannot be read: {source}", path.display())]
    Image {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no kernel for guests.
    #[error("no kernel for guests: {0}")]
    Kernel(#[from] KernelError),
    /// There is no disk for it.
    #[error(transparent)]
    Disk(#[from] OverlayError),
    /// The run of an older generation does not end.
    #[error("generation {running} still runs and does not end")]
    StillRuns {
        /// Which generation runs.
        running: u64,
    },
    /// The host could not do it.
    #[error("{what}: {source}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a machine was not stopped or deleted.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// No machine of this id is on this host.
    #[error("this host has no such machine")]
    Unknown,
    /// The order is older than the machine.
    #[error("generation {asked} of this machine is older than {seen}, which is here")]
    Stale {
        /// What was asked.
        asked: u64,
        /// The generation of the machine that is here.
        seen: u64,
    },
    /// It does not end.
    #[error("the machine does not end")]
    StillRuns,
    /// The host could not do it.
    #[error("{what}: {source}")]
    Host {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why no log was read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// No machine of this id is on this host.
    #[error("this host has no such machine")]
    Unknown,
    /// The log cannot be read.
    #[error("its log cannot be read: {0}")]
    File(#[from] io::Error),
}

/// All machines of this host. Clones are the same.
#[derive(Clone, Debug)]
pub struct Machines {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: MachinesConfig,
    accelerator: Accelerator,
    report: DriverReport,
    prepared: OnceCell<Prepared>,
    entries: Mutex<BTreeMap<MachineId, Arc<Entry>>>,
    events: mpsc::Sender<MachineStatus>,
    /// Held for as long as this lives.
    _lock: fs::File,
}

/// A machine as this daemon knows it.
#[derive(Debug)]
struct Entry {
    id: MachineId,
    folder: PathBuf,
    /// Held while the machine is started, stopped or deleted.
    turn: tokio::sync::Mutex<()>,
    facts: cell::Sender<Facts>,
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
}

#[derive(Clone, Debug)]
struct Facts {
    /// The highest generation seen.
    seen: u64,
    /// What was last started; `None` when nothing was.
    run: Option<(u64, MachineState)>,
}

impl Entry {
    fn new(id: MachineId, dir: &Path) -> Arc<Self> {
        let facts = Facts {
            seen: seen::read(dir, id),
            run: None,
        };
        Arc::new(Entry {
            id,
            folder: dir.join(id.short(64)),
            turn: tokio::sync::Mutex::default(),
            facts: cell::Sender::new(facts),
            asks: Mutex::default(),
        })
    }

    fn run(&self) -> Option<(u64, MachineState)> {
        self.facts.borrow().run.clone()
    }

    fn alive_generation(&self) -> Option<u64> {
        self.run()
            .filter(|(_, state)| state.is_alive())
            .map(|(generation, _)| generation)
    }

    async fn ask(&self, ask: Ask) {
        let asks = self.asks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(asks) = asks {
            // A watcher that is gone has seen the end: nothing is left to ask for.
            let _ = asks.send(ask).await;
        }
    }

    /// Waits until no process of this machine lives.
    async fn wait_for_end(&self, limit: Duration) -> bool {
        let mut facts = self.facts.subscribe();
        let ended = facts.wait_for(|facts| facts.run.as_ref().is_none_or(|(_, state)| !state.is_alive()));
        tokio::time::timeout(limit, ended).await.is_ok()
    }

    /// Stops the machine and waits for its end, in the last resort by killing its process.
    async fn end(&self, how: Stop) -> bool {
        let grace_ms = match how {
            Stop::Graceful { grace_ms } => grace_ms,
            Stop::Kill => 0,
        };
        self.ask(Ask::Pass(how.into())).await;
        if self
            .wait_for_end(Duration::from_millis(grace_ms) + STOP_MARGIN)
            .await
        {
            return true;
        }
        self.ask(Ask::Kill).await;
        self.wait_for_end(STOP_MARGIN).await
    }
}

impl From<Stop> for Request {
    fn from(how: Stop) -> Self {
        match how {
            Stop::Graceful { grace_ms } => Request::Stop { grace_ms },
            Stop::Kill => Request::Kill,
        }
    }
}

impl Machines {
    /// Opens the machines of `config.dir`: takes up those that run, learns how the others ended ([`list`] shows
    /// them), and probes how guests can be executed. State changes from now on come through the receiver, which must be
    /// read: a full one holds up the watchers, and with them stops and starts.
    ///
    /// [`list`]: Machines::list
    pub async fn open(
        config: MachinesConfig,
    ) -> Result<(Machines, mpsc::Receiver<MachineStatus>), OpenError> {
        let fault = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::File { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&config.dir)
            .map_err(fault(&config.dir))?;
        let lock_path = config.dir.join("lock");
        let lock = fs::File::create(&lock_path).map_err(fault(&lock_path))?;
        lock.try_lock()
            .map_err(|_| OpenError::InUse(config.dir.clone()))?;
        seen::prune(&config.dir, seen::GONE_MAX).map_err(fault(&config.dir))?;
        let (accelerator, report) = probe::choose(&config.form_machine).await;
        tracing::info!(
            driver = report.driver,
            accelerator = report.accelerator,
            why = report.why,
            "machines"
        );
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let inner = Arc::new(Inner {
            config,
            accelerator,
            report,
            prepared: OnceCell::new(),
            entries: Mutex::default(),
            events,
            _lock: lock,
        });
        let machines = Machines { inner };
        machines.adopt_all().await?;
        Ok((machines, receiver))
    }

    /// Which driver serves on this host, and why.
    pub fn report(&self) -> DriverReport {
        self.inner.report.clone()
    }

    /// Prepares the guests' kernel, which takes seconds the first time on a host. [`Machines::start`] does it
    /// too where it was not done; answers with the name of the kernel's package.
    pub async fn prepare(&self) -> Result<String, KernelError> {
        self.prepared().await.map(|prepared| prepared.package.clone())
    }

    async fn prepared(&self) -> Result<&Prepared, KernelError> {
        let (cache, init) = (
            self.inner.config.cache_dir.clone(),
            self.inner.config.form_init.clone(),
        );
        self.inner
            .prepared
            .get_or_try_init(async || {
                tokio::task::spawn_blocking(move || kernel::prepare(&cache, &init))
                    .await
                    .expect("preparing a kernel does not panic")
            })
            .await
    }

    /// Starts a machine. Safe to ask twice: a machine that lives in this generation is left alone, one that
    /// ended is started again, a living one of an older generation is stopped first. Returns when its process
    /// was started; what becomes of it comes as state changes.
    pub async fn start(&self, spec: MachineSpec) -> Result<(), StartError> {
        check(&spec)?;
        let machines = self.clone();
        // In a task of its own: whoever asks may give up waiting, but a start is never left half done.
        tokio::spawn(async move { machines.start_now(spec).await })
            .await
            .unwrap_or_else(|error| {
                Err(StartError::Host {
                    what: "starting a machine",
                    source: io::Error::other(error),
                })
            })
    }

    async fn start_now(&self, spec: MachineSpec) -> Result<(), StartError> {
        let host = |what| move |source| StartError::Host { what, source };
        let entry = self.entry(spec.id);
        let _turn = entry.turn.lock().await;
        let (seen, asked) = (entry.facts.borrow().seen, spec.generation);
        if asked < seen {
            return Err(StartError::Stale { asked, seen });
        }
        if entry.alive_generation() == Some(asked) {
            return Ok(());
        }
        fs::File::open(&spec.image).map_err(|source| StartError::Image {
            path: spec.image.clone(),
            source,
        })?;
        let prepared = self.prepared().await?.clone();
        self.see(&entry, asked)
            .map_err(host("noting the machine's generation"))?;
        if let Some(running) = entry.alive_generation()
            && !entry
                .end(Stop::Graceful {
                    grace_ms: REPLACE_GRACE_MS,
                })
                .await
        {
            return Err(StartError::StillRuns { running });
        }
        let order = MachineOrder {
            version: VERSION,
            spec,
            kernel: prepared.kernel,
            initramfs: prepared.initramfs,
            accelerator: self.inner.accelerator,
        };
        let folder = entry.folder.clone();
        tokio::task::spawn_blocking(move || lay_out(&folder, &order))
            .await
            .map_err(|error| StartError::Host {
                what: "laying out its folder",
                source: io::Error::other(error),
            })??;
        let process = self
            .launch(&entry.folder)
            .map_err(host("starting form-machine"))?;
        self.publish(&entry, asked, MachineState::Starting).await;
        self.follow(entry.clone(), asked, None, process);
        Ok(())
    }

    /// Stops a machine. Returns when it was asked to; its end comes as a state change. That it has ended
    /// already is as good.
    pub async fn stop(&self, id: MachineId, generation: u64, how: Stop) -> Result<(), StopError> {
        let entry = self.known(id).ok_or(StopError::Unknown)?;
        let _turn = entry.turn.lock().await;
        self.see_or_refuse(&entry, generation)?;
        if entry.alive_generation().is_some() {
            entry.ask(Ask::Pass(how.into())).await;
        }
        Ok(())
    }

    /// Stops a machine, waits for its end, and removes its disk, its logs and all else. Its generation stays
    /// known. That there is no such machine is as good.
    pub async fn delete(&self, id: MachineId, generation: u64) -> Result<(), StopError> {
        let machines = self.clone();
        tokio::spawn(async move { machines.delete_now(id, generation).await })
            .await
            .unwrap_or_else(|error| {
                Err(StopError::Host {
                    what: "deleting a machine",
                    source: io::Error::other(error),
                })
            })
    }

    async fn delete_now(&self, id: MachineId, generation: u64) -> Result<(), StopError> {
        let entry = self.entry(id);
        let _turn = entry.turn.lock().await;
        self.see_or_refuse(&entry, generation)?;
        if entry.alive_generation().is_some()
            && !entry
                .end(Stop::Graceful {
                    grace_ms: REPLACE_GRACE_MS,
                })
                .await
        {
            return Err(StopError::StillRuns);
        }
        let folder = entry.folder.clone();
        tokio::task::spawn_blocking(move || files::remove(&folder))
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|source| StopError::Host {
                what: "removing its folder",
                source,
            })?;
        // The entry stays, so that who waits for its turn finds the generation; it is no longer listed.
        entry.facts.send_modify(|facts| facts.run = None);
        Ok(())
    }

    /// The machines of this host: those that live, and those that ended and were not deleted.
    pub fn list(&self) -> Vec<MachineStatus> {
        let entries = self.entries();
        let status = |entry: &Entry| {
            entry.run().map(|(generation, state)| MachineStatus {
                id: entry.id,
                generation,
                state,
            })
        };
        entries.values().filter_map(|entry| status(entry)).collect()
    }

    /// What a machine's workload wrote: at most `bytes_max` bytes from offset `from_offset` on, or its last
    /// ones. Only the last few MiB are kept.
    pub async fn logs(
        &self,
        id: MachineId,
        from_offset: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, LogError> {
        self.read(id, LOG_FOLDER, from_offset, bytes_max).await
    }

    /// What a guest's kernel printed, see [`Machines::logs`].
    pub async fn console(
        &self,
        id: MachineId,
        from_offset: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, LogError> {
        self.read(id, CONSOLE_FOLDER, from_offset, bytes_max).await
    }

    async fn read(
        &self,
        id: MachineId,
        log: &str,
        from: Option<u64>,
        bytes_max: usize,
    ) -> Result<LogChunk, LogError> {
        let entry = self.known(id).ok_or(LogError::Unknown)?;
        Ok(watch::read_log(entry.folder.join(log), from, bytes_max).await?)
    }

    /// What a machine was last started from; `None` when it never was.
    pub fn spec(&self, id: MachineId) -> Option<MachineSpec> {
        let path = self.known(id)?.folder.join(ORDER_FILE);
        Some(
            files::read_json::<MachineOrder>(&path, FILE_BYTES_MAX)
                .ok()??
                .spec,
        )
    }

    /// How the last boot of a machine went, in milliseconds; `None` when it was never started.
    pub fn timeline(&self, id: MachineId) -> Option<Timeline> {
        let path = self.known(id)?.folder.join(RECORD_FILE);
        Some(
            files::read_json::<MachineRecord>(&path, FILE_BYTES_MAX)
                .ok()??
                .timeline,
        )
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, BTreeMap<MachineId, Arc<Entry>>> {
        self.inner.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entry(&self, id: MachineId) -> Arc<Entry> {
        self.entries()
            .entry(id)
            .or_insert_with(|| Entry::new(id, &self.inner.config.dir))
            .clone()
    }

    /// The entry of a machine that was started and not deleted.
    fn known(&self, id: MachineId) -> Option<Arc<Entry>> {
        self.entries()
            .get(&id)
            .filter(|entry| entry.run().is_some())
            .cloned()
    }

    fn see(&self, entry: &Entry, generation: u64) -> io::Result<()> {
        if generation > entry.facts.borrow().seen {
            seen::write(&self.inner.config.dir, entry.id, generation)?;
            entry.facts.send_modify(|facts| facts.seen = generation);
        }
        Ok(())
    }

    /// Notes the generation of a stop or deletion; one older than the machine that is here is refused. That a
    /// newer one was seen does not count: what no log knows any more is deleted by the generation that is here.
    fn see_or_refuse(&self, entry: &Entry, asked: u64) -> Result<(), StopError> {
        let seen = entry.run().map_or(0, |(generation, _)| generation);
        if asked < seen {
            return Err(StopError::Stale { asked, seen });
        }
        self.see(entry, asked).map_err(|source| StopError::Host {
            what: "noting the machine's generation",
            source,
        })
    }

    /// Notes a state and tells it to the daemon.
    async fn publish(&self, entry: &Entry, generation: u64, state: MachineState) {
        let now = Some((generation, state.clone()));
        if entry
            .facts
            .send_if_modified(|facts| std::mem::replace(&mut facts.run, now.clone()) != now)
        {
            // A daemon that no longer listens is about to end.
            let _ = self
                .inner
                .events
                .send(MachineStatus {
                    id: entry.id,
                    generation,
                    state,
                })
                .await;
        }
    }

    /// Starts `form-machine` in `folder`, in a session of its own, so that it outlives this process. Its
    /// standard input is the control socket, already listening: whoever connects need not wait for it.
    fn launch(&self, folder: &Path) -> io::Result<Process> {
        let (held, socket) = watch::socket_path(folder)?;
        files::remove(&folder.join(SOCKET))?;
        let listener = UnixListener::bind(&socket)?;
        drop(held);
        let words = fs::File::create(folder.join(MACHINE_LOG_FILE))?;
        let mut command = tokio::process::Command::new(&self.inner.config.form_machine);
        command
            .arg(folder)
            .current_dir(folder)
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
            .stdout(words.try_clone()?)
            .stderr(words)
            .env_clear()
            .env(
                "PATH",
                std::env::var_os("PATH").unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into()),
            );
        own_session(&mut command);
        let mut child = command.spawn()?;
        let pid = child.id().expect("a child that was not waited for has an id");
        let held = process::started(pid)
            .ok_or(io::ErrorKind::NotFound.into())
            .and_then(|at| Process::hold(pid, at));
        // Someone must wait for it while this process lives, or else its number is never free.
        tokio::spawn(async move { child.wait().await });
        held
    }

    /// Follows a run in a task of its own.
    fn follow(&self, entry: Arc<Entry>, generation: u64, link: Option<watch::Link>, process: Process) {
        let (sender, asks) = mpsc::channel(16);
        *entry.asks.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        let machines = self.clone();
        tokio::spawn(async move {
            let link = match link {
                Some(link) => Some(link),
                None => watch::open(&entry.folder, entry.id).await.ok(),
            };
            match &link {
                Some(link) if link.state.is_alive() => {
                    machines.publish(&entry, generation, link.state.clone()).await;
                }
                Some(_) => {}
                // It did not answer: nobody could steer it.
                None => process.kill(),
            }
            let mut run = watch::Run {
                folder: entry.folder.clone(),
                generation,
                link,
                process,
                asks,
            };
            let last = loop {
                match run.next().await {
                    Step::Alive(state) => machines.publish(&entry, generation, state).await,
                    Step::Ended(state) => break state,
                }
            };
            entry.asks.lock().unwrap_or_else(PoisonError::into_inner).take();
            machines.publish(&entry, generation, last).await;
        });
    }

    async fn adopt_all(&self) -> Result<(), OpenError> {
        let dir = &self.inner.config.dir;
        let fault = |source| OpenError::File {
            path: dir.clone(),
            source,
        };
        for found in fs::read_dir(dir).map_err(fault)? {
            let name = found.map_err(fault)?.file_name();
            if let Some(id) = name.to_str().and_then(id_of) {
                self.adopt(id).await;
            }
        }
        Ok(())
    }

    /// Takes up a machine that an earlier daemon started.
    async fn adopt(&self, id: MachineId) {
        let entry = self.entry(id);
        let folder = &entry.folder;
        let order = files::read_json::<MachineOrder>(&folder.join(ORDER_FILE), FILE_BYTES_MAX);
        let record = files::read_json::<MachineRecord>(&folder.join(RECORD_FILE), FILE_BYTES_MAX)
            .ok()
            .flatten();
        let generation = match (&order, &record) {
            (Ok(Some(order)), _) => order.spec.generation,
            (_, Some(record)) => record.generation,
            _ => {
                tracing::warn!(folder = %folder.display(), "a folder without an order: left alone");
                return;
            }
        };
        if let Err(error) = self.see(&entry, generation) {
            tracing::warn!(?id, %error, "the generation of a machine cannot be noted");
        }
        let link = watch::open(folder, id).await;
        let (pid, started) = match (&link, &record) {
            (Ok(link), _) => (link.pid, process::started(link.pid)),
            (Err(_), Some(record)) => (record.pid, Some(record.pid_started)),
            (Err(_), None) => (0, None),
        };
        let process = started.and_then(|started| Process::hold(pid, started).ok());
        let Some(process) = process else {
            let state = watch::state_after_end(folder, generation);
            tracing::info!(?id, generation, ?state, "a machine had ended");
            entry
                .facts
                .send_modify(|facts| facts.run = Some((generation, state)));
            return;
        };
        let (generation, state) = match &link {
            Ok(link) => (link.generation, link.state.clone()),
            Err(error) => {
                tracing::warn!(?id, %error, "a machine does not answer: ending it");
                process.kill();
                (generation, MachineState::Stopping)
            }
        };
        tracing::info!(?id, generation, ?state, "found a running machine");
        let state = if state.is_alive() {
            state
        } else {
            MachineState::Stopping
        };
        entry
            .facts
            .send_modify(|facts| facts.run = Some((generation, state)));
        self.follow(entry.clone(), generation, link.ok(), process);
    }
}

/// Brings a machine's folder into the shape that `form-machine` finds it in.
fn lay_out(folder: &Path, order: &MachineOrder) -> Result<(), StartError> {
    let host = |what| move |source| StartError::Host { what, source };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(host("making its folder"))?;
    let order_path = folder.join(ORDER_FILE);
    let disk = folder.join(DISK_FILE);
    let last = files::read_json::<MachineOrder>(&order_path, FILE_BYTES_MAX);
    if let Ok(Some(last)) = last
        && last.spec.image != order.spec.image
    {
        tracing::warn!(id = ?order.spec.id, "its image is another one now, so its disk begins anew");
        files::remove(&disk).map_err(host("removing its disk"))?;
    }
    overlay::prepare(&disk, order.spec.disk_gib)?;
    files::remove(&folder.join(RECORD_FILE)).map_err(host("removing its last record"))?;
    files::write_json(&order_path, order).map_err(host("writing its order"))
}

fn id_of(name: &str) -> Option<MachineId> {
    let mut id = [0; 32];
    if name.len() != 64 || !name.is_ascii() {
        return None;
    }
    for (index, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&name[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(MachineId(id))
}

#[allow(unsafe_code)]
fn own_session(command: &mut tokio::process::Command) {
    // SAFETY: the closure runs between fork and exec and makes one async-signal-safe system call.
    unsafe {
        command.pre_exec(|| rustix::process::setsid().map(drop).map_err(io::Error::from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_name_gives_the_id_back() {
        let id = MachineId([0xa7; 32]);
        assert_eq!(id_of(&id.short(64)), Some(id));
        assert_eq!(id_of("seen"), None);
        assert_eq!(id_of(&"zz".repeat(32)), None);
        assert_eq!(id_of(&"é".repeat(32)), None);
    }
}
