//! How streams end (P20, I8), and what is left of them: nothing.

use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::CloseReason as Reason;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{TestNode, grounds, node, node_on, node_with, refusal, send};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;

/// Waits until a node has this many sessions.
async fn sessions(node: &TestNode, count: usize) {
    for _ in 0..3_000 {
        if node.handle.sessions() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{} sessions are left, not {count}", node.handle.sessions());
}

#[tokio::test(start_paused = true)]
async fn without_a_hello_the_stream_ends_after_5_s() {
    let node = node().await;
    let started = stonechat_host::monotonic();
    let mut peer = node.stream().await;
    assert_eq!(peer.closed().await.reason(), Reason::Idle);
    assert_eq!(started.elapsed().as_secs(), 5);
    sessions(&node, 0).await;
}

#[tokio::test(start_paused = true)]
async fn bad_tokens_are_refused_with_a_reason() {
    let node = node().await;
    let cases = [
        ("", "alice"),
        ("nonsense", "alice"),
        (&node.device_token("alice", "other"), "alice"),
    ];
    for (token, _) in cases {
        let mut peer = node.stream().await;
        let hello = v1::Hello {
            token: token.to_owned(),
            ..node.hello("alice", "a1")
        };
        let id = peer.ask(Ask::Hello(hello)).await;
        assert_eq!(
            refusal(peer.answer(id).await).reason(),
            v1::RefusalReason::Unauthenticated
        );
        let closed = peer.closed().await;
        assert_eq!((closed.reason(), closed.reconnect), (Reason::Credentials, false));
    }
    sessions(&node, 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_malformed_hello_is_refused_by_field() {
    let node = node().await;
    let mut peer = node.stream().await;
    let hello = v1::Hello {
        device_id: "no spaces".into(),
        ..node.hello("alice", "a1")
    };
    let id = peer.ask(Ask::Hello(hello)).await;
    assert_eq!(refusal(peer.answer(id).await).field, "hello.device_id");
    assert_eq!(peer.closed().await.reason(), Reason::ProtocolError);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_gone_after_45_s() {
    let node = node().await;
    let mut peer = node.live("alice", "a1").await;
    let ping = peer.ask(Ask::Ping(v1::Ping {})).await;
    peer.answer(ping).await;
    let heard = stonechat_host::monotonic();
    let closed = peer.closed().await;
    assert_eq!((closed.reason(), closed.reconnect), (Reason::Idle, true));
    assert_eq!(heard.elapsed().as_secs(), 45);
    sessions(&node, 0).await;
}

/// A new token keeps the stream; without one it ends at expiry and the leeway of token checks.
#[tokio::test(start_paused = true)]
async fn tokens_expire_under_live_streams() {
    let node = node().await;
    let hello = v1::Hello {
        token: node.token("alice", Duration::from_secs(20)),
        ..node.hello("alice", "a1")
    };
    let (mut peer, _) = node.open(hello).await;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let foreign = v1::Reauthenticate {
        token: node.token("bob", Duration::from_secs(60)),
    };
    let id = peer.ask(Ask::Reauthenticate(foreign)).await;
    assert_eq!(
        refusal(peer.answer(id).await).reason(),
        v1::RefusalReason::Unauthenticated
    );
    let renewed = v1::Reauthenticate {
        token: node.token("alice", Duration::from_secs(35)),
    };
    let id = peer.ask(Ask::Reauthenticate(renewed)).await;
    assert!(matches!(peer.answer(id).await, Reply::Done(_)));
    let renewed_at = stonechat_host::monotonic();
    assert_eq!(peer.closed().await.reason(), Reason::Expired);
    let lived = renewed_at.elapsed().as_secs();
    assert!((38..=40).contains(&lived), "lived {lived} s");
}

/// A newer stream of the same device and name takes over, also on another node; others live on.
#[tokio::test(start_paused = true)]
async fn a_newer_stream_replaces_the_older() {
    let grounds = grounds(std::sync::Arc::new(EmbeddedBus::new()));
    let (first, second) = (node_on(grounds.clone()).await, node_on(grounds).await);
    let mut old = first.live("alice", "a1").await;
    let mut other_device = first.live("alice", "a2").await;
    let mut new = second.live("alice", "a1").await;
    let closed = old.closed().await;
    assert_eq!((closed.reason(), closed.reconnect), (Reason::Replaced, false));
    for peer in [&mut new, &mut other_device] {
        let ping = peer.ask(Ask::Ping(v1::Ping {})).await;
        assert!(matches!(peer.answer(ping).await, Reply::Pong(_)));
    }
}

/// However many open at once, exactly one stays.
#[tokio::test(start_paused = true)]
async fn of_streams_that_open_at_once_one_stays() {
    let node = node().await;
    let openings = (0..8).map(|_| node.open(node.hello("alice", "a1")));
    let peers = futures_util::future::join_all(openings).await;
    sessions(&node, 1).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    sessions(&node, 1).await;
    drop(peers);
    sessions(&node, 0).await;
}

/// Revocation reaches an open stream in 5 s, and its tokens are worth nothing then.
#[tokio::test(start_paused = true)]
async fn a_removed_device_loses_its_stream() {
    let node = node().await;
    let token = node.device_token("alice", "a1");
    let hello = v1::Hello {
        token: token.clone(),
        ..node.hello("alice", "a1")
    };
    let (mut gone, _) = node.open(hello.clone()).await;
    let mut other = node.live("alice", "a2").await;
    let mut client = v1::device_service_client::DeviceServiceClient::new(node.channel().await);
    let remove = v1::RemoveDeviceRequest { device_id: "a1".into() };
    client
        .remove_device(node.request("alice", "a2", remove))
        .await
        .expect("removed");
    assert_eq!(gone.closed().await.reason(), Reason::Credentials);
    let mut again = node.stream().await;
    again.ask(Ask::Hello(hello)).await;
    assert_eq!(again.closed().await.reason(), Reason::Credentials);
    let ping = other.ask(Ask::Ping(v1::Ping {})).await;
    assert!(matches!(other.answer(ping).await, Reply::Pong(_)));
}

/// A drain answers what is under way, gives every stream its reason and a jittered delay, and leaves nothing open.
#[tokio::test(start_paused = true)]
async fn a_drain_tells_every_stream() {
    let node = node().await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    let mut bob = node.live("bob", "b1").await;
    let mut open: Vec<u64> = Vec::new();
    for number in 0..10 {
        open.push(alice.ask(send(&conversation, &format!("m{number}"), "text")).await);
    }
    alice.answer(open[0]).await;
    let (closed, ()) = tokio::join!(
        async {
            let mut left: std::collections::BTreeSet<u64> = open[1..].iter().copied().collect();
            loop {
                match alice.next().await {
                    (_, Reply::Closed(closed)) => return (closed, left),
                    (id, _) => left.remove(&id),
                };
            }
        },
        node.handle.drain()
    );
    assert_eq!(closed.1.len(), 0, "requests that were read were not answered");
    assert_eq!(closed.0.reason(), Reason::Draining);
    assert!(closed.0.reconnect && closed.0.retry_after_ms > 0);
    assert_eq!(bob.closed().await.reason(), Reason::Draining);
    assert_eq!(node.handle.sessions(), 0);
    node.handle.stopped().await;
}

/// I9: who does not read is told so at the end, costs no more than its bounds until then, and harms nobody else.
#[tokio::test(start_paused = true)]
async fn i9_who_does_not_read_is_cut_off() {
    let config = Config {
        conversation_entries_per_second: 100_000,
        session_frames_per_second: 100_000,
        ..Config::default()
    };
    let node = node_with(grounds(std::sync::Arc::new(EmbeddedBus::new())), config).await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    for number in 0..250 {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    let text = "x".repeat(16_000);
    for number in 0..200 {
        let id = alice.ask(send(&conversation, &format!("large{number}"), &text)).await;
        alice.answer(id).await;
    }
    let (stalled, _) = node.open(node.hello("bob", "b1")).await;
    // It asks for more than it reads, without end.
    for number in 0..300 {
        let history = v1::GetHistoryRequest {
            conversation_id: conversation.clone(),
            anchor: Some(v1::get_history_request::Anchor::BeforeSeq(0)),
            limit: 200,
            ..Default::default()
        };
        let frame = v1::ClientFrame {
            request_id: 1_000 + number,
            body: Some(Ask::History(history)),
        };
        stalled.send_raw(frame).await;
    }
    let (mut reader, _) = node.open(node.hello("bob", "b2")).await;
    let ping = reader.ask(Ask::Ping(v1::Ping {})).await;
    assert!(matches!(reader.answer(ping).await, Reply::Pong(_)));
    drop(reader);
    drop(alice);
    let started = stonechat_host::monotonic();
    sessions(&node, 0).await;
    assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
    let mut stalled = stalled;
    assert_eq!(stalled.closed().await.reason(), Reason::SlowConsumer);
}
