//! Presence that a stream watches: subscribed before it is read, sent at most twice a second for each user.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::{AbortHandle, Abortable};
use futures_util::stream::{BoxStream, SelectAll};
use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Reply;
use tokio::time::Instant;

use super::Session;
use super::jobs::Done;
use crate::bus::{Event, Status, Subscription, Topic, UserPresence};
use crate::domain::limits::WATCHED_USERS_MAX;
use crate::domain::{Reason, Refusal, UserId};
use crate::gateway::Gateway;
use crate::gateway::limits::{PRESENCE_EVERY, PRESENCE_REREAD_EVERY};
use crate::telemetry::meters::{Held, meters};
use crate::wire;

/// Something about a watched user.
pub(super) enum Glimpse {
    /// Their presence changed.
    Changed(UserPresence),
    /// Changes were lost: read again.
    Lost,
}

/// Who is watched, and what was last shown of them. At most `WATCHED_USERS_MAX`.
#[derive(Default)]
pub(super) struct Watch {
    users: BTreeMap<UserId, Watchee>,
    changes: SelectAll<Abortable<BoxStream<'static, Glimpse>>>,
    rereading: bool,
}

/// One watched user.
#[derive(Default)]
struct Watchee {
    /// Ends the subscription; `None` while the user may not be seen.
    subscription: Option<AbortHandle>,
    shown: Option<Status>,
    pending: Option<UserPresence>,
    /// The newest change since the newest look at the user began: it may be newer than what that look finds.
    since_look: Option<UserPresence>,
    not_before: Option<Instant>,
}

impl Watchee {
    /// This is how it is now: it waits to be sent when it is not what was shown.
    fn changed(&mut self, presence: UserPresence) {
        let news = self.shown != Some(presence.status);
        self.pending = news.then_some(presence);
    }

    /// A look found this. A change that came while it looked is the newer one, or another one follows.
    fn found(&mut self, presence: &UserPresence, answers: bool) {
        if answers {
            self.shown = Some(presence.status);
        }
        let newest = self.since_look.as_ref().unwrap_or(presence).clone();
        self.changed(newest);
    }
}

impl Drop for Watchee {
    fn drop(&mut self) {
        if let Some(subscription) = &self.subscription {
            subscription.abort();
        }
    }
}

/// What a look at watched users found.
pub(super) struct Watched {
    /// The request that this answers; `None` when the session looked by itself.
    reply: Option<u64>,
    /// True when it was one of the regular looks.
    regular: bool,
    /// Those who may be seen.
    seen: BTreeSet<UserId>,
    /// Subscriptions of those who had none.
    subscriptions: Vec<(UserId, Subscription)>,
    /// In the order asked.
    presences: Result<Vec<UserPresence>, Refusal>,
}

fn glimpses(subscription: Subscription) -> BoxStream<'static, Glimpse> {
    let next = |(mut subscription, counted): (Subscription, Held)| async move {
        let event = subscription.next().await?;
        let glimpse = match event {
            Event::Presence(presence) if !subscription.take_lagged() => Glimpse::Changed(presence),
            _ => Glimpse::Lost,
        };
        Some((glimpse, (subscription, counted)))
    };
    let counted = meters().presence_watches.hold();
    futures_util::stream::unfold((subscription, counted), next).boxed()
}

impl Watch {
    /// The next change; may be cancelled without loss. `None` when nobody is watched.
    pub(super) async fn next(&mut self) -> Option<Glimpse> {
        self.changes.next().await
    }

    /// Who is watched.
    pub(super) fn users(&self) -> BTreeSet<UserId> {
        self.users.keys().cloned().collect()
    }

    /// Users without a subscription among these.
    fn unsubscribed(&self, users: &[UserId]) -> BTreeSet<UserId> {
        let is_new = |user: &&UserId| {
            self.users
                .get(*user)
                .is_none_or(|watched| watched.subscription.is_none())
        };
        users.iter().filter(is_new).cloned().collect()
    }

