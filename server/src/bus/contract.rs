//! The contract suite of [`Bus`]: every implementation joins with one line, `bus_contract!(name, factory)`.
//!
//! A bus may lose anything, so the suite demands delivery only of a healthy one.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;

use super::{
    Bus, Event, NodeRecord, ReceiptsMoved, SUBSCRIPTION_BYTES_MAX, SUBSCRIPTION_EVENTS_MAX, Status, StatusRecord,
    Subscription, Topic,
};
use crate::domain::limits::TEXT_BYTES_MAX;
use crate::domain::{ConversationId, Seq, SessionId, UnixMillis, UserId};
use crate::storage::contract::samples;
use crate::storage::{Head, StoredEntry};

/// Runs the whole suite as tests of a module `name`; `factory` is an async closure giving an `Arc<dyn Bus>`.
#[macro_export]
macro_rules! bus_contract {
    ($name:ident, $factory:expr) => {
        mod $name {
            use super::*;
            $crate::bus_contract!(@each $factory;
                events_arrive_in_order_at_every_subscriber_of_the_topic
                a_dropped_subscription_no_longer_counts
                publishing_to_users_names_those_without_a_subscriber
                a_large_group_hears_each_event_once_in_order_and_nobody_else_does
                a_busy_large_group_hears_each_event_once_in_order_and_nobody_else_does
                a_full_subscriber_is_told_and_does_not_stop_the_others
                a_subscriber_is_full_by_bytes_long_before_it_is_by_count
                statuses_are_set_replaced_and_cleared_per_session
                nodes_are_there_until_they_go_or_fall_silent
            );
        }
    };
    (@each $factory:expr; $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                let factory = $factory;
                let made: Option<std::sync::Arc<dyn $crate::bus::Bus>> = factory().await.into();
                // A service that is not there was named as skipped.
                if let Some(bus) = made {
                    $crate::bus::contract::$test(bus).await;
                }
            }
        )*
    };
}

type AnyBus = Arc<dyn Bus>;

fn user(name: &str) -> UserId {
    UserId::parse(name).expect("well-formed")
}

fn session(name: &str) -> SessionId {
    SessionId::parse(name).expect("well-formed")
}

fn numbered(number: u16) -> Event {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    Event::OwnRow(ConversationId(id))
}

fn number_of(event: &Event) -> u16 {
    match event {
        Event::OwnRow(id) => u16::from_be_bytes([id.0[0], id.0[1]]),
        other => panic!("another event than was published: {other:?}"),
    }
}

fn record(status: Status) -> StatusRecord {
    StatusRecord {
        status,
        last_active: UnixMillis(1),
        gateway: "g".to_owned(),
        valid_until: UnixMillis(2),
    }
}

pub(crate) async fn events_arrive_in_order_at_every_subscriber_of_the_topic(bus: AnyBus) {
    let topic = Topic::User(user("ada"));
    let mut one = bus.subscribe(topic.clone()).await;
    let mut two = bus.subscribe(topic.clone()).await;
    let mut other = bus.subscribe(Topic::Presence(user("ada"))).await;
    for number in 0..100 {
        assert_eq!(bus.publish(&topic, numbered(number)).await, 2);
    }
    assert_eq!(bus.publish(&Topic::Presence(user("ada")), numbered(7)).await, 1);
    for number in 0..100 {
        assert_eq!(number_of(&one.next().await.expect("open")), number);
        assert_eq!(number_of(&two.next().await.expect("open")), number);
    }
    // Were topics mixed up, the first event here would be number 0.
    assert_eq!(number_of(&other.next().await.expect("open")), 7);
    assert!(!one.take_lagged() && !two.take_lagged());
}

pub(crate) async fn a_dropped_subscription_no_longer_counts(bus: AnyBus) {
    let topic = Topic::Session(session("s"));
    assert_eq!(bus.publish(&topic, numbered(0)).await, 0);
    let kept = bus.subscribe(topic.clone()).await;
    let dropped = bus.subscribe(topic.clone()).await;
    assert_eq!(bus.publish(&topic, numbered(1)).await, 2);
    drop(dropped);
    assert_eq!(bus.publish(&topic, numbered(2)).await, 1);
    drop(kept);
    assert_eq!(bus.publish(&topic, numbered(3)).await, 0);
}

