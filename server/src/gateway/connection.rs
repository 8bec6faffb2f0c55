//! One connection: a deadline for its first bytes, then HTTP/1.1 or HTTP/2 with every limit set.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use stonechat_host::BoxedIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::limits::{
    FIRST_BYTES, FIRST_BYTES_WITHIN, HEADER_LIST_BYTES_MAX, HTTP1_HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES,
    HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX, KEEP_ALIVE_EVERY, KEEP_ALIVE_TIMEOUT, LOCAL_ERROR_RESETS_MAX,
    SEND_BUFFER_BYTES_MAX,
};

/// What connections are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Go on.
    Serving,
    /// Take no new requests, finish those under way.
    Draining,
    /// End now.
    Stopped,
}

/// The protocol settings of every connection.
fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    // The date comes from the node's clock (`router`), not from the machine's behind its back.
    builder
        .http1()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .header_read_timeout(FIRST_BYTES_WITHIN)
        .max_buf_size(HTTP1_HEAD_BYTES_MAX);
    builder
        .http2()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .max_concurrent_streams(HTTP2_STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// Serves a connection until it ends or the node does.
pub(super) async fn serve(io: BoxedIo, app: Router, mut stopped: watch::Receiver<Phase>) {
    let mut draining = stopped.clone();
    let builder = builder();
    let io = TokioIo::new(FirstBytes::new(io));
    let mut connection = pin!(builder.serve_connection(io, TowerToHyperService::new(app)));
    let mut told = false;
    loop {
        tokio::select! { biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return;
            }
            _ = stopped.wait_for(|phase| *phase == Phase::Stopped) => return,
            _ = draining.wait_for(|phase| *phase >= Phase::Draining), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// A byte stream that fails when its peer has not spoken in time: it neither sent its first bytes nor was answered.
struct FirstBytes {
    io: BoxedIo,
    read: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl FirstBytes {
    fn new(io: BoxedIo) -> Self {
        Self {
            io,
            read: 0,
            deadline: Some(Box::pin(tokio::time::sleep(FIRST_BYTES_WITHIN))),
        }
    }
}

impl AsyncRead for FirstBytes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else {
            return read;
        };
        if read.is_pending() {
            return match deadline.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
                Poll::Pending => Poll::Pending,
            };
        }
        self.read += buffer.filled().len() - before;
        if self.read >= FIRST_BYTES {
            self.deadline = None;
        }
        read
    }
}

impl AsyncWrite for FirstBytes {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        if written.is_ready() {
            // Only who has sent a request, or the whole preface of HTTP/2, is answered.
            self.deadline = None;
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
        if written.is_ready() {
            self.deadline = None;
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A peer that says nothing, or only a part of the preface, is gone after 5 s.
    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_cut_off() {
        for said in [&b""[..], b"PRI * HTTP/2.0"] {
            let (mut client, server) = tokio::io::duplex(64);
            let (_keep, phase) = watch::channel(Phase::Serving);
            let started = stonechat_host::monotonic();
            let served = tokio::spawn(serve(Box::new(server), Router::new(), phase));
            client.write_all(said).await.expect("written");
            served.await.expect("ended");
            assert_eq!(started.elapsed().as_secs(), FIRST_BYTES_WITHIN.as_secs());
            assert_eq!(client.read(&mut [0; 8]).await.expect("closed"), 0);
        }
    }

    /// Who finished the preface is answered, and not cut off.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_spoke_stays() {
        let (mut client, server) = tokio::io::duplex(1024);
        let (_keep, phase) = watch::channel(Phase::Serving);
        let served = tokio::spawn(serve(Box::new(server), Router::new(), phase));
        client
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .expect("written");
        client.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.expect("settings");
        let mut settings = [0; 9];
        client.read_exact(&mut settings).await.expect("the server's settings");
        assert_eq!(settings[3], 4, "the first frame is SETTINGS");
        tokio::time::sleep(FIRST_BYTES_WITHIN * 2).await;
        assert!(!served.is_finished());
        served.abort();
    }
}
