//! People who write to each other through all nodes of a fleet while something goes wrong, and what must be true then.

use std::time::Duration;

use super::bench::Bench;
use super::figures::{Waits, ack_waits, delivery_lags};
use super::fleet::{Fleet, Ground, Role};
use super::sender::{DELIVERY, Sender, each_once, reaches_head};
use super::session::RawSession;
use crate::checker::Moment;

/// Messages that each sender has on the way when something happens.
pub const BURST: u64 = 20;

/// One sender for each node, all in one group with a reader who only listens.
pub struct Crew {
    room: String,
    senders: Vec<Sender>,
    burst: u64,
}

/// A fleet and its crew; `None` where the services are not there.
///
/// # Panics
/// Something does not come up.
pub async fn crewed(roles: &[Role]) -> Option<(Fleet, Crew)> {
    crewed_on(Ground::default(), roles).await
}

/// The same, on this.
///
/// # Panics
/// Something does not come up.
pub async fn crewed_on(ground: Ground, roles: &[Role]) -> Option<(Fleet, Crew)> {
    crewed_among(ground, roles, 0).await
}

/// The same, in a group with so many more, who are called `other0` and so on.
///
/// # Panics
/// Something does not come up.
pub async fn crewed_among(ground: Ground, roles: &[Role], others: usize) -> Option<(Fleet, Crew)> {
    let mut fleet = Fleet::start_on(ground, roles).await?;
    let names: Vec<String> = (0..roles.len()).map(|number| format!("sender{number}")).collect();
    let others: Vec<String> = (0..others).map(|number| format!("other{number}")).collect();
    let mut users: Vec<&str> = names.iter().chain(&others).map(String::as_str).collect();
    users.push("reader");
    let room = fleet.nodes[0].group(&users).await;
    let senders = names.iter().map(|name| Sender::new(name, &room)).collect();
    Some((
        fleet,
        Crew {
            room,
            senders,
            burst: BURST,
        },
    ))
}

impl Crew {
    /// Everybody connects, each through a node of their own, and sends what has no ack yet and as much as is then left of a burst;
    /// nobody waits for an answer.
    ///
    /// # Panics
    /// Not in time.
    pub async fn burst(&mut self, fleet: &Fleet) {
        for (sender, node) in self.senders.iter_mut().zip(&fleet.nodes) {
            sender.connect(node).await;
            let open = sender.sent() - sender.acked();
            sender.send(self.burst.saturating_sub(open)).await;
        }
    }

    /// Other bursts than [`BURST`].
    #[must_use]
    pub fn with_bursts_of(self, burst: u64) -> Self {
        Self { burst, ..self }
    }

    /// Everybody sends so many on the stream they have.
    pub async fn pour(&mut self, count: u64) {
        for sender in &mut self.senders {
            sender.send(count).await;
        }
    }

    /// The same of those who are not at this node.
    pub async fn pour_elsewhere(&mut self, node: usize, count: u64) {
        for sender in self.elsewhere(node) {
            sender.send(count).await;
        }
    }

    /// Everything that those who are not at this node sent is acknowledged.
    ///
    /// # Panics
    /// It is refused, or not in time.
    pub async fn acked_elsewhere(&mut self, node: usize) {
        for sender in self.elsewhere(node) {
            sender.answers().await;
            assert_eq!(sender.acked(), sender.sent(), "acks beside node {node}");
        }
    }

    fn elsewhere(&mut self, node: usize) -> impl Iterator<Item = &mut Sender> {
        let senders = self.senders.iter_mut().enumerate();
        senders.filter(move |(at, _)| *at != node).map(|(_, sender)| sender)
    }

    /// Bursts, each once the one before has its answers, for so long at least.
    pub async fn keep_sending(&mut self, fleet: &Fleet, how_long: Duration) {
        let started = stonechat_host::monotonic();
        while started.elapsed() < how_long {
            self.burst(fleet).await;
            self.answers().await;
        }
    }

