//! Two nodes on one Redis.

use super::{Event, each_redis, listening, next, next_number, node_at, numbered, record, session, until, user};
use crate::bus::redis::RedisBus;
use crate::bus::redis::names::partition_of_user;
use crate::bus::{Bus, SessionControl, StatusRecord, Topic};
use crate::domain::{DeviceId, StreamName, UnixMillis};

#[tokio::test]
async fn events_cross_nodes_in_order_and_all_subscribers_are_counted() {
    for options in each_redis() {
        let (here, there) = (listening(&options).await, listening(&options).await);
        let topic = Topic::User(user("ada"));
        let mut one = there.subscribe(topic.clone()).await;
        assert_eq!(here.publish(&topic, numbered(0)).await, 1);
        let mut two = here.subscribe(topic.clone()).await;
        for number in 1..100 {
            assert_eq!(here.publish(&topic, numbered(number)).await, 2);
        }
        for number in 0..100 {
            assert_eq!(next_number(&mut one).await, number);
        }
        // The order is one per publisher: this one is told only when the other's events are there.
        assert_eq!(there.publish(&topic, numbered(100)).await, 2);
        assert_eq!(next_number(&mut one).await, 100);
        for number in 1..=100 {
            assert_eq!(next_number(&mut two).await, number);
        }
        assert!(!one.take_lagged() && !two.take_lagged());
        let unreached = here.publish_to_users(&[user("bob"), user("ada")], numbered(101)).await;
        assert_eq!(unreached, Some(vec![user("bob")]));
        drop(one);
        // The other node's subscription ends in its own time.
        until("only our own counts", || async {
            here.publish(&topic, numbered(102)).await == 1
        })
        .await;
    }
}

#[tokio::test]
async fn many_users_are_published_to_over_all_nodes() {
    for options in each_redis() {
        let (here, there) = (listening(&options).await, listening(&options).await);
        let users: Vec<_> = (0..600).map(|number| user(&format!("u{number}"))).collect();
        let mut subscriptions = Vec::new();
        for user in users.iter().step_by(2) {
            subscriptions.push(there.subscribe(Topic::User(user.clone())).await);
        }
        let unreached = here.publish_to_users(&users, numbered(5)).await;
        let odd: Vec<_> = users.iter().skip(1).step_by(2).cloned().collect();
        assert_eq!(unreached, Some(odd));
        for subscription in &mut subscriptions {
            assert_eq!(next_number(subscription).await, 5);
        }
    }
}

fn replaced(by: &str) -> Event {
    Event::Replaced {
        device: DeviceId::parse("phone").unwrap(),
        stream: StreamName::default(),
        by: session(by),
    }
}

/// Of streams that replace each other at once exactly one stays only when all hear the same order.
#[tokio::test]
async fn who_replaces_whom_is_heard_in_one_order_everywhere() {
    for options in each_redis() {
        let (here, there) = (listening(&options).await, listening(&options).await);
        let topic = Topic::User(user("ada"));
        let (mut one, mut two) = (
            here.subscribe(topic.clone()).await,
            there.subscribe(topic.clone()).await,
        );
        for _ in 0..20 {
            let counts = tokio::join!(
                here.publish(&topic, replaced("here")),
                there.publish(&topic, replaced("there"))
            );
            assert_eq!(counts, (2, 2));
            for _ in 0..2 {
                let heard = (next(&mut one).await, next(&mut two).await);
                assert_eq!(format!("{:?}", heard.0), format!("{:?}", heard.1));
            }
        }
    }
}

#[tokio::test]
async fn a_frame_reaches_its_session_on_another_node() {
    for options in each_redis() {
        let (here, there) = (listening(&options).await, listening(&options).await);
        let topic = Topic::Session(session("0f.phone:1"));
        let mut control = there.subscribe(topic.clone()).await;
        let frames = vec![bytes::Bytes::from_static(b"frame")];
        let sent = Event::Control(SessionControl { frames: frames.clone() });
        assert_eq!(here.publish(&topic, sent).await, 1);
        let Event::Control(heard) = next(&mut control).await else {
            panic!("another event");
        };
        assert_eq!(heard.frames, frames);
    }
}

