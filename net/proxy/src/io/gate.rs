//! A client's connection, watched by [`Framing`](crate::framing::Framing) on its way to hyper.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::framing::{Framing, FramingError};

/// What the watcher says, for the exchanges of the connection.
#[derive(Clone, Default)]
pub(super) struct Watch(Arc<Mutex<Framing>>);

impl Watch {
    pub(super) fn refused(&self) -> Option<FramingError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).refused()
    }

    pub(super) fn pass_through(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pass_through();
    }
}

/// The watched connection.
pub(super) struct Gate {
    stream: TcpStream,
    watch: Watch,
}

impl Gate {
    pub(super) fn new(stream: TcpStream, watch: Watch) -> Self {
        Self { stream, watch }
    }
}

impl AsyncRead for Gate {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            self.watch
                .0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .feed(&buf.filled()[before..]);
        }
        polled
    }
}

impl AsyncWrite for Gate {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
