//! When a key set is fetched: pure arithmetic of times.

use std::time::Duration;

use tokio::time::Instant;

/// How often, how soon and how long.
#[derive(Debug, Clone, Copy)]
pub(in crate::auth) struct Timing {
    /// A set is fetched again after this when its provider does not say how long it is fresh.
    pub(in crate::auth) refresh: Duration,
    /// However short the provider says that a set is fresh: it must not drive the traffic.
    pub(in crate::auth) refresh_min: Duration,
    /// However long it says: a key that was taken back must be gone some time.
    pub(in crate::auth) refresh_max: Duration,
    /// Unknown key ids, however many, cause one fetch in this time.
    pub(in crate::auth) unknown_every: Duration,
    /// After a fetch failed.
    pub(in crate::auth) retry: Duration,
    /// How long the last good set counts when no newer one can be had: longer than an outage that people sleep through.
    /// Above it nobody gets in: who can cut this node off from the provider must not keep a stolen key alive for ever.
    pub(in crate::auth) good_for: Duration,
    /// Time for one fetch.
    pub(in crate::auth) fetch_within: Duration,
    /// Time that a start has for the first one.
    pub(in crate::auth) start_within: Duration,
    /// Between the tries of a start.
    pub(in crate::auth) start_retry: Duration,
}

impl Timing {
    /// What a server uses.
    pub(super) const SERVER: Self = Self {
        refresh: Duration::from_mins(5),
        refresh_min: Duration::from_mins(1),
        refresh_max: Duration::from_hours(1),
        unknown_every: Duration::from_secs(30),
        retry: Duration::from_secs(30),
        good_for: Duration::from_hours(24),
        fetch_within: Duration::from_secs(5),
        start_within: Duration::from_secs(20),
        start_retry: Duration::from_secs(1),
    };

    /// How long a set is used before it is fetched again.
    fn lifetime(&self, fresh_for: Option<Duration>) -> Duration {
        fresh_for
            .unwrap_or(self.refresh)
            .clamp(self.refresh_min, self.refresh_max)
    }
}

/// What the next fetch waits for.
#[derive(Debug)]
pub(super) struct Pace {
    timing: Timing,
    scheduled: Instant,
    /// Unknown key ids cause no fetch before this.
    unknown_from: Instant,
    /// The fetch that an unknown key id asked for.
    asked: Option<Instant>,
}

impl Pace {
    /// Nothing was fetched yet.
    pub(super) fn new(timing: Timing, now: Instant) -> Self {
        Self {
            timing,
            scheduled: now,
            unknown_from: now,
            asked: None,
        }
    }

    /// A token names an unknown key id. Gives the moment from which on a fetch would answer it, when that fetch is due or
    /// under way; otherwise it is put off, and nobody need wait.
    pub(super) fn ask(&mut self, now: Instant) -> Option<Instant> {
        let at = *self.asked.get_or_insert_with(|| now.max(self.unknown_from));
        (at <= now).then_some(at)
    }

    /// When to fetch next.
    pub(super) fn due(&self) -> Instant {
        self.asked.map_or(self.scheduled, |asked| asked.min(self.scheduled))
    }

    /// A fetch that began then brought a set. `spread` in 0..1 keeps the nodes of a fleet apart.
    pub(super) fn succeeded(&mut self, began: Instant, now: Instant, fresh_for: Option<Duration>, spread: f64) {
        self.answered(began);
        let lifetime = self.timing.lifetime(fresh_for);
        self.scheduled = now + lifetime.mul_f64(1.0 - spread / 10.0);
    }

    /// A fetch that began then brought nothing.
    pub(super) fn failed(&mut self, began: Instant, now: Instant) {
        self.answered(began);
        self.scheduled = now + self.timing.retry;
    }

    fn answered(&mut self, began: Instant) {
        if self.asked.is_some_and(|asked| asked <= began) {
            self.asked = None;
            self.unknown_from = began + self.timing.unknown_every;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A pace whose first fetch, a second long, was just done.
    fn pace() -> (Pace, Instant) {
        let start = stonechat_host::monotonic();
        let mut pace = Pace::new(Timing::SERVER, start);
        assert_eq!(pace.due(), start);
        pace.succeeded(start, start + SECOND, None, 0.0);
        (pace, start + SECOND)
    }

    #[test]
    fn a_set_is_fetched_again_when_it_is_no_longer_fresh_within_bounds() {
        let minutes = |minutes| Some(Duration::from_mins(minutes));
        let cases = [(None, 5), (minutes(0), 1), (minutes(10), 10), (minutes(600), 60)];
        for (fresh_for, expected) in cases {
            let (mut pace, now) = pace();
            pace.succeeded(now, now, fresh_for, 0.0);
            assert_eq!(pace.due() - now, Duration::from_mins(expected), "{fresh_for:?}");
            pace.succeeded(now, now, fresh_for, 0.999_999);
            let apart = pace.due() - now;
            assert!(
                apart >= Duration::from_mins(expected).mul_f64(0.9),
                "{fresh_for:?}: {apart:?}"
            );
        }
    }

    #[test]
    fn unknown_key_ids_cause_one_fetch_in_30_s() {
        let (mut pace, now) = pace();
        let mut fetches = Vec::new();
        // 100 unknown ids a second for ten minutes.
        for step in 0..60_000 {
            let at = now + SECOND / 100 * step;
            while pace.due() <= at {
                let began = pace.due();
                fetches.push(began);
                pace.succeeded(began, began, Some(Duration::from_hours(1)), 0.0);
            }
            pace.ask(at);
        }
        let gaps: Vec<Duration> = fetches.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| *gap >= Duration::from_secs(30)), "{gaps:?}");
        assert!((19..=21).contains(&fetches.len()), "{}", fetches.len());
    }

    /// Tokens of a key that was just published wait for the one fetch, however many come while it is under way; those that
    /// come too soon after it wait for nothing, but their key is fetched when it may be.
    #[test]
    fn those_who_ask_for_the_same_fetch_wait_for_it_together() {
        let (mut pace, now) = pace();
        assert_eq!(pace.ask(now), Some(now));
        assert_eq!(pace.ask(now + SECOND), Some(now));
        pace.succeeded(now, now + SECOND * 2, None, 0.0);
        assert_eq!(pace.ask(now + SECOND * 3), None);
        assert_eq!(pace.due(), now + SECOND * 30);
        assert_eq!(pace.ask(now + SECOND * 31), Some(now + SECOND * 30));
    }

    /// A fetch that began before the question is no answer to it.
    #[test]
    fn a_fetch_under_way_answers_no_later_question() {
        let (mut pace, now) = pace();
        let scheduled = pace.due();
        let asked = scheduled + SECOND;
        assert_eq!(pace.ask(asked), Some(asked));
        pace.succeeded(scheduled, asked + SECOND, None, 0.0);
        assert_eq!(pace.due(), asked);
        assert!(now < asked);
    }

    #[test]
    fn a_failed_fetch_is_tried_again_and_counts_as_one() {
        let (mut pace, now) = pace();
        assert_eq!(pace.ask(now), Some(now));
        pace.failed(now, now + SECOND * 5);
        assert_eq!(pace.due(), now + SECOND * 35);
        assert_eq!(pace.ask(now + SECOND * 6), None);
        assert_eq!(pace.due(), now + SECOND * 30);
    }
}
