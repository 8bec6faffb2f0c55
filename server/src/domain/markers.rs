//! Markers: registers that only go forward, and the unread count derived from them.

use super::ids::{Ordinal, Seq};

/// A seq with the ordinal of the entry there, so that counting needs no look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Counted {
    /// The position.
    pub seq: Seq,
    /// How many entries up to there count as unread.
    pub ordinal: Ordinal,
}

/// One user's markers in one conversation. Each field is a max-register: merging takes the larger of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MarkerSet {
    /// Highest seq stored on some device of the user.
    pub delivered: Seq,
    /// Highest seq read, private reads included. At most `delivered`.
    pub read: Counted,
    /// Highest seq whose reading the others may know. At most `read`.
    pub read_public: Seq,
    /// Nothing up to here counts as unread: where the user joined, or their own newest message.
    pub unread_floor: Counted,
}

impl MarkerSet {
    /// The larger of each register (I6).
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self {
            delivered: self.delivered.max(other.delivered),
            read: self.read.max(other.read),
            read_public: self.read_public.max(other.read_public),
            unread_floor: self.unread_floor.max(other.unread_floor),
        }
    }

    /// How many entries up to `head` are unread.
    #[must_use]
    pub fn unread(self, head: Ordinal) -> u64 {
        let seen = self.read.ordinal.max(self.unread_floor.ordinal);
        head.0.saturating_sub(seen.0)
    }
}
