//! Who subscribed here, and who is told when something may have been missed.

use std::time::Duration;

use super::*;
use crate::bus::redis::promoted::{MEMBERS_MAX, REMEMBERED_FOR, REMEMBERED_MAX, SETTLES};

/// I5: what goes to all gateways at once lies on other channels than what goes to a user, in a cluster on another server: when
/// one of those breaks, users whose own topic is well are told, and once more when it is heard again.
#[tokio::test]
async fn i5_users_are_told_when_a_channel_of_all_gateways_breaks() {
    let channels = [Topic::Gateways(0), Topic::Gateways(1)];
    let topics = Topics::with(channels.iter().cloned());
    let ada = Topic::User(UserId::parse("ada").unwrap());
    let mut subscription = topics.add(&ada, |_| ()).subscription;
    for topic in channels.iter().chain([&ada]) {
        topics.confirm(topic);
    }
    subscription.take_lagged();
    assert!(matches!(subscription.next().await, Some(Event::Lost)), "nobody waited");
    topics.broke(|topic| *topic == channels[1]);
    assert!(matches!(subscription.next().await, Some(Event::Lost)) && subscription.take_lagged());
    topics.confirm(&channels[1]);
    assert!(matches!(subscription.next().await, Some(Event::Lost)) && subscription.take_lagged());
    // Nobody here leaves them.
    assert!(!topics.remove(&channels[0], 0) && topics.has(&channels[0]));
}

const GROUP: ConversationId = ConversationId([9; 16]);

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// Users who are online here, each by a topic that is confirmed.
fn online(topics: &Topics, names: &[&str]) -> Vec<Subscription> {
    let mut subscriptions = Vec::new();
    for name in names {
        let topic = Topic::User(user(name));
        let subscription = topics.add(&topic, |_| ()).subscription;
        topics.confirm(&topic);
        assert!(subscription.take_lagged(), "nobody waited");
        subscriptions.push(subscription);
    }
    subscriptions
}

fn told(subscriptions: &[Subscription]) -> Vec<bool> {
    subscriptions.iter().map(Subscription::take_lagged).collect()
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_wanted_while_a_member_is_here_and_it_is_announced() {
    let topics = Topics::with(std::iter::empty());
    let channel = Topic::Conversation(GROUP);
    let members = [user("ada"), user("bob")];
    assert!(!topics.promoted(GROUP, &members, true), "nobody is here");
    let ada = topics.add(&Topic::User(user("ada")), |_| ());
    assert_eq!(ada.channels, std::slice::from_ref(&channel), "she came");
    assert!(!topics.promoted(GROUP, &members, false) && topics.has(&channel));
    topics.remove(&Topic::User(user("ada")), ada.number);
    assert!(topics.promoted(GROUP, &members, false), "she went");
    assert!(!topics.has(&channel));
    let _bob = topics.add(&Topic::User(user("bob")), |_| ());
    assert!(topics.has(&channel));
    tokio::time::advance(REMEMBERED_FOR - Duration::from_secs(1)).await;
    assert!(topics.demote().is_empty());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(topics.demote(), [channel]);
    assert_eq!(topics.promoted_count(), 0);
}

/// I5: members are told to look where something may have been on the channel that was not heard, and only there: each look
/// of theirs is a reading of the inbox.
#[tokio::test(start_paused = true)]
async fn i5_members_here_look_for_what_their_channel_may_have_had() {
    let topics = Topics::with(std::iter::empty());
    let channel = Topic::Conversation(GROUP);
    let people = online(&topics, &["ada", "bob", "cyd"]);
    let members = [user("ada"), user("bob")];
    assert!(topics.promoted(GROUP, &members, true));
    topics.confirm(&channel);
    assert_eq!(told(&people), [false, false, false], "nothing was there yet");
    topics.broke(|topic| *topic == channel);
    assert_eq!(told(&people), [true, true, false], "it broke");
    topics.confirm(&channel);
    assert_eq!(told(&people), [true, true, false], "it is heard again");
    topics.lost(&channel);
    assert_eq!(told(&people), [true, true, false], "something could not be read");
    topics.promoted(GROUP, &[user("cyd")], false);
    assert_eq!(
        told(&people),
        [false, false, true],
        "what was there for them before is not known"
    );
    let dan = online(&topics, &["dan"]);
    topics.promoted(GROUP, &[user("dan")], true);
    assert_eq!(told(&dan), [false], "for them nothing was");
}

/// I5: a subscription that took long may have missed something, and so may one that was begun because somebody came.
#[tokio::test(start_paused = true)]
async fn i5_a_channel_that_is_confirmed_late_has_its_members_look() {
    let channel = Topic::Conversation(GROUP);
    let topics = Topics::with(std::iter::empty());
    let people = online(&topics, &["ada"]);
    topics.promoted(GROUP, &[user("ada")], true);
    tokio::time::advance(SETTLES).await;
    topics.confirm(&channel);
    assert_eq!(told(&people), [true], "late");
    let topics = Topics::with(std::iter::empty());
    topics.promoted(GROUP, &[user("ada")], true);
    let people = online(&topics, &["ada"]);
    topics.confirm(&channel);
    assert_eq!(told(&people), [true], "she came after it was announced");
    let topics = Topics::with(std::iter::empty());
    let people = online(&topics, &["ada"]);
    topics.promoted(GROUP, &[user("ada")], false);
    topics.confirm(&channel);
    assert_eq!(told(&people), [true], "others heard it before");
}

/// I5: who has just begun to hear what goes to every gateway does not know what was announced before.
#[tokio::test(start_paused = true)]
async fn i5_a_gateway_that_just_began_to_hear_has_members_look() {
    let (gateways, channel) = (Topic::Gateways(0), Topic::Conversation(GROUP));
    let topics = Topics::with(std::iter::once(gateways.clone()));
    let people = online(&topics, &["ada"]);
    let announced = || {
        topics.promoted(GROUP, &[user("ada")], true);
        topics.confirm(&channel);
    };
    topics.confirm(&gateways);
    assert_eq!(told(&people), [true]);
    announced();
    assert_eq!(told(&people), [true], "another one may have published to it already");
    tokio::time::advance(REMEMBERED_FOR).await;
    assert_eq!(topics.demote(), std::slice::from_ref(&channel));
    announced();
    assert_eq!(told(&people), [false], "it would have heard of that");
}

/// I9, I5: what is remembered is bounded; members of what is not are told to look.
#[tokio::test(start_paused = true)]
async fn i9_conversations_that_are_remembered_are_bounded() {
    let topics = Topics::with(std::iter::empty());
    let people = online(&topics, &["ada"]);
    for number in 0..REMEMBERED_MAX as u128 {
        topics.promoted(ConversationId(number.to_be_bytes()), &[user("bob")], true);
    }
    assert!(!topics.promoted(GROUP, &[user("ada")], true));
    assert_eq!(topics.promoted_count(), REMEMBERED_MAX);
    assert_eq!(told(&people), [true]);
    let crowd: Vec<UserId> = (0..=MEMBERS_MAX).map(|number| user(&format!("u{number}"))).collect();
    topics.promoted(ConversationId([0; 16]), &crowd, true);
    let map = lock(&topics.0);
    assert_eq!(map.promoted.members(ConversationId([0; 16])).count(), MEMBERS_MAX);
}
