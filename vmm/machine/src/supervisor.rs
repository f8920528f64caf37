//! Does what [`crate::life`] decides: starts the monitor, passes frames between init and the machine's life,
//! writes logs and the record, serves the control socket.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::pipe;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use vmm::control::Request;
use vmm::driver::{Access, Boot, BootError, Disk, Driver, Guest};
use vmm::frame::{Decoder, encode};
use vmm::guest::{DISK_SERIAL, IMAGE_SERIAL, ToGuest, ToHost};
use vmm::io::journal::Writer;
use vmm::io::{files, process};
use vmm::machine::MachineState;
use vmm::order::{
    CONSOLE_FOLDER, DISK_FILE, FILE_BYTES_MAX, LOG_FOLDER, MachineOrder, MachineRecord, ORDER_FILE,
    RECORD_FILE, Timeline, VERSION,
};
use vmm::qemu::Qemu;

use crate::control::{self, Desk};
use crate::life::{Act, Event, Life, Now};

/// What a workload may take when the host asks this process itself to end (SIGTERM, as at a shutdown).
const TERM_GRACE_MS: u64 = 10_000;

/// The least pause between two writings of the record while the machine lives.
const RECORD_PACE: Duration = Duration::from_millis(100);

/// How many frames may wait for the guest.
const SENDS_MAX: usize = 32;

/// What is kept of the console for the reason of a failure, in bytes.
const CONSOLE_TAIL_BYTES: usize = 8 * 1024;

/// Runs the machine in `folder` to its end.
pub(crate) async fn run(folder: &Path) -> anyhow::Result<()> {
    let begin = Instant::now();
    let order: MachineOrder =
        files::read_json(&folder.join(ORDER_FILE), FILE_BYTES_MAX)?.context("there is no order")?;
    if order.version != VERSION {
        bail!(
            "the order is of version {}, this form-machine knows {VERSION}",
            order.version
        );
    }
    let listener = control_listener().context("standard input is not the control socket")?;
    let (state, state_seen) = watch::channel(MachineState::Starting);
    let (request, requests) = mpsc::channel(16);
    let desk = Desk {
        id: order.spec.id,
        generation: order.spec.generation,
        state: state_seen,
        requests: request,
    };
    tokio::spawn(control::serve(listener, desk));

    let mut machine = Machine {
        life: Life::new(order.spec.clone(), now(begin)),
        begin,
        log: Writer::open(&folder.join(LOG_FOLDER)).context("the log")?,
        record: Record::new(folder, &order),
        state,
    };
    machine
        .record
        .write(machine.life.state(), machine.life.timeline());
    match Qemu::new(order.accelerator).boot(&boot(folder, &order)) {
        Ok(guest) => machine.attend(guest, requests, folder).await?,
        Err(error @ BootError::Monitor { .. }) => machine.finish(Err(error.to_string()), ""),
    }
    tracing::info!(state = ?machine.life.state(), timeline = ?machine.life.timeline(), "the machine ended");
    Ok(())
}

fn now(begin: Instant) -> Now {
    let unix_us = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64);
    Now {
        ms: begin.elapsed().as_millis() as u64,
        unix_us,
    }
}

