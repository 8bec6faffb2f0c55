//! Tickets of fan-out under way, so that a catch-up can wait for what was acknowledged before it began.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::limits::BARRIER_MAX;
use crate::domain::ConversationId;
use crate::telemetry::meters::{Held, meters};

#[derive(Default)]
struct Tickets {
    next: u64,
    under_way: BTreeMap<u64, ConversationId>,
}

/// Hands out tickets before acks and waits for older ones. Bounded by the fan-out queues of the loaded conversations.
#[derive(Default)]
pub(super) struct FanoutBarrier {
    tickets: Mutex<Tickets>,
    finished: Notify,
}

/// Fan-out of one batch is under way until this is dropped.
pub(super) struct Ticket {
    number: u64,
    barrier: Arc<FanoutBarrier>,
    taken: Instant,
    _counted: Held,
}

impl Ticket {
    /// When it was taken.
    pub(super) fn taken(&self) -> Instant {
        self.taken
    }
}

impl FanoutBarrier {
    /// Takes a ticket; do it before the ack.
    pub(super) fn ticket(self: &Arc<Self>, conversation: ConversationId) -> Ticket {
        let mut tickets = self.lock();
        let number = tickets.next;
        tickets.next += 1;
        tickets.under_way.insert(number, conversation);
        Ticket {
            number,
            barrier: Arc::clone(self),
            taken: stonechat_host::monotonic(),
            _counted: meters().fanout_pending.hold(),
        }
    }

    /// Waits until every ticket taken before the call is done, or `BARRIER_MAX`: then the log repairs what is late.
    pub(super) async fn wait(&self) {
        self.wait_until(|tickets, target| tickets.under_way.range(..target).next().is_none())
            .await;
    }

    /// The same for the tickets of one conversation: it does not wait for others.
    pub(super) async fn wait_for(&self, conversation: ConversationId) {
        self.wait_until(|tickets, target| !tickets.under_way.range(..target).any(|(_, of)| *of == conversation))
            .await;
    }

    async fn wait_until(&self, done: impl Fn(&Tickets, u64) -> bool) {
        let target = self.lock().next;
        let all_done = async {
            loop {
                let finished = self.finished.notified();
                if done(&self.lock(), target) {
                    return;
                }
                finished.await;
            }
        };
        if tokio::time::timeout(BARRIER_MAX, all_done).await.is_err() {
            tracing::warn!("fan-out is late, going on without it");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.barrier.lock().under_way.remove(&self.number);
        self.barrier.finished.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_older_tickets_only() {
        let barrier = Arc::new(FanoutBarrier::default());
        let (here, there) = (ConversationId([1; 16]), ConversationId([2; 16]));
        let old = barrier.ticket(here);
        barrier.wait_for(there).await;
        let waiting = tokio::spawn({
            let barrier = Arc::clone(&barrier);
            async move { barrier.wait().await }
        });
        tokio::task::yield_now().await;
        let _newer = barrier.ticket(here);
        assert!(!waiting.is_finished());
        drop(old);
        waiting.await.unwrap();
    }
}
