//! The room for requests that are being taken in: so many bytes in all, whoever sends them.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::gateway::limits::REQUEST_BYTES_FREE;

/// Bytes that may still be taken in.
pub(super) struct Room {
    left: AtomicUsize,
}

/// There is no room for so many bytes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom;

impl Room {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: AtomicUsize::new(bytes),
        }
    }

    /// The share of one request, empty at first; it is given back with its drop.
    pub(super) fn share(&self) -> Share<'_> {
        Share {
            room: self,
            free: REQUEST_BYTES_FREE,
            taken: 0,
        }
    }
}

/// What one request takes of the room.
pub(super) struct Share<'a> {
    room: &'a Room,
    /// Bytes that it may still have without taking any.
    free: usize,
    taken: usize,
}

impl Share<'_> {
    /// Takes room for so many bytes more.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let beyond = bytes.saturating_sub(self.free);
        let left = &self.room.left;
        let took = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(beyond));
        took.map_err(|_| NoRoom)?;
        self.free -= bytes - beyond;
        self.taken += beyond;
        Ok(())
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.room.left.fetch_add(self.taken, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I9: there is so much room and no more, small requests need none of it, and what was taken comes back.
    #[test]
    fn i9_the_room_is_bounded_and_comes_back() {
        let room = Room::new(100);
        let (mut one, mut other, mut small) = (room.share(), room.share(), room.share());
        assert_eq!(one.take(REQUEST_BYTES_FREE - 1), Ok(()));
        assert_eq!(one.take(61), Ok(()));
        assert_eq!(other.take(REQUEST_BYTES_FREE + 41), Err(NoRoom));
        assert_eq!(other.take(REQUEST_BYTES_FREE + 40), Ok(()));
        assert_eq!((one.take(1), other.take(1)), (Err(NoRoom), Err(NoRoom)));
        assert_eq!(small.take(REQUEST_BYTES_FREE), Ok(()));
        drop(one);
        assert_eq!((other.take(60), other.take(1)), (Ok(()), Err(NoRoom)));
        drop((other, small));
        assert_eq!(room.left.into_inner(), 100);
    }
}
