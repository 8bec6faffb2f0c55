//! Streams that break, are replaced, resume or cannot: nothing is lost, doubled or out of order (sm_SUITE).

use std::collections::BTreeSet;

use stonechat_proto::v1;
use stonechat_proto::v1::CloseReason;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Acks, Bench, Hello, PATIENCE, RawSession, UNHURRIED};

use crate::support::{appended, judge, mark_delivered, markers, pipeline, reaches, seqs};

/// A 1:1 with so many messages of alice.
async fn filled(bench: &mut Bench, messages: u64) -> (String, RawSession, u64) {
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let requests = pipeline(&alice, &room, "before", messages).await;
    let head = seqs(&mut alice, &requests).await.into_iter().max().unwrap_or(0);
    (room, alice, head)
}

fn resuming(bench: &Bench, user: &str, token: &[u8]) -> Hello {
    Hello {
        resume_token: token.to_vec().into(),
        ..bench.hello(user, "phone")
    }
}

/// `resend_unacked_from_replaced_sessions`
#[tokio::test]
async fn what_a_replaced_stream_left_unacknowledged_comes_on_the_newer_one() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, _alice, head) = filled(&mut bench, 10).await;
    let mut old = bench.open_with("bob", bench.hello("bob", "phone"), Acks::Never).await;
    old.stalls();
    reaches(&mut old, &room, head).await;
    markers(&old.request(mark_delivered(&room, 4), PATIENCE).await);
    let new = bench.open("bob", "phone").await;
    assert_eq!(old.end(PATIENCE).await, Some(CloseReason::Replaced));
    assert_eq!(new.observed().seqs(&room), (5..=head).collect::<Vec<u64>>());
    judge(&bench.verdict().await, &[]);
}

/// `resend_unacked_after_resume_timeout`: a token that is worth nothing any more does not resume, and the answer says all the
/// same what the device had acknowledged.
#[tokio::test]
async fn a_token_of_before_a_restart_resumes_nothing_and_loses_nothing() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, alice, head) = filled(&mut bench, 10).await;
    let mut bob = bench.open_with("bob", bench.hello("bob", "phone"), Acks::Never).await;
    reaches(&mut bob, &room, head).await;
    markers(&bob.request(mark_delivered(&room, 4), PATIENCE).await);
    let token = bob.welcome(PATIENCE).await.resume_token;
    bench.server.kill_and_restart().await;
    drop(alice);
    let mut bob = bench
        .open_with("bob", resuming(&bench, "bob", &token), Acks::Each)
        .await;
    bob.until("the end of the backlog", PATIENCE, |seen| seen.caught_up)
        .await;
    let welcome = bob.welcome(PATIENCE).await;
    assert!(!welcome.resumed);
    assert_eq!(welcome.conversations[0].device_seq, 4);
    assert_eq!(bob.observed().seqs(&room), (5..=head).collect::<Vec<u64>>());
    judge(&bench.verdict().await, &[]);
}

/// `resume_expired_session_returns_correct_h`: the server died under sends whose answers were never read. Nothing resumes, and
/// sending each again tells which of them had been stored: all of those, none of the others, each at its one place. The last ones
/// never left the device.
#[tokio::test]
async fn after_a_restart_sending_again_tells_what_was_stored() {
    const OPEN: u64 = 40;
    const SENT: u64 = 30;
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice, _) = filled(&mut bench, 3).await;
    let mut bob = bench.open("bob", "phone").await;
    let token = alice.welcome(PATIENCE).await.resume_token;
    alice.pause();
    pipeline(&alice, &room, "open", SENT).await;
    reaches(&mut bob, &room, 5).await;
    bench.server.kill_and_restart().await;
    alice.cut();
    let before: BTreeSet<String> = bench
        .entries(&room)
        .await
        .into_iter()
        .map(|entry| entry.client_msg_id)
        .collect();
    let mut alice = bench
        .open_with("alice", resuming(&bench, "alice", &token), Acks::Each)
        .await;
    assert!(!alice.welcome(PATIENCE).await.resumed);
    let requests = pipeline(&alice, &room, "open", OPEN).await;
    let mut stored = 0;
    for (number, request) in requests.iter().enumerate() {
        let told = appended(&alice.answer(*request, PATIENCE).await).duplicate;
        assert_eq!(told, before.contains(&format!("open-{number}")), "open-{number}");
        stored += u64::from(told);
    }
    println!("{stored} of {OPEN} had been stored");
    assert!((1..=SENT).contains(&stored), "some were");
    let head = crate::support::head(&bench, &room).await;
    assert_eq!(head, 4 + OPEN, "each is there once");
    let mut bob = bench.open("bob", "phone").await;
    reaches(&mut alice, &room, head).await;
    reaches(&mut bob, &room, head).await;
    judge(&bench.verdict().await, &[Check::C8]);
}

