//! The byte stream of a connection, watched: it fails when its peer does not speak in time, or floods.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use stonechat_host::BoxedIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::connection::Connection;
use super::frames::{Flood, Frames};
use super::refusals::{Reason, refused};
use super::unproven::Unproven;
use crate::gateway::limits::{FIRST_BYTES, FIRST_BYTES_WITHIN, FIRST_REQUEST_WITHIN};

/// A byte stream that fails when its peer has not spoken in time (it neither sent its first bytes nor was answered), and
/// when it floods.
pub(in crate::gateway) struct Watched {
    io: BoxedIo,
    frames: Frames,
    connection: Arc<Connection>,
    /// Until somebody on it showed a good token.
    unproven: Option<Box<Unproven>>,
    read: usize,
    spoke: bool,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    pub(in crate::gateway) fn new(io: BoxedIo, connection: Arc<Connection>) -> Self {
        Self {
            io,
            frames: Frames::new(stonechat_host::monotonic()),
            unproven: Some(Box::new(connection.unproven())),
            connection,
            read: 0,
            spoke: false,
            deadline: Some(Box::pin(tokio::time::sleep(FIRST_BYTES_WITHIN))),
        }
    }

    /// Nothing came: for how long may that go on?
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(deadline) = &mut self.deadline else {
            return Poll::Pending;
        };
        ready!(deadline.as_mut().poll(context));
        self.deadline = None;
        if self.spoke {
            // It wakes the connection, which looks whether there was a request.
            return Poll::Pending;
        }
        refused(Reason::Silent);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The peer has shown what it speaks. Next is a request, by when it is time to look for one.
    fn spoke(&mut self) {
        if self.spoke {
            return;
        }
        self.spoke = true;
        if let Some(deadline) = &mut self.deadline {
            let first_request = deadline.deadline() - FIRST_BYTES_WITHIN + FIRST_REQUEST_WITHIN;
            deadline.as_mut().reset(first_request);
        }
    }

    fn received(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.read = self.read.saturating_add(bytes.len());
        if self.read >= FIRST_BYTES {
            self.spoke();
        }
        self.take_in(bytes.len())?;
        self.frames.reached(self.connection.take_reached());
        let counted = self.frames.received(bytes, stonechat_host::monotonic);
        counted.map_err(|flood| {
            let (reason, words) = match flood {
                Flood::Frames => (Reason::FrameFlood, "a flood of frames that carry nothing"),
                Flood::Requests => (Reason::RequestFlood, "a flood of requests that are none"),
            };
            refused(reason);
            io::Error::other(words)
        })
    }

    /// Counts what nobody known sent.
    fn take_in(&mut self, bytes: usize) -> io::Result<()> {
        if self.connection.is_proven() {
            self.unproven = None;
        }
        let Some(unproven) = &mut self.unproven else {
            return Ok(());
        };
        if self.connection.traffic().is_quiet() {
            unproven.clear();
        }
        if unproven.sent(bytes) {
            return Ok(());
        }
        refused(Reason::UnprovenBytes);
        Err(io::Error::other("no room for what strangers send"))
    }

    /// Bytes of these were written. Only who has sent a request, or the whole preface of HTTP/2, is answered.
    fn sent<'a>(&mut self, buffers: impl IntoIterator<Item = &'a [u8]>, mut written: usize) {
        self.spoke();
        for buffer in buffers {
            let sent = buffer.len().min(written);
            self.frames.sent(&buffer[..sent]);
            written -= sent;
            if written == 0 {
                return;
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.io).poll_read(context, buffer) {
            Poll::Pending => self.poll_deadline(context),
            Poll::Ready(Ok(())) => Poll::Ready(self.received(&buffer.filled()[before..])),
            failed => failed,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if let Poll::Ready(Ok(count)) = written {
            self.sent([bytes], count);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(context, buffers);
        if let Poll::Ready(Ok(count)) = written {
            self.sent(buffers.iter().map(|buffer| &**buffer), count);
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
