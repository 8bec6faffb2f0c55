//! I5, I10: a bus that loses everything, or everything for a while, delays and hides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use stonechat_proto::v1;
use stonechat_proto::v1::conversation_service_client::ConversationServiceClient;
use tokio::time::Instant;

use super::harness::{Peer, TestNode, grounds, node_on, node_with};
use crate::bus::embedded::EmbeddedBus;
use crate::bus::hooked::{HookedBus, PublishHook};
use crate::bus::{Event, Topic};
use crate::config::Config;
use crate::domain::UserId;

/// Whether what is published is lost.
#[derive(Default)]
pub(super) struct Losing(pub(super) AtomicBool);

#[async_trait]
impl PublishHook for Losing {
    async fn passes(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }
}

/// Loses what is published while it is told to, without saying so.
pub(super) type LossyBus = HookedBus<Losing>;

/// I5: with every live delivery lost, an online device has the head within 15 s, and everything before it in order.
#[tokio::test(start_paused = true)]
async fn i5_i10_a_lost_bus_hides_nothing_for_long() {
    let bus = Arc::new(LossyBus::default());
    let node = node_on(grounds(Arc::clone(&bus) as _)).await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    let mut bob = node.live("bob", "b1").await;
    bob.ack(&conversation, 1).await;
    let mut expected = 2;
    for round in 0..4 {
        let losing = round % 2 == 0;
        bus.hook.0.store(losing, Ordering::Relaxed);
        for number in 0..3 {
            alice.say(&conversation, &format!("m{round}-{number}")).await;
        }
        let sent = stonechat_host::monotonic();
        for _ in 0..3 {
            assert_eq!(bob.delivery().await.0.seq, expected);
            bob.ack(&conversation, expected).await;
            expected += 1;
        }
        let took = sent.elapsed();
        assert!(took <= Duration::from_secs(15), "it took {took:?}");
        assert!(losing || took < Duration::from_secs(1), "a live delivery took {took:?}");
    }
}

/// Conversations of F5.
const TAILS: usize = 1_000;

/// The groups of alice and bob.
async fn groups(node: &TestNode, count: usize) -> Vec<String> {
    node.direct("alice", "bob").await;
    let mut client = ConversationServiceClient::new(node.channel().await);
    let mut groups = Vec::new();
    for number in 0..count {
        let create = v1::CreateConversationRequest {
            client_msg_id: format!("group-{number}"),
            kind: v1::ConversationKind::Group.into(),
            name: format!("Group {number}"),
            members: vec![v1::Member {
                user_id: "bob".into(),
                role: 0,
            }],
        };
        let answer = client.create_conversation(node.request("alice", "setup", create)).await;
        match answer.expect("an answer").into_inner().outcome {
            Some(v1::create_conversation_response::Outcome::Conversation(made)) => groups.push(made.conversation_id),
            other => panic!("not created: {other:?}"),
        }
    }
    groups
}

/// Takes what comes until each conversation's tail is there; returns when each came.
async fn tails(peer: &mut Peer, wanted: &BTreeMap<String, u64>) -> BTreeMap<String, Instant> {
    let mut came = BTreeMap::new();
    while came.len() < wanted.len() {
        let (entry, _) = peer.delivery().await;
        peer.ack(&entry.conversation_id, entry.seq).await;
        if wanted.get(&entry.conversation_id) == Some(&entry.seq) {
            let twice = came.insert(entry.conversation_id, stonechat_host::monotonic());
            assert!(twice.is_none(), "a tail was delivered twice");
        }
    }
    came
}

/// F5: the last message of each of a thousand conversations is lost on the bus and never followed by another.
#[tokio::test(start_paused = true)]
async fn f5_the_tails_of_a_thousand_conversations_heal_within_15_s() {
    let bus = Arc::new(LossyBus::default());
    let unhurried = Config {
        address_requests_per_second: 0,
        user_requests_per_second: 0,
        session_frames_per_second: 100_000,
        ..Config::default()
    };
    let node = node_with(grounds(Arc::clone(&bus) as _), unhurried).await;
    let groups = groups(&node, TAILS).await;
    let (mut alice, mut bob) = (
        node.live_with_backlog("alice", "a1").await,
        node.live_with_backlog("bob", "b1").await,
    );
    bus.hook.0.store(true, Ordering::Relaxed);
    let mut sent = BTreeMap::new();
    let mut acked = BTreeMap::new();
    for (number, group) in groups.iter().enumerate() {
        sent.insert(group.clone(), alice.say(group, &format!("tail-{number}")).await);
        acked.insert(group.clone(), stonechat_host::monotonic());
    }
    let lags: Vec<Duration> = {
        let came = tails(&mut bob, &sent).await;
        let mut lags: Vec<Duration> = came.iter().map(|(group, at)| *at - acked[group]).collect();
        lags.sort_unstable();
        lags
    };
    let (p99, last) = (lags[TAILS * 99 / 100], lags[TAILS - 1]);
    println!("F5: {TAILS} tails lost on the bus, p99 {p99:?}, last {last:?}");
    assert!(last <= Duration::from_secs(15), "a tail came after {last:?}");
}

/// A burst beyond what the bus keeps for a session is read from the log, and the client is told.
#[tokio::test(start_paused = true)]
async fn i9_a_burst_beyond_the_subscription_becomes_a_resync() {
    let node = node_on(grounds(Arc::new(EmbeddedBus::new()))).await;
    let conversation = node.direct("alice", "bob").await;
    let mut alice = node.live("alice", "a1").await;
    let mut bob = node.live("bob", "b1").await;
    bob.ack(&conversation, 1).await;
    // Published in one go, as after a stall: the session cannot take them out in between.
    let user = UserId::parse("bob").expect("an id");
    for _ in 0..crate::bus::SUBSCRIPTION_EVENTS_MAX + 10 {
        let typing = Event::Typing {
            conversation: conversation.parse().expect("an id"),
            user: UserId::parse("alice").expect("an id"),
            stopped: false,
        };
        node.grounds
            .backends
            .bus
            .publish(&Topic::User(user.clone()), typing)
            .await;
    }
    let seq = alice.say(&conversation, "m1").await;
    let mut resync = false;
    loop {
        match bob.next().await.1 {
            stonechat_proto::v1::server_frame::Body::Resync(_) => resync = true,
            stonechat_proto::v1::server_frame::Body::Delivery(delivery) => {
                let delivered = delivery.entry.expect("an entry").seq;
                if delivered == seq {
                    break;
                }
            }
            _ => {}
        }
    }
    assert!(resync, "the client was not told");
}
