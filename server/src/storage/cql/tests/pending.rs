//! Fan-out pending among several nodes.

use super::*;
use crate::domain::Seq;
use crate::storage::contract::samples::{append, conversation, message};
use stonechat_host::{Clock, ManualClock, SystemClock};

async fn rows(store: &CqlStore) -> usize {
    store
        .inner
        .client
        .ask("SELECT shard FROM pending")
        .await
        .expect("readable")
        .len()
}

#[tokio::test]
async fn rows_go_when_everything_was_fanned_out_and_never_before() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let here = conversation(1);
    append(&store, here, &[message("a"), message("b")])
        .await
        .expect("appended");
    append(&store, here, &[message("c")]).await.expect("appended");
    assert_eq!(rows(&store).await, 1, "the first row covers what comes after");
    store.fanout_done(here, Seq(2)).await;
    store.inner.sweep_pending().await;
    assert_eq!(rows(&store).await, 1, "moved to where fan-out is");
    // What another node sees, without this one's memory.
    let values = vec![super::super::rows::conversation(here)];
    let left = store
        .inner
        .client
        .prepare("SELECT from_seq FROM pending WHERE conversation = ? ALLOW FILTERING");
    let left: Vec<(i64,)> = store
        .inner
        .client
        .rows(&left.await.expect("well-formed"), values)
        .await
        .expect("readable");
    assert_eq!(left, [(3,)]);
    store.fanout_done(here, Seq(3)).await;
    store.inner.sweep_pending().await;
    assert_eq!(rows(&store).await, 0);
    append(&store, here, &[message("d")]).await.expect("appended");
    assert_eq!(store.fanout_pending().await.expect("readable"), [(here, Seq(4))]);
}

/// A node that takes over finds the rows of one that crashed; it leaves them until nobody relies on them.
#[tokio::test]
async fn a_successor_finds_the_rows_and_takes_them_back_when_they_are_old() {
    let Some(options) = options(BUCKET_SEQS).await else {
        return;
    };
    let crashed = open(&options).await;
    let here = conversation(1);
    append(&crashed, here, &[message("a")]).await.expect("appended");
    let clock = Arc::new(ManualClock::new(SystemClock.unix_ms()));
    let host = Host {
        clock: clock.clone(),
        ..Host::system()
    };
    // It is not dropped, for its keyspace would go with it; all the same it does nothing more.
    let successor = CqlStore::open(options, &host).await.expect("opens");
    assert_eq!(
        successor.fanout_pending_from(here).await.expect("readable"),
        Some(Seq(1))
    );
    successor.fanout_done(here, Seq(1)).await;
    successor.inner.sweep_pending().await;
    assert_eq!(rows(&successor).await, 1, "its owner may still rely on it");
    assert!(successor.fanout_pending().await.expect("readable").is_empty());
    clock.set(clock.unix_ms() + 301_000);
    successor.inner.sweep_pending().await;
    assert_eq!(rows(&successor).await, 0);
}
