//! Registers that several nodes write, and what a catch-up costs.

use super::super::rows::{conversation as key, text};
use super::*;
use crate::domain::{Counted, MarkerSet, Ordinal, Seq, UnixMillis};
use crate::storage::contract::samples::{conversation, device, user};
use crate::storage::{ChangeStamp, FanoutRecord, InboxHead, InboxRaise, MarkerRaise};
use crate::telemetry::meters::meters;
use stonechat_host::{Clock, SystemClock};

fn head(seq: u64) -> InboxHead {
    InboxHead {
        seq: Seq(seq),
        ordinal: Ordinal(seq),
        time: UnixMillis(5),
    }
}

fn raise(seq: u64) -> MarkerRaise {
    MarkerRaise {
        user: user("ada"),
        conversation: conversation(1),
        markers: MarkerSet {
            delivered: Seq(seq),
            ..MarkerSet::default()
        },
        device: Some((device("phone"), Seq(seq))),
    }
}

/// T9, D15: a write with the time of a clock hides all later ones; it is noticed.
#[tokio::test]
async fn a_marker_written_by_hand_is_noticed() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let (ada, here) = (user("ada"), conversation(1));
    store.raise(vec![raise(3)]).await.expect("raised");
    store.get(&ada, here).await.expect("readable");
    store
        .device_positions(&ada, &device("phone"), &[here])
        .await
        .expect("readable");
    assert_eq!(store.foreign_writes(), 0);
    let by_hand = "UPDATE markers SET delivered = 4 WHERE user = 'ada' AND device = '' AND conversation = ?";
    store.by_hand(by_hand, vec![key(here)]).await;
    store.get(&ada, here).await.expect("readable");
    assert_eq!(store.foreign_writes(), 1);
    let by_hand = "UPDATE markers SET position = 4 WHERE user = 'ada' AND device = 'phone' AND conversation = ?";
    store.by_hand(by_hand, vec![key(here)]).await;
    // As each hello does.
    let looked = store.device_positions(&ada, &device("phone"), &[here]).await;
    looked.expect("readable");
    assert!(store.foreign_writes() > 1);
    store.raise(vec![raise(9)]).await.expect("raised");
    let positions = store.device_positions(&ada, &device("phone"), &[here]).await;
    assert_eq!(positions.expect("readable"), [Seq(9)], "a position heals by itself");
}

/// D15: the same of a row of an inbox, by whichever way it is read.
#[tokio::test]
async fn an_inbox_row_written_by_hand_is_noticed() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let (ada, here) = (user("ada"), conversation(1));
    let head = InboxHead {
        seq: Seq(3),
        ..InboxHead::default()
    };
    let users = std::slice::from_ref(&ada);
    store.raise_inbox(users, here, head, false).await.expect("raised");
    let look = async || {
        store.inbox_row(&ada, here).await.expect("readable").expect("a row");
        store.foreign_writes()
    };
    assert_eq!(look().await, 0);
    let by_hand = "UPDATE inbox SET head = 4 WHERE user = 'ada' AND conversation = ?";
    store.by_hand(by_hand, vec![key(here)]).await;
    assert_eq!(look().await, 1);
    let before = meters().foreign_writes.get();
    let by_hand = "UPDATE inbox USING TIMESTAMP 9000000000000000000 SET change = 4 \
                   WHERE user = 'ada' AND conversation = ?";
    store.by_hand(by_hand, vec![key(here)]).await;
    assert_eq!(look().await, 3);
    assert!(meters().foreign_writes.get() >= before + 2, "operators see it");
}

