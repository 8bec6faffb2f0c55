//! Receipts: moving one's own markers, telling the others, and who has received and read an entry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{crash_point, rule_holds};

use super::limits::{RECEIPTS_DELAY, RECEIPTS_DELAY_LARGE, RECEIPTS_NAMED_MAX, RECEIPTS_SMALL_GROUP};
use super::state::{State, directory_refusal, is_blocked, marker_refusal, read_refusal, unavailable};
use super::{Backends, Caller, Conversations, MemberReceipt, OwnMarkers, Receipts};
use crate::bus::{Event, ReceiptsMoved, Topic};
use crate::domain::authorization::Action;
use crate::domain::{ConversationId, Counted, DeviceId, MarkerSet, Ordinal, Reason, Refusal, Seq, UserId};
use crate::storage::{InboxHead, MarkerRaise, PageLimit, SettingsPatch};

impl Conversations {
    /// The caller's device has stored everything up to a seq that it was delivered, in each of several conversations: raises its
    /// positions and the user's delivered markers in one write, and tells the others. Durable when it returns; the results are
    /// in the order asked. That each seq was delivered is the caller's word: what was sent is in the log, so its head is not
    /// read again for every ack.
    ///
    /// # Errors
    /// For each: conversations that are not the caller's; markers not available: acknowledging again is harmless.
    pub async fn acknowledge(&self, caller: &Caller, acks: &[(ConversationId, Seq)]) -> Vec<Result<(), Refusal>> {
        let checks = acks
            .iter()
            .map(|(id, _)| self.allowing(*id, |state| check_marker(state, caller)));
        let checked = futures_util::future::join_all(checks).await;
        let allowed = acks.iter().zip(&checked).filter(|(_, checked)| checked.is_ok());
        let raises: Vec<_> = allowed.map(|((id, seq), _)| (*id, delivered_up_to(*seq))).collect();
        let raised = match require_user(caller) {
            Ok(user) => self.raise(user, caller.device.as_ref(), &raises).await.map(drop),
            Err(refusal) => Err(refusal),
        };
        let outcome = |checked: Result<_, Refusal>| checked.and_then(|_| raised.clone());
        checked.into_iter().map(outcome).collect()
    }

    /// The caller's device has everything up to a seq, by its own account. Answers with the markers.
    ///
    /// # Errors
    /// `BeyondHead` above the head; markers not available: marking again is harmless.
    pub async fn mark_delivered(&self, caller: &Caller, id: ConversationId, seq: Seq) -> Result<OwnMarkers, Refusal> {
        let (_, user) = self.markable(caller, id, seq).await?;
        let raises = [(id, delivered_up_to(seq))];
        self.raise(&user, caller.device.as_ref(), &raises).await?;
        self.own_markers(&user, id).await
    }

    /// The caller's user has read everything up to `seq`, and so has received it. `private` keeps it from the others.
    ///
    /// # Errors
    /// `BeyondHead` above the head; markers not available: marking again is harmless.
    pub async fn mark_read(
        &self,
        caller: &Caller,
        id: ConversationId,
        seq: Seq,
        private: bool,
    ) -> Result<OwnMarkers, Refusal> {
        let (state, user) = self.markable(caller, id, seq).await?;
        let ordinal = self.ordinal_at(&state, seq).await?;
        let markers = MarkerSet {
            delivered: seq,
            read: Counted { seq, ordinal },
            read_public: if private { Seq::ZERO } else { seq },
            ..MarkerSet::default()
        };
        let advanced = self.raise(&user, None, &[(id, markers)]).await?;
        let cleared = self.clear_unread_from(&user, id).await?;
        if advanced || cleared {
            self.own_row_changed(&user, id).await?;
        }
        self.own_markers(&user, id).await
    }

    /// Shows the conversation as unread from `from` on, for the user's own devices; `None` clears that.
    ///
    /// # Errors
    /// `BeyondHead` above the head.
    pub async fn mark_unread(
        &self,
        caller: &Caller,
        id: ConversationId,
        from: Option<Seq>,
    ) -> Result<OwnMarkers, Refusal> {
        let (_, user) = self.markable(caller, id, from.unwrap_or_default()).await?;
        let patch = SettingsPatch {
            unread_from: Some(from),
            ..SettingsPatch::default()
        };
        let directory = &self.core.backends.directory;
        directory
            .update_settings(&user, id, patch)
            .await
            .map_err(directory_refusal)?;
        self.own_row_changed(&user, id).await?;
        self.own_markers(&user, id).await
    }

