//! One order, no duplicates, a sender's order (I2, I3, I4), and time that never goes back (T13's rule).

use std::time::Duration;

use futures_util::future::join_all;

use super::bed::{Bed, caller, direct, id, request, text};
use super::lying_log::gated;
use crate::conversation::limits::{QUEUE_BYTES_MAX, QUEUE_MAX};
use crate::conversation::{Appended, Caller, Limits};
use crate::domain::limits::TEXT_BYTES_MAX;
use crate::domain::{Change, ConversationId, DeviceId, Effect, Reason, Refusal, Seq};

#[tokio::test]
async fn i3_pipelined_sends_take_places_in_order_without_holes() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    let ids: Vec<String> = (0..200).map(|n| format!("m{n}")).collect();
    let answers = join_all(ids.iter().map(|msg_id| bed.send("alice", group, msg_id))).await;
    let seqs: Vec<u64> = answers.iter().map(|answer| answer.seq.0).collect();
    assert_eq!(seqs, (2..202).collect::<Vec<u64>>());
}

#[tokio::test]
async fn i2_t3_a_retry_gets_the_first_seq_after_any_number_of_messages_and_a_restart() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    let first = bed.send("alice", group, "first").await;
    for chunk in 0..5 {
        let ids: Vec<String> = (0..200).map(|n| format!("filler-{chunk}-{n}")).collect();
        join_all(ids.iter().map(|msg_id| bed.send("alice", group, msg_id))).await;
    }
    let again = bed.send("alice", group, "first").await;
    assert_eq!((again.seq, again.duplicate, again.time), (first.seq, true, first.time));
    let restarted = bed.other_node();
    let third = restarted
        .append(&caller("alice"), request(group, "first", text("first")))
        .await
        .unwrap();
    assert_eq!((third.seq, third.duplicate), (first.seq, true));
}

#[tokio::test]
async fn i2_d10_the_same_id_with_another_payload_is_refused_with_the_stored_seq() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    let first = bed.append("alice", group, "m", text("one")).await.unwrap();
    let refusal = bed.append("alice", group, "m", text("two")).await.unwrap_err();
    assert_eq!(refusal.reason, Reason::ClientMsgIdReused { stored: first.seq });
    let (retry, other) = futures_util::join!(
        bed.append("alice", group, "both", text("one")),
        bed.append("alice", group, "both", text("two"))
    );
    let stored = retry.unwrap().seq;
    assert_eq!(other.unwrap_err().reason, Reason::ClientMsgIdReused { stored });
}

#[tokio::test]
async fn i2_ids_are_scoped_to_the_device() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    let phone = bed.send("alice", group, "m").await;
    let tablet = Caller {
        device: Some(DeviceId::parse("tablet").unwrap()),
        ..caller("alice")
    };
    let other = bed
        .conversations
        .append(&tablet, request(group, "m", text("m")))
        .await
        .unwrap();
    assert_eq!((other.seq, other.duplicate), (phone.seq.next(), false));
}

#[tokio::test]
async fn i4_a_named_predecessor_must_be_the_newest_entry_of_the_device() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    bed.send("alice", group, "a").await;
    let behind = |msg_id: &str, previous: &str| {
        let mut request = request(group, msg_id, text(msg_id));
        request.previous = Some(id(previous));
        request
    };
    let me = caller("alice");
    let (lost, follower) = futures_util::join!(
        bed.conversations.append(&me, behind("c", "b")),
        bed.conversations.append(&me, behind("d", "c")),
    );
    let last = Some(id("a"));
    assert_eq!(lost.unwrap_err().reason, Reason::OutOfOrder { last: last.clone() });
    assert_eq!(follower.unwrap_err().reason, Reason::OutOfOrder { last });
    let (b, c) = futures_util::join!(
        bed.conversations.append(&me, behind("b", "a")),
        bed.conversations.append(&me, behind("c", "b")),
    );
    assert_eq!((b.unwrap().seq, c.unwrap().seq), (Seq(3), Seq(4)));
    // A retry is a duplicate first, whatever it names as predecessor.
    assert!(bed.conversations.append(&me, behind("b", "a")).await.unwrap().duplicate);
}

