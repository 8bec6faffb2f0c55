//! Room for what waits: a bound in bytes, beside those of queues in counts (I9).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes may wait at a time.
pub(super) struct Room {
    taken: AtomicUsize,
    max: usize,
}

/// Bytes of a room; they are free again when it is dropped.
pub(super) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub(super) fn new(max: usize) -> Arc<Self> {
        let taken = AtomicUsize::new(0);
        Arc::new(Self { taken, max })
    }

    /// A share of the room; `None` when it has no space for it.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed);
        // Given back by its drop when it does not fit.
        let share = Share {
            room: Arc::clone(self),
            bytes,
        };
        (taken.saturating_add(bytes) <= self.max).then_some(share)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_what_does_not_fit_takes_nothing() {
        let room = Room::new(10);
        let first = room.take(6);
        assert!(first.is_some() && room.take(5).is_none());
        let second = room.take(4);
        assert!(second.is_some() && room.take(1).is_none());
        drop(first);
        assert!(room.take(6).is_some());
    }
}
