//! The task of a stream: what it answers, who answers it, and its end when its reader does not read.
//!
//! Over HTTP/2 an answer waits for its reader's window, and nothing but that reader can end the wait. So each stream
//! runs inside [`Bounded`], which drops it at a time that whoever answers may set; the peer gets RST_STREAM. The session
//! that writes the answer runs in the same task: a frame needs no wake-up between who writes it and who sends it.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::task::futures::TaskLocalFuture;
use tokio::time::{Instant, Sleep};

use super::refusals::{Reason, refused};

tokio::task_local! {
    static CURRENT: StreamTask;
}

struct Shared {
    began: Instant,
    /// Milliseconds after that; 0 for no end.
    end: AtomicU64,
    /// Whether there is a task that runs what is put beside; else it gets one of its own.
    inside: bool,
    /// What was put beside since the task looked.
    beside: Mutex<Vec<BoxFuture<'static, ()>>>,
}

/// The task of a stream of HTTP: when it ends, whatever its reader does, and what else runs in it.
#[derive(Clone)]
pub(in crate::gateway) struct StreamTask(Arc<Shared>);

impl Default for StreamTask {
    fn default() -> Self {
        Self::new(false)
    }
}

impl StreamTask {
    fn new(inside: bool) -> Self {
        Self(Arc::new(Shared {
            began: stonechat_host::monotonic(),
            end: AtomicU64::new(0),
            inside,
            beside: Mutex::default(),
        }))
    }

    /// That of the stream whose task this is; outside of one, an end that ends nothing.
    pub(in crate::gateway) fn current() -> Self {
        CURRENT.try_with(Self::clone).unwrap_or_default()
    }

    /// Runs `work` in the stream's task, before the stream itself each time, and beyond its end until it is done. A panic
    /// in it ends it alone.
    pub(in crate::gateway) fn run_beside(&self, work: impl Future<Output = ()> + Send + 'static) {
        if !self.0.inside {
            tokio::spawn(work);
            return;
        }
        // The panic itself was told by its hook; what the work held is dropped, which is what others see of it.
        let work = AssertUnwindSafe(work).catch_unwind().map(|_panicked| ());
        let mut beside = self.0.beside.lock().unwrap_or_else(PoisonError::into_inner);
        beside.push(work.boxed());
    }

    /// Whether what is put beside runs in the stream's own task: then what it does to the stream needs no wake-up.
    pub(in crate::gateway) fn is_inside(&self) -> bool {
        self.0.inside
    }

    fn take_beside(&self) -> Vec<BoxFuture<'static, ()>> {
        std::mem::take(&mut self.0.beside.lock().unwrap_or_else(PoisonError::into_inner))
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
    /// A stream's work and what runs beside it, until both are done. `None` when the stream's end came before its work was.
    pub(in crate::gateway) struct Bounded<F: Future> {
        #[pin]
        work: Option<TaskLocalFuture<StreamTask, F>>,
        done: Option<Option<F::Output>>,
        beside: Vec<BoxFuture<'static, ()>>,
        task: StreamTask,
        // Only a stream that has an end and did not come to it at once has a timer.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Bounded<F> {
    pub(in crate::gateway) fn new(work: F) -> Self {
        let task = StreamTask::new(true);
        Self {
            work: Some(CURRENT.scope(task.clone(), work)),
            done: None,
            beside: Vec::new(),
            task,
            timer: None,
        }
    }

    /// The work until its end; drops it then, so that whoever writes to it sees that nobody reads.
    fn poll_work(mut self: Pin<&mut Self>, context: &mut Context<'_>) {
        let mut this = self.as_mut().project();
        let Some(work) = this.work.as_mut().as_pin_mut() else {
            return;
        };
        let done = match work.poll(context) {
            Poll::Ready(output) => Some(output),
            Poll::Pending if self.as_mut().poll_end(context).is_ready() => None,
            Poll::Pending => return,
        };
        let mut this = self.project();
        *this.done = Some(done);
        this.work.set(None);
    }

    fn poll_end(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let Some(at) = this.task.at() else {
            return Poll::Pending;
        };
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(context).map(|()| refused(Reason::StuckStream))
    }
}

impl<F: Future> Future for Bounded<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            // First who writes, then what sends it: neither has to wake the other.
            let this = self.as_mut().project();
            this.beside
                .retain_mut(|beside| beside.as_mut().poll(context).is_pending());
            self.as_mut().poll_work(context);
            let this = self.as_mut().project();
            let more = this.task.take_beside();
            if more.is_empty() {
                break;
            }
            this.beside.extend(more);
        }
        let this = self.project();
        if !this.beside.is_empty() {
            return Poll::Pending;
        }
        this.done.take().map_or(Poll::Pending, Poll::Ready)
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
            StreamTask::current().end_within(Duration::from_secs(30));
            std::future::pending::<()>().await;
        });
        assert_eq!(stuck.await, None);
        assert_eq!(started.elapsed().as_secs(), 30);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_by_itself_is_let_be() {
        let quick = Bounded::new(async {
            StreamTask::current().end_within(Duration::from_secs(1));
            1
        });
        assert_eq!(quick.await, Some(1));
        let endless = Bounded::new(async {
            tokio::time::sleep(Duration::from_secs(3_600)).await;
            2
        });
        assert_eq!(endless.await, Some(2));
        let again = Bounded::new(async {
            StreamTask::current().end_within(Duration::from_secs(1));
            tokio::task::yield_now().await;
            StreamTask::current().go_on();
            tokio::time::sleep(Duration::from_secs(10)).await;
            3
        });
        assert_eq!(again.await, Some(3));
    }

    /// Says `true` when it is dropped.
    struct Told(Arc<std::sync::atomic::AtomicBool>);

    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// What runs beside a stream sees that it ended, and is not cut off with it.
    #[tokio::test(start_paused = true)]
    async fn what_runs_beside_outlives_the_stream() {
        let dropped = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (told, seen) = (Told(Arc::clone(&dropped)), Arc::clone(&dropped));
        let (say, heard) = tokio::sync::oneshot::channel();
        let stream = Bounded::new(async move {
            let _told = told;
            let (task, say) = (StreamTask::current(), say);
            assert!(task.is_inside());
            task.run_beside(async move {
                tokio::time::sleep(Duration::from_secs(2)).await;
                say.send(seen.load(Ordering::Relaxed)).expect("a listener");
            });
            task.end_within(Duration::from_secs(1));
            std::future::pending::<()>().await;
        });
        assert_eq!(stream.await, None);
        assert_eq!(heard.await, Ok(true), "it ran after the stream was dropped");
    }

    /// I8: a session that panics ends alone, and its stream goes on to tell why.
    #[tokio::test(start_paused = true)]
    async fn a_panic_beside_leaves_the_stream_alone() {
        let stream = Bounded::new(async {
            StreamTask::current().run_beside(async { panic!("a bug") });
            tokio::time::sleep(Duration::from_secs(1)).await;
            4
        });
        assert_eq!(stream.await, Some(4));
    }
}
