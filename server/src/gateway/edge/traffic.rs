//! What a connection carries: who has one open and asks for nothing holds a place that others need.
//!
//! Over HTTP/1 the head of each request has a deadline, so only connections of HTTP/2 are looked at here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::Instant;

use super::connection::{Connection, Fate};
use super::refusals::{Reason, refused};
use super::stream_task::Streams;
use crate::gateway::limits::{FIRST_REQUEST_WITHIN, IDLE_WITHIN, LEAVE_WITHIN};

/// Open streams of a connection, and since when there are none.
pub(super) struct Traffic {
    began: Instant,
    open: AtomicUsize,
    /// Milliseconds after it began at which the last stream ended.
    quiet: AtomicU64,
    asked: AtomicBool,
    is_http1: AtomicBool,
    counted: AtomicBool,
}

impl Traffic {
    pub(super) fn new(began: Instant) -> Self {
        Self {
            began,
            open: AtomicUsize::new(0),
            quiet: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            is_http1: AtomicBool::new(false),
            counted: AtomicBool::new(false),
        }
    }

    /// A request came over HTTP/1.
    pub(super) fn is_http1(&self) {
        self.is_http1.store(true, Ordering::Relaxed);
    }

    /// A stream was opened.
    pub(super) fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.asked.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        let quiet = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.quiet.store(quiet, Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Release);
    }

    /// Whether no stream is open. Over HTTP/1 none is counted.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// What becomes of the connection for what it carries.
    pub(super) fn fate(&self, now: Instant) -> Fate {
        if self.is_http1.load(Ordering::Relaxed) || !self.is_quiet() {
            return Fate::Stay;
        }
        let (patience, reason) = if self.asked.load(Ordering::Relaxed) {
            (IDLE_WITHIN, Reason::Idle)
        } else {
            (FIRST_REQUEST_WITHIN, Reason::Silent)
        };
        let end = self.began + Duration::from_millis(self.quiet.load(Ordering::Relaxed)) + patience;
        if now < end {
            return Fate::Stay;
        }
        if !self.counted.swap(true, Ordering::Relaxed) {
            refused(reason);
        }
        if now < end + LEAVE_WITHIN {
            Fate::Leave
        } else {
            Fate::End
        }
    }
}

/// Runs the streams of a connection, and counts them.
#[derive(Clone)]
pub(in crate::gateway) struct Counted(pub(in crate::gateway) Arc<Connection>);

impl<F> Executor<F> for Counted
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        self.0.traffic().begin();
        let open = Open(Arc::clone(&self.0));
        Streams.execute(Running { stream, open });
    }
}

/// An open stream.
struct Open(Arc<Connection>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.traffic().end();
    }
}

pin_project! {
    /// A stream that is counted until it is dropped.
    struct Running<F> {
        #[pin]
        stream: F,
        open: Open,
    }
}

impl<F: Future> Future for Running<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.project().stream.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn later(from: Instant, patience: Duration) -> [Instant; 3] {
        let moment = Duration::from_millis(1);
        [
            from + patience - moment,
            from + patience,
            from + patience + LEAVE_WITHIN,
        ]
    }

    fn fates(traffic: &Traffic, moments: [Instant; 3]) -> [Fate; 3] {
        moments.map(|now| traffic.fate(now))
    }

    const GOES: [Fate; 3] = [Fate::Stay, Fate::Leave, Fate::End];

    /// I9: who asks for nothing goes after seconds, who asked and asks no more after minutes, and never while a stream is open.
    #[tokio::test(start_paused = true)]
    async fn i9_a_connection_that_carries_nothing_goes() {
        let began = stonechat_host::monotonic();
        let traffic = Traffic::new(began);
        assert_eq!(fates(&traffic, later(began, FIRST_REQUEST_WITHIN)), GOES);
        traffic.begin();
        traffic.begin();
        let far = Duration::from_hours(10);
        tokio::time::advance(far).await;
        traffic.end();
        assert_eq!(traffic.fate(began + far * 2), Fate::Stay, "one is still open");
        traffic.end();
        assert_eq!(fates(&traffic, later(began + far, IDLE_WITHIN)), GOES);
        traffic.is_http1();
        assert_eq!(
            traffic.fate(began + far * 2),
            Fate::Stay,
            "HTTP/1 has deadlines of its own"
        );
    }
}
