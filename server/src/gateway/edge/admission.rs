//! Work that is let in: so much at a time, and a bounded queue in front of it that nobody waits in for long.
//!
//! Above its capacity a node that takes everything finishes nothing in time. One that lets in what it can do, and says
//! at once to the rest when to come back, keeps its rate.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::refusals::{Reason, refused};
use crate::gateway::limits::{ADMISSION_QUEUE_MAX, ADMISSION_WITHIN};
use crate::telemetry::meters::meters;

/// Seats for work, and who waits for one.
pub(super) struct Admission {
    seats: Semaphore,
    waiting: AtomicUsize,
}

/// Work may go on as long as this lives.
pub(in crate::gateway) type Admitted<'a> = SemaphorePermit<'a>;

/// Nothing was done: there is no seat, and no place to wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overloaded;

impl Admission {
    pub(super) fn new(at_once_max: usize) -> Self {
        Self {
            seats: Semaphore::new(at_once_max.min(Semaphore::MAX_PERMITS)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a seat, at most until its own deadline or the caller's.
    ///
    /// # Errors
    /// None came free in time, or too many wait already.
    pub(super) async fn enter(&self, deadline: Instant) -> Result<Admitted<'_>, Overloaded> {
        let admitted = match self.seats.try_acquire() {
            Ok(seat) => Some(seat),
            Err(_) => self.wait(deadline).await,
        };
        admitted.ok_or_else(|| {
            refused(Reason::Overloaded);
            Overloaded
        })
    }

    async fn wait(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        let _waiting = Waiting::enter(&self.waiting)?;
        let _seen = meters().admission_waiting.hold();
        let deadline = deadline.min(stonechat_host::monotonic() + ADMISSION_WITHIN);
        let seat = tokio::time::timeout_at(deadline, self.seats.acquire()).await;
        seat.ok()?.ok()
    }
}

/// A place in the queue.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(waiting: &'a AtomicUsize) -> Option<Self> {
        let before = waiting.fetch_add(1, Ordering::Relaxed);
        let place = Self(waiting);
        // Given back by its drop.
        (before < ADMISSION_QUEUE_MAX).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;

    fn long() -> Instant {
        stonechat_host::monotonic() + Duration::from_secs(3_600)
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_a_seat_or_a_refusal_in_time() {
        let admission = Admission::new(1);
        let seat = admission.enter(long()).await.expect("a seat");
        let started = stonechat_host::monotonic();
        assert!(admission.enter(long()).await.is_err());
        assert_eq!(started.elapsed(), ADMISSION_WITHIN);
        let soon = stonechat_host::monotonic() + Duration::from_millis(10);
        assert!(admission.enter(soon).await.is_err());
        assert_eq!(started.elapsed(), ADMISSION_WITHIN + Duration::from_millis(10));
        let waits = admission.enter(long());
        tokio::pin!(waits);
        assert!(futures_util::poll!(waits.as_mut()).is_pending());
        drop(seat);
        assert!(waits.await.is_ok());
        assert_eq!(admission.waiting.load(Ordering::Relaxed), 0);
    }

    /// I9: the queue is bounded, and a place comes back when who held it gives up.
    #[tokio::test(start_paused = true)]
    async fn i9_the_queue_is_bounded() {
        let admission = Admission::new(1);
        let _seat = admission.enter(long()).await.expect("a seat");
        let mut queue: Vec<_> = (0..ADMISSION_QUEUE_MAX)
            .map(|_| Box::pin(admission.enter(long())))
            .collect();
        for waits in &mut queue {
            assert!(futures_util::poll!(waits.as_mut()).is_pending());
        }
        let over = Box::pin(admission.enter(long()));
        assert!(matches!(
            futures_util::poll!(over),
            std::task::Poll::Ready(Err(Overloaded))
        ));
        queue.pop();
        let next = Box::pin(admission.enter(long()));
        assert!(futures_util::poll!(next).is_pending());
    }

    /// At five times the load it can bear, a node goes on doing what it can, and everybody else is told.
    #[tokio::test(start_paused = true)]
    async fn overload_keeps_the_rate_and_answers_everybody() {
        const AT_ONCE: usize = 20;
        let work = Duration::from_millis(100);
        let admission = Arc::new(Admission::new(AT_ONCE));
        // 200 a second are possible; 1,000 a second come, for ten seconds.
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..10_000_u32 {
            let admission = Arc::clone(&admission);
            calls.spawn(async move {
                tokio::time::sleep(Duration::from_millis(u64::from(number))).await;
                let arrived = stonechat_host::monotonic();
                let done = match admission.enter(long()).await {
                    Ok(_seat) => {
                        tokio::time::sleep(work).await;
                        true
                    }
                    Err(Overloaded) => false,
                };
                (done, arrived.elapsed())
            });
        }
        let answers = calls.join_all().await;
        let done = answers.iter().filter(|(done, _)| *done).count();
        assert_eq!(answers.len(), 10_000);
        assert!(
            (1_990..=2_400).contains(&done),
            "{done} of the possible 2,000 and what was queued"
        );
        assert!(
            answers
                .iter()
                .all(|(_, took)| *took <= ADMISSION_WITHIN + work + Duration::from_millis(2))
        );
    }
}