    /// Who received and who read one entry.
    ///
    /// # Errors
    /// Hidden and absent answer alike; `BeyondHead` above the head.
    pub async fn receipts(
        &self,
        caller: &Caller,
        id: ConversationId,
        seq: Seq,
        with_members: bool,
    ) -> Result<Receipts, Refusal> {
        let state = self.fresh_state(id).await?;
        state.check_visible(&caller.actor)?;
        state.check_readable(&caller.actor, seq)?;
        let sender = self.entry_at(&state, seq).await?.entry.sender.user.clone();
        // The caller's last word of who is there and how far they are: for a member it is the head (I7).
        let newest = state.readable_head(&caller.actor);
        let audience: Vec<UserId> = state
            .roster
            .standings()
            .filter(|(user, standing)| Some(*user) != sender.as_ref() && standing.may_read(seq))
            .filter(|(_, standing)| standing.is_member_after(newest))
            .map(|(user, _)| user.clone())
            .collect();
        let markers = &self.core.backends.markers;
        let mut sets = markers.of_users(id, &audience).await.map_err(marker_refusal)?;
        // As the live ones: over a block nobody hears how far the other is (I11).
        if let Some(user) = caller.actor.user()
            && is_blocked(&self.core.backends, &state).await?
        {
            let others = audience.iter().zip(&mut sets).filter(|(of, _)| *of != user);
            others.for_each(|(_, set)| *set = MarkerSet::default());
        }
        for set in &mut sets {
            set.delivered = set.delivered.min(newest);
            set.read_public = set.read_public.min(newest);
        }
        let count = |has: fn(&MarkerSet) -> Seq| sets.iter().filter(|set| has(set) >= seq).count();
        Ok(Receipts {
            conversation: id,
            seq,
            delivered: count_of(count(|set| set.delivered)),
            read: count_of(count(|set| set.read_public)),
            audience: count_of(audience.len()),
            members: if with_members {
                member_receipts(audience, &sets)
            } else {
                Vec::new()
            },
        })
    }

    /// The conversation as it is known here when that passes the check, else as of the log's head: what may be marked may still
    /// be marked, so only a refusal needs the newest.
    async fn allowing(
        &self,
        id: ConversationId,
        check: impl Fn(&State) -> Result<(), Refusal>,
    ) -> Result<Arc<State>, Refusal> {
        let known = self.core.state(id).await?;
        if check(&known).is_ok() {
            return Ok(known);
        }
        let state = self.fresh_state(id).await?;
        check(&state)?;
        Ok(state)
    }

    /// Checks that the caller may move markers there to `seq`.
    async fn markable(&self, caller: &Caller, id: ConversationId, seq: Seq) -> Result<(Arc<State>, UserId), Refusal> {
        let user = require_user(caller)?.clone();
        let state = self.allowing(id, |state| check_mark(state, caller, seq)).await?;
        Ok((state, user))
    }

    /// Raises markers durably, in one write, and tells the others where public ones moved; true when any moved, as far as
    /// this node knows. What is delivered is delivered to `device` as well.
    async fn raise(
        &self,
        user: &UserId,
        device: Option<&DeviceId>,
        raises: &[(ConversationId, MarkerSet)],
    ) -> Result<bool, Refusal> {
        if raises.is_empty() {
            return Ok(false);
        }
        let (store, known) = (&self.core.backends.markers, &self.core.known_markers);
        let ids: Vec<ConversationId> = raises.iter().map(|(id, _)| *id).collect();
        let before = match known.all(user, &ids) {
            Some(known) => known,
            None => store.get_many(user, &ids).await.map_err(marker_refusal)?,
        };
        let raise = |(id, markers): &(ConversationId, MarkerSet)| MarkerRaise {
            user: user.clone(),
            conversation: *id,
            markers: *markers,
            device: device.map(|device| (device.clone(), markers.delivered)),
        };
        let writing = store.raise(raises.iter().map(raise).collect());
        writing.await.map_err(marker_refusal)?;
        crash_point("receipt.raised");
        let mut moved = false;
        for ((id, markers), before) in raises.iter().zip(before) {
            let after = before.merge(*markers);
            known.stored(user, *id, after);
            moved |= after != before;
            if after.delivered > before.delivered || after.read_public > before.read_public {
                // Where no actor can be had it is only late: the next receipt sends the newest values.
                if let Ok(actor) = self.core.actor(*id) {
                    actor.moved.note(user, after.delivered.max(after.read_public));
                }
            }
        }
        Ok(moved)
    }

