//! T14: the process is frozen and thawed: clients wait or come back, nothing is lost.

use std::time::Duration;

use stonechat_tests::harness::{Bench, DELIVERY, Sender, UNHURRIED, each_once, reaches_head};

async fn freeze(time: Duration) {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = Sender::new("alice", &room);
    alice.connect(&bench).await;
    let bob = bench.open("bob", "phone").await;
    alice.send(100).await;
    bench.server.signal("STOP").await;
    alice.send(100).await;
    tokio::time::sleep(time).await;
    bench.server.signal("CONT").await;
    alice.answers().await;
    alice.finish(&bench).await;
    drop(bob);
    let mut bob = bench.open("bob", "phone").await;
    reaches_head(&bench, &mut bob, &room).await;
    reaches_head(&bench, alice.session(), &room).await;
    assert_eq!(each_once(&bench, &room, &[&alice]).await, 200);
    bench.verdict().await.assert_clean(&DELIVERY);
    bench.server.kill_and_audit().await;
}

#[tokio::test]
async fn a_short_freeze_loses_nothing() {
    freeze(Duration::from_secs(3)).await;
}

#[tokio::test]
#[ignore = "takes half a minute"]
async fn a_freeze_of_thirty_seconds_loses_nothing() {
    freeze(Duration::from_secs(30)).await;
}
