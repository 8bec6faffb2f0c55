//! What fan-out is behind with while a store, or the bus, takes its time: entries of which only the place in the log is kept, where
//! they are read again. However many there are, that is two positions, a roster and a ticket, so no ack waits for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use super::barrier::Ticket;
use super::fanout::FanoutBatch;
use crate::domain::{Roster, Seq};

/// Entries in their order, from the first that is late.
pub(super) struct Behind {
    pub(super) from: Seq,
    pub(super) to: Seq,
    /// Nobody was told of those of them up to here.
    pub(super) untold_to: Seq,
    /// The roster after `to`.
    pub(super) roster: Arc<Roster>,
    /// The first one's, for all: whoever waits for a later one waits for it.
    pub(super) ticket: Ticket,
}

impl Behind {
    /// A batch that everybody was told of, but for its rows.
    pub(super) fn told(batch: FanoutBatch) -> Option<Self> {
        Self::of(batch, |_| Seq::ZERO)
    }

    fn of(batch: FanoutBatch, untold_to: impl FnOnce(Seq) -> Seq) -> Option<Self> {
        let (from, to) = (batch.entries.first()?.entry.seq, batch.entries.last()?.entry.seq);
        Some(Self {
            from,
            to,
            untold_to: untold_to(to),
            roster: batch.roster,
            ticket: batch.ticket,
        })
    }

    /// And these. As a rule they come behind; what is fanned out once more may begin anywhere.
    pub(super) fn add(&mut self, other: Self) {
        self.from = self.from.min(other.from);
        self.untold_to = self.untold_to.max(other.untold_to);
        if other.to > self.to {
            (self.to, self.roster) = (other.to, other.roster);
        }
        self.ticket.widen(&self.roster);
    }
}

/// More behind what may be there.
pub(super) fn add_to(behind: &mut Option<Behind>, more: Option<Behind>) {
    match (behind, more) {
        (Some(behind), Some(more)) => behind.add(more),
        (none @ None, more) => *none = more,
        (Some(_), None) => {}
    }
}

/// What the queue of a worker had no room for.
#[derive(Default)]
pub(super) struct Left {
    behind: Mutex<Option<Behind>>,
    /// The worker is behind as well.
    worker: AtomicBool,
}

impl Left {
    fn lock(&self) -> MutexGuard<'_, Option<Behind>> {
        self.behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is something, here or with the worker, that is neither kept nor owed yet.
    pub(super) fn is_some(&self) -> bool {
        self.lock().is_some() || self.worker.load(Ordering::Acquire)
    }

    /// Whether the worker has something like that.
    pub(super) fn note(&self, is_behind: bool) {
        self.worker.store(is_behind, Ordering::Release);
    }

    /// Queues a batch, or leaves it where there is no room. Once one was left, so is what follows, until the worker took it: order.
    pub(super) fn queue(&self, batches: &mpsc::Sender<FanoutBatch>, batch: FanoutBatch) {
        let mut left = self.lock();
        let batch = if left.is_some() {
            batch
        } else {
            match batches.try_send(batch) {
                Ok(()) => return,
                // The worker outlives its actor, so it is only gone when the runtime stops; the log remembers what is pending.
                Err(mpsc::error::TrySendError::Full(batch) | mpsc::error::TrySendError::Closed(batch)) => batch,
            }
        };
        add_to(&mut left, Behind::of(batch, |to| to));
    }

    /// What was left, once everything before it is out of the queue.
    pub(super) fn take(&self, batches: &mpsc::Receiver<FanoutBatch>) -> Option<Behind> {
        let mut left = self.lock();
        if left.is_none() || !batches.is_empty() {
            return None;
        }
        self.note(true);
        left.take()
    }
}
