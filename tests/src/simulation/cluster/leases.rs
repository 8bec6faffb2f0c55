//! What sessions say of their users, as nodes share it through Redis: it holds while the lease of its gateway lives, and what
//! names no gateway for as long as was said. No wall clock counts but the reader's, by which it is told how long it holds.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use stonechat_host::monotonic;
use stonechat_server::bus::StatusRecord;
use stonechat_server::domain::{SessionId, UnixMillis, UserId};
use tokio::time::Instant;

/// A gateway that died is gone for readers after this.
const LEASE: Duration = Duration::from_secs(60);
/// How often a gateway that lives says so.
pub(super) const LEASE_REFRESH: Duration = Duration::from_secs(15);

/// A record, and until when it holds by itself.
type Held = (StatusRecord, Instant);

/// Shared by all nodes.
#[derive(Default)]
pub(super) struct Leases(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    leases: BTreeMap<String, Instant>,
    records: BTreeMap<UserId, BTreeMap<SessionId, Held>>,
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A gateway lives.
    pub(super) fn refresh(&self, gateway: &str) {
        self.lock().leases.insert(gateway.to_owned(), monotonic() + LEASE);
    }

    /// What a session says, at this time by the clock of its node.
    pub(super) fn set(&self, user: &UserId, session: &SessionId, record: StatusRecord, wall_ms: i64) {
        let left = u64::try_from(record.valid_until.0.saturating_sub(wall_ms)).unwrap_or(0);
        let until = monotonic() + Duration::from_millis(left);
        let mut inner = self.lock();
        let sessions = inner.records.entry(user.clone()).or_default();
        sessions.insert(session.clone(), (record, until));
    }

    pub(super) fn clear(&self, user: &UserId, session: &SessionId) {
        if let Some(sessions) = self.lock().records.get_mut(user) {
            sessions.remove(session);
        }
    }

    /// What holds, for a reader whose clock shows this time.
    pub(super) fn of(&self, users: &[UserId], wall_ms: i64) -> Vec<Vec<StatusRecord>> {
        let inner = self.lock();
        let held = |(record, own): &Held| {
            let until = match record.gateway.as_str() {
                "" => *own,
                gateway => *inner.leases.get(gateway)?,
            };
            let left = until.checked_duration_since(monotonic())?;
            Some(StatusRecord {
                valid_until: UnixMillis(wall_ms + millis(left)),
                ..record.clone()
            })
        };
        let of_user = |user: &UserId| {
            let sessions = inner.records.get(user).into_iter().flat_map(BTreeMap::values);
            sessions.filter_map(held).collect()
        };
        users.iter().map(of_user).collect()
    }
}