    /// Takes a subscription, unless the user is watched no longer.
    fn subscribed(&mut self, user: &UserId, subscription: Subscription) {
        if let Some(watched) = self.users.get_mut(user)
            && watched.subscription.is_none()
        {
            let (handle, registration) = AbortHandle::new_pair();
            self.changes.push(Abortable::new(glimpses(subscription), registration));
            watched.subscription = Some(handle);
        }
    }

    /// A user's presence changed to this.
    fn changed(&mut self, presence: UserPresence) {
        if let Some(watched) = self.users.get_mut(&presence.user) {
            watched.since_look = Some(presence.clone());
            watched.changed(presence);
        }
    }

    /// A look at these users begins.
    fn looks_at(&mut self, users: &[UserId]) {
        for user in users {
            if let Some(watched) = self.users.get_mut(user) {
                watched.since_look = None;
            }
        }
    }

    /// Those whose change may be sent now.
    fn take_due(&mut self, now: Instant) -> Vec<UserPresence> {
        let due = |watched: &mut Watchee| {
            let presence = watched
                .pending
                .take_if(|_| watched.not_before.is_none_or(|at| now >= at))?;
            watched.not_before = Some(now + PRESENCE_EVERY);
            watched.shown = Some(presence.status);
            Some(presence)
        };
        self.users.values_mut().filter_map(due).collect()
    }

    /// When the next change may be sent.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.users.values().filter(|watched| watched.pending.is_some());
        waiting.map(|watched| watched.not_before.unwrap_or(now)).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

impl Session {
    pub(super) fn watch(&mut self, reply: Option<u64>, frame: &v1::WatchPresence) {
        let (users, replace) = match wire::presence::watch(frame) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse_request(reply, &refusal),
        };
        let mut wanted: BTreeSet<UserId> = users.iter().cloned().collect();
        if !replace {
            wanted.append(&mut self.watch.users());
        }
        if wanted.len() > WATCHED_USERS_MAX {
            let message = format!("a session watches at most {WATCHED_USERS_MAX} users; nothing was changed");
            return self.refuse_request(reply, &Refusal::not_done(Reason::LimitReached, message));
        }
        self.set_watched(&wanted);
        self.in_flight.nameless += usize::from(reply.is_none());
        self.look_at(users, reply, false);
    }

    pub(super) fn unwatch(&mut self, reply: Option<u64>, frame: &v1::UnwatchPresence) {
        let gone = match wire::presence::unwatch(frame) {
            Ok(gone) => gone,
            Err(refusal) => return self.refuse_request(reply, &refusal),
        };
        let mut wanted = self.watch.users();
        wanted.retain(|user| !gone.is_empty() && !gone.contains(user));
        self.set_watched(&wanted);
        self.reply_done(reply);
    }

    /// Watches these users and nobody else.
    fn set_watched(&mut self, wanted: &BTreeSet<UserId>) {
        self.watch.users.retain(|user, _| wanted.contains(user));
        for user in wanted {
            self.watch.users.entry(user.clone()).or_default();
        }
        let key = self.who.key();
        let resumes = &self.gateway.resumes;
        resumes.carry(&key, &self.resume, |carried| carried.watched.clone_from(wanted));
    }

    /// Goes on watching what the stream before watched.
    pub(super) fn resume_watching(&mut self, users: &BTreeSet<UserId>) {
        if !users.is_empty() {
            self.set_watched(users);
            self.look_at(users.iter().cloned().collect(), None, true);
        }
    }

    /// Reads the presence of users, subscribed to first where that is missing.
    fn look_at(&mut self, users: Vec<UserId>, reply: Option<u64>, regular: bool) {
        self.watch.rereading |= regular;
        self.watch.looks_at(&users);
        let missing = self.watch.unsubscribed(&users);
        let (gateway, viewer) = (Arc::clone(&self.gateway), self.who.user.clone());
        self.job(async move {
            let mut watched = look(&gateway, &viewer, &users, &missing).await;
            watched.reply = reply;
            watched.regular = regular;
            Done::Watched(watched)
        });
    }

