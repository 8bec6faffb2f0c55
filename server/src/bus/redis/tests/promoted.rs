//! Busy large groups on three nodes: one publish for those of their gateways that have a member.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;

use super::groups::{acquainted, record};
use super::{LONG, each_redis, listening, next, until, user};
use crate::bus::redis::names::partition_of;
use crate::bus::redis::promoted::SETTLES;
use crate::bus::redis::{RedisBus, RedisOptions};
use crate::bus::{Bus, Event, NodeRecord, ReceiptsMoved, Subscription, Topic};
use crate::domain::{ConversationId, Seq, UserId};

const GROUP: ConversationId = ConversationId([0x5a; 16]);
const MEMBERS: usize = 500;
/// Announcements that may come between two counts.
const ANNOUNCEMENTS: u64 = 2;

fn members() -> Vec<UserId> {
    (0..MEMBERS).map(|number| user(&format!("member{number}"))).collect()
}

fn numbered(number: u64) -> Event {
    Event::Receipts(Arc::new(ReceiptsMoved {
        conversation: GROUP,
        members: Vec::new(),
        delivered_to_all: Seq(number),
        read_by_all: Seq(0),
    }))
}

fn number_of(event: &Event) -> Option<u64> {
    match event {
        Event::Receipts(moved) => Some(moved.delivered_to_all.0),
        _ => None,
    }
}

/// The number of the next event that is one.
async fn next_number(subscription: &mut Subscription) -> u64 {
    loop {
        if let Some(number) = number_of(&next(subscription).await) {
            return number;
        }
    }
}

/// A node that publishes, one that has members, and one that has none; and the number of the last event.
struct Three {
    here: RedisBus,
    there: RedisBus,
    idle: RedisBus,
    /// Of the first ten members, at the second node.
    sessions: Vec<Subscription>,
    number: u64,
}

impl Three {
    /// They know of each other, and the group is promoted.
    async fn with_a_promoted_group(options: &RedisOptions) -> Self {
        let (here, there) = acquainted(options).await;
        let idle = listening(options).await;
        idle.announce_node(&record("idle", true), LONG).await;
        until("all know each other", || async {
            here.nodes().await.map(|nodes| nodes.len()) == Some(3)
        })
        .await;
        let mut sessions = Vec::new();
        for member in members().iter().take(10) {
            sessions.push(there.subscribe(Topic::User(member.clone())).await);
        }
        let mut three = Self {
            here,
            there,
            idle,
            sessions,
            number: 0,
        };
        three.is_told_by_the_channel(&members()).await;
        // They have not heard for long what goes to every gateway, and had to look.
        for session in &three.sessions {
            session.take_lagged();
        }
        three
    }

    /// Whether the channel reaches all of these users now.
    fn is_by_channel(&self, users: &[UserId]) -> bool {
        let view = self.here.fleet.gateways.view();
        let reached = self.here.fleet.busy.way(GROUP, users, view, false).reached;
        !reached.is_empty() && reached.into_iter().all(|reached| reached)
    }

    /// Publishes the next event; how many publishes that took.
    async fn event(&mut self, users: &[UserId]) -> u64 {
        // As every second: what nodes said grows old.
        self.here.nodes().await;
        self.number += 1;
        let before = self.here.publishes();
        self.here.publish_to_users(users, numbered(self.number)).await;
        self.here.publishes() - before
    }

    /// All sessions hear the newest event, after those that they heard before.
    async fn all_hear(&mut self) {
        for session in &mut self.sessions {
            while next_number(session).await < self.number {}
        }
    }

