//! What this node knows of one user's presence: their sessions here, and the status they chose. Pure; no clock.
//!
//! Deadlines are monotonic, so that a jump of the wall clock shows nobody as offline whose stream lives, and keeps
//! nobody online whose stream is gone (C15).

use std::collections::BTreeMap;
use std::time::Duration;

use stonechat_host::rule_holds;
use tokio::time::Instant;

use crate::bus::{Status, StatusRecord};
use crate::domain::{SessionId, UnixMillis};

/// A session without a sign of life for this long is gone: twice the heartbeat, so that one lost ping shows nothing.
pub(super) const VALIDITY: Duration = Duration::from_secs(60);
/// One heartbeat: a stream that broke may come back this long before the others see it.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// A sign of life within this of the last one changes nothing: frames come in bursts.
pub(super) const REFRESH: Duration = Duration::from_secs(10);
/// Sessions of one user that count; far more than devices, so only a fault or an attack reaches it.
pub(super) const SESSIONS_MAX: usize = 64;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) mono: Instant,
    pub(super) wall: UnixMillis,
}

/// Something said of a user, good until a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) status: Status,
    pub(super) last_active: UnixMillis,
    until: Instant,
    /// `None`: the next sign of life counts at once.
    refreshed: Option<Instant>,
}

impl Record {
    fn new(status: Status, now: Now, valid: Duration) -> Self {
        Self {
            status,
            last_active: now.wall,
            until: now.mono + valid,
            refreshed: Some(now.mono),
        }
    }

    fn holds(&self, now: Now) -> bool {
        if !rule_holds("presence_keeps_its_own_time") {
            let age = now.wall.0.saturating_sub(self.last_active.0);
            return Duration::from_millis(u64::try_from(age).unwrap_or(0)) < VALIDITY;
        }
        self.until > now.mono
    }

    /// The record as other nodes see it.
    pub(super) fn published(&self, gateway: &str, now: Now) -> StatusRecord {
        let left = self.until.saturating_duration_since(now.mono);
        let left = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        StatusRecord {
            status: self.status,
            last_active: self.last_active,
            gateway: gateway.to_owned(),
            valid_until: UnixMillis(now.wall.0.saturating_add(left)),
        }
    }
}

/// A user's sessions on this node and the status they chose here.
#[derive(Debug)]
pub(super) struct UserState {
    sessions: BTreeMap<SessionId, Record>,
    chosen: Option<Record>,
    /// What watchers were last told.
    pub(super) shown: Status,
    /// Changes that may still be told before the next sweep.
    pub(super) changes_left: u8,
}

/// A user's presence, merged. `last_active` is hidden with the rest of an invisible user, so it is there only when they
/// are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merged {
    pub(super) status: Status,
    pub(super) last_active: Option<UnixMillis>,
}

impl Merged {
    pub(super) const OFFLINE: Self = Self {
        status: Status::Offline,
        last_active: None,
    };
}

impl UserState {
    /// Nothing is known here yet; watchers were last told `shown`.
    pub(super) fn new(shown: Status, changes_left: u8) -> Self {
        Self {
            sessions: BTreeMap::new(),
            chosen: None,
            shown,
            changes_left,
        }
    }

    /// A session lives. `None` when nothing had to be changed, or when there is no room for it.
    pub(super) fn alive(&mut self, session: &SessionId, status: Status, now: Now) -> Option<Record> {
        let before = self.sessions.get(session);
        if before.is_none() && self.sessions.len() >= SESSIONS_MAX {
            return None;
        }
        let mut record = Record::new(status, now, VALIDITY);
        if let Some(before) = before.filter(|before| before.status == status) {
            if before.refreshed.is_some_and(|last| now.mono < last + REFRESH) {
                return None;
            }
            // Frames of an app in the background are its own doing, not its user's.
            if status != Status::Online {
                record.last_active = before.last_active;
            }
        }
        self.sessions.insert(session.clone(), record);
        self.keep_chosen(now, VALIDITY);
        Some(record)
    }

    /// Whether the session is known here.
    pub(super) fn knows(&self, session: &SessionId) -> bool {
        self.sessions.contains_key(session)
    }

