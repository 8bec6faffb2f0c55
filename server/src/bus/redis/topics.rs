//! Who in this process subscribed to what: many local subscriptions of a topic share one of Redis.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::bus::{Event, Publisher, Subscription, Topic};
use crate::domain::UserId;

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
}

/// The local subscriptions. Bounded by the sessions that subscribe: a topic leaves with its last subscription, but for the
/// channels that every gateway hears, which nobody here subscribes by themself.
#[derive(Default)]
pub(super) struct Topics(Mutex<TopicMap>);

/// A new local subscription.
pub(super) struct Added {
    pub(super) number: u64,
    pub(super) subscription: Subscription,
    /// Completes when Redis confirmed; `None` when it has already.
    pub(super) confirmed: Option<oneshot::Receiver<()>>,
}

/// A panic elsewhere leaves these maps whole: every change to them is a single call.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TopicMap {
    /// Something for this topic may have been missed. On the channel of all gateways that may have been something for every
    /// user whose topic is heard; the others are told when it is.
    fn lost(&self, topic: &Topic) {
        let heard = |(other, joined): &(&Topic, &Joined)| matches!(other, Topic::User(_)) && joined.confirmed;
        match topic {
            Topic::Gateways(_) => self.joined.iter().filter(heard).for_each(|(_, joined)| joined.lost()),
            topic => self.joined.get(topic).into_iter().for_each(Joined::lost),
        }
    }
}

impl Topics {
    /// No subscriptions here, of these channels of all gateways.
    pub(super) fn with(channels: impl Iterator<Item = Topic>) -> Self {
        Self(Mutex::new(TopicMap {
            next: 0,
            joined: channels.map(|channel| (channel, Joined::default())).collect(),
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
        Added {
            number,
            subscription,
            confirmed,
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

    /// Redis confirmed a topic. Who did not wait for it, or no longer, may have missed events until now.
    pub(super) fn confirm(&self, topic: &Topic) {
        let mut map = lock(&self.0);
        let Some(joined) = map.joined.get_mut(topic) else {
            return;
        };
        if std::mem::replace(&mut joined.confirmed, true) {
            return;
        }
        if matches!(topic, Topic::Gateways(_)) {
            return map.lost(topic);
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
        let mut gateways = None;
        for (topic, joined) in map.joined.iter_mut().filter(|(topic, _)| which(topic)) {
            if std::mem::take(&mut joined.confirmed) {
                joined.lost();
                gateways = matches!(topic, Topic::Gateways(_)).then(|| topic.clone()).or(gateways);
            }
        }
        gateways.iter().for_each(|channel| map.lost(channel));
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
mod tests {
    use super::*;

    /// I5: what goes to all gateways at once lies on other channels than what goes to a user, in a cluster on another server: when
    /// one of those breaks, users whose own topic is well are told, and once more when it is heard again.
    #[tokio::test]
    async fn i5_users_are_told_when_a_channel_of_all_gateways_breaks() {
        let channels = [Topic::Gateways(0), Topic::Gateways(1)];
        let topics = Topics::with(channels.iter().cloned());
        let ada = Topic::User(UserId::parse("ada").unwrap());
        let mut subscription = topics.add(&ada, |_| ()).subscription;
        for topic in channels.iter().chain([&ada]) {
            topics.confirm(topic);
        }
        subscription.take_lagged();
        assert!(matches!(subscription.next().await, Some(Event::Lost)), "nobody waited");
        topics.broke(|topic| *topic == channels[1]);
        assert!(matches!(subscription.next().await, Some(Event::Lost)) && subscription.take_lagged());
        topics.confirm(&channels[1]);
        assert!(matches!(subscription.next().await, Some(Event::Lost)) && subscription.take_lagged());
        // Nobody here leaves them.
        assert!(!topics.remove(&channels[0], 0) && topics.has(&channels[0]));
    }
}
