//! Watches one run of a machine from the daemon: follows its control socket, passes requests on, and tells
//! how it ended once its process is gone.
//!
//! A machine counts as ended only when its process has ended: then its disk, tap and memory are free and it
//! may be started again.

use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use super::{files, journal, process::Process};
use crate::control::{PROTOCOL, Report, Request, SOCKET};
use crate::frame::{Decoder, encode};
use crate::machine::MachineState;
use crate::order::{FILE_BYTES_MAX, MACHINE_LOG_FILE, MachineRecord, RECORD_FILE};
use crate::spec::MachineId;

/// How long a machine may take to answer on its socket.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// How long a process may live on after it closed its socket.
const LINGER_LIMIT: Duration = Duration::from_secs(10);

/// How much of the machine's own words goes into a reason, in bytes.
const WORDS_BYTES_MAX: usize = 400;

/// What the watcher is asked.
#[derive(Debug)]
pub(super) enum Ask {
    /// Pass this on to the machine.
    Pass(Request),
    /// Kill the machine's process: it did not do as it was asked.
    Kill,
}

/// An open control connection.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    decoder: Decoder,
    /// Process of the machine.
    pub(super) pid: u32,
    /// Generation that it runs.
    pub(super) generation: u64,
    /// Its state at the moment of opening.
    pub(super) state: MachineState,
}

/// A folder held open, so that a socket in it has a short path however long its own is (a socket's path is
/// limited to 107 bytes).
pub(super) fn socket_path(folder: &Path) -> io::Result<(rustix::fd::OwnedFd, PathBuf)> {
    let held = rustix::fs::open(
        folder,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", held.as_raw_fd()));
    Ok((held, path))
}

/// Opens the control connection to the machine `id` in `folder`.
pub(super) async fn open(folder: &Path, id: MachineId) -> io::Result<Link> {
    let (held, path) = socket_path(folder)?;
    let limit = tokio::time::timeout(OPEN_LIMIT, async {
        let stream = UnixStream::connect(&path).await?;
        drop(held);
        handshake(stream, id).await
    });
    limit
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn handshake(mut stream: UnixStream, id: MachineId) -> io::Result<Link> {
    let odd = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    stream
        .write_all(&encode(&Request::Open { protocol: PROTOCOL }).map_err(io::Error::other)?)
        .await?;
    let mut decoder = Decoder::default();
    let mut opened = None;
    loop {
        while let Some(report) = decoder.take::<Report>().map_err(io::Error::other)? {
            match (report, opened) {
                (
                    Report::Opened {
                        id: theirs,
                        generation,
                        pid,
                        ..
                    },
                    None,
                ) if theirs == id => {
                    opened = Some((generation, pid));
                }
                (Report::State(state), Some((generation, pid))) => {
                    return Ok(Link {
                        stream,
                        decoder,
                        pid,
                        generation,
                        state,
                    });
                }
                _ => return Err(odd("the machine answers out of turn")),
            }
        }
        let mut piece = [0; 4096];
        match stream.read(&mut piece).await? {
            0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            length => decoder.push(&piece[..length]),
        }
    }
}

/// One run of a machine.
#[derive(Debug)]
pub(super) struct Run {
    /// Folder of the machine.
    pub(super) folder: PathBuf,
    /// Generation that it was started for.
    pub(super) generation: u64,
    /// The control connection, until it closes.
    pub(super) link: Option<Link>,
    /// The machine's process.
    pub(super) process: Process,
    /// What the daemon asks.
    pub(super) asks: mpsc::Receiver<Ask>,
}

/// What came of a run.
#[derive(Debug)]
pub(super) enum Step {
    /// It lives, in this state.
    Alive(MachineState),
    /// Its process is gone; it ended so.
    Ended(MachineState),
}

impl Run {
    /// Waits for the next state.
    pub(super) async fn next(&mut self) -> Step {
        let folder = self.folder.display();
        while let Some(link) = &mut self.link {
            match link.decoder.take::<Report>() {
                Ok(Some(Report::State(state))) if state.is_alive() => return Step::Alive(state),
                Ok(Some(_)) => {}
                Ok(None) => {
                    if !link.talk(&mut self.asks, &self.process).await {
                        self.link = None;
                    }
                }
                Err(error) => {
                    tracing::warn!(%folder, %error, "a machine's words make no sense");
                    self.link = None;
                }
            }
        }
        if tokio::time::timeout(LINGER_LIMIT, self.process.ended())
            .await
            .is_err()
        {
            tracing::warn!(%folder, "a machine's process closed its socket and stays: killing it");
            self.process.kill();
            let _ = self.process.ended().await;
        }
        Step::Ended(state_after_end(&self.folder, self.generation))
    }
}

impl Link {
    /// Reads more from the machine or passes a request on; `false` when the connection is over.
    async fn talk(&mut self, asks: &mut mpsc::Receiver<Ask>, process: &Process) -> bool {
        let mut piece = [0; 4096];
        tokio::select! {
            read = self.stream.read(&mut piece) => match read {
                Ok(0) | Err(_) => false,
                Ok(length) => {
                    self.decoder.push(&piece[..length]);
                    true
                }
            },
            Some(ask) = asks.recv() => match ask {
                Ask::Pass(request) => match encode(&request) {
                    Ok(frame) => self.stream.write_all(&frame).await.is_ok(),
                    Err(_) => true,
                },
                Ask::Kill => {
                    process.kill();
                    true
                }
            },
        }
    }
}

/// What the folder of a machine without a process says about how it ended.
pub(super) fn state_after_end(folder: &Path, generation: u64) -> MachineState {
    match files::read_json::<MachineRecord>(&folder.join(RECORD_FILE), FILE_BYTES_MAX) {
        Ok(Some(record)) if record.generation == generation && !record.state.is_alive() => record.state,
        _ => {
            let words = std::fs::read(folder.join(MACHINE_LOG_FILE)).unwrap_or_default();
            let tail = &words[words.len().saturating_sub(WORDS_BYTES_MAX)..];
            let words = crate::guest::readable(String::from_utf8_lossy(tail).trim());
            let reason = if words.is_empty() {
                "the machine's process was killed, or the host restarted".to_owned()
            } else {
                format!("the machine's process ended unexpectedly; its last words: {words}")
            };
            MachineState::Failed {
                reason,
                exit_code: None,
            }
        }
    }
}

/// Reads a piece of a log in `folder`, without blocking the runtime.
pub(super) async fn read_log(
    folder: PathBuf,
    from: Option<u64>,
    bytes_max: usize,
) -> io::Result<journal::LogChunk> {
    tokio::task::spawn_blocking(move || journal::read(&folder, from, bytes_max))
        .await
        .map_err(io::Error::other)?
}
