//! Who in this process subscribed to what: many local subscriptions of a topic share one of Redis.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use stonechat_host::monotonic;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::promoted::{Promoted, REMEMBERED_FOR};
use crate::bus::{Event, Publisher, Subscription, Topic};
use crate::domain::{ConversationId, UserId};
use crate::telemetry::meters::meters;

/// One local subscription.
struct Local {
    number: u64,
    publisher: Publisher,
    /// Waits for Redis to confirm.
    waiter: Option<oneshot::Sender<()>>,
}

/// The local subscriptions of one topic.
#[derive(Default)]
struct Joined {
    locals: Vec<Local>,
    /// Redis confirmed, and did not break since.
    confirmed: bool,
}

impl Joined {
    fn lost(&self) {
        self.locals.iter().for_each(|local| local.publisher.lost());
    }

    fn offer(&self, event: &Event) -> usize {
        for local in &self.locals {
            local.publisher.offer(event.clone());
        }
        self.locals.len()
    }
}

#[derive(Default)]
struct TopicMap {
    next: u64,
    joined: BTreeMap<Topic, Joined>,
    promoted: Promoted,
    /// Since when all that goes to every gateway is heard: what was announced before is not known here.
    heard_since: Option<Instant>,
}

/// The local subscriptions. Bounded by the sessions that subscribe: a topic leaves with its last subscription, but for the
/// channels that every gateway hears and those of conversations, which nobody here subscribes by themself.
#[derive(Default)]
pub(super) struct Topics(Mutex<TopicMap>);

/// A new local subscription.
pub(super) struct Added {
    pub(super) number: u64,
    pub(super) subscription: Subscription,
    /// Completes when Redis confirmed; `None` when it has already.
    pub(super) confirmed: Option<oneshot::Receiver<()>>,
    /// Channels of conversations that are wanted here from now on.
    pub(super) channels: Vec<Topic>,
}

/// A panic elsewhere leaves these maps whole: every change to them is a single call.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TopicMap {
    /// Something for this topic may have been missed. On the channel of all gateways that may have been something for every
    /// user whose topic is heard, on that of a conversation for every such member; the others are told when it is.
    fn lost(&self, topic: &Topic) {
        let heard = |(other, joined): &(&Topic, &Joined)| matches!(other, Topic::User(_)) && joined.confirmed;
        match topic {
            Topic::Gateways(_) => self.joined.iter().filter(heard).for_each(|(_, joined)| joined.lost()),
            Topic::Conversation(conversation) => self.lost_to(self.promoted.members(*conversation)),
            topic => self.joined.get(topic).into_iter().for_each(Joined::lost),
        }
    }

    /// Something for these users may have been missed.
    fn lost_to<'a>(&self, users: impl Iterator<Item = &'a UserId>) {
        let here = users.filter_map(|user| self.joined.get(&Topic::User(user.clone())));
        here.filter(|joined| joined.confirmed).for_each(Joined::lost);
    }

    fn has_user(&self, user: &UserId) -> bool {
        self.joined.contains_key(&Topic::User(user.clone()))
    }

    /// Takes an announcement in; whether its channel is to be looked at.
    fn announced(&mut self, conversation: ConversationId, users: &[UserId], begins: bool) -> bool {
        let now = monotonic();
        let topic = Topic::Conversation(conversation);
        let Some(new) = self.promoted.remember(conversation, users, now) else {
            meters().bus_events_lost.inc();
            self.lost_to(users.iter());
            return false;
        };
        let wanted = self.promoted.members(conversation).any(|user| self.has_user(user));
        // Others may publish there since before this could be heard.
        let begins = begins && self.heard_since.is_none_or(|since| now >= since + REMEMBERED_FOR);
        let missed = !begins && new.iter().any(|user| self.has_user(user));
        match (wanted, self.joined.get(&topic).map(|joined| joined.confirmed)) {
            (true, None) => {
                self.joined.insert(topic, Joined::default());
                self.promoted.join(conversation, begins.then_some(now));
                true
            }
            (true, Some(confirmed)) => {
                if missed && confirmed {
                    self.lost_to(new.into_iter());
                } else if missed {
                    self.promoted.doubt(conversation);
                }
                false
            }
            (false, Some(_)) => {
                self.joined.remove(&topic);
                self.promoted.leave(conversation);
                true
            }
            (false, None) => false,
        }
    }

    /// Somebody is here who belongs to promoted conversations: their channels that are not heard yet are wanted, and what was on
    /// them is looked for once they are.
    fn arrived(&mut self, user: &UserId) -> Vec<Topic> {
        let mut wanted = Vec::new();
        for conversation in self.promoted.of(user, monotonic()) {
            let topic = Topic::Conversation(conversation);
            match self.joined.get(&topic) {
                Some(joined) if joined.confirmed => {}
                Some(_) => self.promoted.doubt(conversation),
                None => {
                    self.joined.insert(topic.clone(), Joined::default());
                    self.promoted.join(conversation, None);
                    wanted.push(topic);
                }
            }
        }
        wanted
    }
}

