//! The channel to the host: a virtio-serial port, read by one thread and written by another.
//!
//! Nothing here waits for the host but the writer: what the host does not read waits in a bounded [`Outbox`];
//! when that is full, output of the workload is dropped and counted, the few frames about states are not.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use vmm::frame::{Decoder, encode};
use vmm::guest::{LOG_BYTES_MAX, LogSource, PORT_NAME, ToHost};

use crate::{Event, system};

/// How long the port may take to appear.
const PORT_WAIT: Duration = Duration::from_secs(20);

/// How many bytes of output may wait for the host.
const LOG_WAITING_BYTES_MAX: usize = 256 * 1024;

/// How many frames of any kind may wait. Frames about states come singly; this is never met in good order.
const FRAMES_WAITING_MAX: usize = 4096;

/// How long the workload's output waits for room before it is dropped.
const ROOM_WAIT: Duration = Duration::from_millis(200);

/// The open port.
#[derive(Debug)]
pub(crate) struct Port {
    file: File,
}

impl Port {
    /// Waits for the port and opens it.
    pub(crate) fn open() -> Result<Self, String> {
        let begin = Instant::now();
        loop {
            if let Some(name) = find() {
                let path = format!("/dev/{name}");
                return OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .map(|file| Port { file })
                    .map_err(|error| format!("{path}: {error}"));
            }
            if begin.elapsed() > PORT_WAIT {
                return Err(format!("there is no port {PORT_NAME}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Starts the threads. What the host says goes to `events`.
    pub(crate) fn start(self, events: mpsc::Sender<Event>) -> Outbox {
        let outbox = Outbox::default();
        match self.file.try_clone() {
            Ok(file) => {
                let outbox = outbox.clone();
                system::thread("port-write", move || outbox.drain_into(file));
            }
            Err(error) => eprintln!("form-init: the port cannot be written: {error}"),
        }
        system::thread("port-read", move || read(self.file, &events));
        outbox
    }
}

fn find() -> Option<String> {
    fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let name = fs::read_to_string(entry.path().join("name")).ok()?;
            (name.trim() == PORT_NAME)
                .then(|| entry.file_name().into_string().ok())
                .flatten()
        })
}

fn read(mut file: File, events: &mpsc::Sender<Event>) {
    let mut decoder = Decoder::default();
    let mut bytes = [0; 4096];
    let mut pause_ms = 2;
    loop {
        match file.read(&mut bytes) {
            // Nobody is at the other end (yet).
            Ok(0) | Err(_) => {
                std::thread::sleep(Duration::from_millis(pause_ms));
                pause_ms = (pause_ms * 2).min(500);
                continue;
            }
            Ok(length) => decoder.push(&bytes[..length]),
        }
        pause_ms = 2;
        loop {
            let event = match decoder.take() {
                Ok(Some(message)) => Event::Host(message),
                Ok(None) => break,
                Err(error) => {
                    let _ = events.send(Event::HostGarbled(error.to_string()));
                    return;
                }
            };
            if events.send(event).is_err() {
                return;
            }
        }
    }
}

/// Frames that wait for the host. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    writing: bool,
    /// Bytes of output that were dropped, by source.
    lost: [u64; 3],
}

fn place(source: LogSource) -> usize {
    match source {
        LogSource::Stdout => 0,
        LogSource::Stderr => 1,
        LogSource::Init => 2,
    }
}

impl Outbox {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, waiting: &mut Waiting, message: &ToHost) {
        match encode(message) {
            Ok(frame) if waiting.frames.len() < FRAMES_WAITING_MAX => {
                waiting.bytes += frame.len();
                waiting.frames.push_back(frame);
                self.shared.changed.notify_all();
            }
            Ok(_) => eprintln!("form-init: the host does not read: {message:?} is dropped"),
            Err(error) => eprintln!("form-init: {message:?} cannot be sent: {error}"),
        }
    }

    /// Sends a frame about a state.
    pub(crate) fn send(&self, message: &ToHost) {
        self.push(&mut self.waiting(), message);
    }

    /// Sends output of the workload, or drops it when there is no room for too long.
    pub(crate) fn log(&self, source: LogSource, bytes: &[u8]) {
        for bytes in bytes.chunks(LOG_BYTES_MAX) {
            let full = |waiting: &mut Waiting| {
                waiting.bytes > LOG_WAITING_BYTES_MAX || waiting.frames.len() > FRAMES_WAITING_MAX / 2
            };
            let (mut waiting, limit) = self
                .shared
                .changed
                .wait_timeout_while(self.waiting(), ROOM_WAIT, full)
                .unwrap_or_else(PoisonError::into_inner);
            if limit.timed_out() {
                waiting.lost[place(source)] += bytes.len() as u64;
                continue;
            }
            let lost = std::mem::take(&mut waiting.lost[place(source)]);
            self.push(
                &mut waiting,
                &ToHost::Log {
                    source,
                    lost,
                    bytes: bytes.to_vec(),
                },
            );
        }
    }

    /// Waits until all was written, with a limit.
    pub(crate) fn flush(&self, limit: Duration) {
        let busy = |waiting: &mut Waiting| waiting.writing || !waiting.frames.is_empty();
        let _ = self
            .shared
            .changed
            .wait_timeout_while(self.waiting(), limit, busy);
    }

    fn drain_into(&self, mut to: impl Write) {
        loop {
            let frame = {
                let mut waiting = self
                    .shared
                    .changed
                    .wait_while(self.waiting(), |waiting| waiting.frames.is_empty())
                    .unwrap_or_else(PoisonError::into_inner);
                let Some(frame) = waiting.frames.pop_front() else {
                    continue;
                };
                waiting.bytes -= frame.len();
                waiting.writing = true;
                frame
            };
            let written = to.write_all(&frame);
            self.waiting().writing = false;
            self.shared.changed.notify_all();
            if let Err(error) = written {
                eprintln!("form-init: the port cannot be written: {error}");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(bytes: &[u8]) -> Vec<ToHost> {
        let mut decoder = Decoder::default();
        decoder.push(bytes);
        std::iter::from_fn(|| decoder.take().unwrap()).collect()
    }

    #[test]
    fn output_that_the_host_does_not_read_is_dropped_and_counted_but_states_are_kept() {
        let outbox = Outbox::default();
        let piece = vec![b'x'; LOG_BYTES_MAX];
        for _ in 0..(LOG_WAITING_BYTES_MAX / LOG_BYTES_MAX + 3) {
            outbox.log(LogSource::Stdout, &piece);
        }
        outbox.send(&ToHost::Serving {
            serving: true,
            uptime_ms: 1,
        });
        let (mut reader, writer) = std::io::pipe().unwrap();
        let writing = outbox.clone();
        std::thread::spawn(move || writing.drain_into(writer));
        let reading = std::thread::spawn(move || {
            let mut all = Vec::new();
            let mut piece = [0; 65536];
            let is_last = |message: &ToHost| matches!(message, ToHost::Log { bytes, .. } if bytes == b"end");
            while !messages(&all).iter().any(is_last) {
                let length = reader.read(&mut piece).unwrap();
                all.extend_from_slice(&piece[..length]);
            }
            messages(&all)
        });
        outbox.flush(Duration::from_secs(10));
        outbox.log(LogSource::Stdout, b"end");
        let got = reading.join().unwrap();
        assert!(got.contains(&ToHost::Serving {
            serving: true,
            uptime_ms: 1
        }));
        let Some(ToHost::Log { lost, bytes, .. }) = got.last() else {
            panic!("{got:?}")
        };
        assert!(*lost > 0 && *lost % LOG_BYTES_MAX as u64 == 0, "{lost}");
        assert_eq!(bytes, b"end");
    }
}
