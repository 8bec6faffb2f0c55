//! The bus of a single process.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Bus, Event, NodeRecord, Publisher, StatusRecord, Subscription, Topic};
use crate::domain::{SessionId, UserId};

/// Sessions of one user whose status is kept: more devices than a person has, so that a client that reconnects in a
/// loop under ever new session ids cannot grow the map. Above it the record that expires first is forgotten.
pub const STATUSES_PER_USER_MAX: usize = 64;

/// Users whose status is kept: ten times the streams of one node. Above it new users look offline, which is what a lost
/// bus gives too (I10).
pub const STATUS_USERS_MAX: usize = 1_000_000;

/// Live delivery within one process. The number of topics is bounded by the sessions that subscribe: a topic leaves with
/// its last subscription.
#[derive(Default)]
pub struct EmbeddedBus {
    topics: Arc<Topics>,
    statuses: Mutex<BTreeMap<UserId, BTreeMap<SessionId, StatusRecord>>>,
    /// Nodes of this process, and until when they are alive. Bounded by those that were started.
    nodes: Mutex<BTreeMap<String, (NodeRecord, Instant)>>,
}

#[derive(Default)]
struct Topics(Mutex<TopicMap>);

#[derive(Default)]
struct TopicMap {
    next: u64,
    subscribers: BTreeMap<Topic, Vec<(u64, Publisher)>>,
}

/// Unsubscribes when it is dropped with its [`Subscription`].
struct Unsubscribe {
    topics: Arc<Topics>,
    topic: Topic,
    number: u64,
}

/// A panic elsewhere leaves these maps whole: every change to them is a single call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TopicMap {
    fn offer(&self, topic: &Topic, event: &Event) -> usize {
        let subscribers = self.subscribers.get(topic).map_or(&[][..], Vec::as_slice);
        for (_, publisher) in subscribers {
            publisher.offer(event.clone());
        }
        subscribers.len()
    }

    fn remove(&mut self, topic: &Topic, number: u64) {
        if let Some(subscribers) = self.subscribers.get_mut(topic) {
            subscribers.retain(|(other, _)| *other != number);
            if subscribers.is_empty() {
                self.subscribers.remove(topic);
            }
        }
    }
}

impl Drop for Unsubscribe {
    fn drop(&mut self) {
        lock(&self.topics.0).remove(&self.topic, self.number);
    }
}

impl EmbeddedBus {
    /// A bus without subscribers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

/// Makes room for one more session when the user has the most.
fn forget_the_stalest(sessions: &mut BTreeMap<SessionId, StatusRecord>) {
    if sessions.len() < STATUSES_PER_USER_MAX {
        return;
    }
    let stalest = sessions.iter().min_by_key(|(_, record)| record.valid_until);
    if let Some(session) = stalest.map(|(session, _)| session.clone()) {
        sessions.remove(&session);
    }
}

#[async_trait]
impl Bus for EmbeddedBus {
    async fn subscribe(&self, topic: Topic) -> Subscription {
        let mut map = lock(&self.topics.0);
        let number = map.next;
        map.next += 1;
        let (publisher, subscription) = Subscription::channel(Box::new(Unsubscribe {
            topics: Arc::clone(&self.topics),
            topic: topic.clone(),
            number,
        }));
        map.subscribers.entry(topic).or_default().push((number, publisher));
        subscription
    }

    async fn publish(&self, topic: &Topic, event: Event) -> usize {
        lock(&self.topics.0).offer(topic, &event)
    }

    async fn publish_to_users(&self, users: &[UserId], event: Event) -> Option<Vec<UserId>> {
        let map = lock(&self.topics.0);
        let unreached = |user: &&UserId| map.offer(&Topic::User((*user).clone()), &event) == 0;
        Some(users.iter().filter(unreached).cloned().collect())
    }

    async fn set_status(&self, user: &UserId, session: &SessionId, record: StatusRecord) {
        let mut statuses = lock(&self.statuses);
        if statuses.len() >= STATUS_USERS_MAX && !statuses.contains_key(user) {
            return;
        }
        let sessions = statuses.entry(user.clone()).or_default();
        if !sessions.contains_key(session) {
            forget_the_stalest(sessions);
        }
        sessions.insert(session.clone(), record);
    }

    async fn clear_status(&self, user: &UserId, session: &SessionId) {
        let mut statuses = lock(&self.statuses);
        if let Some(sessions) = statuses.get_mut(user) {
            sessions.remove(session);
            if sessions.is_empty() {
                statuses.remove(user);
            }
        }
    }

    async fn statuses(&self, users: &[UserId]) -> Vec<Vec<StatusRecord>> {
        let statuses = lock(&self.statuses);
        let of_user = |user: &UserId| {
            statuses
                .get(user)
                .map_or_else(Vec::new, |sessions| sessions.values().cloned().collect())
        };
        users.iter().map(of_user).collect()
    }

    async fn announce_node(&self, node: &NodeRecord, valid: Duration) {
        let until = stonechat_host::monotonic() + valid;
        lock(&self.nodes).insert(node.name.clone(), (node.clone(), until));
    }

    async fn withdraw_node(&self, name: &str) {
        lock(&self.nodes).remove(name);
    }

    async fn nodes(&self) -> Option<Vec<NodeRecord>> {
        let now = stonechat_host::monotonic();
        let mut nodes = lock(&self.nodes);
        nodes.retain(|_, (_, until)| *until > now);
        Some(nodes.values().map(|(node, _)| node.clone()).collect())
    }
}

#[cfg(test)]
mod tests;
