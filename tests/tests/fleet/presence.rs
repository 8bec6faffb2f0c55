//! What a fleet shows of its people when Redis forgets them and when their node dies without a word (I10, C15).

use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::harness::{Fleet, Observed, PATIENCE, RawSession, Role};

/// Records of Redis are whole again by then.
const HEALS_WITHIN: Duration = Duration::from_secs(60);
/// The validity of what a dead node said last, a regular look of who watches, and some room.
const OFFLINE_WITHIN: Duration = Duration::from_secs(60 + 30 + 10);
/// Streams must be heard of at least this often.
const PING_EVERY: Duration = Duration::from_secs(10);

/// The last status that somebody was shown of a user.
fn shown(seen: &Observed, user: &str) -> Option<v1::Status> {
    let of_user = |event: &Seen| match event {
        Seen::Presence(presence) if presence.user_id == user => Some(presence.status()),
        _ => None,
    };
    seen.events.iter().rev().find_map(of_user)
}

/// Waits until a watcher is shown this, keeping both streams alive.
async fn sees(watcher: &mut RawSession, mut other: Option<&mut RawSession>, status: v1::Status, within: Duration) {
    let started = stonechat_host::monotonic();
    while !watcher
        .sees(PING_EVERY, |seen| shown(seen, "bob") == Some(status))
        .await
    {
        assert!(started.elapsed() < within, "bob is not {status:?} after {within:?}");
        watcher.ping(PATIENCE).await;
        if let Some(other) = other.as_deref_mut() {
            other.ping(PATIENCE).await;
        }
    }
    println!("{status:?} was shown after {:.1} s", started.elapsed().as_secs_f32());
}

#[tokio::test]
async fn i10_c15_presence_heals_and_a_dead_node_shows() {
    let Some(mut fleet) = Fleet::start(&[Role::Both; 2]).await else {
        return;
    };
    fleet.nodes[0].direct("alice", "bob").await;
    let mut bob = fleet.nodes[1].open("bob", "phone").await;
    let mut alice = fleet.nodes[0].open("alice", "phone").await;
    let watch = Asked::WatchPresence(v1::WatchPresence {
        user_ids: vec!["bob".to_owned()],
        replace: true,
    });
    let Seen::Watching(first) = alice.request(watch, PATIENCE).await else {
        panic!("not watching");
    };
    assert_eq!(first.presences[0].status(), v1::Status::Online);
    fleet.redis.kill();
    sees(&mut alice, Some(&mut bob), v1::Status::Offline, HEALS_WITHIN).await;
    fleet.redis.restart().await;
    sees(&mut alice, Some(&mut bob), v1::Status::Online, HEALS_WITHIN).await;
    fleet.nodes[1].server.kill().await;
    sees(&mut alice, None, v1::Status::Offline, OFFLINE_WITHIN).await;
}