impl Topics {
    /// No subscriptions here, of these channels of all gateways.
    pub(super) fn with(channels: impl Iterator<Item = Topic>) -> Self {
        Self(Mutex::new(TopicMap {
            next: 0,
            joined: channels.map(|channel| (channel, Joined::default())).collect(),
            promoted: Promoted::default(),
            heard_since: None,
        }))
    }

    /// Adds a subscription; `guard` makes what unsubscribes it when it is dropped, of its number.
    pub(super) fn add<G: Send + Sync + 'static>(&self, topic: &Topic, guard: impl FnOnce(u64) -> G) -> Added {
        let mut map = lock(&self.0);
        let number = map.next;
        map.next += 1;
        let (publisher, subscription) = Subscription::channel(Box::new(guard(number)));
        let joined = map.joined.entry(topic.clone()).or_default();
        let (waiter, confirmed) = if joined.confirmed {
            (None, None)
        } else {
            let (sender, receiver) = oneshot::channel();
            (Some(sender), Some(receiver))
        };
        joined.locals.push(Local {
            number,
            publisher,
            waiter,
        });
        let channels = match topic {
            Topic::User(user) => map.arrived(user),
            _ => Vec::new(),
        };
        Added {
            number,
            subscription,
            confirmed,
            channels,
        }
    }

    /// Takes a subscription away; true when it was the last of its topic.
    pub(super) fn remove(&self, topic: &Topic, number: u64) -> bool {
        let mut map = lock(&self.0);
        let Some(joined) = map.joined.get_mut(topic) else {
            return false;
        };
        joined.locals.retain(|local| local.number != number);
        let last = joined.locals.is_empty() && !matches!(topic, Topic::Gateways(_));
        if last {
            map.joined.remove(topic);
        }
        last
    }

    /// Whether anybody here subscribed.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        lock(&self.0).joined.contains_key(topic)
    }

    /// How many here subscribed.
    pub(super) fn count(&self, topic: &Topic) -> usize {
        lock(&self.0).joined.get(topic).map_or(0, |joined| joined.locals.len())
    }

    /// Hands an event to all who subscribed here; returns how many.
    pub(super) fn offer(&self, topic: &Topic, event: &Event) -> usize {
        lock(&self.0).joined.get(topic).map_or(0, |joined| joined.offer(event))
    }

    /// Hands an event to all of these users who subscribed here.
    pub(super) fn offer_to_users(&self, users: &[UserId], event: &Event) {
        let map = lock(&self.0);
        for user in users {
            if let Some(joined) = map.joined.get(&Topic::User(user.clone())) {
                joined.offer(event);
            }
        }
    }

    /// Somebody publishes to a conversation's own channel, for these users, or `begins` to do so; whether that channel is to be
    /// looked at.
    pub(super) fn promoted(&self, conversation: ConversationId, users: &[UserId], begins: bool) -> bool {
        lock(&self.0).announced(conversation, users, begins)
    }

    /// How many conversations are known to have a channel of their own.
    pub(super) fn promoted_count(&self) -> usize {
        lock(&self.0).promoted.len()
    }

    /// Forgets conversations that nobody announces any more; the channels that were wanted until now.
    pub(super) fn demote(&self) -> Vec<Topic> {
        let mut map = lock(&self.0);
        let gone = map.promoted.forget(monotonic()).into_iter().map(Topic::Conversation);
        gone.filter(|topic| map.joined.remove(topic).is_some()).collect()
    }

    /// Redis confirmed a topic. Who did not wait for it, or no longer, may have missed events until now.
    pub(super) fn confirm(&self, topic: &Topic) {
        let mut map = lock(&self.0);
        let Some(joined) = map.joined.get_mut(topic) else {
            return;
        };
        if std::mem::replace(&mut joined.confirmed, true) {
            return;
        }
        match topic {
            Topic::Gateways(_) => {
                map.heard_since = Some(monotonic());
                return map.lost(topic);
            }
            Topic::Conversation(conversation) => {
                if !map.promoted.is_in_time(*conversation, monotonic()) {
                    map.lost(topic);
                }
                return;
            }
            _ => {}
        }
        for local in &mut joined.locals {
            let told = local.waiter.take().is_some_and(|waiter| waiter.send(()).is_ok());
            if !told {
                local.publisher.lost();
            }
        }
    }

    /// Tells one subscription that it starts without Redis.
    pub(super) fn unconfirmed(&self, topic: &Topic, number: u64) {
        let map = lock(&self.0);
        let locals = map.joined.get(topic).map_or(&[][..], |joined| &joined.locals);
        for local in locals.iter().filter(|local| local.number == number) {
            local.publisher.lost();
        }
    }

    /// Events of these topics are lost from now on, until Redis confirms them again.
    pub(super) fn broke(&self, which: impl Fn(&Topic) -> bool) {
        let mut map = lock(&self.0);
        let TopicMap { joined, promoted, .. } = &mut *map;
        let (mut gateways, mut conversations) = (None, Vec::new());
        for (topic, joined) in joined.iter_mut().filter(|(topic, _)| which(topic)) {
            if let Topic::Conversation(conversation) = topic {
                promoted.doubt(*conversation);
            }
            if std::mem::take(&mut joined.confirmed) {
                joined.lost();
                match topic {
                    Topic::Gateways(_) => gateways = Some(topic.clone()),
                    Topic::Conversation(_) => conversations.push(topic.clone()),
                    _ => {}
                }
            }
        }
        gateways
            .iter()
            .chain(&conversations)
            .for_each(|channel| map.lost(channel));
    }

    /// The same of one.
    pub(super) fn broke_one(&self, topic: &Topic) {
        let mut map = lock(&self.0);
        let joined = map.joined.get_mut(topic);
        if joined.is_some_and(|joined| std::mem::take(&mut joined.confirmed)) {
            map.lost(topic);
        }
    }

    /// Tells all of these topics that something for them could not be read.
    pub(super) fn lost(&self, topic: &Topic) {
        lock(&self.0).lost(topic);
    }

    /// Whether Redis confirmed everything that is subscribed here, so that nobody is told of a start that comes late.
    #[cfg(test)]
    pub(super) fn all_confirmed(&self) -> bool {
        lock(&self.0).joined.values().all(|joined| joined.confirmed)
    }

    /// Topics that somebody here wants, of these.
    pub(super) fn wanted(&self, which: impl Fn(&Topic) -> bool) -> Vec<Topic> {
        let map = lock(&self.0);
        map.joined.keys().filter(|topic| which(topic)).cloned().collect()
    }
}

#[cfg(test)]
#[path = "tests/topics.rs"]
mod tests;
