//! Busy large groups, as who publishes to them sees them: when one is promoted to a channel of its own, and whom of it that
//! channel reaches by now.
//!
//! Each publisher decides by what it publishes itself, so nobody has to agree and an owner that changes hands over nothing. All
//! that is said in [`Announcement`]s may be said twice, and in any order.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use stonechat_host::monotonic;
use tokio::time::Instant;

use super::groups::{USERS_MIN, USERS_PER_GATEWAY, View};
use super::promoted::{MEMBERS_MAX, SETTLES};
use super::topics::lock;
use crate::domain::{ConversationId, UserId};

/// Events are counted by spans of this.
const WINDOW: Duration = Duration::from_secs(5);
/// So many within a span make a group busy: two a second. What an announcement costs is then a small part of what it saves.
const EVENTS_MIN: u32 = 10;
/// So many keep it promoted: fewer, so that a group at the border does not come and go.
const EVENTS_KEPT_MIN: u32 = 5;
/// How often it is announced again: so late knows of it who missed it.
const ANNOUNCED_EVERY: Duration = Duration::from_secs(5);
/// An announcement is good for so long; gateways keep it for longer by far more than an event travels.
const GOOD_FOR: Duration = Duration::from_secs(8);
/// After one that not all gateways heard: time for a connection that broke to come back.
const AGAIN: Duration = Duration::from_secs(2);
/// A member that no event was for is named no more after this.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
/// Groups whose events are counted: those of the last spans. More a node does not publish to at a time; others go as before.
const COUNTED_MAX: usize = 1024;

/// The groups that this process publishes to.
#[derive(Debug, Default)]
pub(super) struct Busy(Mutex<BTreeMap<ConversationId, Group>>);

#[derive(Debug)]
struct Group {
    /// The span under way, how many events it had so far, and how many the one before.
    span: Instant,
    events: u32,
    before: u32,
    told: Option<Told>,
    /// No announcement before this: one is under way, or failed.
    not_before: Instant,
}

/// What all gateways heard.
#[derive(Debug)]
struct Told {
    at: Instant,
    /// Which gateways there were.
    epoch: u64,
    /// At most [`MEMBERS_MAX`].
    members: BTreeMap<UserId, Standing>,
    /// How many heard the newest event.
    heard: usize,
}

#[derive(Debug, Clone, Copy)]
struct Standing {
    told: Instant,
    seen: Instant,
}

/// By which way an event goes.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// Which of the users the channel of their conversation reaches; empty when it reaches none.
    pub(super) reached: Vec<bool>,
    /// To be said after the event.
    pub(super) announcement: Option<Announcement>,
}

/// Why something is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Why {
    Promoted,
    Joined,
    Again,
}

/// For whom events are on a conversation's own channel, or soon will be.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) users: Vec<UserId>,
    /// Gateways elsewhere that must hear it.
    others: usize,
    epoch: u64,
    at: Instant,
    why: Why,
}

impl Announcement {
    /// Whether nothing for these users is on the channel yet.
    pub(super) fn begins(&self) -> bool {
        self.why != Why::Again
    }
}

impl Told {
    /// Who is new among these users; else all members that are left, when it is time and the group `stays` promoted.
    fn news(&mut self, users: &[UserId], stays: bool, now: Instant) -> Option<(Why, Vec<UserId>)> {
        let joined = users.iter().filter(|user| !self.members.contains_key(user));
        let joined: Vec<UserId> = joined.cloned().collect();
        if !joined.is_empty() && self.members.len() + joined.len() <= MEMBERS_MAX {
            return Some((Why::Joined, joined));
        }
        (stays && now >= self.at + ANNOUNCED_EVERY).then(|| {
            self.members.retain(|_, standing| now < standing.seen + SEEN_WITHIN);
            (Why::Again, self.members.keys().cloned().collect())
        })
    }
}

impl Group {
    fn new(now: Instant) -> Self {
        Self {
            span: now,
            events: 0,
            before: 0,
            told: None,
            not_before: now,
        }
    }

    fn count(&mut self, now: Instant) {
        if now >= self.span + WINDOW {
            self.before = if now < self.span + 2 * WINDOW { self.events } else { 0 };
            (self.span, self.events) = (now, 0);
        }
        self.events = self.events.saturating_add(1);
    }

    fn is_busy(&self, at_least: u32) -> bool {
        self.events.max(self.before) >= at_least
    }

