//! The end of a stream whose reader does not read.
//!
//! Over HTTP/2 an answer waits for its reader's window, and nothing but that reader can end the wait. So each stream
//! runs inside [`Bounded`], which drops it at a time that whoever answers may set; the peer gets RST_STREAM.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Instant, Sleep};

use super::refusals::{Reason, refused};

tokio::task_local! {
    static CURRENT: StreamEnd;
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    /// Milliseconds after that; 0 for no end.
    end: AtomicU64,
}

/// When a stream of HTTP ends, whatever its reader does.
#[derive(Debug, Clone)]
pub(in crate::gateway) struct StreamEnd(Arc<Shared>);

impl Default for StreamEnd {
    fn default() -> Self {
        Self(Arc::new(Shared {
            began: stonechat_host::monotonic(),
            end: AtomicU64::new(0),
        }))
    }
}

impl StreamEnd {
    /// That of the stream whose task this is; outside of one, an end that ends nothing.
    pub(in crate::gateway) fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// The stream ends so long from now. It notices at its next wake-up.
    pub(in crate::gateway) fn end_within(&self, patience: Duration) {
        let end = self.0.began.elapsed() + patience;
        let millis = u64::try_from(end.as_millis()).unwrap_or(u64::MAX).max(1);
        self.0.end.store(millis, Ordering::Relaxed);
    }

    /// The stream goes on: it is a connection of HTTP/1 with a new request.
    pub(in crate::gateway) fn go_on(&self) {
        self.0.end.store(0, Ordering::Relaxed);
    }

    fn at(&self) -> Option<Instant> {
        let millis = self.0.end.load(Ordering::Relaxed);
        (millis > 0).then(|| self.0.began + Duration::from_millis(millis))
    }
}

pin_project! {
    /// A stream's work, until it is done or its end has come (`None`).
    pub(in crate::gateway) struct Bounded<F> {
        #[pin]
        work: TaskLocalFuture<StreamEnd, F>,
        end: StreamEnd,
        // Only a stream that has an end and did not come to it at once has a timer.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Bounded<F> {
    pub(in crate::gateway) fn new(work: F) -> Self {
        let end = StreamEnd::default();
        Self {
            work: CURRENT.scope(end.clone(), work),
            end,
            timer: None,
        }
    }
}

impl<F: Future> Future for Bounded<F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(done) = this.work.poll(context) {
            return Poll::Ready(Some(done));
        }
        let Some(at) = this.end.at() else {
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context).map(|()| {
            refused(Reason::StuckStream);
            None
        })
    }
}

/// Runs each stream of a connection as a task of its own, and ends it at its end.
#[derive(Debug, Clone, Copy)]
pub(in crate::gateway) struct Streams;

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(Bounded::new(stream));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_when_it_was_told_to() {
        let started = stonechat_host::monotonic();
        let stuck = Bounded::new(async {
            StreamEnd::current().end_within(Duration::from_secs(30));
            std::future::pending::<()>().await;
        });
        assert_eq!(stuck.await, None);
        assert_eq!(started.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_by_itself_is_let_be() {
        let quick = Bounded::new(async {
            StreamEnd::current().end_within(Duration::from_secs(1));
            1
        });
        assert_eq!(quick.await, Some(1));
        let endless = Bounded::new(async {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            2
        });
        assert_eq!(endless.await, Some(2));
        let again = Bounded::new(async {
            StreamEnd::current().end_within(Duration::from_secs(1));
            tokio::task::yield_now().await;
            StreamEnd::current().go_on();
            tokio::time::sleep(Duration::from_secs(10)).await;
            3
        });
        assert_eq!(again.await, Some(3));
    }
}
