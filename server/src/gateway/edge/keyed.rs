//! Rates of many callers in bounded memory.
//!
//! Each caller has one instant: until when all requests so far are paid for at the steady rate (the generic cell rate
//! algorithm, ITU-T I.371). A map forgets who was not seen for a whole generation of others; they start afresh.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::Standing;

/// Seconds of the steady rate that may come at once: what a client that was offline has to catch up on.
pub(super) const BURST_SECONDS: u32 = 10;
/// Callers of one generation, of which there are two: some 8 MiB when full of addresses.
const CALLERS_MAX: usize = 32 * 1024;

/// So many a second in the long run.
#[derive(Debug, Clone, Copy)]
struct Rate {
    limit: u32,
    interval: Duration,
}

impl Rate {
    fn new(per_second: u32) -> Option<Self> {
        let interval = Duration::from_secs(1).checked_div(per_second)?;
        let limit = per_second.saturating_mul(BURST_SECONDS);
        Some(Self { limit, interval })
    }

    /// Counts one request against what is paid for until `paid`, unless it is one too many.
    fn take(&self, paid: &mut Instant, now: Instant) -> Standing {
        let ahead = (*paid).max(now) + self.interval - now;
        let burst = self.interval * self.limit;
        let retry_after = ahead.checked_sub(burst).filter(|wait| !wait.is_zero());
        if retry_after.is_none() {
            *paid = now + ahead;
        }
        let reset = (*paid).saturating_duration_since(now);
        let left = burst.saturating_sub(reset).as_nanos() / self.interval.as_nanos().max(1);
        Standing {
            limit: self.limit,
            remaining: u32::try_from(left).unwrap_or(self.limit),
            reset,
            retry_after,
        }
    }
}

/// Two generations of callers, each with the instant until which it has paid.
struct Callers<K> {
    young: BTreeMap<K, Instant>,
    old: BTreeMap<K, Instant>,
}

impl<K: Ord + Clone> Callers<K> {
    fn entry(&mut self, key: &K, now: Instant) -> &mut Instant {
        if self.young.len() >= CALLERS_MAX && !self.young.contains_key(key) {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        // A look-up by reference first: most callers are known.
        if !self.young.contains_key(key) {
            let paid = old.remove(key).unwrap_or(now);
            self.young.insert(key.clone(), paid);
        }
        self.young.entry(key.clone()).or_insert(now)
    }
}

/// One rate for each caller.
pub(super) struct Keyed<K> {
    rate: Option<Rate>,
    callers: Mutex<Callers<K>>,
}

impl<K: Ord + Clone> Keyed<K> {
    /// So many a second; 0 for no limit.
    pub(super) fn new(per_second: u32) -> Self {
        let callers = Callers {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
        };
        Self {
            rate: Rate::new(per_second),
            callers: Mutex::new(callers),
        }
    }

    /// Counts a request of this caller; `None` when there is no limit.
    pub(super) fn take(&self, key: &K, now: Instant) -> Option<Standing> {
        let rate = self.rate?;
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        Some(rate.take(callers.entry(key, now), now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passes(keyed: &Keyed<u32>, key: u32, now: Instant) -> bool {
        keyed
            .take(&key, now)
            .is_some_and(|standing| standing.retry_after.is_none())
    }

    #[test]
    fn a_caller_has_a_burst_then_its_rate() {
        let start = stonechat_host::monotonic();
        let keyed = Keyed::new(10);
        let first = keyed.take(&1, start).expect("a limit");
        assert_eq!((first.limit, first.remaining, first.retry_after), (100, 99, None));
        assert_eq!(first.reset, Duration::from_millis(100));
        assert_eq!((0..200).filter(|_| passes(&keyed, 1, start)).count(), 99);
        let refused = keyed.take(&1, start).expect("a limit");
        assert_eq!(
            (refused.remaining, refused.retry_after),
            (0, Some(Duration::from_millis(100)))
        );
        assert!(passes(&keyed, 2, start), "another caller has its own");
        let later = start + Duration::from_millis(100);
        assert!(passes(&keyed, 1, later) && !passes(&keyed, 1, later));
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let keyed = Keyed::new(0);
        assert_eq!(keyed.take(&1, stonechat_host::monotonic()), None);
        assert!(keyed.callers.lock().expect("a lock").young.is_empty());
    }

    /// I9: however many callers there are, and whoever keeps asking is not forgotten.
    #[test]
    fn i9_callers_are_bounded() {
        let now = stonechat_host::monotonic();
        let keyed = Keyed::new(1);
        while passes(&keyed, 0, now) {}
        for key in 1..200_000 {
            assert!(passes(&keyed, key, now));
            assert!(
                key % 10_000 != 0 || !passes(&keyed, 0, now),
                "forgotten after {key} others"
            );
        }
        let callers = keyed.callers.lock().expect("a lock");
        assert!(callers.young.len() <= CALLERS_MAX && callers.old.len() <= CALLERS_MAX);
    }

    proptest! {
        /// Over any stretch of time no caller passes more often than burst and rate allow, and each refusal says
        /// exactly when the next request passes.
        #[test]
        fn no_caller_exceeds_its_rate(per_second in 1..500u32, pauses in prop::collection::vec(0..400u64, 1..500)) {
            let start = stonechat_host::monotonic();
            let keyed = Keyed::new(per_second);
            let (mut now, mut passed) = (start, 0_u32);
            for pause in pauses {
                now += Duration::from_millis(pause);
                for _ in 0..20 {
                    let standing = keyed.take(&0, now).expect("a limit");
                    prop_assert!(standing.remaining <= standing.limit);
                    match standing.retry_after {
                        None => passed += 1,
                        Some(wait) => {
                            prop_assert_eq!(standing.remaining, 0);
                            now += wait;
                            prop_assert!(passes(&keyed, 0, now));
                            passed += 1;
                        }
                    }
                }
                let allowed = f64::from(per_second) * (f64::from(BURST_SECONDS) + (now - start).as_secs_f64());
                prop_assert!(f64::from(passed) <= allowed + 1.0, "{} of {}", passed, allowed);
            }
        }
    }
}
