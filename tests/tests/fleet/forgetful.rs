//! A Redis that forgets everything, or comes back empty, while people send (I10, T15).

use stonechat_tests::harness::{BURST, Ground, Role, crewed_among};

use crate::VISIBLE_WITHIN;
use crate::watch::Watch;

/// How often it forgets.
const TIMES: usize = 3;

#[tokio::test]
async fn i10_redis_may_forget_and_die_under_load() {
    let nodes = [Role::Both; 2];
    let Some((mut fleet, mut crew)) = crewed_among(Ground::default(), &nodes, 1).await else {
        return;
    };
    let mut watch = Watch::begin(&fleet, &crew).await;
    for _ in 0..TIMES {
        crew.burst(&fleet).await;
        fleet.redis.forget().await;
        crew.answers().await;
    }
    assert_eq!(crew.acked(), crew.sent(), "sends are acknowledged while redis forgets");
    crew.hears_all(&fleet.nodes[1], &mut watch.reader, VISIBLE_WITHIN).await;
    watch.shows_online("after redis forgot").await;
    crew.burst(&fleet).await;
    fleet.redis.kill();
    crew.pour(BURST).await;
    fleet.redis.restart().await;
    crew.answers().await;
    assert_eq!(crew.acked(), crew.sent(), "sends are acknowledged without redis");
    crew.hears_all(&fleet.nodes[1], &mut watch.reader, VISIBLE_WITHIN).await;
    watch.shows_online("after redis came back empty").await;
    crew.judge(&mut fleet).await;
}
