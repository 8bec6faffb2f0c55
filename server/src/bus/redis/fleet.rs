//! All Redis nodes, and which of them each partition lies on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use redis::io::tcp::TcpSettings;
use redis::{
    Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, Pipeline, ProtocolVersion,
    TlsCertificates, Value,
};
use stonechat_host::Host;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::busy::Busy;
use super::codec::{self, Origin, Said};
use super::groups::{self, Gateways};
use super::link::Link;
use super::names::{Names, PARTITIONS, partition_of, slot};
use super::topics::{Topics, lock};
use super::{RedisOptions, slots};
use crate::bus::Topic;
use crate::domain::{ConversationId, UserId};
use crate::telemetry::meters::{Service, meters};
use crate::tls::Trust;

/// How often the slots of a cluster are read when nothing is wrong: a move that nobody ran into.
const LOOK_AROUND: Duration = Duration::from_secs(30);
/// How often they are read while a node is away: a replica may have taken over.
const LOOK_FOR_HEIR: Duration = Duration::from_secs(1);
/// The least time between two readings: a resharding tells of each slot.
const LOOKS_APART: Duration = Duration::from_millis(100);
/// Commands sent before their answers are awaited: bounds what a large group puts into one buffer.
pub(super) const COMMANDS_MAX: usize = 256;

type Routes = Vec<Option<Arc<Link>>>;

/// All Redis nodes.
pub(super) struct Fleet {
    pub(super) names: Names,
    pub(super) topics: Topics,
    pub(super) gateways: Gateways,
    pub(super) busy: Busy,
    publishes: AtomicU64,
    pub(super) host: Host,
    pub(super) origin: Origin,
    /// The slots may have moved.
    pub(super) reroute: Notify,
    /// Partitions whose Redis came up, and may have forgotten everything; at most all of them.
    risen: Mutex<BTreeSet<u16>>,
    pub(super) rising: Notify,
    /// Topics that a node of the cluster would not hear for us, or no longer, since it does not have their slot, or the cluster
    /// lacks a node; at most those wanted.
    refused: Mutex<BTreeSet<Topic>>,
    seeds: Vec<ConnectionInfo>,
    cluster: bool,
    trust: Option<Trust>,
    links: Mutex<BTreeMap<String, (Arc<Link>, AbortHandle)>>,
    routes: RwLock<Routes>,
}

impl Fleet {
    /// A fleet that knows its seeds; nothing is connected yet.
    pub(super) fn new(names: Names, host: Host, seeds: Vec<ConnectionInfo>, options: &RedisOptions) -> Self {
        let origin = host.random.bytes16();
        Self {
            names,
            topics: Topics::with(groups::channels()),
            gateways: Gateways::default(),
            busy: Busy::default(),
            publishes: AtomicU64::new(0),
            host,
            origin,
            reroute: Notify::new(),
            risen: Mutex::default(),
            rising: Notify::new(),
            refused: Mutex::default(),
            seeds,
            cluster: options.cluster,
            trust: options.trust.clone(),
            links: Mutex::default(),
            routes: RwLock::new(vec![None; usize::from(PARTITIONS)]),
        }
    }

    /// Connects to the seeds in the background.
    pub(super) fn start(self: &Arc<Self>) -> Result<(), redis::RedisError> {
        for seed in &self.seeds {
            // A link that is up at once waits to see what lies on it, or it would hear nothing of what is wanted from the start.
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            let link = self.link(seed.clone())?;
            if !self.cluster {
                *routes = vec![Some(link); usize::from(PARTITIONS)];
            }
        }
        Ok(())
    }

    /// Ends everything.
    pub(super) fn stop(&self) {
        for (_, task) in std::mem::take(&mut *lock(&self.links)).values() {
            task.abort();
        }
    }

    /// What a node of a cluster refuses for the state that the cluster is in, it or another takes later. False: it is for good, or
    /// there is no cluster.
    pub(super) fn passes(&self, refused: &str) -> bool {
        self.cluster && matches!(refused, "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN")
    }

    /// A topic is not heard where it should be: it is tried again once the slots were read.
    pub(super) fn refused(&self, topic: Topic) {
        lock(&self.refused).insert(topic);
        self.reroute.notify_one();
    }

    /// A node threw out a subscription: its slot moved.
    pub(super) fn thrown_out(&self, topic: Topic) {
        self.topics.broke_one(&topic);
        self.refused(topic);
    }