    async fn ordinal_at(&self, state: &State, seq: Seq) -> Result<Ordinal, Refusal> {
        if seq == Seq::ZERO {
            return Ok(Ordinal::ZERO);
        }
        if seq == state.head.seq {
            return Ok(state.head.ordinal);
        }
        Ok(self.entry_at(state, seq).await?.entry.ordinal)
    }

    pub(super) async fn entry_at(&self, state: &State, seq: Seq) -> Result<Arc<crate::storage::StoredEntry>, Refusal> {
        let limit = PageLimit {
            entries: 1,
            bytes: usize::MAX,
        };
        let page = self
            .core
            .backends
            .log
            .read(state.id, seq, seq, limit)
            .await
            .map_err(read_refusal)?;
        page.into_iter()
            .next()
            .ok_or_else(|| unavailable("the entry cannot be read now; nothing was done"))
    }

    async fn clear_unread_from(&self, user: &UserId, id: ConversationId) -> Result<bool, Refusal> {
        let directory = &self.core.backends.directory;
        let views = directory.views(user, &[id]).await.map_err(directory_refusal)?;
        if views.get(&id).is_none_or(|view| view.settings.unread_from.is_none()) {
            return Ok(false);
        }
        let patch = SettingsPatch {
            unread_from: Some(None),
            ..SettingsPatch::default()
        };
        directory
            .update_settings(user, id, patch)
            .await
            .map_err(directory_refusal)?;
        Ok(true)
    }

    /// The user's row has a new stamp, and their online devices are told.
    pub(super) async fn own_row_changed(&self, user: &UserId, id: ConversationId) -> Result<(), Refusal> {
        let backends = &self.core.backends;
        let head = InboxHead::default();
        let users = std::slice::from_ref(user);
        backends
            .markers
            .raise_inbox(users, id, head, true)
            .await
            .map_err(marker_refusal)?;
        backends
            .bus
            .publish(&Topic::User(user.clone()), Event::OwnRow(id))
            .await;
        Ok(())
    }

    async fn own_markers(&self, user: &UserId, id: ConversationId) -> Result<OwnMarkers, Refusal> {
        let summary = self.summary(user, None, id).await?;
        summary
            .map(|summary| summary.markers)
            .ok_or_else(Refusal::no_conversation)
    }
}

pub(super) fn require_user(caller: &Caller) -> Result<&UserId, Refusal> {
    caller
        .actor
        .user()
        .ok_or_else(|| Refusal::forbidden("only a user can do this; nothing was done"))
}

fn delivered_up_to(seq: Seq) -> MarkerSet {
    MarkerSet {
        delivered: seq,
        ..MarkerSet::default()
    }
}

fn check_marker(state: &State, caller: &Caller) -> Result<(), Refusal> {
    state.authorize(&caller.actor, Action::See)?;
    state.authorize(&caller.actor, Action::Mark)
}

fn check_mark(state: &State, caller: &Caller, seq: Seq) -> Result<(), Refusal> {
    check_marker(state, caller)?;
    let head = state.readable_head(&caller.actor);
    if seq > head && rule_holds("marks_end_at_the_head") {
        let message = format!("seq {seq} is above the head {head}; nothing was marked");
        return Err(Refusal::not_done(Reason::BeyondHead { head }, message));
    }
    Ok(())
}

