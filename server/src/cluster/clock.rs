//! Whether this node's clock may be believed: compared with those of the other nodes (D14).
//!
//! Each node asks the clock of the server that has the list of nodes and says in its own record how far its own is ahead. Two
//! nodes are as far apart as what they say of the same clock: whatever that clock shows, and however long a record lay
//! there. A message's order never depends on it, but its time, the life of tokens and who was seen when do.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::bus::NodeRecord;
use crate::domain::ClockOffset;
use crate::telemetry::meters::meters;

/// Looks in a row that must agree before a node that serves stops being trusted, or is again: longer than the record of a dead
/// node lies there, and than the others need after the list of nodes moved to a server with another clock.
const LOOKS_TO_TURN: u8 = 6;

/// What the clock was found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nobody to compare with, or the bus does not answer (I10): what was true stays true.
    Unknown,
    /// So far from the others.
    Apart(ClockOffset),
}

/// How far a clock is from the middle of the others' clocks, the bus's among them where there are any: so two nodes that
/// disagree have a third that decides. Of two in the middle the nearer one counts: in doubt a node serves.
pub(super) fn compare(mine: Option<ClockOffset>, others: impl Iterator<Item = ClockOffset>) -> Finding {
    let Some(mine) = mine else { return Finding::Unknown };
    let mut apart: Vec<ClockOffset> = others.map(|other| mine.from(other)).collect();
    if apart.is_empty() {
        return Finding::Unknown;
    }
    apart.push(mine);
    apart.sort();
    let (low, high) = (apart[(apart.len() - 1) / 2], apart[apart.len() / 2]);
    Finding::Apart(if low.at_least_ms() <= high.at_least_ms() {
        low
    } else {
        high
    })
}

/// Follows the clock from look to look.
pub(super) struct ClockWatch {
    /// Farther than this nobody may be; zero: it is not judged.
    limit: Duration,
    /// Looks in a row that say otherwise than what counts.
    against: Mutex<u8>,
    trusted: watch::Sender<bool>,
}

