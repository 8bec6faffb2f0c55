//! A large group, which is told once for each gateway, while Redis and the nodes come and go (I5, I7, I10, C12, C13).

use stonechat_tests::harness::{Fleet, Ground, PATIENCE, Role, crewed_among};

use crate::VISIBLE_WITHIN;

/// Members beside those who write and read.
const OTHERS: usize = 100;
const NODES: [Role; 3] = [Role::Both; 3];

async fn told_at_once(fleet: &Fleet) -> u64 {
    let mut told = 0;
    // A busy one has a channel of its own after a while.
    for to in ["gateways", "conversation"] {
        let counter = format!("stonechat_bus_publishes_total{{to=\"{to}\"}}");
        told += fleet.counts(&counter).await.into_iter().sum::<u64>();
    }
    told
}

/// F8, T12, T15: Redis dies, forgets everything and comes back, while somebody is removed and somebody added.
#[tokio::test]
async fn i10_c12_c13_a_large_group_outlives_redis() {
    let Some((mut fleet, mut crew)) = crewed_among(Ground::default(), &NODES, OTHERS).await else {
        return;
    };
    let mut reader = crew.reader(&fleet.nodes[1], "phone").await;
    let _leaver = fleet.nodes[2].open("other1", "phone").await;
    fleet.nodes[2].users(&["comer"]).await;
    crew.burst(&fleet).await;
    fleet.nodes[0].remove(crew.room(), "other1").await;
    crew.answers().await;
    assert!(told_at_once(&fleet).await > 0, "nothing went to all gateways at once");
    fleet.redis.kill();
    crew.burst(&fleet).await;
    let mut comer = fleet.nodes[2].open("comer", "phone").await;
    fleet.nodes[0].add(crew.room(), "comer").await;
    crew.answers().await;
    crew.hears_all(&fleet.nodes[1], &mut reader, VISIBLE_WITHIN).await;
    crew.hears_all(&fleet.nodes[2], &mut comer, VISIBLE_WITHIN).await;
    fleet.redis.restart().await;
    let before = told_at_once(&fleet).await;
    let again = async {
        while told_at_once(&fleet).await == before {
            crew.burst(&fleet).await;
            crew.answers().await;
        }
    };
    let again = tokio::time::timeout(PATIENCE, again).await;
    assert!(again.is_ok(), "gateways are not told at once again");
    crew.hears_all(&fleet.nodes[1], &mut reader, VISIBLE_WITHIN).await;
    crew.judge(&mut fleet).await;
}

/// T14, F3: SIGKILL of each node in turn, the owner of the group among them.
#[tokio::test]
async fn i1_i5_a_large_group_outlives_its_owners() {
    let Some((mut fleet, mut crew)) = crewed_among(Ground::default(), &NODES, OTHERS).await else {
        return;
    };
    let mut reader = crew.reader(&fleet.nodes[0], "phone").await;
    crew.burst(&fleet).await;
    crew.answers().await;
    assert!(told_at_once(&fleet).await > 0, "nothing went to all gateways at once");
    crew.outlives_each_node(&mut fleet, &mut reader, VISIBLE_WITHIN).await;
    crew.judge(&mut fleet).await;
}
