//! Members whose public markers moved and of whom the others were not told yet.
//!
//! They are told together, after a while, and stand beside the queue of commands: acks of a large group come in bursts
//! of hundreds, and in the queue they would take the places of what is to be appended.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stonechat_host::monotonic;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::UserId;

/// Bounded by the roster: nobody else may mark.
#[derive(Default)]
struct Waiting {
    users: BTreeSet<UserId>,
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

    /// A member's markers moved.
    pub(super) fn note(&self, user: &UserId) {
        let mut waiting = self.lock();
        waiting.users.insert(user.clone());
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
    pub(super) fn take(&self) -> BTreeSet<UserId> {
        std::mem::take(&mut *self.lock()).users
    }
}
