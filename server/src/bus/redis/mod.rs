//! The bus of many processes, over Redis or Valkey: one server or a cluster.
//!
//! Events go by sharded pub/sub, a channel per topic. Who subscribed at the publisher's own node gets them at once,
//! without Redis, so that a node alone goes on while Redis is away; other nodes get them from Redis, and each node
//! drops its own echo. Only where the order among all publishers counts the publisher's node hears it from Redis too. What
//! is for a large group goes once to every gateway instead (`groups`), and once it is busy to those that have a member of it
//! (`busy`, `promoted`).

mod busy;
mod codec;
mod facts;
mod fleet;
mod groups;
mod link;
mod names;
mod presence;
mod promoted;
mod rates;
mod slots;
mod time;
mod topics;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::{Pipeline, Value};
use stonechat_host::{Host, monotonic};
use tokio::task::AbortHandle;

pub use self::facts::{RedisFacts, ServerFacts};

use self::busy::Announcement;
use self::fleet::Fleet;
use self::names::{Key, NODES_PARTITION, Names, partition_of};
use self::presence::Statuses;
use super::{Bus, Event, NodeRecord, Spent, StatusRecord, Subscription, Topic};
use crate::domain::{ClockOffset, ConversationId, SessionId, UnixMillis, UserId};
use crate::telemetry::meters::{Published, meters};
use crate::tls::Trust;

/// What names begin with unless told otherwise: one Redis can serve other things as well.
pub const DEFAULT_PREFIX: &str = "stonechat:";
/// How long a start waits for Redis, so that the first sessions do not meet an unconnected bus. It starts anyhow.
const START_WITHIN: Duration = Duration::from_secs(2);
/// How often a start looks.
const START_LOOK: Duration = Duration::from_millis(5);
/// How long a new subscription waits for Redis to confirm; then it starts, told that events may be lost.
const CONFIRM_WITHIN: Duration = Duration::from_secs(1);

/// Where Redis is.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// `redis://` or `rediss://`: of one server, or of some nodes of a cluster.
    pub addresses: Vec<String>,
    /// Whether they are nodes of a cluster.
    pub cluster: bool,
    /// Who vouches for the servers of `rediss://`; `None`: the public authorities.
    pub trust: Option<Trust>,
    /// What the names of all channels and keys begin with.
    pub prefix: String,
}

/// The settings cannot be used. That Redis is away is no error: it may be at any moment (I10).
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// None, or several without a cluster.
    #[error("give one address of a redis server, or some of the nodes of a cluster")]
    Addresses,
    /// Braces in the prefix.
    #[error("the prefix of names must have no braces")]
    Prefix,
    /// An address that is none.
    #[error("not an address of redis: {0}")]
    Address(#[source] redis::RedisError),
}

/// Live delivery and presence over Redis.
pub struct RedisBus {
    fleet: Arc<Fleet>,
    statuses: Arc<Statuses>,
    tasks: Vec<AbortHandle>,
}

/// Unsubscribes when it is dropped with its [`Subscription`].
struct Unsubscribe {
    fleet: Weak<Fleet>,
    topic: Topic,
    number: u64,
}

impl Drop for Unsubscribe {
    fn drop(&mut self) {
        let Some(fleet) = self.fleet.upgrade() else { return };
        if fleet.topics.remove(&self.topic, self.number)
            && let Some(link) = fleet.route(partition_of(&self.topic))
        {
            link.look_at([self.topic.clone()]);
        }
    }
}

impl Drop for RedisBus {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        self.fleet.stop();
    }
}

