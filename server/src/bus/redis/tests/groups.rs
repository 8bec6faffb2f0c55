//! Large groups on two nodes: one publish for all of their gateways.

use super::{Event, LONG, each_redis, listening, next, next_number, numbered, until, user};
use crate::bus::redis::names::partition_of;
use crate::bus::redis::{RedisBus, RedisOptions};
use crate::bus::{Bus, NodeRecord, Topic};
use crate::domain::UserId;

const MEMBERS: usize = 500;
/// Events of each test.
const EVENTS: u8 = 20;

fn members() -> Vec<UserId> {
    (0..MEMBERS).map(|number| user(&format!("member{number}"))).collect()
}

pub(super) fn record(name: &str, hears_groups: bool) -> NodeRecord {
    NodeRecord {
        name: name.to_owned(),
        address: format!("{name}:1"),
        core: true,
        hears_groups,
        hears_promoted: hears_groups,
        clock: None,
    }
}

/// Two nodes that know of each other, and hear what goes to all gateways.
pub(super) async fn acquainted(options: &RedisOptions) -> (RedisBus, RedisBus) {
    let (here, there) = (listening(options).await, listening(options).await);
    here.announce_node(&record("here", true), LONG).await;
    there.announce_node(&record("there", true), LONG).await;
    // Nobody but these hears of it, also not late.
    let nobody: Vec<UserId> = (0..MEMBERS).map(|number| user(&format!("nobody{number}"))).collect();
    until("both hear", || async {
        assert_eq!(here.nodes().await.map(|nodes| nodes.len()), Some(2));
        there.nodes().await;
        let hear = async |bus: &RedisBus| bus.publish_to_users(&nobody, numbered(u8::MAX)).await.is_none();
        hear(&here).await && hear(&there).await
    })
    .await;
    (here, there)
}

/// C5, C16: each session of a member hears each event once and in order, whichever node publishes, and others none.
#[tokio::test]
async fn a_large_group_is_told_with_one_publish_for_all_gateways() {
    for options in each_redis() {
        let (here, there) = acquainted(&options).await;
        let members = members();
        let mut sessions = Vec::new();
        for (number, member) in members.iter().enumerate().step_by(3) {
            let at = if number % 2 == 0 { &here } else { &there };
            sessions.push(at.subscribe(Topic::User(member.clone())).await);
        }
        let mut stranger = there.subscribe(Topic::User(user("stranger"))).await;
        let before = here.publishes();
        for number in 0..EVENTS {
            // As every second: what nodes said grows old.
            here.nodes().await;
            assert_eq!(here.publish_to_users(&members, numbered(number)).await, None);
        }
        let publishes = here.publishes() - before;
        println!("{publishes} publishes for {EVENTS} events of {MEMBERS} users on 2 nodes");
        assert_eq!(publishes, u64::from(EVENTS));
        let some = [user("stranger"), members[0].clone()];
        assert_eq!(here.publish_to_users(&some, numbered(EVENTS)).await, Some(Vec::new()));
        for session in &mut sessions {
            for number in 0..EVENTS {
                assert_eq!(next_number(session).await, number);
            }
            assert!(!session.take_lagged());
        }
        assert_eq!(next_number(&mut stranger).await, EVENTS, "the first that was for them");
    }
}

/// A node that was not brought up to date yet is told as before, and misses nothing.
#[tokio::test]
async fn while_a_node_of_before_lives_users_are_told_each() {
    for options in each_redis() {
        let (here, there) = acquainted(&options).await;
        there.announce_node(&record("of before", false), LONG).await;
        there.withdraw_node("there").await;
        assert_eq!(here.nodes().await.map(|nodes| nodes.len()), Some(2));
        let members = members();
        let mut session = there.subscribe(Topic::User(members[7].clone())).await;
        let before = here.publishes();
        let unreached = here.publish_to_users(&members, numbered(1)).await;
        assert_eq!(unreached.map(|users| users.len()), Some(MEMBERS - 1));
        assert_eq!(here.publishes() - before, MEMBERS as u64);
        assert_eq!(next_number(&mut session).await, 1);
    }
}

/// A node that says that it lives and does not hear, because it just lost its connection: users are told each as well.
#[tokio::test]
async fn while_a_gateway_does_not_hear_users_are_told_each_as_well() {
    for options in each_redis() {
        let (here, there) = acquainted(&options).await;
        there.announce_node(&record("deaf", true), LONG).await;
        assert_eq!(here.nodes().await.map(|nodes| nodes.len()), Some(3));
        let members = members();
        let mut session = there.subscribe(Topic::User(members[7].clone())).await;
        let unreached = here.publish_to_users(&members, numbered(1)).await;
        assert_eq!(
            unreached.map(|users| users.len()),
            Some(MEMBERS - 1),
            "who is offline is known then"
        );
        for _both_ways in 0..2 {
            assert_eq!(next_number(&mut session).await, 1);
        }
    }
}

/// I5: something that only a later version can read may have been for any user of the gateway: all of them look.
#[tokio::test]
async fn what_a_gateway_cannot_read_its_users_are_told() {
    for options in each_redis() {
        let (here, there) = acquainted(&options).await;
        let mut sessions = Vec::new();
        for member in members().iter().take(10) {
            sessions.push(there.subscribe(Topic::User(member.clone())).await);
        }
        let channel = Topic::Gateways(3);
        let later = |commands: &mut redis::Pipeline, topic: &Topic| {
            let channel = here.fleet.names.channel(topic);
            commands.cmd("SPUBLISH").arg(channel).arg(&b"later"[..]);
        };
        here.fleet.ask_each(&[channel], partition_of, later).await;
        for session in &mut sessions {
            assert!(matches!(next(session).await, Event::Lost));
            assert!(session.take_lagged());
        }
    }
}
