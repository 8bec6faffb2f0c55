//! What the checker found, by check.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Violations kept per check: enough to see the pattern, small enough to print.
const KEPT_MAX: usize = 10;

/// The checks. Names are stable: tests and reports use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Lost acknowledged message.
    C1,
    /// Duplicate.
    C2,
    /// Two readers disagree.
    C3,
    /// Gap.
    C4,
    /// Backward jump or re-delivery on one stream.
    C5,
    /// Stale read after an ack.
    C6,
    /// Real-time order broken.
    C7,
    /// A sender's order broken.
    C8,
    /// A definitely refused send appears.
    C9,
    /// A marker went down.
    C10,
    /// An impossible marker.
    C11,
    /// A removed member receives.
    C12,
    /// An added member misses.
    C13,
    /// Lost tail.
    C14,
    /// Presence lies.
    C15,
    /// A conversation leaks to somebody who never belonged.
    C16,
    /// A request is passed over in silence. (C17 and C18 are about archives and pushes, which leave no trace here.)
    C19,
}

impl Check {
    /// Every check, in order.
    pub const ALL: [Self; 17] = [
        Self::C1,
        Self::C2,
        Self::C3,
        Self::C4,
        Self::C5,
        Self::C6,
        Self::C7,
        Self::C8,
        Self::C9,
        Self::C10,
        Self::C11,
        Self::C12,
        Self::C13,
        Self::C14,
        Self::C15,
        Self::C16,
        Self::C19,
    ];
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which check failed.
    pub check: Check,
    /// What was seen and what should have been.
    pub what: String,
}

/// The outcome: violations, and how much each check had to look at, so that "0 wrong" can be told from "0 looked at".
#[derive(Debug, Clone, Default)]
pub struct Verdict {
    kept: Vec<Violation>,
    wrong: BTreeMap<Check, u64>,
    examined: BTreeMap<Check, u64>,
}

impl Verdict {
    /// Records that `check` looked at one more thing, and what is wrong with it unless it holds.
    pub(super) fn expect(&mut self, check: Check, holds: bool, what: impl FnOnce() -> String) {
        *self.examined.entry(check).or_default() += 1;
        if holds {
            return;
        }
        let count = self.wrong.entry(check).or_default();
        *count += 1;
        if *count <= KEPT_MAX as u64 {
            self.kept.push(Violation { check, what: what() });
        }
    }

    /// True when nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong.is_empty()
    }

    /// The checks that failed.
    #[must_use]
    pub fn failed(&self) -> BTreeSet<Check> {
        self.wrong.keys().copied().collect()
    }

    /// The first few violations of each check.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.kept
    }

    /// How many things a check looked at.
    #[must_use]
    pub fn examined(&self, check: Check) -> u64 {
        self.examined.get(&check).copied().unwrap_or(0)
    }

    /// Fails the test unless nothing is wrong and each of `needed` had something to look at.
    ///
    /// # Panics
    /// When something is wrong or a needed check saw nothing.
    pub fn assert_clean(&self, needed: &[Check]) {
        assert!(self.is_clean(), "the history is wrong:\n{self}");
        for check in needed {
            assert!(self.examined(*check) > 0, "{check:?} had nothing to look at:\n{self}");
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in Check::ALL {
            let wrong = self.wrong.get(&check).copied().unwrap_or(0);
            writeln!(f, "{check:?}: {wrong} wrong of {}", self.examined(check))?;
            for violation in self.kept.iter().filter(|violation| violation.check == check) {
                writeln!(f, "    {}", violation.what)?;
            }
        }
        Ok(())
    }
}