    /// Sends again what has no ack until it has one.
    ///
    /// # Panics
    /// Some has none for long.
    pub async fn settle(&mut self, fleet: &Fleet) {
        for (sender, node) in self.senders.iter_mut().zip(&fleet.nodes) {
            sender.finish(node).await;
        }
    }

    /// Everything sent has its answer, or its stream is over.
    ///
    /// # Panics
    /// Not in time.
    pub async fn answers(&mut self) {
        for sender in &mut self.senders {
            sender.answers().await;
        }
    }

    /// How many messages were acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.senders.iter().map(Sender::acked).sum()
    }

    /// How each one's stream ended, and the last answer on it: why something has no ack.
    #[must_use]
    pub fn last_words(&self) -> Vec<String> {
        self.senders.iter().map(Sender::last_words).collect()
    }

    /// How many were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.senders.iter().map(Sender::sent).sum()
    }

    /// The conversation they are all in.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.room
    }

    /// How long the acks of messages sent since a moment took, retries included.
    #[must_use]
    pub fn ack_waits(&self, fleet: &Fleet, since: Moment) -> Waits {
        ack_waits(&fleet.nodes[0].recorder.history(), since, |key| {
            key.conversation.0 == self.room
        })
    }

    /// How long after their acks the reader had them.
    #[must_use]
    pub fn reader_lags(&self, fleet: &Fleet, since: Moment) -> Waits {
        self.lags_of("reader", fleet, since)
    }

    /// The same of anybody in the room.
    #[must_use]
    pub fn lags_of(&self, user: &str, fleet: &Fleet, since: Moment) -> Waits {
        delivery_lags(&fleet.nodes[0].recorder.history(), since, user)
    }

    /// A stream of the reader.
    ///
    /// # Panics
    /// Not in time.
    pub async fn reader(&self, node: &Bench, device: &str) -> RawSession {
        node.open("reader", device).await
    }

    /// Within so long, a stream has everything that is in the log.
    ///
    /// # Panics
    /// Not in time.
    pub async fn hears_all(&self, node: &Bench, reader: &mut RawSession, within: Duration) {
        let heard = tokio::time::timeout(within, reaches_head(node, reader, &self.room)).await;
        assert!(heard.is_ok(), "{within:?} and not at the head: I5");
    }

    /// SIGKILL of each node in turn, under load, the one of the reader last; each starts again.
    ///
    /// # Panics
    /// What was sent is not with the reader within so long.
    pub async fn outlives_each_node(&mut self, fleet: &mut Fleet, reader: &mut RawSession, within: Duration) {
        for victim in (0..fleet.nodes.len()).rev() {
            self.burst(fleet).await;
            fleet.nodes[victim].server.kill().await;
            self.answers().await;
            if victim > 0 {
                self.hears_all(&fleet.nodes[0], reader, within).await;
            }
            fleet.nodes[victim].server.restart(None).await;
        }
    }

    /// After all is well again: everything is acknowledged, in the log once, with everybody, and nothing that anybody saw
    /// contradicts a promise.
    ///
    /// # Panics
    /// Not in time.
    pub async fn judge(mut self, fleet: &mut Fleet) {
        self.settle(fleet).await;
        for node in &fleet.nodes {
            let mut reader = self.reader(node, "judge").await;
            reaches_head(node, &mut reader, &self.room).await;
        }
        for (sender, node) in self.senders.iter_mut().zip(&fleet.nodes) {
            reaches_head(node, sender.session(), &self.room).await;
        }
        let node = &fleet.nodes[0];
        let senders: Vec<&Sender> = self.senders.iter().collect();
        let total = each_once(node, &self.room, &senders).await;
        println!("{total} messages, each once, through {} nodes", fleet.nodes.len());
        node.verdict().await.assert_clean(&DELIVERY);
        fleet.assert_whole().await;
    }
}
