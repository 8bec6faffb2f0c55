//! One connection: a deadline for its first bytes, then HTTP/1.1 or HTTP/2 with every limit set.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use stonechat_host::BoxedIo;
use tokio::sync::watch;

use super::edge::{Bounded, Connection, Counted, Fate, Requests, Watched};
use super::limits::{
    FIRST_BYTES_WITHIN, HEADER_LIST_BYTES_MAX, HTTP1_HEAD_BYTES_MAX, HTTP2_CONNECTION_WINDOW_BYTES,
    HTTP2_FRAME_BYTES_MAX, HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX, KEEP_ALIVE_EVERY, KEEP_ALIVE_TIMEOUT,
    LOCAL_ERROR_RESETS_MAX, PENDING_ACCEPT_RESETS_MAX, SEND_BUFFER_BYTES_MAX,
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
fn builder(shared: &Arc<Connection>) -> Builder<Counted> {
    let mut builder = Builder::new(Counted(Arc::clone(shared)));
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
        .max_frame_size(HTTP2_FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(PENDING_ACCEPT_RESETS_MAX)
        .max_local_error_reset_streams(LOCAL_ERROR_RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

/// Serves a connection until it ends or the node does.
pub(super) fn serve(
    io: BoxedIo,
    app: Router,
    shared: Arc<Connection>,
    phase: watch::Receiver<Phase>,
) -> impl Future<Output = Option<()>> {
    // Over HTTP/1 the connection is its one stream; over HTTP/2 each stream has a task and an end of its own.
    Bounded::new(run(io, app, shared, phase))
}

async fn run(io: BoxedIo, app: Router, shared: Arc<Connection>, mut phase: watch::Receiver<Phase>) {
    let builder = builder(&shared);
    let requests = Requests {
        app,
        connection: Arc::clone(&shared),
    };
    let io = TokioIo::new(Watched::new(io, Arc::clone(&shared)));
    let mut connection = pin!(builder.serve_connection(io, requests));
    let mut told = *phase.borrow_and_update() != Phase::Serving;
    if told {
        connection.as_mut().graceful_shutdown();
    }
    loop {
        // Looks at its age at every wake-up, after the work that it woke up for.
        let lives = std::future::poll_fn(|context| {
            if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
                return Poll::Ready(Fate::End);
            }
            match shared.fate(stonechat_host::monotonic()) {
                Fate::Stay => Poll::Pending,
                Fate::Leave if told => Poll::Pending,
                fate => Poll::Ready(fate),
            }
        });
        let fate = tokio::select! { biased;
            fate = lives => fate,
            changed = phase.changed() => match *phase.borrow() {
                // Without its node a connection has nothing to live for.
                _ if changed.is_err() => Fate::End,
                Phase::Stopped => Fate::End,
                Phase::Serving | Phase::Draining => Fate::Leave,
            },
        };
        if fate == Fate::End {
            return;
        }
        if !told {
            told = true;
            connection.as_mut().graceful_shutdown();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::config::Config;
    use crate::gateway::edge::Edge;

    fn shared() -> Arc<Connection> {
        let edge = Edge::new(&Config::default(), stonechat_host::Host::system());
        edge.enter(([127, 0, 0, 1], 1).into()).expect("a connection")
    }

    /// A peer that says nothing, or only a part of the preface, is gone after 5 s.
    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_cut_off() {
        for said in [&b""[..], b"PRI * HTTP/2.0"] {
            let (mut client, server) = tokio::io::duplex(64);
            let (_keep, phase) = watch::channel(Phase::Serving);
            let started = stonechat_host::monotonic();
            let served = tokio::spawn(serve(Box::new(server), Router::new(), shared(), phase));
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
        let served = tokio::spawn(serve(Box::new(server), Router::new(), shared(), phase));
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
