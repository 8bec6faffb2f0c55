//! How far two clocks are apart, as far as a question and its answer can tell.

use std::time::Duration;

use super::UnixMillis;

/// How far this machine's clock is ahead of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ClockOffset {
    /// Milliseconds ahead; negative when it is behind.
    pub ahead_ms: i64,
    /// How far that may be wrong to either side, milliseconds.
    pub unsure_ms: i64,
}

impl ClockOffset {
    /// What a question tells that took `took`, whose answer was `theirs` and came when this machine's clock showed `now`: they
    /// looked at their clock somewhere on the way.
    #[must_use]
    pub fn measured(now: UnixMillis, took: Duration, theirs: UnixMillis) -> Self {
        let half = i64::try_from(took.as_millis() / 2).unwrap_or(i64::MAX);
        Self {
            ahead_ms: now.0.saturating_sub(half).saturating_sub(theirs.0),
            // One more: both clocks were read in whole milliseconds.
            unsure_ms: half.saturating_add(1),
        }
    }

    /// How far the clocks are apart at the very least, milliseconds.
    #[must_use]
    pub fn at_least_ms(self) -> i64 {
        self.ahead_ms.saturating_abs().saturating_sub(self.unsure_ms).max(0)
    }

    /// The offset from a clock that is itself so far ahead of the same other one.
    #[must_use]
    pub fn from(self, other: Self) -> Self {
        Self {
            ahead_ms: self.ahead_ms.saturating_sub(other.ahead_ms),
            unsure_ms: self.unsure_ms.saturating_add(other.unsure_ms),
        }
    }

    /// The one that is surer.
    #[must_use]
    pub fn surer(self, other: Self) -> Self {
        if other.unsure_ms < self.unsure_ms { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Wherever on its way the question met the other clock, the truth lies within what is said.
        #[test]
        fn the_truth_is_within_what_is_said(off in -10_000..10_000_i64, there in 0..2_000_u64, back in 0..2_000_u64) {
            let begun = 1_700_000_000_000_i64;
            let looked = begun + i64::try_from(there).unwrap();
            let now = looked + i64::try_from(back).unwrap();
            let said = ClockOffset::measured(UnixMillis(now), Duration::from_millis(there + back), UnixMillis(looked - off));
            prop_assert!((said.ahead_ms - off).abs() <= said.unsure_ms, "{said:?}");
            prop_assert!(said.at_least_ms() <= off.abs());
        }
    }

    #[test]
    fn offsets_from_one_clock_are_compared() {
        let offset = |ahead_ms, unsure_ms| ClockOffset { ahead_ms, unsure_ms };
        assert_eq!(offset(700, 5).from(offset(-100, 10)), offset(800, 15));
        assert_eq!(offset(-800, 15).at_least_ms(), 785);
        assert_eq!(offset(10, 15).at_least_ms(), 0);
        assert_eq!(offset(1, 9).surer(offset(2, 3)), offset(2, 3));
    }
}