/// No register is written at the time of a clock, whichever way it came.
#[tokio::test]
async fn no_write_of_a_marker_has_the_time_of_a_clock() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let (ada, phone, here) = (user("ada"), device("phone"), conversation(1));
    store.raise(vec![raise(8)]).await.expect("raised");
    store.raise_synced(&ada, &phone, ChangeStamp(1 << 60)).await;
    store
        .set_device_positions(&ada, &phone, &[(here, Seq(2))])
        .await
        .expect("set");
    store.forget_device(&ada, &phone).await.expect("forgotten");
    let times = "SELECT WRITETIME(delivered), WRITETIME(position), WRITETIME(synced) FROM markers WHERE user = ?";
    let statement = store.inner.client.prepare(times).await.expect("well-formed");
    let rows: Vec<(Option<i64>, Option<i64>, Option<i64>)> = store
        .inner
        .client
        .rows(&statement, vec![text("ada")])
        .await
        .expect("readable");
    assert!(rows.len() >= 3);
    for (delivered, position, synced) in rows {
        for time in [delivered, position, synced].into_iter().flatten() {
            assert!(time < 1 << 50, "{time}");
        }
    }
}

/// A raise of before a device lost its data must not come back, and the other node sees the device where it is.
#[tokio::test]
async fn a_position_that_went_down_is_down_on_every_node() {
    let Some((one, other)) = two(BUCKET_SEQS).await else {
        return;
    };
    let (ada, phone, here) = (user("ada"), device("phone"), conversation(1));
    for (raised, set) in [(8, 2), (6, 5), (9, 0)] {
        one.raise(vec![raise(raised)]).await.expect("raised");
        other
            .set_device_positions(&ada, &phone, &[(here, Seq(set))])
            .await
            .expect("set");
        let positions = one.device_positions(&ada, &phone, &[here]).await;
        assert_eq!(positions.expect("readable"), [Seq(set)]);
    }
    assert_eq!(one.foreign_writes() + other.foreign_writes(), 0);
}

#[tokio::test]
async fn stamps_of_two_nodes_are_cursors_of_one_store_and_settle() {
    let Some((one, other)) = two(BUCKET_SEQS).await else {
        return;
    };
    let ada = user("ada");
    one.raise_inbox(std::slice::from_ref(&ada), conversation(1), head(1), false)
        .await
        .expect("raised");
    other
        .raise_inbox(std::slice::from_ref(&ada), conversation(2), head(1), false)
        .await
        .expect("raised");
    let rows = one.inbox_changes(&ada, ChangeStamp(0), 9).await.expect("readable");
    assert_eq!(rows.len(), 2);
    let newest = rows[1].change;
    assert!(one.may_have_given(newest) && other.may_have_given(newest));
    assert!(!one.may_have_given(ChangeStamp(u64::MAX >> 2)));
    let settled = one.settled(newest);
    assert!(settled < rows[0].change, "what may still appear below is not skipped");
    assert_eq!(one.settled(settled), settled);
    let ago = ChangeStamp(u64::try_from(SystemClock.unix_ms() - 31_000).expect("after 1970") << 20);
    assert_eq!(one.settled(ago), ago);
    let again = one.inbox_changes(&ada, settled, 9).await.expect("readable");
    assert_eq!(again, rows);
}

/// I5 at a price: thousands of conversations cost a reconnect a handful of requests.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_catch_up_is_a_few_requests_however_many_conversations() {
    const MANY: u16 = 1_000;
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let (ada, phone) = (user("ada"), device("phone"));
    let all: Vec<_> = (0..MANY).map(conversation).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for part in all.chunks(50).map(<[_]>::to_vec) {
        let (store, ada) = (store.clone(), ada.clone());
        tasks.spawn(async move {
            for id in part {
                let raised = store.raise_inbox(std::slice::from_ref(&ada), id, head(1), false).await;
                raised.expect("raised");
            }
        });
    }
    while let Some(finished) = tasks.join_next().await {
        finished.expect("no panic");
    }
    let positions: Vec<_> = all.iter().map(|id| (*id, Seq(1))).collect();
    store.set_device_positions(&ada, &phone, &positions).await.expect("set");
    let before = store.operations();
    let rows = store
        .inbox_changes(&ada, ChangeStamp(0), usize::MAX)
        .await
        .expect("readable");
    assert_eq!(rows.len(), usize::from(MANY));
    let positions = store.device_positions(&ada, &phone, &all).await.expect("readable");
    assert!(positions.iter().all(|seq| *seq == Seq(1)));
    let sets = store.get_many(&ada, &all).await.expect("readable");
    assert_eq!(sets.len(), usize::from(MANY));
    assert_eq!(store.operations() - before, 3);
}

