//! A connection that becomes an encrypted one while it is read: accepting the next one does not wait for it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use stonechat_host::BoxedIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::HANDSHAKE_WITHIN;
use crate::telemetry::meters::{Handshake, meters};

enum Stage {
    Shaking {
        accept: Box<Accept<BoxedIo>>,
        deadline: Pin<Box<Sleep>>,
    },
    Open(Box<TlsStream<BoxedIo>>),
    Failed(io::ErrorKind),
}

/// The plain side of an encrypted connection.
pub(super) struct Encrypted(Stage);

impl Encrypted {
    /// Begins a handshake under these settings; whoever reads or writes carries it on.
    pub(super) fn begin(io: BoxedIo, config: Arc<ServerConfig>) -> Self {
        Self(Stage::Shaking {
            accept: Box::new(TlsAcceptor::from(config).accept(io)),
            deadline: Box::pin(tokio::time::sleep(HANDSHAKE_WITHIN)),
        })
    }

    fn poll_open(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Pin<&mut TlsStream<BoxedIo>>>> {
        if let Stage::Shaking { accept, deadline } = &mut self.0 {
            let shaken = match Pin::new(&mut **accept).poll(context) {
                Poll::Ready(shaken) => shaken,
                Poll::Pending => {
                    ready!(deadline.as_mut().poll(context));
                    Err(io::ErrorKind::TimedOut.into())
                }
            };
            self.0 = match shaken {
                Ok(stream) => Stage::Open(Box::new(stream)),
                Err(error) => failed(&error),
            };
        }
        Poll::Ready(match &mut self.0 {
            Stage::Open(stream) => Ok(Pin::new(&mut **stream)),
            Stage::Failed(kind) => Err((*kind).into()),
            Stage::Shaking { .. } => Err(io::ErrorKind::NotConnected.into()),
        })
    }
}

/// Drops the connection: its peer sees it closed, after the alert that says why.
fn failed(error: &io::Error) -> Stage {
    let reason = if error.kind() == io::ErrorKind::TimedOut {
        Handshake::Deadline
    } else {
        Handshake::Refused
    };
    meters().tls_handshakes_failed.inc(reason);
    tracing::debug!(%error, "handshake failed");
    Stage::Failed(error.kind())
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?.poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?.poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_open(context))?.poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Stage::Open(stream) => Pin::new(&mut **stream).poll_shutdown(context),
            // Nothing was said that would have to be finished.
            Stage::Shaking { .. } | Stage::Failed(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_open(context))?.poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