    /// A session's stream broke: it counts for the grace.
    pub(super) fn lose(&mut self, session: &SessionId, now: Now) -> Option<Record> {
        let record = self.sessions.get_mut(session)?;
        record.until = now.mono + GRACE;
        record.refreshed = None;
        let record = *record;
        self.keep_chosen(now, GRACE);
        Some(record)
    }

    /// A session ended for good: it counts no more.
    pub(super) fn end(&mut self, session: &SessionId) {
        self.sessions.remove(session);
    }

    /// Whether a session lives here.
    pub(super) fn has_sessions(&self) -> bool {
        !self.sessions.is_empty()
    }

    /// The user chose a status, for all their sessions. It holds as long as one of them lives, or for the validity.
    pub(super) fn choose(&mut self, status: Status, now: Now) -> Record {
        let record = Record::new(status, now, VALIDITY);
        self.chosen = Some(record);
        record
    }

    /// Takes over what the user chose at another node, when it is newer, so that the sessions here keep it alive.
    pub(super) fn adopt(&mut self, status: Status, at: UnixMillis, now: Now) {
        if self.chosen.is_none_or(|chosen| chosen.last_active < at) {
            let mut record = Record::new(status, now, VALIDITY);
            record.last_active = at;
            self.chosen = Some(record);
        }
    }

    /// What the user chose.
    pub(super) fn chosen(&self) -> Option<&Record> {
        self.chosen.as_ref()
    }

    /// Forgets what the user chose.
    pub(super) fn forget_choice(&mut self) {
        self.chosen = None;
    }

    fn keep_chosen(&mut self, now: Now, valid: Duration) {
        if let Some(chosen) = &mut self.chosen {
            chosen.until = chosen.until.max(now.mono + valid);
        }
    }

    /// Forgets what no longer holds; returns the sessions that went, and whether the choice went. It goes with the last
    /// session.
    pub(super) fn expire(&mut self, now: Now) -> (Vec<SessionId>, bool) {
        let expired = self.sessions.iter().filter(|(_, record)| !record.holds(now));
        let gone: Vec<SessionId> = expired.map(|(session, _)| session.clone()).collect();
        self.sessions.retain(|_, record| record.holds(now));
        let alone = self.sessions.is_empty() && !gone.is_empty();
        let choice = self.chosen.take_if(|chosen| alone || !chosen.holds(now));
        (gone, choice.is_some())
    }

    /// Nothing is known any more.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.chosen.is_none()
    }

    /// Nothing is known any more, and watchers were told so.
    pub(super) fn is_over(&self, seen: Status) -> bool {
        self.is_empty() && self.shown == seen
    }

    /// What is said here, as far as it still holds.
    pub(super) fn said(&self, now: Now) -> Said {
        let mut said = Said::default();
        for record in self.sessions.values().filter(|record| record.holds(now)) {
            said.add_session(record.status, record.last_active);
        }
        if let Some(chosen) = self.chosen.filter(|chosen| chosen.holds(now)) {
            said.add_choice(chosen.status, chosen.last_active);
        }
        said
    }
}

/// What sessions and choices of all nodes say, to be merged.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Said {
    session: Option<Status>,
    choice: Option<(UnixMillis, Status)>,
    last_active: Option<UnixMillis>,
}

impl Said {
    /// One live session.
    pub(super) fn add_session(&mut self, status: Status, last_active: UnixMillis) {
        self.session = self.session.max(Some(status));
        self.last_active = self.last_active.max(Some(last_active));
    }

    /// A status the user chose then; the newest choice counts.
    pub(super) fn add_choice(&mut self, status: Status, at: UnixMillis) {
        self.choice = self.choice.max(Some((at, status)));
        self.last_active = self.last_active.max(Some(at));
    }

    /// What others see: the choice where there is one, but who chose to be online is as online as their apps are.
    pub(super) fn merged(self) -> Merged {
        let chosen = self.choice.map(|(_, status)| status);
        let status = match (chosen, self.session) {
            (None | Some(Status::Online), Some(session)) => session,
            (Some(chosen), _) => chosen,
            (None, None) => Status::Offline,
        };
        match status {
            Status::Offline => Merged::OFFLINE,
            status => Merged {
                status,
                last_active: self.last_active,
            },
        }
    }
}