fn count_of(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn member_receipts(users: Vec<UserId>, sets: &[MarkerSet]) -> Vec<MemberReceipt> {
    users
        .into_iter()
        .zip(sets)
        .map(|(user, set)| MemberReceipt {
            user,
            delivered: set.delivered,
            read: set.read_public,
        })
        .collect()
}

/// How long receipts of a conversation wait to be sent together.
pub(super) fn delay(state: &State) -> Duration {
    if state.roster.len() <= RECEIPTS_SMALL_GROUP {
        RECEIPTS_DELAY
    } else {
        RECEIPTS_DELAY_LARGE
    }
}

/// Tells the online members whose public markers moved and up to where everybody else has received and read. Nothing behind the
/// state's head is told: who is a member there may be none any more (I7).
pub(super) async fn send_moved(backends: &Backends, state: &State, moved: &BTreeSet<UserId>) {
    let members: Vec<UserId> = state.roster.members().map(|(user, _)| user.clone()).collect();
    let Ok(sets) = backends.markers.of_users(state.id, &members).await else {
        // Receipts are told again when they next move; nothing depends on this event.
        return;
    };
    let head = state.head.seq;
    let (delivered, read) = minima(state, &members, &sets);
    let named: Vec<(UserId, Seq, Seq)> = members
        .iter()
        .zip(&sets)
        .filter(|(user, _)| moved.contains(user))
        .take(RECEIPTS_NAMED_MAX)
        .map(|(user, set)| (user.clone(), set.delivered.min(head), set.read_public.min(head)))
        .collect();
    let event_for = |user: &UserId| {
        Event::Receipts(Arc::new(ReceiptsMoved {
            conversation: state.id,
            members: named.clone(),
            delivered_to_all: delivered.without(user),
            read_by_all: read.without(user),
        }))
    };
    // All but the holders of a minimum see the same values, so one event serves them.
    let (special, rest): (Vec<UserId>, Vec<UserId>) = members
        .iter()
        .cloned()
        .partition(|user| delivered.is_held_by(user) || read.is_held_by(user));
    if let Some(any) = rest.first() {
        backends.bus.publish_to_users(&rest, event_for(any)).await;
    }
    for user in special {
        let event = event_for(&user);
        backends.bus.publish(&Topic::User(user), event).await;
    }
    crash_point("receipt.sent");
}

/// The smallest value over members, and over all but its holder.
struct Minimum {
    holder: Option<UserId>,
    smallest: Seq,
    second: Seq,
}

impl Minimum {
    fn of(values: impl Iterator<Item = (UserId, Seq)>, head: Seq) -> Self {
        let mut minimum = Self {
            holder: None,
            smallest: head,
            second: head,
        };
        for (user, value) in values {
            if value < minimum.smallest {
                minimum.second = minimum.smallest;
                minimum.smallest = value;
                minimum.holder = Some(user);
            } else {
                minimum.second = minimum.second.min(value);
            }
        }
        minimum
    }

    fn is_held_by(&self, user: &UserId) -> bool {
        self.holder.as_ref() == Some(user)
    }

    /// The smallest value over everybody else.
    fn without(&self, user: &UserId) -> Seq {
        if self.is_held_by(user) {
            self.second
        } else {
            self.smallest
        }
    }
}

/// Minima of delivered and publicly read. What came before a member joined was never theirs to receive.
fn minima(state: &State, members: &[UserId], sets: &[MarkerSet]) -> (Minimum, Minimum) {
    let before_joining = |user: &UserId| {
        let standing = state.roster.standing(user);
        let joined = standing
            .and_then(|standing| standing.spans.last())
            .map_or(0, |span| span.joined.0);
        Seq(joined.saturating_sub(1))
    };
    let values = |of: fn(&MarkerSet) -> Seq| {
        members
            .iter()
            .zip(sets)
            .map(move |(user, set)| (user.clone(), of(set).max(before_joining(user))))
    };
    let head = state.head.seq;
    (
        Minimum::of(values(|set| set.delivered), head),
        Minimum::of(values(|set| set.read_public), head),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i6_each_member_sees_the_minimum_of_the_others() {
        let user = |name: &str| UserId::parse(name).unwrap();
        let values = [(user("a"), Seq(5)), (user("b"), Seq(3)), (user("c"), Seq(4))];
        let minimum = Minimum::of(values.into_iter(), Seq(9));
        assert_eq!(minimum.without(&user("a")), Seq(3));
        assert_eq!(minimum.without(&user("b")), Seq(4));
        assert_eq!(minimum.without(&user("c")), Seq(3));
    }
}
