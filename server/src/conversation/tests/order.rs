//! One order, no duplicates, a sender's order (I2, I3, I4), and time that never goes back (T13's rule).

use futures_util::future::join_all;

use super::bed::{Bed, caller, id, request, text};
use crate::conversation::{Caller, Limits};
use crate::domain::{DeviceId, Reason, Seq};

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

#[tokio::test]
async fn i9_a_full_queue_refuses_as_not_done_and_the_retry_succeeds() {
    let limits = Limits {
        appends_per_second: 10,
        ..Limits::default()
    };
    let bed = Bed::with(&["alice"], limits, |log| log).await;
    let group = bed.group("alice", &[]).await;
    let ids: Vec<String> = (0..30).map(|n| format!("m{n}")).collect();
    let answers = join_all(ids.iter().map(|msg_id| bed.append("alice", group, msg_id, text("x")))).await;
    let refused = answers.iter().position(Result::is_err).unwrap();
    let refusal = answers[refused].as_ref().unwrap_err();
    assert!(matches!(refusal.reason, Reason::RateLimited { retry_after_ms } if retry_after_ms > 0));
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(1)).await;
    assert!(
        !bed.append("alice", group, &ids[refused], text("x"))
            .await
            .unwrap()
            .duplicate
    );
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
