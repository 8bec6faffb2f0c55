//! The bus between the nodes: it loses, delays and doubles, and keeps the order of each publisher as its contract says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use stonechat_host::Clock;
use stonechat_server::bus::embedded::EmbeddedBus;
use stonechat_server::bus::{Bus, Event, NodeRecord, StatusRecord, Subscription, Topic};
use stonechat_server::domain::{SessionId, UserId};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::gate::Gate;
use super::leases::{LEASE_REFRESH, Leases};
use super::node::NodeClock;
use super::weather::Weather;

/// Longest delay of an event.
const LATE_MAX: Duration = Duration::from_secs(2);
/// Events of one node that are under way; beyond it they are lost, as a full socket would.
const UNDER_WAY_MAX: usize = 4_096;

struct Letter {
    due: Instant,
    to: Vec<UserId>,
    topic: Option<Topic>,
    event: Event,
}

/// The bus as one node publishes on it.
pub(super) struct NodeBus {
    shared: Arc<EmbeddedBus>,
    gate: Arc<Gate>,
    weather: Weather,
    line: mpsc::Sender<Letter>,
    said: Said,
}

/// What is said of users, as one node says and reads it.
pub(super) struct Said {
    pub(super) leases: Arc<Leases>,
    pub(super) clock: Arc<NodeClock>,
    /// The node in this life.
    pub(super) gateway: String,
}

impl NodeBus {
    /// Starts the line of a node; it ends with the node's last handle.
    pub(super) fn new(shared: Arc<EmbeddedBus>, gate: Arc<Gate>, weather: Weather, said: Said) -> Self {
        let (line, letters) = mpsc::channel(UNDER_WAY_MAX);
        tokio::spawn(carry(Arc::clone(&shared), letters));
        Self {
            shared,
            gate,
            weather,
            line,
            said,
        }
    }

    /// Says that the node lives, for ever.
    pub(super) async fn keep_lease(&self) {
        loop {
            self.gate.pass().await;
            self.said.leases.refresh(&self.said.gateway);
            tokio::time::sleep(LEASE_REFRESH).await;
        }
    }

    fn send(&self, to: Vec<UserId>, topic: Option<Topic>, event: Event) {
        let faults = self.weather.faults();
        let mut due = stonechat_host::monotonic();
        if self.weather.strikes(faults.bus_late, "events late") {
            due += self.weather.dice.millis(LATE_MAX);
        }
        let copies = 1 + usize::from(self.weather.strikes(faults.bus_doubled, "events doubled"));
        for _ in 0..copies {
            let letter = Letter {
                due,
                to: to.clone(),
                topic: topic.clone(),
                event: event.clone(),
            };
            let _full = self.line.try_send(letter);
        }
    }

    fn arrives(&self) -> bool {
        !self.weather.strikes(self.weather.faults().bus_lost, "events lost")
    }
}

async fn carry(shared: Arc<EmbeddedBus>, mut letters: mpsc::Receiver<Letter>) {
    while let Some(letter) = letters.recv().await {
        tokio::time::sleep_until(letter.due).await;
        match &letter.topic {
            Some(topic) => drop(shared.publish(topic, letter.event).await),
            None => drop(shared.publish_to_users(&letter.to, letter.event).await),
        }
    }
}

#[async_trait]
impl Bus for NodeBus {
    async fn subscribe(&self, topic: Topic) -> Subscription {
        self.gate.pass().await;
        self.shared.subscribe(topic).await
    }

    async fn publish(&self, topic: &Topic, event: Event) -> usize {
        self.gate.pass().await;
        if self.arrives() {
            self.send(Vec::new(), Some(topic.clone()), event);
        }
        0
    }

    async fn publish_to_users(&self, users: &[UserId], event: Event) -> Option<Vec<UserId>> {
        self.gate.pass().await;
        let (reached, lost): (Vec<UserId>, Vec<UserId>) = users.iter().cloned().partition(|_| self.arrives());
        if !reached.is_empty() {
            self.send(reached, None, event);
        }
        Some(lost)
    }

    async fn set_status(&self, user: &UserId, session: &SessionId, record: StatusRecord) {
        self.gate.pass().await;
        let wall = self.said.clock.unix_ms();
        self.said.leases.set(user, session, record, wall);
    }

    async fn clear_status(&self, user: &UserId, session: &SessionId) {
        self.gate.pass().await;
        self.said.leases.clear(user, session);
    }

    async fn statuses(&self, users: &[UserId]) -> Vec<Vec<StatusRecord>> {
        self.gate.pass().await;
        self.said.leases.of(users, self.said.clock.unix_ms())
    }

    async fn announce_node(&self, node: &NodeRecord, valid: Duration) {
        self.gate.pass().await;
        self.shared.announce_node(node, valid).await;
    }

    async fn withdraw_node(&self, name: &str) {
        self.gate.pass().await;
        self.shared.withdraw_node(name).await;
    }

    async fn nodes(&self) -> Option<Vec<NodeRecord>> {
        self.gate.pass().await;
        self.shared.nodes().await
    }
}
