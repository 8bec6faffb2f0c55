//! Rates of many callers in bounded memory.
//!
//! Each caller has one instant: until when all requests so far are paid for at the steady rate (the generic cell rate
//! algorithm, ITU-T I.371). A map forgets who was not seen for a whole generation of others; they start afresh.
//!
//! Where nodes share a rate, what passed here is told to the others in parts (`take_told`), and what they say is taken in
//! (`learn`): the same instant, moved on by what was asked elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::api::Standing;

/// Seconds of the steady rate that may come at once: what a client that was offline has to catch up on.
pub(super) const BURST_SECONDS: u32 = 10;
/// A second's worth of the rate is told in so many parts at most: who asks seldom is told seldom, and what nobody was told yet is
/// less than this part of a second's worth on each node.
const PARTS_TOLD: u32 = 4;
/// Callers of whom is told at a time: some hundred KiB on the wire each second. The others are told as soon as they ask again.
const TOLD_MAX: usize = 4_096;
/// How far ahead what other nodes say may put a caller, as a multiple of the burst: who used twenty nodes at once waits for
/// ten seconds, not for three minutes.
const AHEAD_MAX: u32 = 2;
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

    fn per_second(self) -> u32 {
        self.limit / BURST_SECONDS
    }

    fn ahead_max(self) -> Duration {
        self.interval * self.limit.saturating_mul(AHEAD_MAX)
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

/// How one caller stands.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// Until when it has paid.
    paid: Instant,
    /// Requests that passed and that other nodes were not told of.
    untold: u32,
}

/// Two generations of callers.
struct Callers<K> {
    young: BTreeMap<K, Account>,
    old: BTreeMap<K, Account>,
    /// Whether there are other nodes to tell of what passes.
    shares: bool,
    /// Of whom they are to be told.
    to_tell: BTreeSet<K>,
}

impl<K: Ord + Clone> Callers<K> {
    fn entry(&mut self, key: &K, now: Instant) -> &mut Account {
        let fresh = Account { paid: now, untold: 0 };
        if self.young.len() >= CALLERS_MAX && !self.young.contains_key(key) {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        // A look-up by reference first: most callers are known.
        if !self.young.contains_key(key) {
            let account = old.remove(key).unwrap_or(fresh);
            self.young.insert(key.clone(), account);
        }
        self.young.entry(key.clone()).or_insert(fresh)
    }
}

/// One rate for each caller.
pub(super) struct Keyed<K> {
    rate: Option<Rate>,
    callers: Mutex<Callers<K>>,
}

/// What the other nodes are told of a caller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Toll<K> {
    pub(super) caller: K,
    /// The time in which the steady rate pays for what passed here since they were told last.
    pub(super) used: Duration,
    /// Farther ahead than this nobody is put.
    pub(super) most: Duration,
}

impl<K: Ord + Clone> Keyed<K> {
    /// So many a second; 0 for no limit.
    pub(super) fn new(per_second: u32) -> Self {
        let callers = Callers {
            young: BTreeMap::new(),
            old: BTreeMap::new(),
            shares: false,
            to_tell: BTreeSet::new(),
        };
        Self {
            rate: Rate::new(per_second),
            callers: Mutex::new(callers),
        }
    }

    /// From now on other nodes are to be told of what passes: somebody calls `take_told`.
    pub(super) fn share(&self) {
        self.callers().shares = true;
    }

    /// Counts a request of this caller; `None` when there is no limit.
    pub(super) fn take(&self, key: &K, now: Instant) -> Option<Standing> {
        let rate = self.rate?;
        let mut callers = self.callers();
        let shares = callers.shares;
        let account = callers.entry(key, now);
        let standing = rate.take(&mut account.paid, now);
        if shares && standing.retry_after.is_none() {
            account.untold = account.untold.saturating_add(1);
            let tells = account.untold >= rate.per_second().div_ceil(PARTS_TOLD);
            if tells && callers.to_tell.len() < TOLD_MAX {
                callers.to_tell.insert(key.clone());
            }
        }
        Some(standing)
    }

    /// Forgets a request that passed: it was not this caller's. What other nodes were told of it meanwhile stays.
    pub(super) fn give_back(&self, key: &K, now: Instant) {
        let Some(rate) = self.rate else { return };
        let mut callers = self.callers();
        let account = callers.entry(key, now);
        account.paid = account.paid.checked_sub(rate.interval).unwrap_or(account.paid);
        account.untold = account.untold.saturating_sub(1);
    }

    /// What the other nodes are to be told now; it counts as told.
    pub(super) fn take_told(&self, now: Instant) -> Vec<Toll<K>> {
        let Some(rate) = self.rate else { return Vec::new() };
        let mut callers = self.callers();
        let keys = std::mem::take(&mut callers.to_tell);
        let toll = |caller: K| {
            let untold = std::mem::take(&mut callers.entry(&caller, now).untold);
            (untold > 0).then(|| Toll {
                caller,
                used: rate.interval * untold,
                most: rate.ahead_max(),
            })
        };
        keys.into_iter().filter_map(toll).collect()
    }

