//! How a caller stands with a rate limit, and how an answer says so.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::{Reason, Refusal, UserId};

/// Answer metadata: requests that may come at once.
pub const RATE_LIMIT_METADATA: &str = "ratelimit-limit";
/// Answer metadata: how many of them are left.
pub const RATE_REMAINING_METADATA: &str = "ratelimit-remaining";
/// Answer metadata: seconds until all of them are back.
pub const RATE_RESET_METADATA: &str = "ratelimit-reset";

/// How a caller stands after a request was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Requests that may come at once.
    pub limit: u32,
    /// How many of them are left.
    pub remaining: u32,
    /// Time until all of them are back.
    pub reset: Duration,
    /// The request was one too many: when the next one may come.
    pub retry_after: Option<Duration>,
}

impl Standing {
    /// The refusal of a request that was one too many.
    ///
    /// # Errors
    /// `RateLimited`, when it was.
    pub fn check(&self, whose: &str) -> Result<(), Refusal> {
        let Some(wait) = self.retry_after else {
            return Ok(());
        };
        let retry_after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let message = format!("this {whose} asks too often; not done");
        Err(Refusal::not_done(Reason::RateLimited { retry_after_ms }, message))
    }

    /// Writes it into the metadata of an answer.
    pub fn tell(&self, headers: &mut HeaderMap) {
        let seconds = self.reset.as_secs() + u64::from(self.reset.subsec_nanos() > 0);
        let values = [
            (RATE_LIMIT_METADATA, u64::from(self.limit)),
            (RATE_REMAINING_METADATA, u64::from(self.remaining)),
            (RATE_RESET_METADATA, seconds),
        ];
        for (name, value) in values {
            headers.insert(HeaderName::from_static(name), passing(HeaderValue::from(value)));
        }
    }
}

/// Metadata that differs in every answer, kept out of the connection's table of headers (RFC 7541, 7.1.3): there it would
/// only take memory, a KiB of each idle connection.
#[must_use]
pub fn passing(mut value: HeaderValue) -> HeaderValue {
    value.set_sensitive(true);
    value
}

/// How often each user may ask.
pub trait UserRates: Send + Sync {
    /// Counts a request of this user; `None` when there is no limit.
    fn take(&self, user: &UserId) -> Option<Standing>;

    /// Forgets a request that was counted and passed: whoever made it was not let in as this user.
    fn give_back(&self, user: &UserId);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_how_its_caller_stands() {
        let standing = Standing {
            limit: 10,
            remaining: 3,
            reset: Duration::from_millis(1_200),
            retry_after: None,
        };
        let mut headers = HeaderMap::new();
        standing.tell(&mut headers);
        assert_eq!(headers[RATE_LIMIT_METADATA], "10");
        assert_eq!(headers[RATE_REMAINING_METADATA], "3");
        assert_eq!(headers[RATE_RESET_METADATA], "2", "seconds, rounded up");
        assert_eq!(standing.check("user"), Ok(()));
        let over = Standing {
            retry_after: Some(Duration::from_millis(70)),
            ..standing
        };
        let refusal = over.check("user").unwrap_err();
        assert_eq!(refusal.reason, Reason::RateLimited { retry_after_ms: 71 });
    }
}