fn fanned_out(seq: u64) -> FanoutRecord {
    let floor = Counted {
        seq: Seq(seq),
        ordinal: Ordinal(seq),
    };
    FanoutRecord {
        floors: vec![MarkerRaise {
            user: user("ada"),
            conversation: conversation(1),
            markers: MarkerSet {
                unread_floor: floor,
                ..MarkerSet::default()
            },
            device: None,
        }],
        rows: vec![InboxRaise {
            users: vec![user("ada"), user("bob")],
            head: head(seq),
        }],
    }
}

/// Acks and fan-out among people who talk: one write for each user, and nothing is read.
#[tokio::test]
async fn what_is_known_is_not_read_before_it_is_raised() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let (ada, here) = (user("ada"), conversation(1));
    store.raise(vec![raise(1)]).await.expect("raised");
    store.record_fanout(here, fanned_out(1)).await.expect("recorded");
    let before = store.operations();
    store.raise(vec![raise(2)]).await.expect("raised");
    assert_eq!(store.operations() - before, 1, "an ack");
    store.record_fanout(here, fanned_out(2)).await.expect("recorded");
    assert_eq!(store.operations() - before, 3, "and fan-out to two");
    let set = store.get(&ada, here).await.expect("readable");
    assert_eq!((set.delivered, set.unread_floor.seq), (Seq(2), Seq(2)));
    for who in ["ada", "bob"] {
        let row = store.inbox_row(&user(who), here).await.expect("readable");
        assert_eq!(row.map(|row| row.head), Some(head(2)), "{who}");
    }
}

/// I6, T9: what a node knows may be old; what another one wrote stays.
#[tokio::test]
async fn what_another_node_raised_meanwhile_stays() {
    let Some((one, two)) = two(BUCKET_SEQS).await else {
        return;
    };
    let (ada, phone, here) = (user("ada"), device("phone"), conversation(1));
    for (store, seq) in [(&one, 1), (&two, 9), (&one, 5)] {
        store.raise(vec![raise(seq)]).await.expect("raised");
        store.record_fanout(here, fanned_out(seq)).await.expect("recorded");
    }
    let set = one.get(&ada, here).await.expect("readable");
    assert_eq!((set.delivered, set.unread_floor.seq), (Seq(9), Seq(9)));
    let row = one.inbox_row(&ada, here).await.expect("readable");
    assert_eq!(row.map(|row| row.head), Some(head(9)));
    let positions = one.device_positions(&ada, &phone, &[here]).await;
    assert_eq!(positions.expect("readable"), [Seq(9)]);
}

/// I1: a device that lost its data, said so at another node and came back to the first is not believed to have what it had.
#[tokio::test]
async fn a_position_set_back_elsewhere_rises_again_here() {
    let Some((one, two)) = two(BUCKET_SEQS).await else {
        return;
    };
    let (ada, phone, here) = (user("ada"), device("phone"), conversation(1));
    one.raise(vec![raise(9)]).await.expect("raised");
    two.set_device_positions(&ada, &phone, &[(here, Seq(3))])
        .await
        .expect("set back");
    let seen = one.device_positions(&ada, &phone, &[here]).await;
    assert_eq!(seen.expect("readable"), [Seq(3)]);
    one.raise(vec![raise(5)]).await.expect("raised");
    let seen = two.device_positions(&ada, &phone, &[here]).await;
    assert_eq!(seen.expect("readable"), [Seq(5)]);
}
