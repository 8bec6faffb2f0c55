//! Redactions that reach into full buckets.

use super::super::client::Fault::{LostRequest, Pass};
use super::super::log_table::Strength;
use super::*;
use crate::domain::{Body, Seq};
use crate::storage::AppendError;
use crate::storage::contract::samples::{append, batch, conversation, edit, everything, message, redact};

const SMALL: u64 = 64;

fn is_tombstone(body: &Body, by: u64) -> bool {
    *body == Body::Tombstone { redacted_by: Seq(by) }
}

/// Seqs that are shown as redacted by `by`.
async fn redacted(store: &CqlStore, number: u16, by: u64) -> Vec<u64> {
    let all = everything(store, conversation(number)).await;
    let gone = all.iter().filter(|stored| is_tombstone(&stored.entry.body, by));
    gone.map(|stored| stored.entry.seq.0).collect()
}

/// Seqs whose stored bytes are a tombstone.
async fn replaced(store: &CqlStore, number: u16, seqs: &[u64], by: u64) -> bool {
    for seq in seqs {
        let entry = store.inner.entry_at(conversation(number), Seq(*seq), Strength::Serial);
        let entry = entry.await.expect("readable").expect("stored");
        if !is_tombstone(&entry.entry.body, by) {
            return false;
        }
    }
    true
}

async fn fill(store: &CqlStore, number: u16, to: u64) {
    let here = conversation(number);
    let head = store.head(here).await.expect("readable");
    for seq in head.map_or(0, |head| head.seq.0) + 1..=to {
        append(store, here, &[message(&format!("m{seq}"))])
            .await
            .expect("appended");
    }
}

/// A message at 1, edits at 2 (its bucket), 64 (the next) and 129 (the newest); the head is at 129.
async fn prepared(store: &CqlStore, number: u16) {
    let here = conversation(number);
    append(store, here, &[message("a"), edit("e2", 1)])
        .await
        .expect("appended");
    fill(store, number, 63).await;
    append(store, here, &[edit("e64", 1)]).await.expect("appended");
    fill(store, number, 128).await;
    append(store, here, &[edit("e129", 1)]).await.expect("appended");
}

const REACHED: [u64; 4] = [1, 2, 64, 129];

#[tokio::test]
async fn a_redaction_reaches_target_and_edits_in_every_bucket() {
    let Some((one, other)) = two(SMALL).await else { return };
    prepared(&one, 1).await;
    append(&other, conversation(1), &[redact("r", 1)])
        .await
        .expect("appended");
    for store in [&one, &other] {
        assert_eq!(redacted(store, 1, 130).await, REACHED);
    }
    assert!(replaced(&one, 1, &REACHED, 130).await, "the bytes are gone");
}

/// A crash right after the batch: the old bytes lie there, and nobody sees them.
#[tokio::test]
async fn what_was_not_replaced_is_hidden_and_replaced_by_the_next_reader() {
    let Some((one, other)) = two(SMALL).await else { return };
    prepared(&one, 1).await;
    // Two marks, the batch, and then nothing reaches the servers any more.
    one.let_happen(&[Pass, Pass, Pass, LostRequest, LostRequest]);
    append(&one, conversation(1), &[redact("r", 1)])
        .await
        .expect("appended");
    assert!(!replaced(&one, 1, &[1], 130).await);
    assert_eq!(redacted(&other, 1, 130).await, REACHED);
    assert!(replaced(&one, 1, &REACHED, 130).await, "the reader did it");
    assert_eq!(redacted(&one, 1, 130).await, REACHED);
}

/// A redaction that lost its place has no effect, whatever it left in older buckets.
#[tokio::test]
async fn a_redaction_that_was_never_appended_hides_nothing() {
    let Some((one, other)) = two(SMALL).await else { return };
    prepared(&one, 1).await;
    let here = conversation(1);
    let head = one.head(here).await.expect("readable").expect("a head");
    append(&other, here, &[message("faster")]).await.expect("appended");
    let refused = one.append(batch(here, head, &[redact("r", 1)])).await;
    assert!(matches!(refused, Err(AppendError::Conflict)), "{refused:?}");
    for store in [&one, &other] {
        assert!(redacted(store, 1, 130).await.is_empty());
    }
    append(&one, here, &[redact("r", 1)]).await.expect("appended");
    assert_eq!(redacted(&other, 1, 131).await, REACHED);
    append(&one, here, &[redact("again", 1)]).await.expect("appended");
    assert_eq!(redacted(&other, 1, 131).await, REACHED, "the first redaction stays");
}
