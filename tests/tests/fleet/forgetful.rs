//! A Redis that forgets everything, or comes back empty, while people send (I10, T15).

use std::time::Duration;

use stonechat_proto::v1;
use stonechat_proto::v1::client_frame::Body as Asked;
use stonechat_proto::v1::server_frame::Body as Seen;
use stonechat_tests::harness::{BURST, Crew, Fleet, Ground, PATIENCE, RawSession, Role, crewed_among};

use crate::VISIBLE_WITHIN;

/// Records of Redis are whole again by then.
const HEALS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at somebody's presence.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it forgets.
const TIMES: usize = 3;

/// Who reads, at one node, and who watches whether they are there, at the other.
struct Watch {
    reader: RawSession,
    watcher: RawSession,
}

impl Watch {
    async fn begin(fleet: &Fleet, crew: &Crew) -> Self {
        let mut watch = Self {
            reader: crew.reader(&fleet.nodes[1], "phone").await,
            watcher: fleet.nodes[0].open("other0", "phone").await,
        };
        watch.shows_online("before anything is lost").await;
        watch
    }

    /// What Redis has of the reader, asked anew.
    async fn status(&mut self) -> v1::Status {
        let anew = Asked::WatchPresence(v1::WatchPresence {
            user_ids: vec!["reader".to_owned()],
            replace: true,
        });
        match self.watcher.request(anew, PATIENCE).await {
            Seen::Watching(watching) => watching.presences[0].status(),
            other => panic!("not watching: {other:?}"),
        }
    }

    async fn shows_online(&mut self, when: &str) {
        let since = stonechat_host::monotonic();
        let mut was_away = false;
        while self.status().await != v1::Status::Online {
            was_away = true;
            assert!(since.elapsed() < HEALS_WITHIN, "{when}: offline for {HEALS_WITHIN:?}");
            self.reader.ping(PATIENCE).await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
        println!(
            "{when}: online after {:.1} s, shown as offline before: {was_away}",
            since.elapsed().as_secs_f32()
        );
    }
}

#[tokio::test]
async fn i10_redis_may_forget_and_die_under_load() {
    let nodes = [Role::Both; 2];
    let Some((mut fleet, mut crew)) = crewed_among(Ground::default(), &nodes, 1).await else {
        return;
    };
    let mut watch = Watch::begin(&fleet, &crew).await;
    for _ in 0..TIMES {
        crew.burst(&fleet).await;
        fleet.redis.forget().await;
        crew.answers().await;
    }
    assert_eq!(crew.acked(), crew.sent(), "sends are acknowledged while redis forgets");
    crew.hears_all(&fleet.nodes[1], &mut watch.reader, VISIBLE_WITHIN).await;
    watch.shows_online("after redis forgot").await;
    crew.burst(&fleet).await;
    fleet.redis.kill();
    crew.pour(BURST).await;
    fleet.redis.restart().await;
    crew.answers().await;
    assert_eq!(crew.acked(), crew.sent(), "sends are acknowledged without redis");
    crew.hears_all(&fleet.nodes[1], &mut watch.reader, VISIBLE_WITHIN).await;
    watch.shows_online("after redis came back empty").await;
    crew.judge(&mut fleet).await;
}