    pub(super) fn watched(&mut self, watched: Watched) {
        if watched.regular {
            self.watch.rereading = false;
        } else {
            self.answered(watched.reply);
        }
        for (user, subscription) in watched.subscriptions {
            self.watch.subscribed(&user, subscription);
        }
        let presences = match watched.presences {
            Ok(presences) => presences,
            Err(refusal) if watched.regular => return self.store_failed(&refusal.message),
            Err(refusal) => return self.refuse(watched.reply, &refusal),
        };
        for presence in &presences {
            if let Some(user) = self.watch.users.get_mut(&presence.user) {
                if !watched.seen.contains(&presence.user)
                    && let Some(subscription) = user.subscription.take()
                {
                    subscription.abort();
                }
                user.found(presence, watched.reply.is_some());
            }
        }
        if watched.reply.is_some() {
            self.reply(watched.reply, Reply::Watching(wire::presence::presences(&presences)));
        }
    }

    pub(super) fn glimpse(&mut self, glimpse: Glimpse) {
        match glimpse {
            Glimpse::Changed(presence) => self.watch.changed(presence),
            Glimpse::Lost => self.timers.reread_soon(),
        }
    }

    /// Sends changes that may go now; presence gives way while the queue is half full.
    pub(super) fn flush_presence(&mut self) {
        let now = stonechat_host::monotonic();
        if !self.out.is_half_full() {
            for presence in self.watch.take_due(now) {
                self.push(0, Reply::Presence(wire::presence::presence(&presence)));
            }
        }
        if now >= self.timers.reread && !self.watch.rereading && !self.watch.is_empty() {
            self.timers.reread = now + PRESENCE_REREAD_EVERY;
            self.look_at(self.watch.users().into_iter().collect(), None, true);
        }
    }
}

async fn look(gateway: &Gateway, viewer: &UserId, users: &[UserId], missing: &BTreeSet<UserId>) -> Watched {
    let presence = &gateway.on.presence;
    let mut watched = Watched {
        reply: None,
        regular: false,
        seen: BTreeSet::new(),
        subscriptions: Vec::new(),
        presences: Ok(Vec::new()),
    };
    match presence.watchable(viewer, users).await {
        Ok(seen) => watched.seen = seen,
        Err(refusal) => {
            watched.presences = Err(refusal);
            return watched;
        }
    }
    for user in missing.intersection(&watched.seen) {
        let subscription = gateway.on.bus.subscribe(Topic::Presence(user.clone())).await;
        watched.subscriptions.push((user.clone(), subscription));
    }
    watched.presences = presence.visible(viewer, users).await;
    watched
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bob(status: Status) -> UserPresence {
        UserPresence {
            user: UserId::parse("bob").expect("an id"),
            status,
            last_active: None,
        }
    }

    /// What is sent of bob once a look, which began before `changes` came, has found him like this.
    fn sent_after(shown: Option<Status>, changes: &[Status], found: Status, answers: bool) -> Option<Status> {
        let user = bob(found).user;
        let mut watch = Watch::default();
        let watchee = watch.users.entry(user.clone()).or_default();
        watchee.shown = shown;
        watch.looks_at(std::slice::from_ref(&user));
        for change in changes {
            watch.changed(bob(*change));
        }
        watch.users.get_mut(&user).expect("bob").found(&bob(found), answers);
        watch
            .take_due(stonechat_host::monotonic())
            .pop()
            .map(|presence| presence.status)
    }

    /// A change that comes while a look is under way is newer than what the look read: it is not overwritten.
    #[tokio::test]
    async fn a_change_during_a_look_is_kept() {
        use Status::{Away, Offline, Online};
        for answers in [true, false] {
            assert_eq!(sent_after(None, &[Online], Offline, answers), Some(Online));
            assert_eq!(sent_after(Some(Online), &[Away, Online], Away, true), Some(Online));
            assert_eq!(
                sent_after(Some(Online), &[Away], Away, answers),
                (!answers).then_some(Away)
            );
        }
        assert_eq!(
            sent_after(Some(Offline), &[], Online, true),
            None,
            "the answer shows it"
        );
        assert_eq!(sent_after(Some(Offline), &[], Online, false), Some(Online));
    }
}
