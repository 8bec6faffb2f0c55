//! What only the bus of one process promises, and the contract suite against it.

use std::sync::Arc;

use super::{EmbeddedBus, STATUSES_PER_USER_MAX, lock};
use crate::bus::{Bus, Status, StatusRecord, Topic};
use crate::domain::{SessionId, UnixMillis, UserId};

crate::bus_contract!(embedded, || async { Arc::new(EmbeddedBus::new()) as Arc<dyn Bus> });

fn user() -> UserId {
    UserId::parse("ada").expect("well-formed")
}

#[tokio::test]
async fn a_topic_leaves_with_its_last_subscription() {
    let bus = EmbeddedBus::new();
    let first = bus.subscribe(Topic::User(user())).await;
    let second = bus.subscribe(Topic::User(user())).await;
    drop(first);
    assert_eq!(lock(&bus.topics.0).subscribers.len(), 1);
    drop(second);
    assert!(lock(&bus.topics.0).subscribers.is_empty());
}

#[tokio::test]
async fn statuses_of_one_user_are_bounded_and_the_one_expiring_first_goes() {
    let bus = EmbeddedBus::new();
    for number in 0..=STATUSES_PER_USER_MAX {
        let session = SessionId::parse(&format!("s{number}")).expect("well-formed");
        let record = StatusRecord {
            status: Status::Online,
            last_active: UnixMillis(0),
            gateway: String::new(),
            valid_until: UnixMillis(number.try_into().expect("small")),
        };
        bus.set_status(&user(), &session, record).await;
    }
    let kept = bus.statuses(&[user()]).await.remove(0);
    assert_eq!(kept.len(), STATUSES_PER_USER_MAX);
    assert!(kept.iter().all(|record| record.valid_until > UnixMillis(0)));
}

#[tokio::test]
async fn a_user_without_sessions_takes_no_room() {
    let bus = EmbeddedBus::new();
    let session = SessionId::parse("s").expect("well-formed");
    let record = StatusRecord {
        status: Status::Away,
        last_active: UnixMillis(0),
        gateway: String::new(),
        valid_until: UnixMillis(9),
    };
    bus.set_status(&user(), &session, record).await;
    bus.clear_status(&user(), &session).await;
    assert!(lock(&bus.statuses).is_empty());
}