    fn try_refused(&self) {
        for topic in std::mem::take(&mut *lock(&self.refused)) {
            if let Some(link) = self.route(partition_of(&topic)) {
                link.look_at([topic]);
            }
        }
    }

    /// The partitions that lie on each node, with the first of them.
    pub(super) fn shares(&self) -> Vec<(u16, BTreeSet<u16>)> {
        let mut shares: BTreeMap<String, BTreeSet<u16>> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            if let Some(link) = self.route(partition) {
                shares.entry(link.address.clone()).or_default().insert(partition);
            }
        }
        let with_first = |share: BTreeSet<u16>| Some((*share.first()?, share));
        shares.into_values().filter_map(with_first).collect()
    }

    /// The link to a node, made when there is none.
    fn link(self: &Arc<Self>, info: ConnectionInfo) -> Result<Arc<Link>, redis::RedisError> {
        let address = info.addr().to_string();
        let mut links = lock(&self.links);
        if let Some((link, _)) = links.get(&address) {
            return Ok(Arc::clone(link));
        }
        let link = Arc::new(Link::new(address.clone(), client(info, self.trust.as_ref())?));
        let task = tokio::spawn(Arc::clone(&link).run(Arc::clone(self)));
        links.insert(address, (Arc::clone(&link), task.abort_handle()));
        Ok(link)
    }

    /// Between half and one and a half.
    pub(super) fn jitter(&self) -> f64 {
        let mut byte = [0];
        self.host.random.fill(&mut byte);
        0.5 + f64::from(byte[0]) / 256.0
    }

    /// The link that a partition lies on, when that is known.
    pub(super) fn route(&self, partition: u16) -> Option<Arc<Link>> {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.get(usize::from(partition)).cloned().flatten()
    }

    /// Whether a topic lies on this link.
    pub(super) fn leads_to(&self, topic: &Topic, link: &Arc<Link>) -> bool {
        let route = self.route(partition_of(topic));
        route.is_some_and(|route| Arc::ptr_eq(&route, link))
    }

    /// Whether every partition can be asked.
    pub(super) fn is_whole(&self) -> bool {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        routes.iter().all(|link| link.as_ref().is_some_and(|link| link.is_up()))
    }

    /// A link came up: what it has to hear, and what it may have forgotten.
    pub(super) fn rose(self: &Arc<Self>, link: &Arc<Link>) {
        link.look_at(self.topics.wanted(|topic| self.leads_to(topic, link)));
        let here = |partition: &u16| {
            let route = self.route(*partition);
            route.is_some_and(|route| Arc::ptr_eq(&route, link))
        };
        lock(&self.risen).extend((0..PARTITIONS).filter(here));
        self.rising.notify_one();
        self.reroute.notify_one();
    }

    /// The partitions whose Redis came up since the last call.
    pub(super) fn take_risen(&self) -> BTreeSet<u16> {
        std::mem::take(&mut *lock(&self.risen))
    }

    /// A link went down.
    pub(super) fn fell(&self, link: &Arc<Link>) {
        self.topics.broke(|topic| self.leads_to(topic, link));
        self.reroute.notify_one();
    }

    /// A message came.
    pub(super) fn heard(&self, channel: &[u8], payload: Bytes) {
        let Some(topic) = self.names.topic(channel) else { return };
        match codec::header(&payload) {
            // Our own was delivered here when it was published.
            Some(header) if header.origin == self.origin && !header.ordered => return,
            Some(_) if !self.topics.has(&topic) => return,
            Some(_) => {
                if let Some((said, users)) = codec::decode(payload, &self.host) {
                    return self.take_in(&topic, said, &users);
                }
            }
            None => {}
        }
        // Of a newer node, or broken: whatever it said is read from the log.
        meters().bus_events_lost.inc();
        self.topics.lost(&topic);
    }

    fn take_in(&self, topic: &Topic, said: Said, users: &[UserId]) {
        match (said, topic) {
            (Said::Promoted { conversation, begins }, _) => self.promoted(conversation, users, begins),
            (Said::Event(event), Topic::Gateways(_) | Topic::Conversation(_)) => {
                self.topics.offer_to_users(users, &event);
            }
            (Said::Event(event), topic) => drop(self.topics.offer(topic, &event)),
        }
    }

    /// Somebody publishes to a conversation's own channel, for these users.
    pub(super) fn promoted(&self, conversation: ConversationId, users: &[UserId], begins: bool) {
        if self.topics.promoted(conversation, users, begins) {
            self.look_at([Topic::Conversation(conversation)]);
        }
    }

    /// Has topics compared with what is wanted here, wherever they lie.
    pub(super) fn look_at(&self, topics: impl IntoIterator<Item = Topic>) {
        for topic in topics {
            if let Some(link) = self.route(partition_of(&topic)) {
                link.look_at([topic]);
            }
        }
    }

    /// Publishes sent so far.
    pub(super) fn publishes(&self) -> u64 {
        self.publishes.load(Ordering::Relaxed)
    }

    /// Asks the nodes that these partitions lie on, all at once; the answers in the order asked, `None` where there is
    /// none. Each part has as many answers as commands were added for it.
    pub(super) async fn ask_each<T>(
        &self,
        asked: &[T],
        partition: impl Fn(&T) -> u16,
        add: impl Fn(&mut Pipeline, &T),
    ) -> Vec<Option<Value>> {
        let mut by_link: BTreeMap<String, (Arc<Link>, Vec<usize>)> = BTreeMap::new();
        for (index, one) in asked.iter().enumerate() {
            if let Some(link) = self.route(partition(one)) {
                let (_, indexes) = by_link
                    .entry(link.address.clone())
                    .or_insert_with(|| (link, Vec::new()));
                indexes.push(index);
            }
        }
        let mut answers: Vec<Option<Value>> = asked.iter().map(|_| None).collect();
        let parts = by_link.values().map(|(link, indexes)| {
            let add = &add;
            async move {
                let mut values = Vec::with_capacity(indexes.len());
                for some in indexes.chunks(COMMANDS_MAX) {
                    meters().store_operations.of(Service::Redis).add(some.len());
                    let mut commands = Pipeline::with_capacity(some.len());
                    some.iter().for_each(|index| add(&mut commands, &asked[*index]));
                    // After one that is not answered the link is down, and the others fail at once.
                    let Ok(answered) = link.ask(&commands).await else {
                        continue;
                    };
                    values.extend(some.iter().copied().zip(answered));
                }
                values
            }
        });
        for (index, value) in join_all(parts).await.into_iter().flatten() {
            answers[index] = self.usable(value);
        }
        answers
    }

    fn usable(&self, value: Value) -> Option<Value> {
        match value {
            Value::ServerError(error) => {
                tracing::debug!(code = error.code(), "redis refused a command");
                self.reroute.notify_one();
                None
            }
            value => Some(value),
        }
    }

    /// Publishes to other nodes; how many of them heard it, per topic, `None` where that is not known.
    pub(super) async fn publish(&self, topics: &[Topic], payload: &Bytes) -> Vec<Option<usize>> {
        let ours = |topic: &Topic| {
            let route = self.route(partition_of(topic));
            route.is_some_and(|link| link.may_hear(topic))
        };
        let before: Vec<bool> = topics.iter().map(ours).collect();
        self.publishes.fetch_add(topics.len() as u64, Ordering::Relaxed);
        let add = |commands: &mut Pipeline, topic: &Topic| {
            let channel = self.names.channel(topic);
            commands.cmd("SPUBLISH").arg(channel).arg(&payload[..]);
        };
        let answers = self.ask_each(topics, partition_of, add).await;
        let counts = answers.into_iter().zip(topics.iter().zip(before));
        let others = counts.map(|(answer, (topic, before))| {
            let heard: usize = redis::from_redis_value(answer?).ok()?;
            // In doubt one too few: who is reached after all is told twice, not never.
            let own = before || ours(topic);
            Some(heard.saturating_sub(usize::from(own)))
        });
        others.collect()
    }

    /// Breaks every connection, as a network would.
    #[cfg(test)]
    pub(super) fn break_all(&self) {
        lock(&self.links).values().for_each(|(link, _)| link.break_up());
    }

    /// Follows the slots of a cluster, for ever.
    pub(super) async fn follow(self: Arc<Self>) {
        loop {
            let known = self.read_slots().await;
            if known {
                self.try_refused();
            }
            let pause = if known && self.is_whole() {
                LOOK_AROUND
            } else {
                LOOK_FOR_HEIR
            };
            tokio::select! {
                biased;
                () = self.reroute.notified() => tokio::time::sleep(LOOKS_APART).await,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Asks all nodes for the slots, and believes who knows most; false when nobody says that the cluster takes commands.
    async fn read_slots(self: &Arc<Self>) -> bool {
        let links: Vec<Arc<Link>> = lock(&self.links).values().map(|(link, _)| Arc::clone(link)).collect();
        let up: Vec<&Arc<Link>> = links.iter().filter(|link| link.is_up()).collect();
        let views = join_all(up.iter().map(|link| view_of(link))).await;
        let Some(view) = views.into_iter().flatten().max_by_key(|view| (view.is_ok, view.epoch)) else {
            if up.is_empty() {
                // The whole cluster may have moved: begin again where we began.
                for seed in &self.seeds {
                    let _ = self.link(seed.clone());
                }
            }
            return false;
        };
        self.lay_routes(&view.ranges);
        view.is_ok
    }

    /// Takes over who has which slots.
    fn lay_routes(self: &Arc<Self>, ranges: &[slots::Range]) {
        let find = |partition: u16| {
            let slot = slot(partition);
            let range = ranges.iter().find(|range| (range.first..=range.last).contains(&slot))?;
            self.link(self.like_seed(&range.host, range.port)?).ok()
        };
        let new: Routes = (0..PARTITIONS).map(find).collect();
        let used: BTreeSet<String> = new.iter().flatten().map(|link| link.address.clone()).collect();
        let old = {
            let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *routes, new)
        };
        let moved = |partition: u16| {
            let old = old.get(usize::from(partition)).and_then(Option::as_ref);
            match (old, self.route(partition)) {
                (Some(old), Some(new)) => !Arc::ptr_eq(old, &new),
                (None, None) => false,
                _ => true,
            }
        };
        let moved: BTreeSet<u16> = (0..PARTITIONS).filter(|partition| moved(*partition)).collect();
        if !moved.is_empty() {
            self.follow_moved(&old, &moved);
        }
        lock(&self.links).retain(|address, (_, task)| {
            let used = used.contains(address);
            if !used {
                task.abort();
            }
            used
        });
    }

    fn follow_moved(&self, old: &Routes, moved: &BTreeSet<u16>) {
        let has_moved = |topic: &Topic| moved.contains(&partition_of(topic));
        self.topics.broke(has_moved);
        for topic in self.topics.wanted(has_moved) {
            let partition = partition_of(&topic);
            let before = old.get(usize::from(partition)).cloned().flatten();
            for link in before.into_iter().chain(self.route(partition)) {
                link.look_at([topic.clone()]);
            }
        }
        lock(&self.risen).extend(moved);
        self.rising.notify_one();
    }

    /// How to connect to a node that the cluster named: as to a seed, elsewhere.
    fn like_seed(&self, host: &str, port: u16) -> Option<ConnectionInfo> {
        let seed = self.seeds.first()?;
        let address = match seed.addr() {
            ConnectionAddr::TcpTls {
                insecure, tls_params, ..
            } => ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host.to_owned(), port),
        };
        Some(seed.clone().set_addr(address))
    }
}

