//! I4: a sender's order, also when the server refuses for a while and the client sends again.

use std::sync::Arc;
use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Ask;
use stonechat_proto::v1::server_frame::Body as Reply;

use super::harness::{Peer, TestNode, appended, grounds, node_with, send};
use crate::bus::embedded::EmbeddedBus;
use crate::config::Config;

/// More than the conversation's rate takes at once.
const BURST: usize = 50;

fn outcome(reply: Reply) -> Result<u64, v1::Refusal> {
    match reply {
        Reply::Send(v1::SendResponse {
            outcome: Some(v1::send_response::Outcome::Refusal(refusal)),
        }) => Err(refusal),
        other => Ok(appended(other)),
    }
}

fn after(conversation: &str, id: &str, previous: &str) -> Ask {
    let mut ask = send(conversation, id, id);
    if let Ask::Send(send) = &mut ask {
        send.header.as_mut().expect("a header").previous_client_msg_id = previous.into();
    }
    ask
}

struct Limited {
    _node: TestNode,
    alice: Peer,
    conversation: String,
    /// The newest message that was stored, and its seq.
    stored: (String, u64),
    /// The first one that was refused.
    refused: String,
}

/// A stream whose last send was refused because the conversation had too many. By now it would take more.
async fn limited() -> Limited {
    let config = Config {
        conversation_entries_per_second: 1,
        ..Config::default()
    };
    let node = node_with(grounds(Arc::new(EmbeddedBus::new())), config).await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live_with_backlog("alice", "a1").await;
    // The creation of the conversation may count, too.
    tokio::time::sleep(Duration::from_secs(10)).await;
    let mut stored = (String::new(), 0);
    for number in 0..BURST {
        let id = format!("m{number}");
        let request = alice.ask(send(&conversation, &id, &id)).await;
        match outcome(alice.answer(request).await) {
            Ok(seq) => stored = (id, seq),
            Err(refusal) => {
                assert_eq!(refusal.reason(), v1::RefusalReason::RateLimited);
                tokio::time::sleep(Duration::from_secs(30)).await;
                return Limited {
                    _node: node,
                    alice,
                    conversation,
                    stored,
                    refused: id,
                };
            }
        }
    }
    panic!("{BURST} messages were not too many");
}

impl Limited {
    async fn ask(&mut self, ask: Ask) -> Result<u64, v1::Refusal> {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let request = self.alice.ask(ask).await;
        outcome(self.alice.answer(request).await)
    }

    async fn say(&mut self, id: &str) -> Result<u64, v1::Refusal> {
        let conversation = self.conversation.clone();
        self.ask(send(&conversation, id, id)).await
    }
}

/// I4: what comes after a refused send waits for its retry, however late that comes, and then goes on.
#[tokio::test(start_paused = true)]
async fn i4_a_send_does_not_overtake_one_that_was_refused_for_a_while() {
    let mut limited = limited().await;
    for _ in 0..2 {
        let refusal = limited
            .say("later")
            .await
            .expect_err("it came after one that is not stored");
        assert_eq!(refusal.reason(), v1::RefusalReason::OutOfOrder);
        assert_eq!(refusal.effect(), v1::Effect::NotDone);
        assert_eq!(refusal.last_client_msg_id, limited.stored.0);
        let advice = format!("send {} again", limited.refused);
        assert!(refusal.message.contains(&advice), "{}", refusal.message);
    }
    let refused = limited.refused.clone();
    let first = limited.say(&refused).await.expect("stored");
    let second = limited.say("later").await.expect("stored");
    assert_eq!((first, second), (limited.stored.1 + 1, first + 1));
    assert_eq!(limited.say("new").await.expect("stored"), second + 1);
}

/// Who gives up what was refused says so by naming what the next one is to follow.
#[tokio::test(start_paused = true)]
async fn i4_a_named_predecessor_gives_up_what_was_refused() {
    let mut limited = limited().await;
    let next = after(&limited.conversation, "instead", &limited.stored.0);
    let seq = limited.ask(next).await.expect("stored");
    assert_eq!(seq, limited.stored.1 + 1);
    assert_eq!(limited.say("new").await.expect("stored"), seq + 1);
}

/// The hold is one conversation's: elsewhere the refusal is the place's own.
#[tokio::test(start_paused = true)]
async fn i4_another_conversation_is_not_held_up() {
    let mut limited = limited().await;
    let elsewhere = "00000000-0000-4000-8000-000000000000";
    let refusal = limited
        .ask(send(elsewhere, "m", "m"))
        .await
        .expect_err("it is not there");
    assert_eq!(refusal.reason(), v1::RefusalReason::NotFound);
}
