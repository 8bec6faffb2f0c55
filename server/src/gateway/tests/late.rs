//! An answer that comes late belongs to the stream it was asked on (race_conditions_SUITE): a gate before the log holds it
//! until a newer stream of the same device uses the same request id.

use std::sync::Arc;

use stonechat_proto::v1;
use stonechat_proto::v1::CloseReason;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{Peer, TestNode, appended, grounds, node_on, send};
use crate::bus::embedded::EmbeddedBus;
use crate::conversation::tests::lying_log::{Gate, gated};

struct Held {
    node: TestNode,
    gate: Gate,
    room: String,
    old: Peer,
    /// The request whose answer is held.
    late: u64,
}

/// A stream with a send that has come to the log and waits there.
async fn held() -> Held {
    let mut grounds = grounds(Arc::new(EmbeddedBus::new()));
    let (mut gate, log) = gated(Arc::clone(&grounds.backends.log));
    grounds.backends.log = log;
    let node = node_on(grounds).await;
    let room = node.direct("alice", "bob").await;
    let mut old = node.live_with_backlog("alice", "a1").await;
    let before = *gate.came.borrow();
    gate.open.send_replace(false);
    let late = old.ask(send(&room, "late", "late")).await;
    gate.came.wait_for(|came| *came > before).await.expect("the node lives");
    Held {
        node,
        gate,
        room,
        old,
        late,
    }
}

/// Pings until the request id of the late answer was used on this stream, too.
async fn use_id(peer: &mut Peer, id: u64) {
    loop {
        let ping = peer.ask(Ask::Ping(v1::Ping {})).await;
        assert!(matches!(peer.answer(ping).await, Reply::Pong(_)));
        if ping >= id {
            return;
        }
    }
}

/// The entry comes as a delivery like everybody's, and nothing comes as an answer that was not asked here.
async fn only_the_entry_comes(peer: &mut Peer, room: &str) {
    let seq = loop {
        match peer.next().await {
            (0, Reply::Delivery(delivery)) => break delivery.entry.expect("an entry").seq,
            (0, _) => {}
            other => panic!("nobody asked for {other:?}"),
        }
    };
    let again = peer.ask(send(room, "late", "late")).await;
    match peer.answer(again).await {
        Reply::Send(v1::SendResponse {
            outcome: Some(v1::send_response::Outcome::Appended(found)),
        }) => assert!(found.duplicate && found.seq == seq, "{found:?}"),
        other => panic!("the retry finds the first try: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn i8_a_late_answer_goes_to_the_stream_it_was_asked_on() {
    let mut held = held().await;
    let (mut new, _) = held.node.open(held.node.hello("alice", "a1")).await;
    use_id(&mut new, held.late).await;
    held.gate.open.send_replace(true);
    assert_eq!(appended(held.old.answer(held.late).await), 2);
    assert_eq!(held.old.closed().await.reason(), CloseReason::Replaced);
    only_the_entry_comes(&mut new, &held.room).await;
}

#[tokio::test(start_paused = true)]
async fn i8_a_late_answer_whose_stream_is_gone_goes_nowhere() {
    let held = held().await;
    drop(held.old);
    let (mut new, _) = held.node.open(held.node.hello("alice", "a1")).await;
    use_id(&mut new, held.late).await;
    held.gate.open.send_replace(true);
    only_the_entry_comes(&mut new, &held.room).await;
}
