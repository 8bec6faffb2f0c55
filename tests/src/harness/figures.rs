//! Times out of a history: how long people waited.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::checker::{History, MessageKey, Moment, OpId, SessionRef, What};

/// Times, sorted.
#[derive(Debug, Clone, Default)]
pub struct Waits(Vec<Duration>);

impl From<Vec<Duration>> for Waits {
    fn from(mut waits: Vec<Duration>) -> Self {
        waits.sort_unstable();
        Self(waits)
    }
}

impl Waits {
    /// How many.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// So many of a hundred took this long or less; zero when there are none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }

    /// The longest.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.percentile(100)
    }
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, 99, 100].map(|percent| self.percentile(percent).as_millis());
        write!(
            f,
            "N = {}, p50 {half} ms, p99 {most} ms, longest {all} ms",
            self.0.len()
        )
    }
}

fn between(from: Moment, to: Moment) -> Duration {
    Duration::from_micros(to.0.saturating_sub(from.0))
}

/// Messages as their senders saw them.
struct Sends<'a> {
    /// When each was sent first.
    invoked: BTreeMap<&'a MessageKey, Moment>,
    /// When each was acknowledged first.
    acked: BTreeMap<&'a MessageKey, Moment>,
}

impl<'a> Sends<'a> {
    fn of(history: &'a History) -> Self {
        let (mut invoked, mut acked) = (BTreeMap::new(), BTreeMap::new());
        let mut keys: BTreeMap<OpId, &MessageKey> = BTreeMap::new();
        for event in &history.events {
            match &event.what {
                What::SendInvoked { op, key, .. } => {
                    keys.insert(*op, key);
                    invoked.entry(key).or_insert(event.at);
                }
                What::SendAcked { op, .. } => {
                    if let Some(key) = keys.get(op) {
                        acked.entry(*key).or_insert(event.at);
                    }
                }
                _ => {}
            }
        }
        Self { invoked, acked }
    }
}

/// Of messages first sent since a moment: from then to the first ack, retries included. Messages without one do not count.
#[must_use]
pub fn ack_waits(history: &History, since: Moment, counts: impl Fn(&MessageKey) -> bool) -> Waits {
    let sends = Sends::of(history);
    let late = sends.invoked.iter().filter(|(key, at)| **at >= since && counts(key));
    let waits = late.filter_map(|(key, at)| Some(between(*at, *sends.acked.get(key)?)));
    waits.collect::<Vec<_>>().into()
}

/// Of messages first sent since a moment: from their ack to the first delivery on a stream of this user; nothing when it
/// came before. Messages that were never delivered there do not count.
#[must_use]
pub fn delivery_lags(history: &History, since: Moment, user: &str) -> Waits {
    let sends = Sends::of(history);
    let of_user = |event: &What| match event {
        What::SessionOpened { session, user: of, .. } if of.0 == user => Some(*session),
        _ => None,
    };
    let sessions: std::collections::BTreeSet<SessionRef> =
        history.events.iter().filter_map(|event| of_user(&event.what)).collect();
    let mut first: BTreeMap<&MessageKey, Moment> = BTreeMap::new();
    for event in &history.events {
        if let What::Delivered { session, entry } = &event.what
            && sessions.contains(session)
        {
            first.entry(&entry.key).or_insert(event.at);
        }
    }
    let late = sends.invoked.iter().filter(|(_, at)| **at >= since);
    let lags = late.filter_map(|(key, _)| Some(between(*sends.acked.get(key)?, *first.get(key)?)));
    lags.collect::<Vec<_>>().into()
}