/// What a node says of its cluster; `None` when it does not answer, or knows nobody.
async fn view_of(link: &Arc<Link>) -> Option<slots::View> {
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("CLUSTER").arg("INFO");
    commands.cmd("CLUSTER").arg("SLOTS");
    let mut answers = link.ask(&commands).await.ok()?.into_iter();
    slots::view(answers.next()?, answers.next()?, &link.address)
}

/// Connects when it is asked to.
pub(super) fn client(info: ConnectionInfo, trust: Option<&Trust>) -> Result<Client, redis::RedisError> {
    let Some(trust) = trust else {
        return Client::open(info);
    };
    let shown = trust.shown().map(|shown| ClientTlsConfig {
        client_cert: shown.certificate.clone(),
        client_key: shown.key.clone(),
    });
    let certificates = TlsCertificates {
        client_tls: shown,
        root_cert: Some(trust.pem().to_vec()),
    };
    Client::build_with_tls(info, certificates)
}

/// How to connect to an address: pushes need RESP3, and the crate leaves Nagle's algorithm on, which holds small
/// commands back for the sake of a delayed acknowledgement.
pub(super) fn connection_info(address: &str) -> Result<ConnectionInfo, redis::RedisError> {
    let info = address.into_connection_info()?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info
        .set_redis_settings(settings)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}
