//! What the app has stored, told without waiting: only the newest position of each conversation matters.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Shared by the app's end and the task. Bounded by the number of conversations.
#[derive(Default)]
pub(crate) struct Confirmations {
    pending: Mutex<Pending>,
    notify: Notify,
}

#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) positions: BTreeMap<String, u64>,
    pub(crate) cursor: Option<Vec<u8>>,
}

impl Confirmations {
    pub(crate) fn position(&self, conversation_id: &str, seq: u64) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        match pending.positions.get_mut(conversation_id) {
            Some(known) => *known = seq.max(*known),
            None => {
                pending.positions.insert(conversation_id.to_owned(), seq);
            }
        }
        drop(pending);
        self.notify.notify_one();
    }

    pub(crate) fn cursor(&self, cursor: Vec<u8>) {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).cursor = Some(cursor);
        self.notify.notify_one();
    }

    /// Waits until something was confirmed.
    pub(crate) async fn changed(&self) {
        self.notify.notified().await;
    }

    pub(crate) fn take(&self) -> Pending {
        std::mem::take(&mut *self.pending.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
