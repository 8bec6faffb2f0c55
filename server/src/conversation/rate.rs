//! A token bucket: the rate limit of one conversation.

use std::time::Duration;

use tokio::time::Instant;

/// Allows `per_second` in the long run and one second's worth at once.
pub(super) struct RateLimit {
    per_second: f64,
    tokens: f64,
    refilled: Instant,
}

impl RateLimit {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self {
            per_second: f64::from(per_second),
            tokens: f64::from(per_second),
            refilled: now,
        }
    }

    /// Takes one token, or says how long until there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let elapsed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.per_second);
        self.refilled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i9_takes_a_second_at_once_then_the_rate() {
        let start = stonechat_host::monotonic();
        let mut limit = RateLimit::new(10, start);
        assert_eq!((0..20).filter(|_| limit.take(start).is_ok()).count(), 10);
        let wait = limit.take(start).unwrap_err();
        assert!(limit.take(start + wait).is_ok());
        assert!(limit.take(start + wait).is_err());
    }
}
