//! An upgraded connection: bytes both ways until an end closes, or both are silent for too long.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;

/// How many bytes are read at once.
const BUFFER_BYTES: usize = 16 << 10;
/// How long the two upgrades may take after the 101.
const UPGRADE_WAIT: Duration = Duration::from_secs(10);

/// Joins the two ends of an upgrade.
pub(super) async fn tunnel(client: OnUpgrade, instance: OnUpgrade, wait: Duration) {
    let both = async { tokio::try_join!(client, instance) };
    let (client, instance) = match tokio::time::timeout(UPGRADE_WAIT, both).await {
        Ok(Ok(both)) => both,
        Ok(Err(error)) => {
            tracing::debug!(%error, "an upgrade failed");
            return;
        }
        Err(_) => return,
    };
    let (client_in, client_out) = tokio::io::split(TokioIo::new(client));
    let (instance_in, instance_out) = tokio::io::split(TokioIo::new(instance));
    let (moved, last) = watch::channel(());
    tokio::select! {
        _ = async { tokio::join!(pump(client_in, instance_out, &moved), pump(instance_in, client_out, &moved)) } => {}
        () = silence(last, wait) => tracing::debug!("an upgraded connection was silent for too long"),
    }
}

/// One direction; at its end the other end is told so.
async fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    mut from: R,
    mut to: W,
    moved: &watch::Sender<()>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(length) => {
                moved.send_replace(());
                if to.write_all(&buffer[..length]).await.is_err() {
                    break;
                }
            }
        }
    }
    // The other end may be gone already.
    let _ = to.shutdown().await;
}

async fn silence(mut last: watch::Receiver<()>, wait: Duration) {
    while let Ok(Ok(())) = tokio::time::timeout(wait, last.changed()).await {}
}
