//! Writes the history of all clients of one test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stonechat_host::monotonic;
use tokio::time::Instant;

use crate::checker::{Conversation, Device, Event, History, Moment, OpId, Seq, SessionRef, User, What};

/// The one history that all clients of a test write. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Arc<Mutex<Inner>>);

struct Inner {
    origin: Instant,
    history: History,
    ops: u64,
    sessions: u64,
    acked: BTreeMap<(User, Device, Conversation), Seq>,
}

impl Default for Recorder {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Inner {
            origin: monotonic(),
            history: History::default(),
            ops: 0,
            sessions: 0,
            acked: BTreeMap::new(),
        })))
    }
}

impl Recorder {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what happens now.
    pub fn say(&self, what: What) -> Moment {
        let mut inner = self.inner();
        let at = inner.now();
        inner.history.events.push(Event { at, what });
        at
    }

    /// Remembers that a device acknowledged deliveries.
    pub(super) fn note_acked(&self, user: &User, device: &Device, conversation: &str, seq: Seq) {
        let key = (user.clone(), device.clone(), conversation.into());
        let mut inner = self.inner();
        let known = inner.acked.entry(key).or_default();
        *known = seq.max(*known);
    }

    /// Up to where a device acknowledged a conversation, on whatever stream.
    pub(super) fn acked(&self, user: &User, device: &Device, conversation: &str) -> Seq {
        let key = (user.clone(), device.clone(), conversation.into());
        self.inner().acked.get(&key).copied().unwrap_or_default()
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Moment {
        self.inner().now()
    }

    /// A number for a new try.
    #[must_use]
    pub fn next_op(&self) -> OpId {
        let mut inner = self.inner();
        inner.ops += 1;
        OpId(inner.ops)
    }

    /// A number for a new stream.
    #[must_use]
    pub fn next_session(&self) -> SessionRef {
        let mut inner = self.inner();
        inner.sessions += 1;
        SessionRef(inner.sessions)
    }

    /// Everything so far.
    #[must_use]
    pub fn history(&self) -> History {
        self.inner().history.clone()
    }
}

impl Inner {
    fn now(&self) -> Moment {
        let elapsed = monotonic().saturating_duration_since(self.origin).as_micros();
        Moment(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}
