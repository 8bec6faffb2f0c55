//! Members whose public markers moved and of whom the others were not told yet.
//!
//! They are told together, after a while, and stand beside the queue of commands: acks of a large group come in bursts
//! of hundreds, and in the queue they would take the places of what is to be appended.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stonechat_host::monotonic;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::{Seq, UserId};

/// Whose markers moved.
#[derive(Default)]
pub(super) struct Marked {
    /// Bounded by the roster: nobody else may mark.
    pub(super) users: BTreeSet<UserId>,
    /// The highest of their markers: the log has entries up to there at least.
    pub(super) up_to: Seq,
}

#[derive(Default)]
struct Waiting {
    marked: Marked,
    since: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Moved {
    waiting: Mutex<Waiting>,
    begun: Notify,
}

impl Moved {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A member's markers moved, up to a seq.
    pub(super) fn note(&self, user: &UserId, up_to: Seq) {
        let mut waiting = self.lock();
        waiting.marked.users.insert(user.clone());
        waiting.marked.up_to = waiting.marked.up_to.max(up_to);
        if waiting.since.is_none() {
            waiting.since = Some(monotonic());
            self.begun.notify_one();
        }
    }

    /// Since when somebody waits.
    pub(super) fn since(&self) -> Option<Instant> {
        self.lock().since
    }

    /// Waits until somebody waits. May return early.
    pub(super) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Who waits; from here on nobody does.
    pub(super) fn take(&self) -> Marked {
        std::mem::take(&mut *self.lock()).marked
    }
}
