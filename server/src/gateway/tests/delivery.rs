//! What a device gets: live, backlog, windows, several devices, several streams.

use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{Peer, TestNode, ack, node, send};

async fn pair(node: &TestNode) -> (String, Peer, Peer) {
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    let mut bob = node.live("bob", "b1").await;
    for (peer, _) in [(&mut alice, "alice"), (&mut bob, "bob")] {
        peer.ask(ack(&conversation, 1)).await;
    }
    (conversation, alice, bob)
}

/// I3: sent, acknowledged, delivered live to both sides from one log; what was acknowledged is not delivered again.
#[tokio::test(start_paused = true)]
async fn i3_a_message_reaches_everybody_once() {
    let node = node().await;
    let (conversation, mut alice, mut bob) = pair(&node).await;
    assert_eq!(alice.say(&conversation, "m1").await, 2);
    let (entry, backlog) = bob.delivery().await;
    assert_eq!((entry.seq, entry.sender_user_id.as_str(), backlog), (2, "alice", false));
    let request = bob.ask(ack(&conversation, 2)).await;
    assert!(matches!(bob.answer(request).await, Reply::Done(_)));
    drop(bob);
    assert_eq!(alice.say(&conversation, "m2").await, 3);
    let (mut bob, welcome) = node.open(node.hello("bob", "b1")).await;
    assert_eq!(welcome.conversations[0].device_seq, 2);
    let (entry, backlog) = bob.delivery().await;
    assert_eq!((entry.seq, backlog), (3, true));
    bob.until(|body| matches!(body, Reply::CaughtUp(_))).await;
}

/// The sender's own device and its other ones get the echo from the same log.
#[tokio::test(start_paused = true)]
async fn own_devices_get_the_echo() {
    let node = node().await;
    let (conversation, mut phone, _bob) = pair(&node).await;
    let mut laptop = node.live("alice", "a2").await;
    laptop.ack(&conversation, 1).await;
    let seq = phone.say(&conversation, "m1").await;
    assert_eq!(laptop.delivery().await.0.seq, seq);
    phone.ack(&conversation, 1).await;
    let seq = phone.say(&conversation, "m2").await;
    assert_eq!(laptop.delivery().await.0.seq, seq);
}

/// An answer that stands for the delivery is acknowledged like one, and comes again to the device until it is (I5).
#[tokio::test(start_paused = true)]
async fn i5_an_answer_stands_for_the_delivery_until_the_stream_ends() {
    let node = node().await;
    let (conversation, alice, mut bob) = pair(&node).await;
    drop(alice);
    let hello = v1::Hello {
        answers_are_deliveries: true,
        ..node.hello("alice", "a1")
    };
    let (mut alice, _) = node.open(hello.clone()).await;
    alice.until(|body| matches!(body, Reply::CaughtUp(_))).await;
    let known = alice.say(&conversation, "m1").await;
    let request = alice.ask(send(&conversation, "m2", "m2")).await;
    let Reply::Send(v1::SendResponse {
        outcome: Some(v1::send_response::Outcome::Appended(answer)),
    }) = alice.answer(request).await
    else {
        panic!("m2 was refused");
    };
    assert!(answer.is_delivery);
    let answered = answer.seq;
    for seq in [known, answered] {
        assert_eq!(bob.delivery().await.0.seq, seq);
    }
    let of_bob = bob.say(&conversation, "m3").await;
    let mut came = alice.delivery().await.0.seq;
    if came == known {
        // It was sent before the stream knew where the device is.
        came = alice.delivery().await.0.seq;
    }
    assert_eq!(came, of_bob, "an answer came back as a delivery");
    let request = alice.ask(ack(&conversation, known)).await;
    assert!(matches!(alice.answer(request).await, Reply::Done(_)));
    drop(alice);
    let (mut alice, _) = node.open(hello.clone()).await;
    for seq in [answered, of_bob] {
        assert_eq!(alice.delivery().await.0.seq, seq, "it was not acknowledged");
    }
    let last = alice.say(&conversation, "m4").await;
    let request = alice.ask(ack(&conversation, last)).await;
    assert!(
        matches!(alice.answer(request).await, Reply::Done(_)),
        "an answer counts as sent"
    );
    drop(alice);
    let (_alice, welcome) = node.open(hello).await;
    assert_eq!(welcome.conversations[0].device_seq, last);
}

