//! The door for other nodes: takes their connections, so many at a time, and owns each with all that runs on it.
//!
//! Nodes show certificates or are alone in their network, so these bounds are against faults more than against strangers; but
//! they are bounds: a node that is lost in a loop must not take the others with it.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use stonechat_host::{BoxedIo, Listener};
use tokio::task::{JoinHandle, JoinSet};

use super::Cluster;
use super::service::{Forwarding, forwarding};
use crate::conversation::Conversations;
use crate::telemetry::meters::{Turned, meters};

/// Connections from other nodes: each has one to each other, so this is a fleet of hundreds, and those that come back while
/// their last ones end.
pub const NODE_CONNECTIONS_MAX: usize = 1_024;
/// Time in which a connection must have begun a line: to shake hands in both senses, and to ask once.
const BEGUN_WITHIN: Duration = Duration::from_secs(5);
/// Streams of one connection: a line, and one that follows it before its end was seen.
const STREAMS_MAX: u32 = 4;
/// Streams that were reset before they were looked at, and resets by errors of the other node's own: a line is one stream, so
/// more is no node.
const RESETS_MAX: usize = 20;
/// Bytes of the headers of a line: it has a dozen short ones.
const HEADER_LIST_BYTES_MAX: u32 = 8 * 1024;
/// Bytes that another node may send ahead: what a line carries in some milliseconds.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Bytes of answers that wait for another node to read: far more than a line has.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;
/// Pause after a failed accept: descriptors come back as connections end.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// A node that does not answer a ping is gone.
const PING_EVERY: Duration = Duration::from_secs(10);
/// How long it has to answer.
const PING_ANSWERED_WITHIN: Duration = Duration::from_secs(10);

/// The listener for other nodes. Dropping it ends all its lines, and what was under way on them, as a crash would.
pub struct ForwardingServer(JoinHandle<()>);

impl Drop for ForwardingServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Serves other nodes.
#[must_use]
pub fn serve(listener: Arc<dyn Listener>, cluster: Arc<Cluster>, conversations: Conversations) -> ForwardingServer {
    ForwardingServer(tokio::spawn(accept_all(listener, cluster, conversations)))
}

async fn accept_all(listener: Arc<dyn Listener>, cluster: Arc<Cluster>, conversations: Conversations) {
    // Ends with this task.
    let mut open = JoinSet::new();
    loop {
        let io = accept(&*listener).await;
        while open.try_join_next().is_some() {}
        if open.len() >= NODE_CONNECTIONS_MAX {
            meters().edge_refusals.inc(Turned::NodeConnections);
            tracing::warn!("another node was refused: there are as many connections as may be");
            continue;
        }
        open.spawn(connection(io, Arc::clone(&cluster), conversations.clone()));
    }
}

async fn accept(listener: &dyn Listener) -> BoxedIo {
    loop {
        match listener.accept().await {
            Ok((io, _)) => return io,
            Err(error) => {
                meters().accept_errors.inc();
                tracing::warn!(%error, "another node was not accepted, trying again");
                tokio::time::sleep(ACCEPT_AGAIN_AFTER).await;
            }
        }
    }
}

async fn connection(io: BoxedIo, cluster: Arc<Cluster>, conversations: Conversations) {
    let owner = Owner(Work::new());
    let work = owner.0.clone();
    let service = forwarding(Forwarding {
        cluster,
        conversations,
        work: work.clone(),
    });
    let builder = builder(work.clone());
    let mut serving = pin!(builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service)));
    tokio::select! { biased;
        ended = &mut serving => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection of another node ended");
            }
        }
        () = idle(&work) => meters().edge_refusals.inc(Turned::Silent),
    }
}

/// The protocol settings of every connection.
fn builder(work: Work) -> Builder<Work> {
    let mut builder = Builder::new(work).http2_only();
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_MAX)
        .max_local_error_reset_streams(RESETS_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_ANSWERED_WITHIN);
    builder
}

/// Returns when a connection carries nothing: it did not begin in time, or its line ended.
async fn idle(work: &Work) {
    loop {
        tokio::time::sleep(BEGUN_WITHIN).await;
        if work.is_none() {
            return;
        }
    }
}

/// What runs on one connection: its streams, and the line that one of them is. `None` once the connection ended.
#[derive(Clone)]
pub(super) struct Work(Arc<Mutex<Option<JoinSet<()>>>>);

impl Work {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(JoinSet::new()))))
    }

    /// Runs until it is done or the connection ends.
    pub(super) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(running) = &mut *self.running() {
            while running.try_join_next().is_some() {}
            running.spawn(work);
        }
    }

    fn is_none(&self) -> bool {
        self.running().as_mut().is_none_or(|running| {
            while running.try_join_next().is_some() {}
            running.is_empty()
        })
    }

    fn running(&self) -> MutexGuard<'_, Option<JoinSet<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F> Executor<F> for Work
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.spawn(async move {
            let _answered = stream.await;
        });
    }
}

/// Ends what runs on a connection when it ends. Whatever runs there knows the others by a [`Work`] of its own, so that dropping
/// those ends nothing.
struct Owner(Work);

impl Drop for Owner {
    fn drop(&mut self) {
        let running = self.0.running().take();
        drop(running);
    }
}

#[cfg(test)]
mod tests;
