//! A bus in one process that asks a test's hook before it publishes.

use std::time::Duration;

use async_trait::async_trait;

use super::embedded::EmbeddedBus;
use super::{Bus, Event, NodeRecord, StatusRecord, Subscription, Topic};
use crate::domain::{SessionId, UserId};

/// What a test does to what is published.
#[async_trait]
pub(crate) trait PublishHook: Send + Sync {
    /// Waits for as long as the test likes; false loses it, with nobody told.
    async fn passes(&self) -> bool;
}

/// A bus with a hook.
#[derive(Default)]
pub(crate) struct HookedBus<H> {
    inner: EmbeddedBus,
    pub(crate) hook: H,
}

impl<H> HookedBus<H> {
    pub(crate) fn new(hook: H) -> Self {
        let inner = EmbeddedBus::default();
        Self { inner, hook }
    }
}

#[async_trait]
impl<H: PublishHook> Bus for HookedBus<H> {
    async fn subscribe(&self, topic: Topic) -> Subscription {
        self.inner.subscribe(topic).await
    }

    async fn publish(&self, topic: &Topic, event: Event) -> usize {
        if self.hook.passes().await {
            self.inner.publish(topic, event).await
        } else {
            0
        }
    }

    async fn publish_to_users(&self, users: &[UserId], event: Event) -> Option<Vec<UserId>> {
        if self.hook.passes().await {
            self.inner.publish_to_users(users, event).await
        } else {
            Some(users.to_vec())
        }
    }

    async fn set_status(&self, user: &UserId, session: &SessionId, record: StatusRecord) {
        self.inner.set_status(user, session, record).await;
    }

    async fn clear_status(&self, user: &UserId, session: &SessionId) {
        self.inner.clear_status(user, session).await;
    }

    async fn statuses(&self, users: &[UserId]) -> Vec<Vec<StatusRecord>> {
        self.inner.statuses(users).await
    }

    async fn announce_node(&self, node: &NodeRecord, valid: Duration) {
        self.inner.announce_node(node, valid).await;
    }

    async fn withdraw_node(&self, name: &str) {
        self.inner.withdraw_node(name).await;
    }

    async fn nodes(&self) -> Option<Vec<NodeRecord>> {
        self.inner.nodes().await
    }
}
