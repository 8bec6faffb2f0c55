//! I8: every frame is answered, or the stream ends with a typed reason; other streams are unharmed.

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{ack, node, refusal, send};

#[tokio::test(start_paused = true)]
async fn a_frame_without_a_body_is_refused_and_the_stream_goes_on() {
    let node = node().await;
    let mut peer = node.live("alice", "a1").await;
    for request_id in [0, 5] {
        peer.send_raw(v1::ClientFrame { request_id, body: None }).await;
        let (answered, body) = peer.next().await;
        assert_eq!(answered, request_id);
        assert_eq!(refusal(body).reason(), v1::RefusalReason::Invalid);
    }
    let ping = peer.ask(Ask::Ping(v1::Ping {})).await;
    assert!(matches!(peer.answer(ping).await, Reply::Pong(_)));
}

#[tokio::test(start_paused = true)]
async fn a_request_needs_an_id_of_its_own() {
    let node = node().await;
    let conversation = node.direct("alice", "bob").await;
    let mut peer = node.live("alice", "a1").await;
    peer.tell(Ask::Ping(v1::Ping {})).await;
    let (answered, body) = peer.next().await;
    assert_eq!((answered, refusal(body).field.as_str()), (0, "request_id"));
    for id in ["m1", "m2"] {
        peer.send_raw(v1::ClientFrame {
            request_id: 9,
            body: Some(send(&conversation, id, "text")),
        })
        .await;
    }
    let refused = refusal(peer.until(|body| matches!(body, Reply::Refusal(_))).await);
    assert_eq!(refused.reason(), v1::RefusalReason::Protocol);
    assert!(matches!(peer.answer(9).await, Reply::Send(_)));
}

/// Each malformed frame is refused by name, and the stream goes on.
#[tokio::test(start_paused = true)]
async fn malformed_frames_are_refused_by_field() {
    let node = node().await;
    let mut peer = node.live("alice", "a1").await;
    let cases = [
        (ack("nonsense", 1), "ack.conversation_id"),
        (
            Ask::SetAppState(v1::SetAppState { app_state: 99 }),
            "set_app_state.app_state",
        ),
        (
            Ask::Reauthenticate(v1::Reauthenticate::default()),
            "reauthenticate.token",
        ),
        (
            Ask::UnwatchPresence(v1::UnwatchPresence {
                user_ids: vec!["no spaces".into()],
            }),
            "unwatch_presence.user_ids",
        ),
    ];
    for (ask, field) in cases {
        let id = peer.ask(ask).await;
        let refused = refusal(peer.answer(id).await);
        assert_eq!(
            (refused.reason(), refused.field.as_str()),
            (v1::RefusalReason::Invalid, field)
        );
        assert_eq!(refused.effect(), v1::Effect::NotDone);
    }
    let ping = peer.ask(Ask::Ping(v1::Ping {})).await;
    assert!(matches!(peer.answer(ping).await, Reply::Pong(_)));
}

