//! Bounds of the conversation core, each with its reason.

use std::time::Duration;

/// Limits an operator may set.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Appends per second that one conversation accepts in the long run; a hot group never slows another one.
    pub appends_per_second: u32,
    /// Seqs of a bucket of the log: a batch never straddles two.
    pub bucket_seqs: u64,
    /// After a fault of the store a conversation takes nothing more: nothing is stored behind a gap.
    pub halts: bool,
}

impl Limits {
    /// For imports. Without a rate: they are the only ones there. Halting: the order of their file is the order they store.
    #[must_use]
    pub fn unpaced() -> Self {
        Self {
            appends_per_second: u32::MAX,
            halts: true,
            ..Self::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            appends_per_second: 2_000,
            bucket_seqs: 4_096,
            halts: false,
        }
    }
}

/// Commands that wait for one conversation's actor: four full batches, so that a batch is always ready when one returns.
pub(super) const QUEUE_MAX: usize = 256;
/// Bytes of what waits for one conversation's actor: sixteen full commits.
pub(super) const QUEUE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of what waits for all actors of a node: 16,000 of the longest texts, and far below the memory of a machine that
/// stores so many in a second.
pub(super) const WAITING_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Entries of one group commit (D22: larger ones make conditional batches slow).
pub(super) const BATCH_ENTRIES_MAX: usize = 64;
/// Content bytes of one group commit.
pub(super) const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Requests for which the log is asked at a time before they get their places: a log that answers slowly is asked twice for a batch.
pub(super) const LOOKS_AT_ONCE: usize = BATCH_ENTRIES_MAX / 2;
/// Tries after lost compare-and-sets before a request is refused as not done.
pub(super) const CONFLICT_TRIES_MAX: u32 = 8;
/// Tries after unknown outcomes before a request is answered as unknown.
pub(super) const UNKNOWN_TRIES_MAX: u32 = 5;
/// Batches that wait for fan-out; what comes beyond is left in the log, so that no ack waits and memory stays bounded.
pub(super) const FANOUT_QUEUE_MAX: usize = 16;
/// Batches whose rows are written together, at most: 4,096 entries, what a bucket of the log holds. What was published beyond, while
/// a store took its time, is read again.
pub(super) const FANOUT_ROUND_MAX: usize = 64;
/// Up to so many members rows are written without delay; they cost less than the entry itself.
pub(super) const LINGER_MEMBERS: usize = 32;
/// For each further member, rows wait this long for more entries to write at once: 47 ms in a group of 500. Whoever needs
/// them does not wait for it.
pub(super) const LINGER_PER_MEMBER: Duration = Duration::from_micros(100);
/// Conversations held in memory; beyond it a load is refused until idle ones have gone.
pub(super) const LOADED_MAX: usize = 65_536;
/// An actor without work leaves memory after this long.
pub(super) const IDLE: Duration = Duration::from_secs(120);
/// The same, when more than half of `LOADED_MAX` are loaded.
pub(super) const IDLE_CROWDED: Duration = Duration::from_secs(1);
/// The directory's projection is advanced at least every so many entries: a load replays no more than twice that.
pub(super) const PROJECTION_EVERY: u64 = 256;
/// Entries read at a time when a load replays or fan-out is re-driven.
pub(super) const REPLAY_PAGE: usize = 256;
/// Receipts of a conversation are sent together after this long: below what a person notices, above a burst of acks.
pub(super) const RECEIPTS_DELAY: Duration = Duration::from_millis(50);
/// The same for groups of more than `RECEIPTS_SMALL_GROUP` members, where each event goes to many.
pub(super) const RECEIPTS_DELAY_LARGE: Duration = Duration::from_millis(500);
/// See `RECEIPTS_DELAY_LARGE`.
pub(super) const RECEIPTS_SMALL_GROUP: usize = 16;
/// Members named in one receipts event; the rest see the minima move and ask.
pub(super) const RECEIPTS_NAMED_MAX: usize = 50;
/// How long a catch-up waits for fan-out that is under way before it goes on without (the log repairs it later).
pub(super) const BARRIER_MAX: Duration = Duration::from_secs(2);
/// How often a 1:1 that other nodes may have blocked asks whether it is: one question in two seconds while it is busy.
pub(super) const BLOCK_LOOK_EVERY: Duration = Duration::from_secs(2);
/// A full queue or spent rate asks the client to wait this long.
pub(super) const RETRY_AFTER_MS: u64 = 100;