pub(crate) async fn publishing_to_users_names_those_without_a_subscriber(bus: AnyBus) {
    let mut ada = bus.subscribe(Topic::User(user("ada"))).await;
    let mut cyd = bus.subscribe(Topic::User(user("cyd"))).await;
    let users = [user("ada"), user("bob"), user("cyd"), user("dan")];
    let unreached = bus.publish_to_users(&users, numbered(4)).await;
    assert_eq!(unreached, Some(vec![user("bob"), user("dan")]));
    assert_eq!(number_of(&ada.next().await.expect("open")), 4);
    assert_eq!(number_of(&cyd.next().await.expect("open")), 4);
}

/// Also when the nodes are known, so that a bus may tell all gateways at once.
pub(crate) async fn a_large_group_hears_each_event_once_in_order_and_nobody_else_does(bus: AnyBus) {
    let node = NodeRecord {
        name: "n".to_owned(),
        address: "n:1".to_owned(),
        core: true,
        hears_groups: true,
        hears_promoted: true,
        clock: None,
    };
    bus.announce_node(&node, Duration::from_secs(60)).await;
    assert_eq!(bus.nodes().await, Some(vec![node]));
    let members: Vec<UserId> = (0..500).map(|number| user(&format!("member{number}"))).collect();
    let mut sessions = Vec::new();
    // Two sessions of each of some of them.
    for member in members.iter().step_by(5).chain(members.iter().step_by(10)) {
        sessions.push(bus.subscribe(Topic::User(member.clone())).await);
    }
    let mut stranger = bus.subscribe(Topic::User(user("stranger"))).await;
    for number in 0..20 {
        bus.publish_to_users(&members, numbered(number)).await;
    }
    let all = [members, vec![user("stranger")]].concat();
    bus.publish_to_users(&all, numbered(20)).await;
    for session in &mut sessions {
        for number in 0..=20 {
            assert_eq!(number_of(&session.next().await.expect("open")), number);
        }
        assert!(!session.take_lagged());
    }
    assert_eq!(number_of(&stranger.next().await.expect("open")), 20, "C16");
}

/// Also when it is told another way after a while than at first.
pub(crate) async fn a_busy_large_group_hears_each_event_once_in_order_and_nobody_else_does(bus: AnyBus) {
    /// Longer than any bus takes to change the way.
    const BUSY_FOR: Duration = Duration::from_secs(4);
    let numbered = |number| {
        Event::Receipts(Arc::new(ReceiptsMoved {
            conversation: ConversationId([1; 16]),
            members: Vec::new(),
            delivered_to_all: Seq(number),
            read_by_all: Seq(0),
        }))
    };
    let next_number = async |session: &mut Subscription| {
        loop {
            match session.next().await {
                Some(Event::Receipts(moved)) => return moved.delivered_to_all.0,
                // A change of the way may have them look.
                Some(Event::Lost) => drop(session.take_lagged()),
                other => panic!("another event than was published: {other:?}"),
            }
        }
    };
    let members: Vec<UserId> = (0..100).map(|number| user(&format!("member{number}"))).collect();
    let mut sessions = Vec::new();
    for member in members.iter().step_by(5).chain(members.iter().step_by(10)) {
        sessions.push(bus.subscribe(Topic::User(member.clone())).await);
    }
    let mut stranger = bus.subscribe(Topic::User(user("stranger"))).await;
    let (began, mut number) = (stonechat_host::monotonic(), 0);
    while began.elapsed() < BUSY_FOR {
        bus.nodes().await;
        number += 1;
        bus.publish_to_users(&members, numbered(number)).await;
        for session in &mut sessions {
            assert_eq!(next_number(session).await, number);
        }
    }
    bus.publish(&Topic::User(user("stranger")), numbered(0)).await;
    assert_eq!(next_number(&mut stranger).await, 0, "C16");
}