#[tokio::test]
async fn t5_batches_never_straddle_a_bucket_of_four() {
    let limits = Limits {
        bucket_seqs: 4,
        ..Limits::default()
    };
    let bed = Bed::with(&["alice"], limits, super::lying_log::bucket_checked(4)).await;
    let group = bed.group("alice", &[]).await;
    let ids: Vec<String> = (0..400).map(|n| format!("m{n}")).collect();
    for batch in ids.chunks(7) {
        join_all(batch.iter().map(|msg_id| bed.send("alice", group, msg_id))).await;
    }
    assert_eq!(bed.send("alice", group, "last").await.seq, Seq(402));
}

#[tokio::test]
async fn c7_server_time_never_decreases_when_the_clock_jumps_back() {
    let bed = Bed::new(&["alice"]).await;
    let group = bed.group("alice", &[]).await;
    bed.clock.set(5_000_000);
    let before = bed.send("alice", group, "a").await;
    bed.clock.set(1_000);
    let after = bed.send("alice", group, "b").await;
    assert!(after.time >= before.time);
    let restarted = bed.other_node();
    let later = restarted
        .append(&caller("alice"), request(group, "c", text("c")))
        .await
        .unwrap();
    assert!(later.time >= after.time);
}

/// I9, C9: over its rate a conversation stores nothing and looks nothing up, so it denies nothing: a retry of what is stored
/// is refused like everybody, and finds out later.
#[tokio::test(start_paused = true)]
async fn i9_c9_over_the_rate_is_refused_as_unknown_and_the_retry_tells() {
    let limits = Limits {
        appends_per_second: 10,
        ..Limits::default()
    };
    let bed = Bed::with(&["alice"], limits, |log| log).await;
    let group = bed.group("alice", &[]).await;
    let stored = bed.send("alice", group, "m0").await;
    let ids: Vec<String> = (1..30).map(|n| format!("m{n}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).chain(["m0"]).collect();
    let answers = join_all(ids.iter().map(|id| bed.append("alice", group, id, text(id)))).await;
    let refused: Vec<&str> = ids
        .iter()
        .zip(&answers)
        .filter(|(_, answer)| answer.is_err())
        .map(|(id, _)| *id)
        .collect();
    assert_eq!((refused.len(), refused.last()), (21, Some(&"m0")));
    for refusal in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(refusal.reason, Reason::RateLimited { retry_after_ms } if retry_after_ms > 0));
        assert_eq!(refusal.effect, Effect::Unknown, "{refusal:?}");
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    let again = bed.send("alice", group, "m0").await;
    assert_eq!((again.seq, again.duplicate), (stored.seq, true));
    assert!(!bed.send("alice", group, refused[0]).await.duplicate);
}

/// Answers of as many sends as there are, each of `change`, while the store keeps the conversation waiting with the first.
async fn sent_while_held(sends: usize, change: Change) -> (Bed, ConversationId, Vec<Result<Appended, Refusal>>) {
    let mut gate = None;
    let gated = |log| {
        let (held, log) = gated(log);
        gate = Some(held);
        log
    };
    let bed = Bed::with(&["alice"], Limits::default(), gated).await;
    let mut gate = gate.unwrap();
    let group = bed.group("alice", &[]).await;
    gate.open.send_replace(false);
    let before = *gate.came.borrow_and_update();
    let (rules, held) = (bed.conversations.clone(), request(group, "held", text("held")));
    let held = tokio::spawn(async move { rules.append(&caller("alice"), held).await });
    gate.came.wait_for(|came| *came > before).await.unwrap();
    let ids: Vec<String> = (0..sends).map(|n| format!("m{n}")).collect();
    let sends = join_all(ids.iter().map(|id| bed.append("alice", group, id, change.clone())));
    let opens = async { gate.open.send_replace(true) };
    let (answers, _) = futures_util::join!(sends, opens);
    assert_eq!(held.await.unwrap().unwrap().seq, Seq(2));
    (bed, group, answers)
}

/// The first ones are stored, in order, and all others refused with doubt; how many were stored.
fn stored_then_refused(answers: &[Result<Appended, Refusal>]) -> usize {
    let stored = answers.iter().take_while(|answer| answer.is_ok()).count();
    for (answer, seq) in answers[..stored].iter().zip(3..) {
        assert_eq!(answer.as_ref().unwrap().seq, Seq(seq));
    }
    for refusal in answers[stored..].iter().map(|answer| answer.as_ref().unwrap_err()) {
        assert!(matches!(refusal.reason, Reason::RateLimited { retry_after_ms } if retry_after_ms > 0));
        assert_eq!(refusal.effect, Effect::Unknown, "{refusal:?}");
    }
    stored
}

/// I9, C9: the queue of a conversation that the store keeps waiting holds 256, and who finds it full is told that an earlier
/// try may have got in.
#[tokio::test]
async fn i9_c9_a_full_queue_refuses_as_unknown_and_the_retry_succeeds() {
    let (bed, group, answers) = sent_while_held(QUEUE_MAX + 10, text("short")).await;
    assert_eq!(stored_then_refused(&answers), QUEUE_MAX);
    for (number, known) in [(0, true), (QUEUE_MAX, false)] {
        let again = bed.append("alice", group, &format!("m{number}"), text("short")).await;
        assert_eq!(again.unwrap().duplicate, known);
    }
}

/// I9: long texts fill the queue by their bytes, long before it is full by count; once they are stored there is room again.
#[tokio::test]
async fn i9_a_queue_is_bounded_by_bytes_as_well() {
    let long = || text(&"x".repeat(TEXT_BYTES_MAX));
    let (bed, group, answers) = sent_while_held(100, long()).await;
    let stored = stored_then_refused(&answers);
    assert!((48..=QUEUE_BYTES_MAX / TEXT_BYTES_MAX).contains(&stored), "{stored}");
    let again = bed.append("alice", group, &format!("m{stored}"), long()).await;
    assert!(!again.unwrap().duplicate);
}

/// C9: the same for a node that goes down, whatever has an id.
#[tokio::test]
async fn c9_a_node_that_goes_down_denies_nothing() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed.group("alice", &[]).await;
    bed.send("alice", group, "m").await;
    bed.conversations.drain().await;
    let retry = bed.append("alice", group, "m", text("m")).await.unwrap_err();
    let asked = direct("alice", "bob", "create");
    let create = bed.conversations.create(&caller("alice"), asked).await.unwrap_err();
    for refusal in [retry, create] {
        assert!(matches!(refusal.reason, Reason::Unavailable { .. }), "{refusal:?}");
        assert_eq!(refusal.effect, Effect::Unknown, "{refusal:?}");
    }
}

#[tokio::test]
async fn i3_two_nodes_that_both_believe_they_own_it_keep_one_order() {
    let bed = Bed::new(&["alice", "bob"]).await;
    let group = bed
        .group("alice", &[super::bed::member("bob", crate::domain::Role::Member)])
        .await;
    let other = bed.other_node();
    let sends = (0..50).map(|n| {
        let (here, other) = (&bed.conversations, &other);
        async move {
            let (one, two) = (format!("a{n}"), format!("b{n}"));
            let alice = caller("alice");
            let bob = caller("bob");
            let one = here.append(&alice, request(group, &one, text("x"))).await;
            let two = other.append(&bob, request(group, &two, text("x"))).await;
            [one, two]
        }
    });
    let mut seqs: Vec<u64> = join_all(sends)
        .await
        .into_iter()
        .flatten()
        .map(|answer| answer.unwrap().seq.0)
        .collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (2..102).collect::<Vec<u64>>());
}
