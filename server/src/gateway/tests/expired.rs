//! Streams that come back after their resume token expired, and devices that come back after a day: what was not acknowledged
//! comes again, and what was sent without an answer is told by sending it again (sm_SUITE, P1, P3).

use std::sync::Arc;
use std::time::Duration;

use stonechat_host::{Clock, Host, SystemRandom};
use stonechat_proto::v1;
use stonechat_proto::v1::server_frame::Body as Reply;
use tokio::time::Instant;

use super::harness::{Peer, TestNode, ack, node, node_by, send};
use crate::gateway::limits::RESUME_WITHIN;

/// A 1:1 in which alice has said so much, with everything acknowledged by her.
async fn filled(node: &TestNode, messages: u64) -> (String, Peer) {
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live_with_backlog("alice", "a1").await;
    for number in 0..messages {
        alice.say(&conversation, &format!("m{number}")).await;
    }
    (conversation, alice)
}

/// The seqs that come before the end of the backlog.
async fn backlog(peer: &mut Peer) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        match peer.next().await.1 {
            Reply::Delivery(delivery) => {
                let entry = delivery.entry.expect("an entry");
                assert!(delivery.backlog);
                peer.ack(&entry.conversation_id, entry.seq).await;
                seqs.push(entry.seq);
            }
            Reply::CaughtUp(_) => return seqs,
            _ => {}
        }
    }
}

/// bob's phone gets everything, acknowledges up to 4, and breaks; returns its resume token.
async fn breaks_with_unacked(node: &TestNode, conversation: &str) -> Vec<u8> {
    let (mut bob, welcome) = node.open(node.hello("bob", "b1")).await;
    for seq in 1..=11 {
        assert_eq!(bob.delivery().await.0.seq, seq);
    }
    let acked = bob.ask(ack(conversation, 4)).await;
    assert!(matches!(bob.answer(acked).await, Reply::Done(_)));
    welcome.resume_token.to_vec()
}

fn resuming(node: &TestNode, device: &str, token: Vec<u8>) -> v1::Hello {
    v1::Hello {
        resume_token: token.into(),
        ..node.hello("bob", device)
    }
}

/// `resend_unacked_after_resume_timeout`
#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_comes_again_after_the_resume_token_expired() {
    let node = node().await;
    let (conversation, _alice) = filled(&node, 10).await;
    let token = breaks_with_unacked(&node, &conversation).await;
    tokio::time::sleep(RESUME_WITHIN + Duration::from_secs(1)).await;
    let (mut bob, welcome) = node.open(resuming(&node, "b1", token)).await;
    assert!(!welcome.resumed, "the token is good for 5 minutes");
    assert_eq!(welcome.conversations[0].device_seq, 4);
    assert_eq!(backlog(&mut bob).await, (5..=11).collect::<Vec<u64>>());
}

/// The counterpart: within its time the token resumes.
#[tokio::test(start_paused = true)]
async fn what_was_not_acknowledged_comes_again_on_a_resumed_stream() {
    let node = node().await;
    let (conversation, _alice) = filled(&node, 10).await;
    let token = breaks_with_unacked(&node, &conversation).await;
    tokio::time::sleep(RESUME_WITHIN - Duration::from_secs(60)).await;
    let (mut bob, welcome) = node.open(resuming(&node, "b1", token)).await;
    assert!(welcome.resumed);
    assert_eq!(backlog(&mut bob).await, (5..=11).collect::<Vec<u64>>());
}

/// `resend_unacked_to_different_res_after_resume_timeout`: another device brings the token of the first. It resumes nothing,
/// and each device has what it did not acknowledge itself.
#[tokio::test(start_paused = true)]
async fn another_device_gets_all_of_it_after_the_resume_token_expired() {
    let node = node().await;
    let (conversation, _alice) = filled(&node, 10).await;
    let token = breaks_with_unacked(&node, &conversation).await;
    tokio::time::sleep(RESUME_WITHIN + Duration::from_secs(1)).await;
    let (mut tablet, welcome) = node.open(resuming(&node, "b2", token)).await;
    assert!(!welcome.resumed);
    assert_eq!(welcome.conversations[0].device_seq, 0);
    assert_eq!(backlog(&mut tablet).await, (1..=11).collect::<Vec<u64>>());
    let (mut phone, _) = node.open(node.hello("bob", "b1")).await;
    assert_eq!(backlog(&mut phone).await, (5..=11).collect::<Vec<u64>>());
}