/// `resume_session_with_wrong_h_does_not_leak_sessions`: more than a user may have at a time, each with a bad token.
#[tokio::test]
async fn bad_resume_tokens_leave_no_streams_behind() {
    const TRIES: usize = 70;
    let mut bench = Bench::start(&UNHURRIED).await;
    bench.direct("alice", "bob").await;
    let mut bob = bench.open("bob", "phone").await;
    let watch = Asked::WatchPresence(v1::WatchPresence {
        user_ids: vec!["alice".to_owned()],
        replace: true,
    });
    bob.request(watch, PATIENCE).await;
    let mut streams: Vec<RawSession> = Vec::new();
    for number in 0..TRIES {
        let token = vec![u8::try_from(number).unwrap_or(0); 32];
        let mut alice = bench
            .open_with("alice", resuming(&bench, "alice", &token), Acks::Each)
            .await;
        assert!(!alice.welcome(PATIENCE).await.resumed, "try {number}");
        if let Some(before) = streams.last_mut() {
            assert_eq!(before.end(PATIENCE).await, Some(CloseReason::Replaced), "try {number}");
        }
        streams.push(alice);
    }
    streams.last_mut().expect("a last stream").bye(PATIENCE).await;
    // At once, and not only after the grace of a stream that was left behind.
    let offline = |event: &Seen| matches!(event, Seen::Presence(presence) if presence.status() == v1::Status::Offline);
    let soon = std::time::Duration::from_secs(10);
    bob.until("alice offline", soon, |seen| seen.events.iter().any(offline))
        .await;
    bench.verdict().await.assert_clean(&[Check::C15]);
}

/// `aggressively_pipelined_resume`, `preserve_order`: requests behind the hello, before its answer.
#[tokio::test]
async fn requests_pipelined_behind_a_resuming_hello_are_answered_in_order() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice, _) = filled(&mut bench, 3).await;
    let token = alice.welcome(PATIENCE).await.resume_token;
    alice.cut();
    let mut alice = bench
        .open_with("alice", resuming(&bench, "alice", &token), Acks::Each)
        .await;
    let requests = pipeline(&alice, &room, "behind", 40).await;
    let stored = seqs(&mut alice, &requests).await;
    assert!(stored.is_sorted(), "{stored:?}");
    assert!(alice.welcome(PATIENCE).await.resumed);
    reaches(&mut alice, &room, 44).await;
    judge(&bench.verdict().await, &[Check::C8, Check::C19]);
}

/// `replies_are_processed_by_resumed_session`: answers were lost with the stream; the resumed one gives them.
#[tokio::test]
async fn sends_whose_answers_were_lost_are_answered_after_resuming() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice, _) = filled(&mut bench, 3).await;
    let mut bob = bench.open("bob", "phone").await;
    let token = alice.welcome(PATIENCE).await.resume_token;
    alice.pause();
    pipeline(&alice, &room, "lost", 20).await;
    // Some of it is stored by now, and alice does not know.
    reaches(&mut bob, &room, 5).await;
    alice.cut();
    let mut alice = bench
        .open_with("alice", resuming(&bench, "alice", &token), Acks::Each)
        .await;
    let requests = pipeline(&alice, &room, "lost", 20).await;
    let mut repeated = 0;
    for request in &requests {
        repeated += u64::from(appended(&alice.answer(*request, PATIENCE).await).duplicate);
    }
    assert!(repeated > 0, "some were stored before");
    let head = crate::support::head(&bench, &room).await;
    assert_eq!(head, 24, "each is there once");
    reaches(&mut alice, &room, head).await;
    reaches(&mut bob, &room, head).await;
    judge(&bench.verdict().await, &[Check::C8]);
}

/// `messages_are_properly_flushed_during_resumption`: the stream breaks and resumes again and again while others send.
#[tokio::test]
async fn what_is_sent_while_streams_resume_is_all_there_in_order() {
    const RESUMES: u64 = 12;
    const MESSAGES: u64 = 25;
    let mut bench = Bench::start(&UNHURRIED).await;
    let (room, mut alice, mut head) = filled(&mut bench, 3).await;
    let mut bob = bench.open("bob", "phone").await;
    let mut seen = BTreeSet::new();
    for round in 0..RESUMES {
        let requests = pipeline(&alice, &room, &format!("round-{round}"), MESSAGES).await;
        // Somewhere in the middle of them.
        let some = head + 1 + round * MESSAGES / RESUMES;
        reaches(&mut bob, &room, some).await;
        let token = bob.welcome(PATIENCE).await.resume_token;
        bob.cut();
        seen.extend(bob.observed().seqs(&room));
        bob = bench
            .open_with("bob", resuming(&bench, "bob", &token), Acks::Each)
            .await;
        head = seqs(&mut alice, &requests).await.into_iter().max().unwrap_or(0);
        assert!(bob.welcome(PATIENCE).await.resumed, "round {round}");
    }
    reaches(&mut bob, &room, head).await;
    reaches(&mut alice, &room, head).await;
    seen.extend(bob.observed().seqs(&room));
    assert_eq!(seen, (1..=head).collect::<BTreeSet<u64>>());
    judge(&bench.verdict().await, &[Check::C8]);
}