    /// Publishes until one event takes one publish, on the channel of the conversation.
    async fn is_told_by_the_channel(&mut self, users: &[UserId]) {
        let told = async {
            loop {
                if self.is_by_channel(users) {
                    return;
                }
                self.event(users).await;
                self.all_hear().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LONG, told).await.expect("the group is promoted");
    }

    /// How many gateways hear the channel, as Redis says.
    async fn listeners(&self) -> i64 {
        let ask = |commands: &mut redis::Pipeline, topic: &Topic| {
            let channel = self.here.fleet.names.channel(topic);
            commands.cmd("PUBSUB").arg("SHARDNUMSUB").arg(channel);
        };
        let topic = Topic::Conversation(GROUP);
        let answers = self.here.fleet.ask_each(&[topic], partition_of, ask).await;
        let Some(Value::Array(answer)) = answers.into_iter().next().flatten() else {
            panic!("no answer");
        };
        redis::from_redis_value(answer[1].clone()).unwrap()
    }
}

/// C5, C16: however many gateways there are, an event is one publish, and only those that have a member hear it.
#[tokio::test]
async fn an_event_of_a_busy_group_is_one_publish_for_the_gateways_that_have_members() {
    for options in each_redis() {
        let mut three = Three::with_a_promoted_group(&options).await;
        let mut stranger = three.there.subscribe(Topic::User(user("stranger"))).await;
        assert_eq!(three.listeners().await, 1, "one of three has members");
        assert!(!three.idle.fleet.topics.has(&Topic::Conversation(GROUP)));
        let (first, mut publishes) = (three.number + 1, 0);
        for _ in 0..20 {
            publishes += three.event(&members()).await;
        }
        println!("{publishes} publishes for 20 events of {MEMBERS} users");
        assert!(publishes <= 20 + ANNOUNCEMENTS, "{publishes}");
        for session in &mut three.sessions {
            for number in first..first + 20 {
                assert_eq!(number_of(&next(session).await), Some(number), "once each, in order");
            }
        }
        three.here.publish(&Topic::User(user("stranger")), numbered(0)).await;
        assert_eq!(
            number_of(&next(&mut stranger).await),
            Some(0),
            "the first that was for them"
        );
    }
}

/// I5: a member who comes online at a gateway that does not hear the channel yet hears what comes then, or is told to look.
#[tokio::test]
async fn i5_who_comes_late_to_a_gateway_hears_at_once() {
    for options in each_redis() {
        let mut three = Three::with_a_promoted_group(&options).await;
        let late = members()[400].clone();
        let mut session = three.idle.subscribe(Topic::User(late)).await;
        // Whoever subscribed reads then: what came before this is found.
        let lost_before = session.take_lagged();
        three.event(&members()).await;
        let heard = next(&mut session).await;
        let looks = matches!(heard, Event::Lost) && (lost_before || session.take_lagged());
        assert!(looks || number_of(&heard) == Some(three.number), "{heard:?}");
        until("the channel is heard", || async {
            three.idle.fleet.topics.all_confirmed()
        })
        .await;
        assert_eq!(three.listeners().await, 2);
        for _ in 0..5 {
            let publishes = three.event(&members()).await;
            assert!(publishes <= 1 + ANNOUNCEMENTS);
            while next_number(&mut session).await < three.number {}
        }
        drop(session);
        let left = async {
            while three.listeners().await > 1 {
                three.event(&members()).await;
                three.all_hear().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        };
        tokio::time::timeout(LONG, left)
            .await
            .expect("it leaves with its last member");
    }
}

/// I7, C12, C13: who joins hears from then on, first by their own topic, and who left nothing more.
#[tokio::test]
async fn i7_who_joins_and_who_leaves_a_busy_group_hears_exactly_their_part() {
    for options in each_redis() {
        let mut three = Three::with_a_promoted_group(&options).await;
        let mut comer = three.idle.subscribe(Topic::User(user("comer"))).await;
        let mut now = members();
        let left = now.remove(0);
        now.push(user("comer"));
        three.event(&now).await;
        assert_eq!(number_of(&next(&mut comer).await), Some(three.number));
        let mut leaver = three.sessions.remove(0);
        three.is_told_by_the_channel(&now).await;
        three.event(&now).await;
        while next_number(&mut comer).await < three.number {}
        assert_eq!(three.listeners().await, 2);
        three.here.publish(&Topic::User(left), numbered(0)).await;
        assert_eq!(number_of(&next(&mut leaver).await), Some(0), "nothing came before it");
    }
}

/// I5, I10: a channel that breaks has its members look, and is heard again.
#[tokio::test]
async fn i5_members_of_a_busy_group_look_when_its_channel_breaks() {
    for options in each_redis() {
        let mut three = Three::with_a_promoted_group(&options).await;
        let link = three.there.fleet.route(partition_of(&Topic::Conversation(GROUP)));
        link.expect("a route").break_up();
        for session in &mut three.sessions {
            // What came before it was taken.
            while !matches!(next(session).await, Event::Lost) {}
            assert!(session.take_lagged());
        }
        until("all is heard again", || async {
            three.there.fleet.topics.all_confirmed()
        })
        .await;
        three.event(&members()).await;
        three.all_hear().await;
        three.is_told_by_the_channel(&members()).await;
        assert_eq!(three.listeners().await, 1);
    }
}

/// A node of the version before would hear nothing: while one lives, nothing goes that way.
#[tokio::test]
async fn while_a_node_of_before_lives_no_group_is_promoted() {
    for options in each_redis() {
        let mut three = Three::with_a_promoted_group(&options).await;
        let before = NodeRecord {
            hears_promoted: false,
            ..record("of before", true)
        };
        three.idle.withdraw_node("idle").await;
        three.idle.announce_node(&before, LONG).await;
        let began = stonechat_host::monotonic();
        // It would be promoted again by then.
        while began.elapsed() < 2 * SETTLES {
            assert_eq!(three.event(&members()).await, 1, "all gateways are told at once");
            three.all_hear().await;
            assert!(!three.is_by_channel(&members()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