pub(crate) async fn a_full_subscriber_is_told_and_does_not_stop_the_others(bus: AnyBus) {
    let topic = Topic::User(user("ada"));
    let mut slow = bus.subscribe(topic.clone()).await;
    let mut quick = bus.subscribe(topic.clone()).await;
    let published = u16::try_from(SUBSCRIPTION_EVENTS_MAX).expect("small") + 1;
    for number in 0..published {
        bus.publish(&topic, numbered(number)).await;
        assert_eq!(number_of(&quick.next().await.expect("open")), number);
    }
    assert!(slow.take_lagged(), "I9: a slow reader is told");
    assert!(!slow.take_lagged(), "told once");
    assert!(!quick.take_lagged());
    for number in 0..published - 1 {
        assert_eq!(number_of(&slow.next().await.expect("open")), number);
    }
}

/// I9: whoever reads nothing keeps no more than a MiB of entries from being freed, and gets the next ones once it has read.
pub(crate) async fn a_subscriber_is_full_by_bytes_long_before_it_is_by_count(bus: AnyBus) {
    let topic = Topic::User(user("ada"));
    let batch = samples::batch(samples::conversation(1), Head::default(), &[samples::message("m")]);
    let large = || {
        let entry = batch.entries[0].entry.clone();
        let wire = vec![b'x'; TEXT_BYTES_MAX].into();
        Event::Entries(Arc::new([Arc::new(StoredEntry { entry, wire })]), None)
    };
    let mut slow = bus.subscribe(topic.clone()).await;
    let mut quick = bus.subscribe(topic.clone()).await;
    let fit = SUBSCRIPTION_BYTES_MAX / TEXT_BYTES_MAX;
    for _ in 0..2 * fit {
        bus.publish(&topic, large()).await;
        quick.next().await.expect("open");
    }
    assert!(slow.take_lagged() && !quick.take_lagged());
    // What the runtime grants a task in one turn is used up by now.
    tokio::task::yield_now().await;
    let mut kept = 0;
    while slow.next().now_or_never().flatten().is_some() {
        kept += 1;
    }
    assert!((fit / 2..=fit).contains(&kept), "{kept}");
    bus.publish(&topic, large()).await;
    assert!(slow.next().await.is_some());
}

pub(crate) async fn statuses_are_set_replaced_and_cleared_per_session(bus: AnyBus) {
    let ada = user("ada");
    bus.set_status(&ada, &session("phone"), record(Status::Away)).await;
    bus.set_status(&ada, &session("phone"), record(Status::Busy)).await;
    bus.set_status(&ada, &session("web"), record(Status::Online)).await;
    let both = bus.statuses(&[user("bob"), ada.clone()]).await;
    assert!(both[0].is_empty());
    let mut seen: Vec<Status> = both[1].iter().map(|record| record.status).collect();
    seen.sort_unstable();
    assert_eq!(seen, [Status::Busy, Status::Online]);
    bus.clear_status(&ada, &session("web")).await;
    bus.clear_status(&ada, &session("never")).await;
    let mut left = bus.statuses(&[ada]).await;
    for record in &mut left[0] {
        // How long it holds may be what the bus knows of its gateway.
        assert!(record.valid_until >= UnixMillis(2));
        record.valid_until = UnixMillis(2);
    }
    assert_eq!(left, [vec![record(Status::Busy)]]);
}

pub(crate) async fn nodes_are_there_until_they_go_or_fall_silent(bus: AnyBus) {
    let node = |name: &str, core| NodeRecord {
        name: name.to_owned(),
        address: format!("{name}:1"),
        core,
        hears_groups: true,
        hears_promoted: true,
        clock: None,
    };
    let names = async || {
        let nodes = bus.nodes().await.expect("a healthy bus knows");
        nodes.into_iter().map(|node| (node.name, node.core)).collect::<Vec<_>>()
    };
    bus.announce_node(&node("b", true), Duration::from_secs(60)).await;
    bus.announce_node(&node("a", false), Duration::from_secs(60)).await;
    bus.announce_node(&node("c", true), Duration::from_millis(100)).await;
    bus.withdraw_node("b").await;
    bus.withdraw_node("never").await;
    while names().await.len() > 1 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(names().await, [("a".to_owned(), false)]);
}
