//! Fan-out pending among several processes: marks that are there before an append, go with their round, and are taken over from
//! who is gone.

use std::time::Duration;

use super::super::marks::LANDED_WITHIN;
use super::*;
use crate::domain::Seq;
use crate::storage::LeftFanout;
use crate::storage::contract::samples::{append, conversation, message};

async fn rows(store: &CqlStore, table: &str) -> usize {
    let rows = store.inner.client.ask(&format!("SELECT writer FROM {table}")).await;
    rows.expect("readable").len()
}

/// Everything is this process's to look after.
async fn left(store: &CqlStore) -> Vec<LeftFanout> {
    store.fanout_left(&|_| true).await.expect("readable")
}

impl CqlStore {
    /// Looks as if it were so much later since the last writer showed life.
    async fn left_after(&self, silence: Duration) -> Vec<LeftFanout> {
        self.inner.left.age(silence);
        left(self).await
    }

    /// The present round ends, as after some seconds without appends.
    async fn ends_its_round(&self) {
        self.inner.marks.end_round();
        self.inner.sweep_marks().await;
    }
}

fn of_another(id: crate::domain::ConversationId, from: u64) -> LeftFanout {
    LeftFanout {
        conversation: id,
        from: Seq(from),
        own: false,
    }
}

/// I5: what is appended is marked before, once for many entries, and the marks go with their round when everything in it was fanned
/// out, not before.
#[tokio::test]
async fn i5_a_round_goes_when_everything_in_it_was_fanned_out() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let (here, there) = (conversation(1), conversation(2));
    append(&store, here, &[message("a"), message("b")])
        .await
        .expect("appended");
    append(&store, here, &[message("c")]).await.expect("appended");
    append(&store, there, &[message("d")]).await.expect("appended");
    assert_eq!((rows(&store, "marks").await, rows(&store, "writers").await), (2, 1));
    store.fanout_done(here, Seq(3)).await;
    store.ends_its_round().await;
    assert_eq!(rows(&store, "marks").await, 2, "one of the two is pending");
    assert_eq!(store.fanout_pending().await.expect("readable"), [(there, Seq(1))]);
    store.fanout_done(there, Seq(1)).await;
    store.ends_its_round().await;
    assert_eq!(rows(&store, "marks").await, 0);
    append(&store, here, &[message("e")]).await.expect("appended");
    assert_eq!(store.fanout_pending().await.expect("readable"), [(here, Seq(4))]);
}

/// I5: a conversation that is never done keeps no old rounds: its mark moves to the newest, and is there all the time.
#[tokio::test]
async fn i5_what_stays_open_is_marked_again() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let (stuck, busy) = (conversation(1), conversation(2));
    append(&store, stuck, &[message("a"), message("b")])
        .await
        .expect("appended");
    store.fanout_done(stuck, Seq(1)).await;
    for number in 1..=12 {
        append(&store, busy, &[message(&format!("m{number}"))])
            .await
            .expect("appended");
        store.fanout_done(busy, Seq(number)).await;
        store.ends_its_round().await;
        assert_eq!(store.fanout_pending().await.expect("readable"), [(stuck, Seq(2))]);
    }
    assert!(
        store.inner.marks.rounds_open() <= 9,
        "{} are",
        store.inner.marks.rounds_open()
    );
}

/// I5: what a process that died left is found by whoever is responsible for it, and by nobody else; whoever adopts it is found in
/// its place should they die as well; what lands late is found once more; and in the end nothing is left of the dead.
#[tokio::test]
async fn i5_what_a_dead_process_left_is_taken_over() {
    let Some(options) = options(BUCKET_SEQS).await else {
        return;
    };
    let (dead, successor) = (open(&options).await, open(&options).await);
    let here = conversation(1);
    append(&dead, here, &[message("a"), message("b")])
        .await
        .expect("appended");
    dead.inner.marks.fall_silent();
    assert!(left(&successor).await.is_empty(), "it was only just seen");
    let none = successor.fanout_left(&|_| false).await.expect("readable");
    assert!(none.is_empty(), "somebody else is responsible");
    let silence = Duration::from_secs(3);
    assert_eq!(successor.left_after(silence).await, [of_another(here, 1)]);
    assert_eq!(successor.fanout_own(here).await.expect("readable"), None);
    assert_eq!(successor.adopt_fanout(here, Seq(1)).await.expect("adopted"), Seq(2));
    assert_eq!(successor.fanout_own(here).await.expect("readable"), Some(Seq(1)));
    successor.fanout_adopted(here, Seq(2)).await;
    assert!(left(&successor).await.is_empty(), "it is in hands");
    successor.inner.marks.fall_silent();
    let third = open(&options).await;
    left(&third).await;
    let of_both = third.left_after(silence).await;
    assert_eq!(of_both, [of_another(here, 1), of_another(here, 1)], "one for each");
    successor.inner.marks.wake_up();
    // It was under way when its sender died.
    append(&dead, here, &[message("late")]).await.expect("appended");
    assert_eq!(successor.left_after(silence * 10).await, [of_another(here, 3)]);
    successor.adopt_fanout(here, Seq(3)).await.expect("adopted");
    successor.fanout_adopted(here, Seq(3)).await;
    successor.fanout_done(here, Seq(3)).await;
    successor.ends_its_round().await;
    assert!(rows(&successor, "marks").await > 0, "it may still come to itself");
    assert!(successor.left_after(LANDED_WITHIN).await.is_empty());
    assert_eq!(rows(&successor, "marks").await, 0);
}

/// I5: a process that was taken for dead and lives is seen again with its next append.
#[tokio::test]
async fn i5_who_was_taken_for_dead_is_seen_again() {
    let Some((slow, other)) = two(BUCKET_SEQS).await else {
        return;
    };
    let here = conversation(1);
    append(&slow, here, &[message("a")]).await.expect("appended");
    slow.fanout_done(here, Seq(1)).await;
    slow.inner.marks.fall_silent();
    left(&other).await;
    other.fanout_adopted(here, Seq(1)).await;
    assert!(other.left_after(LANDED_WITHIN).await.is_empty());
    assert_eq!(rows(&other, "writers").await, 0, "forgotten");
    slow.inner.marks.age(LANDED_WITHIN);
    slow.inner.marks.wake_up();
    append(&slow, here, &[message("b")]).await.expect("appended");
    slow.inner.marks.fall_silent();
    left(&other).await;
    assert_eq!(other.left_after(Duration::from_secs(3)).await, [of_another(here, 2)]);
}

/// I5: an append whose outcome nobody was told, and which was stored, makes no progress here: whoever stored it is told to go on.
#[tokio::test]
async fn i5_what_makes_no_progress_is_named() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let here = conversation(1);
    append(&store, here, &[message("a")]).await.expect("appended");
    assert!(left(&store).await.is_empty());
    store.inner.marks.age(Duration::from_secs(7));
    let stuck = LeftFanout {
        own: true,
        ..of_another(here, 1)
    };
    assert_eq!(left(&store).await, [stuck]);
    store.fanout_done(here, Seq(1)).await;
    assert!(left(&store).await.is_empty());
}

/// I9: who stops in order leaves nothing for others to look after.
#[tokio::test]
async fn i9_who_retires_leaves_nothing() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    append(&store, conversation(1), &[message("a")])
        .await
        .expect("appended");
    store.fanout_done(conversation(1), Seq(1)).await;
    store.retire().await;
    assert_eq!(rows(&store, "marks").await, 0);
    let other = store.inner.writers().await.expect("readable");
    assert!(other.values().all(|row| row.oldest > row.newest), "{other:?}");
}
