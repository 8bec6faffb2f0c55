//! What is there after opening again, and agreement with the store in memory.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use stonechat_host::Host;

use super::{data, fresh, open};
use crate::domain::{MarkerSet, Ordinal, Seq, UnixMillis};
use crate::storage::contract::samples::{
    WIDE, Wish, append, batch, conversation, device, edit, everything, id, message, redact, sender, user,
};
use crate::storage::embedded::keys::{self, Space};
use crate::storage::memory::MemoryStore;
use crate::storage::{AppendError, ChangeStamp, Head, InboxHead, MarkerRaise, Markers, MessageLog, ReadError};

fn head(seq: u64) -> InboxHead {
    InboxHead {
        seq: Seq(seq),
        ordinal: Ordinal(seq),
        time: UnixMillis(-5),
    }
}

/// I1, I2: all of it is there after a stop, the duplicate rows too.
#[tokio::test]
async fn everything_is_there_after_opening_again() {
    let (store, folder) = fresh();
    let here = conversation(1);
    append(
        &store,
        here,
        &[message("a"), edit("b", 1), redact("c", 1), message("d")],
    )
    .await
    .expect("appended");
    let raise = MarkerRaise {
        user: user("ada"),
        conversation: here,
        markers: MarkerSet {
            delivered: Seq(3),
            ..MarkerSet::default()
        },
        device: Some((device("phone"), Seq(2))),
    };
    store.raise(vec![raise]).await.expect("raised");
    store
        .raise_inbox(&[user("ada")], here, head(4), false)
        .await
        .expect("raised");
    let before = (
        everything(&store, here).await,
        store.head(here).await.expect("readable"),
    );
    let row = store
        .inbox_row(&user("ada"), here)
        .await
        .expect("readable")
        .expect("a row");
    drop(store);

    let store = open(&data(&folder));
    assert_eq!(
        (
            everything(&store, here).await,
            store.head(here).await.expect("readable")
        ),
        before
    );
    for (name, seq) in [("a", 1), ("d", 4)] {
        let found = store
            .find(here, &sender("ada", "phone"), &id(name), Seq::ZERO)
            .await
            .expect("readable");
        assert_eq!(found.map(|prior| prior.seq), Some(Seq(seq)));
    }
    assert_eq!(
        store.newest_id(here, &sender("ada", "phone")).await.expect("readable"),
        Some(id("d"))
    );
    assert_eq!(store.fanout_pending().await.expect("readable"), [(here, Seq(1))]);
    assert_eq!(store.get(&user("ada"), here).await.expect("readable").delivered, Seq(3));
    let positions = store.device_positions(&user("ada"), &device("phone"), &[here]).await;
    assert_eq!(positions.expect("readable"), [Seq(2)]);
    assert_eq!(store.inbox_row(&user("ada"), here).await.expect("readable"), Some(row));
    append(&store, here, &[message("e")]).await.expect("goes on");
}

/// Stamps are never used twice, whatever a crash may have taken of the newest.
#[tokio::test]
async fn stamps_go_on_above_all_that_were_given_out() {
    let (store, folder) = fresh();
    let mut highest = ChangeStamp(0);
    let mut store = Some(store);
    for round in 1..=3 {
        let open_store = store.take().unwrap_or_else(|| open(&data(&folder)));
        assert!(open_store.newest_change() >= highest);
        open_store
            .raise_inbox(&[user("ada")], conversation(1), head(round), false)
            .await
            .expect("raised");
        let row = open_store
            .inbox_row(&user("ada"), conversation(1))
            .await
            .expect("readable")
            .expect("a row");
        assert!(row.change > highest);
        assert_eq!(open_store.newest_change(), row.change);
        highest = row.change;
    }
}

#[tokio::test]
async fn a_hole_a_lost_head_or_an_entry_above_it_is_corrupt() {
    let (store, folder) = fresh();
    let here = conversation(1);
    append(&store, here, &[message("a"), message("b"), message("c")])
        .await
        .expect("appended");
    let entries = store.engine.keyspace(Space::Entries);
    // Behind the writer's back: what it would publish.
    let seen = || store.engine.publish(store.newest_change());
    for seq in [1, 2, 3] {
        let key = keys::entry(here, Seq(seq));
        let entry = entries.get(key).expect("readable").expect("there");
        entries.remove(key).expect("removed");
        seen();
        let read = store.read(here, Seq(1), Seq(3), WIDE).await;
        assert!(matches!(read, Err(ReadError::Corrupt(_))), "without {seq}: {read:?}");
        entries.insert(key, entry).expect("put back");
    }
    let above = entries
        .get(keys::entry(here, Seq(3)))
        .expect("readable")
        .expect("there");
    entries.insert(keys::entry(here, Seq(4)), above).expect("inserted");
    // What the writer has looked at once it does not look at again.
    drop(store);
    let store = open(&data(&folder));
    let behind = store.append(batch(here, Head::default(), &[message("d")])).await;
    assert!(matches!(behind, Err(AppendError::Conflict)), "{behind:?}");
    for time in 1..=2 {
        let refused = append(&store, here, &[message("d")]).await;
        assert!(
            matches!(refused, Err(AppendError::Corrupt(_))),
            "time {time}: {refused:?}"
        );
    }
    store
        .engine
        .keyspace(Space::Index)
        .remove(keys::head(here))
        .expect("removed");
    drop(store);
    let store = open(&data(&folder));
    assert!(matches!(store.head(here).await, Err(ReadError::Corrupt(_))));
    assert!(matches!(
        store.read(here, Seq(1), Seq(3), WIDE).await,
        Err(ReadError::Corrupt(_))
    ));
    let refused = store.append(batch(here, Head::default(), &[message("e")])).await;
    assert!(
        matches!(refused, Err(AppendError::Corrupt(_))),
        "never start again at 1: {refused:?}"
    );
}

fn wish() -> impl Strategy<Value = Wish> {
    let id = 0..60_u32;
    prop_oneof![
        3 => id.clone().prop_map(|number| message(&format!("i{number}"))),
        1 => (id.clone(), 1..15_u64).prop_map(|(number, target)| edit(&format!("i{number}"), target)),
        1 => (id, 1..15_u64).prop_map(|(number, target)| redact(&format!("i{number}"), target)),
    ]
}

/// Any batches, conflicts and redactions included, leave the same log on disk and in memory, through restarts.
#[tokio::test]
async fn the_log_agrees_with_the_log_in_memory() {
    let (store, folder) = fresh();
    let memory = MemoryStore::new(&Host::system());
    let mut store = Some(store);
    let mut runner = TestRunner::deterministic();
    let strategy = proptest::collection::vec((0..3_u16, proptest::collection::vec(wish(), 1..5)), 1..25);
    for _ in 0..12 {
        let disk = store.take().unwrap_or_else(|| open(&data(&folder)));
        for (number, wishes) in strategy.new_tree(&mut runner).expect("a value").current() {
            let here = conversation(number);
            let on_disk = append(&disk, here, &wishes).await.map_err(|error| error.to_string());
            let in_memory = append(&memory, here, &wishes).await.map_err(|error| error.to_string());
            assert_eq!(on_disk, in_memory, "{wishes:?}");
            assert_eq!(everything(&disk, here).await, everything(&memory, here).await);
            assert_eq!(
                disk.head(here).await.expect("readable"),
                memory.head(here).await.expect("readable")
            );
        }
        assert_eq!(
            disk.fanout_pending().await.expect("readable"),
            memory.fanout_pending().await.expect("readable")
        );
    }
}
