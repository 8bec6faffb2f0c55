//! Bad input: every malformed frame has a typed answer, and the stream and the others go on.

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::checker::Check;
use stonechat_tests::harness::{Bench, PATIENCE, UNHURRIED, header, send_frame, text};

use crate::support::{judge, reaches, refusal};

fn send(room: &str, id: &str, content: Option<v1::MessageContent>) -> Asked {
    Asked::Send(v1::SendRequest {
        header: Some(header(room, id)),
        content,
    })
}

fn malformed(room: &str) -> Vec<(&'static str, Asked)> {
    let long_id = "x".repeat(65);
    let replying = v1::MessageContent {
        reply_to_seq: 999,
        ..text("a reply to nothing")
    };
    let headless = Asked::Send(v1::SendRequest {
        header: None,
        content: Some(text("no header")),
    });
    vec![
        ("no header", headless),
        ("no content", send(room, "m", None)),
        ("an empty content", send(room, "m", Some(v1::MessageContent::default()))),
        ("an empty text", send_frame(room, "m", "")),
        ("a NUL", send_frame(room, "m", "a\0b")),
        ("a text too long", send_frame(room, "m", &"x".repeat(16 * 1024 + 1))),
        ("no id", send_frame(room, "", "hello")),
        ("an id too long", send_frame(room, &long_id, "hello")),
        ("an id with a blank", send_frame(room, "a b", "hello")),
        (
            "a conversation id in capitals",
            send_frame(&room.to_uppercase(), "m", "hello"),
        ),
        ("a conversation id that is none", send_frame("room", "m", "hello")),
        ("a reply beyond the head", send(room, "m", Some(replying))),
    ]
}

#[tokio::test]
async fn every_malformed_send_is_refused_as_not_done_and_the_stream_goes_on() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    for (what, frame) in malformed(&room) {
        let answer = alice.request(frame, PATIENCE).await;
        let refused = refusal(&answer);
        assert_eq!(refused.effect(), v1::Effect::NotDone, "{what}");
        let reason = refused.reason();
        let typed = matches!(
            reason,
            v1::RefusalReason::Invalid | v1::RefusalReason::BeyondHead | v1::RefusalReason::NotFound
        );
        assert!(typed, "{what}: {refused:?}");
    }
    let seq = bench.send(&mut alice, &room, "still here").await;
    reaches(&mut alice, &room, seq).await;
    assert_eq!(alice.observed().texts(&room), ["still here"]);
    judge(&bench.verdict().await, &[Check::C9]);
}

/// The largest allowed text passes, and ciphertext untouched.
#[tokio::test]
async fn the_largest_bodies_pass_untouched() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    let largest = "é".repeat(8 * 1024);
    bench.send(&mut alice, &room, &largest).await;
    let data: bytes::Bytes = (0..32 * 1024_u32)
        .map(|number| number.to_le_bytes()[0])
        .collect::<Vec<u8>>()
        .into();
    let secret = v1::MessageContent {
        content: Some(v1::message_content::Content::Ciphertext(v1::Ciphertext {
            scheme: "olm.v1".to_owned(),
            data: data.clone(),
        })),
        ..v1::MessageContent::default()
    };
    let answer = alice
        .request(send(&room, "secret", Some(secret.clone())), PATIENCE)
        .await;
    let seq = crate::support::appended(&answer).seq;
    reaches(&mut bob, &room, seq).await;
    assert_eq!(bob.observed().texts(&room), [largest]);
    let last = bob.observed().entries(&room).last().cloned().expect("the ciphertext");
    assert_eq!(last.body, Some(v1::entry::Body::Message(secret)));
    reaches(&mut alice, &room, seq).await;
    judge(&bench.verdict().await, &[]);
}

/// A frame above 64 KiB ends the stream with a typed reason or status; the others do not notice.
#[tokio::test]
async fn an_oversize_frame_harms_only_its_stream() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let mut bob = bench.open("bob", "phone").await;
    alice.ask(send_frame(&room, "huge", &"x".repeat(100 * 1024))).await;
    let reason = alice.end(PATIENCE).await;
    assert_eq!(
        reason,
        Some(v1::CloseReason::ProtocolError),
        "{:?}",
        alice.observed().ended
    );
    bob.ping(PATIENCE).await;
    let mut alice = bench.open("alice", "phone").await;
    let seq = bench.send(&mut alice, &room, "normal").await;
    reaches(&mut bob, &room, seq).await;
    reaches(&mut alice, &room, seq).await;
    judge(&bench.verdict().await, &[]);
}

/// Frames without a body, or without the request id they need, are answered (I8).
#[tokio::test]
async fn frames_that_say_nothing_are_answered() {
    let mut bench = Bench::start(&UNHURRIED).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let empty = v1::ClientFrame {
        request_id: 77,
        body: None,
    };
    alice.raw(Some(empty)).await;
    let answer = alice.answer(77, PATIENCE).await;
    assert!(
        matches!(&answer, Seen::Refusal(refusal) if refusal.effect() == v1::Effect::NotDone),
        "{answer:?}"
    );
    let unasked = v1::ClientFrame {
        request_id: 0,
        body: Some(send_frame(&room, "m", "no request id")),
    };
    alice.raw(Some(unasked)).await;
    let refused = |seen: &stonechat_tests::harness::Observed| {
        let typed = |event: &Seen| matches!(event, Seen::Refusal(refusal) if refusal.effect() == v1::Effect::NotDone);
        seen.events.iter().any(typed)
    };
    alice
        .until("the refusal of a send without request id", PATIENCE, refused)
        .await;
    alice.ping(PATIENCE).await;
    assert!(alice.observed().texts(&room).is_empty());
}

/// I9, I8: frames above the session's rate wait unread until it is their turn: a burst takes as long as the rate demands, and
/// nothing of it is refused, dropped, doubled or out of order.
#[tokio::test]
async fn frames_above_the_rate_wait_for_their_turn_and_none_is_dropped() {
    const PER_SECOND: u64 = 20;
    /// What a stream may send at once: ten seconds of the rate.
    const BURST: u64 = 10 * PER_SECOND;
    const ABOVE: u64 = 3 * PER_SECOND;
    let flags = [
        "--session-frames-per-second",
        "20",
        "--conversation-entries-per-second",
        "100000",
    ];
    let mut bench = Bench::start(&flags).await;
    let room = bench.direct("alice", "bob").await;
    let mut alice = bench.open("alice", "phone").await;
    let started = stonechat_host::monotonic();
    let requests = crate::support::pipeline(&alice, &room, "burst", BURST + ABOVE).await;
    let mut stored = Vec::new();
    for request in requests {
        // Longer than the rate demands, by far.
        let answer = alice.answer(request, std::time::Duration::from_secs(60)).await;
        stored.push(crate::support::appended(&answer).seq);
    }
    let took = started.elapsed();
    let demanded = std::time::Duration::from_secs(ABOVE / PER_SECOND);
    assert!(took >= demanded.mul_f64(0.95), "the burst took only {took:?}");
    assert_eq!(
        stored,
        (2..=BURST + ABOVE + 1).collect::<Vec<u64>>(),
        "each once, in order"
    );
    let newest = crate::support::head(&bench, &room).await;
    assert_eq!(newest, BURST + ABOVE + 1);
    reaches(&mut alice, &room, newest).await;
    judge(&bench.verdict().await, &[Check::C8]);
}
