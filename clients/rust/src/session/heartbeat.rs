//! What a live stream needs on time: pings, the silence of the peer, a new token.

use std::collections::BTreeMap;
use std::time::Duration;

use stonechat_proto::v1::{ConversationHead, Limits, Welcome};
use tokio::time::Instant;

/// Used when the server states none.
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(30);
/// Nothing from the server for so long: it is gone. Half as long again as the heartbeat it answers.
const SILENCE: Duration = Duration::from_secs(45);
/// A token is renewed so long before it ends, or at four fifths of a short life.
const RENEW_BEFORE: Duration = Duration::from_secs(60);

pub(super) struct Heartbeat {
    interval: Duration,
    next_ping: Instant,
    heard: Instant,
    token_life: Duration,
    renew_at: Option<Instant>,
    /// Heads that the last pong told and that were ahead of what had come.
    ahead: BTreeMap<String, u64>,
}

impl Heartbeat {
    pub(super) fn new(now: Instant, welcome: &Welcome) -> Self {
        let stated = welcome.limits.as_ref().map_or(0, |limits: &Limits| limits.heartbeat_ms);
        let interval = match stated {
            0 => HEARTBEAT_DEFAULT,
            millis => Duration::from_millis(u64::from(millis)).min(HEARTBEAT_DEFAULT),
        };
        let life = welcome.token_expires_ms.saturating_sub(welcome.server_time_ms).max(0);
        let token_life = Duration::from_millis(u64::try_from(life).unwrap_or(0));
        Self {
            interval,
            next_ping: now + interval,
            heard: now,
            token_life,
            renew_at: (welcome.token_expires_ms > 0).then(|| now + renew_after(token_life)),
            ahead: BTreeMap::new(),
        }
    }

    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// True once per interval.
    pub(super) fn ping_due(&mut self, now: Instant) -> bool {
        let due = self.next_ping <= now;
        if due {
            self.next_ping = now + self.interval;
        }
        due
    }

    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.heard + SILENCE <= now
    }

    /// True once per token.
    pub(super) fn renewal_due(&mut self, now: Instant) -> bool {
        let due = self.renew_at.is_some_and(|at| at <= now);
        if due {
            self.renew_at = None;
        }
        due
    }

    /// A new token was given, which lives so long when that is known.
    pub(super) fn renewed(&mut self, now: Instant, life: Option<Duration>) {
        self.token_life = life.unwrap_or(self.token_life);
        self.renew_at = Some(now + renew_after(self.token_life));
    }

    /// No new token could be had now: ask again in a moment, as long as the old one lives.
    pub(super) fn renewal_failed(&mut self, now: Instant) {
        self.renew_at = Some(now + (self.token_life / 20).clamp(Duration::from_millis(500), Duration::from_secs(15)));
    }

    /// Takes the heads of a pong, of which those in `behind` have not come; returns those that the last pong told, too:
    /// they are not on their way but lost.
    pub(super) fn lost_heads(&mut self, behind: Vec<ConversationHead>) -> Vec<ConversationHead> {
        let (lost, fresh): (Vec<_>, Vec<_>) = behind.into_iter().partition(|head| {
            self.ahead
                .get(&head.conversation_id)
                .is_some_and(|told| *told <= head.head_seq)
        });
        self.ahead = fresh
            .into_iter()
            .map(|head| (head.conversation_id, head.head_seq))
            .collect();
        lost
    }

    pub(super) fn next_timer(&self) -> Instant {
        let quiet = self.next_ping.min(self.heard + SILENCE);
        self.renew_at.map_or(quiet, |renew| renew.min(quiet))
    }
}

fn renew_after(life: Duration) -> Duration {
    life.saturating_sub(RENEW_BEFORE.min(life / 5))
}