impl RedisBus {
    /// Connects in the background; returns when that is done, or after two seconds all the same.
    ///
    /// # Errors
    /// The options cannot be used.
    pub async fn open(options: RedisOptions, host: Host) -> Result<Self, RedisError> {
        if options.addresses.is_empty() || (options.addresses.len() > 1 && !options.cluster) {
            return Err(RedisError::Addresses);
        }
        let names = Names::new(&options.prefix).ok_or(RedisError::Prefix)?;
        let seeds = options.addresses.iter().map(|address| fleet::connection_info(address));
        let seeds = seeds.collect::<Result<_, _>>().map_err(RedisError::Address)?;
        let fleet = Arc::new(Fleet::new(names, host, seeds, &options));
        fleet.start().map_err(RedisError::Address)?;
        let statuses = Arc::new(Statuses::new(Arc::clone(&fleet)));
        let mut tasks = vec![tokio::spawn(Arc::clone(&statuses).run()).abort_handle()];
        if options.cluster {
            tasks.push(tokio::spawn(Arc::clone(&fleet).follow()).abort_handle());
        }
        let bus = Self { fleet, statuses, tasks };
        bus.await_start().await;
        Ok(bus)
    }

    /// How often this process published so far: once for each topic, or once for all gateways or those of a conversation.
    #[must_use]
    pub fn publishes(&self) -> u64 {
        self.fleet.publishes()
    }

    async fn await_start(&self) {
        let whole = async {
            while !self.fleet.is_whole() {
                tokio::time::sleep(START_LOOK).await;
            }
        };
        if tokio::time::timeout(START_WITHIN, whole).await.is_err() {
            tracing::warn!("redis is not there yet, starting without it");
        }
    }

    /// Delivers here what goes without Redis; how many subscribers each topic has here.
    fn offer(&self, topics: &[Topic], event: &Event) -> Vec<usize> {
        let topics = topics.iter();
        if codec::is_ordered(event) {
            topics.map(|topic| self.fleet.topics.count(topic)).collect()
        } else {
            topics.map(|topic| self.fleet.topics.offer(topic, event)).collect()
        }
    }

    /// Sends to the others what was delivered to so many here; how many subscribers each topic has.
    async fn send(&self, topics: &[Topic], event: &Event, here: Vec<usize>) -> Vec<usize> {
        let ordered = codec::is_ordered(event);
        let echoes: Vec<bool> = topics.iter().map(|topic| ordered && self.echoes(topic)).collect();
        let payload = codec::encode(event, &[], &self.fleet.origin, &self.fleet.host);
        meters().bus_publishes.of(Published::Topic).add(topics.len());
        let elsewhere = self.fleet.publish(topics, &payload).await;
        let counts = here
            .into_iter()
            .zip(elsewhere)
            .enumerate()
            .map(|(index, (here, others))| {
                // An echo will not come: then here as well it is delivered without Redis.
                if ordered && !(echoes[index] && others.is_some()) {
                    self.fleet.topics.offer(&topics[index], event);
                }
                here + others.unwrap_or(0)
            });
        counts.collect()
    }

    /// Tells every gateway at once, when that is the cheaper way; whether all of them heard it.
    async fn tell_gateways(&self, users: &[UserId], event: &Event) -> bool {
        let Some(way) = self.fleet.gateways.at_once(users.len(), event) else {
            return false;
        };
        let payload = codec::encode(event, users, &self.fleet.origin, &self.fleet.host);
        meters().bus_publishes.inc(Published::Gateways);
        let heard = self.fleet.publish(std::slice::from_ref(&way.channel), &payload).await;
        // One that is there and did not hear may have a connection that just broke.
        heard.first().copied().flatten() >= Some(way.others)
    }

    /// Tells the gateways that have members of a busy group, on the channel of their conversation; whether each of these users was
    /// reached by that, nobody when it is not sure.
    async fn tell_conversation(
        &self,
        conversation: ConversationId,
        users: &[UserId],
        event: &Event,
        reached: Vec<bool>,
    ) -> Vec<bool> {
        let told = users.iter().zip(&reached).filter(|(_, reached)| **reached);
        let told: Vec<UserId> = told.map(|(user, _)| user.clone()).collect();
        if told.is_empty() {
            return Vec::new();
        }
        let payload = codec::encode(event, &told, &self.fleet.origin, &self.fleet.host);
        meters().bus_publishes.inc(Published::Conversation);
        let channel = Topic::Conversation(conversation);
        let heard = self.fleet.publish(std::slice::from_ref(&channel), &payload).await;
        let sure = self.fleet.busy.heard(conversation, heard.first().copied().flatten());
        if sure { reached } else { Vec::new() }
    }

