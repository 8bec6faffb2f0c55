//! The contract on a server and on a cluster, two nodes on one Redis, and a Redis that breaks.

mod breaks;
mod facts;
mod groups;
mod newer;
mod promoted;
mod rates;
mod two_nodes;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use stonechat_host::{Clock, Host};

use super::{RedisBus, RedisError, RedisOptions};
use crate::bus::{Bus, Event, Status, StatusRecord, Subscription};
use crate::domain::{ConversationId, SessionId, UnixMillis, UserId};
use crate::storage::contract::services::{REDIS, REDIS_CLUSTER, service};
use crate::tests::comes_true;

/// Far more than anything here takes on a busy machine.
const LONG: Duration = Duration::from_secs(20);

/// Names of its own for each test, also of another run on the same Redis.
fn own_prefix() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("test-{}-{number}:", std::process::id())
}

fn options(addresses: &str, cluster: bool) -> RedisOptions {
    RedisOptions {
        addresses: addresses.split(',').map(str::to_owned).collect(),
        cluster,
        trust: None,
        prefix: own_prefix(),
    }
}

/// Options of each Redis there is: a server, a cluster.
fn each_redis() -> Vec<RedisOptions> {
    let single = service(REDIS).map(|address| options(&address, false));
    let cluster = service(REDIS_CLUSTER).map(|addresses| options(&addresses, true));
    single.into_iter().chain(cluster).collect()
}

async fn node(options: &RedisOptions) -> RedisBus {
    node_at(options, 0).await
}

/// A node that hears all that goes to every gateway. Before that its users are told, rightly, that they may have missed
/// something, and a cluster's servers confirm one after the other.
async fn listening(options: &RedisOptions) -> RedisBus {
    let node = node(options).await;
    until("hears all channels", || async { node.fleet.topics.all_confirmed() }).await;
    node
}

/// The clock of a machine that is off by so many milliseconds.
struct Off(i64);

impl Clock for Off {
    fn unix_ms(&self) -> i64 {
        Host::system().clock.unix_ms() + self.0
    }
}

/// A node whose clock is off.
async fn node_at(options: &RedisOptions, off_ms: i64) -> RedisBus {
    let host = Host {
        clock: Arc::new(Off(off_ms)),
        ..Host::system()
    };
    RedisBus::open(options.clone(), host).await.expect("usable options")
}

async fn contract_bus(variable: &str, cluster: bool) -> Option<Arc<dyn Bus>> {
    let addresses = service(variable)?;
    Some(Arc::new(listening(&options(&addresses, cluster)).await))
}

crate::bus_contract!(single, async || contract_bus(REDIS, false).await);
crate::bus_contract!(cluster, async || contract_bus(REDIS_CLUSTER, true).await);

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("well-formed")
}

fn session(name: &str) -> SessionId {
    SessionId::parse(name).expect("well-formed")
}

fn numbered(number: u8) -> Event {
    Event::OwnRow(ConversationId([number; 16]))
}

fn record(gateway: &str) -> StatusRecord {
    StatusRecord {
        status: Status::Online,
        last_active: UnixMillis(1),
        gateway: gateway.to_owned(),
        valid_until: UnixMillis(Host::system().clock.unix_ms() + 60_000),
    }
}

async fn next(subscription: &mut Subscription) -> Event {
    let next = tokio::time::timeout(LONG, subscription.next()).await;
    next.expect("an event in time").expect("an open bus")
}

/// The number of the next event that is one.
async fn next_number(subscription: &mut Subscription) -> u8 {
    loop {
        match next(subscription).await {
            Event::OwnRow(id) => return id.0[0],
            Event::Lost => {}
            other => panic!("another event than was published: {other:?}"),
        }
    }
}

/// Waits until it holds.
async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    comes_true(what, LONG, holds).await;
}

#[tokio::test]
async fn options_that_cannot_be_used_are_refused() {
    let refused = async |addresses: &[&str], prefix: &str| {
        let options = RedisOptions {
            addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
            trust: None,
            cluster: false,
            prefix: prefix.to_owned(),
        };
        RedisBus::open(options, Host::system()).await.err().expect("refused")
    };
    assert!(matches!(refused(&[], "").await, RedisError::Addresses));
    assert!(matches!(
        refused(&["redis://a", "redis://b"], "").await,
        RedisError::Addresses
    ));
    assert!(matches!(refused(&["redis://a"], "{").await, RedisError::Prefix));
    assert!(matches!(refused(&["http://a"], "").await, RedisError::Address(_)));
}