    /// All that the caller asked of any node is paid for that far ahead of now.
    pub(super) fn learn(&self, caller: &K, ahead: Duration, now: Instant) {
        let Some(rate) = self.rate else { return };
        let paid = now + ahead.min(rate.ahead_max());
        let mut callers = self.callers();
        let account = callers.entry(caller, now);
        account.paid = account.paid.max(paid);
    }

    fn callers(&self) -> MutexGuard<'_, Callers<K>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn what_was_given_back_may_be_taken_again() {
        let start = stonechat_host::monotonic();
        let keyed = Keyed::new(10);
        keyed.share();
        for _ in 0..1_000 {
            assert!(passes(&keyed, 1, start));
            keyed.give_back(&1, start);
        }
        assert_eq!((0..200).filter(|_| passes(&keyed, 1, start)).count(), 100);
        assert_eq!(
            keyed.take_told(start)[0].used,
            Duration::from_secs(10),
            "the others hear of 100"
        );
    }

    /// Plays two nodes whose word is exchanged once a second through one account, as Redis keeps it.
    struct Nodes {
        nodes: [Keyed<u32>; 2],
        paid: Instant,
    }

    impl Nodes {
        fn new(per_second: u32, now: Instant) -> Self {
            let nodes = [Keyed::new(per_second), Keyed::new(per_second)];
            nodes.iter().for_each(Keyed::share);
            Self { nodes, paid: now }
        }

        fn exchange(&mut self, now: Instant) {
            for node in &self.nodes {
                for Toll { caller, used, most } in node.take_told(now) {
                    self.paid = (self.paid.max(now) + used).min(now + most);
                    node.learn(&caller, self.paid - now, now);
                }
            }
        }

        /// How many requests of one who asks all nodes as often as they let them pass within these seconds.
        fn passed(&mut self, seconds: u32, mut now: Instant) -> u32 {
            let mut passed = 0;
            for tick in 1..=seconds * 100 {
                passed += self
                    .nodes
                    .iter()
                    .map(|node| (0..20).filter(|_| passes(node, 1, now)).count())
                    .sum::<usize>();
                now += Duration::from_millis(10);
                if tick % 100 == 0 {
                    self.exchange(now);
                }
            }
            u32::try_from(passed).expect("few")
        }
    }

    /// Who asks two nodes has one rate: what is above it is what passed before the nodes had told each other.
    #[test]
    fn who_asks_two_nodes_has_one_rate() {
        let now = stonechat_host::monotonic();
        let passed = Nodes::new(100, now).passed(60, now);
        let allowed = 100 * (BURST_SECONDS + 60);
        // Both bursts at once, of which the second is paid for later, and a second's worth of each.
        assert!(
            (allowed - 1_000..=allowed + 400).contains(&passed),
            "{passed} of {allowed}"
        );
        let apart = (0..2).map(|_| {
            let mut alone = Nodes::new(100, now);
            alone.nodes[1] = Keyed::new(0);
            alone.passed(60, now)
        });
        let apart: u32 = apart.sum();
        assert!(apart > 2 * allowed - 400, "without each other's word it were {apart}");
    }

    #[test]
    fn who_asks_seldom_is_told_seldom_and_who_is_refused_never() {
        let now = stonechat_host::monotonic();
        let keyed = Keyed::new(100);
        assert!((0..100).all(|_| passes(&keyed, 2, now)) && keyed.take_told(now).is_empty());
        keyed.share();
        assert!((0..24).all(|_| passes(&keyed, 1, now)) && keyed.take_told(now).is_empty());
        assert!(passes(&keyed, 1, now));
        let told = Toll {
            caller: 1,
            used: Duration::from_millis(250),
            most: Duration::from_secs(20),
        };
        assert_eq!(keyed.take_told(now), [told]);
        assert!(keyed.take_told(now).is_empty(), "told once");
        keyed.learn(&1, Duration::from_secs(600), now);
        let refused = keyed.take(&1, now).expect("a limit");
        assert_eq!(
            refused.retry_after,
            Some(Duration::from_millis(10_010)),
            "not ten minutes"
        );
        (0..100).for_each(|_| assert!(!passes(&keyed, 1, now)));
        assert!(keyed.take_told(now).is_empty());
        // What others say never gives back what was used here.
        keyed.learn(&1, Duration::ZERO, now);
        assert!(!passes(&keyed, 1, now));
    }

    /// I9: however many ask at once.
    #[test]
    fn i9_what_is_told_is_bounded() {
        let now = stonechat_host::monotonic();
        let keyed = Keyed::new(4);
        keyed.share();
        (0..10_000).for_each(|key| assert!(passes(&keyed, key, now)));
        assert_eq!(keyed.take_told(now).len(), TOLD_MAX);
        assert!(keyed.take_told(now).is_empty());
        assert!(passes(&keyed, 9_999, now));
        assert_eq!(keyed.take_told(now)[0].used, Duration::from_millis(500), "two requests");
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let keyed = Keyed::new(0);
        assert_eq!(keyed.take(&1, stonechat_host::monotonic()), None);
        assert!(keyed.take_told(stonechat_host::monotonic()).is_empty());
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
