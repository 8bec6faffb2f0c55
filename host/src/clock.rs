//! Wall time.

use std::sync::atomic::{AtomicI64, Ordering};

/// Wall time. It may jump in either direction: never order by it.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch.
    fn unix_ms(&self) -> i64;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> i64 {
        #[allow(clippy::disallowed_methods, reason = "this is the door")]
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // A clock set before 1970 reads as the epoch; order never depends on it.
            Err(_) => 0,
        }
    }
}

/// The machine's clock as one shows it that is off by so many milliseconds. For tests.
#[derive(Default)]
pub struct ShiftedClock(AtomicI64);

impl ShiftedClock {
    /// Ahead by so much from now on, or behind.
    pub fn shift(&self, ahead_ms: i64) {
        self.0.store(ahead_ms, Ordering::Relaxed);
    }
}

impl Clock for ShiftedClock {
    fn unix_ms(&self) -> i64 {
        SystemClock.unix_ms() + self.0.load(Ordering::Relaxed)
    }
}

/// A clock that a test or simulation sets.
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Starts at `unix_ms`.
    #[must_use]
    pub fn new(unix_ms: i64) -> Self {
        Self(AtomicI64::new(unix_ms))
    }

    /// Jumps to `unix_ms`, backwards too.
    pub fn set(&self, unix_ms: i64) {
        self.0.store(unix_ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn unix_ms(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}
