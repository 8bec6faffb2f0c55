//! Jobs on their way to the writer. One that somebody waits for wakes it; patient ones travel along with the next, so that
//! acknowledgements and the traces of fan-out do not cost a commit each.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::writer::Job;

/// Jobs that wait for the writer; above it callers wait to queue theirs. At the largest append of 64 KiB each it is
/// 16 MiB of memory, and several groups deep.
pub(super) const QUEUED_JOBS_MAX: usize = 256;
/// How long patient jobs wait for company: nobody notices it at a receipt, and a steady stream of messages comes sooner.
const PATIENCE: Duration = Duration::from_millis(5);
/// So many patient jobs are company enough.
const COMPANY: usize = QUEUED_JOBS_MAX / 2;

/// The writer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped;

/// See the module. Jobs come out in the order in which they went in.
pub(super) struct Queue {
    jobs: Mutex<Jobs>,
    /// The writer waits for this.
    due: Condvar,
    places: Semaphore,
}

#[derive(Default)]
struct Jobs {
    waiting: VecDeque<Job>,
    /// How many of them somebody waits for.
    urgent: usize,
    closed: bool,
}

impl Jobs {
    fn are_due(&self) -> bool {
        self.closed || self.urgent > 0 || self.waiting.len() >= COMPANY
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            jobs: Mutex::default(),
            due: Condvar::new(),
            places: Semaphore::new(QUEUED_JOBS_MAX),
        }
    }

    /// Puts a job at the end; waits while the queue is full.
    ///
    /// # Errors
    /// `Stopped`: it will not be done.
    pub(super) async fn push(&self, job: Job) -> Result<(), Stopped> {
        self.places.acquire().await.map_err(|_| Stopped)?.forget();
        let mut jobs = self.lock();
        if jobs.closed {
            return Err(Stopped);
        }
        let (was_due, was_empty) = (jobs.are_due(), jobs.waiting.is_empty());
        jobs.urgent += usize::from(!job.is_patient());
        jobs.waiting.push_back(job);
        // The first patient one starts the writer's wait, the first urgent one ends it.
        let wakes = was_empty || (!was_due && jobs.are_due());
        drop(jobs);
        if wakes {
            self.due.notify_one();
        }
        Ok(())
    }

    /// The next job once it is time for a group; `None` when the queue is closed and empty.
    pub(super) fn first(&self) -> Option<Job> {
        let empty = |jobs: &mut Jobs| jobs.waiting.is_empty() && !jobs.closed;
        let jobs = self.due.wait_while(self.lock(), empty);
        let jobs = jobs.unwrap_or_else(PoisonError::into_inner);
        let waited = self.due.wait_timeout_while(jobs, PATIENCE, |jobs| !jobs.are_due());
        let (mut jobs, _) = waited.unwrap_or_else(PoisonError::into_inner);
        self.pop(&mut jobs)
    }

    /// One more job for the same group.
    pub(super) fn next(&self) -> Option<Job> {
        self.pop(&mut self.lock())
    }

    fn pop(&self, jobs: &mut Jobs) -> Option<Job> {
        let job = jobs.waiting.pop_front()?;
        jobs.urgent -= usize::from(!job.is_patient());
        self.places.add_permits(1);
        Some(job)
    }

    pub(super) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Takes no more jobs; what is queued still comes out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.places.close();
        self.due.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        // A panic elsewhere leaves the queue whole.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;
    use crate::domain::{ConversationId, Seq};

    fn patient(number: u64) -> Job {
        Job::FanoutDone(ConversationId([0; 16]), Seq(number))
    }

    fn urgent() -> Job {
        Job::Barrier(oneshot::channel().0)
    }

    fn take_all(queue: &Queue) -> Vec<Option<u64>> {
        let rest = std::iter::from_fn(|| queue.next());
        let number = |job| match job {
            Job::FanoutDone(_, seq) => Some(seq.0),
            _ => None,
        };
        queue.first().into_iter().chain(rest).map(number).collect()
    }

    #[tokio::test]
    async fn patient_jobs_go_with_the_urgent_one_in_order() {
        let queue = Queue::new();
        for job in [patient(1), patient(2), urgent(), patient(3)] {
            queue.push(job).await.expect("queued");
        }
        assert_eq!(take_all(&queue), [Some(1), Some(2), None, Some(3)]);
    }

    #[tokio::test]
    async fn patient_jobs_alone_are_taken_after_a_while() {
        let queue = Queue::new();
        queue.push(patient(1)).await.expect("queued");
        assert_eq!(take_all(&queue), [Some(1)]);
    }

    /// I9: who queues waits for a place, also among patient jobs, and the writer does not wait for more than fit.
    #[tokio::test]
    async fn a_full_queue_makes_wait_and_is_due() {
        let queue = Arc::new(Queue::new());
        let filling = tokio::spawn({
            let queue = Arc::clone(&queue);
            async move {
                for number in 0..2 * QUEUED_JOBS_MAX as u64 {
                    queue.push(patient(number)).await.expect("queued");
                }
            }
        });
        let mut taken = Vec::new();
        while taken.len() < 2 * QUEUED_JOBS_MAX {
            tokio::task::yield_now().await;
            assert!(queue.len() <= QUEUED_JOBS_MAX);
            taken.extend(take_all(&queue).into_iter().flatten());
        }
        filling.await.expect("all queued");
        assert!(taken.is_sorted(), "{taken:?}");
    }

    /// I1: what was queued before the end is still written; nothing is taken that would not be.
    #[tokio::test]
    async fn a_closed_queue_gives_what_it_has_and_takes_no_more() {
        let queue = Queue::new();
        queue.push(patient(1)).await.expect("queued");
        queue.close();
        assert_eq!(queue.push(patient(2)).await, Err(Stopped));
        assert_eq!(take_all(&queue), [Some(1)]);
        assert!(queue.first().is_none());
    }
}
