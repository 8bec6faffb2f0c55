//! Two nodes over a real Redis, and one whose Redis is away.

use std::time::Duration;

use stonechat_host::{Host, monotonic};

use super::*;
use crate::api::UserRates;
use crate::bus::redis::{RedisBus, RedisOptions};
use crate::config::Config;
use crate::storage::contract::services::{REDIS, service, unique};

const PER_SECOND: u32 = 20;
const BURST: u32 = 10 * PER_SECOND;

struct Node {
    edge: Arc<Edge>,
    bus: RedisBus,
}

async fn node(address: &str, prefix: &str) -> Node {
    let config = Config {
        user_requests_per_second: PER_SECOND,
        ..Config::default()
    };
    let options = RedisOptions {
        addresses: vec![address.to_owned()],
        cluster: false,
        trust: None,
        prefix: prefix.to_owned(),
    };
    let bus = RedisBus::open(options, Host::system()).await.expect("usable options");
    let edge = Edge::new(&config, Host::system());
    edge.users.share();
    Node { edge, bus }
}

impl Node {
    /// One request; whether it passes.
    fn passes(&self, user: &UserId) -> bool {
        let standing = self.edge.take(user).expect("a limit");
        standing.retry_after.is_none()
    }
}

fn ada() -> UserId {
    UserId::parse("ada").expect("well-formed")
}

/// I9: a user who asks two nodes in turns, as fast as they can, is held to about one limit.
#[tokio::test]
async fn i9_who_alternates_between_two_nodes_has_one_limit() {
    let Some(address) = service(REDIS) else { return };
    let prefix = unique();
    let nodes = [node(&address, &prefix).await, node(&address, &prefix).await];
    let (begun, mut passed) = (monotonic(), 0_u32);
    while begun.elapsed() < Duration::from_secs(4) {
        for node in &nodes {
            passed += (0..8).map(|_| u32::from(node.passes(&ada()))).sum::<u32>();
        }
        for node in &nodes {
            node.edge.tell_once(&node.bus).await;
        }
    }
    let seconds = 1 + u32::try_from(begun.elapsed().as_secs()).expect("a few");
    let one = BURST + seconds * PER_SECOND;
    // Above one limit: what passed between two words, which are not a second apart here.
    assert!(passed <= one + 2 * PER_SECOND, "{passed} passed, one limit is {one}");
    assert!(passed >= BURST, "{passed} passed of a burst of {BURST}");
    // Who comes to a node for the first time brings their account along.
    let third = node(&address, &prefix).await;
    let fresh = (0..BURST).take_while(|_| third.passes(&ada())).count();
    assert_eq!(fresh, BURST as usize, "it knows nothing yet");
    third.edge.tell_once(&third.bus).await;
    let standing = third.edge.take(&ada()).expect("a limit");
    assert!(
        standing.retry_after.is_some_and(|wait| wait > Duration::from_secs(5)),
        "{standing:?}"
    );
}

/// I10: while Redis is away each node has its own limit, and nobody waits.
#[tokio::test]
async fn i10_without_redis_a_node_counts_for_itself() {
    let nodes = [
        node("redis://127.0.0.1:1", "x").await,
        node("redis://127.0.0.1:1", "x").await,
    ];
    for node in &nodes {
        let begun = monotonic();
        let passed = (0..BURST).filter(|_| node.passes(&ada())).count();
        node.edge.tell_once(&node.bus).await;
        assert_eq!(passed, BURST as usize);
        assert!(begun.elapsed() < Duration::from_secs(5));
        let wait = node.edge.take(&ada()).expect("a limit").retry_after;
        assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(1)), "{wait:?}");
    }
}

/// The loop of a node tells by itself.
#[tokio::test]
async fn nodes_tell_each_other_by_themselves() {
    let Some(address) = service(REDIS) else { return };
    let prefix = unique();
    let (one, other) = (node(&address, &prefix).await, node(&address, &prefix).await);
    let telling = tokio::spawn(Arc::clone(&one.edge).share_user_rates(Arc::new(one.bus)));
    while one.edge.take(&ada()).expect("a limit").retry_after.is_none() {}
    let learns = async {
        loop {
            let passed = (0..PER_SECOND / 4).filter(|_| other.passes(&ada())).count();
            assert_eq!(passed, PER_SECOND as usize / 4);
            other.edge.tell_once(&other.bus).await;
            // By itself it would have paid for what it used within a moment.
            let standing = other.edge.take(&ada()).expect("a limit");
            if standing.reset > Duration::from_secs(5) {
                return;
            }
            // Slower than its own rate.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let learnt = tokio::time::timeout(Duration::from_secs(30), learns).await;
    learnt.expect("the other node hears of what was used here");
    telling.abort();
}
