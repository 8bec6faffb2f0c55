//! When to try again: exponential back-off with full jitter, under a retry budget (R10).

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::Random;
use tokio::time::Instant;

/// Doublings after which the ceiling no longer grows: above any sensible ratio of cap to base, below overflow.
const DOUBLINGS_MAX: u32 = 16;

/// How to space tries of a kind.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// Ceiling of the first delay.
    pub base: Duration,
    /// Largest ceiling.
    pub cap: Duration,
    /// Tries that may come at once before the budget holds them back.
    pub burst: u32,
    /// One more try is earned per this time.
    pub refill: Duration,
}

impl RetryPolicy {
    /// For connecting: a restart of the server is noticed within a second, a long outage costs a try per 10 s on average.
    pub const CONNECT: Self = Self {
        base: Duration::from_millis(200),
        cap: Duration::from_secs(20),
        burst: 10,
        refill: Duration::from_secs(1),
    };
    /// For operations that a live server asks to repeat: at most five a second in the long run, over all conversations.
    pub const OPERATION: Self = Self {
        base: Duration::from_millis(100),
        cap: Duration::from_secs(20),
        burst: 20,
        refill: Duration::from_millis(200),
    };
}

/// A token bucket, kept as the moment at which it will be full again (GCRA).
struct Budget {
    full_at: Option<Instant>,
}

impl Budget {
    /// Takes one token; returns the earliest moment, not before `wanted`, at which there is one.
    fn take(&mut self, wanted: Instant, policy: RetryPolicy) -> Instant {
        let held = policy.refill * policy.burst.saturating_sub(1);
        let full_at = self.full_at.map_or(wanted, |full| full.max(wanted));
        self.full_at = Some(full_at + policy.refill);
        full_at
            .checked_sub(held)
            .map_or(wanted, |earliest| earliest.max(wanted))
    }
}

/// Delays of one kind of try.
pub(crate) struct Backoff {
    policy: RetryPolicy,
    random: Arc<dyn Random>,
    budget: Budget,
}

impl Backoff {
    pub(crate) fn new(policy: RetryPolicy, random: Arc<dyn Random>) -> Self {
        Self {
            policy,
            random,
            budget: Budget { full_at: None },
        }
    }

    /// When to try after `failures` failures in a row (from 1), at least `at_least` from now.
    pub(crate) fn next(&mut self, now: Instant, failures: u32, at_least: Duration) -> Instant {
        let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
        let ceiling = (self.policy.base * 2_u32.pow(doublings)).min(self.policy.cap);
        let ceiling_ms = u64::try_from(ceiling.as_millis()).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(self.random.below(ceiling_ms.saturating_add(1)));
        self.budget.take(now + at_least + jitter, self.policy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stonechat_host::SeededRandom;

    fn tries_within(window: Duration, policy: RetryPolicy, failing: bool, seed: u64) -> usize {
        let mut backoff = Backoff::new(policy, Arc::new(SeededRandom::new(seed)));
        let start = stonechat_host::monotonic();
        let (mut now, mut tries, mut failures) = (start, 0, 0);
        while now < start + window {
            tries += 1;
            failures = if failing { failures + 1 } else { 1 };
            now = backoff.next(now, failures, Duration::ZERO);
        }
        tries
    }

    /// R10: an outage of a minute costs a bounded number of tries, whatever the jitter.
    #[test]
    fn r10_an_outage_of_a_minute_costs_few_tries() {
        for seed in 0..200 {
            let tries = tries_within(Duration::from_secs(60), RetryPolicy::CONNECT, true, seed);
            assert!((4..=30).contains(&tries), "seed {seed}: {tries} tries");
        }
    }

    /// R10: a server that welcomes and then drops, so that failures never add up, is held off by the budget.
    #[test]
    fn r10_the_budget_holds_when_the_backoff_is_reset() {
        for seed in 0..200 {
            let tries = tries_within(Duration::from_secs(60), RetryPolicy::CONNECT, false, seed);
            assert!(tries <= 71, "seed {seed}: {tries} tries");
        }
    }

    #[test]
    fn a_wish_of_the_server_is_a_lower_bound() {
        let mut backoff = Backoff::new(RetryPolicy::CONNECT, Arc::new(SeededRandom::new(1)));
        let now = stonechat_host::monotonic();
        assert!(backoff.next(now, 1, Duration::from_secs(7)) >= now + Duration::from_secs(7));
    }
}
