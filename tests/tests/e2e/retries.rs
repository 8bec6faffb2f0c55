//! I2: a retry never duplicates, whatever lies between.

use std::collections::BTreeSet;

use stonechat_proto::v1;
use stonechat_proto::v1::message_service_client::MessageServiceClient;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Bench, Claims, PATIENCE, UNHURRIED, header, send_frame, text};

use crate::support::{appended, judge, pipeline, reaches, refusal, seqs};

#[tokio::test]
async fn the_same_id_has_the_same_seq_for_ever_and_another_payload_is_refused() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let first = alice.request(send_frame(&room, "once", "hello"), PATIENCE).await;
    let seq = appended(&first).seq;
    assert!(!appended(&first).duplicate);
    let again = alice.request(send_frame(&room, "once", "hello"), PATIENCE).await;
    assert_eq!((appended(&again).seq, appended(&again).duplicate), (seq, true));
    assert_eq!(
        appended(&again).correlation_id,
        appended(&first).correlation_id,
        "of the stored entry"
    );
    let other = alice.request(send_frame(&room, "once", "another text"), PATIENCE).await;
    let refused = refusal(&other);
    assert_eq!(refused.reason(), v1::RefusalReason::ClientMsgIdReused);
    assert_eq!(refused.effect(), v1::Effect::NotDone);
    assert_eq!(refused.stored_seq, seq);
    judge(&bench.verdict().await, &[Check::C9]);
}

/// `TestTxnIdempotencyScopedToDevice`: the id belongs to the device, not to the user.
#[tokio::test]
async fn another_device_may_use_the_same_id() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut phone = bench.open("alice", "phone").await;
    let mut tablet = bench.open("alice", "tablet").await;
    let one = phone
        .request(send_frame(&room, "m-1", "from the phone"), PATIENCE)
        .await;
    let other = tablet
        .request(send_frame(&room, "m-1", "from the tablet"), PATIENCE)
        .await;
    assert_ne!(appended(&one).seq, appended(&other).seq);
    let newest = appended(&one).seq.max(appended(&other).seq);
    reaches(&mut phone, &room, newest).await;
    reaches(&mut tablet, &room, newest).await;
    judge(&bench.verdict().await, &[]);
}

/// T3 with a large distance, and across a kill: no window of seconds or of messages.
#[tokio::test]
async fn a_resend_after_ten_thousand_messages_and_a_kill_finds_the_first_seq() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let first = alice.request(send_frame(&room, "early", "early"), PATIENCE).await;
    let seq = appended(&first).seq;
    for block in 0..10 {
        let requests = pipeline(&alice, &room, &format!("filler-{block}"), 1_000).await;
        seqs(&mut alice, &requests).await;
    }
    let again = alice.request(send_frame(&room, "early", "early"), PATIENCE).await;
    assert_eq!((appended(&again).seq, appended(&again).duplicate), (seq, true));
    bench.server.kill_and_restart().await;
    // `TestTxnIdWithRefreshToken`: a new connection and a new token change nothing.
    let mut alice = bench.open("alice", "phone").await;
    let again = alice.request(send_frame(&room, "early", "early"), PATIENCE).await;
    assert_eq!((appended(&again).seq, appended(&again).duplicate), (seq, true));
    judge(&bench.verdict().await, &[Check::C8]);
}

/// The same id by the stream and by many unary calls at once: one seq.
#[tokio::test]
async fn one_id_tried_many_times_at_once_is_stored_once() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let request = alice.ask(send_frame(&room, "racing", "once")).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let mut client = MessageServiceClient::new(bench.call_as(&Claims::user("alice"), "phone"));
        let request = v1::SendRequest {
            header: Some(header(&room, "racing")),
            content: Some(text("once")),
        };
        calls.spawn(async move { client.send(request).await });
    }
    let mut seqs = BTreeSet::from([appended(&alice.answer(request, PATIENCE).await).seq]);
    while let Some(call) = calls.join_next().await {
        let answer = call.expect("no panic").expect("an answer").into_inner();
        match answer.outcome {
            Some(v1::send_response::Outcome::Appended(appended)) => drop(seqs.insert(appended.seq)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seqs.len(), 1, "{seqs:?}");
    judge(&bench.verdict().await, &[]);
}
