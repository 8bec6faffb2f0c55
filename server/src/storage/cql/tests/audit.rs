//! Contradictions within a bucket (D3): damage done by hand is found, and what the store writes is none.

use super::super::rows::{blob, conversation as key, number};
use super::*;
use crate::domain::Seq;
use crate::storage::contract::samples::{append, conversation, message, sender};

const SMALL: u64 = 64;

/// Three buckets of several batches each, by two senders.
async fn filled(store: &CqlStore, number: u16) {
    let here = conversation(number);
    for round in 0..30_u64 {
        let wishes: Vec<_> = (0..5)
            .map(|place| {
                let mut wish = message(&format!("m{round}-{place}"));
                wish.sender = sender(if round % 2 == 0 { "ada" } else { "bob" }, "phone");
                wish
            })
            .collect();
        let next = 5 * round + 1;
        let before_edge = usize::try_from((SMALL - next % SMALL).min(5)).expect("small");
        let (one, other) = wishes.split_at(before_edge);
        for part in [one, other].into_iter().filter(|part| !part.is_empty()) {
            append(store, here, part).await.expect("appended");
        }
    }
}

async fn told(store: &CqlStore, number: u16) -> Vec<String> {
    let here = conversation(number);
    let head = store.head(here).await.expect("readable").expect("a head");
    store.contradictions(here, head.seq).await.expect("readable")
}

#[tokio::test]
async fn damage_that_no_append_does_is_found() {
    const ROW: &str = "WHERE conversation = ? AND bucket = ? AND kind = 0 AND seq = ? AND key = ?";
    let Some(store) = fresh(SMALL).await else { return };
    let row = |number: u16, bucket: u64, seq: u64| {
        let key_of = key(conversation(number));
        vec![key_of, self::number(bucket), self::number(seq), blob(&[])]
    };
    for number in 1..=7 {
        filled(&store, number).await;
        assert!(
            told(&store, number).await.is_empty(),
            "{:?}",
            told(&store, number).await
        );
    }
    // Somebody may have written on since the audit began.
    let within = store.contradictions(conversation(1), Seq(139)).await.expect("readable");
    assert!(within.is_empty(), "{within:?}");

    let other_token = format!("UPDATE log SET written_by = ? {ROW}");
    let mut values = vec![blob(&[7; 16])];
    values.extend(row(1, 1, 73));
    store.by_hand(&other_token, values).await;
    found(&store, 1, "has one of another batch in it").await;

    store.by_hand(&format!("DELETE FROM log {ROW}"), row(2, 1, 90)).await;
    found(&store, 2, "entry 90 is missing").await;

    let part = |number: u16, bucket: u64| vec![key(conversation(number)), self::number(bucket)];
    let ids = "DELETE FROM log WHERE conversation = ? AND bucket = ? AND kind = 1";
    store.by_hand(ids, part(3, 0)).await;
    found(&store, 3, "the id of entry 1 leads to nowhere").await;

    let newest = "DELETE FROM log WHERE conversation = ? AND bucket = ? AND kind = 2";
    store.by_hand(newest, part(4, 0)).await;
    found(&store, 4, "and not noted").await;

    let token = "UPDATE log SET append_id = 0x07 WHERE conversation = ? AND bucket = ?";
    store.by_hand(token, part(5, 2)).await;
    found(&store, 5, "is not of the newest entry's batch").await;

    let head = "UPDATE log SET head = 100 WHERE conversation = ? AND bucket = ?";
    store.by_hand(head, part(6, 1)).await;
    // Whoever follows the log stops there; an audit that knows where it ended does not.
    let cut = store.contradictions(conversation(6), Seq(150)).await.expect("readable");
    assert!(cut.iter().any(|why| why.contains("bucket 1 ends at 100")), "{cut:?}");

    let strange = "INSERT INTO log (conversation, bucket, kind, seq, key, place) VALUES (?, ?, 1, 0, 0x07, 3)";
    store.by_hand(strange, part(7, 0)).await;
    found(&store, 7, "an id leads to entry 3, which has another").await;
}

async fn found(store: &CqlStore, number: u16, what: &str) {
    let told = told(store, number).await;
    assert!(told.iter().any(|why| why.contains(what)), "{what}: {told:?}");
}