/// `resume_expired_session_returns_correct_h`: the answers to some sends were lost. After a resume that failed each is sent
/// again, and its answer says whether it had been stored: under the seq it has, once.
#[tokio::test(start_paused = true)]
async fn after_a_failed_resume_sending_again_tells_what_was_stored() {
    const STORED: u64 = 7;
    const SENT: u64 = 12;
    let node = node().await;
    let (conversation, alice) = filled(&node, 0).await;
    drop(alice);
    let (mut alice, welcome) = node.open(node.hello("alice", "a1")).await;
    for number in 0..STORED {
        alice.say(&conversation, &format!("open-{number}")).await;
    }
    // As far as alice knows none was answered; the rest never left the device.
    drop(alice);
    tokio::time::sleep(RESUME_WITHIN + Duration::from_secs(1)).await;
    let hello = v1::Hello {
        resume_token: welcome.resume_token,
        ..node.hello("alice", "a1")
    };
    let (mut alice, welcome) = node.open(hello).await;
    assert!(!welcome.resumed);
    assert_eq!(
        welcome.conversations[0].head_seq,
        1 + STORED,
        "the list says where the log is"
    );
    for number in 0..SENT {
        let id = format!("open-{number}");
        let request = alice.ask(send(&conversation, &id, &id)).await;
        let answer = alice.answer(request).await;
        let Reply::Send(v1::SendResponse {
            outcome: Some(v1::send_response::Outcome::Appended(appended)),
        }) = answer
        else {
            panic!("not stored: {answer:?}");
        };
        let told = (appended.seq, appended.duplicate);
        assert_eq!(told, (number + 2, number < STORED), "{id}");
    }
}

/// Wall time that moves with the paused clock.
struct WallTime {
    started: Instant,
}

impl Clock for WallTime {
    fn unix_ms(&self) -> i64 {
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        1_700_000_000_000 + since
    }
}

/// A second device is away for a day, in which the tokens expire: with a new token it finds exactly what it missed, while
/// the first device had everything at once.
#[tokio::test(start_paused = true)]
async fn a_second_device_that_was_away_for_a_day_finds_what_it_missed() {
    const HOUR: Duration = Duration::from_secs(3_600);
    let host = Host {
        clock: Arc::new(WallTime {
            started: stonechat_host::monotonic(),
        }),
        random: Arc::new(SystemRandom),
    };
    let node = node_by(host).await;
    let (conversation, alice) = filled(&node, 3).await;
    drop(alice);
    let old = v1::Hello {
        token: node.token("bob", HOUR),
        ..node.hello("bob", "b2")
    };
    let (mut second, _) = node.open(old.clone()).await;
    assert_eq!(backlog(&mut second).await, [1, 2, 3, 4]);
    second.tell(v1::client_frame::Body::Bye(v1::Bye {})).await;
    second.closed().await;
    let mut newest = 4;
    let mut missed = Vec::new();
    for hour in 0..24 {
        let (mut alice, _) = node.open(node.hello("alice", "a1")).await;
        let (mut first, _) = node.open(node.hello("bob", "b1")).await;
        let before = backlog(&mut first).await;
        assert_eq!(
            before.len(),
            if hour == 0 { 4 } else { 0 },
            "the first device had everything"
        );
        newest = alice.say(&conversation, &format!("hour-{hour}")).await;
        let (entry, _) = first.delivery().await;
        assert_eq!(entry.seq, newest);
        let acked = first.ask(ack(&conversation, newest)).await;
        first.answer(acked).await;
        missed.push(newest);
        tokio::time::sleep(HOUR).await;
    }
    let mut refused = node.stream().await;
    refused.ask(v1::client_frame::Body::Hello(old)).await;
    let Reply::Refusal(refusal) = refused.next().await.1 else {
        panic!("a token of yesterday was good");
    };
    assert_eq!(refusal.reason(), v1::RefusalReason::Unauthenticated);
    let (mut second, welcome) = node.open(node.hello("bob", "b2")).await;
    assert_eq!(welcome.conversations[0].device_seq, 4);
    assert_eq!(welcome.conversations[0].head_seq, newest);
    assert_eq!(backlog(&mut second).await, missed);
}
