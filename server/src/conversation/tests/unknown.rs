//! Unknown outcomes (T1): nothing lost, nothing doubled, nothing hidden, and never a definite "no" that was a yes (C9).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;

use super::bed::{Bed, caller, request, text, user};
use super::lying_log::{Lie, failing, lying, unfound};
use crate::bus::{Event, Topic};
use crate::conversation::Limits;
use crate::domain::{Effect, Reason, Seq};
use crate::storage::ReadError;

#[tokio::test]
async fn t1_every_kind_of_lost_outcome_ends_in_one_entry_per_id() {
    let lies = lying(|number, _| match number % 4 {
        1 => Some(Lie::DoneButUnknown),
        2 => Some(Lie::LostBefore),
        3 => Some(Lie::Conflict),
        _ => None,
    });
    let bed = Bed::with(&["alice"], Limits::default(), lies).await;
    let group = bed.group("alice", &[]).await;
    for round in 0..40 {
        let ids: Vec<String> = (0..5).map(|n| format!("m{round}-{n}")).collect();
        join_all(ids.iter().map(|msg_id| bed.send("alice", group, msg_id))).await;
    }
    let head = bed.backends.log.head(group).await.unwrap().unwrap();
    assert_eq!(head.seq, Seq(201));
}

#[tokio::test]
async fn t1_an_entry_whose_reply_was_lost_is_still_fanned_out() {
    let bed = Bed::with(
        &["alice"],
        Limits::default(),
        lying(|number, _| (number == 1).then_some(Lie::DoneButUnknown)),
    )
    .await;
    let group = bed.group("alice", &[]).await;
    let mut events = bed.backends.bus.subscribe(Topic::User(user("alice"))).await;
    let answer = bed.send("alice", group, "m").await;
    loop {
        if let Event::Entries(entries, _) = events.next().await.unwrap()
            && entries.iter().any(|stored| stored.entry.seq == answer.seq)
        {
            break;
        }
    }
}

#[tokio::test]
async fn i8_a_log_that_never_says_is_answered_as_unknown_and_the_retry_tells() {
    let lies = lying(|number, _| (1..=7).contains(&number).then_some(Lie::LostBefore));
    let bed = Bed::with(&["alice"], Limits::default(), lies).await;
    let group = bed.group("alice", &[]).await;
    let refusal = bed.append("alice", group, "m", text("m")).await.unwrap_err();
    assert_eq!(refusal.effect, Effect::Unknown);
    let mut last = Err(refusal);
    for _ in 0..3 {
        last = bed
            .conversations
            .append(&caller("alice"), request(group, "m", text("m")))
            .await;
    }
    assert_eq!(last.unwrap().seq, Seq(2));
}

#[tokio::test]
async fn c9_after_an_unknown_outcome_no_later_refusal_is_definite() {
    let lies = lying(|number, _| match number {
        1 => Some(Lie::LostBefore),
        2 | 3 => Some(Lie::Refused),
        _ => None,
    });
    let bed = Bed::with(&["alice"], Limits::default(), lies).await;
    let group = bed.group("alice", &[]).await;
    let after_unknown = bed.append("alice", group, "m", text("m")).await.unwrap_err();
    assert_eq!(after_unknown.effect, Effect::Unknown);
    let refused = bed.append("alice", group, "n", text("n")).await.unwrap_err();
    assert_eq!(refused.effect, Effect::NotDone);
    assert_eq!(bed.send("alice", group, "m").await.seq, Seq(2));
}

/// C9: a retry whose duplicate check cannot ask the log may be one of what is stored.
#[tokio::test]
async fn c9_a_retry_that_cannot_be_looked_up_is_not_refused_for_certain() {
    let blind = Arc::new(AtomicBool::new(false));
    let bed = Bed::with(&["alice"], Limits::default(), unfound(&blind)).await;
    let group = bed.group("alice", &[]).await;
    let stored = bed.send("alice", group, "m").await;
    blind.store(true, Ordering::Relaxed);
    let refusal = bed.append("alice", group, "m", text("m")).await.unwrap_err();
    assert!(matches!(refusal.reason, Reason::Unavailable { .. }), "{refusal:?}");
    assert_eq!(refusal.effect, Effect::Unknown, "{refusal:?}");
    blind.store(false, Ordering::Relaxed);
    let again = bed.send("alice", group, "m").await;
    assert_eq!((again.seq, again.duplicate), (stored.seq, true));
}

/// C9: the same, when it is found but cannot be read, and when the conversation cannot be loaded at all.
#[tokio::test]
async fn c9_a_retry_of_what_cannot_be_read_is_not_refused_for_certain() {
    let blind = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&blind);
    let fail = failing(move |_, _, to| {
        let fails = switch.load(Ordering::Relaxed) && to == Seq(2);
        fails.then(|| ReadError::Corrupt("a bad checksum".to_owned()))
    });
    let bed = Bed::with(&["alice"], Limits::default(), fail).await;
    let group = bed.group("alice", &[]).await;
    bed.send("alice", group, "m").await;
    blind.store(true, Ordering::Relaxed);
    for node in [bed.conversations.clone(), bed.other_node()] {
        let retry = node.append(&caller("alice"), request(group, "m", text("m"))).await;
        let refusal = retry.unwrap_err();
        assert_eq!((refusal.reason, refusal.effect), (Reason::Internal, Effect::Unknown));
    }
}
