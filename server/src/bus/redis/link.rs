//! One Redis node: a connection for commands and one for subscriptions, kept up in the background.
//!
//! While it is down everything asked of it fails at once. Whatever looks wrong breaks both connections, and what comes
//! up again subscribes anew: one way to heal, for every fault.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::Notify;

use super::fleet::Fleet;
use super::topics::lock;
use crate::bus::Topic;

/// A connection that takes longer is given up: the next try may meet a server that answers.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// An answer that takes longer breaks the link. Half of what a fan-out may lose to a Redis that hangs.
const RESPONSE_WITHIN: Duration = Duration::from_millis(500);
/// The first wait before another try, doubled up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Within this of its return Redis is in use again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How often a silent link is asked whether it lives: subscriptions send nothing that would find out.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// Subscriptions sent before their answers are awaited: a hundred thousand after a break take 200 round trips.
const SUBSCRIBE_BATCH: usize = 512;

/// Where a topic is between this link and its Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Joining,
    In,
    Leaving,
}

/// The connections of one time that the link was up.
#[derive(Clone)]
struct Live {
    commands: MultiplexedConnection,
    broken: Arc<Notify>,
}

/// One Redis node.
pub(super) struct Link {
    /// `host:port`.
    pub(super) address: String,
    client: Client,
    live: Mutex<Option<Live>>,
    /// Topics to be looked at: at most those wanted here and those just left.
    dirty: Mutex<BTreeSet<Topic>>,
    dirtied: Notify,
    /// Topics that this link's connection may be subscribed to.
    phases: Mutex<BTreeMap<Topic, Phase>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unanswered {
    /// There is no connection, or it broke.
    #[error("redis is away")]
    Down,
    /// No answer in time.
    #[error("redis did not answer within {RESPONSE_WITHIN:?}")]
    Late,
    /// The connection failed.
    #[error(transparent)]
    Failed(#[from] redis::RedisError),
}

impl Link {
    pub(super) fn new(address: String, client: Client) -> Self {
        Self {
            address,
            client,
            live: Mutex::default(),
            dirty: Mutex::default(),
            dirtied: Notify::new(),
            phases: Mutex::default(),
        }
    }

    /// Whether there are connections.
    pub(super) fn is_up(&self) -> bool {
        lock(&self.live).is_some()
    }

    /// Whether the connection may be subscribed to a topic, and so hear its own messages.
    pub(super) fn may_hear(&self, topic: &Topic) -> bool {
        lock(&self.phases).contains_key(topic)
    }

    /// Whether the connection is surely subscribed to a topic.
    pub(super) fn hears(&self, topic: &Topic) -> bool {
        lock(&self.phases).get(topic) == Some(&Phase::In)
    }

    /// Has the topic compared with what is wanted here.
    pub(super) fn look_at(&self, topics: impl IntoIterator<Item = Topic>) {
        lock(&self.dirty).extend(topics);
        self.dirtied.notify_one();
    }

    /// Sends commands in one go; the answer to each is a value, which may be an error of the server.
    pub(super) async fn ask(&self, commands: &Pipeline) -> Result<Vec<Value>, Unanswered> {
        let mut live = lock(&self.live).clone().ok_or(Unanswered::Down)?;
        let count = commands.len();
        let sent = live.commands.send_packed_commands(commands, 0, count);
        let unanswered = match tokio::time::timeout(RESPONSE_WITHIN, sent).await {
            Ok(Ok(values)) if values.len() == count => return Ok(values),
            Ok(Ok(_)) => Unanswered::Down,
            Ok(Err(error)) => Unanswered::Failed(error),
            Err(_) => Unanswered::Late,
        };
        tracing::debug!(address = self.address, error = %unanswered, "a command had no answer, the link is broken up");
        live.broken.notify_one();
        self.fell(&live.broken);
        Err(unanswered)
    }

    #[cfg(test)]
    pub(super) fn break_up(&self) {
        if let Some(live) = &*lock(&self.live) {
            live.broken.notify_one();
        }
    }

    /// Forgets these connections, unless there are newer ones.
    fn fell(&self, broken: &Arc<Notify>) {
        let mut live = lock(&self.live);
        if live.as_ref().is_some_and(|live| Arc::ptr_eq(&live.broken, broken)) {
            *live = None;
        }
    }

    /// Keeps the link up, for ever.
    pub(super) async fn run(self: Arc<Self>, fleet: Arc<Fleet>) {
        let mut wait = BACKOFF_MIN;
        let mut told = false;
        loop {
            let broken = Arc::new(Notify::new());
            match self.connect(&fleet, &broken).await {
                Ok((commands, subscriptions)) => {
                    tracing::info!(address = self.address, "connected to redis");
                    (wait, told) = (BACKOFF_MIN, false);
                    let live = Live {
                        commands,
                        broken: Arc::clone(&broken),
                    };
                    self.serve(live, subscriptions, &fleet).await;
                    self.fell(&broken);
                    fleet.fell(&self);
                    tracing::warn!(address = self.address, "the connection to redis broke");
                }
                // Once per outage: the tries go on.
                Err(error) if !std::mem::replace(&mut told, true) => {
                    tracing::warn!(address = self.address, %error, "redis cannot be reached");
                }
                Err(_) => {}
            }
            // Nodes that lost the same Redis do not come back in step.
            tokio::time::sleep(wait.mul_f64(fleet.jitter())).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    async fn connect(
        self: &Arc<Self>,
        fleet: &Arc<Fleet>,
        broken: &Arc<Notify>,
    ) -> RedisResult<(MultiplexedConnection, MultiplexedConnection)> {
        let config = || {
            AsyncConnectionConfig::new()
                .set_connection_timeout(Some(CONNECT_WITHIN))
                .set_response_timeout(Some(RESPONSE_WITHIN))
        };
        let breaks = {
            let broken = Arc::clone(broken);
            move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    broken.notify_one();
                }
                Ok::<(), ()>(())
            }
        };
        let hears = {
            // Weak: the connection must not keep alive what keeps it.
            let (broken, link, fleet) = (Arc::clone(broken), Arc::downgrade(self), Arc::downgrade(fleet));
            move |push: PushInfo| {
                if let (Some(link), Some(fleet)) = (link.upgrade(), fleet.upgrade()) {
                    link.pushed(push, &fleet, &broken);
                }
                Ok::<(), ()>(())
            }
        };
        let commands = config().set_push_sender(breaks);
        let subscriptions = config().set_push_sender(hears);
        Ok((
            self.client
                .get_multiplexed_async_connection_with_config(&commands)
                .await?,
            self.client
                .get_multiplexed_async_connection_with_config(&subscriptions)
                .await?,
        ))
    }

    /// Something came by itself on the connection of subscriptions. Called by its driver, in order: does not wait.
    fn pushed(&self, push: PushInfo, fleet: &Fleet, broken: &Notify) {
        let mut data = push.data.into_iter();
        match (push.kind, data.next(), data.next()) {
            (PushKind::SMessage, Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) => {
                fleet.heard(&channel, Bytes::from(payload));
            }
            (PushKind::SUnsubscribe, Some(Value::BulkString(channel)), _) => {
                if let Some(topic) = fleet.names.topic(&channel)
                    && self.is_thrown_out(&topic)
                {
                    fleet.thrown_out(topic);
                }
            }
            (PushKind::Disconnection, ..) => broken.notify_one(),
            _ => {}
        }
    }

    /// Whether a subscription that ended was one that nobody ended here: then its slot moved to another node. The link stays, for a
    /// cluster that is resharded tells so of thousands of slots, one after the other.
    fn is_thrown_out(&self, topic: &Topic) -> bool {
        let mut phases = lock(&self.phases);
        let is_ours = matches!(phases.get(topic), Some(Phase::Joining | Phase::In));
        if is_ours {
            phases.remove(topic);
        }
        is_ours
    }

    /// Works until something breaks.
    async fn serve(self: &Arc<Self>, live: Live, mut subscriptions: MultiplexedConnection, fleet: &Arc<Fleet>) {
        let (broken, mut commands) = (Arc::clone(&live.broken), live.commands.clone());
        lock(&self.phases).clear();
        *lock(&self.live) = Some(live);
        fleet.rose(self);
        let mut beats = tokio::time::interval(HEARTBEAT);
        beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if !self.synchronise(&subscriptions, fleet).await {
                return;
            }
            tokio::select! {
                biased;
                () = broken.notified() => return,
                () = self.dirtied.notified() => {}
                _ = beats.tick() => {
                    if !answers(&mut commands).await || !answers(&mut subscriptions).await {
                        return;
                    }
                }
            }
        }
    }

    /// Subscribes to what is wanted here and not yet subscribed, and the other way; false when the connection broke.
    async fn synchronise(self: &Arc<Self>, subscriptions: &MultiplexedConnection, fleet: &Fleet) -> bool {
        loop {
            let batch = self.take_dirty();
            if batch.is_empty() {
                return true;
            }
            let steps = batch.into_iter().filter_map(|topic| self.step(topic, fleet));
            let steps = steps.map(|(topic, phase)| self.take_step(topic, phase, subscriptions.clone(), fleet));
            if !join_all(steps).await.into_iter().all(|done| done) {
                return false;
            }
        }
    }

    fn take_dirty(&self) -> Vec<Topic> {
        let mut dirty = lock(&self.dirty);
        let batch: Vec<Topic> = dirty.iter().take(SUBSCRIBE_BATCH).cloned().collect();
        for topic in &batch {
            dirty.remove(topic);
        }
        batch
    }

    /// What is to be done about a topic.
    fn step(self: &Arc<Self>, topic: Topic, fleet: &Fleet) -> Option<(Topic, Phase)> {
        let wanted = fleet.topics.has(&topic) && fleet.leads_to(&topic, self);
        let mut phases = lock(&self.phases);
        let phase = match (wanted, phases.get(&topic)) {
            (true, None) => Phase::Joining,
            (false, Some(_)) => Phase::Leaving,
            (true, Some(_)) => {
                drop(phases);
                fleet.topics.confirm(&topic);
                return None;
            }
            (false, None) => return None,
        };
        phases.insert(topic.clone(), phase);
        Some((topic, phase))
    }

    /// Does it; false when the connection broke.
    async fn take_step(
        &self,
        topic: Topic,
        phase: Phase,
        mut subscriptions: MultiplexedConnection,
        fleet: &Fleet,
    ) -> bool {
        let verb = if phase == Phase::Joining {
            "SSUBSCRIBE"
        } else {
            "SUNSUBSCRIBE"
        };
        let mut command = redis::cmd(verb);
        command.arg(fleet.names.channel(&topic));
        let answer = subscriptions.send_packed_command(&command).await;
        let refused = match answer {
            Ok(Value::ServerError(error)) => error,
            Ok(_) if phase == Phase::Joining => {
                // Unless it was thrown out before this was read.
                if let Some(phase) = lock(&self.phases).get_mut(&topic) {
                    *phase = Phase::In;
                    fleet.topics.confirm(&topic);
                }
                return true;
            }
            Ok(_) => {
                lock(&self.phases).remove(&topic);
                return true;
            }
            Err(_) => return false,
        };
        lock(&self.phases).remove(&topic);
        tracing::debug!(
            address = self.address,
            code = refused.code(),
            "redis refused a subscription"
        );
        let passes = fleet.passes(refused.code());
        if passes {
            fleet.refused(topic);
        }
        // What does not pass by itself the link tries anew after its wait.
        passes
    }
}

async fn answers(connection: &mut MultiplexedConnection) -> bool {
    let answer = connection.send_packed_command(&redis::cmd("PING")).await;
    answer.is_ok()
}
