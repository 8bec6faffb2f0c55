//! D14: nodes whose clocks part, over a real Redis.

use std::sync::Arc;

use stonechat_host::{Host, ShiftedClock, TcpConnector};

use super::*;
use crate::bus::redis::{RedisBus, RedisOptions};
use crate::storage::contract::services::{REDIS, service, unique};

/// As the setting's default.
const LIMIT: Duration = Duration::from_millis(500);
/// More looks than it takes to turn.
const LOOKS: usize = 20;

struct Node {
    cluster: Arc<Cluster>,
    clock: Arc<ShiftedClock>,
}

async fn node(address: &str, prefix: &str, ahead_ms: i64) -> Node {
    let clock = Arc::new(ShiftedClock::default());
    clock.shift(ahead_ms);
    let host = Host {
        clock: Arc::clone(&clock) as _,
        ..Host::system()
    };
    let options = RedisOptions {
        addresses: vec![address.to_owned()],
        trust: None,
        cluster: false,
        prefix: prefix.to_owned(),
    };
    let me = NodeRecord {
        name: unique(),
        address: "127.0.0.1:1".to_owned(),
        core: true,
        hears_groups: true,
        hears_promoted: true,
        clock: None,
    };
    let bus = RedisBus::open(options, host).await.expect("usable options");
    let cluster = Cluster::new(me, Arc::new(bus), Arc::new(TcpConnector), LIMIT);
    Node { cluster, clock }
}

impl Node {
    fn is_trusted(&self) -> bool {
        *self.cluster.clock_trusted().borrow()
    }

    fn owns_any(&self) -> bool {
        (0..=255).any(|number| self.cluster.owns(ConversationId([number; 16])))
    }

    fn sees_core(&self, other: &Self) -> bool {
        self.cluster
            .view()
            .cores()
            .any(|core| core.name == other.cluster.me.name)
    }
}

/// Who comes with a wrong clock is not let in, and is told how wrong it is; who comes with a right one is, whatever the others are
/// like.
#[tokio::test]
async fn d14_a_node_with_a_wrong_clock_does_not_start() {
    let Some(address) = service(REDIS) else { return };
    let prefix = unique();
    let alone = node(&address, &prefix, 90_000).await;
    assert_eq!(alone.cluster.check_clock().await, Ok(()), "nobody to compare with");
    drop(alone);
    let running = [node(&address, &prefix, 0).await, node(&address, &prefix, 40).await];
    for node in &running {
        node.cluster.look().await;
    }
    let late = node(&address, &prefix, 3_000).await;
    let looking = async {
        loop {
            for node in &running {
                node.cluster.look().await;
            }
            tokio::time::sleep(ANNOUNCE_EVERY).await;
        }
    };
    let apart = tokio::select! { biased;
        refused = late.cluster.check_clock() => refused.expect_err("3 s off"),
        () = looking => unreachable!("for ever"),
    };
    assert!(
        (2_500..=3_500).contains(&apart.at_least_ms()) && apart.ahead_ms > 0,
        "{apart:?}"
    );
    for node in &running {
        node.cluster.look().await;
        assert!(!node.sees_core(&late), "it was announced");
    }
    let right = node(&address, &prefix, -100).await;
    assert_eq!(right.cluster.check_clock().await, Ok(()));
}

/// A clock that parts while the node serves: it gives up what it owns, the others see that, and it comes back when the clock does.
#[tokio::test]
async fn d14_a_clock_that_parts_ends_ownership_until_it_is_back() {
    let Some(address) = service(REDIS) else { return };
    let prefix = unique();
    let nodes = [
        node(&address, &prefix, 0).await,
        node(&address, &prefix, 0).await,
        node(&address, &prefix, 0).await,
    ];
    let looks = async || {
        for _ in 0..LOOKS {
            for node in &nodes {
                node.cluster.look().await;
            }
        }
    };
    looks().await;
    assert!(nodes.iter().all(Node::is_trusted) && nodes[0].sees_core(&nodes[1]));
    // The others are not reached here, so that each owns all that it may.
    assert!(nodes[1].owns_any());
    nodes[1].clock.shift(-4_000);
    looks().await;
    assert!(!nodes[1].is_trusted() && !nodes[1].owns_any());
    assert!(nodes[0].is_trusted() && nodes[2].is_trusted(), "they are right");
    assert!(!nodes[0].sees_core(&nodes[1]) && nodes[0].owns_any());
    nodes[1].clock.shift(10);
    looks().await;
    assert!(nodes.iter().all(Node::is_trusted) && nodes[1].owns_any() && nodes[0].sees_core(&nodes[1]));
}

/// I10: without Redis nobody's clock is judged.
#[tokio::test]
async fn i10_without_a_bus_no_clock_is_judged() {
    let node = node("redis://127.0.0.1:1", "x", 3_600_000).await;
    assert_eq!(node.cluster.check_clock().await, Ok(()));
    for _ in 0..LOOKS {
        node.cluster.look().await;
    }
    assert!(node.is_trusted() && node.owns_any());
}