/// I9, P18: without acks no more than the window comes; each ack lets more come; nothing is skipped.
#[tokio::test(start_paused = true)]
async fn i9_the_window_holds_and_moves() {
    let node = node().await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    for number in 0..40 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    let hello = v1::Hello {
        window: 10,
        ..node.hello("bob", "b1")
    };
    let (mut bob, welcome) = node.open(hello).await;
    assert_eq!(welcome.limits.expect("limits").window, 10);
    for seq in 1..=10 {
        assert_eq!(bob.delivery().await.0.seq, seq);
    }
    let more = tokio::time::timeout(std::time::Duration::from_secs(20), bob.next()).await;
    assert!(more.is_err(), "more than the window came: {more:?}");
    let mut next = 11;
    for acked in [4, 10, 20, 30] {
        bob.ack(&conversation, acked).await;
        while next <= (acked + 10).min(41) {
            assert_eq!(bob.delivery().await.0.seq, next);
            next += 1;
        }
    }
    bob.ack(&conversation, 40).await;
    assert_eq!(
        bob.until(|body| !matches!(body, Reply::Delivery(_))).await,
        caught_up(&welcome)
    );
}

fn caught_up(welcome: &v1::Welcome) -> Reply {
    Reply::CaughtUp(v1::CaughtUp {
        cursor: welcome.cursor.clone(),
    })
}

/// I5: five hundred conversations and one message in each: all of it, and the marker once at the end.
#[tokio::test(start_paused = true)]
async fn i5_a_large_inbox_is_paged_through() {
    let node = node().await;
    let mut alice = node.live("alice", "a1").await;
    let mut expected = std::collections::BTreeSet::new();
    for number in 0..600 {
        let conversation = node.direct("alice", &format!("user{number}")).await;
        expected.insert(conversation);
    }
    drop(alice.frames.take());
    let (mut alice, welcome) = node.open(node.hello("alice", "a2")).await;
    assert!(welcome.has_more);
    assert_eq!(welcome.conversations.len(), 500);
    loop {
        match alice.next().await.1 {
            Reply::Delivery(delivery) => {
                let entry = delivery.entry.expect("an entry");
                assert!(delivery.backlog);
                assert!(expected.remove(&entry.conversation_id), "delivered twice");
                alice.ack(&entry.conversation_id, entry.seq).await;
            }
            Reply::CaughtUp(_) => break,
            Reply::Receipts(_) | Reply::Conversation(_) | Reply::Markers(_) => {}
            other => panic!("unexpected {other:?}"),
        }
    }
    assert!(expected.is_empty(), "caught up without {}", expected.len());
}

/// I4: pipelined sends keep their order; when one is refused, what was sent behind it is not stored in its place.
#[tokio::test(start_paused = true)]
async fn i4_pipelined_sends_keep_their_order() {
    let node = node().await;
    let (conversation, mut alice, mut bob) = pair(&node).await;
    let mut requests = Vec::new();
    for number in 0..200 {
        requests.push(
            alice
                .ask(super::harness::send(&conversation, &format!("m{number}"), "text"))
                .await,
        );
    }
    let mut seqs = std::collections::BTreeMap::new();
    while seqs.len() < requests.len() {
        let (id, body) = alice.next().await;
        if id >= requests[0] {
            seqs.insert(id, super::harness::appended(body));
        } else if let Reply::Delivery(delivery) = body {
            alice.ack(&conversation, delivery.entry.expect("an entry").seq).await;
        }
    }
    let in_order: Vec<u64> = requests.iter().map(|id| seqs[id]).collect();
    assert_eq!(in_order, (2..=201).collect::<Vec<_>>());
    for seq in 2..=201 {
        let (entry, _) = bob.delivery().await;
        assert_eq!((entry.seq, entry.client_msg_id), (seq, format!("m{}", seq - 2)));
        bob.ack(&conversation, seq).await;
    }
}

