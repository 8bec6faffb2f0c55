//! Migration between embedded and memory stores: everything is the same there, also after a stop in the middle, and
//! nothing is mixed.

mod bed;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use self::bed::{
    Failing, NOW, SAMPLE, Told, alice, copy, embedded, entries, furnish, host, lengthen, memory, message, newest,
    picture, rules, send,
};
use super::{MigrateError, Migrated, Verify, migrate};
use crate::conversation::{AppendRequest, Backends};
use crate::domain::Change;
use crate::storage::contract::doubled_log::Doubled;
use crate::transfer::import;

#[tokio::test]
async fn i2_everything_is_the_same_in_memory_and_back_in_a_folder() {
    let (first, between, last) = (embedded(1).await, memory(2), embedded(3).await);
    furnish(&first.backends).await;
    let there = copy(&first.backends, &between).await;
    assert!(there.is_whole(), "{:?} {:?}", there.refused, there.differences);
    assert!(
        there.entries > 80 && there.compared == there.entries && there.known == 0,
        "{there:?}"
    );
    let back = copy(&between, &last.backends).await;
    assert!(back.is_whole(), "{:?} {:?}", back.refused, back.differences);
    let before = picture(&first.backends).await;
    assert_eq!(before, picture(&between).await);
    assert_eq!(before, picture(&last.backends).await);
    assert!(before.iter().any(|line| line.contains("Tombstone")));
}

#[tokio::test]
async fn a_second_run_writes_nothing() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let first = copy(&source, &target).await;
    let before = picture(&target).await;
    let second = copy(&source, &target).await;
    let expected = Migrated {
        conversations: first.conversations,
        known: first.entries,
        compared: first.entries,
        ..Migrated::default()
    };
    assert_eq!(second, expected);
    assert_eq!(picture(&target).await, before);
}

#[tokio::test]
async fn i1_a_run_that_stopped_anywhere_goes_on() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let busy = newest(&source).await;
    lengthen(&source, busy).await;
    let mut stops = 0;
    let whole = loop {
        let failing = Backends {
            log: Arc::new(Doubled(Failing {
                inner: Arc::clone(&target.log),
                left: AtomicUsize::new(20),
            })),
            ..target.clone()
        };
        match migrate(&source, &failing, Verify::All, NOW, &mut Told::default()).await {
            Ok(whole) => break whole,
            Err(MigrateError::Append(_)) => stops += 1,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(stops > 2 && whole.is_whole() && whole.known > 0, "{stops} {whole:?}");
    assert_eq!(picture(&source).await, picture(&target).await);
}

#[tokio::test]
async fn i2_a_retry_from_before_is_a_duplicate_after() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let here = newest(&source).await;
    let first = send(&rules(&source), here, "mine", "once").await;
    copy(&source, &target).await;
    let again = send(&rules(&target), here, "mine", "once").await;
    assert!(again.duplicate && again.seq == first.seq, "{again:?}");
    let other = rules(&target)
        .append(&alice(), message(here, "mine", "another text"))
        .await;
    assert!(other.is_err(), "the payload of then counts");
}

/// What goes back is only what is new, and redactions of what was there before reach it.
#[tokio::test]
async fn what_was_said_meanwhile_goes_back() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    let here = newest(&source).await;
    let said = send(&rules(&source), here, "mine", "regret").await;
    copy(&source, &target).await;
    let there = rules(&target);
    let change = Change::Redact {
        target: said.seq,
        reason: String::new(),
    };
    let request = AppendRequest {
        change,
        ..message(here, "redaction", "")
    };
    there.append(&alice(), request).await.unwrap();
    there.drain().await;
    let back = copy(&target, &source).await;
    assert_eq!((back.entries, back.is_whole()), (1, true), "{back:?}");
    assert_eq!(picture(&source).await, picture(&target).await);
}

#[tokio::test]
async fn a_target_with_another_history_is_refused_and_left_alone() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    copy(&source, &target).await;
    let here = newest(&source).await;
    send(&rules(&source), here, "one", "said here").await;
    send(&rules(&target), here, "other", "said there").await;
    send(&rules(&target), here, "more", "and on").await;
    let before = entries(&target, here).await;
    let went_on = copy(&source, &target).await;
    assert!(
        went_on.refused.len() == 1 && went_on.refused[0].why.contains("went on"),
        "{went_on:?}"
    );
    send(&rules(&source), here, "two", "said here").await;
    send(&rules(&source), here, "three", "said here").await;
    let mixed = copy(&source, &target).await;
    assert!(
        mixed.refused.len() == 1 && mixed.refused[0].why.contains("another history"),
        "{mixed:?}"
    );
    assert_eq!(entries(&target, here).await, before);
}

#[tokio::test]
async fn another_conversation_in_the_place_of_one_is_refused() {
    let (source, target) = (memory(1), memory(2));
    furnish(&source).await;
    import(
        &rules(&target),
        &target,
        &host(9),
        SAMPLE.as_bytes(),
        &mut Told::default(),
    )
    .await
    .unwrap();
    let done = copy(&source, &target).await;
    assert!(
        done.conversations == 0 && done.entries == 0 && !done.refused.is_empty(),
        "{done:?}"
    );
}

#[tokio::test]
async fn a_store_is_not_copied_onto_itself() {
    let store = memory(1);
    let refused = migrate(&store, &store, Verify::All, NOW, &mut Told::default()).await;
    assert!(matches!(refused, Err(MigrateError::Same)), "{refused:?}");
}