    /// Says to all gateways that a conversation has a channel of its own.
    async fn announce(&self, conversation: ConversationId, announcement: &Announcement) {
        let (users, begins) = (&announcement.users, announcement.begins());
        // Others may publish there as well.
        self.fleet.promoted(conversation, users, begins);
        let payload = codec::encode_promoted(conversation, begins, users, &self.fleet.origin);
        meters().bus_publishes.inc(Published::Promotion);
        let channel = groups::channel_of(conversation);
        let heard = self.fleet.publish(std::slice::from_ref(&channel), &payload).await;
        let heard = heard.first().copied().flatten();
        self.fleet.busy.announced(conversation, announcement, heard);
    }

    /// Tells these users, who were told here already: all gateways at once, or each by their own topic.
    async fn tell_users(&self, users: &[UserId], event: &Event, here: Vec<usize>) -> Option<Vec<UserId>> {
        if self.tell_gateways(users, event).await {
            return None;
        }
        let topics: Vec<Topic> = users.iter().cloned().map(Topic::User).collect();
        let counts = self.send(&topics, event, here).await;
        let unreached = users.iter().zip(counts).filter(|(_, count)| *count == 0);
        Some(unreached.map(|(user, _)| user.clone()).collect())
    }

    /// The same for what concerns one conversation, which may have a channel of its own.
    async fn tell_members(
        &self,
        conversation: ConversationId,
        users: &[UserId],
        event: &Event,
        here: Vec<usize>,
    ) -> Option<Vec<UserId>> {
        let room = self.fleet.topics.promoted_count() < promoted::PROMOTED_MAX;
        let way = self
            .fleet
            .busy
            .way(conversation, users, self.fleet.gateways.view(), room);
        let reached = self.tell_conversation(conversation, users, event, way.reached).await;
        let unreached = if reached.is_empty() {
            self.tell_users(users, event, here).await
        } else {
            let each = users.iter().zip(here).zip(&reached);
            let left = each
                .filter(|(_, reached)| !**reached)
                .map(|((user, here), _)| (user.clone(), here));
            let (left, here): (Vec<UserId>, Vec<usize>) = left.unzip();
            if !left.is_empty() {
                self.tell_users(&left, event, here).await;
            }
            None
        };
        // Behind the event, so that it waits for nothing.
        if let Some(announcement) = &way.announcement {
            self.announce(conversation, announcement).await;
        }
        unreached
    }

    fn echoes(&self, topic: &Topic) -> bool {
        let link = self.fleet.route(partition_of(topic));
        link.is_some_and(|link| link.hears(topic))
    }

    /// Asks one key.
    async fn ask(&self, key: &Key, add: impl Fn(&mut Pipeline, &str)) -> Option<Value> {
        let add = |commands: &mut Pipeline, key: &&Key| add(commands, &key.text);
        let answers = self.fleet.ask_each(&[key], |key| key.partition, add).await;
        answers.into_iter().next().flatten()
    }
}

#[async_trait]
impl Bus for RedisBus {
    async fn subscribe(&self, topic: Topic) -> Subscription {
        let fleet = &self.fleet;
        let guard = |number| Unsubscribe {
            fleet: Arc::downgrade(fleet),
            topic: topic.clone(),
            number,
        };
        let added = fleet.topics.add(&topic, guard);
        // Asked for first, so that on one server they are confirmed before the user's topic, and nothing is looked for twice.
        fleet.look_at(added.channels);
        let Some(confirmed) = added.confirmed else {
            return added.subscription;
        };
        let link = fleet.route(partition_of(&topic));
        let up = link.filter(|link| {
            link.look_at([topic.clone()]);
            link.is_up()
        });
        let in_time = match up {
            Some(_) => tokio::time::timeout(CONFIRM_WITHIN, confirmed).await.is_ok(),
            None => false,
        };
        if !in_time {
            fleet.topics.unconfirmed(&topic, added.number);
        }
        added.subscription
    }