#[tokio::test(start_paused = true)]
async fn i4_nothing_is_stored_behind_a_refused_send() {
    let node = node().await;
    let (conversation, mut alice, _bob) = pair(&node).await;
    let mut bad = super::harness::send(&conversation, "m1", "text");
    if let v1::client_frame::Body::Send(send) = &mut bad {
        send.header.as_mut().expect("a header").previous_client_msg_id = "never-sent".into();
    }
    let bad = alice.ask(bad).await;
    let behind = alice.ask(super::harness::send(&conversation, "m2", "text")).await;
    let refused = |reply| match reply {
        Reply::Send(v1::SendResponse {
            outcome: Some(v1::send_response::Outcome::Refusal(refusal)),
        }) => refusal,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(refused(alice.answer(bad).await).reason(), v1::RefusalReason::OutOfOrder);
    let refusal = refused(alice.answer(behind).await);
    assert_eq!(refusal.reason(), v1::RefusalReason::OutOfOrder);
    assert_eq!(refusal.effect(), v1::Effect::NotDone);
}

/// Where the client says it is counts more than what the server remembers, down as well as up, and for good.
#[tokio::test(start_paused = true)]
async fn given_positions_override_and_stay() {
    let node = node().await;
    let (conversation, mut alice, mut bob) = pair(&node).await;
    for number in 0..5 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    let request = loop {
        let seq = bob.delivery().await.0.seq;
        if seq == 6 {
            break bob.ask(ack(&conversation, 6)).await;
        }
    };
    bob.answer(request).await;
    // Long enough for the session to note that the device has everything.
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    drop(bob);
    let restored = v1::Hello {
        positions: vec![v1::ConversationPosition {
            conversation_id: conversation.clone(),
            seq: 3,
        }],
        ..node.hello("bob", "b1")
    };
    let (mut bob, _) = node.open(restored).await;
    assert_eq!(bob.delivery().await.0.seq, 4);
    // It was not acknowledged: the next stream must deliver it again, without being told.
    drop(bob);
    let (mut bob, _) = node.open(node.hello("bob", "b1")).await;
    for seq in 4..=6 {
        assert_eq!(bob.delivery().await.0.seq, seq);
    }
    drop(bob);
    let fresh = v1::Hello {
        forget_device_positions: true,
        ..node.hello("bob", "b1")
    };
    let (mut bob, _) = node.open(fresh).await;
    for seq in 1..=6 {
        assert_eq!(bob.delivery().await.0.seq, seq);
    }
}

/// A new device that wants nothing old gets what comes after its hello, and only that.
#[tokio::test(start_paused = true)]
async fn without_backlog_only_new_entries_come() {
    let node = node().await;
    let (conversation, mut alice, _bob) = pair(&node).await;
    alice.say(&conversation, "old").await;
    let hello = v1::Hello {
        initial_backlog: v1::InitialBacklog::Nothing.into(),
        ..node.hello("bob", "b2")
    };
    let (mut bob, welcome) = node.open(hello).await;
    assert_eq!(welcome.conversations[0].device_seq, 2);
    bob.until(|body| matches!(body, Reply::CaughtUp(_))).await;
    let seq = alice.say(&conversation, "new").await;
    let (entry, backlog) = bob.delivery().await;
    assert_eq!((entry.seq, backlog), (seq, false));
}

/// I5: asked for again at a reconnect, it skips nothing that came while a known device was away, new conversations among it.
#[tokio::test(start_paused = true)]
async fn i5_without_backlog_a_reconnect_misses_nothing() {
    let node = node().await;
    let (_conversation, _alice, _bob) = pair(&node).await;
    let hello = || v1::Hello {
        initial_backlog: v1::InitialBacklog::Nothing.into(),
        ..node.hello("bob", "b2")
    };
    let (mut bob, _) = node.open(hello()).await;
    bob.until(|body| matches!(body, Reply::CaughtUp(_))).await;
    // Long enough for the session to note that the device has everything it wants.
    tokio::time::sleep(std::time::Duration::from_secs(15)).await;
    drop(bob);
    let fresh = node.direct("carol", "bob").await;
    let mut carol = node.live("carol", "c1").await;
    let seq = carol.say(&fresh, "while-away").await;
    let (mut bob, _) = node.open(hello()).await;
    for wanted in 1..=seq {
        let (entry, backlog) = bob.delivery().await;
        assert_eq!(
            (entry.conversation_id, entry.seq, backlog),
            (fresh.clone(), wanted, true)
        );
    }
}

/// I9: a client that states no window has one of 256.
#[tokio::test(start_paused = true)]
async fn i9_a_window_that_is_not_stated_is_256() {
    let node = node().await;
    let (conversation, mut alice, bob) = pair(&node).await;
    drop(bob);
    for number in 0..300 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    let (mut bob, welcome) = node.open(node.hello("bob", "b9")).await;
    assert_eq!(welcome.limits.map(|limits| limits.window), Some(256));
    for wanted in 1..=256 {
        assert_eq!(bob.delivery().await.0.seq, wanted);
    }
    let more = tokio::time::timeout(std::time::Duration::from_secs(20), bob.delivery()).await;
    assert!(more.is_err(), "beyond the window: {more:?}");
    bob.ack(&conversation, 1).await;
    assert_eq!(bob.delivery().await.0.seq, 257);
    let more = tokio::time::timeout(std::time::Duration::from_secs(20), bob.delivery()).await;
    assert!(more.is_err(), "one ack makes room for one: {more:?}");
}

/// P17: streams of other names live beside the app's, with the same deliveries.
#[tokio::test(start_paused = true)]
async fn named_streams_live_side_by_side() {
    let node = node().await;
    let (conversation, mut alice, mut app) = pair(&node).await;
    let hello = v1::Hello {
        stream_name: "push".into(),
        ..node.hello("bob", "b1")
    };
    let (mut push, _) = node.open(hello).await;
    push.until(|body| matches!(body, Reply::CaughtUp(_))).await;
    let seq = alice.say(&conversation, "m1").await;
    assert_eq!(app.delivery().await.0.seq, seq);
    assert_eq!(push.delivery().await.0.seq, seq);
}

/// I6: a read on one device shows on the other, and the sender hears of it.
#[tokio::test(start_paused = true)]
async fn i6_reads_travel() {
    let node = node().await;
    let (conversation, mut alice, mut bob) = pair(&node).await;
    let mut tablet = node.live("bob", "b2").await;
    tablet.ack(&conversation, 1).await;
    let seq = alice.say(&conversation, "m1").await;
    bob.delivery().await;
    let read = bob
        .ask(v1::client_frame::Body::MarkRead(v1::MarkReadRequest {
            conversation_id: conversation.clone(),
            seq,
            private: false,
        }))
        .await;
    assert!(matches!(bob.answer(read).await, Reply::MarkRead(_)));
    let markers = tablet
        .until(|body| matches!(body, Reply::Markers(markers) if markers.read_seq == seq))
        .await;
    assert!(matches!(markers, Reply::Markers(markers) if markers.unread_count == 0));
    let wanted = |body: &Reply| matches!(body, Reply::Receipts(moved) if moved.read_by_all_seq == seq);
    alice.until(wanted).await;
}

/// Presence is watched, typing is passed on, and bye is offline at once.
#[tokio::test(start_paused = true)]
async fn presence_and_typing_travel() {
    let node = node().await;
    let (conversation, mut alice, mut bob) = pair(&node).await;
    let watch = v1::WatchPresence {
        user_ids: vec!["bob".into(), "stranger".into()],
        replace: true,
    };
    let request = alice.ask(v1::client_frame::Body::WatchPresence(watch)).await;
    let Reply::Watching(watching) = alice.answer(request).await else {
        panic!("no list");
    };
    let statuses: Vec<v1::Status> = watching.presences.iter().map(v1::Presence::status).collect();
    assert_eq!(statuses, [v1::Status::Online, v1::Status::Offline]);
    let typing = v1::SetTypingRequest {
        conversation_id: conversation.clone(),
        stopped: false,
    };
    bob.tell(v1::client_frame::Body::Typing(typing)).await;
    alice
        .until(|body| matches!(body, Reply::TypingEvent(typing) if typing.user_id == "bob"))
        .await;
    bob.tell(v1::client_frame::Body::Bye(v1::Bye {})).await;
    assert_eq!(bob.closed().await.reason(), v1::CloseReason::Bye);
    let told = stonechat_host::monotonic();
    alice
        .until(|body| matches!(body, Reply::Presence(presence) if presence.status() == v1::Status::Offline))
        .await;
    assert!(
        told.elapsed() < std::time::Duration::from_secs(2),
        "offline took {:?}",
        told.elapsed()
    );
}

/// P13: the resume token carries watched users over, once.
#[tokio::test(start_paused = true)]
async fn a_resumed_stream_goes_on_watching() {
    let node = node().await;
    let (_conversation, _alice, _bob) = pair(&node).await;
    let (mut watcher, welcome) = node.open(node.hello("alice", "a3")).await;
    assert!(!welcome.resumed);
    let watch = v1::WatchPresence {
        user_ids: vec!["bob".into()],
        replace: false,
    };
    let request = watcher.ask(v1::client_frame::Body::WatchPresence(watch)).await;
    watcher.answer(request).await;
    drop(watcher);
    let hello = v1::Hello {
        resume_token: welcome.resume_token,
        ..node.hello("alice", "a3")
    };
    let (mut watcher, welcome) = node.open(hello.clone()).await;
    assert!(welcome.resumed);
    watcher
        .until(|body| matches!(body, Reply::Presence(presence) if presence.user_id == "bob"))
        .await;
    let (_again, welcome) = node.open(hello).await;
    assert!(!welcome.resumed, "a token was good twice");
}