/// Absent and foreign conversations answer alike (I11), also to frames without an id.
#[tokio::test(start_paused = true)]
async fn i11_foreign_conversations_are_not_there() {
    let node = node().await;
    let foreign = node.direct("bob", "carol").await;
    let absent = "00000000-0000-4000-8000-000000000000".to_owned();
    let mut alice = node.live("alice", "a1").await;
    let mut answers = Vec::new();
    for conversation in [foreign, absent] {
        let id = alice.ask(send(&conversation, "m1", "text")).await;
        let Reply::Send(answer) = alice.answer(id).await else {
            panic!("no answer to a send");
        };
        alice
            .tell(Ask::Typing(v1::SetTypingRequest {
                conversation_id: conversation,
                stopped: false,
            }))
            .await;
        let (answered, body) = alice.next().await;
        assert_eq!(answered, 0);
        answers.push((answer, refusal(body)));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].1.reason(), v1::RefusalReason::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_second_hello_ends_the_stream() {
    let node = node().await;
    let mut other = node.live("bob", "b1").await;
    let mut peer = node.live("alice", "a1").await;
    let id = peer.ask(Ask::Hello(node.hello("alice", "a1"))).await;
    assert_eq!(refusal(peer.answer(id).await).reason(), v1::RefusalReason::Protocol);
    assert_eq!(peer.closed().await.reason(), v1::CloseReason::ProtocolError);
    let ping = other.ask(Ask::Ping(v1::Ping {})).await;
    assert!(matches!(other.answer(ping).await, Reply::Pong(_)));
}

#[tokio::test(start_paused = true)]
async fn the_first_frame_must_be_a_hello() {
    let node = node().await;
    let mut peer = node.stream().await;
    let id = peer.ask(Ask::Ping(v1::Ping {})).await;
    assert_eq!(refusal(peer.answer(id).await).reason(), v1::RefusalReason::Protocol);
    assert_eq!(peer.closed().await.reason(), v1::CloseReason::ProtocolError);
}

/// T12, P4: an ack of what was never delivered ends the stream; late and repeated ones do nothing.
#[tokio::test(start_paused = true)]
async fn an_ack_of_what_was_never_sent_ends_the_stream() {
    let node = node().await;
    let conversation = node.direct("alice", "bob").await;
    let (mut bob, _) = node.open(node.hello("bob", "b1")).await;
    bob.delivery().await;
    for seq in [1, 1, 0] {
        let id = bob.ask(ack(&conversation, seq)).await;
        assert!(matches!(bob.answer(id).await, Reply::Done(_)), "ack of {seq}");
    }
    let id = bob.ask(ack(&conversation, 2)).await;
    assert_eq!(refusal(bob.answer(id).await).reason(), v1::RefusalReason::Protocol);
    assert_eq!(bob.closed().await.reason(), v1::CloseReason::ProtocolError);

    // The same when the session remembers nothing of the conversation: the store knows what the device has.
    let mut bob = node.live("bob", "b1").await;
    let id = bob.ask(ack(&conversation, 1)).await;
    assert!(matches!(bob.answer(id).await, Reply::Done(_)));
    bob.ask(ack("00000000-0000-4000-8000-000000000000", 1)).await;
    assert_eq!(bob.closed().await.reason(), v1::CloseReason::ProtocolError);
}

/// A frame above 64 KiB ends the stream with a reason, not with a bare error.
#[tokio::test(start_paused = true)]
async fn an_oversize_frame_ends_the_stream() {
    let node = node().await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    alice.ask(send(&conversation, "m1", &"x".repeat(70_000))).await;
    assert_eq!(alice.closed().await.reason(), v1::CloseReason::ProtocolError);
}

/// I5: the answer to a heartbeat says where the caller's conversations end, newest first.
#[tokio::test(start_paused = true)]
async fn i5_a_pong_has_the_heads() {
    let node = node().await;
    let one = node.direct("alice", "bob").await;
    let other = node.direct("alice", "carol").await;
    let mut alice = node.live("alice", "a1").await;
    let seq = alice.say(&one, "m1").await;
    let wanted = [(one, seq), (other, 1)];
    // An ack does not wait for the rows that the heads are read from.
    for _ in 0..50 {
        let ping = alice.ask(Ask::Ping(v1::Ping {})).await;
        let Reply::Pong(pong) = alice.answer(ping).await else {
            panic!("no pong");
        };
        let heads = pong.heads.into_iter().map(|head| (head.conversation_id, head.head_seq));
        if heads.eq(wanted.iter().cloned()) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("no pong had the heads {wanted:?}");
}

/// Everything a client may ask at once is answered, whatever the order of answers; what is over the bound waits.
#[tokio::test(start_paused = true)]
async fn i8_a_flood_of_requests_is_answered_to_the_last() {
    let node = node().await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    let mut open = std::collections::BTreeSet::new();
    for number in 0..900 {
        let ask = match number % 3 {
            0 => Ask::History(v1::GetHistoryRequest {
                conversation_id: conversation.clone(),
                anchor: Some(v1::get_history_request::Anchor::BeforeSeq(0)),
                ..Default::default()
            }),
            1 => Ask::Ping(v1::Ping {}),
            _ => Ask::MarkUnread(v1::MarkUnreadRequest::default()),
        };
        open.insert(alice.ask(ask).await);
    }
    while !open.is_empty() {
        open.remove(&alice.next().await.0);
    }
}

/// Half-closing owes the answers to what was sent before.
#[tokio::test(start_paused = true)]
async fn i8_a_half_closed_stream_gets_its_answers() {
    let node = node().await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    let mut open = std::collections::BTreeSet::new();
    for number in 0..20 {
        open.insert(alice.ask(send(&conversation, &format!("m{number}"), "text")).await);
    }
    drop(alice.frames.take());
    while !open.is_empty() {
        open.remove(&alice.next().await.0);
    }
    assert_eq!(alice.closed().await.reason(), v1::CloseReason::Bye);
}
