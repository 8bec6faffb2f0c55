//! Bytes of who has not shown who they are: until a token was found good, a connection may have little in the node's memory.

use std::sync::Arc;

use crate::gateway::limits::UNPROVEN_BYTES_FREE;
use crate::room::{Room, Share};

/// What a connection sent since it last had no stream open, while nobody on it had shown a good token. HTTP/2 keeps as much of
/// it as the windows let through, and a session's first frame waits until all of it came.
pub(super) struct Unproven {
    sent: usize,
    share: Share,
}

impl Unproven {
    pub(super) fn new(room: &Arc<Room>) -> Self {
        Self {
            sent: 0,
            share: room.share(),
        }
    }

    /// Bytes came. False when there is no room for them.
    pub(super) fn sent(&mut self, bytes: usize) -> bool {
        let beyond = |sent: usize| sent.saturating_sub(UNPROVEN_BYTES_FREE);
        let before = self.sent;
        self.sent = before.saturating_add(bytes);
        self.share.grow(beyond(self.sent) - beyond(before))
    }

    /// No stream is open, so nothing of it is kept.
    pub(super) fn clear(&mut self) {
        self.sent = 0;
        self.share.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// I9: all who are unproven share one room; a little is free, and what ended gives its bytes back.
    #[test]
    fn i9_the_unproven_share_one_room() {
        let room = Room::new(100);
        let (mut one, mut other) = (Unproven::new(&room), Unproven::new(&room));
        assert!(one.sent(UNPROVEN_BYTES_FREE) && one.sent(60));
        assert!(other.sent(UNPROVEN_BYTES_FREE + 40) && !other.sent(1));
        one.clear();
        assert!(other.sent(60) && one.sent(UNPROVEN_BYTES_FREE) && !one.sent(1));
        drop(other);
        assert!(one.sent(100) && !one.sent(1));
    }
}