impl ClockWatch {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            limit,
            against: Mutex::default(),
            trusted: watch::Sender::new(true),
        }
    }

    pub(super) fn is_trusted(&self) -> bool {
        *self.trusted.borrow()
    }

    pub(super) fn follow(&self) -> watch::Receiver<bool> {
        self.trusted.subscribe()
    }

    /// What the others' records say of this node's clock.
    pub(super) fn find(me: &NodeRecord, said: &[NodeRecord]) -> Finding {
        let others = said.iter().filter(|node| node.name != me.name);
        compare(me.clock, others.filter_map(|node| node.clock))
    }

    /// Whether that is too far.
    pub(super) fn is_wrong(&self, finding: Finding) -> bool {
        let limit = i64::try_from(self.limit.as_millis()).unwrap_or(i64::MAX);
        matches!(finding, Finding::Apart(apart) if limit > 0 && apart.at_least_ms() > limit)
    }

    /// Takes one look into account.
    pub(super) fn take(&self, finding: Finding) {
        let Finding::Apart(apart) = finding else { return };
        meters().clock_offset.set_ms(apart.ahead_ms);
        let is_right = !self.is_wrong(finding);
        let turns = {
            let mut against = self.against.lock().unwrap_or_else(PoisonError::into_inner);
            *against = if is_right == self.is_trusted() { 0 } else { *against + 1 };
            let turns = *against >= LOOKS_TO_TURN;
            if turns {
                *against = 0;
            }
            turns
        };
        if turns {
            self.turn(is_right, apart);
        }
    }

    fn turn(&self, is_right: bool, apart: ClockOffset) {
        let (ahead_ms, limit_ms) = (apart.ahead_ms, self.limit.as_millis());
        if is_right {
            tracing::info!(
                ahead_ms,
                "this node's clock agrees with the others' again: it serves as before"
            );
        } else {
            tracing::error!(
                ahead_ms,
                limit_ms,
                "this node's clock is too far from the other nodes': it is not ready and owns no conversations until it is set"
            );
        }
        meters().clock_distrusted.set(i64::from(!is_right));
        self.trusted.send_replace(is_right);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ahead_ms: i64) -> ClockOffset {
        ClockOffset { ahead_ms, unsure_ms: 5 }
    }

    fn watch() -> ClockWatch {
        ClockWatch::new(Duration::from_millis(500))
    }

    fn wrong(mine: i64, others: &[i64]) -> bool {
        watch().is_wrong(compare(Some(at(mine)), others.iter().copied().map(at)))
    }

    /// D14: the node that is off is found, and no other one, also when the clock they all ask is the one that is wrong.
    #[test]
    fn d14_who_is_off_is_found_and_nobody_else() {
        for bus in [0, 60_000, -60_000] {
            assert!(
                !wrong(bus, &[bus + 300, bus - 300]),
                "within the limit, the bus {bus} off"
            );
            assert!(wrong(bus + 900, &[bus, bus + 3, bus - 3]));
            assert!(!wrong(bus, &[bus + 900, bus + 3, bus - 3]));
        }
        // Of two nodes the one that the bus's clock speaks against.
        assert!(wrong(900, &[0]) && !wrong(0, &[900]));
        // In doubt a node serves: of the two others one agrees with it.
        assert!(!wrong(300, &[10_000]) && !wrong(10_300, &[10_000]));
    }

    /// I10: who knows nobody, or cannot ask, is not judged; nor is anybody without a limit.
    #[test]
    fn i10_without_others_nothing_is_judged() {
        assert_eq!(compare(Some(at(90_000)), std::iter::empty()), Finding::Unknown);
        assert_eq!(compare(None, [at(0), at(0)].into_iter()), Finding::Unknown);
        let unlimited = ClockWatch::new(Duration::ZERO);
        assert!(!unlimited.is_wrong(Finding::Apart(at(i64::MAX))));
    }

    /// A measurement that cannot be sure does not take a node out.
    #[test]
    fn slow_answers_are_no_proof() {
        let mine = ClockOffset {
            ahead_ms: 700,
            unsure_ms: 250,
        };
        assert!(!watch().is_wrong(compare(Some(mine), [at(0), at(0)].into_iter())));
    }

    #[test]
    fn one_odd_look_turns_nothing_and_six_in_a_row_do() {
        let watch = watch();
        let (good, bad) = (Finding::Apart(at(10)), Finding::Apart(at(-4_000)));
        for _ in 0..10 {
            for _ in 1..LOOKS_TO_TURN {
                watch.take(bad);
                // The bus may be away between two looks: that is no look.
                watch.take(Finding::Unknown);
            }
            watch.take(good);
        }
        assert!(watch.is_trusted());
        (0..LOOKS_TO_TURN).for_each(|_| watch.take(bad));
        assert!(!watch.is_trusted());
        (0..100).for_each(|_| watch.take(Finding::Unknown));
        assert!(!watch.is_trusted(), "a bus that went away clears nobody");
        (1..LOOKS_TO_TURN).for_each(|_| watch.take(good));
        assert!(!watch.is_trusted());
        watch.take(good);
        assert!(watch.is_trusted());
    }

    proptest! {
        /// As long as most nodes agree, none of those who agree is taken out, whatever the others and the bus show; and who is
        /// far from all of them is.
        #[test]
        fn most_nodes_are_right(
            bus in -1_000_000..1_000_000_i64,
            right in prop::collection::vec(-200..200_i64, 2..8),
            mut odd in prop::collection::vec(-1_000_000..1_000_000_i64, 0..8),
        ) {
            odd.truncate(right.len().saturating_sub(2));
            let all: Vec<i64> = right.iter().chain(&odd).map(|at| at + bus).collect();
            for (number, one) in all.iter().enumerate() {
                let others: Vec<i64> = all.iter().enumerate().filter(|(at, _)| *at != number).map(|(_, at)| *at).collect();
                let is_right = number < right.len();
                let is_far = (one - bus).abs() > 1_000;
                prop_assert!(!(is_right && wrong(*one, &others)), "{one} of {all:?}");
                prop_assert!(!is_far || wrong(*one, &others), "{one} of {all:?}");
            }
        }
    }
}