#[tokio::test]
async fn statuses_are_seen_elsewhere_and_go_with_the_lease_of_their_gateway() {
    for options in each_redis() {
        let (here, there) = (listening(&options).await, listening(&options).await);
        let ada = user("ada");
        here.set_status(&ada, &session("s1"), record("g1")).await;
        there.set_status(&ada, &session("s2"), record("g2")).await;
        here.set_status(&ada, &session("chosen"), record("")).await;
        let gateways = async || {
            let records = there.statuses(std::slice::from_ref(&ada)).await;
            let mut names: Vec<String> = records[0].iter().map(|record| record.gateway.clone()).collect();
            names.sort();
            names
        };
        assert_eq!(gateways().await, ["", "g1", "g2"]);
        let lease = here.fleet.names.lease("g1");
        // As when the node dies; only its lease does not take its minute.
        drop(here);
        let expire = |commands: &mut redis::Pipeline, key: &str| {
            commands.cmd("DEL").arg(key);
        };
        there.ask(&lease, expire).await.expect("an answer");
        until("the records of g1 vanish", || async { gateways().await == ["", "g2"] }).await;
    }
}

/// Everything of this test on one node of Redis is gone; the connections stay.
async fn flush(node: &RedisBus, partition: u16, prefix: &str) {
    let link = node.fleet.route(partition).expect("a node");
    let client = redis::Client::open(format!("redis://{}", link.address)).expect("an address");
    let mut connection = client.get_multiplexed_async_connection().await.expect("it answers");
    let mut find = redis::cmd("KEYS");
    find.arg(format!("{prefix}*"));
    let keys: Vec<String> = find.query_async(&mut connection).await.expect("an answer");
    assert!(!keys.is_empty());
    for key in keys {
        let deleted = redis::cmd("DEL").arg(key).query_async::<i64>(&mut connection).await;
        assert_eq!(deleted.expect("an answer"), 1);
    }
}

/// I10: a Redis that lost its content without breaking a connection has it again by the next refresh of the lease; of a cluster
/// also when it is a node alone that does not have the lease.
#[tokio::test]
async fn i10_a_flushed_redis_is_told_again() {
    for options in each_redis() {
        let here = listening(&options).await;
        let ada = user("ada");
        let partition = partition_of_user(&ada);
        let of = |partition| here.fleet.route(partition).map(|link| link.address.clone());
        let elsewhere = |gateway: &String| of(here.fleet.names.lease(gateway).partition) != of(partition);
        let gateway = (0..100).map(|number| format!("g{number}")).find(elsewhere);
        assert_eq!(gateway.is_some(), options.cluster);
        let gateway = gateway.unwrap_or_else(|| "g".to_owned());
        here.set_status(&ada, &session("s1"), record(&gateway)).await;
        // What it leaves there to see it.
        until("marks are left", || async { here.statuses.unmarked().await.is_empty() }).await;
        flush(&here, partition, &options.prefix).await;
        assert!(here.statuses(std::slice::from_ref(&ada)).await[0].is_empty());
        until("it is there again", || async {
            here.statuses(std::slice::from_ref(&ada)).await[0].len() == 1
        })
        .await;
    }
}

/// T13, C15: nodes whose clocks are two hours apart see each other's sessions, and a choice for as long as it was made for.
#[tokio::test]
async fn t13_statuses_hold_as_long_whatever_the_clocks_say() {
    const HOUR_MS: i64 = 3_600_000;
    for options in each_redis() {
        let ada = user("ada");
        for (number, (here_off, there_off)) in [(-HOUR_MS, HOUR_MS), (HOUR_MS, -HOUR_MS)].into_iter().enumerate() {
            let (here, there) = (node_at(&options, here_off).await, node_at(&options, there_off).await);
            let gateway = format!("g{number}");
            let says = |gateway: &str| {
                let record = record(gateway);
                let valid_until = UnixMillis(record.valid_until.0 + here_off);
                StatusRecord { valid_until, ..record }
            };
            here.set_status(&ada, &session(&gateway), says(&gateway)).await;
            here.set_status(&ada, &session("chosen"), says("")).await;
            let wall = record("").valid_until.0 - 60_000 + there_off;
            // Whoever reads sweeps what it takes for left behind: a second look finds the same.
            for _ in 0..2 {
                let records = there.statuses(std::slice::from_ref(&ada)).await;
                let held: Vec<_> = records[0]
                    .iter()
                    .filter(|record| record.gateway == gateway || record.gateway.is_empty())
                    .collect();
                assert_eq!(held.len(), 2, "{records:?}");
                for record in held {
                    let left = record.valid_until.0 - wall;
                    assert!((1..=90_000).contains(&left), "{left} ms are left of {record:?}");
                }
            }
        }
    }
}
