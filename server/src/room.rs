//! Room for what waits or comes in: a bound in bytes, beside those of queues in counts (I9).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many bytes may be there at a time.
pub(crate) struct Room {
    taken: AtomicUsize,
    max: usize,
}

/// Bytes of a room; they are free again when it is dropped.
pub(crate) struct Share {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    /// A room of so many bytes, all of them free.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let taken = AtomicUsize::new(0);
        Arc::new(Self { taken, max })
    }

    /// A share of nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share {
            room: Arc::clone(self),
            bytes: 0,
        }
    }

    /// A share of so many bytes; `None` when the room has no space for it.
    pub(crate) fn take(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let mut share = self.share();
        share.grow(bytes).then_some(share)
    }
}

impl Share {
    /// Takes so many bytes more; false when the room has no space for them, and then none are taken.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        let fitting = |taken: usize| taken.checked_add(bytes).filter(|taken| *taken <= self.room.max);
        let grown = self
            .room
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fitting);
        self.bytes += if grown.is_ok() { bytes } else { 0 };
        grown.is_ok()
    }

    /// Gives all of it back.
    pub(crate) fn clear(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.room.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
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

    /// I9: shares grow as far as there is room and no farther, and all of it comes back.
    #[test]
    fn i9_shares_grow_within_the_room() {
        let room = Room::new(100);
        let (mut one, mut other) = (room.share(), room.share());
        assert!(one.grow(60) && !other.grow(41) && other.grow(40));
        assert!(!one.grow(1) && !other.grow(1) && !other.grow(usize::MAX));
        drop(one);
        assert!(other.grow(60) && !other.grow(1));
        drop(other);
        assert!(room.take(100).is_some());
    }
}