    /// Whether what the channel saves is twice what announcing costs: a copy of the names for each gateway.
    fn is_worth_it(&self, users: usize, others: usize) -> bool {
        let announcement = USERS_PER_GATEWAY * others;
        let events = usize::try_from(self.events.max(self.before)).unwrap_or(usize::MAX);
        events.saturating_mul(users.min(announcement)) >= 2 * announcement
    }

    /// Which of these users the channel reaches, all of whom are seen to belong to it.
    fn reached(&mut self, users: &[UserId], now: Instant) -> Vec<bool> {
        let Some(told) = &mut self.told else { return Vec::new() };
        let mut reached = |user: &UserId| {
            let Some(standing) = told.members.get_mut(user) else {
                return false;
            };
            standing.seen = now;
            now >= standing.told + SETTLES
        };
        users.iter().map(&mut reached).collect()
    }

    /// What is to be announced behind an event for these users; `room` says whether one more may be promoted.
    fn announcement(&mut self, users: &[UserId], view: View, room: bool, now: Instant) -> Option<Announcement> {
        if now < self.not_before {
            return None;
        }
        let begins = room && self.is_busy(EVENTS_MIN) && self.is_worth_it(users.len(), view.others);
        let stays = self.is_busy(EVENTS_KEPT_MIN);
        let (why, users) = match &mut self.told {
            None => begins.then(|| (Why::Promoted, users.to_vec())),
            Some(told) => told.news(users, stays, now),
        }?;
        self.not_before = now + AGAIN;
        Some(Announcement {
            users,
            others: view.others,
            epoch: view.epoch,
            at: now,
            why,
        })
    }

    fn announced(&mut self, announcement: &Announcement, heard: Option<usize>, now: Instant) {
        // One that is there and did not hear may have a connection that just broke, and does not know what it missed.
        if heard < Some(announcement.others) {
            self.told = None;
            return;
        }
        self.not_before = now;
        let standing = Standing { told: now, seen: now };
        let members = announcement.users.iter().map(|user| (user.clone(), standing));
        match (announcement.why, &mut self.told) {
            (Why::Promoted, told) => {
                *told = Some(Told {
                    at: announcement.at,
                    epoch: announcement.epoch,
                    members: members.collect(),
                    heard: 0,
                });
            }
            (Why::Joined, Some(told)) if told.epoch == announcement.epoch => told.members.extend(members),
            (Why::Again, Some(told)) if told.epoch == announcement.epoch => told.at = announcement.at,
            // Meanwhile another gateway came, or not all are known.
            (Why::Joined | Why::Again, _) => {}
        }
    }
}

impl Busy {
    /// Counts an event for these users, and says how it goes. `view` is of the gateways, where all of them are known to hear of
    /// promoted conversations; `room` says whether one more may be promoted.
    pub(super) fn way(&self, conversation: ConversationId, users: &[UserId], view: Option<View>, room: bool) -> Way {
        if users.len() < USERS_MIN {
            return Way::default();
        }
        let now = monotonic();
        let mut groups = lock(&self.0);
        if groups.len() >= COUNTED_MAX && !groups.contains_key(&conversation) {
            groups.retain(|_, group| now < group.span + 2 * WINDOW);
            if groups.len() >= COUNTED_MAX {
                return Way::default();
            }
        }
        let group = groups.entry(conversation).or_insert_with(|| Group::new(now));
        group.count(now);
        // A gateway that came knows of nothing: all begins anew.
        let epoch = view.map(|view| view.epoch);
        group
            .told
            .take_if(|told| epoch != Some(told.epoch) || now >= told.at + GOOD_FOR);
        Way {
            reached: group.reached(users, now),
            announcement: view.and_then(|view| group.announcement(users, view, room, now)),
        }
    }

    /// So many gateways heard an event on the conversation's channel; `None`: that is not known. Whether it surely reached all that
    /// have a member: fewer than before may mean that one of them just lost its connection.
    pub(super) fn heard(&self, conversation: ConversationId, heard: Option<usize>) -> bool {
        let mut groups = lock(&self.0);
        let told = groups.get_mut(&conversation).and_then(|group| group.told.as_mut());
        let (Some(heard), Some(told)) = (heard, told) else {
            return false;
        };
        heard >= std::mem::replace(&mut told.heard, heard)
    }

    /// So many gateways elsewhere heard an announcement.
    pub(super) fn announced(&self, conversation: ConversationId, announcement: &Announcement, heard: Option<usize>) {
        if let Some(group) = lock(&self.0).get_mut(&conversation) {
            group.announced(announcement, heard, monotonic());
        }
    }
}

#[cfg(test)]
#[path = "tests/busy.rs"]
mod tests;
