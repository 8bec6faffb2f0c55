//! When a stream must do something by itself.

use std::time::Duration;

use tokio::time::Instant;

use crate::auth::Principal;
use crate::domain::UnixMillis;
use crate::gateway::limits::{
    HEAL_EVERY, PRESENCE_ALIVE_EVERY, PRESENCE_REREAD_EVERY, PRESENCE_REREAD_SOON, RETRY_AFTER, SILENCE, TOKEN_LEEWAY,
};

/// Longest that a timer is set for: an expiry beyond it is checked again then.
const TIMER_MAX: Duration = Duration::from_secs(30 * 24 * 3_600);

/// The deadlines of one stream.
#[derive(Debug)]
pub(super) struct Timers {
    /// When the stream opened.
    pub(super) opened: Instant,
    heard: Instant,
    /// When the token expires.
    token: UnixMillis,
    /// When the stream ends with it, or when to ask again.
    expires: Result<Instant, Instant>,
    heal: Instant,
    told_alive: Option<Instant>,
    /// When all watched presences are read again.
    pub(super) reread: Instant,
    /// After the store could not answer.
    retry: Option<Instant>,
    /// When its connection is to end.
    moves: Option<Instant>,
}

/// When the stream of a token ends, by the monotonic clock; `Err` when that is too far off, with when to ask again.
fn expiry(token: UnixMillis, unix_ms: i64, now: Instant) -> Result<Instant, Instant> {
    let left = Duration::from_millis(u64::try_from(token.0.saturating_sub(unix_ms)).unwrap_or(0));
    if left > TIMER_MAX {
        return Err(now + TIMER_MAX);
    }
    Ok(now + left + TOKEN_LEEWAY)
}

impl Timers {
    pub(super) fn new(principal: &Principal, unix_ms: i64) -> Self {
        let now = stonechat_host::monotonic();
        Self {
            opened: now,
            heard: now,
            token: principal.expires,
            expires: expiry(principal.expires, unix_ms, now),
            heal: now + HEAL_EVERY,
            told_alive: None,
            reread: now + PRESENCE_REREAD_EVERY,
            retry: None,
            moves: None,
        }
    }

    /// When its connection is to end, if it is.
    pub(super) fn moves(&mut self, at: Option<Instant>) {
        self.moves = at;
    }

    /// The connection is old: the stream must move to another one.
    pub(super) fn must_move(&self, now: Instant) -> bool {
        self.moves.is_some_and(|at| now >= at)
    }

    /// There is a new token.
    pub(super) fn renew(&mut self, principal: &Principal, unix_ms: i64) {
        self.token = principal.expires;
        self.expires = expiry(self.token, unix_ms, stonechat_host::monotonic());
    }

    /// A frame came.
    pub(super) fn heard(&mut self) {
        self.heard = stonechat_host::monotonic();
    }

    /// True when presence should hear again that the session lives.
    pub(super) fn take_alive(&mut self) -> bool {
        let now = stonechat_host::monotonic();
        let due = self.told_alive.is_none_or(|told| now >= told + PRESENCE_ALIVE_EVERY);
        if due {
            self.told_alive = Some(now);
        }
        due
    }

    /// The client said nothing for too long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        now >= self.heard + SILENCE
    }

    /// The token is no longer good; `unix_ms` is asked when it was too far off for one timer.
    pub(super) fn is_expired(&mut self, now: Instant, unix_ms: impl FnOnce() -> i64) -> bool {
        if self.expires.is_err_and(|ask| now >= ask) {
            self.expires = expiry(self.token, unix_ms(), now);
        }
        self.expires.is_ok_and(|end| now >= end)
    }

    /// True when it is time to compare the inbox with what was sent.
    pub(super) fn take_heal(&mut self, now: Instant) -> bool {
        let due = now >= self.heal;
        if due {
            self.heal = now + HEAL_EVERY;
        }
        due
    }

    /// The inbox was just read to its end.
    pub(super) fn healed(&mut self) {
        self.heal = stonechat_host::monotonic() + HEAL_EVERY;
    }

    /// Who may be watched may have changed, or changes were lost.
    pub(super) fn reread_soon(&mut self) {
        self.reread = self.reread.min(stonechat_host::monotonic() + PRESENCE_REREAD_SOON);
    }

    /// The store could not answer: leave it alone for a moment.
    pub(super) fn pause(&mut self) {
        self.retry = Some(stonechat_host::monotonic() + RETRY_AFTER);
    }

    /// Whether the store is left alone.
    pub(super) fn is_paused(&self) -> bool {
        self.retry.is_some()
    }

    /// Ends the pause when it is over.
    pub(super) fn unpause(&mut self, now: Instant) {
        self.retry = self.retry.filter(|retry| now < *retry);
    }

    /// The earliest of them all. `listening`: silence counts only while frames are read.
    pub(super) fn next(&self, listening: bool) -> Instant {
        let (Ok(expires) | Err(expires)) = self.expires;
        let mut next = expires.min(self.heal);
        if listening {
            next = next.min(self.heard + SILENCE);
        }
        next = self.moves.map_or(next, |moves| next.min(moves));
        self.retry.map_or(next, |retry| next.min(retry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UserId;

    const DAY: Duration = Duration::from_secs(24 * 3_600);
    const DAY_MS: i64 = 24 * 3_600 * 1_000;

    fn principal(days: i64) -> Principal {
        Principal {
            user: UserId::parse("alice").expect("an id"),
            device: None,
            scopes: Default::default(),
            issued: UnixMillis(0),
            expires: UnixMillis(days * DAY_MS),
        }
    }

    /// A stream ends when its token does, also when that is further off than a timer is set for.
    #[tokio::test]
    async fn a_token_good_for_long_is_checked_again() {
        let opened = stonechat_host::monotonic();
        let mut timers = Timers::new(&principal(65), 0);
        for (days, unix_ms) in [(30, 30 * DAY_MS), (60, 60 * DAY_MS)] {
            let now = opened + DAY * days + TOKEN_LEEWAY;
            assert!(!timers.is_expired(now, || unix_ms), "after {days} days");
        }
        assert!(!timers.is_expired(opened + DAY * 65, || unreachable!("it is near enough")));
        assert!(timers.is_expired(opened + DAY * 66, || unreachable!("it is near enough")));
    }

    #[tokio::test]
    async fn a_token_has_its_leeway() {
        let opened = stonechat_host::monotonic();
        let mut timers = Timers::new(&principal(1), 0);
        assert!(!timers.is_expired(opened + DAY, || 0));
        assert!(timers.is_expired(opened + DAY + TOKEN_LEEWAY * 2, || 0));
    }
}
