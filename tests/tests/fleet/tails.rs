//! The last message of each of many conversations, published and lost on the way, with nobody told (F5, T11, I5).

use std::time::Duration;

use stonechat_tests::harness::{
    DELIVERY, Fleet, Ground, Observed, PATIENCE, RawSession, Role, UNHURRIED, Weather, append_outcome, delivery_lags,
    send_frame,
};

use crate::VISIBLE_WITHIN;

const CONVERSATIONS: usize = 200;
/// Messages of one stream on their way at a time: below what a session may have.
const AT_ONCE: usize = 50;

/// Sends the same to each room, and waits for the acks.
async fn send_to_all(fleet: &Fleet, session: &mut RawSession, rooms: &[String], text: &str) {
    for some in rooms.chunks(AT_ONCE) {
        let mut asked = Vec::new();
        for room in some {
            asked.push(session.ask(send_frame(room, &fleet.nodes[0].fresh_id(), text)).await);
        }
        for request in asked {
            let answer = session.answer(request, PATIENCE).await;
            assert!(matches!(append_outcome(&answer), Some(Ok(_))), "{answer:?}");
        }
    }
}

/// Waits until a stream has the text in each room.
async fn hears_in_all(session: &mut RawSession, rooms: &[String], text: &str, within: Duration) {
    let heard = |seen: &Observed| {
        let last = |room: &String| seen.texts(room).last().is_some_and(|last| last == text);
        rooms.iter().all(last)
    };
    session.until(&format!("{text:?} everywhere"), within, heard).await;
}

#[tokio::test]
async fn f5_tails_whose_pushes_are_lost_are_visible_within_15_s() {
    let ground = Ground {
        flags: UNHURRIED[2..].to_vec(),
        ..Ground::default()
    };
    // Who sends, who reads and who owns are at different nodes: all that the reader's node is told goes over Redis.
    let roles = [Role::Gateway, Role::Gateway, Role::Core];
    let Some(mut fleet) = Fleet::start_on(ground, &roles).await else {
        return;
    };
    let mut rooms = Vec::new();
    for _ in 0..CONVERSATIONS {
        rooms.push(fleet.nodes[0].group(&["alice", "bob"]).await);
    }
    let mut alice = fleet.nodes[0].open("alice", "phone").await;
    let mut bob = fleet.nodes[1].open("bob", "phone").await;
    send_to_all(&fleet, &mut alice, &rooms, "pushed").await;
    hears_in_all(&mut bob, &rooms, "pushed", VISIBLE_WITHIN).await;
    fleet.to_redis.turn(Weather::PushesLost);
    let recorder = fleet.nodes[0].recorder.clone();
    let since = recorder.now();
    send_to_all(&fleet, &mut alice, &rooms, "the tail").await;
    hears_in_all(&mut bob, &rooms, "the tail", VISIBLE_WITHIN).await;
    let (lags, lost) = (
        delivery_lags(&recorder.history(), since, "bob"),
        fleet.to_redis.pushes_lost(),
    );
    println!("F5: {lost} pushes lost; from ack to delivery {lags}");
    assert!(
        lost >= CONVERSATIONS as u64,
        "{lost} pushes were lost, of {CONVERSATIONS} conversations at least"
    );
    assert_eq!(lags.count(), CONVERSATIONS);
    assert!(lags.longest() <= VISIBLE_WITHIN, "{lags}");
    // Who sent has their own entries, too.
    hears_in_all(&mut alice, &rooms, "the tail", VISIBLE_WITHIN).await;
    fleet.nodes[0].verdict().await.assert_clean(&DELIVERY);
    fleet.assert_whole().await;
}
