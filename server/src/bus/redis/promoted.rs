//! Conversations with a channel of their own, as a gateway sees them: which there are, and for whom.
//!
//! It says nothing of who may hear an event, only which channels are worth hearing: the event names its audience (I7). So what
//! is remembered too long, or of one who left, costs a subscription and tells nobody anything.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::limits::GROUP_MEMBERS_MAX;
use crate::domain::{ConversationId, UserId};
use crate::telemetry::meters::{Held, meters};

/// Above this nobody promotes another one: announcements of them all are then 500 KiB a second to each gateway.
pub(super) const PROMOTED_MAX: usize = 256;
/// Those that are remembered: more, as several may promote at a moment. What does not fit, its members are told to look for.
pub(super) const REMEMBERED_MAX: usize = 4 * PROMOTED_MAX;
/// Members of one: those of a full group, and who left while others came.
pub(super) const MEMBERS_MAX: usize = 2 * GROUP_MEMBERS_MAX;
/// How long an announcement is remembered: three of them in a row must be missed, and nobody publishes by one that old.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(15);
/// From an announcement to the first event on the channel: far longer than a subscription takes.
pub(super) const SETTLES: Duration = Duration::from_secs(2);
/// A subscription that is confirmed within this of its announcement missed nothing, however late that came.
const CONFIRMED_WITHIN: Duration = Duration::from_millis(500);

/// The conversations; at most [`REMEMBERED_MAX`].
#[derive(Default)]
pub(super) struct Promoted(BTreeMap<ConversationId, Heard>);

#[derive(Default)]
struct Heard {
    /// Until when each is remembered; at most [`MEMBERS_MAX`].
    members: BTreeMap<UserId, Instant>,
    /// Who is told nothing when the channel is confirmed by then: nothing was on it for them before.
    quiet_until: Option<Instant>,
    /// While its channel is wanted here.
    counted: Option<Held>,
}

impl Promoted {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes an announcement in; which of these users were not remembered before, or `None` when there is no room for all.
    pub(super) fn remember<'a>(
        &mut self,
        conversation: ConversationId,
        users: &'a [UserId],
        now: Instant,
    ) -> Option<Vec<&'a UserId>> {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(&conversation) {
            return None;
        }
        let heard = self.0.entry(conversation).or_default();
        heard.members.retain(|_, until| now < *until);
        let until = now + REMEMBERED_FOR;
        let mut new = Vec::new();
        for user in users {
            if let Some(known) = heard.members.get_mut(user) {
                *known = until;
            } else if heard.members.len() < MEMBERS_MAX {
                heard.members.insert(user.clone(), until);
                new.push(user);
            } else {
                return None;
            }
        }
        Some(new)
    }

    /// The conversations that a user belongs to.
    pub(super) fn of(&self, user: &UserId, now: Instant) -> Vec<ConversationId> {
        let belongs = |heard: &Heard| heard.members.get(user).is_some_and(|until| now < *until);
        let all = self.0.iter().filter(|(_, heard)| belongs(heard));
        all.map(|(conversation, _)| *conversation).collect()
    }

    /// Who belongs to one.
    pub(super) fn members(&self, conversation: ConversationId) -> impl Iterator<Item = &UserId> {
        let heard = self.0.get(&conversation);
        heard.into_iter().flat_map(|heard| heard.members.keys())
    }

    /// Its channel is wanted here, from the moment at which it was announced or not.
    pub(super) fn join(&mut self, conversation: ConversationId, announced: Option<Instant>) {
        if let Some(heard) = self.0.get_mut(&conversation) {
            heard.quiet_until = announced.map(|at| at + CONFIRMED_WITHIN);
            heard.counted = Some(meters().bus_conversations.hold());
        }
    }

    /// Its channel is not wanted here.
    pub(super) fn leave(&mut self, conversation: ConversationId) {
        if let Some(heard) = self.0.get_mut(&conversation) {
            heard.counted = None;
        }
    }

    /// Something may have been on its channel before that is confirmed.
    pub(super) fn doubt(&mut self, conversation: ConversationId) {
        if let Some(heard) = self.0.get_mut(&conversation) {
            heard.quiet_until = None;
        }
    }

    /// Its channel is confirmed; whether that was in time to have missed nothing.
    pub(super) fn is_in_time(&self, conversation: ConversationId, now: Instant) -> bool {
        let quiet_until = self.0.get(&conversation).and_then(|heard| heard.quiet_until);
        quiet_until.is_some_and(|until| now <= until)
    }

    /// Forgets those that are announced no more, and names them.
    pub(super) fn forget(&mut self, now: Instant) -> Vec<ConversationId> {
        let over = |heard: &Heard| heard.members.values().all(|until| now >= *until);
        let gone = self.0.extract_if(.., |_, heard| over(heard));
        gone.map(|(conversation, _)| conversation).collect()
    }
}
