//! What this node knows to be stored of registers: their values, or lower ones, for others may have raised them since.
//!
//! Registers only rise, so what is known saves the read before a write: what is not higher need not be written, and what is
//! goes out unseen and wins or loses by its write time. A position alone may also go down, by its device, at any node; so
//! what is known of it is believed for a short while only.

use std::time::Duration;

use quick_cache::sync::Cache;
use stonechat_host::monotonic;
use tokio::time::Instant;

use super::positions::Cell;
use crate::domain::{ConversationId, DeviceId, UserId};
use crate::storage::InboxHead;

/// Registers of each kind that are known, about 150 bytes each: those of some ten thousand people who talk.
const REGISTERS_MAX: usize = 65_536;
/// A device that set itself back at another node, while it goes on at this one under another name, is believed to be where
/// it was for so long: its acks are in vain meanwhile, and it gets entries again that it has.
const POSITION_TRUSTED_FOR: Duration = Duration::from_secs(30);

type PositionKey = (UserId, DeviceId, ConversationId);

pub(super) struct Known {
    heads: Cache<(UserId, ConversationId), InboxHead>,
    positions: Cache<PositionKey, (Cell, Instant)>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            heads: Cache::new(REGISTERS_MAX),
            positions: Cache::new(REGISTERS_MAX),
        }
    }
}

impl Known {
    /// Head of an inbox row that is there.
    pub(super) fn head(&self, user: &UserId, id: ConversationId) -> Option<InboxHead> {
        self.heads.get(&(user.clone(), id))
    }

    pub(super) fn stored_head(&self, user: &UserId, id: ConversationId, head: InboxHead) {
        if self.head(user, id).is_none_or(|before| before.seq < head.seq) {
            self.heads.insert((user.clone(), id), head);
        }
    }

    /// A device's position in a conversation, with its generation.
    pub(super) fn position(&self, user: &UserId, device: &DeviceId, id: ConversationId) -> Option<Cell> {
        let (cell, since) = self.positions.get(&(user.clone(), device.clone(), id))?;
        (monotonic() - since < POSITION_TRUSTED_FOR).then_some(cell)
    }

    /// A position was read or written; `since`: when that began. One that was set meanwhile stays.
    pub(super) fn stored_position(
        &self,
        user: &UserId,
        device: &DeviceId,
        id: ConversationId,
        cell: Cell,
        since: Instant,
    ) {
        let key = (user.clone(), device.clone(), id);
        if self.positions.get(&key).is_none_or(|(before, _)| before <= cell) {
            self.positions.insert(key, (cell, since));
        }
    }

    /// A position may have been set: whatever is known of it may be wrong.
    pub(super) fn forget_position(&self, user: &UserId, device: &DeviceId, id: ConversationId) {
        self.positions.remove(&(user.clone(), device.clone(), id));
    }
}
