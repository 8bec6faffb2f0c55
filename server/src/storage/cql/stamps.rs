//! Change stamps of a store with several writers: the time, a count within it, and who stamped.
//!
//! Stamps of one node grow always; those of several agree as well as their clocks do, and a lower one may become visible
//! after a higher one was read. So nobody may rely on having seen everything below a stamp before it has settled.

use std::sync::atomic::{AtomicU64, Ordering};

use stonechat_host::Host;

use crate::storage::ChangeStamp;

/// A stamp's lowest bits name the node, at random: two nodes that stamp in the same tick differ.
const NODE_BITS: u32 = 12;
/// Ticks of a millisecond, as bits: 256,000 stamps a second before a node's stamps run ahead of its clock.
const TICK_BITS: u32 = 8;
/// A change is visible, or was given up and is tried again under a new stamp, within this: well above the time of a
/// request (8 s) and of its waiting in a process, and the difference of two clocks (half a second is tolerated).
const SETTLES_WITHIN_MS: i64 = 30_000;
/// How far ahead of this node's clock a stamp may be and still be true: two clocks may differ.
const AHEAD_MS: i64 = 60_000;

pub(super) struct Stamps {
    host: Host,
    node: u64,
    /// The last tick given out; 0 before the first.
    tick: AtomicU64,
}

impl Stamps {
    pub(super) fn new(host: &Host) -> Self {
        Self {
            host: host.clone(),
            node: host.random.below(1 << NODE_BITS),
            tick: AtomicU64::new(0),
        }
    }

    /// A stamp that is higher than each this node gave out before.
    pub(super) fn next(&self) -> ChangeStamp {
        let now = ticks(self.host.clock.unix_ms());
        let after = |last: u64| Some(now.max(last + 1));
        let last = self.tick.fetch_update(Ordering::AcqRel, Ordering::Acquire, after);
        let last = last.unwrap_or_else(|last| last);
        self.stamp(now.max(last + 1))
    }

    fn stamp(&self, tick: u64) -> ChangeStamp {
        ChangeStamp(tick << NODE_BITS | self.node)
    }

    /// The newest that this node gave out.
    pub(super) fn newest(&self) -> ChangeStamp {
        match self.tick.load(Ordering::Acquire) {
            0 => ChangeStamp(0),
            tick => self.stamp(tick),
        }
    }

    pub(super) fn settled(&self, newest: ChangeStamp) -> ChangeStamp {
        let horizon = ticks(self.host.clock.unix_ms() - SETTLES_WITHIN_MS) << NODE_BITS;
        newest.min(ChangeStamp(horizon))
    }

    pub(super) fn may_be(&self, change: ChangeStamp) -> bool {
        let limit = ticks(self.host.clock.unix_ms() + AHEAD_MS) << NODE_BITS;
        change <= ChangeStamp(limit).max(self.newest())
    }
}

fn ticks(unix_ms: i64) -> u64 {
    u64::try_from(unix_ms).unwrap_or(0) << TICK_BITS
}