    async fn publish(&self, topic: &Topic, event: Event) -> usize {
        let topics = std::slice::from_ref(topic);
        let here = self.offer(topics, &event);
        self.send(topics, &event, here).await.into_iter().sum()
    }

    async fn publish_to_users(&self, users: &[UserId], event: Event) -> Option<Vec<UserId>> {
        let topics: Vec<Topic> = users.iter().cloned().map(Topic::User).collect();
        let here = self.offer(&topics, &event);
        match groups::conversation_of(&event) {
            Some(conversation) => self.tell_members(conversation, users, &event, here).await,
            None => self.tell_users(users, &event, here).await,
        }
    }

    async fn set_status(&self, user: &UserId, session: &SessionId, record: StatusRecord) {
        self.statuses.set(user, session, record).await;
    }

    async fn clear_status(&self, user: &UserId, session: &SessionId) {
        self.statuses.clear(user, session).await;
    }

    async fn statuses(&self, users: &[UserId]) -> Vec<Vec<StatusRecord>> {
        self.statuses.of(users).await
    }

    async fn announce_node(&self, node: &NodeRecord, valid: Duration) {
        let record = codec::encode_node(node);
        self.fleet.gateways.own(&node.name);
        let valid = u64::try_from(valid.as_millis()).unwrap_or(u64::MAX).max(1);
        let of_node = |commands: &mut Pipeline, key: &str| {
            let set = commands.cmd("SET").arg(key).arg(&record[..]);
            set.arg("PX").arg(valid);
        };
        self.ask(&self.fleet.names.node(&node.name), of_node).await;
        let of_all = |commands: &mut Pipeline, key: &str| {
            commands.cmd("SADD").arg(key).arg(&node.name);
        };
        self.ask(&self.fleet.names.nodes(), of_all).await;
    }

    async fn withdraw_node(&self, name: &str) {
        self.fleet.gateways.gone(name);
        let of_node = |commands: &mut Pipeline, key: &str| {
            commands.cmd("DEL").arg(key);
        };
        self.ask(&self.fleet.names.node(name), of_node).await;
        let of_all = |commands: &mut Pipeline, key: &str| {
            commands.cmd("SREM").arg(key).arg(name);
        };
        self.ask(&self.fleet.names.nodes(), of_all).await;
    }

    async fn nodes(&self) -> Option<Vec<NodeRecord>> {
        let members = |commands: &mut Pipeline, key: &str| {
            commands.cmd("SMEMBERS").arg(key);
        };
        let names = self.ask(&self.fleet.names.nodes(), members).await?;
        let names: Vec<String> = redis::from_redis_value(names).ok()?;
        let get = |commands: &mut Pipeline, name: &String| {
            commands.cmd("GET").arg(self.fleet.names.node(name).text);
        };
        let answers = self.fleet.ask_each(&names, |_| NODES_PARTITION, get).await;
        let mut nodes = Vec::with_capacity(names.len());
        for (name, answer) in names.iter().zip(answers) {
            let record: Option<Vec<u8>> = redis::from_redis_value(answer?).ok()?;
            match record.as_deref() {
                Some(record) => nodes.extend(codec::decode_node(record)),
                // It fell silent. Should it come back at this moment, its next announcement adds it again.
                None => {
                    let of_all = |commands: &mut Pipeline, key: &str| {
                        commands.cmd("SREM").arg(key).arg(name);
                    };
                    self.ask(&self.fleet.names.nodes(), of_all).await;
                }
            }
        }
        nodes.sort();
        self.fleet.gateways.said(&nodes);
        self.fleet.look_at(self.fleet.topics.demote());
        Some(nodes)
    }

    async fn clock(&self) -> Option<ClockOffset> {
        let begun = monotonic();
        let theirs = time::common(&self.fleet).await?;
        let now = UnixMillis(self.fleet.host.clock.unix_ms());
        Some(ClockOffset::measured(now, begun.elapsed(), theirs))
    }

    async fn spend(&self, spent: &[Spent]) -> Vec<Option<Duration>> {
        rates::spend(&self.fleet, spent).await
    }
}
