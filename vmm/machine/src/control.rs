//! Serves the control socket: tells every daemon that connects where the machine stands, and passes on what it
//! asks. The socket lies in a folder that only root may enter; what comes over it is still bounded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use vmm::control::{PROTOCOL, Report, Request};
use vmm::frame::{Decoder, encode};
use vmm::machine::MachineState;
use vmm::spec::MachineId;

/// How many connections are served at once. One daemon has one; the rest is for the moment of a restart.
const CONNECTIONS_MAX: usize = 8;

/// The least pause between two states: a guest that flaps cannot flood its daemon.
const STATE_PACE: Duration = Duration::from_millis(20);

/// Who the machine is, and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Desk {
    /// Which machine.
    pub(crate) id: MachineId,
    /// Generation that it was started for.
    pub(crate) generation: u64,
    /// Its latest state.
    pub(crate) state: watch::Receiver<MachineState>,
    /// Where requests go.
    pub(crate) requests: mpsc::Sender<Request>,
}

/// Accepts connections for ever.
pub(crate) async fn serve(listener: UnixListener, desk: Desk) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(seat) = seats.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = desk.clone();
                tokio::spawn(async move {
                    if let Err(error) = talk(stream, desk).await {
                        tracing::debug!(%error, "a control connection ended");
                    }
                    drop(seat);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket does not accept");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn talk(mut stream: UnixStream, mut desk: Desk) -> io::Result<()> {
    let mut decoder = Decoder::default();
    let mut piece = [0; 1024];
    let mut opened = false;
    loop {
        while let Some(request) = decoder.take::<Request>().map_err(io::Error::other)? {
            match request {
                Request::Open { protocol } if !opened => {
                    tracing::debug!(protocol, "a daemon connected");
                    opened = true;
                    let (id, generation, pid) = (desk.id, desk.generation, std::process::id());
                    send(
                        &mut stream,
                        &Report::Opened {
                            protocol: PROTOCOL,
                            id,
                            generation,
                            pid,
                        },
                    )
                    .await?;
                    let state = desk.state.borrow_and_update().clone();
                    send(&mut stream, &Report::State(state)).await?;
                }
                Request::Stop { .. } | Request::Kill if opened => {
                    desk.requests.send(request).await.map_err(io::Error::other)?;
                }
                odd => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        format!("{odd:?} out of turn"),
                    ));
                }
            }
        }
        tokio::select! {
            read = stream.read(&mut piece) => match read? {
                0 => return Ok(()),
                length => decoder.push(&piece[..length]),
            },
            changed = desk.state.changed(), if opened => {
                changed.map_err(io::Error::other)?;
                let state = desk.state.borrow_and_update().clone();
                send(&mut stream, &Report::State(state)).await?;
                tokio::time::sleep(STATE_PACE).await;
            }
        }
    }
}

async fn send(stream: &mut UnixStream, report: &Report) -> io::Result<()> {
    stream.write_all(&encode(report).map_err(io::Error::other)?).await
}
