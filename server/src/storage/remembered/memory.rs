//! What is remembered, within bounds, and when it must be forgotten.

use std::collections::BTreeMap;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::unsync::Cache;
use tokio::time::Instant;

use crate::domain::{ConversationId, DeviceId, UnixMillis, UserId};
use crate::storage::{ConversationView, Projection, Revocation, UserRecord};

/// Users that are remembered, about 300 bytes each: as many as a node has streams, several times over.
const USERS_MAX: usize = 50_000;
/// Devices of one user that are remembered; with more, all are forgotten and asked again.
const DEVICES_PER_USER_MAX: usize = 16;
/// Rows of lists that are remembered, about 300 bytes each: what changes for the users of a node between two of their
/// connects.
const VIEWS_MAX: u64 = 200_000;
/// Conversations whose rows those are, as a first guess: the cache grows by itself.
const CONVERSATIONS_GUESSED: usize = 10_000;
/// After a write that failed, when it may still happen: the database gives up long before.
const DOUBT: Duration = Duration::from_secs(120);

/// What a write is about.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    /// A user, or a device of theirs.
    User(UserId),
    /// A conversation, as everybody sees it.
    Conversation(ConversationId),
    /// A conversation, as one user sees it.
    View(UserId, ConversationId),
}

impl Subject {
    /// What a projection changes of what lists show; most change nothing.
    pub(super) fn of_projection(id: ConversationId, projection: &Projection) -> Option<Self> {
        let shows = !projection.standings.is_empty() || projection.name.is_some();
        shows.then_some(Self::Conversation(id))
    }
}

/// What is known of a user.
#[derive(Clone)]
struct User {
    record: UserRecord,
    /// At most `DEVICES_PER_USER_MAX`.
    devices: Vec<(DeviceId, Device)>,
}

/// What is known of a device.
#[derive(Clone, Copy, Default)]
pub(super) struct Device {
    /// When its last hello was written down.
    pub(super) touched: Option<UnixMillis>,
    /// When it was removed, if that is known.
    pub(super) removed: Option<Option<UnixMillis>>,
}

/// Sorted by user; a map would take ten times the memory for the two of a 1:1.
type Views = Vec<(UserId, ConversationView)>;

#[derive(Clone)]
struct ByRows;

impl Weighter<ConversationId, Views> for ByRows {
    fn weight(&self, _: &ConversationId, views: &Views) -> u64 {
        1 + views.len() as u64
    }
}

/// Moment of a read: what was read before a write must not be remembered after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading(u64);

/// See the module.
pub(super) struct Memory {
    users: Cache<UserId, User>,
    views: Cache<ConversationId, Views, ByRows>,
    writes: u64,
    /// A write that failed may still happen: until then nothing is remembered.
    doubted_until: Option<Instant>,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            users: Cache::new(USERS_MAX),
            views: Cache::with_weighter(CONVERSATIONS_GUESSED, VIEWS_MAX, ByRows),
            writes: 0,
            doubted_until: None,
        }
    }

    /// A read begins.
    pub(super) fn reading(&self) -> Reading {
        Reading(self.writes)
    }

    /// A write came to an end. `certain`: it happened, or certainly did not.
    pub(super) fn wrote(&mut self, subject: &Subject, certain: bool) {
        self.writes += 1;
        if !certain {
            self.users.clear();
            self.views.clear();
            self.doubted_until = Some(stonechat_host::monotonic() + DOUBT);
        }
        match subject {
            Subject::User(user) => drop(self.users.remove(user)),
            Subject::Conversation(id) => drop(self.views.remove(id)),
            Subject::View(user, id) => {
                if let Some(mut views) = self.views.get_mut(id) {
                    views.retain(|(other, _)| other != user);
                }
            }
        }
    }

    /// Somebody may have revoked tokens without our knowing.
    pub(super) fn revoked(&mut self, revocations: &[Revocation]) {
        for revocation in revocations {
            self.users.remove(&revocation.user);
        }
    }

    fn remembers(&mut self, since: Reading) -> bool {
        self.doubted_until = self.doubted_until.filter(|until| stonechat_host::monotonic() < *until);
        self.doubted_until.is_none() && since == Reading(self.writes)
    }

    pub(super) fn user(&mut self, id: &UserId) -> Option<UserRecord> {
        self.users.get(id).map(|known| known.record.clone())
    }

    pub(super) fn device(&self, user: &UserId, device: &DeviceId) -> Device {
        let known = self.users.peek(user);
        let devices = known.map_or(&[][..], |known| known.devices.as_slice());
        let found = devices.iter().find(|(other, _)| other == device);
        found.map_or_else(Device::default, |(_, known)| *known)
    }

    /// Takes note of a user.
    pub(super) fn note_user(&mut self, record: &UserRecord, since: Reading) {
        if self.remembers(since) && self.users.peek(&record.id).is_none() {
            let user = User {
                record: record.clone(),
                devices: Vec::new(),
            };
            self.users.insert(record.id.clone(), user);
        }
    }

    /// Takes note of something about a device of a user who is remembered.
    pub(super) fn note_device(
        &mut self,
        user: &UserId,
        device: &DeviceId,
        since: Reading,
        note: impl FnOnce(&mut Device),
    ) {
        if !self.remembers(since) {
            return;
        }
        let Some(mut known) = self.users.get_mut(user) else {
            return;
        };
        if let Some((_, found)) = known.devices.iter_mut().find(|(other, _)| other == device) {
            return note(found);
        }
        if known.devices.len() >= DEVICES_PER_USER_MAX {
            known.devices.clear();
        }
        let mut found = Device::default();
        note(&mut found);
        known.devices.push((device.clone(), found));
    }

    pub(super) fn view(&mut self, user: &UserId, id: ConversationId) -> Option<ConversationView> {
        let views = self.views.get(&id)?;
        let at = views.binary_search_by(|(other, _)| other.cmp(user)).ok()?;
        Some(views[at].1.clone())
    }

    /// Takes note of what a list shows a user of these conversations.
    pub(super) fn note_views(
        &mut self,
        user: &UserId,
        found: &BTreeMap<ConversationId, ConversationView>,
        since: Reading,
    ) {
        if !self.remembers(since) {
            return;
        }
        for (id, view) in found {
            let Some(mut views) = self.views.get_mut(id) else {
                self.views.insert(*id, vec![(user.clone(), view.clone())]);
                continue;
            };
            match views.binary_search_by(|(other, _)| other.cmp(user)) {
                Ok(at) => views[at].1 = view.clone(),
                Err(at) => views.insert(at, (user.clone(), view.clone())),
            }
        }
    }
}