fn control_listener() -> io::Result<UnixListener> {
    let listener = std::os::unix::net::UnixListener::from(io::stdin().as_fd().try_clone_to_owned()?);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn boot(folder: &Path, order: &MachineOrder) -> Boot {
    let spec = &order.spec;
    Boot {
        name: format!("form-{}", spec.id.short(12)),
        kernel: order.kernel.clone(),
        initramfs: order.initramfs.clone(),
        vcpus: spec.vcpus,
        memory_mib: spec.memory_mib,
        disks: vec![
            Disk {
                path: spec.image.clone(),
                serial: IMAGE_SERIAL,
                access: Access::Shared,
            },
            Disk {
                path: folder.join(DISK_FILE),
                serial: DISK_SERIAL,
                access: Access::Exclusive,
            },
        ],
        tap: spec.nic.tap.clone(),
        mac: spec.nic.mac,
    }
}

/// A machine with its life and what belongs to it on this host.
struct Machine {
    life: Life,
    begin: Instant,
    log: Writer,
    record: Record,
    state: watch::Sender<MachineState>,
}

impl Machine {
    /// Attends to a guest until its monitor is gone.
    async fn attend(
        &mut self,
        guest: Guest,
        mut requests: mpsc::Receiver<Request>,
        folder: &Path,
    ) -> anyhow::Result<()> {
        let Guest {
            channel,
            console,
            ended,
            cut,
        } = guest;
        channel.set_nonblocking(true)?;
        let (mut from_guest, to_guest) = tokio::net::UnixStream::from_std(channel)?.into_split();
        let (sends, frames) = mpsc::channel(SENDS_MAX);
        tokio::spawn(write_frames(to_guest, frames));
        let mut console = pipe::Receiver::from_owned_fd(console)?;
        let mut console_log = Writer::open(&folder.join(CONSOLE_FOLDER)).context("the console's log")?;
        let mut console_tail = Vec::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut ended = pin!(ended);
        let (mut channel_open, mut console_open) = (true, true);
        let mut decoder = Decoder::default();
        let (mut words, mut print) = (vec![0; 64 * 1024], vec![0; 4096]);
        loop {
            let event = tokio::select! {
                read = from_guest.read(&mut words), if channel_open => {
                    match read {
                        Ok(0) | Err(_) => channel_open = false,
                        Ok(length) => decoder.push(&words[..length]),
                    }
                    match self.hear(&mut decoder, &sends, &cut) {
                        Ok(()) => continue,
                        Err(what) => {
                            channel_open = false;
                            Event::Garbled(what)
                        }
                    }
                }
                read = console.read(&mut print), if console_open => {
                    match read {
                        Ok(0) | Err(_) => console_open = false,
                        Ok(length) => {
                            let bytes = &print[..length];
                            note_fault("the console's log", console_log.append(bytes));
                            console_tail.extend_from_slice(bytes);
                            console_tail.drain(..console_tail.len().saturating_sub(CONSOLE_TAIL_BYTES));
                        }
                    }
                    continue;
                }
                Some(request) = requests.recv() => match request {
                    Request::Stop { grace_ms } => Event::Stop { grace_ms },
                    Request::Kill => Event::Kill,
                    Request::Open { .. } => continue,
                },
                _ = terminate.recv() => Event::Stop { grace_ms: TERM_GRACE_MS },
                how = &mut ended => {
                    // What the guest said before its end may still wait to be read.
                    self.drain(&mut from_guest, &mut decoder, &sends, &cut);
                    let tail = String::from_utf8_lossy(&console_tail).into_owned();
                    self.finish(how, &tail);
                    return Ok(());
                }
                () = sleep_until(self.begin, self.life.due_ms()) => Event::Tick,
                () = sleep_for(self.record.due()) => {
                    self.record.write(self.life.state(), self.life.timeline());
                    continue;
                }
            };
            self.take(event, &sends, &cut);
        }
    }

    /// Takes all whole frames that have arrived.
    fn hear(
        &mut self,
        decoder: &mut Decoder,
        sends: &mpsc::Sender<ToGuest>,
        cut: &(dyn Fn() + Send),
    ) -> Result<(), String> {
        loop {
            match decoder.take::<ToHost>() {
                Ok(Some(message)) => self.take(Event::Guest(message), sends, cut),
                Ok(None) => return Ok(()),
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    fn drain(
        &mut self,
        from_guest: &mut tokio::net::unix::OwnedReadHalf,
        decoder: &mut Decoder,
        sends: &mpsc::Sender<ToGuest>,
        cut: &(dyn Fn() + Send),
    ) {
        let mut words = [0; 4096];
        while let Ok(length) = from_guest.try_read(&mut words) {
            if length == 0 {
                break;
            }
            decoder.push(&words[..length]);
            if self.hear(decoder, sends, cut).is_err() {
                break;
            }
        }
    }

    fn take(&mut self, event: Event, sends: &mpsc::Sender<ToGuest>, cut: &(dyn Fn() + Send)) {
        for act in self.life.handle(event, now(self.begin)) {
            match act {
                Act::Send(message) => {
                    if sends.try_send(message).is_err() {
                        // Its time limit will tell, if it matters.
                        tracing::warn!("the guest does not read what it is told");
                    }
                }
                Act::Log(bytes) => note_fault("the workload's log", self.log.append(&bytes)),
                Act::Cut => cut(),
            }
        }
        self.show();
    }

    fn finish(&mut self, how: Result<(), String>, console: &str) {
        self.life.handle(Event::MonitorEnded(how), now(self.begin));
        self.life.explain(telling_line(console));
        // The record first: it is what counts once this process is gone.
        self.record.write(self.life.state(), self.life.timeline());
        self.show();
    }

    fn show(&mut self) {
        let state = self.life.state();
        self.record.mark(state, self.life.timeline());
        self.state.send_if_modified(|shown| {
            let changed = shown != state;
            shown.clone_from(state);
            changed
        });
    }
}

/// The line of a console that says most about an end: that of a panic, or else the last one.
fn telling_line(console: &str) -> &str {
    let lines = || console.lines().map(str::trim).filter(|line| !line.is_empty());
    lines()
        .find(|line| line.contains("Kernel panic"))
        .or_else(|| lines().next_back())
        .unwrap_or_default()
}

async fn write_frames(mut to_guest: tokio::net::unix::OwnedWriteHalf, mut frames: mpsc::Receiver<ToGuest>) {
    while let Some(message) = frames.recv().await {
        match encode(&message) {
            Ok(frame) => {
                if to_guest.write_all(&frame).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::error!(%error, "a message to the guest is too long"),
        }
    }
}

async fn sleep_until(begin: Instant, due_ms: Option<u64>) {
    match due_ms {
        Some(due_ms) => tokio::time::sleep_until((begin + Duration::from_millis(due_ms)).into()).await,
        None => std::future::pending().await,
    }
}

async fn sleep_for(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

fn note_fault(what: &str, done: io::Result<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, "{what} cannot be written");
    }
}

/// Writes the record, not oftener than [`RECORD_PACE`] while the machine lives.
struct Record {
    path: PathBuf,
    last: MachineRecord,
    written: Instant,
    dirty: bool,
}

impl Record {
    fn new(folder: &Path, order: &MachineOrder) -> Self {
        let pid = std::process::id();
        let last = MachineRecord {
            version: VERSION,
            id: order.spec.id,
            generation: order.spec.generation,
            state: MachineState::Starting,
            pid,
            pid_started: process::started(pid).unwrap_or_default(),
            timeline: Timeline::default(),
        };
        Record {
            path: folder.join(RECORD_FILE),
            last,
            written: Instant::now(),
            dirty: false,
        }
    }

    fn mark(&mut self, state: &MachineState, timeline: Timeline) {
        self.dirty |= self.last.state != *state || self.last.timeline != timeline;
    }

    fn due(&self) -> Option<Instant> {
        self.dirty.then(|| self.written + RECORD_PACE)
    }

    fn write(&mut self, state: &MachineState, timeline: Timeline) {
        self.last.state = state.clone();
        self.last.timeline = timeline;
        note_fault("the record", files::write_json(&self.path, &self.last));
        self.written = Instant::now();
        self.dirty = false;
    }
}
