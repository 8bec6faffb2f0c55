//! Tickets of fan-out under way, so that a catch-up can wait for what was acknowledged before it began.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::limits::BARRIER_MAX;

#[derive(Default)]
struct Tickets {
    next: u64,
    under_way: BTreeSet<u64>,
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
}

impl FanoutBarrier {
    /// Takes a ticket; do it before the ack.
    pub(super) fn ticket(self: &Arc<Self>) -> Ticket {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let number = tickets.next;
        tickets.next += 1;
        tickets.under_way.insert(number);
        Ticket {
            number,
            barrier: Arc::clone(self),
        }
    }

    /// Waits until every ticket taken before the call is done, or `BARRIER_MAX`: then the log repairs what is late.
    pub(super) async fn wait(&self) {
        let target = self.tickets.lock().unwrap_or_else(PoisonError::into_inner).next;
        let all_done = async {
            loop {
                let finished = self.finished.notified();
                if self.oldest().is_none_or(|oldest| oldest >= target) {
                    return;
                }
                finished.await;
            }
        };
        if tokio::time::timeout(BARRIER_MAX, all_done).await.is_err() {
            tracing::warn!("fan-out is late, catching up without it");
        }
    }

    fn oldest(&self) -> Option<u64> {
        let tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.under_way.first().copied()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut tickets = self.barrier.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        tickets.under_way.remove(&self.number);
        drop(tickets);
        self.barrier.finished.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waits_for_older_tickets_only() {
        let barrier = Arc::new(FanoutBarrier::default());
        let old = barrier.ticket();
        let waiting = tokio::spawn({
            let barrier = Arc::clone(&barrier);
            async move { barrier.wait().await }
        });
        tokio::task::yield_now().await;
        let _newer = barrier.ticket();
        assert!(!waiting.is_finished());
        drop(old);
        waiting.await.unwrap();
    }
}
