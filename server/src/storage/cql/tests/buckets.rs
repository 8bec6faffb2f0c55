//! Buckets: crossing, walking, and what is damage (D6, D7, D8).

use super::super::rows::{blob, conversation as key};
use super::*;
use crate::domain::Seq;
use crate::storage::contract::samples::{WIDE, append, batch, conversation, everything, id, message, sender, seqs};
use crate::storage::{AppendError, Head, PageLimit, ReadError};

const SMALL: u64 = 64;

/// Fills the conversation up to a seq, never over the edge of a bucket.
async fn fill(store: &CqlStore, number: u16, to: u64) {
    let here = conversation(number);
    let head = store.head(here).await.expect("readable");
    let mut next = head.map_or(0, |head| head.seq.0) + 1;
    while next <= to {
        let last = to.min(next / SMALL * SMALL + SMALL - 1);
        let wishes: Vec<_> = (next..=last).map(|seq| message(&format!("m{seq}"))).collect();
        append(store, here, &wishes).await.expect("appended");
        next = last + 1;
    }
}

#[tokio::test]
async fn a_log_goes_on_over_buckets_and_nothing_in_it_is_lost() {
    let Some((one, other)) = two(SMALL).await else { return };
    let here = conversation(1);
    fill(&one, 1, 200).await;
    for store in [&one, &other] {
        assert_eq!(
            store.head(here).await.expect("readable").map(|head| head.seq),
            Some(Seq(200))
        );
        assert_eq!(seqs(&everything(store, here).await), (1..=200).collect::<Vec<_>>());
        let middle = PageLimit { entries: 10, ..WIDE };
        let page = store.read(here, Seq(60), Seq(300), middle).await.expect("readable");
        assert_eq!(seqs(&page), (60..70).collect::<Vec<_>>());
        for (name, known_head) in [("m1", 0), ("m63", 62), ("m64", 63), ("m64", 0), ("m200", 5)] {
            let found = store
                .find(here, &sender("ada", "phone"), &id(name), Seq(known_head))
                .await;
            let place = found.expect("readable").map(|prior| format!("m{}", prior.seq.0));
            assert_eq!(place.as_deref(), Some(name));
        }
    }
}

#[tokio::test]
async fn a_batch_over_an_edge_and_a_bucket_before_its_time_are_refused() {
    let Some(store) = fresh(SMALL).await else { return };
    let here = conversation(1);
    fill(&store, 1, 60).await;
    let wishes: Vec<_> = (0..5).map(|number| message(&format!("x{number}"))).collect();
    let refused = append(&store, here, &wishes).await;
    assert!(matches!(refused, Err(AppendError::NotDone(_))), "{refused:?}");
    let head = store.head(here).await.expect("readable").expect("a head");
    let early = Head { seq: Seq(63), ..head };
    let refused = store.append(batch(here, early, &[message("early")])).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    let nowhere = store.append(batch(conversation(2), early, &[message("early")])).await;
    assert!(matches!(nowhere, Err(AppendError::Conflict)), "{nowhere:?}");
    fill(&store, 1, 63).await;
    assert_eq!(
        store.head(here).await.expect("readable").map(|head| head.seq),
        Some(Seq(63))
    );
    fill(&store, 1, 64).await;
    assert_eq!(seqs(&everything(&store, here).await).last(), Some(&64));
}

#[tokio::test]
async fn the_newest_id_is_found_in_earlier_buckets() {
    let Some(store) = fresh(SMALL).await else { return };
    let here = conversation(1);
    let mut quiet = message("quiet");
    quiet.sender = sender("bob", "web");
    append(&store, here, &[quiet]).await.expect("appended");
    fill(&store, 1, 200).await;
    let newest = store.newest_id(here, &sender("bob", "web")).await.expect("readable");
    assert_eq!(newest, Some(id("quiet")));
    let newest = store.newest_id(here, &sender("ada", "phone")).await.expect("readable");
    assert_eq!(newest, Some(id("m200")));
    let nobody = store.newest_id(here, &sender("cyd", "web")).await.expect("readable");
    assert_eq!(nobody, None);
}

/// T6: also for a node that never saw the conversation.
#[tokio::test]
async fn a_head_that_is_gone_is_damage_and_never_a_new_start() {
    let Some((one, other)) = two(SMALL).await else { return };
    for (number, lost) in [
        (1, "DELETE FROM log WHERE conversation = ? AND bucket = 0"),
        (
            2,
            "DELETE head, append_id FROM log WHERE conversation = ? AND bucket = 0",
        ),
    ] {
        let here = conversation(number);
        append(&one, here, &[message("a")]).await.expect("appended");
        one.by_hand(lost, vec![key(here)]).await;
        for store in [&one, &other] {
            let head = store.head(here).await;
            assert!(matches!(head, Err(ReadError::Corrupt(_))), "{lost}: {head:?}");
            let again = store.append(batch(here, Head::default(), &[message("b")])).await;
            assert!(matches!(again, Err(AppendError::Corrupt(_))), "{lost}: {again:?}");
        }
    }
}

#[tokio::test]
async fn a_hole_is_damage_and_no_page_passes_it() {
    let Some(store) = fresh(SMALL).await else { return };
    let here = conversation(1);
    fill(&store, 1, 5).await;
    let hole = "DELETE FROM log WHERE conversation = ? AND bucket = 0 AND kind = 0 AND seq = 3 AND key = ?";
    store.by_hand(hole, vec![key(here), blob(&[])]).await;
    let read = store.read(here, Seq(1), Seq(5), WIDE).await;
    assert!(matches!(read, Err(ReadError::Corrupt(_))), "{read:?}");
    let before = store.read(here, Seq(1), Seq(2), WIDE).await;
    assert_eq!(seqs(&before.expect("before the hole")), [1, 2]);
}

/// A keyspace is never read with buckets of another size, and a store comes back as itself.
#[tokio::test]
async fn a_keyspace_keeps_its_id_and_its_buckets() {
    let Some(options) = options(SMALL).await else { return };
    let first = open(&options).await;
    assert_eq!(open(&options).await.store_id(), first.store_id());
    let mut larger = options.clone();
    larger.bucket_seqs = 2 * SMALL;
    let refused = CqlStore::open(larger, &Host::system()).await.err();
    assert!(matches!(refused, Some(super::super::CqlError::Unfit(_))), "{refused:?}");
    let mut named = options;
    named.keyspace = "x' OR".to_owned();
    let refused = CqlStore::open(named, &Host::system()).await.err();
    assert!(matches!(refused, Some(super::super::CqlError::Unfit(_))), "{refused:?}");
}

/// What an append costs once a conversation is known: the batch, and no more.
#[tokio::test]
async fn an_append_to_a_known_conversation_is_one_request() {
    let Some(store) = fresh(BUCKET_SEQS).await else { return };
    let here = conversation(1);
    append(&store, here, &[message("a")]).await.expect("appended");
    let head = store.head(here).await.expect("readable").expect("a head");
    let before = store.operations();
    let appended = store.append(batch(here, head, &[message("b")])).await;
    appended.expect("appended");
    assert_eq!(store.operations() - before, 1);
    store.inner.hints.forget();
    assert_eq!(
        store.head(here).await.expect("readable").map(|head| head.seq),
        Some(Seq(2))
    );
}
